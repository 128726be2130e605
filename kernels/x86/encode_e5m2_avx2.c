// SPDX-License-Identifier: Apache-2.0
//
// Encode to E5M2 with AVX2, 16 numbers at a time.
//
// Rounding is encode_avx2.c's: in E5M2's normal range the exponent is rebiased from 127 to 15 and
// 21 bits go; below 2^-14 the addition of 2^7, whose last place is 2^-16, rounds.
#include "kernels/levels.h"

#include <immintrin.h>
#include <string.h>

// 32-bit codes without sign: 0..0x7b, and above 0x7f for NaN.
static inline __m256i round_magnitude(__m256 quotient)
{
    const __m256 max = _mm256_set1_ps(57344.0f), magic = _mm256_set1_ps(0x1p7f);
    // The operands' order matters: minps returns the second when one is NaN.
    const __m256 m = _mm256_min_ps(max, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), quotient));
    const __m256i bits = _mm256_castps_si256(m);

    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 21), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_set1_epi32(0xfffff - (112 << 23));
    const __m256i normal =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), bias), 21);
    const __m256i subnormal =
        _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(m, magic)), _mm256_castps_si256(magic));

    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(113 << 23), bits);  // 2^-14
    return _mm256_blendv_epi8(normal, subnormal, is_small);
}

// Packing saturates as signed: it turns the magnitude of a NaN into 0x7f, and the quotients' own
// bits into bytes with the same sign.
static inline __m128i pack(__m256i a, __m256i b)
{
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

static inline void encode_16(uint8_t *q, const float *x, __m256 scale)
{
    const __m256 a = _mm256_div_ps(_mm256_loadu_ps(x), scale);
    const __m256 b = _mm256_div_ps(_mm256_loadu_ps(x + 8), scale);
    const __m128i magnitude = pack(round_magnitude(a), round_magnitude(b));
    const __m128i sign = _mm_and_si128(pack(_mm256_castps_si256(a), _mm256_castps_si256(b)),
                                       _mm_set1_epi8((char)0x80));
    _mm_storeu_si128((__m128i *)q, _mm_or_si128(magnitude, sign));
}

void oct_encode_e5m2_avx2(uint8_t *q, const float *x, size_t n, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i + 16 <= n; i += 16) encode_16(q + i, x + i, s);
    if (i < n) {
        float in[16] = {0};
        uint8_t out[16];
        memcpy(in, x + i, (n - i) * sizeof *x);
        encode_16(out, in, s);
        memcpy(q + i, out, n - i);
    }
}
