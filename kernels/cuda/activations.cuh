// SPDX-License-Identifier: Apache-2.0
//
// Activation functions in the steps of kernels/activation.c, for the same bits.
#pragma once

#include "kernels/exp.h"
#include "kernels/normal.h"

__device__ static inline float gelu_tanh(float x)
{
    const float sqrt_8_over_pi = 1.5957691216057308f;
    return x / (1.0f + oct_exp(-sqrt_8_over_pi * (x + 0.044715f * x * x * x)));
}

__device__ static inline float gelu_erf(float x)
{
    return x * oct_normal_below(x);
}

__device__ static inline float quick_gelu(float x)
{
    return x / (1.0f + oct_exp(-1.702f * x));
}

__device__ static inline float silu(float x)
{
    return x / (1.0f + oct_exp(-x));
}
