// SPDX-License-Identifier: Apache-2.0
//
// The gate: thresholds that every picture of every candidate must keep. A mean would hide one
// broken picture.
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "regress/metrics.h"

typedef struct oct_gate {
    double psnr_db_min;  // -infinity: no threshold
    double flip_max;     // of a picture's mean; infinity: no threshold
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

// OCT_EUSAGE: a FLIP threshold outside 0..1.
oct_status oct_gate_check(const oct_gate *gate, oct_err *err);
