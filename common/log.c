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
#include "common/utf8.h"

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
    const char *end = text + strlen(text);
    size_t at = 0, cut = 0;  // cut: the last end of a piece with room for "..." behind it

    while (text < end) {
        char piece[16];
        uint32_t point = 0;
        const size_t length = oct_utf8_decode(text, (size_t)(end - text), &point);
        if (length && is_shown(point)) {
            snprintf(piece, sizeof piece, "%.*s", (int)length, text);
        } else if (length > 1) {
            snprintf(piece, sizeof piece, "\\u{%04X}", (unsigned)point);
        } else {
            snprintf(piece, sizeof piece, "\\x%02x", (unsigned char)*text);
        }
        text += length ? length : 1;

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
