// SPDX-License-Identifier: Apache-2.0
//
// The JSON scanner: a state, a stack of open brackets and a position.
#include "common/json_scan.h"

#include <assert.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

enum {
    STATE_VALUE,        // a value must follow
    STATE_FIRST_VALUE,  // a value or "]"
    STATE_KEY,          // a key must follow
    STATE_FIRST_KEY,    // a key or "}"
    STATE_AFTER_VALUE,  // "," or the closing bracket; outside all brackets, the end
};

static const char *const token_names[] = {
    [OCT_JSON_OBJECT] = "an object", [OCT_JSON_OBJECT_END] = "the end of an object",
    [OCT_JSON_ARRAY] = "an array",   [OCT_JSON_ARRAY_END] = "the end of an array",
    [OCT_JSON_KEY] = "a key",        [OCT_JSON_STRING] = "a string",
    [OCT_JSON_NUMBER] = "a number",  [OCT_JSON_TRUE] = "true",
    [OCT_JSON_FALSE] = "false",      [OCT_JSON_NULL] = "null",
    [OCT_JSON_END] = "the end",
};

static oct_status fail_at(oct_err *err, const char *rule, size_t at)
{
    return oct_fail(err, OCT_EFORMAT, "JSON: %s at byte %zu", rule, at);
}

// What stands at the position cannot stand there.
static oct_status fail_unexpected(const oct_json_scan *scan, oct_err *err)
{
    if (scan->at >= scan->bytes) return fail_at(err, "the text ends too early", scan->bytes);
    const unsigned char c = (unsigned char)scan->text[scan->at];
    if (c > ' ' && c < 0x7f)
        return oct_fail(err, OCT_EFORMAT, "JSON: unexpected '%c' at byte %zu", c, scan->at);
    return oct_fail(err, OCT_EFORMAT, "JSON: unexpected byte 0x%02x at byte %zu", c, scan->at);
}

