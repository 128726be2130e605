// SPDX-License-Identifier: Apache-2.0
//
// All but the erf form are x sigmoid(f(x)): 0.5 (1 + tanh(u)) = sigmoid(2u), which also keeps its
// digits where tanh is near -1.
#include "kernels/ops.h"

#include "kernels/exp.h"
#include "kernels/normal.h"

#define PIECE ((size_t)1024)  // what one thread takes at a time

// x sigmoid(-u), with -u in `exponents`. In two loops: in one, compilers split off the clamped
// exponentials and divide by them in every lane, which gives subnormal and slow quotients.
static void multiply_sigmoid(float *x, float *exponents, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) exponents[i] = oct_exp(exponents[i]);
    for (size_t i = 0; i < n; i++) x[i] = x[i] / (1.0f + exponents[i]);
}

static void gelu_tanh(float *x, size_t n)
{
    const float sqrt_8_over_pi = 1.5957691216057308f;
    float exponents[PIECE];

    for (size_t i = 0; i < n; i++)
        exponents[i] = -sqrt_8_over_pi * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
    multiply_sigmoid(x, exponents, n);
}

static void gelu_erf(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] *= oct_normal_below(x[i]);
}

static void scaled_silu(float *x, float factor, size_t n)
{
    float exponents[PIECE];

    for (size_t i = 0; i < n; i++) exponents[i] = -factor * x[i];
    multiply_sigmoid(x, exponents, n);
}

void oct_activate(float *x, oct_activation activation, size_t n)
{
#pragma omp parallel for if (n > 16 * PIECE)
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
