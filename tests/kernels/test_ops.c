// SPDX-License-Identifier: Apache-2.0
//
// Each CPU operation against a plain loop in double.
//
// Bounds: inputs are about 1, so a sum of k products is known to about k * 2^-24 times the sum of
// their magnitudes (k here), in practice to its square root; `4e-7 * k` holds with margin, and a
// wrong index shows as an error near 1.
#include "kernels/ops.h"

#include <omp.h>
#include <stdlib.h>

#include "common/number.h"
#include "kernels/exp.h"
#include "tests/test.h"

static uint64_t state = 1;

static double uniform(void)  // -1..1
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 40) / (1 << 23) - 1;
}

static float *numbers(size_t n)
{
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)uniform();
    return x;
}

static float *garbage(size_t n)  // an output: what is not written stays NaN
{
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

// The largest difference; NaN counts as infinite.
static double distance(const float *got, const double *want, size_t n)
{
    double max = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs(got[i] - want[i]);
        if (!(d <= max)) max = isnan(d) ? INFINITY : d;
    }
    return max;
}

static double *naive_gemm(const float *x, const float *w, const float *bias, float scale, size_t m,
                          size_t n, size_t k)
{
    double *y = malloc(m * n * sizeof *y);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++) sum += (double)x[i * k + l] * w[j * k + l];
            y[i * n + j] = sum * scale + (bias ? bias[j] : 0);
        }
    }
    return y;
}

static void gemm_case(size_t m, size_t n, size_t k, bool has_bias)
{
    float *x = numbers(m * k), *w = numbers(n * k), *b = numbers(n), *y = garbage(m * n);
    const float *bias = has_bias ? b : NULL;
    double *want = naive_gemm(x, w, bias, 0.5f, m, n, k);

    oct_gemm(y, x, w, bias, 0.5f, m, n, k);
    CHECK_NEAR(distance(y, want, m * n), 0, 4e-7 * (double)k);
    free(x), free(w), free(b), free(y), free(want);
}

static void gemm_multiplies_scales_and_adds_bias(void)
{
    for (int has_bias = 0; has_bias < 2; has_bias++) {
        gemm_case(1, 1, 1, has_bias);
        gemm_case(1, 37, 65, has_bias);  // few rows: one vector at a time
        gemm_case(4, 19, 130, has_bias);
        gemm_case(5, 19, 130, has_bias);     // the first shape that goes to sgemm
        gemm_case(270, 120, 129, has_bias);  // four tiles
    }
}

// Weights as stored, and what they are as binary32.
static void *stored_weights(oct_dtype dtype, size_t n, float *wide)
{
    uint8_t *w = malloc(n * 4 + 1);
    for (size_t i = 0; i < n; i++) {
        const float value = (float)uniform();
        const uint16_t f16 = oct_f32_to_f16(value), bf16 = oct_f32_to_bf16(value);
        switch (dtype) {
        case OCT_F16:
            wide[i] = oct_f16_to_f32(f16), memcpy(w + 2 * i, &f16, 2);
            break;
        case OCT_BF16:
            wide[i] = oct_bf16_to_f32(bf16), memcpy(w + 2 * i, &bf16, 2);
            break;
        case OCT_F8_E4M3:
            wide[i] = oct_e4m3_to_f32(w[i] = oct_f32_to_e4m3(value));
            break;
        case OCT_F8_E5M2:
            wide[i] = oct_e5m2_to_f32(w[i] = oct_f32_to_e5m2(value));
            break;
        default:
            wide[i] = value, memcpy(w + 4 * i, &value, 4);
        }
    }
    return w;
}

static void gemm_weights_case(oct_dtype dtype, size_t m, size_t n, size_t k)
{
    float *x = numbers(m * k), *wide = numbers(n * k), *bias = numbers(n), *y = garbage(m * n);
    void *w = stored_weights(dtype, n * k, wide);
    double *want = naive_gemm(x, wide, bias, 0.25f, m, n, k);

    oct_gemm_weights(y, x, dtype, w, bias, 0.25f, m, n, k);
    CHECK_NEAR(distance(y, want, m * n), 0, 4e-7 * (double)k);
    free(x), free(w), free(wide), free(bias), free(y), free(want);
}

