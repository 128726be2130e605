// SPDX-License-Identifier: Apache-2.0
//
// SentencePiece Unigram: a character map in a double-array trie, then the best path over pieces.
// The trie comes from a file and is checked at every step of a walk; pieces are a sorted array that
// is narrowed byte by byte.
#include "runtime/tokenize_unigram.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/json_scan.h"
#include "common/utf8.h"
#include "runtime/unicode.h"

#define FILE_BYTES_MAX (64u << 20)
#define TEXT_BYTES_MAX ((size_t)64 << 20)  // after the character map
#define PIECES_MAX (1u << 20)
#define PIECE_BYTES_MAX 256
#define UNKNOWN_PENALTY 10.0  // below the worst piece

#define SPACE_MARK "\xe2\x96\x81"  // U+2581
#define SPACE_MARK_BYTES 3

typedef struct piece {
    const char *text;
    size_t bytes;
    int32_t id;
    double score;
    bool strips_left, strips_right;  // of added tokens: takes the white space beside it along
} piece;

typedef struct pieces {
    piece *items;  // sorted by text after loading
    size_t n, capacity;
} pieces;

typedef enum prefix { PREFIX_FIRST, PREFIX_ALWAYS, PREFIX_NEVER } prefix;

typedef struct oct_unigram_model {
    pieces vocabulary, added;
    double score_min;
    bool has_vocabulary;
    const uint8_t *units;  // of the character map: [n_units], little-endian; NULL: none
    size_t n_units;
    const char *pool;  // NUL-terminated replacements
    size_t pool_bytes;
    bool strips_left, strips_right, collapses_spaces, splits_at_space;
    prefix prefix;
    int stage;  // of the last normalizer read; they come in one order
} model;

// --- sorted pieces ---

static int compare_pieces(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->bytes < y->bytes ? x->bytes : y->bytes);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static oct_status sort_pieces(pieces *p, const char *what, oct_err *err)
{
    if (p->n > 0) qsort(p->items, p->n, sizeof *p->items, compare_pieces);
    for (size_t i = 1; i < p->n; i++)
        if (compare_pieces(&p->items[i - 1], &p->items[i]) == 0)
            return oct_fail(err, OCT_EFORMAT, "%s '%s' is given twice", what, p->items[i].text);
    return OCT_OK;
}

static const piece *find_piece(const pieces *p, const char *text)
{
    const piece key = {.text = text, .bytes = strlen(text)};
    return p->n ? bsearch(&key, p->items, p->n, sizeof key, compare_pieces) : NULL;
}

// A walk along the bytes of a text: the pieces [first, last) begin with the `depth` bytes so far.
typedef struct walk {
    const pieces *pieces;
    size_t first, last, depth;
} walk;

