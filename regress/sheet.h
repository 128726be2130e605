// SPDX-License-Identifier: Apache-2.0
//
// A contact sheet: one picture of a run's pictures. A row for the reference and one for each
// candidate, a column for each of the first prompts. Cells keep the pictures' shape and have at
// most OCT_SHEET_CELL pixels a side: larger pictures are averaged down by a whole factor.
#pragma once

#include "common/status.h"
#include "regress/comparison.h"

#define OCT_SHEET_COLUMNS 16
#define OCT_SHEET_CELL 256
#define OCT_SHEET_GAP 4  // pixels between cells and around them, white

// `folder` is the report's, to which the pictures' paths are relative.
oct_status oct_sheet_save(const oct_comparison *comparison, const char *folder, const char *path,
                          oct_err *err);
