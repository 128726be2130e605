// SPDX-License-Identifier: Apache-2.0
//
// The operations of a transformer block. Sums are binary32 on the device and binary64 here: the
// bounds are a few units in the last place of the terms, all else is the same bits.
#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "tests/cuda/check_cuda.h"

#define ULP 0x1p-23f

// Rows of a residual stream: uniform, very far from zero, constant, with outliers, zeros.
static void fill_row(cuda_check *t, float *x, size_t cols, unsigned kind)
{
    check_fill(&t->fill, kind == 3 ? CHECK_OUTLIERS : CHECK_UNIFORM, OCT_F32, x, cols, 1.0f / 448);
    for (size_t c = 0; c < cols; c++) {
        if (kind == 1) x[c] += 300000;
        if (kind == 2) x[c] = 123.456f;
        if (kind == 4) x[c] = 0;
    }
}

// The formula in binary64, which kernels/norm.c keeps to but for the rounding of the mean.
static void norm_row(float *y, float *bound, const float *x, const float *shift, const float *scale,
                     size_t cols)
{
    double sum = 0, squares = 0;
    for (size_t c = 0; c < cols; c++) sum += x[c];
    const double mean = sum / (double)cols;
    for (size_t c = 0; c < cols; c++) squares += (x[c] - mean) * (x[c] - mean);
    const double inverse = 1 / sqrt(squares / (double)cols + 1e-6);
    for (size_t c = 0; c < cols; c++) {
        const double normal = (x[c] - mean) * inverse, factor = 1.0 + scale[c];
        y[c] = (float)(normal * factor + shift[c]);
        bound[c] = ULP * (float)(8 * (fabs(normal) + 1) * fabs(factor) + 2 * fabs(y[c]));
    }
}

static void check_norm(cuda_check *t, oct_dtype to, size_t rows, size_t cols, unsigned kind)
{
    const size_t n = rows * cols;
    cuda_case(t, "to %s, %zux%zu, kind %u", oct_dtype_name(to), rows, cols, kind);
    float *x = cuda_host(n * sizeof *x), *want = cuda_host(n * sizeof *want);
    float *bound = cuda_host(n * sizeof *bound);
    const float *shift = cuda_uniform(t, cols, 2), *scale = cuda_uniform(t, cols, 3);
    const cuda_target y = cuda_new_target(t, to, n, 0.0123f);

    for (size_t row = 0; row < rows; row++)
        fill_row(t, x + row * cols, cols, (kind + (unsigned)row) % 5);
    oct_layer_norm_modulate_cuda(y.sink, cuda_copy(x, n * sizeof *x),
                                 cuda_copy(shift, cols * sizeof *shift),
                                 cuda_copy(scale, cols * sizeof *scale), rows, cols, NULL);
    for (size_t at = 0; at < n; at += cols)
        norm_row(want + at, bound + at, x + at, shift, scale, cols);
    cuda_check_target(t, &y, want, bound);
}

void check_cuda_layer_norm_modulate(cuda_check *t)
{
    static const struct {
        size_t rows, cols;
    } shape[] = {{1, 8}, {3, 64}, {8, 248}, {9, 256}, {17, 264}, {5, 1536}, {7, 2432}};

    for (size_t s = 0; s < CHECK_COUNT(cuda_sinks); s++)
        for (size_t i = 0; i < CHECK_COUNT(shape); i++)
            for (unsigned kind = 0; kind < 5; kind++)
                check_norm(t, cuda_sinks[s], shape[i].rows, shape[i].cols, kind);
}

static void check_activation(cuda_check *t, oct_dtype from, oct_dtype to, check_pattern pattern,
                             size_t n)
{
    cuda_case(t, "%s to %s, %s, n %zu", oct_dtype_name(from), oct_dtype_name(to),
              check_pattern_name[pattern], n);
    const void *x = cuda_fill(t, pattern, from, n, 0.0123f);
    float *want = cuda_widened(from, x, n);
    const cuda_target y = cuda_new_target(t, to, n, 0.00345f);

    oct_gelu_cuda(y.sink, from, cuda_copy(x, cuda_bytes(from, n)), n, NULL);
    oct_activate(want, OCT_GELU_TANH, n);
    cuda_check_target(t, &y, want, NULL);
}

// Every pattern at one size, every size with one of them.
void check_cuda_gelu(cuda_check *t)
{
    for (size_t f = 0; f < CHECK_COUNT(cuda_floats); f++) {
        for (size_t s = 0; s < CHECK_COUNT(cuda_sinks); s++) {
            for (check_pattern p = 0; p < CHECK_PATTERNS; p++)
                check_activation(t, cuda_floats[f], cuda_sinks[s], p, 2051);
            for (size_t i = 0; cuda_sizes[i] != SIZE_MAX; i++)
                check_activation(t, cuda_floats[f], cuda_sinks[s], i % CHECK_PATTERNS,
                                 cuda_sizes[i]);
        }
    }
}