static size_t lower_bound(const walk *w, int byte)
{
    size_t low = w->first, high = w->last;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const piece *p = &w->pieces->items[middle];
        const int at_depth = p->bytes > w->depth ? (uint8_t)p->text[w->depth] : -1;
        if (at_depth < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// One byte further; false when no piece goes on so. *whole: the piece that ends here, or NULL.
static bool walk_on(walk *w, uint8_t byte, const piece **whole)
{
    const size_t first = lower_bound(w, byte), last = lower_bound(w, byte + 1);

    w->first = first;
    w->last = last;
    w->depth++;
    *whole =
        first < last && w->pieces->items[first].bytes == w->depth ? &w->pieces->items[first] : NULL;
    return first < last;
}

// --- tokenizer.json: the vocabulary ---

static oct_status check_piece(const char *text, size_t bytes, oct_err *err)
{
    if (bytes == 0) return oct_fail(err, OCT_EFORMAT, "it is empty");
    if (bytes > PIECE_BYTES_MAX)
        return oct_fail(err, OCT_EFORMAT, "it has %zu bytes, more than %d", bytes, PIECE_BYTES_MAX);
    return OCT_OK;
}

static piece *add_piece(pieces *p, oct_arena *arena)
{
    p->items = oct_arena_grow(arena, p->items, p->n, &p->capacity, sizeof *p->items);
    p->items[p->n] = (piece){.id = (int32_t)p->n};
    return &p->items[p->n++];
}

// ["text", score], behind its opening bracket.
static oct_status scan_piece(piece *p, oct_json_scan *scan, oct_err *err)
{
    oct_status st = oct_json_scan_expect(scan, OCT_JSON_STRING, err);
    if (st) return st;
    p->text = scan->value;
    p->bytes = scan->value_bytes;
    st = check_piece(p->text, p->bytes, err);
    if (st) return st;
    st = oct_json_scan_expect(scan, OCT_JSON_NUMBER, err);
    if (st) return st;
    if (!oct_json_scan_double(scan, &p->score))
        return oct_fail(err, OCT_EFORMAT, "its score is not finite");
    return oct_json_scan_expect(scan, OCT_JSON_ARRAY_END, err);
}

static oct_status scan_vocabulary(model *m, oct_json_scan *scan, oct_err *err)
{
    oct_json_token kind = OCT_JSON_END;

    if (m->has_vocabulary) return oct_fail(err, OCT_EFORMAT, "vocab is given twice");
    m->has_vocabulary = true;
    oct_status st = oct_json_scan_expect(scan, OCT_JSON_ARRAY, err);
    for (size_t i = 0; !st; i++) {
        st = oct_json_scan_next(scan, &kind, err);
        if (st || kind == OCT_JSON_ARRAY_END) break;
        if (kind != OCT_JSON_ARRAY)
            return oct_fail(err, OCT_EFORMAT, "piece %zu is not a text and a score", i);
        if (i == PIECES_MAX) return oct_fail(err, OCT_EFORMAT, "more than %u pieces", PIECES_MAX);
        piece *added = add_piece(&m->vocabulary, scan->arena);
        st = scan_piece(added, scan, err);
        if (st) return oct_wrap(err, st, "piece %zu", i);
        if (i == 0 || added->score < m->score_min) m->score_min = added->score;
    }
    return st;
}

static oct_status scan_model_type(oct_json_scan *scan, oct_err *err)
{
    const oct_status st = oct_json_scan_expect(scan, OCT_JSON_STRING, err);
    if (st || strcmp(scan->value, "Unigram") == 0) return st;
    return oct_fail(err, OCT_EUNSUPPORTED, "model type '%.40s' is not Unigram", scan->value);
}

static oct_status scan_unknown_id(oct_unigram *unigram, oct_json_scan *scan, oct_err *err)
{
    uint64_t id = 0;

    const oct_status st = oct_json_scan_expect(scan, OCT_JSON_NUMBER, err);
    if (st) return st;
    if (!oct_json_scan_u64(scan, &id) || id >= PIECES_MAX)
        return oct_fail(err, OCT_EFORMAT, "unk_id is not in 0..%u", PIECES_MAX - 1);
    unigram->unknown_id = (int32_t)id;
    return OCT_OK;
}

static oct_status scan_model_value(oct_unigram *unigram, const char *key, oct_json_scan *scan,
                                   oct_err *err)
{
    oct_json_token kind = OCT_JSON_END;

    if (strcmp(key, "type") == 0) return scan_model_type(scan, err);
    if (strcmp(key, "unk_id") == 0) return scan_unknown_id(unigram, scan, err);
    if (strcmp(key, "vocab") == 0) return scan_vocabulary(unigram->model, scan, err);
    const oct_status st = oct_json_scan_next(scan, &kind, err);
    if (st) return st;
    if (strcmp(key, "byte_fallback") == 0 && kind != OCT_JSON_FALSE)
        return oct_fail(err, OCT_EUNSUPPORTED, "byte_fallback is not supported");
    return oct_json_scan_skip(scan, kind, err);
}

static oct_status scan_model(oct_unigram *unigram, oct_json_scan *scan, oct_err *err)
{
    oct_json_token kind = OCT_JSON_END;

    oct_status st = oct_json_scan_expect(scan, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(scan, &kind, err);
        if (st || kind != OCT_JSON_KEY) break;
        st = scan_model_value(unigram, scan->value, scan, err);
    }
    return st;
}

// --- tokenizer.json: the character map ---

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// out: at least 3 / 4 of the text. False when it is not Base64 with padding.
static bool decode_base64(const char *text, size_t bytes, uint8_t *out, size_t *out_bytes)
{
    size_t n = bytes;

    if (bytes % 4 != 0) return false;
    while (n > 0 && bytes - n < 2 && text[n - 1] == '=') n--;
    *out_bytes = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        const int digit = base64_digit(text[i]);
        if (digit < 0) return false;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 != 0) out[(*out_bytes)++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return true;
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static oct_status load_character_map(model *m, const cJSON *object, oct_arena *arena, oct_err *err)
{
    const char *text = NULL;
    size_t bytes = 0;

    const oct_status st = oct_json_text(object, "precompiled_charsmap", &text, err);
    if (st || text[0] == 0) return st;
    uint8_t *data = oct_arena_alloc(arena, strlen(text));
    if (!decode_base64(text, strlen(text), data, &bytes))
        return oct_fail(err, OCT_EFORMAT, "precompiled_charsmap is not Base64");
    const uint64_t trie_bytes = bytes < 4 ? 0 : read_u32(data);
    if (trie_bytes == 0 || trie_bytes % 4 != 0 || 4 + trie_bytes >= bytes)
        return oct_fail(err, OCT_EFORMAT,
                        "precompiled_charsmap of %zu bytes has a trie of %" PRIu64 " bytes", bytes,
                        trie_bytes);
    if (data[bytes - 1] != 0)
        return oct_fail(err, OCT_EFORMAT, "precompiled_charsmap does not end with NUL");
    m->units = data + 4;
    m->n_units = trie_bytes / 4;
    m->pool = (const char *)data + 4 + trie_bytes;
    m->pool_bytes = bytes - 4 - trie_bytes;
    return OCT_OK;
}

// --- tokenizer.json: normalizer, pre-tokenizer, added tokens ---

static bool is_true(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static oct_status read_replace(model *m, const cJSON *object, oct_err *err)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(object, "pattern");
    const cJSON *regex = cJSON_GetObjectItemCaseSensitive(pattern, "Regex");
    const char *content = NULL;

    const oct_status st = oct_json_text(object, "content", &content, err);
    if (st) return st;
    if (!cJSON_IsString(regex) || strcmp(regex->valuestring, " {2,}") != 0 ||
        (strcmp(content, SPACE_MARK) != 0 && strcmp(content, " ") != 0))
        return oct_fail(err, OCT_EUNSUPPORTED, "only runs of spaces can be replaced");
    m->collapses_spaces = true;
    return OCT_OK;
}

static oct_status read_normalizer(model *m, const cJSON *object, oct_arena *arena, oct_err *err)
{
    static const char *const types[] = {"Precompiled", "Strip", "Replace"};
    const char *type = NULL;
    int stage = 0;

    if (cJSON_IsNull(object)) return OCT_OK;
    oct_status st = oct_json_text(object, "type", &type, err);
    if (st) return st;
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *one = NULL;
        cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(object, "normalizers"))
        {
            st = read_normalizer(m, one, arena, err);
            if (st) return st;
        }
        return OCT_OK;
    }
    while (stage < 3 && strcmp(type, types[stage]) != 0) stage++;
    if (stage == 3 || stage < m->stage)
        return oct_fail(err, OCT_EUNSUPPORTED, "normalizer '%.40s' is not supported here", type);
    m->stage = stage + 1;
    if (stage == 0) return load_character_map(m, object, arena, err);
    if (stage == 2) return read_replace(m, object, err);
    m->strips_left = is_true(object, "strip_left");
    m->strips_right = is_true(object, "strip_right");
    return OCT_OK;
}

static oct_status read_metaspace(model *m, const cJSON *object, oct_err *err)
{
    const cJSON *scheme = cJSON_GetObjectItemCaseSensitive(object, "prepend_scheme");
    const cJSON *split = cJSON_GetObjectItemCaseSensitive(object, "split");
    const char *replacement = NULL;

    const oct_status st = oct_json_text(object, "replacement", &replacement, err);
    if (st) return st;
    if (strcmp(replacement, SPACE_MARK) != 0 || cJSON_IsFalse(split))
        return oct_fail(err, OCT_EUNSUPPORTED, "Metaspace must split at U+2581");
    m->prefix = is_true(object, "add_prefix_space") ? PREFIX_ALWAYS : PREFIX_NEVER;
    if (!scheme) return OCT_OK;
    const char *name = cJSON_IsString(scheme) ? scheme->valuestring : "";
    if (strcmp(name, "first") == 0)
        m->prefix = PREFIX_FIRST;
    else if (strcmp(name, "always") == 0)
        m->prefix = PREFIX_ALWAYS;
    else if (strcmp(name, "never") == 0)
        m->prefix = PREFIX_NEVER;
    else
        return oct_fail(err, OCT_EFORMAT, "prepend_scheme '%.40s' is unknown", name);
    return OCT_OK;
}

static oct_status read_pre_tokenizer(model *m, const cJSON *object, oct_err *err)
{
    const char *type = NULL;

    oct_status st = oct_json_text(object, "type", &type, err);
    if (st) return st;
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(m, object, err);
    if (strcmp(type, "WhitespaceSplit") == 0) {
        m->splits_at_space = true;
        return OCT_OK;
    }
    if (strcmp(type, "Sequence") != 0)
        return oct_fail(err, OCT_EUNSUPPORTED, "pre-tokenizer '%.40s' is not supported", type);
    const cJSON *one = NULL;
    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(object, "pretokenizers"))
    {
        st = read_pre_tokenizer(m, one, err);
        if (st) return st;
    }
    return OCT_OK;
}

