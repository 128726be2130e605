// SPDX-License-Identifier: Apache-2.0
//
// Sampling: steps of the denoiser with guidance, on the device.
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/noise.h"
#include "runtime/options.h"
#include "runtime/pipeline.h"

#define SHIFT 3.0  // of all SD3.5 models

enum { SLOT_UPDATE = OCT_MMDIT_SLOTS, SLOT_UPDATE_SKIPPED, SLOTS };
_Static_assert(SLOTS <= OCT_SLOTS, "each kind of pass has a slot");

static bool is_guided(const oct_sample_params *params)
{
    return params->cfg > 1;
}

oct_status oct_sample_check(const oct_pipeline *pipeline, const oct_sample_params *params,
                            oct_err *err)
{
    const size_t unit = OCT_DOWNSCALE * pipeline->denoiser.patch;
    const size_t side = unit * pipeline->denoiser.table_side;
    const size_t width = params->width, height = params->height;

    if (width == 0 || height == 0 || width % unit != 0 || height % unit != 0) {
        return oct_fail(err, OCT_EUSAGE, "size %zux%zu is not a multiple of %zu", width, height,
                        unit);
    }
    if (width > side || height > side) {
        return oct_fail(err, OCT_EUSAGE, "size %zux%zu is larger than the model's %zux%zu", width,
                        height, side, side);
    }
    if (params->steps < 1 || params->steps > OCT_STEPS_MAX) {
        return oct_fail(err, OCT_EUSAGE, "%zu steps are not in 1..%d", params->steps,
                        OCT_STEPS_MAX);
    }
    return OCT_OK;
}

// ---- Memory.

typedef struct loop {
    oct_device *device;
    oct_mmdit *mmdit;
    const oct_sample_params *params;
    oct_sampler sampler;
    size_t n;                        // numbers of a latent
    float *latents;                  // on the device, owned: all that follow
    float *x;                        // [n]
    float *cond, *uncond, *skipped;  // [n] velocities
    float *denoised, *previous;      // [n]
    oct_step_factors *factors;       // [steps] on the device, owned
    oct_step_factors *current;       // of the step that runs, on the device, owned
} loop;

static oct_status allocate(loop *l, oct_err *err)
{
    oct_device *device = l->device;
    const size_t n = l->n, steps = l->params->steps;
    void *latents = NULL, *factors = NULL, *current = NULL;

    oct_status st = device->ops->alloc(device, &latents, 6 * n * sizeof *l->latents,
                                       "the latents of a picture", err);
    l->latents = latents;
    if (!st)
        st = device->ops->alloc(device, &factors, steps * sizeof *l->factors, "a schedule", err);
    l->factors = factors;
    if (!st) st = device->ops->alloc(device, &current, sizeof *l->current, "a schedule", err);
    l->current = current;
    if (st) return st;
    l->x = l->latents;
    l->cond = l->latents + n;
    l->uncond = l->latents + 2 * n;
    l->skipped = l->latents + 3 * n;
    l->denoised = l->latents + 4 * n;
    l->previous = l->latents + 5 * n;
    return OCT_OK;
}

static void write_factors(const loop *l)
{
    for (size_t step = 0; step < l->params->steps; step++) {
        oct_step_factors factors = oct_sampler_factors(&l->sampler, step);
        factors.cfg = (float)l->params->cfg;
        factors.slg = (float)l->params->slg_scale;
        l->device->ops->write(l->device, l->factors + step, &factors, sizeof factors);
    }
}

static oct_status loop_init(loop *l, oct_pipeline *pipeline, const oct_sample_params *params,
                            size_t n, oct_err *err)
{
    *l = (loop){.device = pipeline->device, .mmdit = &pipeline->mmdit, .params = params, .n = n};
    oct_status st = oct_sampler_init(&l->sampler, params->sampler, params->steps, SHIFT, err);
    if (!st) st = allocate(l, err);
    if (!st) write_factors(l);
    return st;
}

static void loop_deinit(loop *l)
{
    l->device->ops->release(l->device, l->latents);
    l->device->ops->release(l->device, l->factors);
    l->device->ops->release(l->device, l->current);
    oct_sampler_deinit(&l->sampler);
}

// ---- Steps.

typedef struct update {
    const loop *loop;
    bool skips;
} update;

