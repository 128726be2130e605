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

typedef enum norm_kind { MODULATE, AFFINE, PLAIN, RMS, NORM_KINDS } norm_kind;

static const char *const norm_name[] = {"modulate", "affine", "plain", "rms"};

// How a number of a row that is normalized goes on: times `factor`, plus `term`.
typedef struct norm_vectors {
    norm_kind kind;
    float eps;
    const float *factor, *term;  // [cols]; factor: scale or weight
} norm_vectors;

// The formulas in binary64, which kernels/norm.c keeps to but for the rounding of the mean.
static void norm_row(float *y, float *bound, const float *x, const norm_vectors *v, size_t cols)
{
    double sum = 0, squares = 0;
    for (size_t c = 0; c < cols; c++) sum += x[c];
    const double mean = v->kind == RMS ? 0 : sum / (double)cols;
    for (size_t c = 0; c < cols; c++) squares += (x[c] - mean) * (x[c] - mean);
    const double inverse = 1 / sqrt(squares / (double)cols + v->eps);
    for (size_t c = 0; c < cols; c++) {
        const double normal = (x[c] - mean) * inverse;
        const double factor = v->kind == PLAIN      ? 1
                              : v->kind == MODULATE ? 1.0 + v->factor[c]
                                                    : v->factor[c];
        y[c] =
            (float)(normal * factor + (v->kind == MODULATE || v->kind == AFFINE ? v->term[c] : 0));
        bound[c] = ULP * (float)(8 * (fabs(normal) + 1) * fabs(factor) + 2 * fabs(y[c]));
    }
}

static void launch_norm(oct_sink y, const float *x, const norm_vectors *v, size_t rows, size_t cols)
{
    const float *factor = cuda_copy(v->factor, cols * sizeof *v->factor);
    const float *term = cuda_copy(v->term, cols * sizeof *v->term);

    switch (v->kind) {
    case MODULATE:
        oct_layer_norm_modulate_cuda(y, x, term, factor, rows, cols, NULL);
        break;
    case RMS:
        oct_rms_norm_cuda(y, x, factor, v->eps, rows, cols, NULL);
        break;
    default:
        oct_layer_norm_cuda(y, x, v->kind == AFFINE ? factor : NULL,
                            v->kind == AFFINE ? term : NULL, v->eps, rows, cols, NULL);
    }
}

static void check_norm(cuda_check *t, oct_dtype to, norm_kind kind, size_t rows, size_t cols,
                       unsigned first)
{
    const size_t n = rows * cols;
    cuda_case(t, "%s to %s, %zux%zu, kind %u", norm_name[kind], oct_dtype_name(to), rows, cols,
              first);
    float *x = cuda_host(n * sizeof *x), *want = cuda_host(n * sizeof *want);
    float *bound = cuda_host(n * sizeof *bound);
    const norm_vectors v = {.kind = kind,
                            .eps = kind == MODULATE ? 1e-6f : 1e-5f,
                            .factor = cuda_uniform(t, cols, 3),
                            .term = cuda_uniform(t, cols, 2)};
    const cuda_target y = cuda_new_target(t, to, n, 0.0123f);

    for (size_t row = 0; row < rows; row++)
        fill_row(t, x + row * cols, cols, (first + (unsigned)row) % 5);
    launch_norm(y.sink, cuda_copy(x, n * sizeof *x), &v, rows, cols);
    for (size_t at = 0; at < n; at += cols) norm_row(want + at, bound + at, x + at, &v, cols);
    cuda_check_target(t, &y, want, bound);
}

static void check_norms(cuda_check *t, norm_kind kind)
{
    static const struct {
        size_t rows, cols;
    } shape[] = {{1, 8}, {3, 64}, {8, 248}, {9, 256}, {17, 264}, {5, 1536}, {7, 2432}};

    for (size_t s = 0; s < CHECK_COUNT(cuda_sinks); s++)
        for (size_t i = 0; i < CHECK_COUNT(shape); i++)
            for (unsigned first = 0; first < 5; first++)
                check_norm(t, cuda_sinks[s], kind, shape[i].rows, shape[i].cols, first);
}

