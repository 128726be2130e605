// SPDX-License-Identifier: Apache-2.0
//
// How sure a mean is: an interval that covers it with 95 %, by resampling.
//
// The bootstrap of Efron and Tibshirani with their BCa correction: z0 from the share of resampled
// means below the mean, the acceleration from the jackknife. Below 20 values the correction is not
// to be trusted, and the plain percentiles are taken. The random numbers are fixed, so that equal
// values give equal bits.
#pragma once

#include <stddef.h>

#include "common/status.h"

#define OCT_INTERVAL_RESAMPLES 10000
#define OCT_INTERVAL_CONFIDENCE 0.95
#define OCT_INTERVAL_BCA_MIN 20  // values

typedef struct oct_interval {
    double mean, low, high;
} oct_interval;

// Of n > 0 values. Values that are all the same give an interval of no width. OCT_ENOMEM.
oct_status oct_interval_of_mean(oct_interval *interval, const double *values, size_t n,
                                oct_err *err);

// Skewness of the jackknifed means over 6; 0 when all values are the same.
double oct_interval_acceleration(const double *values, size_t n);
