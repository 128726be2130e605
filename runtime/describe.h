// SPDX-License-Identifier: Apache-2.0
//
// What was asked for and what was run, as JSON that all tools spell alike.
#pragma once

#include <cjson/cJSON.h>

#include "runtime/options.h"
#include "runtime/pipeline.h"

// Members "sampler", "steps", "cfg", "width_px", "height_px", "t5_tokens" and
// "skip_layer_guidance" (an object or null). `slg` may be NULL.
void oct_json_add_sampling(cJSON *object, const oct_sampling_options *sampling,
                           const oct_slg_options *slg);

// Member "executed_layers": how many ran as what.
void oct_json_add_executed(cJSON *object, const oct_executed *executed);

// The same for people: "380 FP8, 63 F16", into `out`, which is returned.
const char *oct_executed_text(const oct_executed *executed, char *out, size_t bytes);