static void skip_space(oct_json_scan *scan)
{
    while (scan->at < scan->bytes) {
        const char c = scan->text[scan->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') break;
        scan->at++;
    }
}

// The next byte, or -1 at the end.
static int peek(const oct_json_scan *scan)
{
    return scan->at < scan->bytes ? (unsigned char)scan->text[scan->at] : -1;
}

static bool take(oct_json_scan *scan, char c)
{
    if (peek(scan) != c) return false;
    scan->at++;
    return true;
}

// --- strings ---

static bool parse_hex4(const oct_json_scan *scan, size_t at, uint32_t *code)
{
    if (scan->bytes - at < 4) return false;
    *code = 0;
    for (size_t i = at; i < at + 4; i++) {
        const char c = scan->text[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return false;
        *code = *code << 4 | (uint32_t)digit;
    }
    return true;
}

// The four digits after "\u", and the second half of a pair. The position is behind the "u".
static oct_status scan_unicode_escape(oct_json_scan *scan, uint32_t *code, oct_err *err)
{
    uint32_t low = 0;

    if (!parse_hex4(scan, scan->at, code)) return fail_at(err, "invalid escape", scan->at - 2);
    scan->at += 4;
    if (*code < 0xd800 || *code >= 0xe000) return OCT_OK;
    const size_t start = scan->at - 6;
    if (*code >= 0xdc00 || !take(scan, '\\') || !take(scan, 'u') ||
        !parse_hex4(scan, scan->at, &low) || low < 0xdc00 || low >= 0xe000)
        return fail_at(err, "lone surrogate", start);
    scan->at += 4;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return OCT_OK;
}

// One escape; the position is behind the backslash.
static oct_status scan_escape(oct_json_scan *scan, uint32_t *code, oct_err *err)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";

    const int c = peek(scan);
    if (c == 'u') {
        scan->at++;
        return scan_unicode_escape(scan, code, err);
    }
    const char *letter = c > 0 ? strchr(letters, c) : NULL;
    if (!letter) return fail_at(err, "invalid escape", scan->at - 1);
    scan->at++;
    *code = (unsigned char)meanings[letter - letters];
    return OCT_OK;
}

// One character of a string, escaped or not.
static oct_status scan_character(oct_json_scan *scan, uint32_t *code, oct_err *err)
{
    if (take(scan, '\\')) return scan_escape(scan, code, err);
    const size_t length = oct_utf8_decode(scan->text + scan->at, scan->bytes - scan->at, code);
    if (length == 0) return fail_at(err, "invalid UTF-8", scan->at);
    if (*code < 0x20) return fail_at(err, "raw control character in a string", scan->at);
    scan->at += length;
    return OCT_OK;
}

// Bytes up to the closing quote: no string is longer decoded than spelled.
static bool find_string_bytes(const oct_json_scan *scan, size_t *bytes)
{
    for (size_t i = scan->at; i < scan->bytes; i++) {
        if (scan->text[i] == '\\')
            i++;
        else if (scan->text[i] == '"') {
            *bytes = i - scan->at;
            return true;
        }
    }
    return false;
}

// The position is behind the opening quote.
static oct_status scan_string(oct_json_scan *scan, oct_err *err)
{
    size_t bytes_max = 0, bytes = 0;

    if (!find_string_bytes(scan, &bytes_max)) return fail_at(err, "unclosed string", scan->at - 1);
    char *out = oct_arena_alloc(scan->arena, bytes_max + 1);
    while (!take(scan, '"')) {
        uint32_t code = 0;
        const oct_status st = scan_character(scan, &code, err);
        if (st) return st;
        bytes += oct_utf8_encode(code, out + bytes);
    }
    out[bytes] = 0;
    scan->value = out;
    scan->value_bytes = bytes;
    return OCT_OK;
}

// --- numbers and words ---

static size_t skip_digits(oct_json_scan *scan)
{
    const size_t start = scan->at;
    while (peek(scan) >= '0' && peek(scan) <= '9') scan->at++;
    return scan->at - start;
}

static bool is_number_part(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '+' || c == '-';
}

static oct_status scan_number(oct_json_scan *scan, oct_err *err)
{
    const size_t start = scan->at;

    take(scan, '-');
    bool is_valid = take(scan, '0') || skip_digits(scan) > 0;
    if (is_valid && take(scan, '.')) is_valid = skip_digits(scan) > 0;
    if (is_valid && (take(scan, 'e') || take(scan, 'E'))) {
        if (!take(scan, '+')) take(scan, '-');
        is_valid = skip_digits(scan) > 0;
    }
    // A leading zero, a hexadecimal number or "1.2.3" goes on here.
    if (!is_valid || is_number_part(peek(scan))) return fail_at(err, "malformed number", start);
    scan->value = scan->text + start;
    scan->value_bytes = scan->at - start;
    return OCT_OK;
}

static oct_status scan_word(oct_json_scan *scan, oct_json_token *token, oct_err *err)
{
    static const oct_json_token words[] = {OCT_JSON_TRUE, OCT_JSON_FALSE, OCT_JSON_NULL};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *word = token_names[words[i]];
        const size_t length = strlen(word);
        if (scan->bytes - scan->at < length || memcmp(scan->text + scan->at, word, length) != 0)
            continue;
        scan->at += length;
        *token = words[i];
        return OCT_OK;
    }
    return fail_unexpected(scan, err);
}

// --- structure ---

static oct_status open_bracket(oct_json_scan *scan, bool is_object, oct_json_token *token,
                               oct_err *err)
{
    if (scan->depth == scan->depth_max)
        return oct_fail(err, OCT_EFORMAT, "JSON: depth over the limit of %u levels at byte %zu",
                        scan->depth_max, scan->at);
    scan->stack[scan->depth++] = is_object ? '{' : '[';
    scan->at++;
    scan->state = is_object ? STATE_FIRST_KEY : STATE_FIRST_VALUE;
    *token = is_object ? OCT_JSON_OBJECT : OCT_JSON_ARRAY;
    return OCT_OK;
}

static bool is_in_object(const oct_json_scan *scan)
{
    return scan->stack[scan->depth - 1] == '{';
}

static void close_bracket(oct_json_scan *scan, oct_json_token *token)
{
    *token = is_in_object(scan) ? OCT_JSON_OBJECT_END : OCT_JSON_ARRAY_END;
    scan->depth--;
    scan->at++;
    scan->state = STATE_AFTER_VALUE;
}

static oct_status scan_value(oct_json_scan *scan, oct_json_token *token, oct_err *err)
{
    const int c = peek(scan);

    if (c == '{' || c == '[') return open_bracket(scan, c == '{', token, err);
    scan->state = STATE_AFTER_VALUE;
    if (take(scan, '"')) {
        *token = OCT_JSON_STRING;
        return scan_string(scan, err);
    }
    if (c == '-' || c == '+' || (c >= '0' && c <= '9')) {
        *token = OCT_JSON_NUMBER;
        return scan_number(scan, err);
    }
    return scan_word(scan, token, err);
}

