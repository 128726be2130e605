// SPDX-License-Identifier: Apache-2.0
//
// Means and worst cases over prompts.
#include "regress/comparison.h"

#include <assert.h>
#include <math.h>

oct_summary oct_summarize(const oct_outcome *outcomes, size_t n)
{
    assert(n > 0);
    double psnr_sum = 0, mse_sum = 0, ssim_sum = 0, flip_sum = 0;
    oct_summary s = {.psnr_db_worst = INFINITY, .ssim_worst = INFINITY};

    for (size_t i = 0; i < n; i++) {
        const oct_metrics *m = &outcomes[i].metrics;
        if (m->is_identical)
            s.n_identical++;
        else
            psnr_sum += m->psnr_db;
        mse_sum += m->mse;
        ssim_sum += m->ssim;
        flip_sum += m->flip_mean;
        s.psnr_db_worst = fmin(s.psnr_db_worst, m->psnr_db);
        s.ssim_worst = fmin(s.ssim_worst, m->ssim);
        s.flip_worst = fmax(s.flip_worst, m->flip_mean);
        if (outcomes[i].verdict.n_failures > 0) s.n_failed++;
    }
    s.psnr_db_mean = n > s.n_identical ? psnr_sum / (double)(n - s.n_identical) : INFINITY;
    s.psnr_db_pooled = oct_psnr_db(mse_sum / (double)n);
    s.ssim_mean = ssim_sum / (double)n;
    s.flip_mean = flip_sum / (double)n;
    return s;
}

size_t oct_compared_failed_scores(const oct_compared *candidate)
{
    size_t n = 0;
    for (size_t i = 0; i < candidate->scores.n_metrics; i++) {
        n += candidate->score_outcomes[i].verdict == OCT_SCORE_FAILS;
    }
    return n;
}

bool oct_compared_passes(const oct_compared *candidate)
{
    return candidate->summary.n_failed == 0 && oct_compared_failed_scores(candidate) == 0;
}

bool oct_comparison_passes(const oct_comparison *comparison)
{
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        if (!oct_compared_passes(&comparison->candidates[i])) return false;
    }
    return true;
}