static void gemm_reads_weights_of_every_stored_type(void)
{
    static const oct_dtype dtypes[] = {OCT_F32, OCT_F16, OCT_BF16, OCT_F8_E4M3, OCT_F8_E5M2};
    for (int i = 0; i < 5; i++) {
        gemm_weights_case(dtypes[i], 1, 1, 1);
        gemm_weights_case(dtypes[i], 3, 41, 67);
        gemm_weights_case(dtypes[i], 17, 41, 67);
        gemm_weights_case(dtypes[i], 300, 150, 33);  // more than one tile either way
    }
}

static void gemm_of_no_rows_does_nothing(void)
{
    float w = 1, y = 7;
    oct_gemm(&y, &w, &w, NULL, 1, 0, 1, 1);
    CHECK(y == 7);
}

typedef enum affine { PLAIN, AFFINE, MODULATED } affine;

static void naive_layer_norm(double *y, const float *x, const float *w, const float *b, affine form,
                             size_t cols)
{
    double mean = 0, variance = 0;
    for (size_t c = 0; c < cols; c++) mean += x[c] / (double)cols;
    for (size_t c = 0; c < cols; c++) variance += pow(x[c] - mean, 2) / (double)cols;
    for (size_t c = 0; c < cols; c++) {
        y[c] = (x[c] - mean) / sqrt(variance + 1e-6);
        if (form == AFFINE) y[c] = y[c] * w[c] + b[c];
        if (form == MODULATED) y[c] = y[c] * (1.0 + w[c]) + b[c];
    }
}

static void layer_norm_case(size_t rows, size_t cols, double offset, affine form)
{
    const size_t n = rows * cols;
    float *x = numbers(n), *w = numbers(cols), *b = numbers(cols), *y = garbage(n);
    double *want = malloc(n * sizeof *want);

    for (size_t i = 0; i < n; i++) x[i] = (float)(x[i] + offset);
    for (size_t r = 0; r < rows; r++)
        naive_layer_norm(want + r * cols, x + r * cols, w, b, form, cols);

    // A few roundings of numbers below 4; at an offset o, the mean is rounded to o * 2^-24.
    const double bound = 2e-6 + fabs(offset) * 4e-7;
    for (int in_place = 0; in_place < 2; in_place++) {
        float *out = in_place ? x : y;
        if (form == MODULATED)
            oct_layer_norm_modulate(out, x, b, w, rows, cols);
        else
            oct_layer_norm(out, x, form ? w : NULL, form ? b : NULL, 1e-6f, rows, cols);
        CHECK_NEAR(distance(out, want, n), 0, bound);
    }
    free(x), free(w), free(b), free(y), free(want);
}

static void layer_norm_is_the_formula(void)
{
    for (affine form = PLAIN; form <= MODULATED; form++) {
        layer_norm_case(1, 7, 0, form);
        layer_norm_case(5, 33, 3, form);
        layer_norm_case(40, 1000, -100, form);  // enough for threads
    }
}

static void layer_norm_of_a_constant_row_is_its_bias(void)
{
    float x[5] = {3, 3, 3, 3, 3}, bias[5] = {1, 2, 3, 4, 5}, y[5];
    oct_layer_norm(y, x, NULL, bias, 1e-6f, 1, 5);
    CHECK(memcmp(y, bias, sizeof y) == 0);
}

static void rms_norm_leaves_what_lies_between_its_rows(void)
{
    enum { ROWS = 9, COLS = 37, STRIDE = 64 };
    float *x = numbers(ROWS * STRIDE), *w = numbers(COLS);
    double want[ROWS * STRIDE];

    for (int i = 0; i < ROWS * STRIDE; i++) want[i] = x[i];
    for (int r = 0; r < ROWS; r++) {
        double squares = 0, *row = want + r * STRIDE;
        for (int c = 0; c < COLS; c++) squares += row[c] * row[c];
        for (int c = 0; c < COLS; c++) row[c] *= w[c] / sqrt(squares / COLS + 1e-6);
    }
    oct_rms_norm(x, w, 1e-6f, ROWS, COLS, STRIDE);
    CHECK_NEAR(distance(x, want, ROWS * STRIDE), 0, 1e-6);  // three roundings of numbers below 4
    for (int i = 0; i < ROWS * STRIDE; i++)
        if (i % STRIDE >= COLS) CHECK(x[i] == want[i]);
    free(x), free(w);
}

