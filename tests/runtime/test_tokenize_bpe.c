// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/tokenize_bpe.c: CLIP's real vocabulary where it is at hand, else small ones.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/file.h"
#include "runtime/tokenize_bpe.h"
#include "tests/test.h"

#define CLIP_FOLDER "../shared/tokenizers/clip"

// clang-format off
static const struct { const char *text; size_t n; int32_t ids[24]; } known[] = {
    {"", 0, {0}},
    {"a photo of a cat", 5, {320, 1125, 539, 320, 2368}},
    {"A cat holding a sign that says hello world", 9, {320, 2368, 5050, 320, 2292, 682, 1563, 3306, 1002}},
    {"An astronaut riding a horse on Mars, 8k, ultra-detailed!", 15, {550, 18376, 6765, 320, 4558, 525, 7496, 267, 279, 330, 267, 8118, 268, 12609, 256}},
    {"it's 3:45pm; they're done -- don't stop", 15, {585, 568, 274, 281, 275, 276, 990, 282, 889, 982, 1700, 2432, 847, 713, 1691}},
    {"cute wallpaper art of a cat", 6, {2242, 10560, 794, 539, 320, 2368}},
    {"  leading and   multiple   spaces  ", 4, {3833, 537, 6470, 9006}},
    {"tabs\tand\nnewlines", 4, {29163, 537, 1218, 3418}},
    {"Café in Ångström, ½ price", 10, {15304, 530, 23176, 10352, 807, 7255, 332, 267, 33613, 2827}},
    {"ﬁne ＦＵＬＬ width", 17, {171, 105, 223, 1422, 171, 121, 228, 171, 121, 243, 171, 121, 234, 171, 121, 490, 23571}},
    {"東京の夜景", 8, {48338, 21078, 105, 21575, 23170, 250, 48132, 363}},
    {"emoji 😀🚀 cat", 4, {16327, 12832, 13542, 2368}},
    {"Привет, мир", 12, {26302, 16370, 29503, 110, 22176, 141, 480, 267, 38018, 16701, 141, 478}},
    {"a close-up portrait of a woman, 35mm, f/1.8, bokeh", 21, {320, 2660, 268, 705, 5352, 539, 320, 2308, 267, 274, 276, 2848, 267, 325, 270, 272, 269, 279, 267, 647, 36983}},
    {"CAPS AND snake_case C++ #tag @me", 11, {23185, 537, 8798, 318, 2068, 322, 19056, 258, 3640, 287, 614}},
    {"translate English to German: The house is wonderful.", 10, {22655, 3469, 531, 4710, 281, 518, 1212, 533, 2582, 269}},
};
// clang-format on

