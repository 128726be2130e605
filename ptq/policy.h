// SPDX-License-Identifier: Apache-2.0
//
// Policies: which layers become FP8, and how. JSON, versioned, strict.
//
//   {
//     "octavo_policy": 1,
//     "name": "mlp-attn",
//     "description": "feed-forward and attention projections in FP8",
//     "source": "where the list comes from",
//     "default": {"weights": "keep"},
//     "rules": [
//       {"select": {"role": ["mlp_fc1", "mlp_fc2"], "stream": "image", "blocks": [0, -2],
//                   "name": "joint_blocks.*.mlp.*"},
//        "set": {"weights": "e4m3", "inputs": "static"}}
//     ]
//   }
//
// A rule selects the layers that match all of its keys: `component` ("denoiser" or "t5"), `role`
// and `stream` (a name or a list), `blocks` (first and last, inclusive; negative counts from the
// end), `edges` (N: the first and the last N blocks, but of either no more than a quarter of all,
// and at least one), `name` (a glob with * and ?, in either naming). A fused layer is matched by
// any of its names and roles. The default, and rules without `component`, are about the denoiser, or about T5
// where that is all there is: T5 beside a denoiser is kept unless a rule names it. The last
// matching rule wins, key by key. A rule that matches no layer of the model is an error. "name" is
// required, the rest is not.
//
// What a rule, or the default, sets:
//
//   weights      "keep" (default); "e4m3"; "e5m2"
//   granularity  "tensor" (default): one scale; "channel": one per row of the weight, F32 as well;
//                "mx": E8M0 scales over 32 elements of a row, by the rule of OCP MX 1.0
//   scale        "max" (default): the largest magnitude gets the largest code; "mse": the scale of
//                the least squared error, of a grid around that, where a calibration that knows the
//                input's channels says what each column's counts; "percentile": the magnitude at
//                "percentile" (required beside it, in (0, 100]) gets the largest code, larger ones
//                saturate. See ptq/encoder.h for the formulas.
//   rounding     "nearest", ties to even: the only one
//   inputs       "static" (default): needs a calibrated range; "none" computes in 16 bit on FP8
//                weights
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"
#include "ptq/layers.h"

typedef enum oct_weights { OCT_WEIGHTS_KEEP, OCT_WEIGHTS_E4M3, OCT_WEIGHTS_E5M2 } oct_weights;
typedef enum oct_granularity {  // what shares a scale
    OCT_PER_TENSOR,
    OCT_PER_CHANNEL,   // an output channel: a row of the weight
    OCT_PER_MX_BLOCK,  // 32 consecutive elements of a row
} oct_granularity;
typedef enum oct_scaling { OCT_SCALE_MAX, OCT_SCALE_MSE, OCT_SCALE_PERCENTILE } oct_scaling;
typedef enum oct_inputs { OCT_INPUTS_NONE, OCT_INPUTS_STATIC } oct_inputs;

const char *oct_weights_name(oct_weights weights);              // "keep", "e4m3", "e5m2"
const char *oct_granularity_name(oct_granularity granularity);  // "tensor", "channel", "mx"
const char *oct_scaling_name(oct_scaling scaling);              // "max", "mse", "percentile"
const char *oct_inputs_name(oct_inputs inputs);                 // "none", "static"

typedef struct oct_setting {  // what a rule sets; has_*: whether it does
    bool has_weights, has_granularity, has_scaling, has_rounding, has_inputs;
    oct_weights weights;
    oct_granularity granularity;
    oct_scaling scaling;
    double percentile;  // in (0, 100] with OCT_SCALE_PERCENTILE, else 0
    oct_inputs inputs;
} oct_setting;

typedef struct oct_rule {
    bool has_component;
    oct_component component;
    unsigned roles;    // bit per oct_role; 0: any
    unsigned streams;  // bit per oct_stream_kind; 0: any
    bool has_blocks;
    int first_block, last_block;
    int edges;         // N, or 0
    const char *name;  // glob or NULL
    oct_setting set;
} oct_rule;

typedef struct oct_policy {
    oct_arena arena;
    const char *name, *description, *source;  // "" where the file says nothing
    oct_setting defaults;                     // all of it set
    oct_rule *rules;
    size_t n_rules;
    char sha256[OCT_SHA256_HEX];  // of the file's bytes
} oct_policy;

// A bundled name ("mlp-attn") or the path of a file (contains '/' or ends in ".json"). An unknown
// name is OCT_EUSAGE and lists the bundled ones. Everything that breaks the schema is OCT_EFORMAT
// and names the rule, counted from 1. On failure `policy` is left empty.
oct_status oct_policy_load(oct_policy *policy, const char *name_or_path, oct_err *err);
oct_status oct_policy_parse(oct_policy *policy, const char *text, size_t bytes, oct_err *err);
void oct_policy_deinit(oct_policy *policy);

// Names of the bundled policies; NULL past the end.
const char *oct_policy_bundled(size_t index);

// What the policy says of a layer. *rule: index of the last rule that set `weights`, -1: default.
oct_setting oct_policy_apply(const oct_policy *policy, const oct_denoiser *denoiser,
                             const oct_layer *layer, int *rule);

// OCT_EFORMAT naming the first rule that matches no layer.
oct_status oct_policy_check_rules(const oct_policy *policy, const oct_denoiser *denoiser,
                                  oct_err *err);
