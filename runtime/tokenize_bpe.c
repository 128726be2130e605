// SPDX-License-Identifier: Apache-2.0
//
// Byte-pair encoding with sorted tables. Merging one word keeps the candidate pairs in a heap, so a
// word of a million letters takes no more than n log n steps.
#include "runtime/tokenize_bpe.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/file.h"
#include "common/json.h"
#include "common/json_scan.h"
#include "common/utf8.h"
#include "runtime/unicode.h"

#define FILE_BYTES_MAX (64u << 20)
#define TOKENS_MAX (1u << 20)
#define TOKEN_BYTES_MAX 1024
#define END_OF_WORD "</w>"

// OpenAI's file of 262,144 merges is read up to these, with the vocabulary made from them.
#define CLIP_TOKENS 49408
#define CLIP_MERGES 48894

typedef struct token {
    const char *text;
    size_t bytes;
    int32_t id;
} token;

typedef struct merge {
    int32_t left, right, result;
    uint32_t rank;
} merge;

typedef struct oct_bpe_table {
    token *tokens;  // sorted by text
    size_t n_tokens;
    merge *merges;  // sorted by left, right
    size_t n_merges;
    int32_t byte_ids[2][256];  // of single bytes; [1]: the last of a word
} table;

// --- lookup ---

static int compare_text(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_tokens(const void *a, const void *b)
{
    const token *x = a, *y = b;
    return compare_text(x->text, x->bytes, y->text, y->bytes);
}

static int compare_merges(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

// -1 when there is none.
static int32_t find_token(const table *t, const char *text, size_t bytes)
{
    const token key = {.text = text, .bytes = bytes};
    const token *found = bsearch(&key, t->tokens, t->n_tokens, sizeof key, compare_tokens);
    return found ? found->id : -1;
}

static const merge *find_merge(const table *t, int32_t left, int32_t right)
{
    const merge key = {.left = left, .right = right};
    return bsearch(&key, t->merges, t->n_merges, sizeof key, compare_merges);
}

// --- vocab.json ---

static oct_status check_token(const oct_json_scan *scan, oct_err *err)
{
    if (scan->value_bytes == 0) return oct_fail(err, OCT_EFORMAT, "a token is empty");
    if (scan->value_bytes > TOKEN_BYTES_MAX)
        return oct_fail(err, OCT_EFORMAT, "a token has %zu bytes, more than %d", scan->value_bytes,
                        TOKEN_BYTES_MAX);
    return OCT_OK;
}

static oct_status scan_entry(table *t, oct_json_scan *scan, oct_err *err)
{
    uint64_t id = 0;

    oct_status st = check_token(scan, err);
    if (st) return st;
    if (t->n_tokens == TOKENS_MAX)
        return oct_fail(err, OCT_EFORMAT, "more than %u tokens", TOKENS_MAX);
    token *added = &t->tokens[t->n_tokens++];
    *added = (token){.text = scan->value, .bytes = scan->value_bytes};
    st = oct_json_scan_expect(scan, OCT_JSON_NUMBER, err);
    if (st) return oct_wrap(err, st, "token '%s'", added->text);
    if (!oct_json_scan_u64(scan, &id) || id >= TOKENS_MAX)
        return oct_fail(err, OCT_EFORMAT, "token '%s' has id %.*s, which is not in 0..%u",
                        added->text, (int)(scan->value_bytes < 40 ? scan->value_bytes : 40),
                        scan->value, TOKENS_MAX - 1);
    added->id = (int32_t)id;
    return OCT_OK;
}

// n different ids below n leave no hole.
static oct_status check_ids(const table *t, oct_arena *arena, oct_err *err)
{
    const token **seen = oct_arena_array(arena, t->n_tokens, sizeof *seen);

    for (size_t i = 0; i < t->n_tokens; i++) {
        const token *one = &t->tokens[i];
        if ((size_t)one->id >= t->n_tokens)
            return oct_fail(err, OCT_EFORMAT, "token '%s' has id %" PRId32 " among %zu tokens",
                            one->text, one->id, t->n_tokens);
        if (seen[one->id])
            return oct_fail(err, OCT_EFORMAT, "tokens '%s' and '%s' both have id %" PRId32,
                            seen[one->id]->text, one->text, one->id);
        seen[one->id] = one;
    }
    return OCT_OK;
}

static oct_status sort_tokens(table *t, oct_err *err)
{
    qsort(t->tokens, t->n_tokens, sizeof *t->tokens, compare_tokens);
    for (size_t i = 1; i < t->n_tokens; i++)
        if (compare_tokens(&t->tokens[i - 1], &t->tokens[i]) == 0)
            return oct_fail(err, OCT_EFORMAT, "token '%s' is given twice", t->tokens[i].text);
    return OCT_OK;
}

static oct_status scan_vocabulary(table *t, const char *text, size_t bytes, oct_arena *arena,
                                  oct_err *err)
{
    oct_json_scan scan = {0};
    oct_json_token kind = OCT_JSON_END;

    // An entry takes at least six bytes: "a":0 and a bracket or comma.
    const size_t capacity = bytes / 6 < TOKENS_MAX ? bytes / 6 : TOKENS_MAX;
    t->tokens = oct_arena_array(arena, capacity + 1, sizeof *t->tokens);
    oct_json_scan_init(&scan, text, bytes, 1, arena);
    oct_status st = oct_json_scan_expect(&scan, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(&scan, &kind, err);
        if (st || kind != OCT_JSON_KEY) break;
        st = scan_entry(t, &scan, err);
    }
    if (!st) st = oct_json_scan_expect(&scan, OCT_JSON_END, err);
    if (!st) st = check_ids(t, arena, err);
    return st ? st : sort_tokens(t, err);
}

static oct_status load_vocabulary(table *t, const char *folder, oct_arena *arena, oct_err *err)
{
    const char *path = oct_path_join(arena, folder, "vocab.json");
    char *text = NULL;
    size_t bytes = 0;

    oct_status st = oct_file_read_text(arena, path, FILE_BYTES_MAX, &text, &bytes, err);
    if (st) return st;
    st = scan_vocabulary(t, text, bytes, arena, err);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

// --- merges.txt ---

static oct_status parse_merge(merge *m, const table *t, const char *line, size_t bytes,
                              oct_err *err)
{
    const char *space = memchr(line, ' ', bytes);
    char joined[2 * TOKEN_BYTES_MAX];

    if (!space || memchr(space + 1, ' ', (size_t)(line + bytes - space - 1)))
        return oct_fail(err, OCT_EFORMAT, "'%.*s' is not two symbols with a space between",
                        (int)(bytes < 60 ? bytes : 60), line);
    const size_t left_bytes = (size_t)(space - line), right_bytes = bytes - left_bytes - 1;
    m->left = find_token(t, line, left_bytes);
    m->right = find_token(t, space + 1, right_bytes);
    if (m->left < 0 || m->right < 0)
        return oct_fail(err, OCT_EFORMAT, "'%.*s' has a symbol that is not in vocab.json",
                        (int)(bytes < 60 ? bytes : 60), line);
    memcpy(joined, line, left_bytes);
    memcpy(joined + left_bytes, space + 1, right_bytes);
    m->result = find_token(t, joined, left_bytes + right_bytes);
    if (m->result < 0)
        return oct_fail(err, OCT_EFORMAT, "the result of '%.*s' is not in vocab.json",
                        (int)(bytes < 60 ? bytes : 60), line);
    return OCT_OK;
}

static size_t count_lines(const char *text, size_t bytes)
{
    size_t lines = 1;
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    return lines;
}

// The line at `*at` without its end; `*at` moves behind it.
static size_t next_line(const char *text, size_t bytes, size_t *at, const char **line)
{
    *line = text + *at;
    const char *end = memchr(*line, '\n', bytes - *at);
    size_t length = end ? (size_t)(end - *line) : bytes - *at;
    *at += length + (end != NULL);
    if (length > 0 && (*line)[length - 1] == '\r') length--;
    return length;
}

static oct_status sort_merges(table *t, oct_err *err)
{
    qsort(t->merges, t->n_merges, sizeof *t->merges, compare_merges);
    for (size_t i = 1; i < t->n_merges; i++)
        if (compare_merges(&t->merges[i - 1], &t->merges[i]) == 0)
            return oct_fail(err, OCT_EFORMAT, "merges %" PRIu32 " and %" PRIu32 " are the same",
                            t->merges[i - 1].rank, t->merges[i].rank);
    return OCT_OK;
}

static oct_status parse_merges(table *t, const char *text, size_t bytes, oct_arena *arena,
                               oct_err *err)
{
    const size_t merges_max = t->n_tokens == CLIP_TOKENS ? CLIP_MERGES : TOKENS_MAX;
    const char *line = NULL;
    size_t at = 0, number = 0;

    if (!oct_utf8_is_valid(text, bytes)) return oct_fail(err, OCT_EFORMAT, "invalid UTF-8");
    t->merges = oct_arena_array(arena, count_lines(text, bytes), sizeof *t->merges);
    while (at < bytes && t->n_merges < merges_max) {
        const size_t length = next_line(text, bytes, &at, &line);
        number++;
        if (number == 1 && length >= 8 && memcmp(line, "#version", 8) == 0) continue;
        if (length == 0 && at == bytes) break;
        merge *m = &t->merges[t->n_merges];
        m->rank = (uint32_t)t->n_merges++;
        const oct_status st = parse_merge(m, t, line, length, err);
        if (st) return oct_wrap(err, st, "line %zu", number);
    }
    return sort_merges(t, err);
}

static oct_status load_merges(table *t, const char *folder, oct_arena *arena, oct_err *err)
{
    const char *path = oct_path_join(arena, folder, "merges.txt");
    char *text = NULL;
    size_t bytes = 0;

    oct_status st = oct_file_read_text(arena, path, FILE_BYTES_MAX, &text, &bytes, err);
    if (st) return st;
    st = parse_merges(t, text, bytes, arena, err);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

// --- special tokens ---

static oct_status find_special(const table *t, const char *name, int32_t *id, oct_err *err)
{
    *id = find_token(t, name, strlen(name));
    if (*id < 0) return oct_fail(err, OCT_EFORMAT, "vocab.json has no token '%s'", name);
    return OCT_OK;
}

// *name: the "pad_token" of a JSON file, in the arena; left as it is when file or key is absent.
static oct_status read_pad_token(oct_arena *arena, const char *path, const char **name,
                                 oct_err *err)
{
    cJSON *root = NULL;
    const char *text = NULL;

    if (!oct_path_exists(path)) return OCT_OK;
    oct_status st = oct_json_load(path, &root, err);
    if (st) return st;
    const cJSON *pad = cJSON_GetObjectItemCaseSensitive(root, "pad_token");
    if (cJSON_IsObject(pad)) {
        st = oct_json_text(pad, "content", &text, err);
    } else if (pad && !cJSON_IsNull(pad)) {
        st = oct_json_text(root, "pad_token", &text, err);
    }
    if (st) st = oct_wrap(err, st, "'%s'", path);
    if (text) *name = oct_arena_copy(arena, text);
    cJSON_Delete(root);
    return st;
}

static oct_status find_pad(oct_bpe *bpe, const char *folder, oct_err *err)
{
    static const char *const files[] = {"special_tokens_map.json", "tokenizer_config.json"};
    const char *name = NULL;

    bpe->pad_id = bpe->end_id;
    for (size_t i = 0; i < 2 && !name; i++) {
        const char *path = oct_path_join(&bpe->arena, folder, files[i]);
        const oct_status st = read_pad_token(&bpe->arena, path, &name, err);
        if (st) return st;
    }
    bpe->pad_text = name;
    return name ? find_special(bpe->table, name, &bpe->pad_id, err) : OCT_OK;
}

// --- bytes as symbols ---

// The character that stands for a byte: printable ones for themselves, the others from U+0100 on.
static void fill_byte_codes(uint32_t codes[256])
{
    uint32_t next = 0x100;

    for (uint32_t byte = 0; byte < 256; byte++) {
        const bool is_printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        codes[byte] = is_printable ? byte : next++;
    }
}

// A byte without a token of its own becomes the unknown token, which is the end token here.
static void fill_byte_ids(table *t, int32_t unknown_id)
{
    uint32_t codes[256];

    fill_byte_codes(codes);
    for (size_t byte = 0; byte < 256; byte++) {
        char text[4 + sizeof END_OF_WORD];
        const size_t bytes = oct_utf8_encode(codes[byte], text);
        memcpy(text + bytes, END_OF_WORD, sizeof END_OF_WORD);
        const int32_t inside = find_token(t, text, bytes);
        const int32_t last = find_token(t, text, strlen(text));
        t->byte_ids[0][byte] = inside < 0 ? unknown_id : inside;
        t->byte_ids[1][byte] = last < 0 ? unknown_id : last;
    }
}

oct_status oct_bpe_load(oct_bpe *bpe, const char *folder, oct_err *err)
{
    *bpe = (oct_bpe){0};
    table *t = bpe->table = oct_arena_alloc(&bpe->arena, sizeof *bpe->table);

    oct_status st = load_vocabulary(t, folder, &bpe->arena, err);
    if (!st) st = find_special(t, "<|startoftext|>", &bpe->start_id, err);
    if (!st) st = find_special(t, "<|endoftext|>", &bpe->end_id, err);
    if (!st) st = load_merges(t, folder, &bpe->arena, err);
    if (!st) st = find_pad(bpe, folder, err);
    if (st) {
        oct_bpe_deinit(bpe);
        return oct_wrap(err, st, "cannot load the tokenizer in '%s'", folder);
    }
    fill_byte_ids(t, bpe->end_id);
    return OCT_OK;
}

void oct_bpe_deinit(oct_bpe *bpe)
{
    oct_arena_deinit(&bpe->arena);
    *bpe = (oct_bpe){0};
}

// --- merging one word ---

typedef struct symbol {
    int32_t id;              // -1: merged into the one before
    int32_t previous, next;  // -1: none
} symbol;

typedef struct candidate {
    uint32_t rank;
    int32_t at;  // the left symbol
    int32_t result;
} candidate;

typedef struct encoder {
    const oct_bpe *bpe;
    symbol *symbols;  // of the current word
    candidate *heap;  // lowest rank, then leftmost, first
    size_t n_heap;
    int32_t *ids;
    size_t n_ids, ids_max;  // those beyond ids_max are only counted
} encoder;

static bool is_before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push_candidate(encoder *e, candidate added)
{
    size_t i = e->n_heap++;
    for (; i > 0 && is_before(&added, &e->heap[(i - 1) / 2]); i = (i - 1) / 2)
        e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = added;
}

static candidate pop_candidate(encoder *e)
{
    const candidate top = e->heap[0], last = e->heap[--e->n_heap];
    size_t i = 0;

    for (size_t child = 1; child < e->n_heap; child = 2 * i + 1) {
        if (child + 1 < e->n_heap && is_before(&e->heap[child + 1], &e->heap[child])) child++;
        if (!is_before(&e->heap[child], &last)) break;
        e->heap[i] = e->heap[child];
        i = child;
    }
    e->heap[i] = last;
    return top;
}

static const merge *merge_at(const encoder *e, int32_t at)
{
    const symbol *left = &e->symbols[at];
    if (left->id < 0 || left->next < 0) return NULL;
    return find_merge(e->bpe->table, left->id, e->symbols[left->next].id);
}

static void push_pair(encoder *e, int32_t at)
{
    const merge *m = at < 0 ? NULL : merge_at(e, at);
    if (m) push_candidate(e, (candidate){.rank = m->rank, .at = at, .result = m->result});
}

static void merge_pair(encoder *e, int32_t at, int32_t result)
{
    symbol *left = &e->symbols[at], *right = &e->symbols[left->next];

    left->id = result;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0) e->symbols[left->next].previous = at;
    push_pair(e, left->previous);
    push_pair(e, at);
}

static void push_id(encoder *e, int32_t id)
{
    if (e->n_ids < e->ids_max) e->ids[e->n_ids] = id;
    e->n_ids++;
}

static void encode_word(encoder *e, const char *word, size_t bytes)
{
    const int32_t n = (int32_t)bytes;

    for (int32_t i = 0; i < n; i++)
        e->symbols[i] = (symbol){.id = e->bpe->table->byte_ids[i == n - 1][(uint8_t)word[i]],
                                 .previous = i - 1,
                                 .next = i == n - 1 ? -1 : i + 1};
    for (int32_t i = 0; i < n; i++) push_pair(e, i);
    while (e->n_heap > 0) {
        const candidate best = pop_candidate(e);
        const merge *m = merge_at(e, best.at);
        if (m && m->result == best.result) merge_pair(e, best.at, best.result);
    }
    for (int32_t i = 0; i >= 0; i = e->symbols[i].next) push_id(e, e->symbols[i].id);
}

// --- words ---

static size_t match(const char *text, const char *literal)
{
    const size_t bytes = strlen(literal);
    return strncmp(text, literal, bytes) == 0 ? bytes : 0;
}

// A special token typed in the text; 0 bytes when there is none.
static size_t match_special(const oct_bpe *bpe, const char *text, int32_t *id)
{
    size_t bytes = match(text, "<|startoftext|>");
    *id = bpe->start_id;
    if (bytes > 0) return bytes;
    bytes = match(text, "<|endoftext|>");
    *id = bpe->end_id;
    if (bytes > 0 || !bpe->pad_text) return bytes;
    *id = bpe->pad_id;
    return match(text, bpe->pad_text);
}

static size_t match_contraction(const char *text)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (match(text, endings[i])) return strlen(endings[i]);
    return 0;
}

typedef enum kind { KIND_SPACE, KIND_LETTER, KIND_NUMBER, KIND_OTHER } kind;

static kind kind_of(const char *text, size_t bytes, size_t *length)
{
    uint32_t code = 0;

    *length = oct_utf8_decode(text, bytes, &code);
    assert(*length > 0);
    if (oct_unicode_is_space(code)) return KIND_SPACE;
    if (oct_unicode_is_letter(code)) return KIND_LETTER;
    return oct_unicode_is_number(code) ? KIND_NUMBER : KIND_OTHER;
}

// Bytes of the word that begins at `text`: letters, one number, or characters of neither kind, up
// to a special token.
static size_t word_bytes(const oct_bpe *bpe, const char *text, size_t bytes, kind first)
{
    size_t at = 0, length = 0;
    int32_t id = 0;

    while (at < bytes && kind_of(text + at, bytes - at, &length) == first) {
        if (at > 0 && match_special(bpe, text + at, &id)) break;
        at += length;
        if (first == KIND_NUMBER) break;
    }
    return at;
}

static void encode_words(encoder *e, const char *text, size_t bytes)
{
    for (size_t at = 0, length = 0; at < bytes; at += length) {
        int32_t id = 0;
        length = match_special(e->bpe, text + at, &id);
        if (length > 0) {
            push_id(e, id);
            continue;
        }
        const kind first = kind_of(text + at, bytes - at, &length);
        if (first == KIND_SPACE) continue;
        length = match_contraction(text + at);
        if (length == 0) length = word_bytes(e->bpe, text + at, bytes - at, first);
        encode_word(e, text + at, length);
    }
}

// --- normalization ---

// Lower case, code point by code point. The full mapping differs from the simple one in one place.
static size_t lower_code(uint32_t code, char out[8])
{
    if (code != 0x130) return oct_utf8_encode((uint32_t)utf8proc_tolower((int32_t)code), out);
    out[0] = 'i';
    return 1 + oct_utf8_encode(0x307, out + 1);
}

// NFC, then lower case: malloc'ed, NUL-terminated.
static oct_status normalize(const char *text, char **lower, size_t *bytes, oct_err *err)
{
    utf8proc_uint8_t *composed = NULL;

    if (!oct_utf8_is_valid(text, strlen(text)))
        return oct_fail(err, OCT_EFORMAT, "the text is not valid UTF-8");
    const utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, 0, &composed,
                                            UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0) return oct_fail(err, OCT_ENOMEM, "cannot compose the text: %s", utf8proc_errmsg(n));

    // No code point's lower case takes more than three times its bytes.
    char *out = malloc(3 * (size_t)n + 8);
    if (!out) {
        free(composed);
        return oct_fail(err, OCT_ENOMEM, "out of memory for a text of %zd bytes", (ssize_t)n);
    }
    *bytes = 0;
    for (size_t at = 0; at < (size_t)n;) {
        uint32_t code = 0;
        at += oct_utf8_decode((const char *)composed + at, (size_t)n - at, &code);
        *bytes += lower_code(code, out + *bytes);
    }
    out[*bytes] = 0;
    *lower = out;
    free(composed);
    return OCT_OK;
}

oct_status oct_bpe_encode(const oct_bpe *bpe, const char *text, int32_t pad, int32_t *ids,
                          size_t length, size_t *used, oct_err *err)
{
    char *lower = NULL;
    size_t bytes = 0;

    assert(length >= 2);
    encoder e = {.bpe = bpe, .ids = ids, .n_ids = 1, .ids_max = length - 1};
    oct_status st = normalize(text, &lower, &bytes, err);
    if (st) return st;

    // A word of n symbols has n - 1 pairs, and each of its merges adds at most two.
    e.symbols = malloc((bytes + 1) * sizeof *e.symbols);
    e.heap = malloc((3 * bytes + 1) * sizeof *e.heap);
    if (!e.symbols || !e.heap || bytes > INT32_MAX) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for a text of %zu bytes", bytes);
        goto out;
    }
    ids[0] = bpe->start_id;
    encode_words(&e, lower, bytes);
    if (used) *used = e.n_ids + 1;
    const size_t kept = e.n_ids < e.ids_max ? e.n_ids : e.ids_max;
    ids[kept] = bpe->end_id;
    for (size_t i = kept + 1; i < length; i++) ids[i] = pad;

out:
    free(e.symbols);
    free(e.heap);
    free(lower);
    return st;
}
