// SPDX-License-Identifier: Apache-2.0
//
// What a histogram of a layer's input (kernels/exponents.h) says about storing it as E4M3.
//
// Within a bin, and up to the largest magnitude in the last that is not empty, numbers are taken for
// evenly spread, so these are estimates. For normal and for uniform numbers they are within 1 dB
// of encoding them, with a scale of amax / 448 or up to 64 times that (tests/ptq/test_exponents.c).
#pragma once

#include <stdint.h>

#include "kernels/exponents.h"

typedef struct oct_exponents {
    uint64_t counts[OCT_EXPONENT_BINS];
} oct_exponents;

void oct_exponents_add(oct_exponents *exponents, const oct_exponents *other);
uint64_t oct_exponents_total(const oct_exponents *exponents);

// The share, 0 to 1, of numbers that are not zero and become zero when stored as x / scale in
// E4M3: those below 2^-10 times the scale. Zeros cannot be told from the rest of bin 0, which is
// left out. amax: the largest magnitude; scale > 0; 0 without numbers.
double oct_exponents_underflow(const oct_exponents *exponents, double amax, double scale);

// 10 log10 of the sum of squares over the sum of squared errors when stored as x / scale in E4M3,
// rounded to nearest, cut at 448. NAN without numbers above bin 0.
double oct_exponents_sqnr_db(const oct_exponents *exponents, double amax, double scale);
