// SPDX-License-Identifier: Apache-2.0
//
// Reference: decode E4M3, and widen 16-bit numbers.
#include "kernels/levels.h"

#include "common/number.h"

void oct_decode_e4m3_c(float *x, const uint8_t *q, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) x[i] = oct_e4m3_to_f32(q[i]) * scale;
}

void oct_widen_f16_c(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = oct_f16_to_f32(x[i]);
}

void oct_widen_bf16_c(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = oct_bf16_to_f32(x[i]);
}
