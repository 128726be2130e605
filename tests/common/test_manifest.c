// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/manifest.c. `sha256sum -c` itself reads our lines in tests/cli.
#include "common/manifest.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/test.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char path[64];
static oct_err err;
static char hex[OCT_SHA256_HEX];

static oct_status find(const char *text, const char *name)
{
    FILE *file = fopen(path, "wb");
    if (!file) return OCT_EIO;
    fputs(text, file);
    fclose(file);
    err.text[0] = '\0';
    return oct_manifest_find(path, name, hex, &err);
}

static void a_name_is_found_whatever_folder_precedes_it(void)
{
    CHECK(find(B64 "  other\n" A64 "  some/folder/model\n", "model") == OCT_OK);
    CHECK_TEXT(hex, A64);
}

static void binary_mode_and_upper_case_digits_are_read(void)
{
    CHECK(find("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA *model", "model") ==
          OCT_OK);
    CHECK_TEXT(hex, A64);
}

static void escaped_names_come_back_as_they_were(void)
{
    oct_arena arena = {0};
    const char *line = oct_manifest_line(&arena, A64, "a\nb\\c");
    CHECK_TEXT(line, "\\" A64 "  a\\nb\\\\c\n");
    CHECK(find(line, "a\nb\\c") == OCT_OK);
    oct_arena_deinit(&arena);
}

static void malformed_lines_are_named_by_number(void)
{
    static const char *const bad[] = {
        A64 " model\n",   "a" A64 "  model\n", A64 "\n", "g" A64 "  model\n", "text\n",
        "\\" A64 "  a\\x\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(find(bad[i], "model") == OCT_EFORMAT);
        CHECK(strstr(err.text, "line 1: not '<sha256>  <name>'"));
    }
}

static void a_missing_entry_and_two_digests_are_errors(void)
{
    CHECK(find(A64 "  other\n", "model") == OCT_EFORMAT);
    CHECK(strstr(err.text, "has no entry for 'model'"));
    CHECK(find(A64 "  model\n" B64 "  model\n", "model") == OCT_EFORMAT);
    CHECK(strstr(err.text, "line 2: a second digest for 'model'"));
    CHECK(find(A64 "  model\n" A64 "  model\n", "model") == OCT_OK);
}

int main(void)
{
    strcpy(path, "/tmp/octavo-manifest-XXXXXX");
    const int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    RUN(a_name_is_found_whatever_folder_precedes_it);
    RUN(binary_mode_and_upper_case_digits_are_read);
    RUN(escaped_names_come_back_as_they_were);
    RUN(malformed_lines_are_named_by_number);
    RUN(a_missing_entry_and_two_digests_are_errors);
    unlink(path);
    return test_end();
}
