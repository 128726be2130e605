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
        .encode_e5m2 = oct_encode_e5m2_c,
        .encode_mx_f16 = oct_encode_mx_f16_c,
        .encode_mx_bf16 = oct_encode_mx_bf16_c,
        .encode_mx_f32 = oct_encode_mx_f32_c,
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
            .encode_e5m2 = oct_encode_e5m2_avx2,
            .encode_mx_f16 = oct_encode_mx_f16_avx2,
            .encode_mx_bf16 = oct_encode_mx_bf16_avx2,
            .encode_mx_f32 = oct_encode_mx_f32_avx2,
            .decode_e4m3 = oct_decode_e4m3_avx2,
            .widen_f16 = oct_widen_f16_avx2,
            .widen_bf16 = oct_widen_bf16_avx2,
        };
    }
    if (features & OCT_CPU_AVX512) {
        kernels->absmax_f16 = oct_absmax_f16_avx512;
        kernels->absmax_bf16 = oct_absmax_bf16_avx512;
        kernels->absmax_f32 = oct_absmax_f32_avx512;
        kernels->encode_f16 = oct_encode_f16_avx512;
        kernels->encode_bf16 = oct_encode_bf16_avx512;
        kernels->encode_f32 = oct_encode_f32_avx512;
        kernels->decode_e4m3 = oct_decode_e4m3_avx512;
        kernels->widen_f16 = oct_widen_f16_avx512;
        kernels->widen_bf16 = oct_widen_bf16_avx512;
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

// The kernel reads binary32: widen a piece at a time.
void oct_encode_e5m2(uint8_t *q, oct_dtype dtype, const void *x, size_t n, float scale)
{
    const size_t element = oct_dtype_bits(dtype) / 8;
    const char *bytes = x;
    float piece[512];

    assert(scale > 0 && oct_f32_bits(scale) < 0x7f800000u);
    for (size_t i = 0; i < n; i += 512) {
        const size_t now = n - i < 512 ? n - i : 512;
        oct_widen(piece, dtype, bytes + i * element, now);
        active.encode_e5m2(q + i, piece, now, scale);
    }
}

void oct_encode_mx(uint8_t *q, uint8_t *scales, oct_dtype dtype, const void *x, size_t blocks)
{
    switch (dtype) {
    case OCT_F16:
        active.encode_mx_f16(q, scales, x, blocks);
        break;
    case OCT_BF16:
        active.encode_mx_bf16(q, scales, x, blocks);
        break;
    default:
        assert(dtype == OCT_F32);
        active.encode_mx_f32(q, scales, x, blocks);
    }
}

void oct_decode_mx(float *y, const uint8_t *q, const uint8_t *scales, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++) {
        active.decode_e4m3(y + b * OCT_MX_BLOCK, q + b * OCT_MX_BLOCK, OCT_MX_BLOCK,
                           oct_e8m0_to_f32(scales[b]));
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
