// SPDX-License-Identifier: Apache-2.0
//
// Number formats as scalar functions, the bits that every faster path must match.
//
//   F16       IEEE binary16                              BF16  upper half of binary32
//   E4M3      OCP E4M3FN: bias 7, max 448 (0x7e), min normal 2^-6, min subnormal 2^-9,
//             no infinity, NaN 0x7f/0xff
//   E5M2      OCP: bias 15, max 57344 (0x7b), min subnormal 2^-16, Inf 0x7c, NaN 0x7d..0x7f
//   E8M0      power of two, bias 127, NaN 0xff, no zero and no sign
//
// Every narrowing rounds to nearest, ties to even, in one step from binary32. Encoding to E4M3 and
// E5M2 saturates (infinities too); NaN becomes 0x7f with the sign kept. Between F16, BF16 and F32 a
// NaN keeps its sign and the top of its payload; it becomes quiet where x86 hardware makes it so
// (everywhere except BF16 to F32, which is a shift).
// Source: OCP 8-bit Floating Point Specification 1.0; OCP Microscaling Formats 1.0.
#pragma once

#include <stdint.h>

#define OCT_E4M3_MAX 448.0f
#define OCT_E5M2_MAX 57344.0f

float    oct_f16_to_f32(uint16_t bits);
uint16_t oct_f32_to_f16(float value);   // overflow gives infinity; NaN stays NaN
float    oct_bf16_to_f32(uint16_t bits);
uint16_t oct_f32_to_bf16(float value);  // as above
float    oct_e4m3_to_f32(uint8_t code);
uint8_t  oct_f32_to_e4m3(float value);  // saturates
float    oct_e5m2_to_f32(uint8_t code);
uint8_t  oct_f32_to_e5m2(float value);  // saturates
float    oct_e8m0_to_f32(uint8_t code);

// The smallest power of two that is >= value, as E8M0; value finite and > 0.
// Above 2^127, the largest there is, 0xfe.
uint8_t  oct_f32_to_e8m0_up(float value);

uint32_t oct_f32_bits(float value);
float    oct_f32_from_bits(uint32_t bits);
