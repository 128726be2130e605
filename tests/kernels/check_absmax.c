// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/check.h"

#include <string.h>

static uint32_t absmax(const oct_kernels *k, oct_dtype dtype, const void *x, size_t n)
{
    if (dtype == OCT_F16) return k->absmax_f16(x, n);
    if (dtype == OCT_BF16) return k->absmax_bf16(x, n);
    return k->absmax_f32(x, n);
}

static void call(const oct_kernels *k, oct_dtype dtype, void *y, const void *x, size_t n)
{
    *(volatile uint32_t *)y = absmax(k, dtype, x, n);
}

static void check_patterns(check *t, oct_dtype dtype, size_t n, size_t gap)
{
    const size_t bytes = oct_dtype_bits(dtype) / 8;

    for (check_pattern p = 0; p < CHECK_PATTERNS; p++) {
        void *x = check_input(t, n * bytes, gap * bytes);
        check_case(t, "%s, n %zu, %zu before the end", check_pattern_name[p], n, gap);
        check_fill(t, p, dtype, x, n, 1.0f);
        check_same_bits(t, absmax(t->got, dtype, x, n), absmax(t->want, dtype, x, n));
    }
}

// One peak of either sign at every place: a lane that is dropped shows.
static void check_peaks(check *t, oct_dtype dtype, size_t n)
{
    const size_t bytes = oct_dtype_bits(dtype) / 8;
    uint8_t *x = check_input(t, n * bytes, 0);

    memset(x, 0, n * bytes);
    for (size_t i = 0; i < n; i++) {
        const uint32_t peak = check_random(t) | 1;
        check_case(t, "peak at %zu of %zu", i, n);
        memcpy(x + i * bytes, &peak, bytes);
        check_same_bits(t, absmax(t->got, dtype, x, n), absmax(t->want, dtype, x, n));
        memset(x + i * bytes, 0, bytes);
    }
}

void check_absmax(check *t, oct_dtype dtype)
{
    for (const size_t *n = check_sizes; *n != SIZE_MAX; n++) {
        for (size_t gap = 0; gap < 3; gap++) check_patterns(t, dtype, *n, gap);
        if (*n < 1000) check_peaks(t, dtype, *n);
    }
    check_bench(t, dtype, 0, call);
}
