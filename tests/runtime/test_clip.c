// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/clip.c against the reference's numbers (Stability-AI/sd3.5 in FP64).
#include <stdlib.h>

#include "runtime/clip.h"
#include "tests/runtime/synthetic.h"
#include "tests/test.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

enum { WIDTH = 64, MLP = 128, LAYERS = 3, HEADS = 2, POSITIONS = 77 };

typedef struct encoded {
    float hidden[POSITIONS * WIDTH], pooled[WIDTH];
} encoded;

static synthetic tensors[256];
static char *folder;

static oct_status load(oct_source *source, oct_clip *clip, oct_component component, size_t n,
                       oct_activation activation, oct_err *err)
{
    char path[256];
    snprintf(path, sizeof path, "%s/clip.safetensors", folder);
    const oct_model_paths paths = component == OCT_CLIP_L ? (oct_model_paths){.clip_l = path}
                                                          : (oct_model_paths){.clip_g = path};

    oct_status st = synthetic_write(path, tensors, n, err);
    if (!st) st = oct_source_open(source, &paths, err);
    if (!st)
        st = oct_clip_load(clip, oct_device_cpu(), source, component,
                           &(oct_clip_config){.heads = HEADS, .activation = activation}, err);
    return st;
}

static void encode(encoded *out, oct_component component, oct_activation activation, int32_t pad)
{
    int32_t ids[POSITIONS] = {49406, 320, 1125, 539, 320, 2368, 49407};
    oct_source source = {0};
    oct_clip clip = {0};
    oct_err err = {0};

    for (size_t i = 7; i < POSITIONS; i++) ids[i] = pad;
    const size_t n = synthetic_clip(tensors, LAYERS, WIDTH, MLP, 49408);
    CHECK(load(&source, &clip, component, n, activation, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    if (test_case_failed) return;
    CHECK(clip.width == WIDTH && clip.layers == LAYERS && clip.positions == POSITIONS);
    CHECK(clip.vocabulary == 49408 && clip.projected_width == WIDTH);
    CHECK(oct_clip_encode(&clip, ids, 49407, out->hidden, out->pooled, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    oct_clip_deinit(&clip);
    oct_source_close(&source);
}

typedef struct expected {
    double first[6], last, sum, sumsq;
} expected;

// The reference computes in FP64, this in F32: the bounds are four times what was measured.
static void check_values(const float *got, size_t n, const expected *want, double bound,
                         double sum_bound)
{
    double sum = 0, sumsq = 0;

    for (size_t i = 0; i < n; i++) {
        sum += got[i];
        sumsq += (double)got[i] * got[i];
    }
    for (size_t i = 0; i < 6; i++) CHECK_NEAR(got[i], want->first[i], bound);
    CHECK_NEAR(got[n - 1], want->last, bound);
    CHECK_NEAR(sum, want->sum, sum_bound);
    CHECK_NEAR(sumsq, want->sumsq, sum_bound);
}

#define BOUND 5e-6
#define SUM_BOUND 5e-4

static void clip_l_is_not_projected(void)
{
    static const expected hidden = {
        {-1.3879121, -1.7343101, 0.1277565, -2.4934852, -0.2601355, -0.0294367},
        -0.1442552,
        1260.870190,
        9067.696496};
    static const expected pooled = {
        {-0.0060236, -1.6534693, 2.1269092, -1.9904422, -1.0345495, 0.1644167},
        -0.7758289,
        0.004251,
        63.658297};
    static encoded out;

    encode(&out, OCT_CLIP_L, OCT_QUICK_GELU, 49407);
    check_values(out.hidden, POSITIONS * WIDTH, &hidden, BOUND, SUM_BOUND);
    check_values(out.pooled, WIDTH, &pooled, BOUND, SUM_BOUND);
}

static void clip_g_is_projected(void)
{
    static const expected hidden = {
        {-1.3812806, -1.7449103, 0.1406123, -2.5117846, -0.2613044, -0.0081672},
        -0.4848024,
        1219.544323,
        7801.158348};
    static const expected pooled = {
        {0.6138584, -0.5442839, 0.1147811, -1.5135591, 0.1255424, 0.5995551},
        -1.6583641,
        -4.562955,
        50.051689};
    static encoded out;

    encode(&out, OCT_CLIP_G, OCT_GELU_ERF, 0);
    check_values(out.hidden, POSITIONS * WIDTH, &hidden, BOUND, SUM_BOUND);
    check_values(out.pooled, WIDTH, &pooled, BOUND, SUM_BOUND);
}

static void quick_gelu_is_another_function(void)
{
    static const expected pooled = {
        {0.5925055, -0.5332142, 0.1055804, -1.5185609, 0.1213849, 0.6215381},
        -1.6461705,
        -4.467564,
        49.792206};
    static encoded out;

    encode(&out, OCT_CLIP_G, OCT_QUICK_GELU, 49407);
    check_values(out.pooled, WIDTH, &pooled, BOUND, SUM_BOUND);
}

// "text_projection" without ".weight" is [in, out].
static void an_old_projection_is_transposed(void)
{
    static encoded out, turned;
    static float stored[WIDTH * WIDTH], old[WIDTH * WIDTH];
    const uint64_t shape[2] = {WIDTH, WIDTH};
    int32_t ids[POSITIONS] = {49406, 320, 1125, 539, 320, 2368, 49407};
    oct_source source = {0};
    oct_clip clip = {0};
    oct_err err = {0};

    encode(&out, OCT_CLIP_G, OCT_GELU_ERF, 0);
    const size_t n = synthetic_clip(tensors, LAYERS, WIDTH, MLP, 49408);
    oct_formula_fill(stored, "text_projection.weight", 2, shape);
    for (size_t i = 0; i < WIDTH; i++)
        for (size_t k = 0; k < WIDTH; k++) old[k * WIDTH + i] = stored[i * WIDTH + k];
    tensors[n - 1].name = "text_projection";
    tensors[n - 1].data = old;
    CHECK(load(&source, &clip, OCT_CLIP_G, n, OCT_GELU_ERF, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_clip_encode(&clip, ids, 49407, turned.hidden, turned.pooled, &err) == OCT_OK);
    CHECK(memcmp(out.pooled, turned.pooled, sizeof out.pooled) == 0);
    oct_clip_deinit(&clip);
    oct_source_close(&source);
}

// `index`: of a tensor that is left out or changed; text_projection is the last.
static void expect_refusal(size_t index, const synthetic *instead, const char *sentence)
{
    oct_source source = {0};
    oct_clip clip = {0};
    oct_err err = {0};
    size_t n = synthetic_clip(tensors, 1, WIDTH, MLP, 100);

    if (index == SIZE_MAX) index = n - 1;
    if (instead)
        tensors[index] = *instead;
    else
        tensors[index] = tensors[--n];
    CHECK(load(&source, &clip, OCT_CLIP_G, n, OCT_GELU_ERF, &err) != OCT_OK);
    CHECK(strstr(err.text, sentence));
    CHECK(clip.weights == NULL);
    if (test_case_failed) printf("# %s\n", err.text);
    oct_source_close(&source);
}

static void misshapen_encoders_are_refused(void)
{
    const synthetic embedding = {.name = "text_model.embeddings.token_embedding.weight",
                                 .dtype = OCT_F32,
                                 .rank = 2,
                                 .shape = {100, 48}};
    const synthetic odd = {.name = "text_model.encoder.layers.0.self_attn.q_proj.weight",
                           .dtype = OCT_F32,
                           .rank = 2,
                           .shape = {64, 32}};
    const synthetic bias = {.name = "text_model.encoder.layers.0.self_attn.q_proj.bias",
                            .dtype = OCT_F32,
                            .rank = 1,
                            .shape = {63}};
    const synthetic fp8 = {.name = "text_model.encoder.layers.0.self_attn.q_proj.weight",
                           .dtype = OCT_F8_E4M3,
                           .rank = 2,
                           .shape = {64, 64}};

    expect_refusal(0, NULL,
                   "cannot load clip-g: clip-g has no tensor "
                   "'text_model.embeddings.token_embedding.weight'");
    expect_refusal(0, &embedding, "position numbers for a width of 48");
    expect_refusal(6, &odd, "is [64, 32], not [64, 64]");
    expect_refusal(7, &bias, "has 63 numbers, its layer 64 outputs");
    expect_refusal(6, &fp8, "is F8_E4M3; only T5 runs in FP8 here");
    expect_refusal(SIZE_MAX, NULL, "clip-g has no tensor 'text_projection.weight'");
}

static void foreign_ids_are_refused(void)
{
    static encoded out;
    int32_t ids[POSITIONS] = {1, 2, 99};
    oct_source source = {0};
    oct_clip clip = {0};
    oct_err err = {0};
    const size_t n = synthetic_clip(tensors, 1, WIDTH, MLP, 100);

    CHECK(load(&source, &clip, OCT_CLIP_G, n, OCT_GELU_ERF, &err) == OCT_OK);
    CHECK(oct_clip_encode(&clip, ids, 99, out.hidden, out.pooled, &err) == OCT_OK);
    ids[4] = 100;
    CHECK(oct_clip_encode(&clip, ids, 99, out.hidden, out.pooled, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "token id 100 is not one of the encoder's 100"));
    ids[4] = -1;
    CHECK(oct_clip_encode(&clip, ids, 99, out.hidden, out.pooled, &err) == OCT_EFORMAT);
    CHECK(oct_clip_encode(&clip, ids, 98, out.hidden, out.pooled, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "no end token 98 among 77 ids"));
    oct_clip_deinit(&clip);
    oct_source_close(&source);
}

int main(void)
{
    folder = oct_scratch_make();
    RUN(clip_l_is_not_projected);
    RUN(clip_g_is_projected);
    RUN(quick_gelu_is_another_function);
    RUN(an_old_projection_is_transposed);
    RUN(misshapen_encoders_are_refused);
    RUN(foreign_ids_are_refused);
    oct_scratch_remove(folder);
    return test_end();
}