static void check_gate(cuda_check *t, oct_dtype from, size_t rows, size_t cols, bool has_gate)
{
    const size_t n = rows * cols;
    cuda_case(t, "%s, %zux%zu%s", oct_dtype_name(from), rows, cols, has_gate ? ", gate" : "");
    float *x = cuda_uniform(t, n, 10);
    const void *y = cuda_fill(t, CHECK_OUTLIERS, from, n, 0.01f);
    const float *gate = has_gate ? cuda_uniform(t, cols, 2) : NULL;
    float *sum = cuda_copy(x, n * sizeof *x);

    oct_add_gated_cuda(sum, from, cuda_copy(y, cuda_bytes(from, n)),
                       gate ? cuda_copy(gate, cols * sizeof *gate) : NULL, rows, cols, NULL);
    oct_add_gated(x, cuda_widened(from, y, n), gate, rows, cols);
    cuda_check_floats(t, sum, x, NULL, n);
}

void check_cuda_add_gated(cuda_check *t)
{
    static const struct {
        size_t rows, cols;
    } shape[] = {{1, 8}, {3, 16}, {1, 2040}, {2, 1024}, {3, 1536}, {7, 2432}};

    for (size_t f = 0; f < CHECK_COUNT(cuda_floats); f++)
        for (size_t i = 0; i < CHECK_COUNT(shape); i++)
            for (int has_gate = 0; has_gate < 2; has_gate++)
                check_gate(t, cuda_floats[f], shape[i].rows, shape[i].cols, has_gate);
}

// qkv: [tokens][3][heads][64] on the host; queries, keys or values as attention reads them, over
// what `out` holds.
static void split_part(const oct_heads_args *a, float *qkv, size_t part, const float *norm,
                       float *out)
{
    enum { HEAD = OCT_HEAD_CUDA };
    for (size_t i = 0; i < a->tokens * a->heads; i++) {
        const size_t token = i / a->heads, head = i % a->heads;
        float *from = qkv + ((token * 3 + part) * a->heads + head) * HEAD;
        if (norm) oct_rms_norm(from, norm, 1e-6f, 1, HEAD, HEAD);
        memcpy(out + (head * a->joint + a->first + token) * HEAD, from, HEAD * sizeof *out);
    }
}

static void check_part(cuda_check *t, const oct_heads_args *a, const float *want,
                       const void *device, bool has_norm)
{
    const size_t n = a->heads * a->joint * OCT_HEAD_CUDA;
    const cuda_target y = {.sink = {.data = (void *)device, .dtype = a->out_dtype}, .n = n};
    float *bound = cuda_host(n * sizeof *bound);

    for (size_t i = 0; i < n; i++) bound[i] = 4 * ULP * fabsf(want[i]);
    cuda_check_target(t, &y, want, has_norm ? bound : NULL);
}

static void check_heads(cuda_check *t, oct_dtype from, oct_dtype to, oct_heads_args a,
                        bool has_norm)
{
    const size_t in = a.tokens * 3 * a.heads * OCT_HEAD_CUDA;
    const size_t out = a.heads * a.joint * OCT_HEAD_CUDA;
    cuda_case(t, "%s to %s, tokens %zu at %zu of %zu, heads %zu%s", oct_dtype_name(from),
              oct_dtype_name(to), a.tokens, a.first, a.joint, a.heads, has_norm ? ", norm" : "");
    const void *x = cuda_fill(t, CHECK_OUTLIERS, from, in, 0.05f);
    float *qkv = cuda_widened(from, x, in), *want[3];
    const float *norm[3] = {cuda_uniform(t, OCT_HEAD_CUDA, 3), cuda_uniform(t, OCT_HEAD_CUDA, 3)};
    void *device[3];

    a.dtype = from;
    a.out_dtype = to;
    for (size_t part = 0; part < 3; part++) {
        void *before = cuda_narrowed(to, cuda_uniform(t, out, 1), out);  // must stay elsewhere
        want[part] = cuda_widened(to, before, out);
        device[part] = cuda_copy(before, cuda_bytes(to, out));
        split_part(&a, qkv, part, has_norm ? norm[part] : NULL, want[part]);
    }
    a.qkv = cuda_copy(x, cuda_bytes(from, in));
    a.norm_q = has_norm ? cuda_copy(norm[0], OCT_HEAD_CUDA * sizeof(float)) : NULL;
    a.norm_k = has_norm ? cuda_copy(norm[1], OCT_HEAD_CUDA * sizeof(float)) : NULL;
    a.q = device[0];
    a.k = device[1];
    a.v = device[2];
    oct_split_heads_cuda(&a, NULL);
    for (size_t part = 0; part < 3; part++)
        check_part(t, &a, want[part], device[part], has_norm && part < 2);
}

void check_cuda_split_heads(cuda_check *t)
{
    static const oct_heads_args shape[] = {
        {.tokens = 1, .heads = 1, .first = 0, .joint = 1},
        {.tokens = 3, .heads = 3, .first = 2, .joint = 7},
        {.tokens = 11, .heads = 6, .first = 5, .joint = 16},
        {.tokens = 7, .heads = 24, .first = 0, .joint = 9},
        {.tokens = 5, .heads = 38, .first = 4, .joint = 9},
    };

    for (size_t f = 0; f < CHECK_COUNT(cuda_floats); f++)
        for (size_t s = 0; s < CHECK_COUNT(cuda_floats); s++)
            for (size_t i = 0; i < CHECK_COUNT(shape); i++)
                for (int has_norm = 0; has_norm < 2; has_norm++)
                    check_heads(t, cuda_floats[f], cuda_floats[s], shape[i], has_norm);
}