static void add_gated_multiplies_by_the_gate_if_there_is_one(void)
{
    float x[6] = {1, 2, 3, 4, 5, 6};
    const float y[6] = {10, 20, 30, 40, 50, 60}, gate[3] = {2, 0, -1};
    const float gated[6] = {21, 2, -27, 84, 5, -54}, added[6] = {31, 22, 3, 124, 55, 6};

    oct_add_gated(x, y, gate, 2, 3);
    CHECK(memcmp(x, gated, sizeof x) == 0);
    oct_add_gated(x, y, NULL, 2, 3);
    CHECK(memcmp(x, added, sizeof x) == 0);
}

static void the_exponential_is_good_to_a_unit_in_the_last_place(void)
{
    for (float x = -87; x < 88; x += 0.0001f) CHECK_NEAR(oct_exp(x) / exp(x), 1, 1e-7);
    CHECK(oct_exp(0) == 1);
    CHECK(oct_exp(-INFINITY) == oct_exp(-87) && oct_exp(INFINITY) == oct_exp(88));
    CHECK(isnan(oct_exp(NAN)));
}

static double naive_activation(oct_activation activation, double x)
{
    switch (activation) {
    case OCT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case OCT_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case OCT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    default:
        return x / (1 + exp(-x));
    }
}

static void activations_are_their_formulas(void)
{
    enum { N = 20001 };  // several pieces and a ragged one
    float *x = malloc(N * sizeof *x);

    for (oct_activation a = OCT_GELU_TANH; a <= OCT_SILU; a++) {
        for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) * 0.002f;
        oct_activate(x, a, N);
        for (int i = 0; i < N; i++) {
            const float in = (float)(i - N / 2) * 0.002f;
            const double want = naive_activation(a, in);
            // The exponent's own rounding grows with it; where that matters the result is small
            // beside the input.
            CHECK_NEAR(x[i], want, 4e-7 * fabs(want) + 1e-7 * fabs(in));
        }
    }
    free(x);
}

static void activations_of_large_and_odd_inputs_stay_sane(void)
{
    for (oct_activation a = OCT_GELU_TANH; a <= OCT_SILU; a++) {
        float x[5] = {1e4f, -1e4f, 0, -0.0f, NAN};
        oct_activate(x, a, 5);
        CHECK(x[0] == 1e4f && fabsf(x[1]) < 1e-30f && x[2] == 0 && x[3] == 0 && isnan(x[4]));
    }
}

typedef struct attention_case {
    size_t tokens_q, tokens_k, heads, head_dim, padding;
    bool is_causal, has_bias;
} attention_case;

static double naive_score(const oct_attention_args *a, size_t head, size_t i, size_t j)
{
    const float *q = a->q + i * a->q_stride + head * a->head_dim;
    const float *k = a->k + j * a->k_stride + head * a->head_dim;
    double score = 0;
    for (size_t c = 0; c < a->head_dim; c++) score += (double)q[c] * k[c];
    score *= a->scale;
    return a->bias ? score + a->bias[(head * a->tokens_q + i) * a->tokens_k + j] : score;
}

static void naive_attention(double *out, const oct_attention_args *a, size_t head, size_t i)
{
    double *p = malloc(a->tokens_k * sizeof *p), max = -INFINITY, total = 0;
    const size_t keys = a->is_causal && i + 1 < a->tokens_k ? i + 1 : a->tokens_k;

    for (size_t j = 0; j < keys; j++) {
        p[j] = naive_score(a, head, i, j);
        if (p[j] > max) max = p[j];
    }
    for (size_t j = 0; j < keys; j++) total += p[j] = exp(p[j] - max);
    for (size_t c = 0; c < a->head_dim; c++) {
        const float *v = a->v + head * a->head_dim + c;
        out[c] = 0;
        for (size_t j = 0; j < keys; j++) out[c] += p[j] / total * v[j * a->v_stride];
    }
    free(p);
}

