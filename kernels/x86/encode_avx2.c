// SPDX-License-Identifier: Apache-2.0
//
// Encode to E4M3 with AVX2 and F16C, 32 numbers at a time.
//
// Rounding is done on the bits of |x / scale|. In E4M3's normal range: rebias the exponent from 127
// to 7, add just under half of the 20 bits that go (exactly half when the last kept bit is odd:
// ties to even) and shift. Below 2^-6: the addition of 2^14, whose last place is 2^-9, rounds.
#include "kernels/levels.h"

#include <immintrin.h>
#include <string.h>

// 32-bit codes without sign: 0..0x7e, and above 0x7f for NaN.
static inline __m256i round_magnitude(__m256 quotient)
{
    const __m256 max = _mm256_set1_ps(448.0f), magic = _mm256_set1_ps(0x1p14f);
    // The operands' order matters: minps returns the second when one is NaN.
    const __m256 m = _mm256_min_ps(max, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), quotient));
    const __m256i bits = _mm256_castps_si256(m);

    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 20), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_set1_epi32(0x7ffff - (120 << 23));
    const __m256i normal =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), bias), 20);
    const __m256i subnormal =
        _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(m, magic)), _mm256_castps_si256(magic));

    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(121 << 23), bits);  // 2^-6
    return _mm256_blendv_epi8(normal, subnormal, is_small);
}

static inline __m256i pack(__m256i a, __m256i b, __m256i c, __m256i d)
{
    return _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}

// 32 quotients to 32 codes. Packing saturates as signed: it turns the magnitude of a NaN into 0x7f,
// and the quotients' own bits into bytes with the same sign.
static inline void store_codes(uint8_t *q, __m256 a, __m256 b, __m256 c, __m256 d)
{
    const __m256i magnitude =
        pack(round_magnitude(a), round_magnitude(b), round_magnitude(c), round_magnitude(d));
    const __m256i sign = pack(_mm256_castps_si256(a), _mm256_castps_si256(b),
                              _mm256_castps_si256(c), _mm256_castps_si256(d));
    const __m256i codes =
        _mm256_or_si256(magnitude, _mm256_and_si256(sign, _mm256_set1_epi8((char)0x80)));
    // Packing works within 128-bit lanes; put the groups of four back in order.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)q, _mm256_permutevar8x32_epi32(codes, order));
}

static inline __m256 load_f16(const uint16_t *x)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

static inline __m256 load_bf16(const uint16_t *x)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline void encode_32_f16(uint8_t *q, const uint16_t *x, __m256 scale)
{
    store_codes(q, _mm256_div_ps(load_f16(x), scale), _mm256_div_ps(load_f16(x + 8), scale),
                _mm256_div_ps(load_f16(x + 16), scale), _mm256_div_ps(load_f16(x + 24), scale));
}

static inline void encode_32_bf16(uint8_t *q, const uint16_t *x, __m256 scale)
{
    store_codes(q, _mm256_div_ps(load_bf16(x), scale), _mm256_div_ps(load_bf16(x + 8), scale),
                _mm256_div_ps(load_bf16(x + 16), scale), _mm256_div_ps(load_bf16(x + 24), scale));
}

static inline void encode_32_f32(uint8_t *q, const float *x, __m256 scale)
{
    store_codes(q, _mm256_div_ps(_mm256_loadu_ps(x), scale),
                _mm256_div_ps(_mm256_loadu_ps(x + 8), scale),
                _mm256_div_ps(_mm256_loadu_ps(x + 16), scale),
                _mm256_div_ps(_mm256_loadu_ps(x + 24), scale));
}

void oct_encode_f16_avx2(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i + 32 <= n; i += 32) encode_32_f16(q + i, x + i, s);
    if (i < n) {
        uint16_t in[32] = {0};
        uint8_t out[32];
        memcpy(in, x + i, (n - i) * sizeof *x);
        encode_32_f16(out, in, s);
        memcpy(q + i, out, n - i);
    }
}

void oct_encode_bf16_avx2(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i + 32 <= n; i += 32) encode_32_bf16(q + i, x + i, s);
    if (i < n) {
        uint16_t in[32] = {0};
        uint8_t out[32];
        memcpy(in, x + i, (n - i) * sizeof *x);
        encode_32_bf16(out, in, s);
        memcpy(q + i, out, n - i);
    }
}

void oct_encode_f32_avx2(uint8_t *q, const float *x, size_t n, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i + 32 <= n; i += 32) encode_32_f32(q + i, x + i, s);
    if (i < n) {
        float in[32] = {0};
        uint8_t out[32];
        memcpy(in, x + i, (n - i) * sizeof *x);
        encode_32_f32(out, in, s);
        memcpy(q + i, out, n - i);
    }
}
