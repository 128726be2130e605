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

typedef struct codes_case {
    oct_dtype from, to;
    size_t n;
    const float *scale;
    bool has_blocks;
} codes_case;

// What the CPU decodes.
static const float *wanted(const codes_case *c, const uint8_t *q, const uint8_t *blocks)
{
    float *want = cuda_host(c->n * sizeof *want);

    if (c->has_blocks) {
        oct_decode_mx(want, q, blocks, c->n / OCT_MX_BLOCK);
    } else {
        oct_widen(want, c->from, q, c->n);
        for (size_t i = 0; i < c->n && c->scale; i++) want[i] *= *c->scale;
    }
    return want;
}

static void compare_decoded(cuda_check *t, const codes_case *c, const void *device,
                            const float *want, const uint8_t *q)
{
    void *got = cuda_host(cuda_bytes(c->to, c->n));

    cuda_read(t, got, device, cuda_bytes(c->to, c->n));
    const float *got_wide = cuda_widened(c->to, got, c->n);
    const float *want_wide = cuda_widened(c->to, cuda_narrowed(c->to, want, c->n), c->n);
    for (size_t i = 0; i < c->n; i++) {
        const bool are_nan = isnan(got_wide[i]) && isnan(want_wide[i]);
        if (!are_nan && oct_f32_bits(got_wide[i]) != oct_f32_bits(want_wide[i]))
            cuda_report(t, "x[%zu] is %a, not %a, from 0x%02x", i, got_wide[i], want_wide[i], q[i]);
    }
}

static void check_codes(cuda_check *t, codes_case c)
{
    const size_t blocks = c.n / OCT_MX_BLOCK;
    cuda_case(t, "%s to %s, n %zu, scale %a%s", oct_dtype_name(c.from), oct_dtype_name(c.to), c.n,
              c.scale ? *c.scale : NAN, c.has_blocks ? ", blocks" : "");
    uint8_t *q = cuda_host(c.n), *scales = cuda_host(blocks);
    for (size_t i = 0; i < c.n; i++) q[i] = (uint8_t)(c.n < 256 ? check_random(&t->fill) : i);
    for (size_t i = 0; i < blocks; i++) scales[i] = (uint8_t)(i < 256 ? 255 - i : i);
    void *y = cuda_new_target(t, c.to, c.n, 1).sink.data;

    oct_decode_cuda(y, c.to,
                    &(oct_codes){.q = cuda_copy(q, c.n),
                                 .dtype = c.from,
                                 .scale = c.scale ? cuda_scalar(*c.scale) : NULL,
                                 .block_scales = c.has_blocks ? cuda_copy(scales, blocks) : NULL,
                                 .n = c.n},
                    NULL);
    compare_decoded(t, &c, y, wanted(&c, q, scales), q);
}

static void check_code_sizes(cuda_check *t, oct_dtype from, oct_dtype to)
{
    for (const size_t *n = cuda_sizes; *n != SIZE_MAX; n++) {
        const float scale = check_random_scale(&t->fill);
        check_codes(t, (codes_case){.from = from, .to = to, .n = *n});
        check_codes(t, (codes_case){.from = from, .to = to, .n = *n, .scale = &scale});
    }
}

void check_cuda_decode(cuda_check *t)
{
    static const size_t blocks[] = {1, 2, 63, 64, 65, 256, 300};

    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++) {
        check_code_sizes(t, OCT_F8_E4M3, cuda_floats[d]);
        check_code_sizes(t, OCT_F8_E5M2, cuda_floats[d]);
        for (size_t i = 0; i < CHECK_COUNT(blocks); i++)
            check_codes(t, (codes_case){.from = OCT_F8_E4M3,
                                        .to = cuda_floats[d],
                                        .n = blocks[i] * OCT_MX_BLOCK,
                                        .has_blocks = true});
    }
}
