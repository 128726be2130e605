// SPDX-License-Identifier: Apache-2.0
//
// Scales from ranges.
#pragma once

#define OCT_INPUT_SCALE_MIN 0x1p-16f  // FP16 consumers invert an input scale

// Weight: amax / qmax in binary32, at least FLT_MIN (a subnormal scale would lose bits); 1 for
// amax = 0. amax finite and >= 0, 0 < qmax <= 448. Finite whenever qmax >= 1; a smaller qmax and a
// huge amax may give infinity, which whoever quantizes refuses.
float oct_weight_scale(float amax, float qmax);

// Input: the same, at least OCT_INPUT_SCALE_MIN; 1 for amax = 0.
float oct_input_scale(float amax, float qmax);
