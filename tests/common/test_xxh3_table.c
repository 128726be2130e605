// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/xxh3_table.c.
#include "common/xxh3_table.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/test.h"

#define FIRST "octavo-xxh3 1\n"
#define A32 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEADER A32 "  __metadata__\n"

static char path[64];
static oct_err err;
static oct_xxh3_table table;

static oct_status read_text(const char *text, size_t bytes)
{
    CHECK(oct_file_write(path, text, bytes, NULL) == OCT_OK);
    err.text[0] = '\0';
    const oct_status st = oct_xxh3_table_read(&table, path, &err);
    CHECK(!st || (table.entries == NULL && table.n_entries == 0));
    return st;
}

static bool is_refused(const char *text, const char *sentence)
{
    const oct_status st = read_text(text, strlen(text));
    if (!strstr(err.text, sentence)) printf("# %s\n", err.text);
    oct_xxh3_table_deinit(&table);
    return st == OCT_EFORMAT && strstr(err.text, sentence);
}

static void what_is_printed_is_read_back(void)
{
    const oct_xxh3_entry entries[] = {
        {OCT_XXH3_HEADER, {.low = 1, .high = 0xfedcba9876543210}},
        {"b", {.low = UINT64_MAX, .high = 0}},
        {" a name  with gaps ", {.low = 7, .high = 9}},
    };
    oct_arena arena = {0};
    const char *text = oct_xxh3_table_print(&arena, entries, 3);
    CHECK(strncmp(text, FIRST "fedcba98765432100000000000000001  __metadata__\n", 61) == 0);
    CHECK(read_text(text, strlen(text)) == OCT_OK);
    CHECK(table.n_entries == 3);
    for (size_t i = 0; i < table.n_entries; i++) {
        CHECK_TEXT(table.entries[i].name, entries[i].name);
        CHECK(table.entries[i].digest.low == entries[i].digest.low);
        CHECK(table.entries[i].digest.high == entries[i].digest.high);
    }
    CHECK(oct_xxh3_table_find(&table, "b") == &table.entries[1]);
    CHECK(!oct_xxh3_table_find(&table, "a"));
    oct_xxh3_table_deinit(&table);
    oct_arena_deinit(&arena);
}

static void malformed_tables_are_refused(void)
{
    CHECK(is_refused("", "the first line is not 'octavo-xxh3 1'"));
    CHECK(is_refused("octavo-xxh3 2\n" HEADER, "the first line is not 'octavo-xxh3 1'"));
    CHECK(is_refused(FIRST, "line 2 is not that of '__metadata__'"));
    CHECK(is_refused(FIRST A32 "  a\n", "line 2 is not that of '__metadata__'"));
    CHECK(is_refused(FIRST HEADER A32 "  a", "line 3 has no end"));
    CHECK(is_refused(FIRST HEADER "\n", "line 3: not '<xxh3>  <name>'"));
    CHECK(is_refused(FIRST HEADER A32 "  \n", "line 3: not '<xxh3>  <name>'"));
    CHECK(is_refused(FIRST HEADER A32 " *a\n", "line 3: not '<xxh3>  <name>'"));
    CHECK(is_refused(FIRST HEADER "Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  a\n", "line 3: not"));
    CHECK(is_refused(FIRST HEADER A32 "  a\n" A32 "  b\n" A32 "  a\n", "'a' is there twice"));
    CHECK(read_text(FIRST HEADER "\0", sizeof(FIRST HEADER)) == OCT_EFORMAT);
    CHECK(strstr(err.text, "NUL byte"));
}

static void a_missing_table_is_an_io_error(void)
{
    unlink(path);
    CHECK(oct_xxh3_table_read(&table, path, &err) == OCT_EIO);
    CHECK(strstr(err.text, "does not exist"));
}

static void a_range_of_a_file_has_the_digest_of_its_data(void)
{
    const size_t bytes = 2500001;
    char *data = malloc(bytes), *chunk = malloc(OCT_DIGEST_CHUNK);
    for (size_t i = 0; i < bytes; i++) data[i] = (char)(i * 31 >> 3);
    CHECK(oct_file_write(path, data, bytes, NULL) == OCT_OK);
    oct_file file = {0};
    oct_xxh128 got, want = oct_digest_of_data(data + 77, bytes - 100);
    CHECK(oct_file_open(&file, path, NULL) == OCT_OK);
    CHECK(oct_digest_of_range(&file, 77, bytes - 100, chunk, &got, NULL) == OCT_OK);
    CHECK(got.low == want.low && got.high == want.high);
    CHECK(oct_digest_of_range(&file, 77, bytes, chunk, &got, &err) == OCT_EFORMAT);
    oct_file_close(&file);
    free(chunk);
    free(data);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/octavo-xxh3-%ld", (long)getpid());
    RUN(what_is_printed_is_read_back);
    RUN(malformed_tables_are_refused);
    RUN(a_missing_table_is_an_io_error);
    RUN(a_range_of_a_file_has_the_digest_of_its_data);
    unlink(path);
    return test_end();
}
