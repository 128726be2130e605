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

// Members "executed_layers", how many ran by how they are stored, and "executed_paths", by how the
// device ran them.
void oct_json_add_executed(cJSON *object, const oct_executed *executed);
oct_status oct_json_read_executed(const cJSON *object, oct_executed *executed, oct_err *err);

// Members "device", its name, and "peak_device_memory_bytes", 0 on the CPU.
void oct_json_add_device(cJSON *object, const oct_device *device);

// The same for people, into `out`, which is returned: "380 FP8, 63 F16" as stored; "380 FP8, 63
// 16-bit" as run.
const char *oct_executed_text(const oct_executed *executed, char *out, size_t bytes);
const char *oct_paths_text(const oct_executed *executed, char *out, size_t bytes);
