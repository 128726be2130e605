// SPDX-License-Identifier: Apache-2.0
//
// Scales from ranges.
#pragma once

#include <stdbool.h>

// Consumers that compute in FP16 invert an input scale. 1 / 2^-16 = 65536 is infinite there; the
// inverse of this one, 65408, is not.
#define OCT_INPUT_SCALE_MIN 0x1.008p-16f

// Weight: amax / qmax in binary32, at least FLT_MIN (a subnormal scale would lose bits); 1 for
// amax = 0. amax finite and >= 0, 0 < qmax <= 57344. Finite whenever qmax >= 1; a smaller qmax and
// a huge amax may give infinity, which whoever quantizes refuses.
float oct_weight_scale(float amax, float qmax);

// Input: the same, at least OCT_INPUT_SCALE_MIN; 1 for amax = 0.
float oct_input_scale(float amax, float qmax);

// Scales that a consumer may round to its compute type without changing them.
typedef enum oct_snap { OCT_SNAP_NONE, OCT_SNAP_BF16, OCT_SNAP_POW2 } oct_snap;

const char *oct_snap_name(oct_snap snap);  // "none", "bf16", "pow2"
bool oct_snap_parse(const char *name, oct_snap *snap);

// The next BF16 number or power of two that is >= scale, so that nothing saturates which did not
// before; infinity where there is none. scale: normal and > 0, or infinite.
float oct_scale_snap(float scale, oct_snap snap);
