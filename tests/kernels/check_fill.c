// SPDX-License-Identifier: Apache-2.0
//
// Inputs as patterns: uniform noise alone hits neither ties nor limits.
#include "tests/kernels/check.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/number.h"

const char *const check_pattern_name[CHECK_PATTERNS] = {
    "uniform", "outliers", "zeros", "subnormal", "ties", "overflow", "nonfinite", "any bits",
};

uint32_t check_random(check *t)
{
    t->state = t->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(t->state >> 32);
}

static float unit(check *t)  // -1..1
{
    return (float)((int32_t)check_random(t) * 0x1p-31);
}

float check_random_scale(check *t)
{
    static const float extreme[] = {FLT_MAX, FLT_MIN, 0x1p-149f, 0x1.8p-140f, 0x1p127f, 0x1p-100f};

    switch (check_random(t) % 4) {
    case 0:
        return ldexpf(1, (int)(check_random(t) % 40) - 30);
    case 1:
        return fabsf(unit(t)) / 448 + 0x1p-40f;
    case 2:
        return ldexpf(1 + fabsf(unit(t)), (int)(check_random(t) % 60) - 40);
    default:
        return extreme[check_random(t) % CHECK_COUNT(extreme)];
    }
}

static float near(check *t, float value)  // the value, or one of its neighbours
{
    switch (check_random(t) % 3) {
    case 0:
        return nextafterf(value, INFINITY);
    case 1:
        return nextafterf(value, -INFINITY);
    default:
        return value;
    }
}

// A value of E4M3 or the midpoint of two.
static float tie(check *t)
{
    const uint8_t code = (uint8_t)(check_random(t) % 0x7e);
    const float low = oct_e4m3_to_f32(code), high = oct_e4m3_to_f32(code + 1);
    const float value = check_random(t) % 4 ? (low + high) / 2 : low;
    return check_random(t) % 2 ? value : -value;
}

static float overflowing(check *t, float scale)
{
    static const float edge[] = {432, 448, 456, 464, 480, 512, 1e6f};
    const uint32_t pick = check_random(t) % 9;
    const float largest = pick == 7 ? 65504.0f : FLT_MAX;
    const float value = pick < 7 ? edge[pick] * scale : largest;
    return check_random(t) % 2 ? near(t, value) : -near(t, value);
}

static float subnormal(check *t, oct_dtype dtype, float scale)
{
    if (check_random(t) % 2) return unit(t) * 0x1p-5f * scale;
    return unit(t) * (dtype == OCT_F16 ? 0x1p-13f : 0x1p-125f);
}

static float nonfinite(check *t)
{
    const uint32_t sign = check_random(t) & 0x80000000u;
    switch (check_random(t) % 4) {
    case 0:
        return oct_f32_from_bits(sign | 0x7f800000u);
    case 1:
        return oct_f32_from_bits(sign | 0x7fc00000u | (check_random(t) & 0x3fffff));
    default:
        return unit(t);
    }
}

static float number(check *t, check_pattern pattern, oct_dtype dtype, float scale)
{
    switch (pattern) {
    case CHECK_OUTLIERS:
        return unit(t) * scale * (check_random(t) % 64 ? 0.4f : 400.0f);
    case CHECK_ZEROS:
        return check_random(t) % 2 ? 0.0f : -0.0f;
    case CHECK_SUBNORMAL:
        return subnormal(t, dtype, scale);
    case CHECK_TIES:
        return near(t, tie(t) * scale);
    case CHECK_OVERFLOW:
        return overflowing(t, scale);
    case CHECK_NONFINITE:
        return nonfinite(t);
    case CHECK_ANY_BITS:
        return oct_f32_from_bits(check_random(t));
    default:
        return unit(t) * 448 * scale;
    }
}

void check_fill(check *t, check_pattern pattern, oct_dtype dtype, void *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) {
        const float value = number(t, pattern, dtype, scale);
        const bool is_any = pattern == CHECK_ANY_BITS;  // any 16 bits, not any float rounded
        uint16_t half = (uint16_t)check_random(t);

        if (dtype == OCT_F16 && !is_any) half = oct_f32_to_f16(value);
        if (dtype == OCT_BF16 && !is_any) half = oct_f32_to_bf16(value);
        if (dtype == OCT_F32)
            memcpy((char *)x + i * 4, &value, 4);
        else
            memcpy((char *)x + i * 2, &half, 2);
    }
}
