// SPDX-License-Identifier: Apache-2.0
//
// Showing a plan: a table for people, an object for programs. Both predict the error of every FP8
// weight (ptq/predict.h), so both read some of its rows, and fail where those cannot be read.
#pragma once

#include <cjson/cJSON.h>

#include "ptq/plan.h"

// To stdout: one line per layer, what its rules are, then totals per role, of the tensors that are
// no layers, and of the whole.
oct_status oct_plan_print(const oct_plan *plan, const oct_source *source, oct_err *err);

// Adds "layers" (an array), "rest" (tensors that are no layers, per component) and totals to
// `object`.
oct_status oct_plan_to_json(const oct_plan *plan, const oct_source *source, cJSON *object,
                            oct_err *err);
