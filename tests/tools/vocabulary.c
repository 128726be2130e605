// SPDX-License-Identifier: Apache-2.0
//
// Small tokenizers of our own.
#include "tests/tools/vocabulary.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/json.h"
#include "common/utf8.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define END_OF_WORD "</w>"
#define WORD_BYTES 16
#define MERGES_MAX 512

// clang-format off
static const char *const words[] = {
    "a", "the", "of", "and", "in", "on", "with", "at", "to", "for", "from", "by", "an", "is",
    "photo", "painting", "portrait", "picture", "style", "light", "color", "detailed", "scene",
    "cat", "dog", "horse", "bird", "fish", "tree", "house", "car", "city", "mountain", "river",
    "sea", "sky", "sun", "moon", "star", "flower", "garden", "street", "bridge", "boat",
    "man", "woman", "child", "face", "hand", "eye", "hat", "sign", "book", "chair", "table",
    "red", "green", "blue", "yellow", "black", "white", "golden", "dark", "bright", "small",
    "large", "old", "new", "wooden", "glass", "stone", "night", "day", "morning", "winter",
    "summer", "holding", "sitting", "standing", "running", "says", "hello", "world",
};
// clang-format on

static oct_status write_text(const char *folder, const char *name, const char *text, oct_err *err)
{
    oct_arena arena = {0};
    const oct_status st =
        oct_file_write(oct_path_join(&arena, folder, name), text, strlen(text), err);

    oct_arena_deinit(&arena);
    return st;
}

// Takes `root` over.
static oct_status write_json(const char *folder, const char *name, cJSON *root, oct_err *err)
{
    char *text = oct_json_print(root);
    const oct_status st = write_text(folder, name, text, err);

    free(text);
    cJSON_Delete(root);
    return st;
}

// CLIP: merges chain each word from its left, "c a", "ca t</w>".

typedef struct merge {
    char left[WORD_BYTES], right[WORD_BYTES];
} merge;

static bool has_merge(const merge *merges, size_t count, const merge *m)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(merges[i].left, m->left) == 0 && strcmp(merges[i].right, m->right) == 0) {
            return true;
        }
    }
    return false;
}

static size_t list_merges(merge merges[MERGES_MAX])
{
    size_t count = 0;

    for (size_t w = 0; w < COUNT(words); w++) {
        const size_t length = strlen(words[w]);
        for (size_t i = 1; i < length; i++) {
            merge m = {0};
            memcpy(m.left, words[w], i);
            m.right[0] = words[w][i];
            if (i + 1 == length) strcat(m.right, END_OF_WORD);
            if (count < MERGES_MAX && !has_merge(merges, count, &m)) merges[count++] = m;
        }
    }
    return count;
}

size_t oct_vocabulary_clip_size(void)
{
    merge merges[MERGES_MAX];

    return 2 * 256 + list_merges(merges) + 2;
}

static bool is_own_symbol(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// The symbols of the 256 bytes in the order of their ids: bytes that print stand for themselves,
// the others for U+0100 and up.
static void list_byte_symbols(char symbols[256][8])
{
    unsigned id = 0, other = 0;

    memset(symbols, 0, 256 * 8);
    for (unsigned byte = 0; byte < 256; byte++) {
        if (is_own_symbol(byte)) oct_utf8_encode(byte, symbols[id++]);
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        if (!is_own_symbol(byte)) oct_utf8_encode(256 + other++, symbols[id++]);
    }
}

static cJSON *make_clip_vocabulary(oct_arena *arena, const merge *merges, size_t n_merges)
{
    cJSON *root = cJSON_CreateObject();
    char symbols[256][8];
    int id = 0;

    list_byte_symbols(symbols);
    for (size_t i = 0; i < 256; i++) {
        cJSON_AddNumberToObject(root, symbols[i], id++);
    }
    for (size_t i = 0; i < 256; i++) {
        cJSON_AddNumberToObject(root, oct_arena_print(arena, "%s" END_OF_WORD, symbols[i]), id++);
    }
    for (size_t i = 0; i < n_merges; i++) {
        const char *whole = oct_arena_print(arena, "%s%s", merges[i].left, merges[i].right);
        cJSON_AddNumberToObject(root, whole, id++);
    }
    cJSON_AddNumberToObject(root, "<|startoftext|>", id++);
    cJSON_AddNumberToObject(root, "<|endoftext|>", id++);
    return root;
}

static const char *print_merges(oct_arena *arena, const merge *merges, size_t n_merges)
{
    const size_t bytes = 64 + n_merges * 2 * WORD_BYTES;
    char *text = oct_arena_alloc(arena, bytes);
    size_t at = (size_t)snprintf(text, bytes, "#version: 0.2\n");

    for (size_t i = 0; i < n_merges; i++) {
        at += (size_t)snprintf(text + at, bytes - at, "%s %s\n", merges[i].left, merges[i].right);
    }
    return text;
}

static cJSON *make_special_tokens(const char *pad)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "bos_token", "<|startoftext|>");
    cJSON_AddStringToObject(root, "eos_token", "<|endoftext|>");
    cJSON_AddStringToObject(root, "pad_token", pad);
    cJSON_AddStringToObject(root, "unk_token", "<|endoftext|>");
    return root;
}