static void known_prompts_get_their_ids(void)
{
    oct_bpe bpe = {0};
    oct_err err = {0};

    if (!oct_path_exists(CLIP_FOLDER)) SKIP("no " CLIP_FOLDER);
    CHECK(oct_bpe_load(&bpe, CLIP_FOLDER, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(bpe.start_id == 49406 && bpe.end_id == 49407 && bpe.pad_id == 49407);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int32_t ids[77];
        size_t used = 0;
        CHECK(oct_bpe_encode(&bpe, known[i].text, 0, ids, 77, &used, &err) == OCT_OK);
        CHECK(used == known[i].n + 2);
        CHECK(ids[0] == 49406);
        CHECK(memcmp(ids + 1, known[i].ids, known[i].n * sizeof *ids) == 0);
        CHECK(ids[known[i].n + 1] == 49407);
        for (size_t k = known[i].n + 2; k < 77; k++) CHECK(ids[k] == 0);
        if (test_case_failed) printf("# prompt %zu: %s\n", i + 1, known[i].text);
    }
    oct_bpe_deinit(&bpe);
}

// What the fast tokenizer of Hugging Face gives for them.
static void special_tokens_and_unicode_follow_the_fast_tokenizer(void)
{
    // clang-format off
    static const struct { const char *text; size_t n; int32_t ids[8]; } cases[] = {
        {"<|STARTOFTEXT|> hi <|endoftext|>x", 4, {49406, 1883, 49407, 343}},
        {"a<|endoftext|>b <|startoftext|>", 4, {320, 49407, 321, 49406}},
        {"<|endoftext|>'s", 2, {49407, 568}},
        {"!!<|endoftext|>", 2, {748, 49407}},
        {"don'T 'S", 3, {847, 713, 568}},
        {"\xc4\xb0stanbul \xce\x91\xce\xa3", 7, {328, 16384, 11231, 138, 109, 139, 481}},
        {"a\xc2\x85" "b\xe2\x80\x8b" "c", 4, {320, 321, 9844, 322}},
        {"e\xcc\x81", 1, {4166}},
        {"\xe1\xba\x9e", 2, {127, 509}},
    };
    // clang-format on
    oct_bpe bpe = {0};
    oct_err err = {0};

    if (!oct_path_exists(CLIP_FOLDER)) SKIP("no " CLIP_FOLDER);
    CHECK(oct_bpe_load(&bpe, CLIP_FOLDER, &err) == OCT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[16];
        size_t used = 0;
        CHECK(oct_bpe_encode(&bpe, cases[i].text, 0, ids, 16, &used, &err) == OCT_OK);
        CHECK(used == cases[i].n + 2);
        CHECK(memcmp(ids + 1, cases[i].ids, cases[i].n * sizeof *ids) == 0);
        if (test_case_failed) printf("# case %zu: %s\n", i, cases[i].text);
    }
    oct_bpe_deinit(&bpe);
}

// --- small vocabularies ---

static char folder[64];

static void make_folder(void)
{
    strcpy(folder, "/tmp/octavo-bpe-XXXXXX");
    if (!mkdtemp(folder)) folder[0] = 0;
}

static const char *file(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const void *data, size_t bytes)
{
    CHECK(oct_file_write(file(name), data, bytes, NULL) == OCT_OK);
}

static void remove_folder(void)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "special_tokens_map.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(file(names[i]));
    rmdir(folder);
}

static const char small_vocabulary[] =
    "{\"a\":0, \"b\":1, \"a</w>\":2, \"b</w>\":3, \"ab\":4, \"ab</w>\":5, \"aab</w>\":6,"
    " \"!\":7, \"<|startoftext|>\":8, \"<|endoftext|>\":9}";
static const char small_merges[] = "#version: 0.2\na b\na b</w>\na ab</w>\n";

static oct_status load(oct_bpe *bpe, const char *vocabulary, const char *merges, oct_err *err)
{
    *err = (oct_err){0};
    put("vocab.json", vocabulary, strlen(vocabulary));
    put("merges.txt", merges, strlen(merges));
    return oct_bpe_load(bpe, folder, err);
}

static void a_small_vocabulary_works(void)
{
    static const int32_t want[] = {8, 6, 9, 3, 4, 2, 9, 9};
    oct_bpe bpe = {0};
    oct_err err = {0};
    int32_t ids[8];

    make_folder();
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(bpe.start_id == 8 && bpe.end_id == 9 && bpe.pad_id == 9);

    // "c" has no symbol: the unknown token is the end token.
    CHECK(oct_bpe_encode(&bpe, "AAB cb aba", 9, ids, 8, NULL, &err) == OCT_OK);
    CHECK(memcmp(ids, want, sizeof ids) == 0);
    oct_bpe_deinit(&bpe);
    remove_folder();
}

