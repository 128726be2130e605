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
// A rule selects the layers that match all of its keys: `role` and `stream` (a name or a list),
// `blocks` (first and last, inclusive; negative counts from the end), `name` (a glob with * and ?,
// in SAI or diffusers naming; a fused qkv is matched by any of its three names). The last matching
// rule wins, key by key. A rule that matches no layer of the model is an error. "inputs": "static"
// needs a calibrated range, "none" computes in 16 bit on FP8 weights. "name" is required, the rest
// is not.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"
#include "ptq/layers.h"

typedef enum oct_weights { OCT_WEIGHTS_KEEP, OCT_WEIGHTS_E4M3 } oct_weights;
typedef enum oct_inputs { OCT_INPUTS_NONE, OCT_INPUTS_STATIC } oct_inputs;

const char *oct_weights_name(oct_weights weights);  // "keep", "e4m3"
const char *oct_inputs_name(oct_inputs inputs);     // "none", "static"

typedef struct oct_setting {  // what a rule sets; has_*: whether it does
    bool has_weights, has_inputs;
    oct_weights weights;
    oct_inputs inputs;
} oct_setting;

typedef struct oct_rule {
    unsigned roles;      // bit per oct_role; 0: any
    unsigned streams;    // bit per oct_stream_kind; 0: any
    bool has_blocks;
    int first_block, last_block;
    const char *name;    // glob or NULL
    oct_setting set;
} oct_rule;

typedef struct oct_policy {
    oct_arena arena;
    const char *name, *description, *source;  // "" where the file says nothing
    oct_setting defaults;            // both set; keep and static unless the file says otherwise
    oct_rule *rules;
    size_t n_rules;
    char sha256[OCT_SHA256_HEX];     // of the file's bytes
} oct_policy;

// A bundled name ("mlp-attn") or the path of a file (contains '/' or ends in ".json"). An unknown
// name is OCT_EUSAGE and lists the bundled ones. Everything that breaks the schema is OCT_EFORMAT and
// names the rule, counted from 1. On failure `policy` is left empty.
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