oct_status oct_vocabulary_write_clip(const char *folder, const char *pad, oct_err *err)
{
    oct_arena arena = {0};
    merge merges[MERGES_MAX];
    const size_t n = list_merges(merges);
    cJSON *config = make_special_tokens(pad);

    cJSON_AddStringToObject(config, "tokenizer_class", "CLIPTokenizer");
    cJSON_AddNumberToObject(config, "model_max_length", 77);
    cJSON_AddBoolToObject(config, "do_lower_case", true);
    cJSON_AddBoolToObject(config, "add_prefix_space", false);
    oct_status st = write_json(folder, "tokenizer_config.json", config, err);
    if (st) goto out;
    st = write_json(folder, "special_tokens_map.json", make_special_tokens(pad), err);
    if (st) goto out;
    st = write_json(folder, "vocab.json", make_clip_vocabulary(&arena, merges, n), err);
    if (st) goto out;
    st = write_text(folder, "merges.txt", print_merges(&arena, merges, n), err);

out:
    oct_arena_deinit(&arena);
    return st;
}

// T5: single characters, words with their space, and a few endings.

#define SPACE "\xe2\x96\x81"  // U+2581

static const char *const specials[] = {"<pad>", "</s>", "<unk>"};
static const char *const endings[] = {"ing", "ed", "er", "ly", "es", "th", "en"};
static const char *const extras[] = {"<extra_id_3>", "<extra_id_2>", "<extra_id_1>",
                                     "<extra_id_0>"};

#define PRINTABLE ('~' - '!' + 1)
#define PIECES (COUNT(specials) + 1 + PRINTABLE + COUNT(words) + COUNT(endings) + COUNT(extras))

size_t oct_vocabulary_t5_size(void)
{
    return (PIECES + 31) / 32 * 32;
}

static void add_piece(cJSON *pieces, const char *text, double score)
{
    cJSON *pair = cJSON_CreateArray();

    cJSON_AddItemToArray(pair, cJSON_CreateString(text));
    cJSON_AddItemToArray(pair, cJSON_CreateNumber(score));
    cJSON_AddItemToArray(pieces, pair);
}

static cJSON *make_pieces(oct_arena *arena)
{
    cJSON *pieces = cJSON_CreateArray();

    for (size_t i = 0; i < COUNT(specials); i++) {
        add_piece(pieces, specials[i], 0);
    }
    add_piece(pieces, SPACE, -2);
    for (size_t i = 0; i < COUNT(words); i++) {
        add_piece(pieces, oct_arena_print(arena, SPACE "%s", words[i]), -4 - (double)i / 32);
    }
    for (size_t i = 0; i < COUNT(endings); i++) {
        add_piece(pieces, endings[i], -7 - (double)i / 32);
    }
    for (char c = '!'; c <= '~'; c++) {
        add_piece(pieces, (char[]){c, '\0'}, -8 - (double)(c - '!') / 64);
    }
    for (size_t i = 0; i < COUNT(extras); i++) {
        add_piece(pieces, extras[i], 0);
    }
    return pieces;
}

static void add_added_token(cJSON *list, const char *text, size_t id)
{
    cJSON *token = cJSON_CreateObject();

    cJSON_AddNumberToObject(token, "id", (double)id);
    cJSON_AddStringToObject(token, "content", text);
    cJSON_AddBoolToObject(token, "single_word", false);
    cJSON_AddBoolToObject(token, "lstrip", false);
    cJSON_AddBoolToObject(token, "rstrip", false);
    cJSON_AddBoolToObject(token, "normalized", false);
    cJSON_AddBoolToObject(token, "special", true);
    cJSON_AddItemToArray(list, token);
}

static cJSON *make_added_tokens(void)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < COUNT(specials); i++) {
        add_added_token(list, specials[i], i);
    }
    for (size_t i = 0; i < COUNT(extras); i++) {
        add_added_token(list, extras[i], PIECES - COUNT(extras) + i);
    }
    return list;
}

// The character map of SentencePiece's normalizer: a double array as Darts-clone lays it out, every
// node's children in 256 units of their own, then the texts that replace the keys.

#define MAP_NODES_MAX 32

static const struct {
    const char *key, *value;
} replacements[] = {
    {"\t", " "},
    {"\n", " "},
    {"\r", " "},
    {"\xc2\xa0", " "},
    {"\xe2\x80\xa6", "..."},
    {"\xef\xac\x81", "fi"},
};

typedef struct map_builder {
    uint32_t units[256 * MAP_NODES_MAX];
    uint32_t n_units;
    char pool[64];
    uint32_t pool_bytes;
} map_builder;

