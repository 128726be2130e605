// SPDX-License-Identifier: Apache-2.0
//
// The model that level c is held against: the contracts worked out on integers (encoding) or by
// exact arithmetic in double (widening and decoding), sharing no code with common/ or kernels/.
#include "tests/kernels/check.h"

#include <math.h>
#include <string.h>

typedef struct parts {  // (-1)^is_negative * significand * 2^exponent
    bool is_negative, is_nan, is_infinite;
    uint64_t significand;
    int exponent;
} parts;

static parts take_apart(uint32_t bits, int mantissa_bits, int exponent_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int field = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
    const bool is_special = field == (1 << exponent_bits) - 1;

    return (parts){
        .is_negative = bits >> (mantissa_bits + exponent_bits) & 1,
        .is_nan = is_special && mantissa,
        .is_infinite = is_special && !mantissa,
        .significand = field ? mantissa | 1u << mantissa_bits : mantissa,
        .exponent = (field ? field : 1) - bias - mantissa_bits,
    };
}

static parts take_apart_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return take_apart(bits, 23, 8);
}

static int bit_length(uint64_t n)
{
    int length = 0;
    for (; n; n >>= 1) length++;
    return length;
}

// n / 2^drop to nearest, ties to even; `is_more`: the true n is a little larger.
static uint64_t round_even(uint64_t n, int drop, bool is_more)
{
    if (drop > 62) return 0;
    const uint64_t kept = n >> drop, rest = n - (kept << drop), half = (uint64_t)1 << (drop - 1);
    if (rest > half) return kept + 1;
    if (rest == half && (is_more || kept & 1)) return kept + 1;
    return kept;
}

// The quotient as binary32 would round it, were its exponent unbounded. Where it is not, E4M3 is
// long at 0 or 448.
static parts divide(parts x, parts scale)
{
    const int up = 24 - bit_length(x.significand), down = 24 - bit_length(scale.significand);
    const uint64_t dividend = x.significand << up << 40, divisor = scale.significand << down;
    const uint64_t quotient = dividend / divisor;
    const int drop = bit_length(quotient) - 24;

    return (parts){
        .significand = round_even(quotient, drop, dividend % divisor != 0),
        .exponent = x.exponent - up - 40 - (scale.exponent - down) + drop,
    };
}

typedef struct format {  // an 8-bit one: its smallest and largest exponents, its largest code
    int mantissa_bits, exponent_min, exponent_max;
    uint8_t code_max;
} format;

static const format e4m3 = {3, -6, 8, 0x7e}, e5m2 = {2, -14, 15, 0x7b};

static uint8_t round_to(format to, parts v)
{
    const int top = v.exponent + bit_length(v.significand) - 1;  // 2^top <= v
    if (top > to.exponent_max) return to.code_max;

    const int unit = (top < to.exponent_min ? to.exponent_min : top) - to.mantissa_bits;
    const uint64_t steps = round_even(v.significand, unit - v.exponent, false);
    const int binade = top < to.exponent_min ? 0 : top - to.exponent_min;
    const uint64_t code = ((uint64_t)binade << to.mantissa_bits) + steps;
    return (uint8_t)(code < to.code_max ? code : to.code_max);
}

static uint8_t encode_to(format to, parts x, float scale)
{
    uint8_t code = 0;
    if (x.is_nan)
        code = 0x7f;
    else if (x.is_infinite)
        code = to.code_max;
    else if (x.significand)
        code = round_to(to, divide(x, take_apart_float(scale)));
    return (uint8_t)(code | x.is_negative << 7);
}

static uint8_t encode(parts x, float scale)
{
    return encode_to(e4m3, x, scale);
}

static void encode_f16(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = encode(take_apart(x[i], 10, 5), scale);
}

static void encode_bf16(uint8_t *q, const uint16_t *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = encode(take_apart(x[i], 7, 8), scale);
}

static void encode_f32(uint8_t *q, const float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = encode(take_apart_float(x[i]), scale);
}