void check_cuda_layer_norm_modulate(cuda_check *t)
{
    check_norms(t, MODULATE);
}

void check_cuda_layer_norm(cuda_check *t)
{
    check_norms(t, AFFINE);
    check_norms(t, PLAIN);
}

void check_cuda_rms_norm(cuda_check *t)
{
    check_norms(t, RMS);
}

static const char *const activation_name[] = {"gelu tanh", "gelu erf", "quick gelu", "silu"};

typedef struct activation_case {
    oct_activation activation;
    oct_dtype from, to;
    check_pattern pattern;
    size_t n;
    bool is_gated;
} activation_case;

// Numbers around zero reach 5; what is multiplied by `up` stays on the CPU's side of overflow.
static void check_activation(cuda_check *t, activation_case c)
{
    const size_t n = c.n;
    cuda_case(t, "%s, %s to %s, %s, n %zu%s", activation_name[c.activation], oct_dtype_name(c.from),
              oct_dtype_name(c.to), check_pattern_name[c.pattern], n, c.is_gated ? ", gated" : "");
    const void *x = cuda_fill(t, c.pattern, c.from, n, 0.0123f);
    const void *up = cuda_narrowed(c.from, cuda_uniform(t, n, 3), n);
    const float *factor = cuda_widened(c.from, up, n);
    float *want = cuda_widened(c.from, x, n);
    const cuda_target y = cuda_new_target(t, c.to, n, 0.00345f);
    const void *device = cuda_copy(x, cuda_bytes(c.from, n));

    oct_activate(want, c.activation, n);
    if (c.is_gated) {
        oct_activate_gated_cuda(y.sink, c.activation, c.from, device,
                                cuda_copy(up, cuda_bytes(c.from, n)), n, NULL);
        for (size_t i = 0; i < n; i++) want[i] *= factor[i];
    } else {
        const oct_activate_args args = {
            .activation = c.activation, .dtype = c.from, .x = device, .rows = 1, .cols = n};
        oct_activate_cuda(y.sink, &args, NULL);
    }
    cuda_check_target(t, &y, want, NULL);
}

// Every pattern at one size, every size with one of them.
static void check_activation_sizes(cuda_check *t, activation_case c)
{
    for (c.pattern = 0; c.pattern < CHECK_PATTERNS; c.pattern++) {
        c.n = 2051;
        check_activation(t, c);
    }
    for (size_t i = 0; cuda_sizes[i] != SIZE_MAX; i++) {
        c.pattern = i % CHECK_PATTERNS;
        c.n = cuda_sizes[i];
        check_activation(t, c);
    }
}

static void check_activations(cuda_check *t, bool is_gated)
{
    for (oct_activation a = OCT_GELU_TANH; a <= OCT_SILU; a++)
        for (size_t f = 0; f < CHECK_COUNT(cuda_floats); f++)
            for (size_t s = 0; s < CHECK_COUNT(cuda_sinks); s++)
                check_activation_sizes(t, (activation_case){.activation = a,
                                                            .from = cuda_floats[f],
                                                            .to = cuda_sinks[s],
                                                            .is_gated = is_gated});
}

void check_cuda_activate(cuda_check *t)
{
    check_activations(t, false);
}

void check_cuda_activate_gated(cuda_check *t)
{
    check_activations(t, true);
}

static void check_gate(cuda_check *t, oct_dtype from, size_t rows, size_t cols, bool has_gate)
{
    const size_t n = rows * cols;
    cuda_case(t, "%s, %zux%zu%s", oct_dtype_name(from), rows, cols, has_gate ? ", gate" : "");
    float *x = cuda_uniform(t, n, 10);
    const void *y = cuda_fill(t, CHECK_OUTLIERS, from, n, 0.01f);
    const float *gate = has_gate ? cuda_uniform(t, cols, 2) : NULL;
    float *sum = cuda_copy(x, n * sizeof *x);

    oct_add_gated_cuda(
        sum,
        &(oct_add_gated_args){.y = cuda_copy(y, cuda_bytes(from, n)),
                              .dtype = from,
                              .gate = gate ? cuda_copy(gate, cols * sizeof *gate) : NULL,
                              .rows = rows,
                              .cols = cols},
        NULL);
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