static oct_status read_added_token(model *m, const cJSON *object, oct_arena *arena, oct_err *err)
{
    const char *text = NULL;
    uint64_t id = 0;

    oct_status st = oct_json_text(object, "content", &text, err);
    if (!st) st = oct_json_count(object, "id", &id, err);
    if (!st) st = check_piece(text, strlen(text), err);
    if (st) return oct_wrap(err, st, "added token %zu", m->added.n);
    if (id >= PIECES_MAX)
        return oct_fail(err, OCT_EFORMAT, "added token '%s' has id %" PRIu64 ", more than %u", text,
                        id, PIECES_MAX - 1);
    if (is_true(object, "normalized") || is_true(object, "single_word"))
        return oct_fail(err, OCT_EUNSUPPORTED, "added token '%s' is normalized or a single word",
                        text);
    piece *added = add_piece(&m->added, arena);
    *added = (piece){.text = oct_arena_copy(arena, text),
                     .bytes = strlen(text),
                     .id = (int32_t)id,
                     .strips_left = is_true(object, "lstrip"),
                     .strips_right = is_true(object, "rstrip")};
    return OCT_OK;
}

static oct_status read_added_tokens(model *m, const cJSON *array, oct_arena *arena, oct_err *err)
{
    const cJSON *one = NULL;

    if (!cJSON_IsArray(array)) return oct_fail(err, OCT_EFORMAT, "added_tokens is not an array");
    cJSON_ArrayForEach(one, array)
    {
        const oct_status st = read_added_token(m, one, arena, err);
        if (st) return st;
    }
    return OCT_OK;
}

