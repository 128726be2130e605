// SPDX-License-Identifier: Apache-2.0
//
// Manifests in sha256sum's format.
#include "common/manifest.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"

#define MANIFEST_BYTES_MAX (16u << 20)

bool oct_is_sha256_hex(const char *text)
{
    size_t n = 0;
    while (isxdigit((unsigned char)text[n])) n++;
    return n == 64 && text[n] == '\0';
}

const char *oct_manifest_line(oct_arena *arena, const char *sha256, const char *name)
{
    if (!strpbrk(name, "\\\n\r")) return oct_arena_print(arena, "%s  %s\n", sha256, name);

    char *escaped = oct_arena_alloc(arena, 2 * strlen(name) + 1);
    char *to = escaped;
    for (const char *from = name; *from; from++) {
        const char *special = strchr("\\\n\r", *from);
        if (special) *to++ = '\\';
        *to++ = !special ? *from : *from == '\n' ? 'n' : *from == '\r' ? 'r' : '\\';
    }
    return oct_arena_print(arena, "\\%s  %s\n", sha256, escaped);
}

static bool unescape(char *name)
{
    char *to = name;
    for (const char *from = name; *from; from++) {
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        from++;
        if (*from != '\\' && *from != 'n' && *from != 'r') return false;
        *to++ = *from == 'n' ? '\n' : *from == 'r' ? '\r' : '\\';
    }
    *to = '\0';
    return true;
}

// A digest of one case and its length, else false; made lower case.
static bool take_digest(char *to, const char *from)
{
    bool has_lower = false, has_upper = false;
    for (size_t i = 0; i < 64; i++) {
        if (!isxdigit((unsigned char)from[i])) return false;
        has_lower |= islower((unsigned char)from[i]) != 0;
        has_upper |= isupper((unsigned char)from[i]) != 0;
        to[i] = (char)tolower((unsigned char)from[i]);
    }
    to[64] = '\0';
    return !(has_lower && has_upper);
}

// "SHA256 (name) = digest": a name may hold anything, so the digest is found from the end.
static bool parse_tagged(char *line, oct_manifest_entry *entry)
{
    static const char open[] = "SHA256 (", close[] = ") = ";
    const size_t length = strlen(line);
    if (strncmp(line, open, strlen(open)) || length < strlen(open) + 1 + strlen(close) + 64) {
        return false;
    }
    char *gap = line + length - 64 - strlen(close);
    if (strncmp(gap, close, strlen(close)) || !take_digest(entry->sha256, gap + strlen(close))) {
        return false;
    }
    *gap = '\0';
    entry->name = line + strlen(open);
    return true;
}

static bool parse_plain(char *line, oct_manifest_entry *entry)
{
    if (strlen(line) < 67 || !take_digest(entry->sha256, line)) return false;
    if (line[64] != ' ' || (line[65] != ' ' && line[65] != '*')) return false;
    entry->name = line + 66;
    return true;
}

// Split one line in place. False when it is malformed.
static bool parse_line(char *line, oct_manifest_entry *entry)
{
    const bool is_escaped = *line == '\\';
    line += is_escaped;
    if (!parse_tagged(line, entry) && !parse_plain(line, entry)) return false;
    return !is_escaped || unescape((char *)entry->name);
}

static bool leaves_folder(const char *name)
{
    if (*name == '/') return true;
    for (const char *part = name; part; part = strchr(part, '/')) {
        if (*part == '/') part++;
        if (!strncmp(part, "..", 2) && (part[2] == '/' || part[2] == '\0')) return true;
    }
    return false;
}

static oct_status add_entry(oct_manifest *manifest, const char *path, size_t line,
                            oct_manifest_entry entry, oct_err *err)
{
    const char *slash = strrchr(path, '/');
    if (leaves_folder(entry.name)) {
        return oct_fail(err, OCT_EFORMAT, "'%s' line %zu: '%s' is outside the list's folder", path,
                        line, entry.name);
    }
    entry.path =
        slash ? oct_arena_print(&manifest->arena, "%.*s/%s", (int)(slash - path), path, entry.name)
              : entry.name;
    if (oct_path_is_same_file(entry.path, path)) {
        return oct_fail(err, OCT_EFORMAT, "'%s' line %zu: the list names itself", path, line);
    }
    manifest->entries = oct_arena_grow(&manifest->arena, manifest->entries, manifest->n_entries,
                                       &manifest->capacity, sizeof *manifest->entries);
    manifest->entries[manifest->n_entries++] = entry;
    return OCT_OK;
}

