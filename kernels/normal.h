// SPDX-License-Identifier: Apache-2.0
//
// The normal distribution's function, for loops that a compiler turns into vectors.
#pragma once

#include "kernels/exp.h"

// Phi(x) = (1 + erf(x / sqrt 2)) / 2, which keeps its digits in the lower tail, unlike that form;
// 0 below -12.9, where its last normal numbers are. NaN stays NaN. The relative error is below
// 4e-7.
OCT_HOST_DEVICE static inline float oct_normal_below(float x)
{
    const float furthest = 12.9f;
    float u = x < 0 ? -x : x;
    u = u > furthest ? furthest : u;

    // (1 + 0.8 u) Phi(-u) e^(u^2 / 2) runs from 0.5 to 0.3 without a bend: a polynomial, fitted for
    // the least relative error, which is 1e-8.
    const float t = (u - 3.5f) / (u + 3.5f);
    float sum = 0x1.dbee7p-14f;
    sum = sum * t + 0x1.9ae28p-14f;
    sum = sum * t - 0x1.112eep-10f;
    sum = sum * t - 0x1.56cadep-15f;
    sum = sum * t + 0x1.05c8ccp-7f;
    sum = sum * t - 0x1.4e2e72p-6f;
    sum = sum * t + 0x1.28b856p-6f;
    sum = sum * t + 0x1.a6b8b6p-6f;
    sum = sum * t - 0x1.d97d4ap-4f;
    sum = sum * t + 0x1.9dcf6ep-2f;

    // The square of the upper 12 bits is exact; what rounding would lose of u^2 costs digits here.
    uint32_t bits;
    float high;
    memcpy(&bits, &u, sizeof bits);
    bits &= 0xfffff000u;
    memcpy(&high, &bits, sizeof high);
    const float power = oct_exp(-0.5f * high * high) * oct_exp(-0.5f * (u - high) * (u + high));
    const float tail = sum / (1.0f + 0.8f * u) * power;
    return x < -furthest ? 0.0f : x < 0 ? tail : 1.0f - tail;
}
