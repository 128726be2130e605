// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/check.h"

enum { BLOCKS_MAX = 2048 };

static void encode(const oct_kernels *k, oct_dtype dtype, uint8_t *q, uint8_t *scales,
                   const void *x, size_t blocks)
{
    if (dtype == OCT_F16)
        k->encode_mx_f16(q, scales, x, blocks);
    else if (dtype == OCT_BF16)
        k->encode_mx_bf16(q, scales, x, blocks);
    else
        k->encode_mx_f32(q, scales, x, blocks);
}

static void call(const oct_kernels *k, oct_dtype dtype, void *y, const void *x, size_t n)
{
    // Scales go over the codes of the block before, as in no use, but the same work.
    encode(k, dtype, y, y, x, n / OCT_MX_BLOCK);
}

static void compare(check *t, oct_dtype dtype, const void *x, size_t blocks, size_t shift)
{
    static uint8_t other[BLOCKS_MAX * OCT_MX_BLOCK];

    const check_output q = check_outputs(t, blocks * OCT_MX_BLOCK, shift);
    encode(t->want, dtype, q.want, other, x, blocks);
    encode(t->got, dtype, q.got, other, x, blocks);
    check_same_bytes(t, q, dtype, x);
    const check_output scales = check_outputs(t, blocks, shift);
    encode(t->want, dtype, other, scales.want, x, blocks);
    encode(t->got, dtype, other, scales.got, x, blocks);
    check_same_bytes(t, scales, OCT_F8_E4M3, other);
}

// What the scale made infinite becomes the largest number.
static void make_finite(oct_dtype dtype, void *x, size_t n)
{
    const uint16_t limit = dtype == OCT_F16 ? 0x7c00 : 0x7f80;

    for (size_t i = 0; i < n; i++) {
        uint16_t *top = (uint16_t *)x + (dtype == OCT_F32 ? 2 * i + 1 : i);  // the upper half
        if ((*top & 0x7fff) >= limit) *top = (uint16_t)((*top & 0x8000) | (limit - 1));
    }
}

// Blocks of one pattern, at scales of all sizes.
static void check_patterns(check *t, oct_dtype dtype, size_t blocks, size_t gap)
{
    const size_t bytes = oct_dtype_bits(dtype) / 8;

    for (check_pattern p = 0; p < CHECK_NONFINITE; p++) {
        for (int i = 0; i < 8; i++) {
            const float scale = i ? check_random_scale(t) : 1.0f;
            uint8_t *x = check_input(t, blocks * OCT_MX_BLOCK * bytes, gap * bytes);
            check_case(t, "%s, %zu blocks, %zu before the end, scale %a", check_pattern_name[p],
                       blocks, gap, scale);
            check_fill(t, p, dtype, x, blocks * OCT_MX_BLOCK, scale);
            make_finite(dtype, x, blocks * OCT_MX_BLOCK);
            compare(t, dtype, x, blocks, gap);
        }
    }
}

// Every finite upper half as the largest of its block, with smaller ones beside it.
static void check_every_amax(check *t, oct_dtype dtype)
{
    const size_t bytes = oct_dtype_bits(dtype) / 8;
    const uint32_t limit = dtype == OCT_F16 ? 0x7c00 : 0x7f80;
    uint8_t *x = check_input(t, BLOCKS_MAX * OCT_MX_BLOCK * bytes, 0);

    for (uint32_t first = 0; first < limit; first += BLOCKS_MAX) {
        const size_t blocks = limit - first < BLOCKS_MAX ? limit - first : BLOCKS_MAX;
        for (size_t i = 0; i < blocks * OCT_MX_BLOCK; i++) {
            const uint32_t top = first + (uint32_t)(i / OCT_MX_BLOCK);
            const uint32_t below = check_random(t) % (top + 1), sign = check_random(t) & 0x8000;
            const uint32_t half = (i % OCT_MX_BLOCK ? below : top) | sign;
            if (dtype == OCT_F32)
                ((uint32_t *)(void *)x)[i] = half << 16 | check_random(t) >> 16;
            else
                ((uint16_t *)(void *)x)[i] = (uint16_t)half;
        }
        check_case(t, "largest from 0x%x", first);
        compare(t, dtype, x, blocks, 0);
    }
}

void check_encode_mx(check *t, oct_dtype dtype)
{
    static const size_t blocks[] = {0, 1, 2, 3, 4, 7, 33};

    for (size_t i = 0; i < CHECK_COUNT(blocks); i++)
        for (size_t gap = 0; gap < 3; gap++) check_patterns(t, dtype, blocks[i], gap);
    check_every_amax(t, dtype);
    check_bench(t, dtype, sizeof(uint8_t), call);
}
