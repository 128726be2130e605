// SPDX-License-Identifier: Apache-2.0
//
// Thresholds.
#include "regress/gate.h"

#include <stdio.h>

bool oct_gate_has_threshold(const oct_gate *gate)
{
    return isfinite(gate->psnr_db_min) || isfinite(gate->flip_max);
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

oct_status oct_gate_check(const oct_gate *gate, oct_err *err)
{
    if (isinf(gate->flip_max) || (gate->flip_max >= 0 && gate->flip_max <= 1)) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "option '--max-flip' needs a number from 0 to 1, not %g",
                    gate->flip_max);
}
