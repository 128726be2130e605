// SPDX-License-Identifier: Apache-2.0
#include "kernels/ops.h"

#include <assert.h>

static float guided(const oct_sampler_args *a, size_t i)
{
    const oct_step_factors *f = a->factors;
    float v = a->cond[i];

    if (a->uncond) v = a->uncond[i] + f->cfg * (a->cond[i] - a->uncond[i]);
    if (a->skipped) v += f->slg * (a->cond[i] - a->skipped[i]);
    return v;
}

void oct_sampler_step(const oct_sampler_args *args)
{
    const oct_step_factors f = *args->factors;
    float *x = args->x;

    assert(!args->denoised || (args->previous && args->previous != args->denoised));
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < args->n; i++) {
        const float v = guided(args, i);
        if (args->denoised) {
            const float d = x[i] - f.sigma * v;
            const float target = d + f.extra * (d - args->previous[i]);
            args->denoised[i] = d;
            x[i] = f.keep * x[i] + (1 - f.keep) * target;
        } else {
            x[i] += f.dt * v;
        }
    }
}