static void run_update(void *context)
{
    const update *u = context;
    const loop *l = u->loop;
    const bool remembers = l->sampler.kind != OCT_SAMPLER_EULER;

    l->device->ops->sampler_step(l->device, &(oct_sampler_args){
                                                .x = l->x,
                                                .cond = l->cond,
                                                .uncond = is_guided(l->params) ? l->uncond : NULL,
                                                .skipped = u->skips ? l->skipped : NULL,
                                                .denoised = remembers ? l->denoised : NULL,
                                                .previous = l->previous,
                                                .factors = l->current,
                                                .n = l->n,
                                            });
    if (remembers) {
        l->device->ops->copy(l->device, l->previous, l->denoised, l->n * sizeof *l->previous);
    }
}

static void run_step(const loop *l, size_t step)
{
    const oct_sample_params *params = l->params;
    const bool skips = params->slg_blocks &&
                       oct_slg_is_active(step, params->steps, params->slg_start, params->slg_stop);
    update u = {l, skips};

    oct_mmdit_forward(l->mmdit, l->cond, l->x, step, 0, NULL);
    if (skips) oct_mmdit_forward(l->mmdit, l->skipped, l->x, step, 0, params->slg_blocks);
    if (is_guided(params)) oct_mmdit_forward(l->mmdit, l->uncond, l->x, step, 1, NULL);
    l->device->ops->copy(l->device, l->current, l->factors + step, sizeof *l->current);
    l->device->ops->run(l->device, skips ? SLOT_UPDATE_SKIPPED : SLOT_UPDATE, run_update, &u);
}

static oct_status check_finite(const float *latent, size_t n, size_t step, oct_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(latent[i])) {
            return oct_fail(err, OCT_EFORMAT, "the latent is no longer finite after step %zu",
                            step + 1);
        }
    }
    return OCT_OK;
}

static oct_status run_steps(const loop *l, float *latent, oct_err *err)
{
    const oct_sample_params *params = l->params;
    oct_device *device = l->device;
    oct_status st = OCT_OK;

    for (size_t step = 0; step < params->steps && !st; step++) {
        run_step(l, step);
        st = device->ops->read(device, latent, l->x, l->n * sizeof *latent, err);
        if (!st) st = check_finite(latent, l->n, step, err);
        if (!st && params->on_step) {
            st = params->on_step(params->context, step, l->sampler.sigmas[step + 1], latent, err);
        }
    }
    return st ? st : device->ops->sync(device, err);
}

// The first step remembers nothing: its `previous` is read, but does not count.
static void write_start(const loop *l, float *latent)
{
    oct_noise noise;

    memset(latent, 0, l->n * sizeof *latent);
    l->device->ops->write(l->device, l->previous, latent, l->n * sizeof *latent);
    oct_noise_init(&noise, l->params->seed);
    oct_noise_f32(&noise, latent, l->n);
    l->device->ops->write(l->device, l->x, latent, l->n * sizeof *latent);
}

oct_status oct_pipeline_sample(oct_pipeline *pipeline, const oct_sample_params *params,
                               float *latent, oct_err *err)
{
    const size_t height = params->height / OCT_DOWNSCALE, width = params->width / OCT_DOWNSCALE;
    oct_mmdit *mmdit = &pipeline->mmdit;
    loop l = {0};

    assert(pipeline->has_mmdit && params->positive && (params->negative || !is_guided(params)));
    oct_status st = oct_sample_check(pipeline, params, err);
    if (st) return st;
    st = loop_init(&l, pipeline, params, pipeline->denoiser.channels * height * width, err);
    if (st) goto out;
    const oct_mmdit_inputs inputs = {
        .latent_height = height,
        .latent_width = width,
        .branches = {params->positive, is_guided(params) ? params->negative : NULL},
        .timesteps = l.sampler.timesteps,
        .steps = params->steps,
        .has_fp8_attention = params->has_fp8_attention,
        .observer = params->observer,
        .is_last = params->is_last,
    };
    st = oct_mmdit_begin(mmdit, &inputs, err);
    if (st) goto out;
    write_start(&l, latent);
    st = run_steps(&l, latent, err);
    oct_mmdit_end(mmdit);

out:
    loop_deinit(&l);
    return st;
}
