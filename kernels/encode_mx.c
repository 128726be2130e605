// SPDX-License-Identifier: Apache-2.0
//
// Reference: encode to MXFP8 E4M3.
#include "kernels/levels.h"

#include "common/number.h"
#include "kernels/mx.h"

void oct_encode_mx_f16_c(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, q += OCT_MX_BLOCK, x += OCT_MX_BLOCK) {
        const uint16_t amax = (uint16_t)oct_absmax_f16_c(x, OCT_MX_BLOCK);
        scales[b] = mx_scale(oct_f16_to_f32(amax));
        oct_encode_f16_c(q, x, OCT_MX_BLOCK, oct_e8m0_to_f32(scales[b]));
    }
}

void oct_encode_mx_bf16_c(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, q += OCT_MX_BLOCK, x += OCT_MX_BLOCK) {
        const uint16_t amax = (uint16_t)oct_absmax_bf16_c(x, OCT_MX_BLOCK);
        scales[b] = mx_scale(oct_bf16_to_f32(amax));
        oct_encode_bf16_c(q, x, OCT_MX_BLOCK, oct_e8m0_to_f32(scales[b]));
    }
}

void oct_encode_mx_f32_c(uint8_t *q, uint8_t *scales, const float *x, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, q += OCT_MX_BLOCK, x += OCT_MX_BLOCK) {
        scales[b] = mx_scale(oct_f32_from_bits(oct_absmax_f32_c(x, OCT_MX_BLOCK)));
        oct_encode_f32_c(q, x, OCT_MX_BLOCK, oct_e8m0_to_f32(scales[b]));
    }
}
