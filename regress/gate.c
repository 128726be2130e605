// SPDX-License-Identifier: Apache-2.0
//
// Thresholds.
#include "regress/gate.h"

#include <stdio.h>
#include <string.h>

bool oct_gate_has_threshold(const oct_gate *gate)
{
    return isfinite(gate->psnr_db_min) || isfinite(gate->flip_max) || gate->n_score_limits > 0;
}

oct_verdict oct_gate_judge(const oct_gate *gate, const oct_metrics *metrics)
{
    oct_verdict verdict = {0};

    // Written so that a NaN fails.
    if (!(metrics->psnr_db >= gate->psnr_db_min)) {
        snprintf(verdict.failures[verdict.n_failures++], sizeof verdict.failures[0],
                 "PSNR %.4g dB is below %g dB", metrics->psnr_db, gate->psnr_db_min);
    }
    if (!(metrics->flip_mean <= gate->flip_max)) {
        snprintf(verdict.failures[verdict.n_failures++], sizeof verdict.failures[0],
                 "FLIP %.4g is above %g", metrics->flip_mean, gate->flip_max);
    }
    return verdict;
}

const oct_score_limit *oct_gate_find_limit(const oct_gate *gate, const char *metric)
{
    for (size_t i = 0; i < gate->n_score_limits; i++) {
        if (strcmp(gate->score_limits[i].metric, metric) == 0) return &gate->score_limits[i];
    }
    return NULL;
}

oct_score_verdict oct_gate_judge_score(const oct_gate *gate, const char *metric,
                                       const oct_score_summary *summary)
{
    const oct_score_limit *limit = oct_gate_find_limit(gate, metric);

    if (!limit) return OCT_SCORE_FREE;
    if (-summary->difference.mean <= limit->drop_max) return OCT_SCORE_PASSES;
    return summary->change == OCT_SCORE_LOWER ? OCT_SCORE_FAILS : OCT_SCORE_INCONCLUSIVE;
}

const char *oct_score_verdict_word(oct_score_verdict verdict)
{
    static const char *const words[] = {"", "passes", "fails", "inconclusive"};
    return words[verdict];
}

oct_status oct_gate_check(const oct_gate *gate, oct_err *err)
{
    if (isinf(gate->flip_max) || (gate->flip_max >= 0 && gate->flip_max <= 1)) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "option '--max-flip' needs a number from 0 to 1, not %g",
                    gate->flip_max);
}
