// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/linear.c: every way in which a layer is stored and runs.
#include <stdlib.h>

#include "common/number.h"
#include "runtime/linear.h"
#include "tests/runtime/synthetic.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

enum { IN = 96, OUT = 40, ROWS = 5 };

#define LAYER "joint_blocks.0.x_block.mlp.fc1"

static char *folder;
static uint8_t codes[OUT * IN];
static float weight[OUT * IN], bias[OUT];

static void fill(void)
{
    const uint64_t shape[2] = {OUT, IN};

    oct_formula_fill(weight, LAYER ".weight", 2, shape);
    oct_formula_fill(bias, LAYER ".bias", 1, shape);
    for (size_t i = 0; i < OUT * IN; i++) codes[i] = oct_f32_to_e4m3(weight[i] / 0.03f);
}

// y = x W^T scale + bias in double, with `w` already in values.
static double exact(const float *x, const float *w, double scale, const float *b, size_t out)
{
    double sum = 0;
    for (size_t i = 0; i < IN; i++) sum += (double)x[i] * w[out * IN + i];
    return sum * scale + b[out];
}

static void make_input(float *x, size_t rows)
{
    oct_formula_fill(x, "input.x", 2, (const uint64_t[]){rows, IN});
}

// --- running ---

static void stored_types_widen_exactly(void)
{
    static const oct_dtype dtypes[] = {OCT_F32, OCT_F16, OCT_BF16};
    float x[ROWS * IN], y[ROWS * OUT], w[OUT * IN];
    uint16_t halves[OUT * IN];

    fill();
    make_input(x, ROWS);
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < OUT * IN; i++) {
            halves[i] = k == 1 ? oct_f32_to_f16(weight[i]) : oct_f32_to_bf16(weight[i]);
            w[i] = k == 0   ? weight[i]
                   : k == 1 ? oct_f16_to_f32(halves[i])
                            : oct_bf16_to_f32(halves[i]);
        }
        oct_linear linear = {.name = "x",
                             .dtype = dtypes[k],
                             .bias = bias,
                             .out = OUT,
                             .in = IN,
                             .weight = k == 0 ? (void *)w : (void *)halves,
                             .weight_scale = 1,
                             .layer = -1};
        oct_linear_run(&linear, y, x, ROWS, NULL);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t o = 0; o < OUT; o++)  // a sum of 96 in F32
                CHECK_NEAR(y[r * OUT + o], exact(x + r * IN, w, 1, bias, o), 1e-5);
        CHECK(linear.runs == 1);
    }
}

static void fp8_weights_scale_the_sum(void)
{
    float x[ROWS * IN], y[ROWS * OUT], w[OUT * IN];
    oct_linear linear = {.name = "x",
                         .dtype = OCT_F8_E4M3,
                         .weight = codes,
                         .bias = bias,
                         .out = OUT,
                         .in = IN,
                         .weight_scale = 0.03f,
                         .layer = -1};

    fill();
    make_input(x, ROWS);
    for (size_t i = 0; i < OUT * IN; i++) w[i] = oct_e4m3_to_f32(codes[i]);
    oct_linear_run(&linear, y, x, ROWS, NULL);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t o = 0; o < OUT; o++)
            CHECK_NEAR(y[r * OUT + o], exact(x + r * IN, w, (double)0.03f, bias, o), 1e-5);
}

// More rows than one panel, values that saturate.
static void static_inputs_are_encoded_first(void)
{
    const size_t rows = 1030;
    const float scale = 0.002f;
    float *x = malloc(rows * IN * sizeof *x), *y = malloc(rows * OUT * sizeof *y), w[OUT * IN];
    oct_linear linear = {.name = "x",
                         .dtype = OCT_F8_E4M3,
                         .weight = codes,
                         .bias = bias,
                         .out = OUT,
                         .in = IN,
                         .weight_scale = 0.03f,
                         .input_scale = scale,
                         .layer = 0};
    oct_observer observer = {0};

    fill();
    make_input(x, rows);
    x[7] = -3;
    for (size_t i = 0; i < OUT * IN; i++) w[i] = oct_e4m3_to_f32(codes[i]);
    oct_observer_init(&observer, 1, 1);
    oct_linear_run(&linear, y, x, rows, &observer);
    CHECK(oct_observer_amax(&observer, 0) == 3);  // of x itself
    for (size_t r = 0; r < rows; r += 103) {
        float q[IN];
        for (size_t i = 0; i < IN; i++)
            q[i] = oct_e4m3_to_f32(oct_f32_to_e4m3(x[r * IN + i] / scale));
        for (size_t o = 0; o < OUT; o++)
            CHECK_NEAR(y[r * OUT + o], exact(q, w, (double)(scale * 0.03f), bias, o), 1e-5);
    }
    oct_observer_deinit(&observer);
    free(x);
    free(y);
}

