// SPDX-License-Identifier: Apache-2.0
//
// Encode to MXFP8 E4M3 with AVX2 and F16C: a block is one step of the encoders with a scale. The
// largest of 32 16-bit numbers is found here; absmax_avx2.c is made for long runs.
#include "kernels/levels.h"

#include <immintrin.h>

#include "common/number.h"
#include "kernels/mx.h"

static inline uint16_t absmax_block(const uint16_t *x)
{
    const __m256i magnitude = _mm256_set1_epi16(0x7fff);
    const __m256i a = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)x), magnitude);
    const __m256i b = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(x + 16)), magnitude);
    const __m256i max = _mm256_max_epu16(a, b);
    const __m128i eight =
        _mm_max_epu16(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
    // The only horizontal search there is finds the least.
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(eight, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_cvtsi128_si32(least);
}

void oct_encode_mx_f16_avx2(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, q += OCT_MX_BLOCK, x += OCT_MX_BLOCK) {
        scales[b] = mx_scale(_cvtsh_ss(absmax_block(x)));
        oct_encode_f16_avx2(q, x, OCT_MX_BLOCK, oct_e8m0_to_f32(scales[b]));
    }
}

void oct_encode_mx_bf16_avx2(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, q += OCT_MX_BLOCK, x += OCT_MX_BLOCK) {
        scales[b] = mx_scale(oct_f32_from_bits((uint32_t)absmax_block(x) << 16));
        oct_encode_bf16_avx2(q, x, OCT_MX_BLOCK, oct_e8m0_to_f32(scales[b]));
    }
}

void oct_encode_mx_f32_avx2(uint8_t *q, uint8_t *scales, const float *x, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, q += OCT_MX_BLOCK, x += OCT_MX_BLOCK) {
        scales[b] = mx_scale(oct_f32_from_bits(oct_absmax_f32_avx2(x, OCT_MX_BLOCK)));
        oct_encode_f32_avx2(q, x, OCT_MX_BLOCK, oct_e8m0_to_f32(scales[b]));
    }
}