static oct_status read_part(model *m, const char *key, const cJSON *part, oct_arena *arena,
                            oct_err *err)
{
    if (strcmp(key, "normalizer") == 0) return read_normalizer(m, part, arena, err);
    if (strcmp(key, "pre_tokenizer") == 0) return read_pre_tokenizer(m, part, err);
    return read_added_tokens(m, part, arena, err);
}

// A value that is small enough for a tree: its text is between two positions of the scanner.
static oct_status scan_part(model *m, const char *key, oct_json_scan *scan, oct_err *err)
{
    oct_json_token kind = OCT_JSON_END;
    cJSON *part = NULL;

    const size_t start = scan->at;
    oct_status st = oct_json_scan_next(scan, &kind, err);
    if (!st) st = oct_json_scan_skip(scan, kind, err);
    if (!st) st = oct_json_parse(scan->text + start, scan->at - start, &part, err);
    if (!st) st = read_part(m, key, part, scan->arena, err);
    cJSON_Delete(part);
    return st;
}

// --- tokenizer.json as a whole ---

static oct_status scan_value(oct_unigram *unigram, const char *key, oct_json_scan *scan,
                             oct_err *err)
{
    oct_json_token kind = OCT_JSON_END;

    if (strcmp(key, "model") == 0) return scan_model(unigram, scan, err);
    if (strcmp(key, "normalizer") == 0 || strcmp(key, "pre_tokenizer") == 0 ||
        strcmp(key, "added_tokens") == 0)
        return scan_part(unigram->model, key, scan, err);
    const oct_status st = oct_json_scan_next(scan, &kind, err);
    return st ? st : oct_json_scan_skip(scan, kind, err);
}

