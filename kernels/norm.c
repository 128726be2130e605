// SPDX-License-Identifier: Apache-2.0
//
// Rows are independent, so the thread count does not change a result. `omp simd` also tells the
// compiler that work in place is safe: an element depends on itself alone.
#include "kernels/ops.h"

#include <assert.h>
#include <math.h>

#include "kernels/moments.h"

#define ENOUGH_FOR_THREADS 16384  // numbers, below which starting threads costs more

typedef struct moments {
    float mean, inverse_deviation;
} moments;

static moments row_moments(const float *x, size_t cols, float eps)
{
    double mean, variance;
    oct_moments(x, cols, &mean, &variance);
    return (moments){(float)mean, (float)(1 / sqrt(variance + eps))};
}

void oct_layer_norm(float *y, const float *x, const float *weight, const float *bias, float eps,
                    size_t rows, size_t cols)
{
    assert(cols > 0);
#pragma omp parallel for if (rows * cols > ENOUGH_FOR_THREADS)
    for (size_t row = 0; row < rows; row++) {
        const float *in = x + row * cols;
        float *out = y + row * cols;
        const moments m = row_moments(in, cols, eps);
#pragma omp simd
        for (size_t c = 0; c < cols; c++) {
            const float normal = (in[c] - m.mean) * m.inverse_deviation;
            out[c] = normal * (weight ? weight[c] : 1.0f) + (bias ? bias[c] : 0.0f);
        }
    }
}

void oct_layer_norm_modulate(float *y, const float *x, const float *shift, const float *scale,
                             size_t rows, size_t cols)
{
    assert(cols > 0);
#pragma omp parallel for if (rows * cols > ENOUGH_FOR_THREADS)
    for (size_t row = 0; row < rows; row++) {
        const float *in = x + row * cols;
        float *out = y + row * cols;
        const moments m = row_moments(in, cols, 1e-6f);
#pragma omp simd
        for (size_t c = 0; c < cols; c++) {
            const float normal = (in[c] - m.mean) * m.inverse_deviation;
            out[c] = normal * (1.0f + scale[c]) + shift[c];
        }
    }
}

void oct_rms_norm(float *x, const float *weight, float eps, size_t rows, size_t cols, size_t stride)
{
    assert(cols > 0 && stride >= cols);
#pragma omp parallel for if (rows * cols > ENOUGH_FOR_THREADS)
    for (size_t row = 0; row < rows; row++) {
        float *in_out = x + row * stride;
        double squares = 0;
#pragma omp simd reduction(+ : squares)
        for (size_t c = 0; c < cols; c++) squares += (double)in_out[c] * in_out[c];
        const float inverse_rms = (float)(1 / sqrt(squares / (double)cols + eps));
#pragma omp simd
        for (size_t c = 0; c < cols; c++) in_out[c] = in_out[c] * inverse_rms * weight[c];
    }
}

void oct_add_gated(float *x, const float *y, const float *gate, size_t rows, size_t cols)
{
#pragma omp parallel for if (rows * cols > ENOUGH_FOR_THREADS)
    for (size_t row = 0; row < rows; row++) {
        float *to = x + row * cols;
        const float *from = y + row * cols;
#pragma omp simd
        for (size_t c = 0; c < cols; c++) to[c] += (gate ? gate[c] : 1.0f) * from[c];
    }
}
