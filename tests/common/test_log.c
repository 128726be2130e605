// SPDX-License-Identifier: Apache-2.0
//
// What reaches stderr, and what text does to a terminal: nothing.
#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/test.h"

static char shown[200];

static const char *printable(const char *text)
{
    return oct_printable(text, shown, sizeof shown);
}

static void ordinary_text_stays_as_it_is(void)
{
    CHECK_TEXT(printable("blocks.0.x_block 'q' %s \\"), "blocks.0.x_block 'q' %s \\");
    CHECK_TEXT(printable("Füße 折 😀"), "Füße 折 😀");
    CHECK_TEXT(printable(""), "");
}

static void control_characters_are_escaped(void)
{
    CHECK_TEXT(printable("a\x1b[31mb\n\t\x7f"), "a\\x1b[31mb\\x0a\\x09\\x7f");
    CHECK_TEXT(printable("\xc2\x9b"), "\\u{009B}");
}

static void changes_of_direction_are_escaped(void)
{
    CHECK_TEXT(printable("a\u202eb"), "a\\u{202E}b");
    CHECK_TEXT(printable("\u2066\u2069\u200f\u061c\u2028"),
               "\\u{2066}\\u{2069}\\u{200F}\\u{061C}\\u{2028}");
    CHECK_TEXT(printable("\u2027\u202f\u2065\u206a"), "\u2027\u202f\u2065\u206a");
}

static void invalid_utf8_is_escaped_byte_by_byte(void)
{
    CHECK_TEXT(printable("\x80"), "\\x80");
    CHECK_TEXT(printable("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
    CHECK_TEXT(printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");           // overlong
    CHECK_TEXT(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
    CHECK_TEXT(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
    CHECK_TEXT(printable("\xf8\x88\x80\x80\x80"), "\\xf8\\x88\\x80\\x80\\x80");
    CHECK_TEXT(printable("\xe6\x8a"), "\\xe6\\x8a");  // cut at the end
    CHECK_TEXT(printable("\xe6\x8aZ"), "\\xe6\\x8aZ");
}

static void long_text_is_cut_between_characters(void)
{
    char out[10];
    CHECK_TEXT(oct_printable("123456789", out, sizeof out), "123456789");
    CHECK_TEXT(oct_printable("1234567890", out, sizeof out), "123456...");
    CHECK_TEXT(oct_printable("12345\n", out, sizeof out), "12345\\x0a");
    CHECK_TEXT(oct_printable("1234\n67890", out, sizeof out), "1234...");
    CHECK_TEXT(oct_printable("1234折890", out, sizeof out), "1234...");
    CHECK_TEXT(oct_printable("\n\n\n", out, 4), "...");
    CHECK_TEXT(oct_printable("\n\n\n", out, 5), "...");
}

static void say_everything(void)
{
    oct_note("note %d", 1);
    oct_verbose("verbose %d", 2);
    oct_warn("warn\n%d", 3);
}

// What say_everything() prints at a level.
static const char *said(oct_log_level level)
{
    static char text[500];
    FILE *file = tmpfile();
    const int kept = dup(STDERR_FILENO);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    oct_log_init("quantize", level);
    say_everything();
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void levels_choose_what_is_said(void)
{
    CHECK_TEXT(said(OCT_LOG_QUIET), "quantize: warn\\x0a3\n");
    CHECK_TEXT(said(OCT_LOG_NORMAL), "quantize: note 1\nquantize: warn\\x0a3\n");
    CHECK_TEXT(said(OCT_LOG_VERBOSE),
               "quantize: note 1\nquantize: verbose 2\nquantize: warn\\x0a3\n");
}

int main(void)
{
    RUN(ordinary_text_stays_as_it_is);
    RUN(control_characters_are_escaped);
    RUN(changes_of_direction_are_escaped);
    RUN(invalid_utf8_is_escaped_byte_by_byte);
    RUN(long_text_is_cut_between_characters);
    RUN(levels_choose_what_is_said);
    return test_end();
}
