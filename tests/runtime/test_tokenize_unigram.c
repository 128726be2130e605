// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/tokenize_unigram.c: T5's real vocabulary where it is at hand, else small ones.
#include <stdlib.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/file.h"
#include "runtime/tokenize_unigram.h"
#include "tests/test.h"

#define T5_FILE "../shared/tokenizers/t5/tokenizer.json"

// clang-format off
static const struct { const char *text; size_t n; int32_t ids[24]; } known[] = {
    {"", 1, {1}},
    {"a photo of a cat", 8, {3, 9, 1202, 13, 3, 9, 1712, 1}},
    {"A cat holding a sign that says hello world", 11, {71, 1712, 3609, 3, 9, 1320, 24, 845, 21820, 296, 1}},
    {"An astronaut riding a horse on Mars, 8k, ultra-detailed!", 19, {389, 30059, 7494, 3, 9, 4952, 30, 11856, 6, 505, 157, 6, 6173, 18, 221, 17, 10990, 55, 1}},
    {"it's 3:45pm; they're done -- don't stop", 18, {34, 31, 7, 220, 10, 2128, 2028, 117, 79, 31, 60, 612, 1636, 278, 31, 17, 1190, 1}},
    {"cute wallpaper art of a cat", 8, {5295, 7045, 768, 13, 3, 9, 1712, 1}},
    {"  leading and   multiple   spaces  ", 5, {1374, 11, 1317, 4856, 1}},
    {"tabs\tand\nnewlines", 6, {3808, 7, 11, 126, 6972, 1}},
    {"Café in Ångström, ½ price", 12, {18131, 16, 3, 2, 1725, 30476, 6, 209, 2, 357, 594, 1}},
    {"ﬁne ＦＵＬＬ width", 4, {1399, 27645, 9400, 1}},
    {"東京の夜景", 3, {3, 2, 1}},
    {"emoji 😀🚀 cat", 8, {3, 15, 51, 21892, 3, 2, 1712, 1}},
    {"Привет, мир", 10, {3, 2, 14709, 6609, 15042, 6, 3, 21325, 8452, 1}},
    {"a close-up portrait of a woman, 35mm, f/1.8, bokeh", 24, {3, 9, 885, 18, 413, 7956, 13, 3, 9, 2335, 6, 3097, 635, 6, 3, 89, 87, 16253, 6, 3, 22483, 15, 107, 1}},
    {"CAPS AND snake_case C++ #tag @me", 13, {205, 28231, 3430, 17599, 834, 6701, 205, 16702, 1713, 2408, 3320, 526, 1}},
    {"translate English to German: The house is wonderful.", 11, {13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5, 1}},
    // What the fast tokenizer of Hugging Face gives.
    {"</s>hello", 4, {1, 107, 7126, 1}},
    {"a</s> hello", 5, {3, 9, 1, 21820, 1}},
    {"hello </s>", 3, {21820, 1, 1}},
    {"</s>", 2, {1, 1}},
    {"  a", 3, {3, 9, 1}},
    {"a \xe2\x96\x81" "b", 5, {3, 9, 3, 115, 1}},
    {"\xe2\x96\x81", 1, {1}},
    {"x <extra_id_0> y", 6, {3, 226, 32099, 3, 63, 1}},
    {"<unk>a", 3, {2, 9, 1}},
    {"\xe3\x80\x80 a", 3, {3, 9, 1}},
};
// clang-format on

