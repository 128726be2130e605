// SPDX-License-Identifier: Apache-2.0
//
// The contract of a quantized file: every tensor there, no stray ones, types and shapes as the
// policy says, scales finite, positive and those of the calibration, no NaN codes.
#pragma once

#include "common/status.h"
#include "ptq/dialect.h"
#include "ptq/plan.h"
#include "ptq/source.h"
#include "verify/findings.h"
#include "verify/stored.h"

typedef struct oct_contract_params {
    const oct_source *file;              // what is verified
    const oct_denoiser *denoiser;        // of `file`
    const oct_dialects *dialects;        // of `file`
    const oct_source *source;            // what it was made from, or NULL
    const oct_plan *plan;                // the source's plan by --policy, or NULL (needs source)
    const oct_policy *policy;            // or NULL
    const oct_calibration *calibration;  // or NULL
    float qmax;                          // as the file's metadata says, 448 otherwise
    oct_snap snap;                       // likewise, none otherwise
} oct_contract_params;

// Findings name tensors. Layers that break a dialect's rules (a missing or absurd scale) are
// findings too; only I/O fails.
oct_status oct_contract_check(const oct_contract_params *params, oct_findings *findings,
                              oct_err *err);
