// SPDX-License-Identifier: Apache-2.0
//
// Tables of XXH3-128 digests.
#include "common/xxh3_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char first_line[] = "octavo-xxh3 1";

#define DIGITS 32
#define TABLE_BYTES_MAX (OCT_ST_HEADER_MAX + OCT_ST_TENSORS_MAX * (uint64_t)(DIGITS + 3))

const char *oct_xxh3_table_print(oct_arena *arena, const oct_xxh3_entry *entries, size_t n_entries)
{
    char *text = NULL;
    size_t bytes = 0;

    FILE *out = open_memstream(&text, &bytes);
    if (!out) abort();
    fprintf(out, "%s\n", first_line);
    for (size_t i = 0; i < n_entries; i++) {
        char hex[OCT_XXH128_HEX];
        oct_xxh128_hex(entries[i].digest, hex);
        fprintf(out, "%s  %s\n", hex, entries[i].name);
    }
    if (fclose(out)) abort();  // only memory can fail here
    const char *copy = oct_arena_copy_n(arena, text, bytes);
    free(text);
    return copy;
}

static bool parse_half(const char *hex, uint64_t *half)
{
    *half = 0;
    for (int i = 0; i < DIGITS / 2; i++) {
        const char c = hex[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
        *half = *half << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

// Split one line in place. False when it is malformed.
static bool parse_line(const char *line, oct_xxh3_entry *entry)
{
    if (strlen(line) <= DIGITS + 2 || line[DIGITS] != ' ' || line[DIGITS + 1] != ' ') return false;
    entry->name = line + DIGITS + 2;
    return parse_half(line, &entry->digest.high) &&
           parse_half(line + DIGITS / 2, &entry->digest.low);
}

static oct_status parse_entries(oct_xxh3_table *table, char *text, oct_err *err)
{
    size_t capacity = 0;

    for (char *line = text, *end; *line; line = end + 1) {
        const size_t number = table->n_entries + 2;
        end = strchr(line, '\n');
        if (!end) return oct_fail(err, OCT_EFORMAT, "line %zu has no end", number);
        *end = '\0';
        table->entries = oct_arena_grow(&table->arena, table->entries, table->n_entries, &capacity,
                                        sizeof *table->entries);
        if (!parse_line(line, &table->entries[table->n_entries++])) {
            return oct_fail(err, OCT_EFORMAT, "line %zu: not '<xxh3>  <name>'", number);
        }
    }
    if (table->n_entries == 0 || strcmp(table->entries[0].name, OCT_XXH3_HEADER) != 0) {
        return oct_fail(err, OCT_EFORMAT, "line 2 is not that of '" OCT_XXH3_HEADER "'");
    }
    return OCT_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static oct_status check_twice(const oct_xxh3_table *table, oct_err *err)
{
    oct_arena scratch = {0};
    oct_status st = OCT_OK;

    const char **names = oct_arena_array(&scratch, table->n_entries, sizeof *names);
    for (size_t i = 0; i < table->n_entries; i++) names[i] = table->entries[i].name;
    qsort(names, table->n_entries, sizeof *names, compare_names);
    for (size_t i = 1; i < table->n_entries && !st; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            st = oct_fail(err, OCT_EFORMAT, "'%s' is there twice", names[i]);
        }
    }
    oct_arena_deinit(&scratch);
    return st;
}

static oct_status parse(oct_xxh3_table *table, char *text, size_t bytes, oct_err *err)
{
    const size_t skipped = sizeof first_line;  // with its newline in place of the NUL

    if (strlen(text) != bytes) return oct_fail(err, OCT_EFORMAT, "NUL byte");
    if (bytes < skipped || memcmp(text, first_line, skipped - 1) != 0 ||
        text[skipped - 1] != '\n') {
        return oct_fail(err, OCT_EFORMAT, "the first line is not '%s'", first_line);
    }
    const oct_status st = parse_entries(table, text + skipped, err);
    return st ? st : check_twice(table, err);
}

oct_status oct_xxh3_table_read(oct_xxh3_table *table, const char *path, oct_err *err)
{
    char *text = NULL;
    size_t bytes = 0;

    *table = (oct_xxh3_table){0};
    oct_status st = oct_file_read_text(&table->arena, path, TABLE_BYTES_MAX, &text, &bytes, err);
    if (!st) {
        st = parse(table, text, bytes, err);
        if (st) oct_wrap(err, st, "'%s'", path);
    }
    if (st) oct_xxh3_table_deinit(table);
    return st;
}

void oct_xxh3_table_deinit(oct_xxh3_table *table)
{
    oct_arena_deinit(&table->arena);
    *table = (oct_xxh3_table){0};
}

const oct_xxh3_entry *oct_xxh3_table_find(const oct_xxh3_table *table, const char *name)
{
    for (size_t i = 0; i < table->n_entries; i++) {
        if (strcmp(table->entries[i].name, name) == 0) return &table->entries[i];
    }
    return NULL;
}