static void compare_attention(const oct_attention_args *a)
{
    double *want = malloc(a->head_dim * sizeof *want);

    oct_attention(a);
    for (size_t i = 0; i < a->tokens_q; i++) {
        const float *row = a->out + i * a->out_stride;
        for (size_t h = 0; h < a->heads; h++) {
            naive_attention(want, a, h, i);
            // A mean of numbers below 1 with weights good to some 2^-24 times the scores (< 30).
            CHECK_NEAR(distance(row + h * a->head_dim, want, a->head_dim), 0, 5e-6);
        }
        for (size_t c = a->heads * a->head_dim; c < a->out_stride; c++) CHECK(isnan(row[c]));
    }
    free(want);
}

static void check_attention(attention_case s)
{
    const size_t stride = s.heads * s.head_dim + s.padding;
    const size_t scores = s.heads * s.tokens_q * s.tokens_k;
    float *q = numbers(s.tokens_q * stride), *k = numbers(s.tokens_k * (stride + 1)),
          *v = numbers(s.tokens_k * (stride + 2)), *out = garbage(s.tokens_q * (stride + 3)),
          *bias = numbers(scores);

    // Scores that grow with the key, so that the running maximum changes in every tile.
    for (size_t i = 0; i < scores; i++) bias[i] += (float)(i % s.tokens_k) * 0.02f;
    compare_attention(&(oct_attention_args){
        .out = out,
        .q = q,
        .k = k,
        .v = v,
        .out_stride = stride + 3,
        .q_stride = stride,
        .k_stride = stride + 1,
        .v_stride = stride + 2,
        .tokens_q = s.tokens_q,
        .tokens_k = s.tokens_k,
        .heads = s.heads,
        .head_dim = s.head_dim,
        .scale = 3.0f / sqrtf((float)s.head_dim),
        .is_causal = s.is_causal,
        .bias = s.has_bias ? bias : NULL,
    });
    free(q), free(k), free(v), free(bias), free(out);
}

static void attention_is_the_formula(void)
{
    for (int bias = 0; bias < 2; bias++) {
        check_attention((attention_case){1, 1, 1, 1, 0, false, bias});
        check_attention((attention_case){5, 7, 2, 3, 0, false, bias});
        check_attention((attention_case){77, 77, 3, 64, 0, false, bias});
        check_attention((attention_case){65, 257, 2, 64, 5, false, bias});
        check_attention((attention_case){130, 600, 1, 40, 1, false, bias});
    }
}

static void causal_attention_sees_no_later_key(void)
{
    for (int bias = 0; bias < 2; bias++) {
        check_attention((attention_case){1, 1, 1, 8, 0, true, bias});
        check_attention((attention_case){77, 77, 3, 64, 2, true, bias});
        check_attention((attention_case){300, 300, 1, 16, 0, true, bias});
        check_attention((attention_case){600, 520, 1, 16, 0, true, bias});
    }
}

// One head of one channel.
static oct_attention_args of_scalars(float *out, const float *q, const float *k, const float *v,
                                     size_t tokens_q, size_t tokens_k)
{
    return (oct_attention_args){
        .out = out,
        .q = q,
        .k = k,
        .v = v,
        .out_stride = 1,
        .q_stride = 1,
        .k_stride = 1,
        .v_stride = 1,
        .tokens_q = tokens_q,
        .tokens_k = tokens_k,
        .heads = 1,
        .head_dim = 1,
        .scale = 1,
    };
}

static void attend_scalars(float *out, const float *q, const float *k, const float *v,
                           const float *bias, size_t tokens_q, size_t tokens_k)
{
    oct_attention_args args = of_scalars(out, q, k, v, tokens_q, tokens_k);
    args.bias = bias;
    oct_attention(&args);
}

