// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/check.h"

#include "common/number.h"

typedef void encode_fn(const oct_kernels *k, oct_dtype dtype, void *q, const void *x, size_t n,
                       float scale);

static void encode_e5m2(const oct_kernels *k, oct_dtype dtype, void *q, const void *x, size_t n,
                        float scale)
{
    k->encode_e5m2(q, x, n, scale);
}

static void encode_e4m3(const oct_kernels *k, oct_dtype dtype, void *q, const void *x, size_t n,
                        float scale)
{
    if (dtype == OCT_F16)
        k->encode_f16(q, x, n, scale);
    else if (dtype == OCT_BF16)
        k->encode_bf16(q, x, n, scale);
    else
        k->encode_f32(q, x, n, scale);
}

static void call_e4m3(const oct_kernels *k, oct_dtype dtype, void *y, const void *x, size_t n)
{
    encode_e4m3(k, dtype, y, x, n, 0.0123f);
}

static void call_e5m2(const oct_kernels *k, oct_dtype dtype, void *y, const void *x, size_t n)
{
    encode_e5m2(k, dtype, y, x, n, 0.0123f);
}

static void compare(check *t, encode_fn *encode, oct_dtype dtype, const void *x, size_t n,
                    size_t shift, float scale)
{
    const check_output q = check_outputs(t, n, shift);
    encode(t->want, dtype, q.want, x, n, scale);
    encode(t->got, dtype, q.got, x, n, scale);
    check_same_bytes(t, q, dtype, x);
}

static void check_patterns(check *t, encode_fn *encode, oct_dtype dtype, size_t n, size_t gap)
{
    const size_t bytes = oct_dtype_bits(dtype) / 8;

    for (check_pattern p = 0; p < CHECK_PATTERNS; p++) {
        for (int i = 0; i < 4; i++) {
            const float scale = i ? check_random_scale(t) : 1.0f;  // at 1 every tie is exact
            void *x = check_input(t, n * bytes, gap * bytes);
            check_case(t, "%s, n %zu, %zu before the end, scale %a", check_pattern_name[p], n, gap,
                       scale);
            check_fill(t, p, dtype, x, n, scale);
            compare(t, encode, dtype, x, n, gap, scale);
        }
    }
}

// All 16-bit inputs, or as many 32-bit ones with every upper half, at 64 scales.
static void check_every_input(check *t, encode_fn *encode, oct_dtype dtype)
{
    enum { N = 65536 };
    const size_t bytes = oct_dtype_bits(dtype) / 8;
    void *x = check_input(t, N * bytes, 0);

    for (uint32_t i = 0; i < N; i++) {
        if (dtype == OCT_F32)
            ((float *)x)[i] = oct_f32_from_bits(i << 16 | check_random(t) >> 16);
        else
            ((uint16_t *)x)[i] = (uint16_t)i;
    }
    for (int i = 0; i < 64; i++) {
        const float scale = i ? check_random_scale(t) : 1.0f;
        check_case(t, "every input, scale %a", scale);
        compare(t, encode, dtype, x, N, 0, scale);
    }
}

static void check_all(check *t, encode_fn *encode, oct_dtype dtype)
{
    for (const size_t *n = check_sizes; *n != SIZE_MAX; n++)
        for (size_t gap = 0; gap < 3; gap++) check_patterns(t, encode, dtype, *n, gap);
    check_every_input(t, encode, dtype);
}

void check_encode(check *t, oct_dtype dtype)
{
    check_all(t, encode_e4m3, dtype);
    check_bench(t, dtype, sizeof(uint8_t), call_e4m3);
}

void check_encode_e5m2(check *t, oct_dtype dtype)
{
    check_all(t, encode_e5m2, dtype);
    check_bench(t, dtype, sizeof(uint8_t), call_e5m2);
}