// Decoded as each granularity says, in few rows, many rows, and behind encoded inputs.
static void check_scaled(oct_linear *linear, const float *decoded)
{
    const size_t rows = 5;
    float x[5 * IN], y[5 * OUT], row[IN];

    make_input(x, rows);
    for (size_t o = 0; o < OUT; o++) {
        oct_linear_row(linear, o, row);
        for (size_t i = 0; i < IN; i++) CHECK(row[i] == decoded[o * IN + i]);
    }
    for (int way = 0; way < 3; way++) {
        const size_t n = way == 0 ? 1 : rows;
        linear->input_scale = way == 2 ? 0.002f : 0;
        oct_linear_run(linear, y, x, n, NULL);
        for (size_t r = 0; r < n; r++) {
            float q[IN];
            for (size_t i = 0; i < IN; i++)
                q[i] = way < 2 ? x[r * IN + i]
                               : oct_e4m3_to_f32(oct_f32_to_e4m3(x[r * IN + i] / 0.002f)) * 0.002f;
            for (size_t o = 0; o < OUT; o++)
                CHECK_NEAR(y[r * OUT + o], exact(q, decoded, 1, bias, o), 1e-5);
        }
    }
}

static void channels_scale_their_own_sums(void)
{
    float decoded[OUT * IN], scales[OUT];
    uint8_t own[OUT * IN];

    fill();
    for (int is_e5m2 = 0; is_e5m2 < 2; is_e5m2++) {
        for (size_t i = 0; i < OUT * IN; i++) {
            const uint8_t code = is_e5m2 ? codes[i] & 0xbf : codes[i];  // E5M2 below 2
            const float value = is_e5m2 ? oct_e5m2_to_f32(code) : oct_e4m3_to_f32(code);
            scales[i / IN] = 0.0007f * (float)(1 + i / IN);
            own[i] = code;
            decoded[i] = value * scales[i / IN];
        }
        check_scaled(&(oct_linear){.name = "x",
                                   .dtype = is_e5m2 ? OCT_F8_E5M2 : OCT_F8_E4M3,
                                   .weight = own,
                                   .bias = bias,
                                   .out = OUT,
                                   .in = IN,
                                   .weight_scale = 1,
                                   .row_scales = scales,
                                   .layer = -1},
                     decoded);
    }
}

static void blocks_are_decoded_before_they_are_multiplied(void)
{
    float decoded[OUT * IN];
    uint8_t scales[OUT * IN / 32];

    fill();
    for (size_t i = 0; i < OUT * IN; i++) {
        scales[i / 32] = (uint8_t)(127 - 8 + i / 32 % 5);
        decoded[i] = ldexpf(oct_e4m3_to_f32(codes[i]), scales[i / 32] - 127);
    }
    check_scaled(&(oct_linear){.name = "x",
                               .dtype = OCT_F8_E4M3,
                               .weight = codes,
                               .bias = bias,
                               .out = OUT,
                               .in = IN,
                               .weight_scale = 1,
                               .block_scales = scales,
                               .layer = -1},
                 decoded);
}

static void rows_of_a_table_have_its_scale(void)
{
    float row[IN];
    oct_linear linear = {.name = "x",
                         .dtype = OCT_F8_E4M3,
                         .weight = codes,
                         .out = OUT,
                         .in = IN,
                         .weight_scale = 0.03f,
                         .layer = -1};

    fill();
    oct_linear_row(&linear, 3, row);
    for (size_t i = 0; i < IN; i++) CHECK(row[i] == oct_e4m3_to_f32(codes[3 * IN + i]) * 0.03f);
}

// --- loading by dialect ---

