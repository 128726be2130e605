// SPDX-License-Identifier: Apache-2.0
//
// One comparison: a reference, candidates and prompts, and how far apart the pictures are. What run
// fills in and the reports show.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/digest.h"
#include "regress/gate.h"
#include "regress/metrics.h"
#include "regress/scores.h"
#include "runtime/jobs.h"
#include "runtime/pipeline.h"

typedef struct oct_outcome {  // of one candidate and one prompt
    oct_metrics metrics;
    const char *image, *heat;  // PNG files, relative to the report
    oct_verdict verdict;
} oct_outcome;

typedef struct oct_denoiser_facts {
    const char *name;    // policy or file name
    const char *digest;  // SHA-256 of a policy, XXH3-128 of a file's denoiser
    size_t n_layers, n_fp8, n_fp8_static;
    uint64_t weights, fp8_weights;  // elements of all layers, and of those in FP8
    uint64_t bytes;                 // of the denoiser as stored
} oct_denoiser_facts;

typedef struct oct_summary {  // over prompts
    double psnr_db_mean;      // of the pictures that differ; infinity when none does
    double psnr_db_worst;     // infinity when none differs
    double psnr_db_pooled;    // of the mean of all MSE; infinity when none differs
    double ssim_mean, ssim_worst;
    double flip_mean, flip_worst;
    size_t n_identical, n_failed;
} oct_summary;

typedef struct oct_score_outcome {  // of one candidate and one metric from outside
    oct_score_summary summary;
    oct_score_verdict verdict;
} oct_score_outcome;

typedef struct oct_compared {  // a candidate
    oct_denoiser_facts facts;
    bool is_policy;  // else a file
    bool has_fp8_attention;
    oct_executed executed;  // layers by how they ran
    oct_outcome *outcomes;  // [jobs->count]
    oct_summary summary;
    oct_scores scores;                  // values by metric in the reference's order; or none
    oct_score_outcome *score_outcomes;  // [scores.n_metrics]
} oct_compared;

typedef struct oct_comparison {
    oct_denoiser_facts reference;
    const char *prompts_name, *prompts_sha256;
    const char *calibration_sha256;  // or NULL
    const oct_device *device;        // borrowed, as all below
    const oct_sampling_options *sampling;
    const oct_slg_options *slg;
    uint64_t seed;
    const oct_jobs *jobs;
    const char **reference_images;  // [jobs->count], relative to the report
    oct_scores reference_scores;    // or none
    oct_compared *candidates;
    size_t n_candidates;
    oct_gate gate;
} oct_comparison;

// Summaries of all outcomes. n > 0.
oct_summary oct_summarize(const oct_outcome *outcomes, size_t n);

// Metrics from outside that fail.
size_t oct_compared_failed_scores(const oct_compared *candidate);
bool oct_compared_passes(const oct_compared *candidate);
bool oct_comparison_passes(const oct_comparison *comparison);
