// SPDX-License-Identifier: Apache-2.0
//
// Number formats, exhaustively where there are at most 2^16 patterns and around every midpoint.
#include <math.h>

#include "common/number.h"
#include "tests/test.h"

typedef struct fp8 {  // one 8-bit format, described by itself and not by the code under test
    int mantissa_bits, bias, codes;  // codes: finite magnitudes, from zero
    float (*decode)(uint8_t code);
    uint8_t (*encode)(float value);
} fp8;

static const fp8 e4m3 = {3, 7, 0x7f, oct_e4m3_to_f32, oct_f32_to_e4m3};
static const fp8 e5m2 = {2, 15, 0x7c, oct_e5m2_to_f32, oct_f32_to_e5m2};

// The value that the bits of a sign-less binary float stand for.
static double value_of(int code, int mantissa_bits, int bias)
{
    const int exponent = code >> mantissa_bits;
    const double mantissa = code & ((1 << mantissa_bits) - 1);
    const double one = 1 << mantissa_bits;
    if (exponent == 0) return ldexp(mantissa / one, 1 - bias);
    return ldexp(1 + mantissa / one, exponent - bias);
}

// The nearest code by trying them all; of two that are equally near, the even one.
static uint8_t nearest(const fp8 *format, float value)
{
    const uint8_t sign = signbit(value) ? 0x80 : 0;
    if (isnan(value)) return sign | 0x7f;
    int best = 0;
    double best_distance = HUGE_VAL;
    // Beyond the largest a double could not tell the distances apart any more.
    const double largest = value_of(format->codes - 1, format->mantissa_bits, format->bias);
    const double magnitude = fmin(fabs((double)value), largest);
    for (int code = 0; code < format->codes; code++) {
        const double distance =
            fabs(value_of(code, format->mantissa_bits, format->bias) - magnitude);
        if (distance < best_distance || (distance == best_distance && code % 2 == 0)) {
            best = code;
            best_distance = distance;
        }
    }
    return sign | (uint8_t)best;
}

static bool encodes_as_nearest(const fp8 *format, float value)
{
    const uint8_t got = format->encode(value), want = nearest(format, value);
    static int n_printed;
    if (got != want && n_printed++ < 10) printf("# %a: got %02x, want %02x\n", value, got, want);
    return got == want;
}

static bool all_f16_encode_as_nearest(const fp8 *format)
{
    bool is_same = true;
    for (unsigned i = 0; i < 0x10000; i++) {
        is_same &= encodes_as_nearest(format, oct_f16_to_f32((uint16_t)i));
    }
    return is_same;
}

static bool all_bf16_encode_as_nearest(const fp8 *format)
{
    bool is_same = true;
    for (unsigned i = 0; i < 0x10000; i++) {
        is_same &= encodes_as_nearest(format, oct_bf16_to_f32((uint16_t)i));
    }
    return is_same;
}

// Codes, midpoints and both neighbours of each in binary32; beyond the last code, where a further
// one would be.
static bool all_midpoints_encode_as_nearest(const fp8 *format)
{
    bool is_same = true;
    for (int code = 0; code < 0x7f; code++) {
        const double low = value_of(code, format->mantissa_bits, format->bias);
        const double high = value_of(code + 1, format->mantissa_bits, format->bias);
        const float at[] = {(float)low, (float)((low + high) / 2)};
        for (int i = 0; i < 2; i++) {
            const float value[] = {at[i], nextafterf(at[i], -INFINITY),
                                   nextafterf(at[i], INFINITY)};
            for (int k = 0; k < 3; k++) {
                is_same &= encodes_as_nearest(format, value[k]);
                is_same &= encodes_as_nearest(format, -value[k]);
            }
        }
    }
    return is_same;
}

static bool all_codes_decode_and_round_trip(const fp8 *format)
{
    bool is_same = true;
    for (int code = 0; code < 256; code++) {
        const float value = format->decode((uint8_t)code);
        const double sign = code & 0x80 ? -1 : 1;
        if ((code & 0x7f) >= format->codes) continue;  // not finite
        is_same &= value == sign * value_of(code & 0x7f, format->mantissa_bits, format->bias);
        is_same &= (signbit(value) != 0) == (code >= 0x80);
        is_same &= format->encode(value) == code;
    }
    return is_same;
}

