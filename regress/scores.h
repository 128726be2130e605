// SPDX-License-Identifier: Apache-2.0
//
// Scores from outside: what another program said of each picture, such as a judge of prompts or a
// reward model. More is better.
//
// A file belongs to the reference or to one candidate and has one JSON object per line:
//
//   {"id": "0007", "metric": "pocket_caption", "value": 1}
//
// with a prompt's id, any metric's name (ASCII without blanks) and a finite number. Every metric
// has one value for each prompt of the run, and the same metrics for the reference and for every
// candidate. Prompts that are not of the run, and values given twice, are errors.
#pragma once

#include <stddef.h>

#include "common/arena.h"
#include "common/status.h"
#include "regress/interval.h"
#include "runtime/jobs.h"

#define OCT_SCORE_METRICS_MAX 32
#define OCT_SCORE_NAME_MAX 64  // bytes

typedef struct oct_scores {  // of the reference or of one candidate
    size_t n_metrics;
    const char *names[OCT_SCORE_METRICS_MAX];  // in order of appearance
    double *values[OCT_SCORE_METRICS_MAX];     // [jobs->count] each
} oct_scores;

// Into the arena. Sentences begin with the path: "'s.jsonl', line 3: there is no prompt 'x'".
oct_status oct_scores_load(oct_scores *scores, const char *path, const oct_jobs *jobs,
                           oct_arena *arena, oct_err *err);

// The values of a metric, or NULL.
const double *oct_scores_find(const oct_scores *scores, const char *name);

typedef enum oct_score_change {  // of the mean, when the interval leaves out 0
    OCT_SCORE_SAME,
    OCT_SCORE_HIGHER,
    OCT_SCORE_LOWER,
} oct_score_change;

typedef struct oct_score_summary {  // of one metric of a candidate, over prompts
    double mean, reference_mean;
    oct_interval difference;   // candidate - reference, prompt by prompt
    size_t n_higher, n_lower;  // prompts
    oct_score_change change;
} oct_score_summary;

// n > 0 prompts.
oct_status oct_score_summarize(oct_score_summary *summary, const double *candidate,
                               const double *reference, size_t n, oct_err *err);
const char *oct_score_change_word(oct_score_change change);  // "no change seen", "higher", "lower"
