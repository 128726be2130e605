// SPDX-License-Identifier: Apache-2.0
//
// The scale of an MX block, for every implementation.
#pragma once

#include "common/number.h"

// OCP MX 1.0, 6.3: 2^(floor(log2(amax)) - emax), with emax 8 of E4M3, as E8M0. The exponent field
// of binary32 is floor(log2) already, with the bias of E8M0; below it, and of zero, the scale is
// the smallest there is.
static inline uint8_t mx_scale(float amax)
{
    const uint32_t exponent = oct_f32_bits(amax) >> 23;
    return (uint8_t)(exponent > 8 ? exponent - 8 : 0);
}
