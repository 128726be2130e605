// SPDX-License-Identifier: Apache-2.0
//
// Decode E4M3 and widen 16-bit numbers with AVX2 and F16C.
//
// An E4M3 code shifted into binary16's fields is its value times 2^-8, subnormals included, so the
// conversion of binary16 does the work. 2^8 is multiplied in on its own: that is exact, whereas the
// product of 2^8 and the scale could overflow.
#include "kernels/levels.h"

#include <immintrin.h>
#include <string.h>

static inline void decode_16(float *x, const uint8_t *q, __m256 scale)
{
    const __m256i nan = _mm256_set1_epi16(0x3f80);  // the shifted magnitude of 0x7f
    const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)q));
    // s eeee mmm 00000000 -> s s eeee mmm 0000000 -> s 0 eeee mmm 0000000
    __m256i half = _mm256_srai_epi16(_mm256_slli_epi16(wide, 8), 1);
    half = _mm256_and_si256(half, _mm256_set1_epi16((short)0xbf80));
    const __m256i is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(half, nan), nan);
    // 0x3f80 ^ 0x4180 is the quiet NaN 0x7e00, as the reference gives.
    half = _mm256_xor_si256(half, _mm256_and_si256(is_nan, _mm256_set1_epi16(0x4180)));

    const __m256 bias = _mm256_set1_ps(0x1p8f);
    const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
    _mm256_storeu_ps(x, _mm256_mul_ps(_mm256_mul_ps(low, bias), scale));
    _mm256_storeu_ps(x + 8, _mm256_mul_ps(_mm256_mul_ps(high, bias), scale));
}

void oct_decode_e4m3_avx2(float *x, const uint8_t *q, size_t n, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i + 16 <= n; i += 16) decode_16(x + i, q + i, s);
    if (i < n) {
        uint8_t in[16] = {0};
        float out[16];
        memcpy(in, q + i, n - i);
        decode_16(out, in, s);
        memcpy(x + i, out, (n - i) * sizeof *x);
    }
}

static inline void widen_8_f16(float *y, const uint16_t *x)
{
    _mm256_storeu_ps(y, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x)));
}

void oct_widen_f16_avx2(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) widen_8_f16(y + i, x + i);
    if (i < n) {
        uint16_t in[8] = {0};
        float out[8];
        memcpy(in, x + i, (n - i) * sizeof *x);
        widen_8_f16(out, in);
        memcpy(y + i, out, (n - i) * sizeof *y);
    }
}

static inline void widen_8_bf16(float *y, const uint16_t *x)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    _mm256_storeu_si256((__m256i *)y, _mm256_slli_epi32(wide, 16));
}

void oct_widen_bf16_avx2(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) widen_8_bf16(y + i, x + i);
    if (i < n) {
        uint16_t in[8] = {0};
        float out[8];
        memcpy(in, x + i, (n - i) * sizeof *x);
        widen_8_bf16(out, in);
        memcpy(y + i, out, (n - i) * sizeof *y);
    }
}