static void known_prompts_get_their_ids(void)
{
    oct_unigram unigram = {0};
    oct_err err = {0};

    if (!oct_path_exists(T5_FILE)) SKIP("no " T5_FILE);
    CHECK(oct_unigram_load(&unigram, T5_FILE, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(unigram.end_id == 1 && unigram.pad_id == 0 && unigram.unknown_id == 2);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int32_t ids[77];
        size_t used = 0;
        CHECK(oct_unigram_encode(&unigram, known[i].text, ids, 77, &used, &err) == OCT_OK);
        CHECK(used == known[i].n);
        CHECK(memcmp(ids, known[i].ids, known[i].n * sizeof *ids) == 0);
        for (size_t k = known[i].n; k < 77; k++) CHECK(ids[k] == 0);
        if (test_case_failed) printf("# prompt %zu: %s\n", i + 1, known[i].text);
    }
    oct_unigram_deinit(&unigram);
}

static void a_long_text_is_cut_before_its_end_token(void)
{
    static const int32_t want[] = {3, 9, 1202, 1};
    oct_unigram unigram = {0};
    oct_err err = {0};
    int32_t ids[4];
    size_t used = 0;

    if (!oct_path_exists(T5_FILE)) SKIP("no " T5_FILE);
    CHECK(oct_unigram_load(&unigram, T5_FILE, &err) == OCT_OK);
    CHECK(oct_unigram_encode(&unigram, "a photo of a cat", ids, 4, &used, &err) == OCT_OK);
    CHECK(memcmp(ids, want, sizeof ids) == 0);
    CHECK(used == 8);
    CHECK(oct_unigram_encode(&unigram, "cat", ids, 1, &used, &err) == OCT_OK);
    CHECK(ids[0] == 1 && used == 2);
    oct_unigram_deinit(&unigram);
}

// --- small files ---

#define VOCABULARY                                                                                 \
    "\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"byte_fallback\":false,\"vocab\":"              \
    "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"\xe2\x96\x81\",-2],[\"a\",-3],[\"b\",-3],"       \
    "[\"ab\",-4],[\"\xe2\x96\x81"                                                                  \
    "a\",-4]]}"
#define NORMALIZER(map)                                                                            \
    "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"" map "\"},"
#define METASPACE                                                                                  \
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","                  \
    "\"add_prefix_space\":true},"

static oct_status load(oct_unigram *unigram, const char *text, oct_err *err)
{
    char path[] = "/tmp/octavo-unigram-XXXXXX";
    const int fd = mkstemp(path);

    *err = (oct_err){0};
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    const oct_status st = oct_unigram_load(unigram, path, err);
    unlink(path);
    return st;
}

static void check_ids(const char *tokenizer, const char *text, size_t n, const int32_t *want)
{
    oct_unigram unigram = {0};
    oct_err err = {0};
    int32_t ids[16];
    size_t used = 0;

    CHECK(load(&unigram, tokenizer, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    if (test_case_failed) return;
    CHECK(oct_unigram_encode(&unigram, text, ids, 16, &used, &err) == OCT_OK);
    CHECK(used == n);
    CHECK(memcmp(ids, want, n * sizeof *ids) == 0);
    if (test_case_failed)
        for (size_t i = 0; i < used && i < 16; i++) printf("# %d\n", ids[i]);
    oct_unigram_deinit(&unigram);
}

static void the_best_path_wins_and_unknown_runs_are_one(void)
{
    // For "_ab": "_" and "ab" make -6, "_a" and "b" only -7.
    static const int32_t want[] = {3, 6, 3, 2, 4, 2, 1};

    check_ids("{" METASPACE VOCABULARY "}", "ab xyaz", 7, want);
}

static void the_first_of_equal_paths_wins(void)
{
    static const char tie[] =
        "{" METASPACE "\"model\":{\"unk_id\":2,\"vocab\":[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],"
        "[\"\xe2\x96\x81\",-2],[\"a\",-3],[\"b\",-3],[\"ab\",-6]]}}";

    check_ids(tie, "ab", 3, (const int32_t[]){3, 6, 1});
}

static void the_older_configuration_splits_at_white_space(void)
{
    static const char older[] =
        "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
        "\"WhitespaceSplit\"},{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","
        "\"add_prefix_space\":true}]}," VOCABULARY "}";
    static const int32_t want[] = {7, 3, 6, 7, 1};

    check_ids(older,
              " \ta\n\nab  \xe2\x96\x81"
              "a ",
              5, want);
}

static void spaces_without_a_rule_for_runs_stay(void)
{
    static const int32_t want[] = {7, 3, 3, 6, 3, 1};

    check_ids("{" METASPACE VOCABULARY "}", "a  ab ", 6, want);
}

static void prefixes_follow_their_scheme(void)
{
    static const char first[] =
        "{\"added_tokens\":[{\"id\":1,\"content\":\"</s>\"}],\"pre_tokenizer\":{\"type\":"
        "\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"first\"}," VOCABULARY
        "}";
    static const char always[] =
        "{\"added_tokens\":[{\"id\":1,\"content\":\"</s>\"}],\"pre_tokenizer\":{\"type\":"
        "\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"}," VOCABULARY
        "}";
    static const char never[] =
        "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","
        "\"prepend_scheme\":\"never\"}," VOCABULARY "}";

    check_ids(first, "a</s>a", 4, (const int32_t[]){7, 1, 4, 1});
    check_ids(always, "a</s>a", 4, (const int32_t[]){7, 1, 7, 1});
    check_ids(never, "ab a", 3, (const int32_t[]){6, 7, 1});
}

static void added_tokens_may_take_white_space_along(void)
{
    static const char strips[] =
        "{\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"lstrip\":true,\"rstrip\":true},"
        "{\"id\":10,\"content\":\"<x>y\"}]," METASPACE VOCABULARY "}";

    check_ids(strips, "a <x> a<x>y", 5, (const int32_t[]){7, 9, 7, 10, 1});
}

static void expect_refusal(const char *tokenizer, oct_status status, const char *sentence)
{
    oct_unigram unigram = {0};
    oct_err err = {0};

    CHECK(load(&unigram, tokenizer, &err) == status);
    CHECK(strstr(err.text, sentence));
    CHECK(strchr(err.text, '\n') == NULL);
    CHECK(unigram.arena.chunks == NULL);
    if (test_case_failed) printf("# %s\n", err.text);
    oct_unigram_deinit(&unigram);
}

static void hostile_vocabularies_are_refused(void)
{
#define MODEL(vocab) "{\"model\":{\"unk_id\":0,\"vocab\":" vocab "}}"
    static const struct {
        const char *tokenizer, *sentence;
    } cases[] = {
        {"", "JSON"},
        {"[]", "JSON"},
        {"{}", "there is no Unigram vocabulary"},
        {MODEL("[[\"a\"]]"), "piece 0: JSON: expected a number"},
        {MODEL("[[\"a\",0],[\"b\",\"0\"]]"), "piece 1: JSON: expected a number"},
        {MODEL("[[\"a\",1e999]]"), "piece 0: its score is not finite"},
        {MODEL("[[\"a\",0,0]]"), "piece 0: JSON: expected the end of an array"},
        {MODEL("[[\"\",0]]"), "piece 0: it is empty"},
        {MODEL("[\"a\"]"), "piece 0 is not a text and a score"},
        {MODEL("[[\"a\",0],[\"\\u0061\",0]]"), "piece 'a' is given twice"},
        {MODEL("[[\"a\xff\",0]]"), "invalid UTF-8"},
        {MODEL("[]"), "unk_id 0 is not one of 0 pieces"},
        {MODEL("[[\"a\",0]]"), "there is no token '</s>'"},
        {"{\"model\":{\"unk_id\":1,\"vocab\":[[\"a\",0]]}}", "unk_id 1 is not one of 1 pieces"},
        {"{\"model\":{\"unk_id\":-1,\"vocab\":[]}}", "unk_id is not in 0..1048575"},
        {"{\"model\":{\"vocab\":[[\"a\",0]]}}", "unk_id -1 is not one of 1 pieces"},
        {"{\"model\":{\"vocab\":[],\"vocab\":[]}}", "vocab is given twice"},
        {"{\"added_tokens\":[{\"id\":-1,\"content\":\"x\"}]}", "'id'"},
        {"{\"added_tokens\":[{\"id\":9999999,\"content\":\"x\"}]}",
         "added token 'x' has id 9999999"},
        {"{\"added_tokens\":[{\"id\":1,\"content\":\"\"}]}", "added token 0: it is empty"},
        {"{\"added_tokens\":[{\"id\":1,\"content\":\"x\"},{\"id\":2,\"content\":\"x\"}]," VOCABULARY
         "}",
         "added token 'x' is given twice"},
        {"{\"added_tokens\":[{\"id\":5,\"content\":\"a\"}]," VOCABULARY "}",
         "added token 'a' has id 5, its piece 4"},
        {"{\"added_tokens\":{}}", "added_tokens is not an array"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].tokenizer, OCT_EFORMAT, cases[i].sentence);
}

static void what_is_not_understood_is_said(void)
{
    static const struct {
        const char *tokenizer, *sentence;
    } cases[] = {
        {"{\"model\":{\"type\":\"BPE\"}}", "model type 'BPE' is not Unigram"},
        {"{\"model\":{\"byte_fallback\":true}}", "byte_fallback is not supported"},
        {"{\"normalizer\":{\"type\":\"NFD\"}}", "normalizer 'NFD' is not supported"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x\"},\"content\":\"y\"}}",
         "only runs of spaces"},
        {"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"},{\"type\":"
         "\"Strip\"}]}}",
         "normalizer 'Strip' is not supported here"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", "pre-tokenizer 'ByteLevel'"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}}", "Metaspace must"},
        {"{\"added_tokens\":[{\"id\":1,\"content\":\"x\",\"normalized\":true}]}",
         "added token 'x'"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].tokenizer, OCT_EUNSUPPORTED, cases[i].sentence);
}

static void a_piece_of_a_megabyte_is_refused(void)
{
    static const char head[] = "{\"model\":{\"vocab\":[[\"", tail[] = "\",0]]}}";
    const size_t n = 1 << 20;
    char *text = malloc(n + sizeof head + sizeof tail);

    strcpy(text, head);
    memset(text + sizeof head - 1, 'x', n);
    strcpy(text + sizeof head - 1 + n, tail);
    expect_refusal(text, OCT_EFORMAT, "piece 0: it has 1048576 bytes, more than 256");
    free(text);
}

// A trie of two units whose root leads to 'a' (0x61 away) cannot be walked: its bounds are checked.
static void hostile_character_maps_are_harmless(void)
{
    static const struct {
        const char *tokenizer, *sentence;
    } cases[] = {
        {"{" NORMALIZER("A") METASPACE VOCABULARY "}", "precompiled_charsmap is not Base64"},
        {"{" NORMALIZER("A===") METASPACE VOCABULARY "}", "precompiled_charsmap is not Base64"},
        {"{" NORMALIZER("AAA=") METASPACE VOCABULARY "}", "of 2 bytes has a trie of 0 bytes"},
        {"{" NORMALIZER("/////wAAAAA=") METASPACE VOCABULARY "}", "has a trie of 4294967295 bytes"},
        {"{" NORMALIZER("BAAAAAAAAAAA") METASPACE VOCABULARY "}", ""},
        {"{" NORMALIZER("BAAAAAAAAAAB") METASPACE VOCABULARY "}", "does not end with NUL"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (cases[i].sentence[0])
            expect_refusal(cases[i].tokenizer, OCT_EFORMAT, cases[i].sentence);
    check_ids(cases[4].tokenizer, "ab", 3, (const int32_t[]){3, 6, 1});
    // A root whose offset leads far outside.
    check_ids("{" NORMALIZER("BAAAAP////8A") METASPACE VOCABULARY "}", "ab", 3,
              (const int32_t[]){3, 6, 1});
}

// 256 units: unit 0x00 is the root, unit 0xc3 ends a key that is half of a character.
static void a_key_that_ends_inside_a_character_is_an_error(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t map[4 + 1024 + 2] = {0, 4};  // 1024 bytes of units
    char base64[1400] = "", tokenizer[2600];
    oct_unigram unigram = {0};
    oct_err err = {0};
    int32_t ids[4];

    // Label 0xc3, a key ends (bit 8), offset 1 (bit 10): its value is unit 0xc2, so 0, the pool's
    // "a".
    memcpy(map + 4 + 4 * 0xc3, (const uint8_t[]){0xc3, 0x05, 0, 0}, 4);
    map[4 + 1024] = 'a';
    size_t n = 0;
    for (size_t i = 0; i + 2 < sizeof map + 2; i += 3) {
        const uint32_t bits = (uint32_t)map[i] << 16 |
                              (i + 1 < sizeof map ? (uint32_t)map[i + 1] << 8 : 0) |
                              (i + 2 < sizeof map ? map[i + 2] : 0);
        for (int k = 3; k >= 0; k--) base64[n++] = digits[bits >> (6 * k) & 63];
    }
    for (size_t k = 0; k < (3 - sizeof map % 3) % 3; k++) base64[n - 1 - k] = '=';
    snprintf(tokenizer, sizeof tokenizer, "{" NORMALIZER("%s") METASPACE VOCABULARY "}", base64);
    CHECK(load(&unigram, tokenizer, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    if (test_case_failed) return;
    CHECK(oct_unigram_encode(&unigram, "\xc3\xa9", ids, 4, NULL, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "the tokenizer's character map yields invalid UTF-8");
    oct_unigram_deinit(&unigram);
}

static void invalid_text_is_refused(void)
{
    oct_unigram unigram = {0};
    oct_err err = {0};
    int32_t ids[4];

    CHECK(load(&unigram, "{" METASPACE VOCABULARY "}", &err) == OCT_OK);
    CHECK(oct_unigram_encode(&unigram, "a\xff", ids, 4, NULL, &err) == OCT_EFORMAT);
    oct_unigram_deinit(&unigram);
}

static void a_text_of_a_megabyte_is_fast(void)
{
    const size_t n = 1 << 20;
    char *text = malloc(n + 1);
    oct_unigram unigram = {0};
    oct_err err = {0};
    int32_t ids[256];
    size_t used = 0;

    for (size_t i = 0; i < n; i++) text[i] = "ab"[i % 2];
    text[n] = 0;
    CHECK(load(&unigram, "{" METASPACE VOCABULARY "}", &err) == OCT_OK);
    CHECK(oct_unigram_encode(&unigram, text, ids, 256, &used, &err) == OCT_OK);
    CHECK(used == 2 + n / 2);
    oct_unigram_deinit(&unigram);
    free(text);
}

int main(void)
{
    RUN(known_prompts_get_their_ids);
    RUN(a_long_text_is_cut_before_its_end_token);
    RUN(the_best_path_wins_and_unknown_runs_are_one);
    RUN(the_first_of_equal_paths_wins);
    RUN(the_older_configuration_splits_at_white_space);
    RUN(spaces_without_a_rule_for_runs_stay);
    RUN(prefixes_follow_their_scheme);
    RUN(added_tokens_may_take_white_space_along);
    RUN(hostile_vocabularies_are_refused);
    RUN(what_is_not_understood_is_said);
    RUN(a_piece_of_a_megabyte_is_refused);
    RUN(hostile_character_maps_are_harmless);
    RUN(a_key_that_ends_inside_a_character_is_an_error);
    RUN(invalid_text_is_refused);
    RUN(a_text_of_a_megabyte_is_fast);
    return test_end();
}