static oct_status find_special(const model *m, const char *text, int32_t *id, oct_err *err)
{
    const piece *found = find_piece(&m->added, text);
    if (!found) found = find_piece(&m->vocabulary, text);
    if (!found) return oct_fail(err, OCT_EFORMAT, "there is no token '%s'", text);
    *id = found->id;
    return OCT_OK;
}

// What only the whole file can show.
static oct_status check_model(oct_unigram *unigram, oct_err *err)
{
    model *m = unigram->model;

    if (!m->has_vocabulary) return oct_fail(err, OCT_EFORMAT, "there is no Unigram vocabulary");
    if ((size_t)unigram->unknown_id >= m->vocabulary.n)
        return oct_fail(err, OCT_EFORMAT, "unk_id %" PRId32 " is not one of %zu pieces",
                        unigram->unknown_id, m->vocabulary.n);
    if (m->splits_at_space && m->prefix != PREFIX_ALWAYS)
        return oct_fail(err, OCT_EUNSUPPORTED, "words that are split need prefixes");
    oct_status st = sort_pieces(&m->vocabulary, "piece", err);
    if (!st) st = sort_pieces(&m->added, "added token", err);
    for (size_t i = 0; !st && i < m->added.n; i++) {
        const piece *added = &m->added.items[i], *twin = find_piece(&m->vocabulary, added->text);
        if (twin && twin->id != added->id)
            return oct_fail(err, OCT_EFORMAT,
                            "added token '%s' has id %" PRId32 ", its piece %" PRId32, added->text,
                            added->id, twin->id);
    }
    if (!st) st = find_special(m, "</s>", &unigram->end_id, err);
    return st ? st : find_special(m, "<pad>", &unigram->pad_id, err);
}

static oct_status scan_tokenizer(oct_unigram *unigram, const char *text, size_t bytes, oct_err *err)
{
    oct_json_scan scan = {0};
    oct_json_token kind = OCT_JSON_END;

    oct_json_scan_init(&scan, text, bytes, OCT_JSON_DEPTH_MAX, &unigram->arena);
    oct_status st = oct_json_scan_expect(&scan, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(&scan, &kind, err);
        if (st || kind != OCT_JSON_KEY) break;
        st = scan_value(unigram, scan.value, &scan, err);
    }
    if (!st) st = oct_json_scan_expect(&scan, OCT_JSON_END, err);
    return st ? st : check_model(unigram, err);
}

oct_status oct_unigram_load(oct_unigram *unigram, const char *tokenizer_json, oct_err *err)
{
    char *text = NULL;
    size_t bytes = 0;

    *unigram = (oct_unigram){.unknown_id = -1};
    unigram->model = oct_arena_alloc(&unigram->arena, sizeof *unigram->model);
    oct_status st =
        oct_file_read_text(&unigram->arena, tokenizer_json, FILE_BYTES_MAX, &text, &bytes, err);
    if (!st) {
        st = scan_tokenizer(unigram, text, bytes, err);
        if (st) st = oct_wrap(err, st, "'%s'", tokenizer_json);
    }
    if (st) {
        oct_unigram_deinit(unigram);
        return oct_wrap(err, st, "cannot load the tokenizer");
    }
    return OCT_OK;
}

