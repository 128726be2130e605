// SPDX-License-Identifier: Apache-2.0
//
// Calibrations of one model, made with different prompts or seeds, as one.
#pragma once

#include "common/cli.h"
#include "common/status.h"
#include "ptq/calibration.h"

// Merge two or more files and write `out`, which must be none of them. The order of the files
// changes no byte. On success `merged` is the caller's to deinit; otherwise it is empty.
oct_status oct_merge_files(oct_calibration *merged, const oct_texts *files, const char *out,
                           oct_err *err);
