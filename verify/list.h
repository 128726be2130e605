// SPDX-License-Identifier: Apache-2.0
//
// What a safetensors file holds.
#pragma once

#include <cjson/cJSON.h>

#include "common/safetensors.h"

// To stdout: metadata, totals per type, then every tensor with type, shape and bytes.
void oct_list_print(const oct_safetensors *file);

// Adds "tensors" (name, dtype, shape, bytes), "dtypes" and "metadata" to `object`.
void oct_list_to_json(const oct_safetensors *file, cJSON *object);
