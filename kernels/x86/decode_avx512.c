// SPDX-License-Identifier: Apache-2.0
//
// Decode E4M3 and widen 16-bit numbers with AVX-512; tails by masks. decode_avx2.c has the reasons.
#include "kernels/levels.h"

#include <immintrin.h>

static inline __mmask16 first(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu);
}

// 16 codes, of which `valid` exist.
static inline void decode_16(float *x, const uint8_t *q, __mmask16 valid, __m512 scale)
{
    const __m256i nan = _mm256_set1_epi16(0x3f80); // the shifted magnitude of 0x7f
    const __m256i wide = _mm256_cvtepu8_epi16(_mm_maskz_loadu_epi8(valid, q));
    __m256i half = _mm256_srai_epi16(_mm256_slli_epi16(wide, 8), 1);
    half = _mm256_and_si256(half, _mm256_set1_epi16((short)0xbf80));
    const __mmask16 is_nan = _mm256_cmpeq_epi16_mask(_mm256_and_si256(half, nan), nan);
    half = _mm256_xor_si256(half, _mm256_maskz_set1_epi16(is_nan, 0x4180));

    const __m512 value = _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(0x1p8f));
    _mm512_mask_storeu_ps(x, valid, _mm512_mul_ps(value, scale));
}

void oct_decode_e4m3_avx512(float *x, const uint8_t *q, size_t n, float scale)
{
    const __m512 s = _mm512_set1_ps(scale);

    for (size_t i = 0; i < n; i += 16) decode_16(x + i, q + i, first(n - i), s);
}

void oct_widen_f16_avx512(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 valid = first(n - i);
        const __m256i half = _mm256_maskz_loadu_epi16(valid, x + i);
        _mm512_mask_storeu_ps(y + i, valid, _mm512_cvtph_ps(half));
    }
}

void oct_widen_bf16_avx512(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 valid = first(n - i);
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(valid, x + i));
        _mm512_mask_storeu_epi32(y + i, valid, _mm512_slli_epi32(wide, 16));
    }
}
