// SPDX-License-Identifier: Apache-2.0
//
// Histograms of magnitudes by their binary exponent, which is how floating-point formats see them:
// moving a scale by a factor of two moves the histogram by one bin, and its shape stays.
//
//   bin 0                  below 2^-30, zeros included
//   bin i                  from 2^(i - 31) to below 2^(i - 30)
//   bin 47                 2^16 and above, infinities and NaNs included
#pragma once

#include <stddef.h>
#include <stdint.h>

#define OCT_EXPONENT_BINS 48
#define OCT_EXPONENT_FIRST (-30)  // of bin 1

// counts: [OCT_EXPONENT_BINS], to which the n numbers are added.
void oct_count_exponents(uint64_t *counts, const float *x, size_t n);
