// SPDX-License-Identifier: Apache-2.0
//
// A run of regress: check all inputs, encode once, render the reference, render and measure each
// candidate with the same seeds, save pictures and reports. Pictures of an earlier run may be kept,
// and scores that others gave them read.
#pragma once

#include "common/arena.h"
#include "common/cli.h"
#include "common/status.h"
#include "ptq/calibration.h"
#include "regress/candidate.h"
#include "regress/comparison.h"
#include "runtime/options.h"
#include "runtime/prompts.h"

typedef struct oct_regress_options {  // as given
    oct_model_paths paths;            // model: the reference
    const char *policies;             // "all,mlp" or NULL
    oct_texts files;                  // of candidates
    const char *prompts;
    uint64_t limit;
    const char *calibration;  // or NULL
    const char *out;
    const char *sheet;  // contact sheet, or NULL
    oct_sampling_options sampling;
    oct_slg_options slg;
    oct_device_options device;
    oct_gate gate;
    oct_texts scores;       // "NAME=FILE" each
    oct_texts score_drops;  // "METRIC=X" each
    bool reuses;            // pictures of an earlier run
    uint64_t seed;
} oct_regress_options;

typedef struct oct_regression {  // a run and all that it owns
    oct_arena arena;
    const oct_regress_options *options;
    oct_prompts prompts;
    oct_device *device;
    oct_pipeline reference;
    oct_calibration calibration;
    oct_candidate *candidates;  // [comparison.n_candidates]
    oct_scores *scores;         // [1 + comparison.n_candidates], the reference's first
    oct_jobs jobs;
    char vae_xxh3[OCT_XXH128_HEX];  // of the reference's, which decodes all pictures
    oct_comparison comparison;
} oct_regression;

// Everything that can be known before anything is computed; writes nothing.
oct_status oct_regression_open(oct_regression *run, oct_regress_options *options, oct_err *err);

// Render, measure and save. Afterwards run->comparison is complete.
oct_status oct_regression_run(oct_regression *run, oct_err *err);
void oct_regression_close(oct_regression *run);  // fine on a zeroed one
