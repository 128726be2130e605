// SPDX-License-Identifier: Apache-2.0
//
// Reference: encode to E4M3 and E5M2 with one scale.
#include "kernels/levels.h"

#include "common/number.h"

void oct_encode_f16_c(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = oct_f32_to_e4m3(oct_f16_to_f32(x[i]) / scale);
}

void oct_encode_bf16_c(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = oct_f32_to_e4m3(oct_bf16_to_f32(x[i]) / scale);
}

void oct_encode_f32_c(uint8_t *q, const float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = oct_f32_to_e4m3(x[i] / scale);
}

void oct_encode_e5m2_c(uint8_t *q, const float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = oct_f32_to_e5m2(x[i] / scale);
}
