// SPDX-License-Identifier: Apache-2.0
//
// A strict JSON pull scanner: RFC 8259 and nothing more, linear time, constant stack.
//
// It refuses what parsers disagree about: duplicate handling is the caller's, but everything
// lexical is decided here: invalid UTF-8, lone surrogates, raw control characters, leading zeros,
// trailing commas, comments, a byte order mark, NUL padding, more than OCT_JSON_DEPTH_MAX levels.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/status.h"

#define OCT_JSON_DEPTH_MAX 64

typedef enum oct_json_token {
    OCT_JSON_OBJECT, OCT_JSON_OBJECT_END, OCT_JSON_ARRAY, OCT_JSON_ARRAY_END,
    OCT_JSON_KEY, OCT_JSON_STRING, OCT_JSON_NUMBER, OCT_JSON_TRUE, OCT_JSON_FALSE, OCT_JSON_NULL,
    OCT_JSON_END,  // the document is complete and only white space follows
} oct_json_token;

typedef struct oct_json_scan {
    const char *text;    // borrowed
    size_t bytes, at;
    oct_arena *arena;    // decoded strings go here
    unsigned depth, depth_max;
    // Of the last token: a key's or string's decoded text (NUL-terminated; text_bytes excludes the
    // NUL and counts embedded ones), or a number's spelling.
    const char *value;
    size_t value_bytes;
    char stack[OCT_JSON_DEPTH_MAX];
    int state;
} oct_json_scan;

// depth_max <= OCT_JSON_DEPTH_MAX.
void oct_json_scan_init(oct_json_scan *scan, const char *text, size_t bytes, unsigned depth_max,
                        oct_arena *arena);

// The next token. OCT_EFORMAT: "JSON: <rule> at byte N".
oct_status oct_json_scan_next(oct_json_scan *scan, oct_json_token *token, oct_err *err);

// The next token must be `want`; otherwise OCT_EFORMAT "JSON: expected <want> at byte N".
oct_status oct_json_scan_expect(oct_json_scan *scan, oct_json_token want, oct_err *err);

// Skip one value whose first token was just read.
oct_status oct_json_scan_skip(oct_json_scan *scan, oct_json_token first, oct_err *err);

// The number just read as an integer >= 0 without sign, fraction or exponent, exact up to 2^64 - 1.
bool oct_json_scan_u64(const oct_json_scan *scan, uint64_t *value);
bool oct_json_scan_double(const oct_json_scan *scan, double *value);  // finite; any locale
