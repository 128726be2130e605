// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "common/number.h"
#include "tests/cuda/check_cuda.h"
#include "tests/cuda/memory.h"

// Codes in every bit, a NaN's sign too, which cuda_check_target() does not ask for.
static void compare_codes(cuda_check *t, const cuda_target *y, oct_dtype dtype, const void *x)
{
    uint8_t *got = cuda_host(y->n), *want = cuda_host(y->n);

    cuda_read(t, got, y->sink.data, y->n);
    oct_encode_e4m3(want, dtype, x, y->n, y->scale);
    for (size_t i = 0; i < y->n; i++) {
        if (got[i] != want[i]) cuda_report(t, "q[%zu] is 0x%02x, not 0x%02x", i, got[i], want[i]);
    }
}

static void check_conversion(cuda_check *t, oct_dtype from, oct_dtype to, const void *x, size_t n,
                             float scale)
{
    const cuda_target y = cuda_new_target(t, to, n, scale);

    oct_convert_cuda(y.sink, from, cuda_copy(x, cuda_bytes(from, n)), n, NULL);
    if (to == OCT_F8_E4M3) compare_codes(t, &y, from, x);
    cuda_check_target(t, &y, cuda_widened(from, x, n), NULL);
}

static void check_case_of(cuda_check *t, oct_dtype from, oct_dtype to, check_pattern p, size_t n,
                          float scale)
{
    cuda_case(t, "%s to %s, %s, n %zu, scale %a", oct_dtype_name(from), oct_dtype_name(to),
              check_pattern_name[p], n, scale);
    check_conversion(t, from, to, cuda_fill(t, p, from, n, scale), n, scale);
}

// Every pattern at one size, every size with one of them.
static void check_patterns(cuda_check *t, oct_dtype from, oct_dtype to)
{
    for (check_pattern p = 0; p < CHECK_PATTERNS; p++) {
        check_case_of(t, from, to, p, 2051, 1);  // at 1 every tie is exact
        check_case_of(t, from, to, p, 1003, check_random_scale(&t->fill));
    }
    for (size_t i = 0; cuda_sizes[i] != SIZE_MAX; i++)
        check_case_of(t, from, to, i % CHECK_PATTERNS, cuda_sizes[i], 0.5f);
}

// All 16-bit inputs, or as many 32-bit ones with every upper half.
static void check_every_input(cuda_check *t, oct_dtype from, oct_dtype to, float scale)
{
    enum { N = 65536 };
    cuda_case(t, "%s to %s, every input, scale %a", oct_dtype_name(from), oct_dtype_name(to),
              scale);
    void *x = cuda_host(cuda_bytes(from, N));

    for (uint32_t i = 0; i < N; i++) {
        const uint16_t half = (uint16_t)i;
        const uint32_t word = i << 16 | check_random(&t->fill) >> 16;
        if (from == OCT_F32)
            memcpy((uint32_t *)x + i, &word, sizeof word);
        else
            memcpy((uint16_t *)x + i, &half, sizeof half);
    }
    check_conversion(t, from, to, x, N, scale);
}

void check_cuda_convert(cuda_check *t)
{
    for (size_t f = 0; f < CHECK_COUNT(cuda_floats); f++) {
        for (size_t s = 0; s < CHECK_COUNT(cuda_sinks); s++) {
            check_patterns(t, cuda_floats[f], cuda_sinks[s]);
            check_every_input(t, cuda_floats[f], cuda_sinks[s], 1);
        }
        for (int i = 0; i < 4; i++)
            check_every_input(t, cuda_floats[f], OCT_F8_E4M3, check_random_scale(&t->fill));
    }
}

static void check_codes(cuda_check *t, oct_dtype to, size_t n, const float *scale)
{
    cuda_case(t, "to %s, n %zu, scale %a", oct_dtype_name(to), n, scale ? *scale : NAN);
    uint8_t *q = cuda_host(n);
    for (size_t i = 0; i < n; i++) q[i] = (uint8_t)(n < 256 ? check_random(&t->fill) : i);
    float *want = cuda_host(n * sizeof *want);
    oct_kernels_get()->decode_e4m3(want, q, n, scale ? *scale : 1.0f);
    const cuda_target y = cuda_new_target(t, to, n, 1);

    oct_decode_cuda(y.sink.data, to, cuda_copy(q, n), n, scale ? cuda_scalar(*scale) : NULL, NULL);
    const void *narrow = cuda_narrowed(to, want, n);
    void *got = cuda_host(cuda_bytes(to, n));
    cuda_read(t, got, y.sink.data, cuda_bytes(to, n));
    const float *got_wide = cuda_widened(to, got, n), *want_wide = cuda_widened(to, narrow, n);
    for (size_t i = 0; i < n; i++) {
        const bool are_nan = isnan(got_wide[i]) && isnan(want_wide[i]);
        if (!are_nan && oct_f32_bits(got_wide[i]) != oct_f32_bits(want_wide[i]))
            cuda_report(t, "x[%zu] is %a, not %a, from 0x%02x", i, got_wide[i], want_wide[i], q[i]);
    }
}

void check_cuda_decode(cuda_check *t)
{
    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++) {
        for (const size_t *n = cuda_sizes; *n != SIZE_MAX; n++) {
            const float scale = check_random_scale(&t->fill);
            check_codes(t, cuda_floats[d], *n, NULL);
            check_codes(t, cuda_floats[d], *n, &scale);
        }
    }
}