static void equal_pairs_merge_from_the_left(void)
{
    static const char vocabulary[] = "{\"a\":0, \"b</w>\":1, \"aa\":2, \"<|startoftext|>\":3, "
                                     "\"<|endoftext|>\":4}";
    static const int32_t want[] = {3, 2, 0, 1, 4};
    oct_bpe bpe = {0};
    oct_err err = {0};
    int32_t ids[5];

    make_folder();
    CHECK(load(&bpe, vocabulary, "a a\n", &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_bpe_encode(&bpe, "aaab", 4, ids, 5, NULL, &err) == OCT_OK);
    CHECK(memcmp(ids, want, sizeof ids) == 0);
    oct_bpe_deinit(&bpe);
    remove_folder();
}

static void a_long_text_is_cut_before_its_end_token(void)
{
    static const int32_t want[] = {8, 2, 3, 9};
    oct_bpe bpe = {0};
    oct_err err = {0};
    int32_t ids[4];
    size_t used = 0;

    make_folder();
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_OK);
    CHECK(oct_bpe_encode(&bpe, "a b a b a", 7, ids, 4, &used, &err) == OCT_OK);
    CHECK(memcmp(ids, want, sizeof ids) == 0);
    CHECK(used == 7);
    oct_bpe_deinit(&bpe);
    remove_folder();
}

static void a_word_of_a_million_letters_is_fast(void)
{
    const size_t n = 1000001;
    char *text = malloc(n + 1);
    oct_bpe bpe = {0};
    oct_err err = {0};
    int32_t ids[77];
    size_t used = 0;

    for (size_t i = 0; i < n; i++) text[i] = "ab"[i % 2];
    text[n] = 0;
    make_folder();
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_OK);
    CHECK(oct_bpe_encode(&bpe, text, 9, ids, 77, &used, &err) == OCT_OK);
    CHECK(used == 2 + n / 2 + 1);
    CHECK(ids[1] == 4 && ids[75] == 4 && ids[76] == 9);
    oct_bpe_deinit(&bpe);
    remove_folder();
    free(text);
}

static void the_padding_token_comes_from_either_file(void)
{
    static const char map[] = "{\"pad_token\": {\"content\": \"!\"}}";
    static const char config[] = "{\"pad_token\": \"a\"}";
    oct_bpe bpe = {0};
    oct_err err = {0};

    make_folder();
    put("tokenizer_config.json", config, strlen(config));
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_OK);
    CHECK(bpe.pad_id == 0);
    oct_bpe_deinit(&bpe);
    put("special_tokens_map.json", map, strlen(map));
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_OK);
    CHECK(bpe.pad_id == 7);
    oct_bpe_deinit(&bpe);
    put("special_tokens_map.json", "{\"pad_token\": \"?\"}", 18);
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "has no token '?'"));
    remove_folder();
}

// As transformers 4.57 does with both its CLIP tokenizers.
static void a_typed_padding_token_becomes_its_id(void)
{
    static const char map[] = "{\"pad_token\": \"!\"}";
    static const int32_t want[] = {8, 5, 7, 7, 7, 2, 7, 5, 9, 7};
    oct_bpe bpe = {0};
    oct_err err = {0};
    int32_t ids[10];

    make_folder();
    put("special_tokens_map.json", map, strlen(map));
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_OK);
    CHECK(oct_bpe_encode(&bpe, "ab! !!a!AB", 7, ids, 10, NULL, &err) == OCT_OK);
    CHECK(memcmp(ids, want, sizeof ids) == 0);
    oct_bpe_deinit(&bpe);
    remove_folder();
}

static void invalid_text_is_refused(void)
{
    oct_bpe bpe = {0};
    oct_err err = {0};
    int32_t ids[4];

    make_folder();
    CHECK(load(&bpe, small_vocabulary, small_merges, &err) == OCT_OK);
    CHECK(oct_bpe_encode(&bpe, "a\xff", 9, ids, 4, NULL, &err) == OCT_EFORMAT);
    CHECK(oct_bpe_encode(&bpe, "a\xed\xa0\x80", 9, ids, 4, NULL, &err) == OCT_EFORMAT);
    oct_bpe_deinit(&bpe);
    remove_folder();
}

static void expect_refusal(const char *vocabulary, const char *merges, const char *sentence)
{
    oct_bpe bpe = {0};
    oct_err err = {0};

    CHECK(load(&bpe, vocabulary, merges, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, sentence));
    CHECK(strchr(err.text, '\n') == NULL);
    CHECK(bpe.arena.chunks == NULL);
    if (test_case_failed) printf("# %s\n", err.text);
}

