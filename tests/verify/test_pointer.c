// SPDX-License-Identifier: Apache-2.0
//
// Expected digests as hosts publish them.
#include "verify/pointer.h"

#include "tests/test.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define UPPER "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define VERSION "version https://git-lfs.github.com/spec/v1\n"

static oct_expected expected;
static oct_err err;

static void digests_are_read_in_every_published_form(void)
{
    static const char *const good[] = {
        A64, UPPER, "sha256:" A64, "\"" A64 "\"", "W/\"" A64 "\"", "\"sha256:" A64 "\"",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(oct_digest_text_parse(&expected, good[i]));
        CHECK_TEXT(expected.sha256, A64);
        CHECK(!expected.has_bytes);
    }
}

static void other_texts_are_no_digests(void)
{
    static const char *const bad[] = {
        "",
        "\"",
        "\"\"",
        "W/",
        "sha256:",
        "a" A64,
        &A64[1],
        "sha512:" A64,
        A64 " ",
        " " A64,
        "\"" A64,
        "g"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "../../../../../etc/passwd",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!oct_digest_text_parse(&expected, bad[i]));
    }
}

static void a_pointer_gives_digest_and_size(void)
{
    CHECK(oct_lfs_pointer_parse(&expected, VERSION "oid sha256:" A64 "\nsize 12345\n", &err) ==
          OCT_OK);
    CHECK_TEXT(expected.sha256, A64);
    CHECK(expected.has_bytes && expected.bytes == 12345);
    CHECK(oct_lfs_pointer_parse(&expected,
                                VERSION "ext-0-foo sha256:" A64 "\noid sha256:" A64 "\nsize 0\n",
                                &err) == OCT_OK);
    CHECK(expected.bytes == 0);
}

static void malformed_pointers_are_refused(void)
{
    static const char *const bad[] = {
        "",
        "version https://git-lfs.github.com/spec/v2\noid sha256:" A64 "\nsize 1\n",
        VERSION,
        VERSION "oid sha256:" A64 "\n",
        VERSION "size 1\n",
        VERSION "oid sha256:" A64 "\nsize 1",    // no end of line
        VERSION "size 1\noid sha256:" A64 "\n",  // not sorted
        VERSION "oid sha256:" A64 "a\nsize 1\n",
        VERSION "oid sha512:" A64 "\nsize 1\n",
        VERSION "oid sha256:" A64 "\nsize -1\n",
        VERSION "oid sha256:" A64 "\nsize 01\n",
        VERSION "oid sha256:" A64 "\nsize 1 \n",
        VERSION "oid sha256:" A64 "\nsize \n",
        VERSION "oid sha256:" A64 "\nsize 99999999999999999999\n",
        VERSION "oid sha256:" A64 "\noid sha256:" A64 "\nsize 1\n",
        VERSION "oid sha256:" A64 "\nsize 1\nsize 2\n",
        VERSION "oid sha256:" A64 "\r\nsize 1\r\n",
        VERSION "oid sha256:" A64 "\nother x\nsize 1\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err.text[0] = '\0';
        CHECK(oct_lfs_pointer_parse(&expected, bad[i], &err) == OCT_EFORMAT);
        CHECK(strstr(err.text, "pointer"));
    }
}

int main(void)
{
    RUN(digests_are_read_in_every_published_form);
    RUN(other_texts_are_no_digests);
    RUN(a_pointer_gives_digest_and_size);
    RUN(malformed_pointers_are_refused);
    return test_end();
}
