// SPDX-License-Identifier: Apache-2.0
//
// The gate: thresholds that every picture of every candidate must keep, since a mean would hide one
// broken picture; and how far the mean of a score from outside may drop.
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "regress/metrics.h"
#include "regress/scores.h"

typedef struct oct_score_limit {
    const char *metric;
    double drop_max;  // of the mean below the reference's
} oct_score_limit;

typedef struct oct_gate {
    double psnr_db_min;                   // -infinity: no threshold
    double flip_max;                      // of a picture's mean; infinity: no threshold
    const oct_score_limit *score_limits;  // borrowed
    size_t n_score_limits;
} oct_gate;

#define OCT_GATE_OPEN                                                                              \
    {                                                                                              \
        .psnr_db_min = -INFINITY, .flip_max = INFINITY                                             \
    }

bool oct_gate_has_threshold(const oct_gate *gate);

typedef struct oct_verdict {
    size_t n_failures;     // 0: the picture passes
    char failures[2][80];  // sentences: "PSNR 28.31 dB is below 30 dB"
} oct_verdict;

// A picture exactly at a threshold passes.
oct_verdict oct_gate_judge(const oct_gate *gate, const oct_metrics *metrics);

typedef enum oct_score_verdict {
    OCT_SCORE_FREE,  // no limit
    OCT_SCORE_PASSES,
    OCT_SCORE_FAILS,
    OCT_SCORE_INCONCLUSIVE,
} oct_score_verdict;

// A score fails when its mean drops by more than the limit and the drop's interval leaves out 0.
// Without the second it is inconclusive: more prompts would tell.
oct_score_verdict oct_gate_judge_score(const oct_gate *gate, const char *metric,
                                       const oct_score_summary *summary);
const char *oct_score_verdict_word(oct_score_verdict verdict);  // "", "passes", "fails", ...

// NULL without one.
const oct_score_limit *oct_gate_find_limit(const oct_gate *gate, const char *metric);

// OCT_EUSAGE: a FLIP threshold outside 0..1.
oct_status oct_gate_check(const oct_gate *gate, oct_err *err);