void oct_unigram_deinit(oct_unigram *unigram)
{
    oct_arena_deinit(&unigram->arena);
    *unigram = (oct_unigram){0};
}

// --- a growing text ---

typedef struct buffer {
    char *data;
    size_t bytes, capacity;
} buffer;

static oct_status append(buffer *b, const char *text, size_t bytes, oct_err *err)
{
    if (bytes > TEXT_BYTES_MAX - b->bytes)
        return oct_fail(err, OCT_EFORMAT, "the text grows beyond %zu bytes", TEXT_BYTES_MAX);
    if (b->bytes + bytes > b->capacity) {
        const size_t capacity = 2 * (b->bytes + bytes) + 64;
        char *data = realloc(b->data, capacity);
        if (!data) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu bytes", capacity);
        b->data = data;
        b->capacity = capacity;
    }
    memcpy(b->data + b->bytes, text, bytes);
    b->bytes += bytes;
    return OCT_OK;
}

// --- the character map ---

// The longest key of the trie at `text`: its bytes, 0 for none, and its replacement. A unit holds a
// label (low byte), an offset (from bit 10, times 256 with bit 9) and whether a key ends (bit 8).
static size_t match_map(const model *m, const char *text, size_t bytes, const char **replacement)
{
    size_t longest = 0;
    uint64_t at = 0;
    uint32_t unit = read_u32(m->units);

    at ^= (uint64_t)(unit >> 10) << ((unit & 0x200) >> 6);
    for (size_t i = 0; i < bytes; i++) {
        at ^= (uint8_t)text[i];
        if (at >= m->n_units) break;
        unit = read_u32(m->units + 4 * at);
        if ((unit & 0x800000ffu) != (uint8_t)text[i]) break;
        at ^= (uint64_t)(unit >> 10) << ((unit & 0x200) >> 6);
        if (!(unit >> 8 & 1)) continue;
        if (at >= m->n_units) break;
        const uint32_t value = read_u32(m->units + 4 * at) & 0x7fffffffu;
        if (value >= m->pool_bytes) break;
        longest = i + 1;
        *replacement = m->pool + value;
    }
    return longest;
}

static oct_status fail_map(oct_err *err)
{
    return oct_fail(err, OCT_EFORMAT, "the tokenizer's character map yields invalid UTF-8");
}

static oct_status map_characters(const model *m, const char *text, size_t bytes, buffer *out,
                                 oct_err *err)
{
    if (!m->units) return append(out, text, bytes, err);
    for (size_t at = 0; at < bytes;) {
        const char *replacement = NULL;
        uint32_t code = 0;
        size_t length = match_map(m, text + at, bytes - at, &replacement);
        if (!replacement) length = oct_utf8_decode(text + at, bytes - at, &code);
        if (length == 0) return fail_map(err);  // behind a key that ends inside a character
        const oct_status st = append(out, replacement ? replacement : text + at,
                                     replacement ? strlen(replacement) : length, err);
        if (st) return st;
        at += length;
    }
    return oct_utf8_is_valid(out->data, out->bytes) ? OCT_OK : fail_map(err);
}

// --- words ---

// Bytes of white space that `text` begins with.
static size_t leading_space(const char *text, size_t bytes)
{
    size_t at = 0, length = 0;
    uint32_t code = 0;

    while ((length = oct_utf8_decode(text + at, bytes - at, &code)) > 0) {
        if (!oct_unicode_is_space(code)) break;
        at += length;
    }
    return at;
}

// `bytes` without the white space that `text` ends with.
static size_t without_trailing_space(const char *text, size_t bytes)
{
    while (bytes > 0) {
        size_t start = bytes - 1;
        uint32_t code = 0;
        while (start > 0 && ((uint8_t)text[start] & 0xc0) == 0x80) start--;
        oct_utf8_decode(text + start, bytes - start, &code);
        if (!oct_unicode_is_space(code)) break;
        bytes = start;
    }
    return bytes;
}

static bool begins_with_mark(const char *text, size_t bytes)
{
    return bytes >= SPACE_MARK_BYTES && memcmp(text, SPACE_MARK, SPACE_MARK_BYTES) == 0;
}

