// SPDX-License-Identifier: Apache-2.0
//
// The three phases of a picture, and the sampling loop with guidance.
#include "runtime/pipeline.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/log.h"
#include "kernels/ops.h"
#include "runtime/noise.h"
#include "runtime/options.h"

#define DOWNSCALE 8  // pixels of a latent's side
#define SHIFT 3.0    // of all SD3.5 models

static oct_status check_architecture(const oct_pipeline *pipeline, oct_err *err)
{
    const oct_architecture architecture = pipeline->denoiser.architecture;

    if (architecture == OCT_ARCH_SD3) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "'%s' is a %s model: only SD3 and SD3.5 run here, others can be quantized",
                    pipeline->source.checkpoint.files[0].file.path,
                    oct_architecture_name(architecture));
}

oct_status oct_pipeline_open(oct_pipeline *pipeline, const oct_model_paths *paths, oct_err *err)
{
    *pipeline = (oct_pipeline){.tokenizers = paths->tokenizers};
    oct_status st = oct_source_open(&pipeline->source, paths, err);
    if (!st) st = oct_denoiser_init(&pipeline->denoiser, &pipeline->source, err);
    if (!st) st = check_architecture(pipeline, err);
    if (st) oct_pipeline_close(pipeline);
    return st;
}

void oct_pipeline_close(oct_pipeline *pipeline)
{
    oct_pipeline_unload_denoiser(pipeline);
    if (pipeline->has_vae) oct_vae_deinit(&pipeline->vae);
    oct_denoiser_deinit(&pipeline->denoiser);
    oct_source_close(&pipeline->source);
    *pipeline = (oct_pipeline){0};
}

oct_status oct_pipeline_encode(oct_pipeline *pipeline, const char *const *texts, size_t n,
                               size_t t5_tokens, oct_conditioning *out, oct_err *err)
{
    const oct_conditioning_params params = {
        .tokenizers = pipeline->tokenizers,
        .t5_tokens = t5_tokens ? t5_tokens : OCT_T5_TOKENS_DEFAULT,
    };
    const double start = oct_now_s();
    const oct_status st = oct_conditioning_encode(out, texts, n, &pipeline->source,
                                                  &pipeline->denoiser, &params, err);
    if (!st) oct_verbose("encoded %zu texts in %.1f s", n, oct_now_s() - start);
    return st;
}

oct_status oct_pipeline_load_denoiser(oct_pipeline *pipeline, const oct_plan *plan, oct_err *err)
{
    const double start = oct_now_s();
    oct_pipeline_unload_denoiser(pipeline);
    const oct_status st =
        oct_mmdit_load(&pipeline->mmdit, &pipeline->source, &pipeline->denoiser, plan, err);
    if (st) return st;
    pipeline->has_mmdit = true;
    oct_verbose("loaded the denoiser, %zu layers, in %.1f s", pipeline->denoiser.n_layers,
                oct_now_s() - start);
    return OCT_OK;
}

void oct_pipeline_unload_denoiser(oct_pipeline *pipeline)
{
    if (pipeline->has_mmdit) oct_mmdit_deinit(&pipeline->mmdit);
    pipeline->has_mmdit = false;
}

// ---- Sampling.

static bool is_guided(const oct_sample_params *params)
{
    return params->cfg > 1;
}

