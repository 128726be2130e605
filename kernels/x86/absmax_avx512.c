// SPDX-License-Identifier: Apache-2.0
//
// Largest magnitude with AVX-512. Four accumulators, so that the loads are the limit and not the
// latency of one chain of maxima; masked loads for the tail.
#include "kernels/levels.h"

#include <immintrin.h>

static uint32_t largest_u16(__m512i v)
{
    const __m512i even = _mm512_and_si512(v, _mm512_set1_epi32(0xffff));
    const __m512i odd = _mm512_srli_epi32(v, 16);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(even, odd));
}

static uint32_t absmax_16(const uint16_t *x, size_t n)
{
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i m0 = _mm512_setzero_si512(), m1 = m0, m2 = m0, m3 = m0;
    size_t i = 0;

    for (; i + 128 <= n; i += 128) {
        m0 = _mm512_max_epu16(m0, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
        m1 = _mm512_max_epu16(m1, _mm512_and_si512(_mm512_loadu_si512(x + i + 32), magnitude));
        m2 = _mm512_max_epu16(m2, _mm512_and_si512(_mm512_loadu_si512(x + i + 64), magnitude));
        m3 = _mm512_max_epu16(m3, _mm512_and_si512(_mm512_loadu_si512(x + i + 96), magnitude));
    }
    for (; i < n; i += 32) {
        const __mmask32 valid = n - i < 32 ? ((__mmask32)1 << (n - i)) - 1 : 0xffffffffu;
        const __m512i v = _mm512_maskz_loadu_epi16(valid, x + i);
        m0 = _mm512_max_epu16(m0, _mm512_and_si512(v, magnitude));
    }
    return largest_u16(_mm512_max_epu16(_mm512_max_epu16(m0, m1), _mm512_max_epu16(m2, m3)));
}

uint32_t oct_absmax_f16_avx512(const uint16_t *x, size_t n)
{
    return absmax_16(x, n);
}

uint32_t oct_absmax_bf16_avx512(const uint16_t *x, size_t n)
{
    return absmax_16(x, n);
}

uint32_t oct_absmax_f32_avx512(const float *x, size_t n)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i m0 = _mm512_setzero_si512(), m1 = m0, m2 = m0, m3 = m0;
    size_t i = 0;

    for (; i + 64 <= n; i += 64) {
        m0 = _mm512_max_epu32(m0, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
        m1 = _mm512_max_epu32(m1, _mm512_and_si512(_mm512_loadu_si512(x + i + 16), magnitude));
        m2 = _mm512_max_epu32(m2, _mm512_and_si512(_mm512_loadu_si512(x + i + 32), magnitude));
        m3 = _mm512_max_epu32(m3, _mm512_and_si512(_mm512_loadu_si512(x + i + 48), magnitude));
    }
    for (; i < n; i += 16) {
        const __mmask16 valid = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu);
        const __m512i v = _mm512_maskz_loadu_epi32(valid, x + i);
        m0 = _mm512_max_epu32(m0, _mm512_and_si512(v, magnitude));
    }
    m0 = _mm512_max_epu32(_mm512_max_epu32(m0, m1), _mm512_max_epu32(m2, m3));
    return _mm512_reduce_max_epu32(m0);
}
