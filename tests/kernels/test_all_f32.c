// SPDX-License-Identifier: Apache-2.0
//
// Every binary32 number through every E4M3 encoder: about a minute, so only with scripts/test
// --long.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "kernels/kernels.h"
#include "tests/test.h"

#define CHUNK 65536

// 1, where the number itself is rounded, and a scale with a full mantissa, where the quotient is.
static const float scales[] = {1.0f, 0x1.d4b7c2p-9f};

static uint64_t differing(const oct_kernels *got, const oct_kernels *want, float scale)
{
    uint64_t bad = 0;
#pragma omp parallel for reduction(+ : bad) schedule(dynamic, 16)
    for (uint32_t chunk = 0; chunk < UINT32_MAX / CHUNK + 1; chunk++) {
        float x[CHUNK];
        uint8_t a[CHUNK], b[CHUNK];
        for (uint32_t i = 0; i < CHUNK; i++) x[i] = oct_f32_from_bits(chunk * CHUNK + i);
        got->encode_f32(a, x, CHUNK, scale);
        want->encode_f32(b, x, CHUNK, scale);
        for (uint32_t i = 0; i < CHUNK; i++) bad += a[i] != b[i];
    }
    return bad;
}

// The C kernel against the scalar function, without a kernel in between.
static uint64_t differing_from_scalar(const oct_kernels *got)
{
    uint64_t bad = 0;
#pragma omp parallel for reduction(+ : bad) schedule(dynamic, 16)
    for (uint32_t chunk = 0; chunk < UINT32_MAX / CHUNK + 1; chunk++) {
        float x[CHUNK];
        uint8_t codes[CHUNK];
        for (uint32_t i = 0; i < CHUNK; i++) x[i] = oct_f32_from_bits(chunk * CHUNK + i);
        got->encode_f32(codes, x, CHUNK, 1.0f);
        for (uint32_t i = 0; i < CHUNK; i++) bad += codes[i] != oct_f32_to_e4m3(x[i]);
    }
    return bad;
}

static void check_level(unsigned feature)
{
    if (!test_is_long()) SKIP("only with scripts/test --long");
    if ((oct_cpu_features() & feature) != feature) SKIP("not on this processor");
    oct_kernels got, want;
    oct_kernels_init(&got, feature);
    oct_kernels_init(&want, 0);
    if (feature == 0) {
        CHECK(differing_from_scalar(&got) == 0);
        return;
    }
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        CHECK(differing(&got, &want, scales[i]) == 0);
    }
}

static void c_encodes_every_binary32_as_the_scalar_function(void)
{
    check_level(0);
}

static void avx2_encodes_every_binary32_as_c(void)
{
    check_level(OCT_CPU_AVX2);
}

static void avx512_encodes_every_binary32_as_c(void)
{
    check_level(OCT_CPU_AVX2 | OCT_CPU_AVX512);
}

int main(void)
{
    RUN(c_encodes_every_binary32_as_the_scalar_function);
    RUN(avx2_encodes_every_binary32_as_c);
    RUN(avx512_encodes_every_binary32_as_c);
    return test_end();
}
