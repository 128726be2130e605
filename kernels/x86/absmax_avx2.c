// SPDX-License-Identifier: Apache-2.0
//
// Largest magnitude with AVX2. Four accumulators, so that the loads are the limit and not the
// latency of one chain of maxima.
#include "kernels/levels.h"

#include <immintrin.h>
#include <string.h>

static __m256i load(const void *x)
{
    return _mm256_loadu_si256(x);
}

static uint32_t largest_u16(__m256i v)
{
    uint16_t lane[16];
    uint32_t max = 0;

    _mm256_storeu_si256((__m256i *)lane, v);
    for (int i = 0; i < 16; i++)
        if (lane[i] > max) max = lane[i];
    return max;
}

static uint32_t largest_u32(__m256i v)
{
    uint32_t lane[8];
    uint32_t max = 0;

    _mm256_storeu_si256((__m256i *)lane, v);
    for (int i = 0; i < 8; i++)
        if (lane[i] > max) max = lane[i];
    return max;
}

static uint32_t absmax_16(const uint16_t *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi16(0x7fff);
    __m256i m0 = _mm256_setzero_si256(), m1 = m0, m2 = m0, m3 = m0;
    size_t i = 0;

    for (; i + 64 <= n; i += 64) {
        m0 = _mm256_max_epu16(m0, _mm256_and_si256(load(x + i), magnitude));
        m1 = _mm256_max_epu16(m1, _mm256_and_si256(load(x + i + 16), magnitude));
        m2 = _mm256_max_epu16(m2, _mm256_and_si256(load(x + i + 32), magnitude));
        m3 = _mm256_max_epu16(m3, _mm256_and_si256(load(x + i + 48), magnitude));
    }
    for (; i < n; i += 16) {
        uint16_t piece[16] = {0};
        memcpy(piece, x + i, (n - i < 16 ? n - i : 16) * sizeof *x);
        m0 = _mm256_max_epu16(m0, _mm256_and_si256(load(piece), magnitude));
    }
    return largest_u16(_mm256_max_epu16(_mm256_max_epu16(m0, m1), _mm256_max_epu16(m2, m3)));
}

uint32_t oct_absmax_f16_avx2(const uint16_t *x, size_t n)
{
    return absmax_16(x, n);
}

uint32_t oct_absmax_bf16_avx2(const uint16_t *x, size_t n)
{
    return absmax_16(x, n);
}

uint32_t oct_absmax_f32_avx2(const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i m0 = _mm256_setzero_si256(), m1 = m0, m2 = m0, m3 = m0;
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        m0 = _mm256_max_epu32(m0, _mm256_and_si256(load(x + i), magnitude));
        m1 = _mm256_max_epu32(m1, _mm256_and_si256(load(x + i + 8), magnitude));
        m2 = _mm256_max_epu32(m2, _mm256_and_si256(load(x + i + 16), magnitude));
        m3 = _mm256_max_epu32(m3, _mm256_and_si256(load(x + i + 24), magnitude));
    }
    for (; i < n; i += 8) {
        float piece[8] = {0};
        memcpy(piece, x + i, (n - i < 8 ? n - i : 8) * sizeof *x);
        m0 = _mm256_max_epu32(m0, _mm256_and_si256(load(piece), magnitude));
    }
    return largest_u32(_mm256_max_epu32(_mm256_max_epu32(m0, m1), _mm256_max_epu32(m2, m3)));
}
