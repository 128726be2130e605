// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/manifest.c. `sha256sum -c` itself reads our lines in tests/cli.
#include "common/manifest.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/test.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
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
    CHECK(find("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA *model",
               "model") == OCT_OK);
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

static void tagged_lines_and_comments_are_read(void)
{
    CHECK(find("# made by hand\nSHA256 (model) = " A64 "\n", "model") == OCT_OK);
    CHECK_TEXT(hex, A64);
    CHECK(find("\\SHA256 (a\\nb) = x) = " A64 "\n", "a\nb) = x") == OCT_OK);
}

static void malformed_lines_are_named_by_number(void)
{
    static const char *const bad[] = {
        A64 " model\n",
        "a" A64 "  model\n",
        A64 "\n",
        "g" A64 "  model\n",
        "text\n",
        "\\" A64 "  a\\x\n",
        "\n" A64 "  model\n",
        &A64 "  model\n"[1],
        "SHA256 (model) = a" A64 "\n",
        "SHA1 (m) = " A64 "\n",
        A64 "\tmodel\n",
        "SHA256 () = " A64 "\n",
        "A" A63 "  model\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(find(bad[i], "model") == OCT_EFORMAT);
        CHECK(strstr(err.text, "line 1: not '<sha256>  <name>'"));
    }
}

static void names_outside_the_folder_are_refused(void)
{
    static const char *const bad[] = {"/etc/model", "../model", "a/../../model", "a/..", ".."};
    char text[100];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, A64 "  %s\n", bad[i]);
        CHECK(find(text, "model") == OCT_EFORMAT);
        CHECK(strstr(err.text, "is outside the list's folder"));
    }
    CHECK(find(A64 "  a..b/..model\n", "..model") == OCT_OK);
}

static void a_list_that_names_itself_is_refused(void)
{
    char text[200];
    snprintf(text, sizeof text, A64 "  ./%s\n", strrchr(path, '/') + 1);
    CHECK(find(text, "model") == OCT_EFORMAT);
    CHECK(strstr(err.text, "line 1: the list names itself"));
}

static void a_missing_entry_and_two_digests_are_errors(void)
{
    CHECK(find(A64 "  other\n", "model") == OCT_EFORMAT);
    CHECK(strstr(err.text, "has no entry for 'model'"));
    CHECK(find("", "model") == OCT_EFORMAT);
    CHECK(strstr(err.text, "names no file"));
    CHECK(find(A64 "  model\n" B64 "  model\n", "model") == OCT_EFORMAT);
    CHECK(strstr(err.text, "has a second digest for 'model'"));
    CHECK(find(A64 "  a/model\n" B64 "  b/model\n", "model") == OCT_EFORMAT);
    CHECK(strstr(err.text, "has several digests for 'model'"));
    CHECK(find(A64 "  model\n" A64 "  model\n", "model") == OCT_OK);
}

static void names_that_differ_in_case_are_different(void)
{
    CHECK(find(A64 "  Model\n" B64 "  model\n", "model") == OCT_OK);
    CHECK_TEXT(hex, B64);
}

static void entries_come_in_order_with_paths_in_the_folder(void)
{
    oct_manifest manifest = {0};
    CHECK(find(A64 "  z\n" B64 " *a/b\n" A64 "  z\n", "z") == OCT_OK);
    CHECK(oct_manifest_load(&manifest, path, &err) == OCT_OK);
    CHECK(manifest.n_entries == 2);
    CHECK_TEXT(manifest.entries[0].name, "a/b");
    CHECK_TEXT(manifest.entries[0].path, "/tmp/a/b");
    CHECK_TEXT(manifest.entries[1].name, "z");
    oct_manifest_deinit(&manifest);
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
    RUN(tagged_lines_and_comments_are_read);
    RUN(malformed_lines_are_named_by_number);
    RUN(names_outside_the_folder_are_refused);
    RUN(a_list_that_names_itself_is_refused);
    RUN(a_missing_entry_and_two_digests_are_errors);
    RUN(names_that_differ_in_case_are_different);
    RUN(entries_come_in_order_with_paths_in_the_folder);
    unlink(path);
    return test_end();
}
