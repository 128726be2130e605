// SPDX-License-Identifier: Apache-2.0
//
// Guidance and one step of a sampler on a latent of n numbers, in binary32:
//
//   v  = uncond + cfg (cond - uncond)                    cond without `uncond`
//   v += slg (cond - skipped)                            where there is `skipped`
//   Euler (no `denoised`)    x += dt v
//   DPM-Solver++             d = x - sigma v;  x = keep x + (1 - keep) (d + extra (d - previous))
//
// The factors lie where the latent does, so that one captured graph serves every step.
#pragma once

#include <stddef.h>

typedef struct oct_step_factors {
    float cfg, slg, dt, sigma, keep, extra;
} oct_step_factors;

typedef struct oct_sampler_args {
    float *x;                              // [n]
    const float *cond, *uncond, *skipped;  // [n]; the last two may be NULL
    float *denoised;                       // [n] d, written; or NULL
    const float *previous;                 // [n] d of the step before, finite
    const oct_step_factors *factors;
    size_t n;
} oct_sampler_args;