static void e4m3_codes_decode_and_round_trip(void)
{
    CHECK(all_codes_decode_and_round_trip(&e4m3));
    CHECK(oct_e4m3_to_f32(0x7e) == 448 && oct_e4m3_to_f32(0x08) == 0x1p-6f);
    CHECK(oct_e4m3_to_f32(0x01) == 0x1p-9f);
    CHECK(oct_f32_bits(oct_e4m3_to_f32(0x7f)) == 0x7fc00000);
    CHECK(oct_f32_bits(oct_e4m3_to_f32(0xff)) == 0xffc00000);
}

static void e5m2_codes_decode_and_round_trip(void)
{
    CHECK(all_codes_decode_and_round_trip(&e5m2));
    CHECK(oct_e5m2_to_f32(0x7b) == 57344 && oct_e5m2_to_f32(0x01) == 0x1p-16f);
    CHECK(oct_e5m2_to_f32(0x7c) == INFINITY && oct_e5m2_to_f32(0xfc) == -INFINITY);
    for (int code = 0x7d; code < 0x80; code++) {
        CHECK(oct_f32_bits(oct_e5m2_to_f32((uint8_t)code)) == 0x7fc00000);
        CHECK(oct_f32_bits(oct_e5m2_to_f32((uint8_t)(code | 0x80))) == 0xffc00000);
    }
}

static void e4m3_encodes_as_nearest(void)
{
    CHECK(all_f16_encode_as_nearest(&e4m3));
    CHECK(all_bf16_encode_as_nearest(&e4m3));
    CHECK(all_midpoints_encode_as_nearest(&e4m3));
}

static void e5m2_encodes_as_nearest(void)
{
    CHECK(all_f16_encode_as_nearest(&e5m2));
    CHECK(all_bf16_encode_as_nearest(&e5m2));
    CHECK(all_midpoints_encode_as_nearest(&e5m2));
}

static void encoding_saturates_and_keeps_nan(void)
{
    CHECK(oct_f32_to_e4m3(464) == 0x7e && oct_f32_to_e4m3(-465) == 0xfe);
    CHECK(oct_f32_to_e4m3(3.4e38f) == 0x7e && oct_f32_to_e4m3(-INFINITY) == 0xfe);
    CHECK(oct_f32_to_e5m2(61440) == 0x7b && oct_f32_to_e5m2(-3.4e38f) == 0xfb);
    CHECK(oct_f32_to_e5m2(INFINITY) == 0x7b);
    static const uint32_t nans[] = {0x7fc00000, 0x7f800001, 0x7fffffff};
    for (int i = 0; i < 3; i++) {
        CHECK(oct_f32_to_e4m3(oct_f32_from_bits(nans[i])) == 0x7f);
        CHECK(oct_f32_to_e4m3(oct_f32_from_bits(nans[i] | 0x80000000)) == 0xff);
        CHECK(oct_f32_to_e5m2(oct_f32_from_bits(nans[i])) == 0x7f);
        CHECK(oct_f32_to_e5m2(oct_f32_from_bits(nans[i] | 0x80000000)) == 0xff);
    }
}

static void tiny_values_encode_to_a_signed_zero(void)
{
    CHECK(oct_f32_to_e4m3(0.0f) == 0 && oct_f32_to_e4m3(-0.0f) == 0x80);
    CHECK(oct_f32_to_e4m3(0x1p-149f) == 0 && oct_f32_to_e4m3(-0x1p-149f) == 0x80);
    CHECK(oct_f32_to_e4m3(0x1p-10f) == 0 && oct_f32_to_e4m3(0x1.000002p-10f) == 1);
    CHECK(oct_f32_to_e5m2(0x1p-17f) == 0 && oct_f32_to_e5m2(0x1.000002p-17f) == 1);
}

static void all_f16_patterns_round_trip(void)
{
    bool is_same = true;
    for (unsigned i = 0; i < 0x10000; i++) {
        const uint16_t bits = (uint16_t)i;
        const float value = oct_f16_to_f32(bits);
        const bool is_nan = (bits & 0x7fff) > 0x7c00;
        is_same &= oct_f32_to_f16(value) == (is_nan ? bits | 0x200 : bits);
        is_same &= (isnan(value) != 0) == is_nan;
        is_same &= (signbit(value) != 0) == (bits >= 0x8000);
        if ((bits & 0x7fff) < 0x7c00)
            is_same &= fabs((double)value) == value_of(bits & 0x7fff, 10, 15);
    }
    CHECK(is_same);
    CHECK(oct_f16_to_f32(0x7c00) == INFINITY && oct_f16_to_f32(0xfc00) == -INFINITY);
}