// Where the children of unit `at` begin.
static uint32_t find_children(map_builder *map, uint32_t at)
{
    if (map->units[at] >> 10 == 0) {
        map->units[at] |= (at ^ map->n_units) << 10;
        map->n_units += 256;
    }
    return at ^ map->units[at] >> 10;
}

static void map_key(map_builder *map, const char *key, const char *value)
{
    uint32_t at = 0;

    for (const char *c = key; *c; c++) {
        at = find_children(map, at) ^ (uint8_t)*c;
        map->units[at] |= (uint8_t)*c;
    }
    const uint32_t leaf = find_children(map, at);
    map->units[at] |= 1u << 8;
    map->units[leaf] = 1u << 31 | map->pool_bytes;
    strcpy(map->pool + map->pool_bytes, value);
    map->pool_bytes += (uint32_t)strlen(value) + 1;
}

// Base64 of: bytes of the array, the array, the pool; all little-endian, as every supported
// machine.
static const char *make_character_map(oct_arena *arena)
{
    map_builder *map = oct_arena_alloc(arena, sizeof *map);

    map->n_units = 256;
    for (size_t i = 0; i < COUNT(replacements); i++) {
        map_key(map, replacements[i].key, replacements[i].value);
    }
    const uint32_t array_bytes = map->n_units * 4;
    const uint32_t bytes = 4 + array_bytes + map->pool_bytes;
    uint8_t *raw = oct_arena_alloc(arena, bytes);
    memcpy(raw, &array_bytes, 4);
    memcpy(raw + 4, map->units, array_bytes);
    memcpy(raw + 4 + array_bytes, map->pool, map->pool_bytes);
    uint8_t *text = oct_arena_alloc(arena, (size_t)bytes / 3 * 4 + 8);
    EVP_EncodeBlock(text, raw, (int)bytes);
    return (const char *)text;
}

// %s: the character map.
static const char pipeline_text[] =
    "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
    "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"%s\"},"
    "{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true},"
    "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \"" SPACE "\"}]},"
    "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" SPACE "\","
    "\"add_prefix_space\": true, \"prepend_scheme\": \"first\"},"
    "\"post_processor\": {\"type\": \"TemplateProcessing\","
    "\"single\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
    "{\"SpecialToken\": {\"id\": \"</s>\", \"type_id\": 0}}],"
    "\"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
    "{\"SpecialToken\": {\"id\": \"</s>\", \"type_id\": 0}},"
    "{\"Sequence\": {\"id\": \"B\", \"type_id\": 0}},"
    "{\"SpecialToken\": {\"id\": \"</s>\", \"type_id\": 0}}],"
    "\"special_tokens\": {\"</s>\": {\"id\": \"</s>\", \"ids\": [1], \"tokens\": [\"</s>\"]}}},"
    "\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"" SPACE "\","
    "\"add_prefix_space\": true, \"prepend_scheme\": \"first\"}}";

static cJSON *make_unigram(oct_arena *arena)
{
    cJSON *stages = cJSON_Parse(oct_arena_print(arena, pipeline_text, make_character_map(arena)));
    cJSON *root = cJSON_CreateObject(), *model = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "version", "1.0");
    cJSON_AddNullToObject(root, "truncation");
    cJSON_AddNullToObject(root, "padding");
    cJSON_AddItemToObject(root, "added_tokens", make_added_tokens());
    while (stages->child) {
        cJSON *stage = cJSON_DetachItemViaPointer(stages, stages->child);
        cJSON_AddItemToObject(root, stage->string, stage);
    }
    cJSON_Delete(stages);
    cJSON_AddStringToObject(model, "type", "Unigram");
    cJSON_AddNumberToObject(model, "unk_id", 2);
    cJSON_AddItemToObject(model, "vocab", make_pieces(arena));
    cJSON_AddBoolToObject(model, "byte_fallback", false);
    cJSON_AddItemToObject(root, "model", model);
    return root;
}

static cJSON *make_t5_config(void)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "tokenizer_class", "T5Tokenizer");
    cJSON_AddNumberToObject(root, "model_max_length", 512);
    cJSON_AddStringToObject(root, "eos_token", "</s>");
    cJSON_AddStringToObject(root, "pad_token", "<pad>");
    cJSON_AddStringToObject(root, "unk_token", "<unk>");
    cJSON_AddNumberToObject(root, "extra_ids", COUNT(extras));
    cJSON_AddItemToObject(root, "additional_special_tokens",
                          cJSON_CreateStringArray(extras, COUNT(extras)));
    return root;
}

oct_status oct_vocabulary_write_t5(const char *folder, oct_err *err)
{
    oct_arena arena = {0};

    oct_status st = write_json(folder, "tokenizer.json", make_unigram(&arena), err);
    if (!st) st = write_json(folder, "tokenizer_config.json", make_t5_config(), err);
    oct_arena_deinit(&arena);
    return st;
}
