// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/check.h"

static void call_decode(const oct_kernels *k, oct_dtype dtype, void *y, const void *x, size_t n)
{
    k->decode_e4m3(y, x, n, 0.0123f);
}

static void widen(const oct_kernels *k, oct_dtype dtype, void *y, const void *x, size_t n)
{
    if (dtype == OCT_F16)
        k->widen_f16(y, x, n);
    else
        k->widen_bf16(y, x, n);
}

void check_decode(check *t, oct_dtype dtype)
{
    for (const size_t *n = check_sizes; *n != SIZE_MAX; n++) {
        for (size_t gap = 0; gap < 64; gap++) {
            const float scale = gap ? check_random_scale(t) : 1.0f;
            const check_output x = check_outputs(t, *n * sizeof(float), gap % 4 * sizeof(float));
            uint8_t *q = check_input(t, *n, gap);

            check_case(t, "n %zu, %zu before the end, scale %a", *n, gap, scale);
            // Every code where n allows, in an order that moves against the lanes.
            for (size_t i = 0; i < *n; i++) q[i] = (uint8_t)(i * 5 + gap);
            t->want->decode_e4m3(x.want, q, *n, scale);
            t->got->decode_e4m3(x.got, q, *n, scale);
            check_same_floats(t, x, dtype, q);
        }
    }
    check_bench(t, dtype, sizeof(float), call_decode);
}

static void compare_widened(check *t, oct_dtype dtype, const uint16_t *x, size_t n, size_t shift)
{
    const check_output y = check_outputs(t, n * sizeof(float), shift * sizeof(float));
    widen(t->want, dtype, y.want, x, n);
    widen(t->got, dtype, y.got, x, n);
    check_same_floats(t, y, dtype, x);
}

void check_widen(check *t, oct_dtype dtype)
{
    enum { ALL = 65536 };

    for (const size_t *n = check_sizes; *n != SIZE_MAX; n++) {
        for (size_t gap = 0; gap < 3; gap++) {
            uint16_t *x = check_input(t, *n * sizeof *x, gap * sizeof *x);
            check_case(t, "n %zu, %zu before the end", *n, gap);
            check_fill(t, CHECK_ANY_BITS, dtype, x, *n, 1.0f);
            compare_widened(t, dtype, x, *n, gap);
        }
    }
    uint16_t *x = check_input(t, ALL * sizeof *x, 0);
    for (uint32_t i = 0; i < ALL; i++) x[i] = (uint16_t)i;
    check_case(t, "every input");
    compare_widened(t, dtype, x, ALL, 0);
    check_bench(t, dtype, sizeof(float), widen);
}
