// SPDX-License-Identifier: Apache-2.0
//
// Mean and variance, as every norm needs them.
#pragma once

#include <stddef.h>

// Of n > 0 numbers; biased variance. Two passes in binary64, so that a large mean costs no digits.
static inline void oct_moments(const float *x, size_t n, double *mean, double *variance)
{
    double sum = 0, squares = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += x[i];
    const double m = sum / (double)n;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < n; i++) squares += (x[i] - m) * (x[i] - m);
    *mean = m;
    *variance = squares / (double)n;
}
