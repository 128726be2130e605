// SPDX-License-Identifier: Apache-2.0
//
// Number formats, all by the same two conversions on integers.
#include "common/number.h"

#include <assert.h>
#include <string.h>

#define F32_INFINITY 0x7f800000u
#define F32_QUIET 0x00400000u

typedef struct format {  // a binary format without its sign
    unsigned mantissa_bits;
    unsigned bias;
    uint32_t code_max;  // what overflow gives
} format;

static const format f16 = {10, 15, 0x7c00};
static const format bf16 = {7, 127, 0x7f80};
static const format e4m3 = {3, 7, 0x7e};
static const format e5m2 = {2, 15, 0x7b};

uint32_t oct_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float oct_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The code of a magnitude that is not NaN, from its binary32 bits.
static uint32_t narrow(uint32_t magnitude, const format *to)
{
    const unsigned exponent_min = 128 - to->bias;  // binary32 exponent of the smallest normal
    const unsigned exponent = magnitude >= 0x00800000 ? magnitude >> 23 : 1;
    uint32_t significand = magnitude & 0x007fffff;
    if (magnitude >= 0x00800000) significand |= 0x00800000;

    unsigned dropped = 23 - to->mantissa_bits;
    if (exponent < exponent_min) dropped += exponent_min - exponent;
    if (dropped > 24) return 0;  // less than half of the smallest subnormal

    // Ties to even: just under one half is added, and one unit more when the kept part is odd.
    const uint32_t odd = significand >> dropped & 1;
    uint32_t code = (significand + (1u << (dropped - 1)) - 1 + odd) >> dropped;

    // The leading one of a normal is the first step of the exponent field; a carry is the next.
    if (exponent > exponent_min) code += (exponent - exponent_min) << to->mantissa_bits;
    return code < to->code_max ? code : to->code_max;
}

// The binary32 bits of a magnitude that is finite in its format.
static uint32_t widen(uint32_t magnitude, const format *from)
{
    const uint32_t exponent = magnitude >> from->mantissa_bits;
    const uint32_t mantissa = magnitude & ((1u << from->mantissa_bits) - 1);

    if (exponent == 0) {
        const uint32_t quantum = (128 - from->bias - from->mantissa_bits) << 23;
        return oct_f32_bits((float)mantissa * oct_f32_from_bits(quantum));
    }
    return (exponent + 127 - from->bias) << 23 | mantissa << (23 - from->mantissa_bits);
}

float oct_f16_to_f32(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    const uint32_t magnitude = bits & 0x7fff;
    if (magnitude < 0x7c00) return oct_f32_from_bits(sign | widen(magnitude, &f16));

    const uint32_t payload = (magnitude & 0x3ff) << 13;
    return oct_f32_from_bits(sign | F32_INFINITY | payload | (payload ? F32_QUIET : 0));
}

uint16_t oct_f32_to_f16(float value)
{
    const uint32_t bits = oct_f32_bits(value), magnitude = bits & 0x7fffffff;
    const uint32_t sign = bits >> 16 & 0x8000;
    if (magnitude > F32_INFINITY) {
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    }
    return (uint16_t)(sign | narrow(magnitude, &f16));
}

float oct_bf16_to_f32(uint16_t bits)
{
    return oct_f32_from_bits((uint32_t)bits << 16);
}

uint16_t oct_f32_to_bf16(float value)
{
    const uint32_t bits = oct_f32_bits(value), magnitude = bits & 0x7fffffff;
    if (magnitude > F32_INFINITY) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits >> 16 & 0x8000) | narrow(magnitude, &bf16));
}

float oct_e4m3_to_f32(uint8_t code)
{
    const uint32_t sign = (uint32_t)(code & 0x80) << 24;
    const uint32_t magnitude = code & 0x7f;
    if (magnitude == 0x7f) return oct_f32_from_bits(sign | F32_INFINITY | F32_QUIET);
    return oct_f32_from_bits(sign | widen(magnitude, &e4m3));
}

uint8_t oct_f32_to_e4m3(float value)
{
    const uint32_t bits = oct_f32_bits(value), magnitude = bits & 0x7fffffff;
    const uint32_t code = magnitude > F32_INFINITY ? 0x7f : narrow(magnitude, &e4m3);
    return (uint8_t)((bits >> 24 & 0x80) | code);
}

float oct_e5m2_to_f32(uint8_t code)
{
    const uint32_t sign = (uint32_t)(code & 0x80) << 24;
    const uint32_t magnitude = code & 0x7f;
    if (magnitude > 0x7c) return oct_f32_from_bits(sign | F32_INFINITY | F32_QUIET);
    return oct_f32_from_bits(sign | (magnitude == 0x7c ? F32_INFINITY : widen(magnitude, &e5m2)));
}

uint8_t oct_f32_to_e5m2(float value)
{
    const uint32_t bits = oct_f32_bits(value), magnitude = bits & 0x7fffffff;
    const uint32_t code = magnitude > F32_INFINITY ? 0x7f : narrow(magnitude, &e5m2);
    return (uint8_t)((bits >> 24 & 0x80) | code);
}

float oct_e8m0_to_f32(uint8_t code)
{
    if (code == 0xff) return oct_f32_from_bits(F32_INFINITY | F32_QUIET);
    if (code == 0) return oct_f32_from_bits(0x00400000);  // 2^-127 is subnormal in binary32
    return oct_f32_from_bits((uint32_t)code << 23);
}

uint8_t oct_f32_to_e8m0_up(float value)
{
    const uint32_t bits = oct_f32_bits(value);
    assert(bits > 0 && bits < F32_INFINITY);
    if (bits <= 0x00400000) return 0;

    const uint32_t exponent = bits >> 23, code = exponent + ((bits & 0x007fffff) != 0);
    return (uint8_t)(code < 0xfe ? code : 0xfe);
}