static void attention_survives_huge_scores(void)
{
    const float q[2] = {300, -300}, k[2] = {300, 299}, v[2] = {5, 7};
    float out[2];
    attend_scalars(out, q, k, v, NULL, 2, 2);
    CHECK(out[0] == 5 && out[1] == 7);  // the other weight is e^-300
}

static void attention_ignores_keys_that_the_bias_masks(void)
{
    enum { KEYS = 300 };  // the whole first tile of keys is masked
    float q = 1, k[KEYS], v[KEYS], bias[KEYS], out;
    for (int j = 0; j < KEYS; j++) {
        k[j] = 1, v[j] = j < 299 ? 1000 : 3;
        bias[j] = j < 299 ? -INFINITY : 0;
    }
    attend_scalars(&out, &q, k, v, bias, 1, KEYS);
    CHECK(out == 3);
}

// 256 e^-1 = 94.2 lies nearer to 96 than to 88. Nothing is left of 256 e^-13 = 0.0006, and of the
// last key's 256 e^-12.2 = 0.0013 the smallest code, 2^-9. The sum has the weights as they were.
static void attention_rounds_weights_to_e4m3(void)
{
    enum { KEYS = 300 };  // two tiles
    const float q = 1;
    float k[KEYS], v[KEYS], out;
    double sum = 1 + 0.375 * 7 + 0x1p-17 * 5000, total = 1 + exp(-1) + exp(-12.2);
    for (int j = 0; j < KEYS; j++) k[j] = -13, v[j] = 1000;
    k[0] = 0, v[0] = 1;
    k[1] = -1, v[1] = 7;
    k[KEYS - 1] = -12.2f, v[KEYS - 1] = 5000;
    total += (KEYS - 3) * exp(-13);
    oct_attention_args args = of_scalars(&out, &q, k, v, 1, KEYS);
    args.has_e4m3_weights = true;
    oct_attention(&args);
    CHECK_NEAR(out, sum / total, 5e-6);  // binary32 sums of 300 numbers, of size 2.7
}

static void attention_does_not_hide_a_nan(void)
{
    const float q[2] = {1, 1}, k[2] = {NAN, 1}, v[2] = {1, 1};
    float out[2];
    attend_scalars(out, q, k, v, NULL, 2, 2);
    CHECK(isnan(out[0]) && isnan(out[1]));
}

typedef struct conv_shape {
    size_t in, out, height, width, kernel;
} conv_shape;

static double naive_conv_at(const float *x, const float *weight, const conv_shape *s, size_t o,
                            ptrdiff_t row, ptrdiff_t col)
{
    const ptrdiff_t h = (ptrdiff_t)s->height, w = (ptrdiff_t)s->width, edge = s->kernel / 2;
    double sum = 0;

    for (size_t i = 0; i < s->in; i++, x += h * w) {
        const float *taps = weight + (o * s->in + i) * s->kernel * s->kernel;
        for (ptrdiff_t dy = -edge; dy <= edge; dy++) {
            for (ptrdiff_t dx = -edge; dx <= edge; dx++, taps++) {
                const ptrdiff_t y = row + dy, z = col + dx;
                if (y >= 0 && y < h && z >= 0 && z < w) sum += (double)x[y * w + z] * *taps;
            }
        }
    }
    return sum;
}

static void conv_case(conv_shape s, oct_dtype dtype, bool has_bias)
{
    const size_t pixels = s.height * s.width, taps = s.in * s.kernel * s.kernel;
    float *x = numbers(s.in * pixels), *wide = numbers(s.out * taps), *bias = numbers(s.out),
          *y = garbage(s.out * pixels);
    void *weight = stored_weights(dtype, s.out * taps, wide);
    double *want = malloc(s.out * pixels * sizeof *want);

    for (size_t i = 0; i < s.out * pixels; i++) {
        const size_t o = i / pixels, pixel = i % pixels;
        want[i] = naive_conv_at(x, wide, &s, o, (ptrdiff_t)(pixel / s.width),
                                (ptrdiff_t)(pixel % s.width));
        if (has_bias) want[i] += bias[o];
    }
    oct_conv2d(y, x, dtype, weight, has_bias ? bias : NULL, s.in, s.out, s.height, s.width,
               s.kernel);
    CHECK_NEAR(distance(y, want, s.out * pixels), 0, 4e-7 * (double)taps);
    free(x), free(wide), free(bias), free(y), free(weight), free(want);
}

