// SPDX-License-Identifier: Apache-2.0
//
// Schedules in double, rounded once to binary32.
#include "runtime/sampler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TRAIN_STEPS 1000

static const char *const sampler_names[] = {
    [OCT_SAMPLER_EULER] = "euler",
    [OCT_SAMPLER_DPMPP_2M] = "dpmpp-2m",
    [OCT_SAMPLER_DPMPP_2M_DIFFUSERS] = "dpmpp-2m-diffusers",
};

bool oct_sampler_parse(const char *name, oct_sampler_kind *kind)
{
    for (size_t i = 0; i < sizeof sampler_names / sizeof *sampler_names; i++) {
        if (strcmp(name, sampler_names[i]) == 0) {
            *kind = (oct_sampler_kind)i;
            return true;
        }
    }
    return false;
}

const char *oct_sampler_name(oct_sampler_kind kind)
{
    return sampler_names[kind];
}

static double shifted(double shift, double u)
{
    return shift * u / (1 + (shift - 1) * u);
}

// The smallest sigma of training, which diffusers holds in binary32.
static double sigma_min(double shift)
{
    const float u = 1.0f / TRAIN_STEPS, s = (float)shift;
    return s * u / (1 + (s - 1) * u);
}

// Element i of n from `first` to `last`, as numpy.linspace computes it.
static double linspace(double first, double last, size_t n, size_t i)
{
    if (n == 1) return first;
    return i == n - 1 ? last : (double)i * ((last - first) / (double)(n - 1)) + first;
}

static double sigma_at(oct_schedule_kind kind, double shift, size_t steps, size_t i)
{
    const double last = TRAIN_STEPS * sigma_min(shift);
    switch (kind) {
    case OCT_SCHEDULE_DIFFUSERS:  // shifted twice at the bottom, as published
        return shifted(shift, linspace(TRAIN_STEPS, last, steps, i) / TRAIN_STEPS);
    case OCT_SCHEDULE_SGM_UNIFORM:
        return shifted(shift, linspace(TRAIN_STEPS, last, steps + 1, i) / TRAIN_STEPS);
    case OCT_SCHEDULE_SIMPLE: {
        const size_t from_top = (size_t)((double)i * ((double)TRAIN_STEPS / (double)steps));
        return shifted(shift, (double)(TRAIN_STEPS - from_top) / TRAIN_STEPS);
    }
    case OCT_SCHEDULE_DPMPP:
        return shifted(shift, 1 - linspace(1, 1.0 / TRAIN_STEPS, steps + 1, steps - i));
    }
    assert(false);
    return 0;
}

void oct_schedule(oct_schedule_kind kind, double shift, size_t steps, float *sigmas)
{
    assert(steps > 0 && shift > 0);
    for (size_t i = 0; i < steps; i++) sigmas[i] = (float)sigma_at(kind, shift, steps, i);
    sigmas[steps] = 0;
}

static void fill_schedule(oct_sampler *sampler, double shift)
{
    const bool is_own = sampler->kind == OCT_SAMPLER_DPMPP_2M_DIFFUSERS;
    const oct_schedule_kind kind = is_own ? OCT_SCHEDULE_DPMPP : OCT_SCHEDULE_DIFFUSERS;

    oct_schedule(kind, shift, sampler->steps, sampler->sigmas);
    for (size_t i = 0; i < sampler->steps; i++) {
        sampler->timesteps[i] =
            is_own ? (float)trunc(TRAIN_STEPS * sigma_at(kind, shift, sampler->steps, i))
                   : TRAIN_STEPS * sampler->sigmas[i];
    }
}

oct_status oct_sampler_init(oct_sampler *sampler, oct_sampler_kind kind, size_t steps, double shift,
                            oct_err *err)
{
    assert(steps > 0);
    *sampler = (oct_sampler){.kind = kind, .steps = steps};
    sampler->sigmas = calloc(steps + 1, sizeof *sampler->sigmas);
    sampler->timesteps = calloc(steps, sizeof *sampler->timesteps);
    if (!sampler->sigmas || !sampler->timesteps) {
        oct_sampler_deinit(sampler);
        return oct_fail(err, OCT_ENOMEM, "out of memory for %zu steps", steps);
    }
    fill_schedule(sampler, shift);
    return OCT_OK;
}

void oct_sampler_deinit(oct_sampler *sampler)
{
    free(sampler->sigmas);
    free(sampler->timesteps);
    *sampler = (oct_sampler){0};
}

static double lambda(oct_sampler_kind kind, double sigma)
{
    return kind == OCT_SAMPLER_DPMPP_2M ? -log(sigma) : log((1 - sigma) / sigma);
}

// How much of the last difference D_i - D_{i-1} extrapolates: 1 / (2 r), 0 in first-order steps.
static double extrapolation(const oct_sampler *sampler, size_t step)
{
    if (step == 0 || sampler->sigmas[step + 1] == 0) return 0;
    const double before = lambda(sampler->kind, sampler->sigmas[step - 1]);
    const double here = lambda(sampler->kind, sampler->sigmas[step]);
    const double after = lambda(sampler->kind, sampler->sigmas[step + 1]);
    return 0.5 * (after - here) / (here - before);
}

// Both variants: x' = k x + (1 - k) (D_i + e (D_i - D_{i-1})), k = sigma' / sigma. In diffusers'
// form -alpha' (exp(-h) - 1) is the same 1 - k. At sigma' = 0 this is x' = D_i exactly.
oct_step_factors oct_sampler_factors(const oct_sampler *sampler, size_t step)
{
    assert(step < sampler->steps);
    const float sigma = sampler->sigmas[step], next = sampler->sigmas[step + 1];
    return (oct_step_factors){
        .dt = next - sigma,
        .sigma = sigma,
        .keep = (float)((double)next / sigma),
        .extra = (float)extrapolation(sampler, step),
    };
}

bool oct_slg_is_active(size_t step, size_t steps, double start, double stop)
{
    return (double)step > start * (double)steps && (double)step < stop * (double)steps;
}