static void open_source(oct_source *source, const synthetic *tensors, size_t n)
{
    char path[256];
    oct_err err = {0};

    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    CHECK(synthetic_write(path, tensors, n, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_source_open(source, &(oct_model_paths){.model = path}, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

// A table of one layer over the source.
static oct_denoiser one_layer(const oct_source *source, oct_layer *layer)
{
    *layer = (oct_layer){.name = LAYER,
                         .role = OCT_ROLE_MLP_FC1,
                         .stream = OCT_STREAM_IMAGE,
                         .out_features = OUT,
                         .in_features = IN,
                         .weight = oct_source_find(source, OCT_DENOISER, LAYER ".weight"),
                         .bias = oct_source_find(source, OCT_DENOISER, LAYER ".bias")};
    CHECK(layer->weight && layer->bias);
    return (oct_denoiser){.layers = layer, .n_layers = 1};
}

static oct_status load(oct_linear *linear, const synthetic *tensors, size_t n, oct_err *err)
{
    oct_source source = {0};
    oct_layer layer = {0};

    open_source(&source, tensors, n);
    const oct_denoiser denoiser = one_layer(&source, &layer);
    const oct_status st = oct_linear_load_layer(linear, &source, &denoiser, 0, NULL, err);
    oct_source_close(&source);
    return st;
}

static void every_dialect_loads(void)
{
    static const float weight_scale = 0.03f, input_scale = 0.002f;
    static const char marker[] = "{\"format\": \"float8_e4m3fn\"}";
    static const char full[] =
        "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true}";
    const synthetic w = {LAYER ".weight", OCT_F8_E4M3, 2, {OUT, IN}, codes, NULL};
    const synthetic b = {LAYER ".bias", OCT_F16, 1, {OUT, 0}, NULL, NULL};
    const synthetic ws = {LAYER ".weight_scale", OCT_F32, 0, {0}, &weight_scale, NULL};
    const synthetic is = {LAYER ".input_scale", OCT_F32, 0, {0}, &input_scale, NULL};
    const struct {
        synthetic tensors[5];
        size_t n;
        float weight_scale, input_scale;
    } cases[] = {
        {{w, b, ws, is, {LAYER ".comfy_quant", OCT_U8, 1, {strlen(marker)}, marker, NULL}},
         5,
         0.03f,
         0.002f},
        {{w, b, ws, is, {LAYER ".comfy_quant", OCT_U8, 1, {strlen(full)}, full, NULL}},
         5,
         0.03f,
         0},
        {{w, b, ws, {LAYER ".comfy_quant", OCT_U8, 1, {strlen(full)}, full, NULL}}, 4, 0.03f, 0},
        {{w,
          b,
          {LAYER ".scale_weight", OCT_F32, 0, {0}, &weight_scale, NULL},
          {LAYER ".scale_input", OCT_F32, 0, {0}, &input_scale, NULL},
          {"scaled_fp8", OCT_F8_E4M3, 1, {0}, "", NULL}},
         5,
         0.03f,
         0.002f},
        {{w,
          b,
          {LAYER ".scale_weight", OCT_F32, 0, {0}, &weight_scale, NULL},
          {"scaled_fp8", OCT_F8_E4M3, 1, {2}, "\0\0", NULL}},
         4,
         0.03f,
         0},
        {{w, b}, 2, 1, 0},
    };

    fill();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_linear linear = {0};
        oct_err err = {0};
        CHECK(load(&linear, cases[i].tensors, cases[i].n, &err) == OCT_OK);
        CHECK_TEXT(err.text, "");
        if (!test_case_failed) {
            CHECK(linear.dtype == OCT_F8_E4M3 && linear.out == OUT && linear.in == IN);
            CHECK(memcmp(linear.weight, codes, sizeof codes) == 0);
            CHECK(linear.weight_scale == cases[i].weight_scale);
            CHECK(linear.input_scale == cases[i].input_scale);
            CHECK(linear.bias[3] == oct_f16_to_f32(oct_f32_to_f16(bias[3])));
            CHECK(linear.layer == 0);
        } else {
            printf("# case %zu\n", i);
        }
        oct_linear_deinit(&linear);
    }
}

static void unloadable_layers_are_refused(void)
{
    const synthetic w = {LAYER ".weight", OCT_F16, 2, {OUT, IN}, NULL, NULL};
    const synthetic short_bias = {LAYER ".bias", OCT_F16, 1, {OUT - 1, 0}, NULL, NULL};
    oct_linear linear = {0};
    oct_err err = {0};

    CHECK(load(&linear, (const synthetic[]){w, short_bias}, 2, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "has 39 numbers, its layer 40 outputs"));
    CHECK(!linear.weight && !linear.bias);
}

// --- loading by plan ---

static const oct_decision *find_fp8(const oct_plan *plan)
{
    for (size_t i = 0; i < plan->n_decisions; i++)
        if (plan->decisions[i].weights != OCT_WEIGHTS_KEEP) return &plan->decisions[i];
    return NULL;
}

static bool has_scales(const oct_linear *linear, const oct_decision *decision, const void *want)
{
    const uint64_t bytes = oct_decision_scale_bytes(decision);

    switch (decision->granularity) {
    case OCT_PER_CHANNEL:
        return !linear->block_scales && memcmp(linear->row_scales, want, bytes) == 0;
    case OCT_PER_MX_BLOCK:
        return !linear->row_scales && memcmp(linear->block_scales, want, bytes) == 0;
    default:
        return !linear->row_scales && !linear->block_scales &&
               memcmp(&linear->weight_scale, want, bytes) == 0;
    }
}

static void check_planned(const oct_source *source, const oct_denoiser *denoiser,
                          const oct_plan *plan)
{
    const oct_decision *decision = find_fp8(plan);
    oct_linear linear = {0};
    oct_err err = {0};

    CHECK(decision != NULL);
    if (!decision) return;
    const size_t index = (size_t)(decision->layer - denoiser->layers);
    CHECK(oct_linear_load_layer(&linear, source, denoiser, index, plan, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    const size_t n = linear.out * linear.in;
    void *stored = malloc(decision->layer->weight->bytes);
    void *scales = malloc(oct_decision_scale_bytes(decision));
    uint8_t *want = malloc(n);
    CHECK(oct_source_read(decision->layer->weight, stored, &err) == OCT_OK);
    CHECK(oct_plan_encode(plan, decision->layer, stored, want, scales, &err) == OCT_OK);
    CHECK(linear.dtype == (decision->weights == OCT_WEIGHTS_E5M2 ? OCT_F8_E5M2 : OCT_F8_E4M3));
    CHECK(has_scales(&linear, decision, scales));
    CHECK(memcmp(linear.weight, want, n) == 0);
    CHECK(linear.input_scale == decision->input_scale);
    CHECK(linear.layer == (int)index);
    free(stored);
    free(scales);
    free(want);
    oct_linear_deinit(&linear);
}

static void check_policy(const oct_source *source, const oct_denoiser *denoiser, const char *set)
{
    oct_policy policy = {0};
    oct_plan plan = {0};
    oct_err err = {0};
    char text[200];

    snprintf(text, sizeof text, "{\"octavo_policy\": 1, \"name\": \"t\", \"default\": {%s}}", set);
    CHECK(oct_policy_parse(&policy, text, strlen(text), &err) == OCT_OK);
    CHECK(oct_plan_init(&plan, denoiser, &(oct_plan_params){.policy = &policy, .qmax = 448},
                        &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    if (!test_case_failed) check_planned(source, denoiser, &plan);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
}

static void a_plan_quantizes_on_the_way(void)
{
    static const char *const sets[] = {
        "\"weights\": \"e4m3\"",
        "\"weights\": \"e5m2\"",
        "\"weights\": \"e4m3\", \"granularity\": \"channel\", \"scale\": \"mse\"",
        "\"weights\": \"e5m2\", \"granularity\": \"channel\"",
        "\"weights\": \"e4m3\", \"granularity\": \"mx\"",
    };
    char path[256];
    oct_source source = {0};
    oct_denoiser denoiser = {0};
    oct_err err = {0};

    snprintf(path, sizeof path, "%s/planned.safetensors", folder);
    CHECK(oct_fabricate(&(oct_fabric){.out = path,
                                      .layout = OCT_FABRIC_SINGLE,
                                      .size = oct_model_size_small(1, 0),
                                      .dtype = OCT_F16},
                        &err) == OCT_OK);
    CHECK(oct_source_open(&source, &(oct_model_paths){.model = path}, &err) == OCT_OK);
    CHECK(oct_denoiser_init(&denoiser, &source, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    for (size_t i = 0; i < sizeof sets / sizeof *sets && !test_case_failed; i++)
        check_policy(&source, &denoiser, sets[i]);

    oct_linear kept = {0};
    CHECK(oct_linear_load_layer(&kept, &source, &denoiser, 0, NULL, &err) == OCT_OK);
    CHECK(kept.dtype == OCT_F16 && kept.weight_scale == 1 && kept.input_scale == 0);
    oct_linear_deinit(&kept);
    oct_denoiser_deinit(&denoiser);
    oct_source_close(&source);
}

int main(void)
{
    folder = oct_scratch_make();
    RUN(stored_types_widen_exactly);
    RUN(fp8_weights_scale_the_sum);
    RUN(static_inputs_are_encoded_first);
    RUN(channels_scale_their_own_sums);
    RUN(blocks_are_decoded_before_they_are_multiplied);
    RUN(rows_of_a_table_have_its_scale);
    RUN(every_dialect_loads);
    RUN(unloadable_layers_are_refused);
    RUN(a_plan_quantizes_on_the_way);
    oct_scratch_remove(folder);
    return test_end();
}
