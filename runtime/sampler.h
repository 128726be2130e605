// SPDX-License-Identifier: Apache-2.0
//
// Flow schedules and samplers. The model's output is the velocity v = dx/dsigma, so the denoised
// latent is x - sigma v. Formulas: huggingface/diffusers (FlowMatchEulerDiscreteScheduler,
// DPMSolverMultistepScheduler), Stability-AI/sd3.5.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "kernels/sampler_args.h"

typedef enum oct_sampler_kind {
    OCT_SAMPLER_EULER,             // "euler"
    OCT_SAMPLER_DPMPP_2M,          // "dpmpp-2m": reference and ComfyUI form, Euler's schedule
    OCT_SAMPLER_DPMPP_2M_DIFFUSERS // "dpmpp-2m-diffusers": its own schedule and lambda
} oct_sampler_kind;

typedef enum oct_schedule_kind {
    OCT_SCHEDULE_DIFFUSERS,        // Euler's default, the reference's, ComfyUI "normal"
    OCT_SCHEDULE_SGM_UNIFORM, OCT_SCHEDULE_SIMPLE, OCT_SCHEDULE_DPMPP,
} oct_schedule_kind;

bool oct_sampler_parse(const char *name, oct_sampler_kind *kind);
const char *oct_sampler_name(oct_sampler_kind kind);

// sigmas: [steps + 1], the last 0. shift: 3 for all SD3.5 models.
void oct_schedule(oct_schedule_kind kind, double shift, size_t steps, float *sigmas);

typedef struct oct_sampler {
    oct_sampler_kind kind;
    size_t steps;
    float *sigmas;                 // [steps + 1], owned
    float *timesteps;              // [steps], what the model is told: 1000 sigma, or truncated
} oct_sampler;

// steps > 0. OCT_ENOMEM leaves `sampler` empty.
oct_status oct_sampler_init(oct_sampler *sampler, oct_sampler_kind kind, size_t steps,
                            double shift, oct_err *err);
void oct_sampler_deinit(oct_sampler *sampler);

// What leads from sigmas[step] to sigmas[step + 1] with the velocity there, without guidance (cfg
// and slg are 0). The samplers that remember the step before, all but Euler's, need `denoised` and
// `previous` in oct_sampler_args.
oct_step_factors oct_sampler_factors(const oct_sampler *sampler, size_t step);

// Skip-layer guidance is active in steps with start * steps < step < stop * steps.
bool oct_slg_is_active(size_t step, size_t steps, double start, double stop);
