// SPDX-License-Identifier: Apache-2.0
//
// What tools tell people on stderr.
#include "common/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/progress.h"

static const char *log_tool = "octavo";
static oct_log_level log_level = OCT_LOG_NORMAL;

void oct_log_init(const char *tool, oct_log_level level)
{
    log_tool = tool;
    log_level = level;
}

static void print_line(const char *format, va_list args)
{
    char text[2048], shown[4096];
    vsnprintf(text, sizeof text, format, args);
    oct_progress_hide();
    fprintf(stderr, "%s: %s\n", log_tool, oct_printable(text, shown, sizeof shown));
}

void oct_note(const char *format, ...)
{
    if (log_level == OCT_LOG_QUIET) return;
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

void oct_verbose(const char *format, ...)
{
    if (log_level != OCT_LOG_VERBOSE) return;
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

void oct_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

// The code point at `text` and its length; length 0 when the bytes are not UTF-8.
static uint32_t decode_utf8(const unsigned char *text, size_t *length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char lead = text[0];
    const size_t n = lead < 0x80       ? 1
                     : lead >> 5 == 6  ? 2
                     : lead >> 4 == 14 ? 3
                     : lead >> 3 == 30 ? 4
                                       : 0;

    *length = 0;
    if (n == 0) return 0;
    uint32_t point = n == 1 ? lead : lead & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (text[i] >> 6 != 2) return 0; // also stops at the final NUL
        point = point << 6 | (text[i] & 0x3f);
    }
    if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return 0;
    *length = n;
    return point;
}

// Whether a terminal may show it as it is: no control, no line break, no change of direction.
static bool is_shown(uint32_t point)
{
    if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return false;
    if (point == 0x061c || point == 0x200e || point == 0x200f) return false;
    return !(point >= 0x2028 && point <= 0x202e) && !(point >= 0x2066 && point <= 0x2069);
}

const char *oct_printable(const char *text, char *out, unsigned long bytes)
{
    assert(bytes >= 4);
    const unsigned char *in = (const unsigned char *)text;
    size_t at = 0, cut = 0; // cut: the last end of a piece with room for "..." behind it

    while (*in) {
        char piece[16];
        size_t length;
        const uint32_t point = decode_utf8(in, &length);
        if (length && is_shown(point)) {
            snprintf(piece, sizeof piece, "%.*s", (int)length, (const char *)in);
        } else if (length > 1) {
            snprintf(piece, sizeof piece, "\\u{%04X}", (unsigned)point);
        } else {
            snprintf(piece, sizeof piece, "\\x%02x", *in);
        }
        in += length ? length : 1;

        const size_t piece_bytes = strlen(piece);
        if (at + piece_bytes >= bytes) {
            strcpy(out + cut, "...");
            return out;
        }
        memcpy(out + at, piece, piece_bytes);
        at += piece_bytes;
        if (at + 3 < bytes) cut = at;
    }
    out[at] = '\0';
    return out;
}
