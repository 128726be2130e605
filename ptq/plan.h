// SPDX-License-Identifier: Apache-2.0
//
// The plan: policy x layers x calibration -> one decision per layer, with its reason. What quantize
// writes, verify checks, the runtime executes and regress compares is decided here, once.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/calibration.h"
#include "ptq/layers.h"
#include "ptq/policy.h"
#include "ptq/scale.h"

typedef struct oct_decision {
    const oct_layer *layer;
    oct_weights weights;
    oct_granularity granularity;  // of kept layers: TENSOR
    oct_scaling scaling;          // likewise MAX
    double percentile;            // with OCT_SCALE_PERCENTILE, else 0
    oct_inputs inputs;            // of kept layers: NONE
    float input_scale;            // > 0 with static inputs, else 0
    const oct_channels *channels; // of FP8 layers, where the calibration has them: what a column's
                                  // error counts; else NULL
    int rule;                     // of the policy, from 0; -1: its default
    const char *reason;           // "rule 2" (counted from 1), "default", or why it is otherwise:
                                  // "convolution: no loader reads it in FP8",
                                  // "in_features is no multiple of 32: no MX blocks",
                                  // "features are not multiples of 16: weight only",
                                  // "no calibrated range: weight only",
                                  // "text encoder: weight only", "FP8 already" (T5 likewise)
    uint64_t bytes_before, bytes_after;  // of the weight, scales included
} oct_decision;

typedef struct oct_plan_params {
    const oct_policy *policy;
    const oct_calibration *calibration;  // or NULL
    float qmax;                          // 448 unless --qmax; E5M2 uses 128 times as much
    bool require_calibration;            // a static layer without a range is an error
    oct_snap snap_scales;                // F32 scales, of weights and inputs alike
    bool has_unit_scales;                // of weights, all 1: the dialect stores none, so nor for inputs
} oct_plan_params;

typedef struct oct_plan {
    oct_arena arena;
    const oct_denoiser *denoiser;  // borrowed: must outlive the plan
    oct_plan_params params;        // borrowed likewise
    oct_decision *decisions;       // [denoiser->n_layers], same order
    size_t n_decisions;
    size_t n_fp8, n_static;
    uint64_t bytes_before, bytes_after;  // of the whole denoiser
} oct_plan;

// Bytes of the scales of a weight as decided: 0 for a kept one, else 4; 4 per row; 1 per MX block.
uint64_t oct_decision_scale_bytes(const oct_decision *decision);

// OCT_EFORMAT: a rule matches nothing; MX with another scale than "max" or other weights than E4M3;
// a calibration layer that the model has not, or of other channels; a missing range under require_calibration.
// OCT_EUNSUPPORTED: the source is FP8 already. The calibration's model digest is checked by whoever
// reads the data (oct_plan_check_model).
oct_status oct_plan_init(oct_plan *plan, const oct_denoiser *denoiser,
                         const oct_plan_params *params, oct_err *err);
void oct_plan_deinit(oct_plan *plan);

const oct_decision *oct_plan_find(const oct_plan *plan, const oct_layer *layer);

// OCT_EFORMAT when the plan's calibration was made with another denoiser than this digest's.
oct_status oct_plan_check_model(const oct_plan *plan, const char *denoiser_xxh3, oct_err *err);

// Quantize one weight that the plan makes FP8, all of it in memory: oct_encoder with threads
// inside; the same bits for any number of them. x: [out * in] of `layer`'s stored type; codes: [out
// * in]; scales: as oct_encoder_scales() says, one float per tensor. A NaN or infinity is
// OCT_EFORMAT naming tensor, index, row and column; `codes` and `scales` are untouched then.
oct_status oct_plan_encode(const oct_plan *plan, const oct_layer *layer, const void *x,
                           uint8_t *codes, void *scales, oct_err *err);
