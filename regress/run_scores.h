// SPDX-License-Identifier: Apache-2.0
//
// Scores of a run: whose each file is, and what they say.
#pragma once

#include "regress/run.h"

// A candidate's name, and before the first '=' of --scores: the reference.
#define OCT_SCORES_REFERENCE "reference"

// After jobs and candidates are known: read the files of --scores and the limits of
// --max-score-drop. Either the reference and all candidates have scores of the same metrics, or
// none has.
oct_status oct_regression_load_scores(oct_regression *run, oct_err *err);

// After the candidates are described: hand the scores to the comparison and summarize them.
oct_status oct_regression_judge_scores(oct_regression *run, oct_err *err);
