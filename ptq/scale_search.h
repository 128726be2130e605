// SPDX-License-Identifier: Apache-2.0
//
// Scales that look at all numbers of a weight, or of one row, instead of the largest alone.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/tensor.h"
#include "ptq/channels.h"
#include "ptq/policy.h"
#include "ptq/scale.h"

typedef struct oct_numbers {  // finite
    oct_dtype dtype;          // F32, F16 or BF16
    const void *x;            // [n]
    const uint64_t *counts;   // [period]: number i counts counts[i % period] times; NULL: once
    uint64_t n;
    uint64_t period;  // of the counts; 0: n
} oct_numbers;

// What the columns of a weight count, by the mean squares of the channels that they meet: shares of
// the largest, of 2^30, to the nearest. False, and nothing in `counts`, when nothing came in at
// all. counts: [channels->n].
bool oct_numbers_weigh(const oct_channels *channels, uint64_t *counts);

// Sum over all numbers of (x - value)^2, counted, value = code(x / scale) * scale in binary32 as it
// is decoded. Summed in binary64, in an order that n alone decides. weights: E4M3 or E5M2.
double oct_numbers_error(const oct_numbers *numbers, oct_weights weights, float scale);

// The scale of the least such error among start * i / 32, i = 24..64: three quarters, which lets
// the largest saturate, to the double, where the codes of a float repeat. Each is snapped. `start`
// goes before others of the same error, so the answer is never worse than it. start: finite,
// normal, > 0, already snapped. Threads inside for many numbers.
float oct_numbers_best_scale(const oct_numbers *numbers, oct_weights weights, float start,
                             oct_snap snap);

// The magnitude at a percentile: of all n in ascending order the one of rank ceil(percentile * n /
// 100), from 1. Exact: selected by bits. n > 0, percentile in (0, 100], no counts.
float oct_numbers_magnitude_at(const oct_numbers *numbers, double percentile);

#define OCT_MAGNITUDES_16 32768  // of a 16-bit type

// The distinct magnitudes of F16 or BF16 numbers that count, ascending, with their counts: the same
// error in far less time when they are many. Exact: whole numbers up to 2^34 numbers of 2^30 each.
// Both arrays: [OCT_MAGNITUDES_16], which `counted` then borrows.
void oct_numbers_count(const oct_numbers *numbers, uint16_t *magnitudes, uint64_t *counts,
                       oct_numbers *counted);
