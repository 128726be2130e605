// SPDX-License-Identifier: Apache-2.0
//
// Encode to E4M3 with AVX-512, 64 numbers at a time. The rounding is encode_avx2.c's.
#include "kernels/levels.h"

#include <immintrin.h>
#include <string.h>

// 32-bit codes without sign: 0..0x7e, and above 0x7f for NaN.
static inline __m512i round_magnitude(__m512 quotient)
{
    const __m512 max = _mm512_set1_ps(448.0f), magic = _mm512_set1_ps(0x1p14f);
    // The operands' order matters: minps returns the second when one is NaN.
    const __m512 m = _mm512_min_ps(max, _mm512_abs_ps(quotient));
    const __m512i bits = _mm512_castps_si512(m);

    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 20), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_set1_epi32(0x7ffff - (120 << 23));
    const __m512i normal =
        _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), bias), 20);

    const __mmask16 is_small = _mm512_cmplt_epi32_mask(bits, _mm512_set1_epi32(121 << 23));  // 2^-6
    return _mm512_mask_sub_epi32(normal, is_small, _mm512_castps_si512(_mm512_add_ps(m, magic)),
                                 _mm512_castps_si512(magic));
}

static inline __m512i pack(__m512i a, __m512i b, __m512i c, __m512i d)
{
    return _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
}

// 64 quotients to 64 codes. Packing saturates as signed: it turns the magnitude of a NaN into 0x7f,
// and the quotients' own bits into bytes with the same sign. Packing and one permutation beat four
// vpmovdb and their narrow stores.
static inline void store_codes(uint8_t *q, __m512 a, __m512 b, __m512 c, __m512 d)
{
    const __m512i magnitude =
        pack(round_magnitude(a), round_magnitude(b), round_magnitude(c), round_magnitude(d));
    const __m512i sign = pack(_mm512_castps_si512(a), _mm512_castps_si512(b),
                              _mm512_castps_si512(c), _mm512_castps_si512(d));
    const __m512i codes =
        _mm512_or_si512(magnitude, _mm512_and_si512(sign, _mm512_set1_epi8((char)0x80)));
    // Packing works within 128-bit lanes; put the groups of four back in order.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(q, _mm512_permutexvar_epi32(order, codes));
}

static inline __m512 load_f16(const uint16_t *x)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
}

static inline __m512 load_bf16(const uint16_t *x)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline void encode_64_f16(uint8_t *q, const uint16_t *x, __m512 scale)
{
    store_codes(q, _mm512_div_ps(load_f16(x), scale), _mm512_div_ps(load_f16(x + 16), scale),
                _mm512_div_ps(load_f16(x + 32), scale), _mm512_div_ps(load_f16(x + 48), scale));
}

static inline void encode_64_bf16(uint8_t *q, const uint16_t *x, __m512 scale)
{
    store_codes(q, _mm512_div_ps(load_bf16(x), scale), _mm512_div_ps(load_bf16(x + 16), scale),
                _mm512_div_ps(load_bf16(x + 32), scale), _mm512_div_ps(load_bf16(x + 48), scale));
}

static inline void encode_64_f32(uint8_t *q, const float *x, __m512 scale)
{
    store_codes(q, _mm512_div_ps(_mm512_loadu_ps(x), scale),
                _mm512_div_ps(_mm512_loadu_ps(x + 16), scale),
                _mm512_div_ps(_mm512_loadu_ps(x + 32), scale),
                _mm512_div_ps(_mm512_loadu_ps(x + 48), scale));
}

void oct_encode_f16_avx512(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    const __m512 s = _mm512_set1_ps(scale);
    size_t i = 0;

    for (; i + 64 <= n; i += 64) encode_64_f16(q + i, x + i, s);
    if (i < n) {
        uint16_t in[64] = {0};
        uint8_t out[64];
        memcpy(in, x + i, (n - i) * sizeof *x);
        encode_64_f16(out, in, s);
        memcpy(q + i, out, n - i);
    }
}

void oct_encode_bf16_avx512(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    const __m512 s = _mm512_set1_ps(scale);
    size_t i = 0;

    for (; i + 64 <= n; i += 64) encode_64_bf16(q + i, x + i, s);
    if (i < n) {
        uint16_t in[64] = {0};
        uint8_t out[64];
        memcpy(in, x + i, (n - i) * sizeof *x);
        encode_64_bf16(out, in, s);
        memcpy(q + i, out, n - i);
    }
}

void oct_encode_f32_avx512(uint8_t *q, const float *x, size_t n, float scale)
{
    const __m512 s = _mm512_set1_ps(scale);
    size_t i = 0;

    for (; i + 64 <= n; i += 64) encode_64_f32(q + i, x + i, s);
    if (i < n) {
        float in[64] = {0};
        uint8_t out[64];
        memcpy(in, x + i, (n - i) * sizeof *x);
        encode_64_f32(out, in, s);
        memcpy(q + i, out, n - i);
    }
}