// Bytes at `text` that stand for one mark: 0 when it does not begin with a space.
static size_t space_bytes(const model *m, const char *text, size_t bytes)
{
    size_t n = 0;

    if (m->splits_at_space) return leading_space(text, bytes);
    while (n < bytes && text[n] == ' ' && (n == 0 || m->collapses_spaces)) n++;
    return n;
}

// Spaces become marks. `is_first`: the stretch begins where the whole text does.
static oct_status mark_spaces(const model *m, const char *text, size_t bytes, bool is_first,
                              buffer *out, oct_err *err)
{
    bool needs_mark = m->prefix == PREFIX_ALWAYS || (m->prefix == PREFIX_FIRST && is_first);
    oct_status st = OCT_OK;

    for (size_t at = 0; !st && at < bytes;) {
        uint32_t code = 0;
        const size_t spaces = space_bytes(m, text + at, bytes - at);
        at += spaces;
        if (at == bytes && m->splits_at_space) break;
        const bool has_mark = begins_with_mark(text + at, bytes - at);
        const bool is_split = spaces > 0 && m->splits_at_space;
        if (is_split ? !has_mark : spaces > 0 || (needs_mark && !has_mark))
            st = append(out, SPACE_MARK, SPACE_MARK_BYTES, err);
        needs_mark = false;
        if (st || spaces > 0) continue;
        const size_t length = oct_utf8_decode(text + at, bytes - at, &code);
        st = append(out, text + at, length, err);
        at += length;
    }
    return st;
}

// --- the best path ---

typedef struct node {  // the best way to reach a byte
    double score;
    size_t from;  // of its last piece
    int32_t id;   // of its last piece; -1: not reached
} node;

typedef struct encoder {
    const oct_unigram *unigram;
    node *nodes;
    size_t n_nodes;
    int32_t *ids;
    size_t n_ids, ids_max;  // those beyond ids_max are only counted
} encoder;

static void push_id(encoder *e, int32_t id)
{
    if (e->n_ids < e->ids_max) e->ids[e->n_ids] = id;
    e->n_ids++;
}

static void offer(encoder *e, size_t from, size_t to, double score, int32_t id)
{
    node *target = &e->nodes[to];
    const double candidate = e->nodes[from].score + score;
    if (target->id >= 0 && candidate <= target->score) return;
    *target = (node){.score = candidate, .from = from, .id = id};
}

static void offer_pieces(encoder *e, const char *word, size_t bytes, size_t from)
{
    const model *m = e->unigram->model;
    walk w = {.pieces = &m->vocabulary, .last = m->vocabulary.n};
    const piece *whole = NULL;
    bool has_character = false;
    uint32_t code = 0;

    const size_t character = oct_utf8_decode(word + from, bytes - from, &code);
    for (size_t at = from; at < bytes && walk_on(&w, (uint8_t)word[at], &whole); at++) {
        if (!whole) continue;
        offer(e, from, at + 1, whole->score, whole->id);
        if (whole->bytes == character) has_character = true;
    }
    if (!has_character)
        offer(e, from, from + character, m->score_min - UNKNOWN_PENALTY, e->unigram->unknown_id);
}

// Turn the path around: afterwards nodes[i].from is where the piece from i ends.
static void reverse_path(encoder *e, size_t bytes)
{
    size_t at = bytes, next = bytes;
    int32_t id = -1;

    while (at > 0) {
        const node here = e->nodes[at];
        e->nodes[at] = (node){.from = next, .id = id};
        next = at;
        id = here.id;
        at = here.from;
    }
    e->nodes[0] = (node){.from = next, .id = id};
}

