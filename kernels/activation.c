// SPDX-License-Identifier: Apache-2.0
//
// All but the erf form are x sigmoid(f(x)): 0.5 (1 + tanh(u)) = sigmoid(2u), which also keeps its
// digits where tanh is near -1.
#include "kernels/ops.h"

#include <math.h>

#include "kernels/exp.h"

#define PIECE ((size_t)4096) // what one thread takes at a time

static void gelu_tanh(float *x, size_t n)
{
    const float sqrt_8_over_pi = 1.5957691216057308f;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const float u = sqrt_8_over_pi * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        x[i] = x[i] / (1.0f + oct_exp(-u));
    }
}

static void gelu_erf(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * (float)M_SQRT1_2));
}

static void scaled_silu(float *x, float factor, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) x[i] = x[i] / (1.0f + oct_exp(-factor * x[i]));
}

void oct_activate(float *x, oct_activation activation, size_t n)
{
#pragma omp parallel for if (n > PIECE)
    for (size_t first = 0; first < n; first += PIECE) {
        const size_t now = n - first < PIECE ? n - first : PIECE;
        switch (activation) {
        case OCT_GELU_TANH:
            gelu_tanh(x + first, now);
            break;
        case OCT_GELU_ERF:
            gelu_erf(x + first, now);
            break;
        case OCT_QUICK_GELU:
            scaled_silu(x + first, 1.702f, now);
            break;
        case OCT_SILU:
            scaled_silu(x + first, 1.0f, now);
            break;
        }
    }
}