static void conv_pads_with_zeros(void)
{
    for (int bias = 0; bias < 2; bias++) {
        conv_case((conv_shape){1, 1, 1, 1, 3}, OCT_F32, bias);
        conv_case((conv_shape){2, 3, 5, 1, 3}, OCT_F32, bias);
        conv_case((conv_shape){2, 3, 1, 300, 3}, OCT_F16, bias);
        conv_case((conv_shape){3, 5, 17, 31, 3}, OCT_F32, bias);  // a tile ends inside a row
        conv_case((conv_shape){4, 16, 40, 13, 3}, OCT_BF16, bias);
    }
}

static void down2_case(conv_shape s, oct_dtype dtype)
{
    const size_t width = s.width / 2, pixels = s.height / 2 * width, taps = s.in * 9;
    float *x = numbers(s.in * s.height * s.width), *wide = numbers(s.out * taps),
          *bias = numbers(s.out), *y = garbage(s.out * pixels);
    void *weight = stored_weights(dtype, s.out * taps, wide);
    double *want = malloc(s.out * pixels * sizeof *want);

    for (size_t i = 0; i < s.out * pixels; i++) {
        const size_t o = i / pixels, pixel = i % pixels;  // centres lie at odd rows and columns
        want[i] = bias[o] + naive_conv_at(x, wide, &s, o, (ptrdiff_t)(pixel / width * 2 + 1),
                                          (ptrdiff_t)(pixel % width * 2 + 1));
    }
    oct_conv2d_down2(y, x, dtype, weight, bias, s.in, s.out, s.height, s.width);
    CHECK_NEAR(distance(y, want, s.out * pixels), 0, 4e-7 * (double)taps);
    free(x), free(wide), free(bias), free(y), free(weight), free(want);
}

static void conv_down2_pads_right_and_below(void)
{
    down2_case((conv_shape){1, 1, 2, 2, 3}, OCT_F32);
    down2_case((conv_shape){3, 5, 7, 5, 3}, OCT_F32);  // odd sides need no padding
    down2_case((conv_shape){2, 3, 2, 600, 3}, OCT_F16);
    down2_case((conv_shape){4, 16, 40, 26, 3}, OCT_BF16);
}

static void conv_of_one_tap_mixes_channels(void)
{
    conv_case((conv_shape){1, 1, 1, 1, 1}, OCT_F32, true);
    conv_case((conv_shape){7, 5, 19, 29, 1}, OCT_F16, true);
    conv_case((conv_shape){7, 5, 19, 29, 1}, OCT_F32, false);
}

static void group_norm_case(size_t groups, size_t channels, size_t pixels, double offset, bool silu)
{
    const size_t n = channels * pixels, group_n = n / groups;
    float *x = numbers(n), *w = numbers(channels), *b = numbers(channels), *y = garbage(n);
    double *want = malloc(n * sizeof *want);

    for (size_t i = 0; i < n; i++) x[i] = (float)(x[i] + offset);
    for (size_t g = 0; g < groups; g++)
        naive_layer_norm(want + g * group_n, x + g * group_n, NULL, NULL, PLAIN, group_n);
    for (size_t i = 0; i < n; i++) {
        const double v = want[i] * w[i / pixels] + b[i / pixels];
        want[i] = silu ? v / (1 + exp(-v)) : v;
    }
    const double bound = 2e-6 + fabs(offset) * 4e-7;  // as for layer_norm
    for (int in_place = 0; in_place < 2; in_place++) {
        float *out = in_place ? x : y;
        oct_group_norm(out, x, w, b, 1e-6f, groups, channels, pixels, silu);
        CHECK_NEAR(distance(out, want, n), 0, bound);
    }
    free(x), free(w), free(b), free(y), free(want);
}

