// SPDX-License-Identifier: Apache-2.0
//
// Reference: the largest magnitude, as bits.
#include "kernels/levels.h"

#include "common/number.h"

static uint32_t absmax_16(const uint16_t *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = x[i] & 0x7fffu;
        if (magnitude > max) max = magnitude;
    }
    return max;
}

uint32_t oct_absmax_f16_c(const uint16_t *x, size_t n)
{
    return absmax_16(x, n);
}

uint32_t oct_absmax_bf16_c(const uint16_t *x, size_t n)
{
    return absmax_16(x, n);
}

uint32_t oct_absmax_f32_c(const float *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = oct_f32_bits(x[i]) & 0x7fffffffu;
        if (magnitude > max) max = magnitude;
    }
    return max;
}