// A key with its colon.
static oct_status scan_key(oct_json_scan *scan, oct_json_token *token, oct_err *err)
{
    if (!take(scan, '"')) return fail_unexpected(scan, err);
    const oct_status st = scan_string(scan, err);
    if (st) return st;
    skip_space(scan);
    if (!take(scan, ':')) return fail_unexpected(scan, err);
    scan->state = STATE_VALUE;
    *token = OCT_JSON_KEY;
    return OCT_OK;
}

static oct_status scan_end(oct_json_scan *scan, oct_json_token *token, oct_err *err)
{
    *token = OCT_JSON_END;
    if (scan->at == scan->bytes) return OCT_OK;
    if (scan->text[scan->at] == 0) return fail_at(err, "NUL padding behind the document", scan->at);
    return fail_at(err, "more text behind the document", scan->at);
}

void oct_json_scan_init(oct_json_scan *scan, const char *text, size_t bytes, unsigned depth_max,
                        oct_arena *arena)
{
    assert(depth_max <= OCT_JSON_DEPTH_MAX);
    *scan = (oct_json_scan){
        .text = text, .bytes = bytes, .depth_max = depth_max, .arena = arena, .state = STATE_VALUE};
}

oct_status oct_json_scan_next(oct_json_scan *scan, oct_json_token *token, oct_err *err)
{
    if (scan->at == 0 && scan->bytes >= 3 && memcmp(scan->text, "\xef\xbb\xbf", 3) == 0)
        return fail_at(err, "byte order mark", 0);
    skip_space(scan);
    if (scan->state == STATE_AFTER_VALUE) {
        if (scan->depth == 0) return scan_end(scan, token, err);
        const bool is_object = is_in_object(scan);
        if (!take(scan, ',')) {
            if (peek(scan) != (is_object ? '}' : ']')) return fail_unexpected(scan, err);
            close_bracket(scan, token);
            return OCT_OK;
        }
        skip_space(scan);
        scan->state = is_object ? STATE_KEY : STATE_VALUE;
    }
    if ((scan->state == STATE_FIRST_KEY && peek(scan) == '}') ||
        (scan->state == STATE_FIRST_VALUE && peek(scan) == ']')) {
        close_bracket(scan, token);
        return OCT_OK;
    }
    if (scan->state == STATE_KEY || scan->state == STATE_FIRST_KEY)
        return scan_key(scan, token, err);
    return scan_value(scan, token, err);
}

oct_status oct_json_scan_expect(oct_json_scan *scan, oct_json_token want, oct_err *err)
{
    oct_json_token token = OCT_JSON_END;

    const oct_status st = oct_json_scan_next(scan, &token, err);
    if (st || token == want) return st;
    return oct_fail(err, OCT_EFORMAT, "JSON: expected %s but found %s at byte %zu",
                    token_names[want], token_names[token], scan->at);
}

oct_status oct_json_scan_skip(oct_json_scan *scan, oct_json_token first, oct_err *err)
{
    oct_json_token token = first;

    assert(first != OCT_JSON_KEY && first != OCT_JSON_END);
    if (first != OCT_JSON_OBJECT && first != OCT_JSON_ARRAY) return OCT_OK;
    const unsigned outside = scan->depth - 1;
    while (scan->depth > outside) {
        const oct_status st = oct_json_scan_next(scan, &token, err);
        if (st) return st;
    }
    return OCT_OK;
}

bool oct_json_scan_u64(const oct_json_scan *scan, uint64_t *value)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < scan->value_bytes; i++) {
        const char c = scan->value[i];
        if (c < '0' || c > '9') return false;
        if (__builtin_mul_overflow(sum, (uint64_t)10, &sum)) return false;
        if (__builtin_add_overflow(sum, (uint64_t)(c - '0'), &sum)) return false;
    }
    *value = sum;
    return scan->value_bytes > 0;
}

bool oct_json_scan_double(const oct_json_scan *scan, double *value)
{
    const char *spelling = oct_arena_copy_n(scan->arena, scan->value, scan->value_bytes);
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);

    assert(c_locale);  // glibc's "C" is static and always there
    *value = strtod_l(spelling, NULL, c_locale);
    freelocale(c_locale);
    return isfinite(*value);
}
