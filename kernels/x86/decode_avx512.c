// SPDX-License-Identifier: Apache-2.0
//
// Decode E4M3 and widen 16-bit numbers with AVX-512; tails by masks. decode_avx2.c has the reasons.
#include "kernels/levels.h"

#include <immintrin.h>

static inline __mmask16 first(size_t n)  // n < 16
{
    return (__mmask16)((1u << n) - 1);
}

// Stores with a mask reach memory at half the speed of plain ones, full mask or not, so that only
// the tail has one.
static inline __m512 decode_16(__m128i q, __m512 scale)
{
    const __m256i nan = _mm256_set1_epi16(0x3f80);  // the shifted magnitude of 0x7f
    const __m256i wide = _mm256_cvtepu8_epi16(q);
    __m256i half = _mm256_srai_epi16(_mm256_slli_epi16(wide, 8), 1);
    half = _mm256_and_si256(half, _mm256_set1_epi16((short)0xbf80));
    const __mmask16 is_nan = _mm256_cmpeq_epi16_mask(_mm256_and_si256(half, nan), nan);
    half = _mm256_xor_si256(half, _mm256_maskz_set1_epi16(is_nan, 0x4180));
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(0x1p8f)), scale);
}

void oct_decode_e4m3_avx512(float *x, const uint8_t *q, size_t n, float scale)
{
    const __m512 s = _mm512_set1_ps(scale);
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(x + i, decode_16(_mm_loadu_si128((const __m128i *)(q + i)), s));
    const __mmask16 rest = first(n - i);
    _mm512_mask_storeu_ps(x + i, rest, decode_16(_mm_maskz_loadu_epi8(rest, q + i), s));
}

void oct_widen_f16_avx512(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x + i))));
    const __mmask16 rest = first(n - i);
    _mm512_mask_storeu_ps(y + i, rest, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(rest, x + i)));
}

static inline __m512i widen_16_bf16(__m256i x)
{
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16);
}

void oct_widen_bf16_avx512(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm512_storeu_si512(y + i, widen_16_bf16(_mm256_loadu_si256((const __m256i *)(x + i))));
    const __mmask16 rest = first(n - i);
    _mm512_mask_storeu_epi32(y + i, rest, widen_16_bf16(_mm256_maskz_loadu_epi16(rest, x + i)));
}
