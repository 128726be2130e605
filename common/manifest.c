// SPDX-License-Identifier: Apache-2.0
//
// Manifests in sha256sum's format.
#include "common/manifest.h"

#include <ctype.h>
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

// Split one line in place. False when it is malformed.
static bool parse_line(char *line, char **sha256, char **name)
{
    const bool is_escaped = *line == '\\';
    *sha256 = line + is_escaped;
    if (strlen(*sha256) < 67) return false;
    char *gap = *sha256 + 64;
    if (gap[0] != ' ' || (gap[1] != ' ' && gap[1] != '*')) return false;
    *name = gap + 2;
    *gap = '\0';
    return oct_is_sha256_hex(*sha256) && (!is_escaped || unescape(*name));
}

oct_status oct_manifest_find(const char *path, const char *name, char sha256[OCT_SHA256_HEX],
                             oct_err *err)
{
    oct_arena arena = {0};
    char *text = NULL, *rest = NULL;
    size_t bytes = 0, number = 0;
    sha256[0] = '\0';
    oct_status st = oct_file_read_text(&arena, path, MANIFEST_BYTES_MAX, &text, &bytes, err);
    if (!st && strlen(text) != bytes) st = oct_fail(err, OCT_EFORMAT, "'%s': NUL byte", path);
    for (char *line = st ? NULL : text; line && *line && !st; line = rest) {
        rest = strchr(line, '\n');
        if (rest) *rest++ = '\0';
        number++;
        char *digest, *entry;
        if (!parse_line(line, &digest, &entry)) {
            st = oct_fail(err, OCT_EFORMAT, "'%s' line %zu: not '<sha256>  <name>'", path, number);
        } else if (!strcmp(oct_path_name(entry), name)) {
            for (char *c = digest; *c; c++) *c = (char)tolower((unsigned char)*c);
            if (sha256[0] && strcmp(sha256, digest)) {
                st = oct_fail(err, OCT_EFORMAT, "'%s' line %zu: a second digest for '%s'", path,
                              number, name);
            }
            strcpy(sha256, digest);
        }
    }
    if (!st && !sha256[0])
        st = oct_fail(err, OCT_EFORMAT, "'%s' has no entry for '%s'", path, name);
    oct_arena_deinit(&arena);
    return st;
}
