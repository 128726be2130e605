// SPDX-License-Identifier: Apache-2.0
//
// Drift: what quantizing cost each tensor, measured against the source.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "ptq/plan.h"
#include "ptq/source.h"
#include "verify/findings.h"
#include "verify/stored.h"

typedef struct oct_drift_layer {
    const char *name;           // borrowed from the denoiser
    double sqnr_db;             // 10 log10(sum x^2 / sum (x - q s)^2); infinite when equal
    double error_max;           // largest |x - q s|
    double error_max_of_bound;  // largest ratio to half a step of FP8 times s; <= 1 is provable
    double underflow_share;     // nonzero x that became 0
    double saturated_share;     // |x / s| above the format's largest number
} oct_drift_layer;

typedef struct oct_drift {
    oct_arena arena;
    oct_drift_layer *layers;    // the FP8 ones, by name
    size_t n_layers, n_copied;  // tensors found byte-identical
    size_t worst;               // index of the lowest SQNR
} oct_drift;

typedef struct oct_drift_params {
    const oct_source *file, *source;
    const oct_denoiser *denoiser;  // of `file`
    const oct_denoiser *source_denoiser;
    const oct_dialects *dialects;         // of `file`
    const oct_dialects *source_dialects;  // NONE for components that are 16-bit or seen as such
    const oct_plan *plan;  // of the source: weight scales must be what it gives; or NULL
    double sqnr_db_min;  // below is a finding; -inf: none
} oct_drift_params;

// Findings: a kept tensor that differs; codes that were copied with other scales; codes that are not
// the source's, rounded to nearest at the file's own scales; a scale that is not the plan's; an
// error above the bound; an SQNR below the minimum; a tensor without source. Works in chunks on all
// threads; the numbers do not depend on how many. Holds a few chunks per thread and the scales of
// one layer, and one weight where the plan's scaling looks at it twice.
oct_status oct_drift_measure(oct_drift *drift, const oct_drift_params *params,
                             oct_findings *findings, oct_err *err);
void oct_drift_deinit(oct_drift *drift);