static void all_bf16_patterns_round_trip(void)
{
    bool is_same = true;
    for (unsigned i = 0; i < 0x10000; i++) {
        const uint16_t bits = (uint16_t)i;
        const float value = oct_bf16_to_f32(bits);
        const bool is_nan = (bits & 0x7fff) > 0x7f80;
        is_same &= oct_f32_to_bf16(value) == (is_nan ? bits | 0x40 : bits);
        is_same &= (isnan(value) != 0) == is_nan;
        if ((bits & 0x7fff) < 0x7f80)
            is_same &= fabs((double)value) == value_of(bits & 0x7fff, 7, 127);
    }
    CHECK(is_same);
}

// Around the midpoint of each two neighbours the lower, the even and the upper one.
static bool midpoints_round_to_even(int mantissa_bits, int bias, int infinity,
                                    uint16_t (*narrow)(float))
{
    bool is_same = true;
    for (int code = 0; code < infinity; code++) {
        const double low = value_of(code, mantissa_bits, bias);
        const double high = value_of(code + 1, mantissa_bits, bias);
        const float middle = (float)((low + high) / 2);
        is_same &= narrow(nextafterf(middle, 0)) == code;
        is_same &= narrow(middle) == code + code % 2;
        is_same &= narrow(nextafterf(middle, INFINITY)) == code + 1;
        is_same &= narrow(-middle) == (0x8000 | (code + code % 2));
    }
    return is_same;
}

static void f16_rounds_to_nearest_even(void)
{
    CHECK(midpoints_round_to_even(10, 15, 0x7c00, oct_f32_to_f16));
    CHECK(oct_f32_to_f16(65519.996f) == 0x7bff && oct_f32_to_f16(65520) == 0x7c00);
    CHECK(oct_f32_to_f16(1e30f) == 0x7c00 && oct_f32_to_f16(-INFINITY) == 0xfc00);
}

static void bf16_rounds_to_nearest_even(void)
{
    CHECK(midpoints_round_to_even(7, 127, 0x7f80, oct_f32_to_bf16));
    CHECK(oct_f32_to_bf16(oct_f32_from_bits(0x7f7fffff)) == 0x7f80);
    CHECK(oct_f32_to_bf16(-INFINITY) == 0xff80);
}

static void narrowed_nans_stay_nan(void)
{
    CHECK(oct_f32_to_f16(oct_f32_from_bits(0x7f800001)) == 0x7e00);
    CHECK(oct_f32_to_f16(oct_f32_from_bits(0xffffffff)) == 0xffff);
    CHECK(oct_f32_to_bf16(oct_f32_from_bits(0xff800001)) == 0xffc0);
    CHECK(oct_f32_to_bf16(oct_f32_from_bits(0x7fffffff)) == 0x7fff);
}

static void e8m0_codes_are_powers_of_two(void)
{
    for (int code = 0; code < 255; code++) {
        const float value = oct_e8m0_to_f32((uint8_t)code);
        CHECK(value == ldexp(1, code - 127));
        CHECK(oct_f32_to_e8m0_up(value) == code);
        if (code < 254) CHECK(oct_f32_to_e8m0_up(nextafterf(value, INFINITY)) == code + 1);
        if (code > 0) CHECK(oct_f32_to_e8m0_up(nextafterf(value, 0)) == code);
    }
    CHECK(isnan(oct_e8m0_to_f32(0xff)));
    CHECK(oct_f32_to_e8m0_up(0x1p-149f) == 0);
    CHECK(oct_f32_to_e8m0_up(oct_f32_from_bits(0x7f7fffff)) == 0xfe);
}

int main(void)
{
    RUN(e4m3_codes_decode_and_round_trip);
    RUN(e5m2_codes_decode_and_round_trip);
    RUN(e4m3_encodes_as_nearest);
    RUN(e5m2_encodes_as_nearest);
    RUN(encoding_saturates_and_keeps_nan);
    RUN(tiny_values_encode_to_a_signed_zero);
    RUN(all_f16_patterns_round_trip);
    RUN(all_bf16_patterns_round_trip);
    RUN(f16_rounds_to_nearest_even);
    RUN(bf16_rounds_to_nearest_even);
    RUN(narrowed_nans_stay_nan);
    RUN(e8m0_codes_are_powers_of_two);
    return test_end();
}
