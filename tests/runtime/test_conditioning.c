// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/conditioning.c: fabricated models, and what diffusers makes of the same ones
// (tests/golden).
#include <math.h>
#include <stdlib.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/safetensors.h"
#include "runtime/conditioning.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/scratch.h"

enum { CLIP_TOKENS = 77, CLIP_L_WIDTH = 64, CLIP_G_WIDTH = 128, WIDTH = 256, POOLED = 192 };

static char *folder;

typedef struct model {
    oct_source source;
    oct_denoiser denoiser;
} model;

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void open_model(model *m, const oct_model_paths *paths)
{
    oct_err err = {0};

    CHECK(oct_source_open(&m->source, paths, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_denoiser_init(&m->denoiser, &m->source, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void close_model(model *m)
{
    oct_denoiser_deinit(&m->denoiser);
    oct_source_close(&m->source);
}

static void fabricate(const oct_fabric *fabric)
{
    oct_err err = {0};

    CHECK(oct_fabricate(fabric, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

// A new model in `folder`/`name`.
static void make_model(model *m, const char *name, oct_fabric fabric)
{
    fabric.out = path_of(name);
    fabric.size = oct_model_size_small(1, 0);
    if (fabric.dtype == 0) fabric.dtype = OCT_F16;
    fabricate(&fabric);
    open_model(m, &(oct_model_paths){.model = path_of(name)});
}

static oct_status encode(model *m, const char *const *texts, size_t n, const char *tokenizers,
                         size_t t5_tokens, oct_conditioning *out, oct_err *err)
{
    const oct_conditioning_params params = {
        .device = oct_device_cpu(), .tokenizers = tokenizers, .t5_tokens = t5_tokens};
    return oct_conditioning_encode(out, texts, n, &m->source, &m->denoiser, &params, err);
}

static void encode_one(model *m, const char *text, const char *tokenizers, oct_conditioning *out)
{
    oct_err err = {0};

    CHECK(encode(m, &text, 1, tokenizers, 16, out, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static bool is_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0) return false;
    return true;
}

// --- against diffusers ---

// Rows `rows` of `got` are those of a golden tensor.
static void compare(const oct_safetensors *golden, const char *name, const float *got,
                    const size_t *rows, size_t n_rows, size_t cols, double bound)
{
    const oct_st_tensor *tensor = oct_safetensors_find(golden, name);
    float *want = malloc(tensor->bytes);
    double worst = 0;

    CHECK(tensor->bytes == n_rows * cols * sizeof *want);
    CHECK(oct_safetensors_read(golden, tensor, 0, tensor->bytes, want, NULL) == OCT_OK);
    for (size_t i = 0; i < n_rows && !test_case_failed; i++)
        for (size_t k = 0; k < cols; k++) {
            const double difference = fabs((double)got[rows[i] * cols + k] - want[i * cols + k]);
            if (!(difference <= worst)) worst = difference;
        }
    CHECK_NEAR(worst, 0, bound);
    free(want);
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = "";
    CHECK(oct_json_text(object, key, &text, NULL) == OCT_OK);
    return text;
}

static uint64_t count_of(const cJSON *object, const char *key)
{
    uint64_t count = 0;
    CHECK(oct_json_count(object, key, &count, NULL) == OCT_OK);
    return count;
}

static bool is_true(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static void fabricate_case(const cJSON *run)
{
    const char *dtype = text_of(run, "dtype");

    fabricate(&(oct_fabric){
        .out = path_of("golden"),
        .layout = OCT_FABRIC_DIFFUSERS,
        .size = oct_model_size_small(count_of(run, "depth"), count_of(run, "dual_blocks")),
        .dtype = strcmp(dtype, "f16") == 0   ? OCT_F16
                 : strcmp(dtype, "f32") == 0 ? OCT_F32
                                             : OCT_BF16,
        .seed = count_of(run, "weights_seed"),
        .has_outliers = is_true(run, "has_outliers"),
        .lacks_t5 = is_true(run, "lacks_t5")});
}

// Both sides compute in F32, and the bounds are four times the largest difference of all runs. T5's
// unscaled scores make its softmax steep: in F32 PyTorch itself is 3.2e-5 from its own F64 result.
#define CONTEXT_BOUND 1.5e-4
#define POOLED_BOUND 1.3e-5

static void compare_run(const oct_safetensors *golden, const cJSON *run)
{
    static const size_t first[] = {0};
    const char *texts[] = {text_of(run, "prompt"), text_of(run, "negative")};
    const cJSON *row = NULL;
    oct_conditioning out[2] = {0};
    oct_err err = {0};
    size_t rows[16], n = 0;
    model m = {0};

    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(run, "context_rows"))
    {
        rows[n++] = (size_t)row->valueint;
    }
    fabricate_case(run);
    open_model(&m, &(oct_model_paths){.model = path_of("golden")});
    CHECK(encode(&m, texts, 2, NULL, count_of(run, "t5_tokens"), out, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(out[0].width == WIDTH && out[0].pooled_width == POOLED);
    CHECK(out[0].tokens == CLIP_TOKENS + count_of(run, "t5_tokens"));
    if (!test_case_failed) {
        compare(golden, "context_positive", out[0].context, rows, n, WIDTH, CONTEXT_BOUND);
        compare(golden, "context_negative", out[1].context, rows, n, WIDTH, CONTEXT_BOUND);
        compare(golden, "pooled_positive", out[0].pooled, first, 1, POOLED, POOLED_BOUND);
        compare(golden, "pooled_negative", out[1].pooled, first, 1, POOLED, POOLED_BOUND);
    }
    for (size_t i = 0; i < 2; i++) oct_conditioning_deinit(&out[i]);
    close_model(&m);
}

static void golden_runs_have_the_same_conditioning(void)
{
    static const char *const names[] = {"euler", "euler-tall-no-t5", "euler-long-prompt",
                                        "euler-no-cfg", "dpmpp-wide-no-cfg"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        oct_safetensors golden = {0};
        oct_err err = {0};
        cJSON *run = NULL;
        snprintf(path, sizeof path, "tests/golden/%s.safetensors", names[i]);
        CHECK(oct_safetensors_open(&golden, path, &err) == OCT_OK);
        CHECK_TEXT(err.text, "");
        const char *text = oct_safetensors_find_meta(&golden, "case");
        CHECK(text && oct_json_parse(text, strlen(text), &run, &err) == OCT_OK);
        if (!test_case_failed) compare_run(&golden, run);
        if (test_case_failed) printf("# %s\n", names[i]);
        cJSON_Delete(run);
        oct_safetensors_close(&golden);
        oct_scratch_remove(folder);
        folder = oct_scratch_make();
    }
}

// --- layouts ---

static void every_layout_gives_the_same_bits(void)
{
    oct_conditioning a = {0}, b = {0};
    model m = {0};

    make_model(&m, "diffusers", (oct_fabric){.layout = OCT_FABRIC_DIFFUSERS});
    encode_one(&m, "a red house", NULL, &a);
    close_model(&m);
    make_model(&m, "all.safetensors", (oct_fabric){.layout = OCT_FABRIC_ALL_IN_ONE});
    encode_one(&m, "a red house", path_of("all.safetensors.tokenizers"), &b);
    close_model(&m);
    if (test_case_failed) return;
    CHECK(a.tokens == b.tokens && a.width == b.width && a.pooled_width == b.pooled_width);
    CHECK(memcmp(a.context, b.context, a.tokens * a.width * sizeof(float)) == 0);
    CHECK(memcmp(a.pooled, b.pooled, a.pooled_width * sizeof(float)) == 0);
    oct_conditioning_deinit(&a);
    oct_conditioning_deinit(&b);
}

static bool are_close(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= 1e-5f)) return false;
    return true;
}

// They are causal: more rows change nothing in those before but the order of sums.
static void clips_that_read_fewer_tokens_have_fewer_rows(void)
{
    oct_fabric fabric = {.out = NULL, .layout = OCT_FABRIC_DIFFUSERS, .dtype = OCT_F16};
    oct_conditioning whole = {0}, shorter = {0};
    model m = {0};
    oct_err err = {0};

    make_model(&m, "long", fabric);
    encode_one(&m, "a red house", NULL, &whole);
    close_model(&m);
    fabric.size = oct_model_size_small(1, 0);
    fabric.size.clip_l.positions = fabric.size.clip_g.positions = 20;
    fabric.out = path_of("short");
    fabricate(&fabric);
    open_model(&m, &(oct_model_paths){.model = path_of("short")});
    encode_one(&m, "a red house", NULL, &shorter);
    close_model(&m);
    if (test_case_failed) return;
    CHECK(whole.tokens == 77 + 16 && shorter.tokens == 20 + 16);
    CHECK(are_close(whole.context, shorter.context, 20 * WIDTH));
    CHECK(are_close(whole.context + 77 * WIDTH, shorter.context + 20 * WIDTH, 16 * WIDTH));
    CHECK(are_close(whole.pooled, shorter.pooled, POOLED));
    oct_conditioning_deinit(&whole);
    oct_conditioning_deinit(&shorter);

    const char *text = "a red house";
    fabric.size.clip_g.positions = 24;
    fabric.out = path_of("uneven");
    fabricate(&fabric);
    open_model(&m, &(oct_model_paths){.model = path_of("uneven")});
    CHECK(encode(&m, &text, 1, NULL, 16, &whole, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "clip-l reads 20 tokens, but clip-g 24");
    close_model(&m);
}

static void absent_encoders_leave_zeros_in_their_place(void)
{
    oct_conditioning whole = {0}, part = {0};
    model m = {0};

    make_model(&m, "whole", (oct_fabric){.layout = OCT_FABRIC_DIFFUSERS});
    encode_one(&m, "a red house", NULL, &whole);
    close_model(&m);
    make_model(
        &m, "part",
        (oct_fabric){.layout = OCT_FABRIC_DIFFUSERS, .lacks_clip_g = true, .lacks_t5 = true});
    encode_one(&m, "a red house", NULL, &part);
    close_model(&m);
    if (test_case_failed) return;
    CHECK(part.tokens == whole.tokens);
    for (size_t t = 0; t < CLIP_TOKENS; t++) {
        const float *a = whole.context + t * WIDTH, *b = part.context + t * WIDTH;
        CHECK(memcmp(a, b, CLIP_L_WIDTH * sizeof *a) == 0 && !is_zero(b, CLIP_L_WIDTH));
        CHECK(!is_zero(a + CLIP_L_WIDTH, CLIP_G_WIDTH));
        CHECK(is_zero(a + CLIP_L_WIDTH + CLIP_G_WIDTH, WIDTH - CLIP_L_WIDTH - CLIP_G_WIDTH));
        CHECK(is_zero(b + CLIP_L_WIDTH, WIDTH - CLIP_L_WIDTH));
    }
    CHECK(is_zero(part.context + CLIP_TOKENS * WIDTH, (part.tokens - CLIP_TOKENS) * WIDTH));
    CHECK(memcmp(part.pooled, whole.pooled, CLIP_L_WIDTH * sizeof *part.pooled) == 0);
    CHECK(is_zero(part.pooled + CLIP_L_WIDTH, CLIP_G_WIDTH));
    oct_conditioning_deinit(&whole);
    oct_conditioning_deinit(&part);
}

// CLIP-G alone keeps its columns behind CLIP-L's.
static void clip_g_alone_stays_in_its_columns(void)
{
    char encoder[600], tokenizers[600];
    oct_conditioning whole = {0}, part = {0};
    model m = {0};

    make_model(&m, "whole", (oct_fabric){.layout = OCT_FABRIC_DIFFUSERS});
    encode_one(&m, "a red house", NULL, &whole);
    close_model(&m);
    make_model(&m, "all.safetensors", (oct_fabric){.layout = OCT_FABRIC_ALL_IN_ONE});
    close_model(&m);
    fabricate(&(oct_fabric){.out = path_of("single.safetensors"),
                            .layout = OCT_FABRIC_SINGLE,
                            .size = oct_model_size_small(1, 0),
                            .dtype = OCT_F16});
    snprintf(encoder, sizeof encoder, "%s/whole/text_encoder_2/model.safetensors", folder);
    snprintf(tokenizers, sizeof tokenizers, "%s/all.safetensors.tokenizers", folder);
    open_model(&m, &(oct_model_paths){.model = path_of("single.safetensors"), .clip_g = encoder});
    encode_one(&m, "a red house", tokenizers, &part);
    close_model(&m);
    if (test_case_failed) return;
    for (size_t t = 0; t < CLIP_TOKENS; t++) {
        const float *a = whole.context + t * WIDTH, *b = part.context + t * WIDTH;
        CHECK(is_zero(b, CLIP_L_WIDTH));
        CHECK(memcmp(a + CLIP_L_WIDTH, b + CLIP_L_WIDTH, CLIP_G_WIDTH * sizeof *a) == 0);
    }
    CHECK(is_zero(part.pooled, CLIP_L_WIDTH));
    CHECK(memcmp(part.pooled + CLIP_L_WIDTH, whole.pooled + CLIP_L_WIDTH,
                 CLIP_G_WIDTH * sizeof *part.pooled) == 0);
    oct_conditioning_deinit(&whole);
    oct_conditioning_deinit(&part);
}

static void equal_texts_get_equal_conditionings_of_their_own(void)
{
    const char *texts[] = {"a", "b", "a"};
    oct_conditioning out[3] = {0};
    oct_err err = {0};
    model m = {0};

    make_model(&m, "model", (oct_fabric){.layout = OCT_FABRIC_DIFFUSERS});
    CHECK(encode(&m, texts, 3, NULL, 4, out, &err) == OCT_OK);
    close_model(&m);
    if (test_case_failed) return;
    const size_t bytes = out[0].tokens * out[0].width * sizeof(float);
    CHECK(out[0].context != out[2].context);
    CHECK(memcmp(out[0].context, out[2].context, bytes) == 0);
    CHECK(memcmp(out[0].pooled, out[2].pooled, POOLED * sizeof(float)) == 0);
    CHECK(memcmp(out[0].context, out[1].context, bytes) != 0);
    for (size_t i = 0; i < 3; i++) oct_conditioning_deinit(&out[i]);
}

// --- refusals ---

static void expect_refusal(model *m, const char *text, const char *tokenizers, size_t t5_tokens,
                           oct_status status, const char *sentence)
{
    oct_conditioning out[2] = {0};
    const char *texts[] = {"fine", text};
    oct_err err = {0};

    CHECK(encode(m, texts, 2, tokenizers, t5_tokens, out, &err) == status);
    CHECK(strstr(err.text, sentence));
    CHECK(!out[0].context && !out[1].context && !out[0].pooled && !out[1].pooled);
    if (test_case_failed) printf("# %s\n", err.text);
}

static void what_is_missing_is_said(void)
{
    model m = {0};

    make_model(&m, "all.safetensors", (oct_fabric){.layout = OCT_FABRIC_ALL_IN_ONE});
    expect_refusal(&m, "a", NULL, 16, OCT_EUSAGE, "clip-l needs its tokenizer: give --tokenizers");
    expect_refusal(&m, "a", "/nonexistent", 16, OCT_EIO, "no folder '/nonexistent/clip'");
    expect_refusal(&m, "a\xff", path_of("all.safetensors.tokenizers"), 16, OCT_EFORMAT,
                   "prompt 'a\\xff': the text is not valid UTF-8");
    expect_refusal(&m, "a", NULL, 0, OCT_EUSAGE, "0 T5 tokens are not in 1..512");
    expect_refusal(&m, "a", NULL, 513, OCT_EUSAGE, "513 T5 tokens are not in 1..512");
    close_model(&m);
    make_model(&m, "single.safetensors", (oct_fabric){.layout = OCT_FABRIC_SINGLE});
    expect_refusal(&m, "a", NULL, 16, OCT_EUSAGE, "the model has no text encoders");
    close_model(&m);
}

static void an_unknown_activation_is_refused(void)
{
    static const char config[] = "{\"num_attention_heads\": 1, \"hidden_act\": \"relu\"}";
    model m = {0};

    make_model(&m, "model", (oct_fabric){.layout = OCT_FABRIC_DIFFUSERS});
    CHECK(oct_file_write(path_of("model/text_encoder/config.json"), config, strlen(config), NULL) ==
          OCT_OK);
    expect_refusal(&m, "a", NULL, 16, OCT_EUNSUPPORTED, "hidden_act 'relu' is not supported");
    close_model(&m);
}

int main(void)
{
    oct_log_init("test", OCT_LOG_QUIET);
    folder = oct_scratch_make();
    RUN(golden_runs_have_the_same_conditioning);
    RUN(every_layout_gives_the_same_bits);
    RUN(clips_that_read_fewer_tokens_have_fewer_rows);
    RUN(absent_encoders_leave_zeros_in_their_place);
    RUN(clip_g_alone_stays_in_its_columns);
    RUN(equal_texts_get_equal_conditionings_of_their_own);
    RUN(what_is_missing_is_said);
    RUN(an_unknown_activation_is_refused);
    oct_scratch_remove(folder);
    return test_end();
}