oct_status oct_sample_check(const oct_pipeline *pipeline, const oct_sample_params *params,
                            oct_err *err)
{
    const size_t unit = DOWNSCALE * pipeline->denoiser.patch;
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

typedef struct latents {
    size_t n;
    float *block;                    // all of them, owned
    float *cond, *uncond, *skipped;  // [n] velocities
    float *denoised, *previous;      // [n]
} latents;

static oct_status latents_init(latents *l, size_t n, oct_err *err)
{
    l->n = n;
    l->block = calloc(5 * n, sizeof *l->block);
    if (!l->block) return oct_fail(err, OCT_ENOMEM, "out of memory for a latent of %zu numbers", n);
    l->cond = l->block;
    l->uncond = l->block + n;
    l->skipped = l->block + 2 * n;
    l->denoised = l->block + 3 * n;
    l->previous = l->block + 4 * n;
    return OCT_OK;
}

static void run_step(oct_mmdit *mmdit, const oct_sample_params *params, const oct_sampler *sampler,
                     latents *l, float *latent, size_t step)
{
    const bool skips = params->slg_blocks &&
                       oct_slg_is_active(step, params->steps, params->slg_start, params->slg_stop);
    oct_step_factors factors = oct_sampler_factors(sampler, step);

    factors.cfg = (float)params->cfg;
    factors.slg = (float)params->slg_scale;
    oct_mmdit_forward(mmdit, l->cond, latent, step, 0, NULL);
    if (skips) oct_mmdit_forward(mmdit, l->skipped, latent, step, 0, params->slg_blocks);
    if (is_guided(params)) oct_mmdit_forward(mmdit, l->uncond, latent, step, 1, NULL);
    oct_sampler_step(&(oct_sampler_args){
        .x = latent,
        .cond = l->cond,
        .uncond = is_guided(params) ? l->uncond : NULL,
        .skipped = skips ? l->skipped : NULL,
        .denoised = sampler->kind == OCT_SAMPLER_EULER ? NULL : l->denoised,
        .previous = l->previous,
        .factors = &factors,
        .n = l->n,
    });
    memcpy(l->previous, l->denoised, l->n * sizeof *l->previous);
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

static oct_status run_steps(oct_mmdit *mmdit, const oct_sample_params *params, oct_sampler *sampler,
                            latents *l, float *latent, oct_err *err)
{
    oct_status st = OCT_OK;
    for (size_t step = 0; step < params->steps && !st; step++) {
        run_step(mmdit, params, sampler, l, latent, step);
        st = check_finite(latent, l->n, step, err);
        if (!st && params->on_step) {
            st = params->on_step(params->context, step, sampler->sigmas[step + 1], latent, err);
        }
    }
    return st;
}

static void draw_noise(float *latent, size_t n, uint64_t seed)
{
    oct_noise noise;
    oct_noise_init(&noise, seed);
    oct_noise_f32(&noise, latent, n);
}

oct_status oct_pipeline_sample(oct_pipeline *pipeline, const oct_sample_params *params,
                               float *latent, oct_err *err)
{
    const size_t height = params->height / DOWNSCALE, width = params->width / DOWNSCALE;
    oct_mmdit *mmdit = &pipeline->mmdit;
    oct_sampler sampler = {0};
    latents l = {0};

    assert(pipeline->has_mmdit && params->positive && (params->negative || !is_guided(params)));
    oct_status st = oct_sample_check(pipeline, params, err);
    if (st) return st;
    const size_t n = pipeline->denoiser.channels * height * width;
    st = oct_sampler_init(&sampler, params->sampler, params->steps, SHIFT, err);
    if (!st) st = latents_init(&l, n, err);
    if (st) goto out;
    const oct_mmdit_inputs inputs = {
        .latent_height = height,
        .latent_width = width,
        .branches = {params->positive, is_guided(params) ? params->negative : NULL},
        .timesteps = sampler.timesteps,
        .steps = params->steps,
        .observer = params->observer,
        .is_last = params->is_last,
    };
    st = oct_mmdit_begin(mmdit, &inputs, err);
    if (st) goto out;
    draw_noise(latent, n, params->seed);
    st = run_steps(mmdit, params, &sampler, &l, latent, err);
    oct_mmdit_end(mmdit);

out:
    free(l.block);
    oct_sampler_deinit(&sampler);
    return st;
}

// ---- Decoding.

static oct_status load_vae(oct_pipeline *pipeline, oct_err *err)
{
    if (pipeline->has_vae) return OCT_OK;
    const double start = oct_now_s();
    const oct_status st = oct_vae_load(&pipeline->vae, &pipeline->source, err);
    if (st) return st;
    pipeline->has_vae = true;
    oct_verbose("loaded the VAE in %.1f s", oct_now_s() - start);
    if (pipeline->vae.latent_channels == pipeline->denoiser.channels &&
        pipeline->vae.downscale == DOWNSCALE) {
        return OCT_OK;
    }
    oct_vae_deinit(&pipeline->vae);
    pipeline->has_vae = false;
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "the VAE does not read latents of %zu channels and 1/%d "
                    "of the picture's side",
                    (size_t)pipeline->denoiser.channels, DOWNSCALE);
}

oct_status oct_pipeline_decode(oct_pipeline *pipeline, const float *latent, size_t width,
                               size_t height, oct_image *image, oct_err *err)
{
    const size_t pixels = width * height;
    const size_t n = pipeline->denoiser.channels * pixels / (DOWNSCALE * DOWNSCALE);

    oct_status st = load_vae(pipeline, err);
    if (st) return st;
    const double start = oct_now_s();
    float *z = malloc(n * sizeof *z), *planar = malloc(3 * pixels * sizeof *planar);
    if (!z || !planar) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for a picture of %zux%zu", width, height);
        goto out;
    }
    oct_latent_to_vae(&pipeline->vae, z, latent, n);
    st = oct_vae_decode(&pipeline->vae, z, height / DOWNSCALE, width / DOWNSCALE, planar, err);
    if (!st) st = oct_image_init(image, width, height, err);
    if (st) goto out;
    oct_image_from_planar(image, planar);
    oct_verbose("decoded %zux%zu pixels in %.1f s", width, height, oct_now_s() - start);

out:
    free(z);
    free(planar);
    return st;
}

// ---- What tools report and read.

static size_t *executed_kind(oct_executed *executed, const oct_linear *linear)
{
    switch (linear->dtype) {
    case OCT_F32:
        return &executed->f32;
    case OCT_F16:
        return &executed->f16;
    case OCT_BF16:
        return &executed->bf16;
    default:
        return linear->input_scale > 0 ? &executed->fp8_static : &executed->fp8_weight_only;
    }
}

oct_executed oct_pipeline_executed(const oct_pipeline *pipeline)
{
    oct_executed executed = {0};
    if (!pipeline->has_mmdit) return executed;
    for (size_t i = 0; i < pipeline->denoiser.n_layers; i++) {
        const oct_linear *linear = &pipeline->mmdit.linears[i];
        if (linear->runs > 0) ++*executed_kind(&executed, linear);
    }
    return executed;
}

// Up to five digits, so that nothing overflows before it is checked against the model.
static const char *parse_side(const char *text, size_t *side)
{
    const size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 5) return NULL;
    *side = 0;
    for (size_t i = 0; i < digits; i++) *side = 10 * *side + (size_t)(text[i] - '0');
    return text + digits;
}

oct_status oct_size_parse(const char *text, size_t *width, size_t *height, oct_err *err)
{
    const char *rest = parse_side(text, width);
    if (rest && *rest == 'x') {
        rest = parse_side(rest + 1, height);
        if (rest && *rest == '\0') return OCT_OK;
    }
    return oct_fail(err, OCT_EUSAGE, "size '%s' is not WIDTHxHEIGHT", text);
}

uint64_t oct_peak_memory_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}