static void group_norm_is_the_formula(void)
{
    for (int silu = 0; silu < 2; silu++) {
        group_norm_case(1, 1, 2, 0, silu);
        group_norm_case(32, 64, 35, 0, silu);
        group_norm_case(4, 12, 1001, 50, silu);
    }
}

static void upsample_repeats_every_pixel_four_times(void)
{
    const float x[6] = {1, 2, 3, 4, 5, 6};
    const float want[24] = {1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 4, 4, 5, 5, 6, 6};
    float y[24];

    oct_upsample2(y, x, 1, 2, 3);
    CHECK(memcmp(y, want, sizeof y) == 0);
    oct_upsample2(y, x, 2, 1, 3);  // rows are rows, whatever the channel
    CHECK(memcmp(y, want, sizeof y) == 0);
}

// Few and many rows through GEMM, attention, convolution, norms; every result into one array.
static void run_everything(float *y, const float *x, const float *w)
{
    enum { TOKENS = 150, WIDTH = 64, SIDE = 30, IMAGE = 16 * SIDE * SIDE };

    oct_gemm(y, x, w, NULL, 1, 3, 101, 100);
    y += 3 * 101;
    oct_gemm(y, x, w, NULL, 1, 40, 100, 390);  // beyond one block of k in BLAS
    y += 40 * 100;
    oct_attention(&(oct_attention_args){
        .out = y,
        .q = x,
        .k = w,
        .v = x,
        .out_stride = WIDTH,
        .q_stride = WIDTH,
        .k_stride = WIDTH,
        .v_stride = WIDTH,
        .tokens_q = TOKENS,
        .tokens_k = TOKENS,
        .heads = 2,
        .head_dim = 32,
        .scale = 1,
    });
    y += TOKENS * WIDTH;
    oct_conv2d(y, x, OCT_F32, w, NULL, 16, 16, SIDE, SIDE, 3);
    y += IMAGE;
    oct_layer_norm(y, x, NULL, NULL, 1e-6f, 300, 60);
}

static void results_do_not_depend_on_the_thread_count(void)
{
    enum { IN = 40000, OUT = 3 * 101 + 4000 + 150 * 64 + 16 * 900 + 18000 };
    float *x = numbers(IN), *w = numbers(IN), *one = garbage(OUT), *three = garbage(OUT);
    const int threads = omp_get_max_threads();

    omp_set_num_threads(1);
    run_everything(one, x, w);
    omp_set_num_threads(3);
    run_everything(three, x, w);
    omp_set_num_threads(threads);
    CHECK(memcmp(one, three, OUT * sizeof *one) == 0);
    free(x), free(w), free(one), free(three);
}

int main(void)
{
    RUN(gemm_multiplies_scales_and_adds_bias);
    RUN(gemm_reads_weights_of_every_stored_type);
    RUN(gemm_of_no_rows_does_nothing);
    RUN(layer_norm_is_the_formula);
    RUN(layer_norm_of_a_constant_row_is_its_bias);
    RUN(rms_norm_leaves_what_lies_between_its_rows);
    RUN(add_gated_multiplies_by_the_gate_if_there_is_one);
    RUN(the_exponential_is_good_to_a_unit_in_the_last_place);
    RUN(activations_are_their_formulas);
    RUN(activations_of_large_and_odd_inputs_stay_sane);
    RUN(attention_is_the_formula);
    RUN(causal_attention_sees_no_later_key);
    RUN(attention_survives_huge_scores);
    RUN(attention_ignores_keys_that_the_bias_masks);
    RUN(attention_rounds_weights_to_e4m3);
    RUN(attention_does_not_hide_a_nan);
    RUN(conv_pads_with_zeros);
    RUN(conv_down2_pads_right_and_below);
    RUN(conv_of_one_tap_mixes_channels);
    RUN(group_norm_is_the_formula);
    RUN(upsample_repeats_every_pixel_four_times);
    RUN(results_do_not_depend_on_the_thread_count);
    return test_end();
}