static int compare_names(const void *left, const void *right)
{
    const oct_manifest_entry *const *a = left, *const *b = right;
    const int order = strcmp((*a)->name, (*b)->name);
    if (order) return order;
    return *a < *b ? -1 : *a > *b;
}

// The same entry twice is one; with two digests it is a contradiction.
static oct_status merge_repeated(oct_manifest *manifest, const char *path, oct_err *err)
{
    const size_t n = manifest->n_entries;
    oct_manifest_entry **sorted = oct_arena_array(&manifest->arena, n, sizeof *sorted);
    for (size_t i = 0; i < n; i++) sorted[i] = &manifest->entries[i];
    qsort(sorted, n, sizeof *sorted, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name)) continue;
        if (strcmp(sorted[i - 1]->sha256, sorted[i]->sha256)) {
            return oct_fail(err, OCT_EFORMAT, "'%s' has a second digest for '%s'", path,
                            sorted[i]->name);
        }
        sorted[i - 1]->path = NULL;  // the later one stays
    }
    manifest->n_entries = 0;
    for (size_t i = 0; i < n; i++) {
        if (!manifest->entries[i].path) continue;
        manifest->entries[manifest->n_entries++] = manifest->entries[i];
    }
    return OCT_OK;
}

oct_status oct_manifest_load(oct_manifest *manifest, const char *path, oct_err *err)
{
    char *text = NULL, *rest = NULL;
    size_t bytes = 0, number = 0;
    *manifest = (oct_manifest){0};
    oct_status st =
        oct_file_read_text(&manifest->arena, path, MANIFEST_BYTES_MAX, &text, &bytes, err);
    if (!st && strlen(text) != bytes) st = oct_fail(err, OCT_EFORMAT, "'%s': NUL byte", path);
    for (char *line = st ? NULL : text; line && *line && !st; line = rest) {
        oct_manifest_entry entry = {0};
        rest = strchr(line, '\n');
        if (rest) *rest++ = '\0';
        number++;
        if (*line == '#') continue;
        if (!parse_line(line, &entry)) {
            st = oct_fail(err, OCT_EFORMAT, "'%s' line %zu: not '<sha256>  <name>'", path, number);
        } else {
            st = add_entry(manifest, path, number, entry, err);
        }
    }
    if (!st) st = merge_repeated(manifest, path, err);
    if (!st && !manifest->n_entries) st = oct_fail(err, OCT_EFORMAT, "'%s' names no file", path);
    if (st) oct_manifest_deinit(manifest);
    return st;
}

void oct_manifest_deinit(oct_manifest *manifest)
{
    oct_arena_deinit(&manifest->arena);
    *manifest = (oct_manifest){0};
}

oct_status oct_manifest_find(const char *path, const char *file, char sha256[OCT_SHA256_HEX],
                             oct_err *err)
{
    const char *name = oct_path_name(file);
    oct_manifest manifest = {0};
    sha256[0] = '\0';
    oct_status st = oct_manifest_load(&manifest, path, err);
    for (size_t i = 0; i < manifest.n_entries && !sha256[0]; i++) {
        if (oct_path_is_same_file(manifest.entries[i].path, file)) {
            strcpy(sha256, manifest.entries[i].sha256);
        }
    }
    const bool is_found = sha256[0];
    for (size_t i = 0; i < manifest.n_entries && !is_found && !st; i++) {
        const oct_manifest_entry *entry = &manifest.entries[i];
        if (strcmp(oct_path_name(entry->name), name)) continue;
        if (sha256[0] && strcmp(sha256, entry->sha256)) {
            st = oct_fail(err, OCT_EFORMAT, "'%s' has several digests for '%s'", path, name);
        }
        strcpy(sha256, entry->sha256);
    }
    if (!st && !sha256[0])
        st = oct_fail(err, OCT_EFORMAT, "'%s' has no entry for '%s'", path, name);
    oct_manifest_deinit(&manifest);
    return st;
}
