// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/t5.c against the reference's numbers (Stability-AI/sd3.5 in FP64).
#include <stdlib.h>

#include "common/number.h"
#include "runtime/t5.h"
#include "tests/runtime/synthetic.h"
#include "tests/test.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

enum { WIDTH = 64, LENGTH = 160, LAYERS = 2, HEADS = 2, HEAD_DIM = 32, MLP = 128 };

static synthetic tensors[256];
static char *folder;

static oct_status load(oct_source *source, oct_t5 *t5, size_t n, oct_err *err)
{
    char path[256];
    snprintf(path, sizeof path, "%s/t5.safetensors", folder);

    oct_status st = synthetic_write(path, tensors, n, err);
    if (!st) st = oct_source_open(source, &(oct_model_paths){.t5 = path}, err);
    return st ? st : oct_t5_load(t5, oct_device_cpu(), source, err);
}

static void encode(float *out, size_t n)
{
    int32_t ids[LENGTH] = {3, 9, 1202, 13, 3, 9, 1712, 1};
    oct_source source = {0};
    oct_t5 t5 = {0};
    oct_err err = {0};

    CHECK(load(&source, &t5, n, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    if (test_case_failed) return;
    CHECK(t5.width == WIDTH && t5.layers == LAYERS && t5.heads == HEADS);
    CHECK(t5.head_dim == HEAD_DIM && t5.vocabulary == 32128);
    CHECK(oct_t5_encode(&t5, ids, LENGTH, out, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    oct_t5_deinit(&t5);
    oct_source_close(&source);
}

static void the_encoder_equals_the_reference(void)
{
    static const double first[6] = {2.6531803,  0.2814626, 0.7078086,
                                    -0.2733982, 0.0650478, -0.8812030};
    static float out[LENGTH * WIDTH];
    double sum = 0, sumsq = 0;

    encode(out, synthetic_t5(tensors, LAYERS, WIDTH, HEADS, HEAD_DIM, MLP, 32128));
    for (size_t i = 0; i < LENGTH * WIDTH; i++) {
        sum += out[i];
        sumsq += (double)out[i] * out[i];
    }
    // The reference computes in FP64, this in F32: the bounds are four times what was measured.
    for (size_t i = 0; i < 6; i++) CHECK_NEAR(out[i], first[i], 1.5e-5);
    CHECK_NEAR(out[LENGTH * WIDTH - 1], 1.9180195, 1.5e-5);
    CHECK_NEAR(sum, -2853.016144, 1e-2);
    CHECK_NEAR(sumsq, 10698.300605, 1e-2);
}

static size_t index_of(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(tensors[i].name, name) == 0) return i;
    CHECK(!"such a tensor");
    return 0;
}

static const char query[] = "encoder.block.1.layer.0.SelfAttention.q.weight";

// The weight of block 1's q as E4M3 codes of value / scale, and their values as F32.
static void encode_query(uint8_t *codes, float *values, float scale)
{
    const uint64_t shape[2] = {WIDTH, WIDTH};

    oct_formula_fill(values, query, 2, shape);
    for (size_t i = 0; i < WIDTH * WIDTH; i++) {
        codes[i] = oct_f32_to_e4m3(values[i] / scale);
        values[i] = oct_e4m3_to_f32(codes[i]) * scale;
    }
}

// With a power of two as scale both ways give the same bits.
static void fp8_weights_are_their_codes_times_the_scale(void)
{
    static const struct {
        const char *scale, *marker;
        oct_dtype dtype;
        const char *text;
    } spelling[] = {
        {NULL, NULL, OCT_U8, ""},
        {"encoder.block.1.layer.0.SelfAttention.q.scale_weight", "scaled_fp8", OCT_F8_E4M3, ""},
        {"encoder.block.1.layer.0.SelfAttention.q.weight_scale",
         "encoder.block.1.layer.0.SelfAttention.q.comfy_quant", OCT_U8,
         "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true}"},
    };
    static uint8_t codes[WIDTH * WIDTH];
    static float values[WIDTH * WIDTH], want[LENGTH * WIDTH], got[LENGTH * WIDTH];

    for (size_t i = 0; i < sizeof spelling / sizeof *spelling; i++) {
        const float scale = spelling[i].scale ? 0.0009765625f : 1;
        size_t n = synthetic_t5(tensors, LAYERS, WIDTH, HEADS, HEAD_DIM, MLP, 32128);
        synthetic *q = &tensors[index_of(query, n)];

        encode_query(codes, values, scale);
        q->data = values;
        encode(want, n);
        q->dtype = OCT_F8_E4M3;
        q->data = codes;
        if (spelling[i].scale) {
            tensors[n++] = (synthetic){spelling[i].scale, OCT_F32, 0, {0}, &scale, NULL};
            tensors[n++] = (synthetic){spelling[i].marker,         spelling[i].dtype, 1,
                                       {strlen(spelling[i].text)}, spelling[i].text,  NULL};
        }
        encode(got, n);
        CHECK(memcmp(got, want, sizeof got) == 0);
    }
}

// A cast file holds everything in FP8: tables and norms too.
static void a_file_of_fp8_alone_loads(void)
{
    static float out[LENGTH * WIDTH];
    const size_t n = synthetic_t5(tensors, LAYERS, WIDTH, HEADS, HEAD_DIM, MLP, 32128);

    for (size_t i = 0; i < n; i++) tensors[i].dtype = OCT_F8_E4M3;
    encode(out, n);
    CHECK_NEAR(out[0], 2.6531803, 0.5);
}

static void expect_refusal(size_t n, oct_status status, const char *sentence)
{
    oct_source source = {0};
    oct_t5 t5 = {0};
    oct_err err = {0};

    CHECK(load(&source, &t5, n, &err) == status);
    CHECK(strstr(err.text, sentence));
    CHECK(t5.weights == NULL);
    if (test_case_failed) printf("# %s\n", err.text);
    oct_source_close(&source);
}

static size_t make_small(void)
{
    return synthetic_t5(tensors, LAYERS, WIDTH, HEADS, HEAD_DIM, MLP, 100);
}

static void damaged_scales_are_refused(void)
{
    static const char scale_name[] = "encoder.block.1.layer.0.SelfAttention.q.weight_scale";
    static const char marker_name[] = "encoder.block.1.layer.0.SelfAttention.q.comfy_quant";
    static const char other[] = "{\"format\": \"mxfp8\"}";
    static const float bad[] = {0, -1, NAN, INFINITY};
    size_t n = make_small();

    tensors[index_of(query, n)].dtype = OCT_F8_E4M3;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tensors[n] = (synthetic){scale_name, OCT_F32, 0, {0}, &bad[i], NULL};
        expect_refusal(n + 1, OCT_EFORMAT, "not a finite number above 0");
    }
    tensors[n] = (synthetic){scale_name, OCT_F32, 1, {64}, NULL, NULL};
    expect_refusal(n + 1, OCT_EUNSUPPORTED, "not one F32 number");
    tensors[n] = (synthetic){"scaled_fp8", OCT_F8_E4M3, 1, {0}, "", NULL};
    expect_refusal(n + 1, OCT_EFORMAT, "is F8_E4M3 without a scale");
    tensors[n] = (synthetic){marker_name, OCT_U8, 1, {strlen(other)}, other, NULL};
    expect_refusal(n + 1, OCT_EUNSUPPORTED, "format 'mxfp8' is not float8_e4m3fn");
}

static void misshapen_encoders_are_refused(void)
{
    size_t n = make_small();

    tensors[0] = tensors[--n];
    expect_refusal(n, OCT_EFORMAT, "t5 has no tensor 'encoder.embed_tokens.weight'");
    n = make_small();
    tensors[1].shape[1] = 3;
    expect_refusal(n, OCT_EFORMAT, "which make no heads");
    n = make_small();
    tensors[index_of(query, n)].shape[1] = 32;
    expect_refusal(n, OCT_EFORMAT, "is [64, 32], not [64, 64]");
    n = make_small();
    tensors[index_of("encoder.block.1.layer.1.layer_norm.weight", n)].shape[0] = 63;
    expect_refusal(n, OCT_EFORMAT, "has 63 numbers, not 64");
    n = make_small();
    tensors[index_of(query, n)].dtype = OCT_I32;
    tensors[index_of(query, n)].data = calloc(WIDTH * WIDTH, 4);
    expect_refusal(n, OCT_EUNSUPPORTED, "is I32, not F32, F16, BF16 or FP8");
    free((void *)(uintptr_t)tensors[index_of(query, n)].data);
}

static void foreign_ids_are_refused(void)
{
    static float out[2 * WIDTH];
    const int32_t high[] = {1, 100}, low[] = {-1, 1};
    oct_source source = {0};
    oct_t5 t5 = {0};
    oct_err err = {0};

    CHECK(load(&source, &t5, make_small(), &err) == OCT_OK);
    CHECK(oct_t5_encode(&t5, high, 2, out, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "token id 100 is not one of the encoder's 100"));
    CHECK(oct_t5_encode(&t5, low, 2, out, &err) == OCT_EFORMAT);
    oct_t5_deinit(&t5);
    oct_source_close(&source);
}

int main(void)
{
    folder = oct_scratch_make();
    RUN(the_encoder_equals_the_reference);
    RUN(fp8_weights_are_their_codes_times_the_scale);
    RUN(a_file_of_fp8_alone_loads);
    RUN(damaged_scales_are_refused);
    RUN(misshapen_encoders_are_refused);
    RUN(foreign_ids_are_refused);
    oct_scratch_remove(folder);
    return test_end();
}
