// SPDX-License-Identifier: Apache-2.0
//
// Showing a plan: a table for people, an object for programs.
#pragma once

#include <cjson/cJSON.h>

#include "ptq/plan.h"

// To stdout: one line per layer, then the totals per role and of the whole.
void oct_plan_print(const oct_plan *plan);

// Adds "layers" (an array) and totals to `object`.
void oct_plan_to_json(const oct_plan *plan, cJSON *object);