static void encode_e5m2(uint8_t *q, const float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) q[i] = encode_to(e5m2, take_apart_float(x[i]), scale);
}

// One block of MXFP8. Its scale is 2^(e - 127); e is returned.
static uint8_t encode_block(uint8_t *q, const parts x[OCT_MX_BLOCK])
{
    int exponent = -127;
    for (int i = 0; i < OCT_MX_BLOCK; i++) {
        const int top = x[i].exponent + bit_length(x[i].significand) - 1;
        if (x[i].significand && top - 8 > exponent) exponent = top - 8;
    }
    for (int i = 0; i < OCT_MX_BLOCK; i++) q[i] = encode(x[i], ldexpf(1, exponent));
    return (uint8_t)(exponent + 127);
}

static void encode_mx_16(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks,
                         int mantissa_bits, int exponent_bits)
{
    for (size_t b = 0; b < blocks; b++) {
        parts block[OCT_MX_BLOCK];
        for (int i = 0; i < OCT_MX_BLOCK; i++)
            block[i] = take_apart(x[b * OCT_MX_BLOCK + i], mantissa_bits, exponent_bits);
        scales[b] = encode_block(q + b * OCT_MX_BLOCK, block);
    }
}

static void encode_mx_f16(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks)
{
    encode_mx_16(q, scales, x, blocks, 10, 5);
}

static void encode_mx_bf16(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks)
{
    encode_mx_16(q, scales, x, blocks, 7, 8);
}

static void encode_mx_f32(uint8_t *q, uint8_t *scales, const float *x, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++) {
        parts block[OCT_MX_BLOCK];
        for (int i = 0; i < OCT_MX_BLOCK; i++) block[i] = take_apart_float(x[b * OCT_MX_BLOCK + i]);
        scales[b] = encode_block(q + b * OCT_MX_BLOCK, block);
    }
}

static double put_together(parts p)
{
    const double magnitude = p.is_nan        ? (double)NAN
                             : p.is_infinite ? (double)INFINITY
                                             : ldexp((double)p.significand, p.exponent);
    return p.is_negative ? -magnitude : magnitude;
}

static void decode_e4m3(float *x, const uint8_t *q, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) {
        parts p = take_apart(q[i], 3, 4);
        // No infinity: the top exponent is an ordinary one, but for its last code.
        p.is_nan = (q[i] & 0x7f) == 0x7f;
        p.is_infinite = false;
        x[i] = (float)(put_together(p) * scale);  // 4 by 24 bits: exact before this rounding
    }
}

static float widen(uint32_t bits, int mantissa_bits, int exponent_bits)
{
    const parts p = take_apart(bits, mantissa_bits, exponent_bits);
    if (!p.is_nan) return (float)put_together(p);

    // The payload moves to the top of the wider one.
    const uint32_t payload = bits << (23 - mantissa_bits) & 0x7fffffu;
    const uint32_t wide = (uint32_t)p.is_negative << 31 | 0x7f800000u | payload;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static void widen_f16(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = widen(x[i], 10, 5);
}

static void widen_bf16(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = widen(x[i], 7, 8);
}

static uint32_t absmax_16(const uint16_t *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++)
        if (x[i] % 0x8000u > max) max = x[i] % 0x8000u;
    return max;
}

static uint32_t absmax_f32(const float *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if (bits % 0x80000000u > max) max = bits % 0x80000000u;
    }
    return max;
}

const oct_kernels check_reference = {
    .absmax_f16 = absmax_16,
    .absmax_bf16 = absmax_16,
    .absmax_f32 = absmax_f32,
    .encode_f16 = encode_f16,
    .encode_bf16 = encode_bf16,
    .encode_f32 = encode_f32,
    .encode_e5m2 = encode_e5m2,
    .encode_mx_f16 = encode_mx_f16,
    .encode_mx_bf16 = encode_mx_bf16,
    .encode_mx_f32 = encode_mx_f32,
    .decode_e4m3 = decode_e4m3,
    .widen_f16 = widen_f16,
    .widen_bf16 = widen_bf16,
};
