// SPDX-License-Identifier: Apache-2.0
//
// A candidate before it runs: a policy planned on the reference, or a checkpoint file of its own;
// either with FP8 attention if "+fp8-attention" is behind its name.
#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/status.h"
#include "ptq/calibration.h"
#include "ptq/plan.h"
#include "ptq/policy.h"
#include "regress/comparison.h"
#include "runtime/pipeline.h"

typedef struct oct_candidate {  // may not move once opened: the plan points into it
    bool is_policy;
    bool has_fp8_attention;
    const char *name;
    oct_policy policy;  // of a policy
    oct_plan plan;
    oct_pipeline pipeline;  // of a file
} oct_candidate;

// By bundled name or path. `calibration` may be NULL; it, the reference and the arena must outlive
// the candidate.
oct_status oct_candidate_open_policy(oct_candidate *candidate, const char *name_or_path,
                                     const oct_pipeline *reference,
                                     const oct_calibration *calibration, oct_arena *arena,
                                     oct_err *err);

// OCT_EFORMAT when the file's denoiser cannot read the reference's conditioning or latents.
oct_status oct_candidate_open_file(oct_candidate *candidate, const char *path,
                                   const oct_pipeline *reference, oct_arena *arena, oct_err *err);
void oct_candidate_close(oct_candidate *candidate);  // fine on a zeroed one

// What it is, for the report. Reads all data of a file to name its digest; warns of a policy's
// layers that should have static inputs but lack a range.
oct_status oct_candidate_describe(const oct_candidate *candidate, oct_arena *arena,
                                  oct_denoiser_facts *facts, oct_err *err);

// The same of a pipeline as it is stored.
oct_status oct_pipeline_describe(const oct_pipeline *pipeline, const char *name, oct_arena *arena,
                                 oct_denoiser_facts *facts, oct_err *err);
