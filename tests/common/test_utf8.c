// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/utf8.h.
#include "common/utf8.h"

#include "tests/test.h"

static void every_code_point_survives_both_ways(void)
{
    size_t wrong = 0;

    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        char text[4];
        uint32_t back = 0;
        if (code == 0xd800) code = 0xe000;
        const size_t length = oct_utf8_encode(code, text);
        wrong += oct_utf8_decode(text, length, &back) != length || back != code;
        wrong += oct_utf8_decode(text, length - 1, &back) != 0;
    }
    CHECK(wrong == 0);
}

static void what_rfc_3629_forbids_is_invalid(void)
{
    static const char *const invalid[] = {
        "\x80",
        "\xbf",
        "\xc0\xaf",
        "\xc1\xbf",
        "\xc3",
        "\xc3(",
        "\xe0\x80\xaf",
        "\xe0\x9f\xbf",
        "\xe2\x82",
        "\xe2(\xa1",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xf8\x88\x80\x80\x80",
        "\xff",
    };

    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        CHECK(!oct_utf8_is_valid(invalid[i], strlen(invalid[i])));
        uint32_t code = 0;
        CHECK(oct_utf8_decode(invalid[i], strlen(invalid[i]), &code) == 0);
    }
    CHECK(oct_utf8_is_valid("", 0));
    CHECK(oct_utf8_is_valid("a\0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 11));
}

int main(void)
{
    RUN(every_code_point_survives_both_ways);
    RUN(what_rfc_3629_forbids_is_invalid);
    return test_end();
}
