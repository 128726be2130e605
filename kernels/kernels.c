// SPDX-License-Identifier: Apache-2.0
//
// The whole dispatch: what the processor has, and which implementation that means.
#include "kernels/kernels.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#if OCT_X86_64
#include <cpuid.h>
#endif

#include "common/number.h"
#include "kernels/levels.h"

static oct_kernels active;

#if OCT_X86_64
static bool has_f16c(void)  // clang's __builtin_cpu_supports does not know it
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

unsigned oct_cpu_features(void)
{
    unsigned features = 0;
#if OCT_X86_64
    __builtin_cpu_init();  // we may run before the compiler's own constructor
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        features |= OCT_CPU_AVX2;
    if (features && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        features |= OCT_CPU_AVX512;
#endif
    return features;
}

unsigned oct_cpu_features_at_most(const char *cpu)
{
    const unsigned all = oct_cpu_features();

    if (!cpu || strcmp(cpu, "avx512") == 0) return all;
    if (strcmp(cpu, "avx2") == 0) return all & OCT_CPU_AVX2;
    assert(strcmp(cpu, "c") == 0);
    return 0;
}

void oct_kernels_init(oct_kernels *kernels, unsigned features)
{
    *kernels = (oct_kernels){
        .absmax_f16 = oct_absmax_f16_c,
        .absmax_bf16 = oct_absmax_bf16_c,
        .absmax_f32 = oct_absmax_f32_c,
        .encode_f16 = oct_encode_f16_c,
        .encode_bf16 = oct_encode_bf16_c,
        .encode_f32 = oct_encode_f32_c,
        .decode_e4m3 = oct_decode_e4m3_c,
        .widen_f16 = oct_widen_f16_c,
        .widen_bf16 = oct_widen_bf16_c,
    };
#if OCT_X86_64
    if (features & OCT_CPU_AVX2) {
        *kernels = (oct_kernels){
            .absmax_f16 = oct_absmax_f16_avx2,
            .absmax_bf16 = oct_absmax_bf16_avx2,
            .absmax_f32 = oct_absmax_f32_avx2,
            .encode_f16 = oct_encode_f16_avx2,
            .encode_bf16 = oct_encode_bf16_avx2,
            .encode_f32 = oct_encode_f32_avx2,
            .decode_e4m3 = oct_decode_e4m3_avx2,
            .widen_f16 = oct_widen_f16_avx2,
            .widen_bf16 = oct_widen_bf16_avx2,
        };
    }
    if (features & OCT_CPU_AVX512) {
        *kernels = (oct_kernels){
            .absmax_f16 = oct_absmax_f16_avx512,
            .absmax_bf16 = oct_absmax_bf16_avx512,
            .absmax_f32 = oct_absmax_f32_avx512,
            .encode_f16 = oct_encode_f16_avx512,
            .encode_bf16 = oct_encode_bf16_avx512,
            .encode_f32 = oct_encode_f32_avx512,
            .decode_e4m3 = oct_decode_e4m3_avx512,
            .widen_f16 = oct_widen_f16_avx512,
            .widen_bf16 = oct_widen_bf16_avx512,
        };
    }
#endif
}

// Before main(), so that oct_kernels_get() needs no lock.
__attribute__((constructor)) static void select_everything(void)
{
    oct_kernels_select(NULL);
}

const oct_kernels *oct_kernels_get(void)
{
    return &active;
}

void oct_kernels_select(const char *cpu)
{
    oct_kernels_init(&active, oct_cpu_features_at_most(cpu));
}

float oct_absmax(oct_dtype dtype, const void *x, size_t n, int *is_finite)
{
    uint32_t bits = 0;

    switch (dtype) {
    case OCT_F16:
        bits = active.absmax_f16(x, n);
        *is_finite = bits < 0x7c00u;
        return oct_f16_to_f32((uint16_t)bits);
    case OCT_BF16:
        bits = active.absmax_bf16(x, n);
        *is_finite = bits < 0x7f80u;
        return oct_bf16_to_f32((uint16_t)bits);
    default:
        assert(dtype == OCT_F32);
        bits = active.absmax_f32(x, n);
        *is_finite = bits < 0x7f800000u;
        return oct_f32_from_bits(bits);
    }
}

void oct_encode_e4m3(uint8_t *q, oct_dtype dtype, const void *x, size_t n, float scale)
{
    assert(scale > 0 && oct_f32_bits(scale) < 0x7f800000u);

    switch (dtype) {
    case OCT_F16:
        active.encode_f16(q, x, n, scale);
        break;
    case OCT_BF16:
        active.encode_bf16(q, x, n, scale);
        break;
    default:
        assert(dtype == OCT_F32);
        active.encode_f32(q, x, n, scale);
    }
}

// E5M2 is the upper byte of binary16: shift, then widen, a piece at a time.
static void widen_e5m2(float *y, const uint8_t *x, size_t n)
{
    uint16_t piece[512];

    while (n > 0) {
        const size_t now = n < 512 ? n : 512;
        for (size_t i = 0; i < now; i++) piece[i] = (uint16_t)(x[i] << 8);
        active.widen_f16(y, piece, now);
        x += now;
        y += now;
        n -= now;
    }
}

void oct_widen(float *y, oct_dtype dtype, const void *x, size_t n)
{
    switch (dtype) {
    case OCT_F16:
        active.widen_f16(y, x, n);
        break;
    case OCT_BF16:
        active.widen_bf16(y, x, n);
        break;
    case OCT_F8_E4M3:
        active.decode_e4m3(y, x, n, 1.0f);
        break;
    case OCT_F8_E5M2:
        widen_e5m2(y, x, n);
        break;
    default:
        assert(dtype == OCT_F32);
        if (n > 0) memcpy(y, x, n * sizeof *y);
    }
}
