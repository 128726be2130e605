// SPDX-License-Identifier: Apache-2.0
//
// Flat YAML, line by line.
#include "runtime/yaml.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/utf8.h"

typedef struct reader {
    const char *text;
    size_t bytes, at, line;  // line: counted from 1
    oct_arena *arena;
    char *out;  // scratch for one scalar, as large as the text
    size_t n_out;
} reader;

// --- characters and lines ---

static char peek(const reader *r)
{
    return r->at < r->bytes ? r->text[r->at] : '\n';
}

static bool is_at_end(const reader *r)
{
    return r->at >= r->bytes;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(reader *r)
{
    while (!is_at_end(r) && is_blank(peek(r))) r->at++;
}

// Behind the end of this line.
static void next_line(reader *r)
{
    while (!is_at_end(r) && peek(r) != '\n') r->at++;
    if (!is_at_end(r)) r->at++;
    r->line++;
}

static size_t indent_here(const reader *r)
{
    size_t n = 0;
    while (r->at + n < r->bytes && r->text[r->at + n] == ' ') n++;
    return n;
}

static bool is_blank_line(const reader *r)
{
    size_t at = r->at;
    while (at < r->bytes && is_blank(r->text[at])) at++;
    return at >= r->bytes || r->text[at] == '\n';
}

static bool is_marker(const reader *r, const char *marker)
{
    if (r->bytes - r->at < 3 || memcmp(r->text + r->at, marker, 3) != 0) return false;
    return r->at + 3 == r->bytes || is_blank(r->text[r->at + 3]) || r->text[r->at + 3] == '\n';
}

static oct_status fail(const reader *r, oct_status status, const char *rule, oct_err *err)
{
    return oct_fail(err, status, "line %zu: %s", r->line, rule);
}

// Only white space and a comment may follow on this line; the position moves behind it.
static oct_status end_line(reader *r, oct_err *err)
{
    const bool is_apart = r->at == 0 || is_blank(r->text[r->at - 1]) || is_blank(peek(r));

    skip_blanks(r);
    if (peek(r) != '\n' && !(peek(r) == '#' && is_apart))
        return fail(r, OCT_EFORMAT, "text follows a closed scalar", err);
    next_line(r);
    return OCT_OK;
}

// --- building a scalar ---

static void put(reader *r, char c)
{
    r->out[r->n_out++] = c;
}

static void trim_out(reader *r, size_t from)
{
    while (r->n_out > from && is_blank(r->out[r->n_out - 1])) r->n_out--;
}

// `newlines` line ends between two pieces of text: one is a space, n are n - 1 newlines.
static void put_fold(reader *r, size_t newlines)
{
    if (newlines == 1) put(r, ' ');
    for (size_t i = 1; i < newlines; i++) put(r, '\n');
}

static const char *take_out(reader *r)
{
    const char *text = oct_arena_copy_n(r->arena, r->out, r->n_out);
    r->n_out = 0;
    return text;
}

// Skip line ends inside quotes, with the white space around them. Returns how many there are.
static size_t skip_line_ends(reader *r)
{
    size_t newlines = 0;

    for (;;) {
        skip_blanks(r);
        if (is_at_end(r) || peek(r) != '\n') return newlines;
        r->at++;
        r->line++;
        newlines++;
    }
}

// --- quoted ---

static oct_status read_single_quoted(reader *r, oct_err *err)
{
    const size_t start = r->line;

    for (r->at++; !is_at_end(r);) {
        const char c = peek(r);
        if (c == '\'' && r->at + 1 < r->bytes && r->text[r->at + 1] == '\'') {
            put(r, c);
            r->at += 2;
        } else if (c == '\'') {
            r->at++;
            return OCT_OK;
        } else if (c == '\n') {
            trim_out(r, 0);
            put_fold(r, skip_line_ends(r));
        } else {
            put(r, c);
            r->at++;
        }
    }
    return oct_fail(err, OCT_EFORMAT, "line %zu: a quote is never closed", start);
}

static oct_status read_code(reader *r, size_t digits, oct_err *err)
{
    uint32_t code = 0;
    char utf8[4];

    for (size_t i = 0; i < digits; i++, r->at++) {
        const char c = peek(r);
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return fail(r, OCT_EFORMAT, "a malformed escape", err);
        code = code << 4 | (uint32_t)digit;
    }
    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return fail(r, OCT_EFORMAT, "an escape that is no character", err);
    const size_t n = oct_utf8_encode(code, utf8);
    for (size_t i = 0; i < n; i++) put(r, utf8[i]);
    return OCT_OK;
}

// Behind the backslash. An escaped line end joins without a space.
static oct_status read_escape(reader *r, oct_err *err)
{
    static const char letters[] = "abtnvfre\"\\/ ", meanings[] = "\a\b\t\n\v\f\r\033\"\\/ ";
    const char c = peek(r);

    r->at++;
    if (c == 'x') return read_code(r, 2, err);
    if (c == 'u') return read_code(r, 4, err);
    if (c == 'U') return read_code(r, 8, err);
    if (c == '\n') {
        r->line++;
        skip_blanks(r);
        return OCT_OK;
    }
    const char *letter = strchr(letters, c);
    if (!letter) return fail(r, OCT_EFORMAT, "an unknown escape", err);
    put(r, meanings[letter - letters]);
    return OCT_OK;
}

static oct_status read_double_quoted(reader *r, oct_err *err)
{
    const size_t start = r->line;
    size_t fixed = 0;  // escapes are not trimmed

    for (r->at++; !is_at_end(r);) {
        const char c = peek(r);
        if (c == '"') {
            r->at++;
            return OCT_OK;
        }
        if (c == '\n') {
            trim_out(r, fixed);
            put_fold(r, skip_line_ends(r));
            continue;
        }
        r->at++;
        if (c != '\\') {
            put(r, c);
            continue;
        }
        const oct_status st = read_escape(r, err);
        if (st) return st;
        fixed = r->n_out;
    }
    return oct_fail(err, OCT_EFORMAT, "line %zu: a quote is never closed", start);
}

// --- plain ---

// The rest of this line up to a comment, without white space at its end.
static oct_status read_plain_line(reader *r, bool *has_comment, oct_err *err)
{
    const size_t start = r->n_out;

    for (*has_comment = false; peek(r) != '\n'; r->at++) {
        const char c = peek(r), next = r->at + 1 < r->bytes ? r->text[r->at + 1] : '\n';
        if (c == '#' && r->n_out > start && is_blank(r->out[r->n_out - 1])) {
            *has_comment = true;
            break;
        }
        if (c == ':' && (is_blank(next) || next == '\n'))
            return fail(r, OCT_EUNSUPPORTED, "a map within a value", err);
        put(r, c);
    }
    trim_out(r, start);
    next_line(r);
    return OCT_OK;
}

// Lines that are indented deeper than `indent` go on with the scalar.
static oct_status read_plain(reader *r, size_t indent, oct_err *err)
{
    bool has_comment = false;
    size_t newlines = 1;

    oct_status st = read_plain_line(r, &has_comment, err);
    while (!st && !has_comment && !is_at_end(r)) {
        if (is_blank_line(r)) {
            newlines++;
            next_line(r);
            continue;
        }
        if (indent_here(r) <= indent) break;
        skip_blanks(r);
        if (peek(r) == '#') break;
        put_fold(r, newlines);
        newlines = 1;
        st = read_plain_line(r, &has_comment, err);
    }
    return st;
}

// --- block ---

static oct_status read_block(reader *r, size_t indent, oct_err *err)
{
    const bool is_folded = peek(r) == '>';
    size_t newlines = 0, depth = 0;

    r->at++;
    if (peek(r) == '-' || peek(r) == '+') r->at++;
    oct_status st = end_line(r, err);
    while (!st && !is_at_end(r)) {
        if (is_blank_line(r)) {
            newlines++;
            next_line(r);
            continue;
        }
        const size_t here = indent_here(r);
        if (here <= indent) break;
        if (depth == 0) depth = here;
        if (here < depth) return fail(r, OCT_EFORMAT, "a block's lines are indented less", err);
        if (is_folded && here > depth)
            return fail(r, OCT_EUNSUPPORTED, "a folded block with deeper lines", err);
        if (r->n_out > 0 && is_folded)
            put_fold(r, newlines);
        else
            for (size_t i = 0; r->n_out > 0 && i < newlines; i++) put(r, '\n');
        r->at += depth;
        while (peek(r) != '\n') put(r, r->text[r->at++]);
        if (r->n_out > 0 && r->out[r->n_out - 1] == '\r') r->n_out--;
        next_line(r);
        newlines = 1;
    }
    return st;
}

// --- items ---

static oct_status read_value(reader *r, size_t indent, const char **value, oct_err *err)
{
    oct_status st = OCT_OK;

    skip_blanks(r);
    const char c = peek(r);
    if (c == '\n' || c == '#') return fail(r, OCT_EFORMAT, "a value is missing", err);
    if (strchr("[]{}&*!%@`,?", c))
        return fail(r, OCT_EUNSUPPORTED, "not a plain or quoted text", err);
    if (c == '\'' || c == '"') {
        st = c == '"' ? read_double_quoted(r, err) : read_single_quoted(r, err);
        if (!st) st = end_line(r, err);
    } else if (c == '|' || c == '>') {
        st = read_block(r, indent, err);
    } else {
        st = read_plain(r, indent, err);
    }
    if (!st) *value = take_out(r);
    return st;
}

static oct_status read_key(reader *r, const char **key, oct_err *err)
{
    const char c = peek(r);
    oct_status st = OCT_OK;

    if (c == '\'')
        st = read_single_quoted(r, err);
    else if (c == '"')
        st = read_double_quoted(r, err);
    else {
        if (strchr("[]{}&*!%@`,?|>", c)) return fail(r, OCT_EUNSUPPORTED, "not a plain key", err);
        for (; peek(r) != '\n'; r->at++) {
            const char next = r->at + 1 < r->bytes ? r->text[r->at + 1] : '\n';
            if (peek(r) == ':' && (is_blank(next) || next == '\n')) break;
            put(r, peek(r));
        }
        trim_out(r, 0);
    }
    if (st) return st;
    skip_blanks(r);
    if (peek(r) != ':' || is_at_end(r)) return fail(r, OCT_EFORMAT, "a key without ':'", err);
    r->at++;
    *key = take_out(r);
    return OCT_OK;
}

static bool is_list_item(const reader *r)
{
    return peek(r) == '-' &&
           (r->at + 1 >= r->bytes || is_blank(r->text[r->at + 1]) || r->text[r->at + 1] == '\n');
}

typedef enum shape { SHAPE_UNKNOWN, SHAPE_MAP, SHAPE_LIST } shape;

// One entry of the collection, whose entries begin at column `indent`.
static oct_status read_entry(reader *r, shape *collection, size_t indent, oct_yaml_visit *visit,
                             void *context, oct_err *err)
{
    const char *key = NULL, *value = NULL;
    const size_t line = r->line;

    if (indent_here(r) != indent) return fail(r, OCT_EUNSUPPORTED, "a nested or ragged entry", err);
    r->at += indent;
    if (peek(r) == '\t') return fail(r, OCT_EFORMAT, "a tab before text", err);
    const shape here = is_list_item(r) ? SHAPE_LIST : SHAPE_MAP;
    if (*collection != SHAPE_UNKNOWN && *collection != here)
        return fail(r, OCT_EFORMAT, "a list and a map in one file", err);
    *collection = here;
    oct_status st = OCT_OK;
    if (here == SHAPE_LIST)
        r->at++;
    else
        st = read_key(r, &key, err);
    if (!st) st = read_value(r, indent, &value, err);
    if (st) return st;
    st = visit(context, key, value, err);
    return st ? oct_wrap(err, st, "line %zu", line) : OCT_OK;
}

static bool is_comment_line(const reader *r)
{
    size_t at = r->at;
    while (at < r->bytes && is_blank(r->text[at])) at++;
    return at < r->bytes && r->text[at] == '#';
}

oct_status oct_yaml_read(const char *text, size_t bytes, oct_arena *arena, oct_yaml_visit *visit,
                         void *context, oct_err *err)
{
    // An escape is at least as long as what it stands for, and a line end as its space.
    reader r = {.text = text,
                .bytes = bytes,
                .line = 1,
                .arena = arena,
                .out = oct_arena_alloc(arena, bytes + 1)};
    shape collection = SHAPE_UNKNOWN;
    size_t indent = 0;
    bool has_begun = false;

    while (!is_at_end(&r)) {
        if (is_blank_line(&r) || is_comment_line(&r)) {
            next_line(&r);
            continue;
        }
        if (is_marker(&r, "...")) break;
        if (is_marker(&r, "---")) {
            if (has_begun) return fail(&r, OCT_EUNSUPPORTED, "a second document", err);
            has_begun = true;
            r.at += 3;
            const oct_status st = end_line(&r, err);
            if (st) return st;
            continue;
        }
        has_begun = true;
        if (collection == SHAPE_UNKNOWN) indent = indent_here(&r);
        const oct_status st = read_entry(&r, &collection, indent, visit, context, err);
        if (st) return st;
    }
    return OCT_OK;
}
