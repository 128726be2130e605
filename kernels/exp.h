// SPDX-License-Identifier: Apache-2.0
//
// The exponential function for loops that a compiler turns into vectors: no branch, no call, no
// table.
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define OCT_HOST_DEVICE __host__ __device__  // kernels/cuda computes the same bits
#else
#define OCT_HOST_DEVICE
#endif

// e^x for x clamped to [-87, 88]: never 0, infinite or subnormal. NaN stays NaN. The relative error
// is below 1e-7, less than one unit in the last place.
OCT_HOST_DEVICE static inline float oct_exp(float x)
{
    const float log2_e = 0x1.715476p+0f;
    const float ln2_high = 0x1.62ep-1f;     // 12 bits: the product with n is exact
    const float ln2_low = 0x1.0bfbe8p-15f;  // ln 2 - ln2_high
    const float round = 0x1.8p23f;          // its last place is 1

    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;

    const float shifted = x * log2_e + round;
    const float n = shifted - round;
    const float r = (x - n * ln2_high) - n * ln2_low;  // |r| <= ln(2) / 2

    // Taylor's series: the first term left out is below 2^-27 of the sum.
    float sum = 1.0f / 5040;
    sum = sum * r + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r * r + r + 1.0f;

    // 2^n: the low bits of `shifted` are n in two's complement.
    uint32_t power;
    float scale;
    memcpy(&power, &shifted, sizeof power);
    power = (power + 127) << 23;
    memcpy(&scale, &power, sizeof scale);
    return sum * scale;
}