static void hostile_vocabularies_are_refused(void)
{
    static const struct {
        const char *vocabulary, *sentence;
    } cases[] = {
        {"{\"a\":-1}", "token 'a' has id -1"},
        {"{\"a\":1.5}", "token 'a' has id 1.5"},
        {"{\"a\":99999999999999999999}", "token 'a' has id 99999999999999999999"},
        {"{\"a\":1}", "token 'a' has id 1 among 1 tokens"},
        {"{\"a\":0,\"b\":0}", "tokens 'a' and 'b' both have id 0"},
        {"{\"a\":0,\"b\":2}", "token 'b' has id 2 among 2 tokens"},
        {"{\"a\":0,\"\\u0061\":1}", "token 'a' is given twice"},
        {"{\"\":0}", "a token is empty"},
        {"{\"a\":\"0\"}", "token 'a'"},
        {"{\"a\":{}}", "token 'a'"},
        {"[]", "JSON"},
        {"", "JSON"},
        {"{\"a\xff\":0}", "invalid UTF-8"},
        {"{\"a\":0}", "vocab.json has no token '<|startoftext|>'"},
        {"{\"<|startoftext|>\":0}", "vocab.json has no token '<|endoftext|>'"},
        {"{}", "vocab.json has no token"},
    };

    make_folder();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].vocabulary, small_merges, cases[i].sentence);
    remove_folder();
}

static void hostile_merges_are_refused(void)
{
    static const struct {
        const char *merges, *sentence;
    } cases[] = {
        {"#version\nx b\n", "line 2: 'x b' has a symbol that is not in vocab.json"},
        {"a b\nb a\n", "line 2: the result of 'b a' is not in vocab.json"},
        {"a b\na b\n", "merges 0 and 1 are the same"},
        {"a  b\n", "line 1: 'a  b' is not two symbols"},
        {"ab\n", "line 1: 'ab' is not two symbols"},
        {"a b\n\na b</w>\n", "line 2: '' is not two symbols"},
        {"a \xff\n", "invalid UTF-8"},
        {" \n", "has a symbol that is not"},
    };

    make_folder();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(small_vocabulary, cases[i].merges, cases[i].sentence);
    remove_folder();
}

static void a_token_of_a_megabyte_is_refused(void)
{
    const size_t n = 1 << 20;
    char *text = malloc(n + 64);
    size_t at = (size_t)sprintf(text, "{\"");

    memset(text + at, 'x', n);
    strcpy(text + at + n, "\":0}");
    make_folder();
    expect_refusal(text, small_merges, "a token has 1048576 bytes, more than 1024");
    remove_folder();
    free(text);
}

static void missing_files_are_named(void)
{
    oct_bpe bpe = {0};
    oct_err err = {0};

    CHECK(oct_bpe_load(&bpe, "/nonexistent", &err) == OCT_EIO);
    CHECK(strstr(err.text, "/nonexistent/vocab.json"));
    make_folder();
    put("vocab.json", small_vocabulary, strlen(small_vocabulary));
    CHECK(oct_bpe_load(&bpe, folder, &err) == OCT_EIO);
    CHECK(strstr(err.text, "merges.txt"));
    remove_folder();
}

int main(void)
{
    RUN(known_prompts_get_their_ids);
    RUN(special_tokens_and_unicode_follow_the_fast_tokenizer);
    RUN(a_small_vocabulary_works);
    RUN(equal_pairs_merge_from_the_left);
    RUN(a_long_text_is_cut_before_its_end_token);
    RUN(a_word_of_a_million_letters_is_fast);
    RUN(the_padding_token_comes_from_either_file);
    RUN(a_typed_padding_token_becomes_its_id);
    RUN(invalid_text_is_refused);
    RUN(hostile_vocabularies_are_refused);
    RUN(hostile_merges_are_refused);
    RUN(a_token_of_a_megabyte_is_refused);
    RUN(missing_files_are_named);
    return test_end();
}
