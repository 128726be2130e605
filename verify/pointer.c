// SPDX-License-Identifier: Apache-2.0
//
// Expected digests as hosts publish them.
#include "verify/pointer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/manifest.h"

#define POINTER_BYTES_MAX 1024  // the specification's own limit
#define VERSION_LINE "version https://git-lfs.github.com/spec/v1\n"

static bool take_hex(oct_expected *expected, const char *text, size_t length)
{
    if (length != OCT_SHA256_HEX - 1) return false;
    for (size_t i = 0; i < length; i++) {
        if (!isxdigit((unsigned char)text[i])) return false;
        expected->sha256[i] = (char)tolower((unsigned char)text[i]);
    }
    expected->sha256[length] = '\0';
    return true;
}

bool oct_digest_text_parse(oct_expected *expected, const char *text)
{
    size_t length = strlen(text);
    *expected = (oct_expected){0};
    if (!strncmp(text, "W/\"", 3)) {
        text += 2;
        length -= 2;
    }
    if (length >= 2 && text[0] == '"' && text[length - 1] == '"') {
        text++;
        length -= 2;
    }
    if (!strncmp(text, "sha256:", 7)) {
        text += 7;
        length -= 7;
    }
    return take_hex(expected, text, length);
}

bool oct_is_lfs_pointer(const char *text)
{
    return !strncmp(text, VERSION_LINE, strlen(VERSION_LINE));
}

// Decimal digits to the end of the line, no leading zero but in "0".
static bool take_size(oct_expected *expected, const char *text, size_t length)
{
    if (length == 0 || length > 19 || (length > 1 && text[0] == '0')) return false;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i])) return false;
        expected->bytes = expected->bytes * 10 + (uint64_t)(text[i] - '0');
    }
    expected->has_bytes = true;
    return true;
}

static bool take_line(oct_expected *expected, const char *line, size_t length)
{
    static const char oid[] = "oid sha256:", size[] = "size ";
    if (!strncmp(line, oid, strlen(oid))) {
        return !expected->sha256[0] && take_hex(expected, line + strlen(oid), length - strlen(oid));
    }
    if (!strncmp(line, size, strlen(size))) {
        return !expected->has_bytes &&
               take_size(expected, line + strlen(size), length - strlen(size));
    }
    return !strncmp(line, "ext-", 4);
}

oct_status oct_lfs_pointer_parse(oct_expected *expected, const char *text, oct_err *err)
{
    *expected = (oct_expected){0};
    if (!oct_is_lfs_pointer(text)) {
        return oct_fail(err, OCT_EFORMAT, "does not begin as a git-LFS pointer");
    }
    const char *last = "";
    size_t number = 2;
    for (const char *line = text + strlen(VERSION_LINE); *line; number++) {
        const char *end = strchr(line, '\n');
        if (!end || strcmp(last, line) > 0 || !take_line(expected, line, (size_t)(end - line))) {
            return oct_fail(err, OCT_EFORMAT, "line %zu of the git-LFS pointer is malformed",
                            number);
        }
        last = line;
        line = end + 1;
    }
    if (expected->sha256[0] && expected->has_bytes) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "the git-LFS pointer has no %s",
                    expected->sha256[0] ? "size" : "sha256");
}

oct_status oct_lfs_pointer_load(oct_expected *expected, const char *path, oct_err *err)
{
    oct_arena arena = {0};
    char *text = NULL;
    size_t bytes = 0;
    oct_status st = oct_file_read_text(&arena, path, POINTER_BYTES_MAX, &text, &bytes, err);
    if (!st) {
        st = strlen(text) == bytes ? oct_lfs_pointer_parse(expected, text, err)
                                   : oct_fail(err, OCT_EFORMAT, "NUL byte");
        if (st) oct_wrap(err, st, "'%s'", path);
    }
    oct_arena_deinit(&arena);
    return st;
}