static oct_status encode_word(encoder *e, const char *word, size_t bytes, oct_err *err)
{
    const int32_t unknown = e->unigram->unknown_id;
    bool is_after_unknown = false;

    if (bytes + 1 > e->n_nodes) {
        node *nodes = realloc(e->nodes, (bytes + 1) * sizeof *nodes);
        if (!nodes)
            return oct_fail(err, OCT_ENOMEM, "out of memory for a word of %zu bytes", bytes);
        e->nodes = nodes;
        e->n_nodes = bytes + 1;
    }
    for (size_t i = 0; i <= bytes; i++) e->nodes[i] = (node){.id = -1};
    e->nodes[0].id = 0;
    for (size_t at = 0, length = 0; at < bytes; at += length) {
        uint32_t code = 0;
        length = oct_utf8_decode(word + at, bytes - at, &code);
        offer_pieces(e, word, bytes, at);
    }
    reverse_path(e, bytes);
    for (size_t at = 0; at < bytes; at = e->nodes[at].from) {
        const int32_t id = e->nodes[at].id;
        if (id != unknown || !is_after_unknown) push_id(e, id);
        is_after_unknown = id == unknown;
    }
    return OCT_OK;
}

// Words begin at marks.
static oct_status encode_words(encoder *e, const char *text, size_t bytes, oct_err *err)
{
    size_t start = 0;

    for (size_t at = 1; at <= bytes; at++) {
        if (at < bytes && !begins_with_mark(text + at, bytes - at)) continue;
        const oct_status st = encode_word(e, text + start, at - start, err);
        if (st) return st;
        start = at;
    }
    return OCT_OK;
}

// A stretch of text between added tokens.
static oct_status encode_stretch(encoder *e, const char *text, size_t bytes, bool is_first,
                                 oct_err *err)
{
    const model *m = e->unigram->model;
    buffer mapped = {0}, marked = {0};

    if (bytes == 0) return OCT_OK;
    oct_status st = map_characters(m, text, bytes, &mapped, err);
    if (!st && mapped.bytes > 0) {
        const char *kept = mapped.data;
        size_t kept_bytes = mapped.bytes;
        if (m->strips_right) kept_bytes = without_trailing_space(kept, kept_bytes);
        const size_t left = m->strips_left ? leading_space(kept, kept_bytes) : 0;
        st = mark_spaces(m, kept + left, kept_bytes - left, is_first, &marked, err);
    }
    if (!st) st = encode_words(e, marked.data, marked.bytes, err);
    free(mapped.data);
    free(marked.data);
    return st;
}

// The longest added token that `text` begins with, or NULL.
static const piece *match_added(const model *m, const char *text, size_t bytes)
{
    walk w = {.pieces = &m->added, .last = m->added.n};
    const piece *whole = NULL, *longest = NULL;

    for (size_t at = 0; at < bytes && walk_on(&w, (uint8_t)text[at], &whole); at++)
        if (whole) longest = whole;
    return longest;
}

static oct_status encode_text(encoder *e, const char *text, size_t bytes, oct_err *err)
{
    size_t start = 0, at = 0;

    while (at < bytes) {
        const piece *added = match_added(e->unigram->model, text + at, bytes - at);
        if (!added) {
            at++;
            continue;
        }
        size_t before = at - start;
        if (added->strips_left) before = without_trailing_space(text + start, before);
        const oct_status st = encode_stretch(e, text + start, before, start == 0, err);
        if (st) return st;
        push_id(e, added->id);
        at += added->bytes;
        if (added->strips_right) at += leading_space(text + at, bytes - at);
        start = at;
    }
    return encode_stretch(e, text + start, bytes - start, start == 0, err);
}

oct_status oct_unigram_encode(const oct_unigram *unigram, const char *text, int32_t *ids,
                              size_t length, size_t *used, oct_err *err)
{
    const size_t bytes = strlen(text);

    assert(length >= 1);
    if (!oct_utf8_is_valid(text, bytes))
        return oct_fail(err, OCT_EFORMAT, "the text is not valid UTF-8");
    encoder e = {.unigram = unigram, .ids = ids, .ids_max = length - 1};
    const oct_status st = encode_text(&e, text, bytes, err);
    free(e.nodes);
    if (st) return st;
    if (used) *used = e.n_ids + 1;
    const size_t kept = e.n_ids < e.ids_max ? e.n_ids : e.ids_max;
    ids[kept] = unigram->end_id;
    for (size_t i = kept + 1; i < length; i++) ids[i] = unigram->pad_id;
    return OCT_OK;
}
