// SPDX-License-Identifier: Apache-2.0
//
// A run of calibrate.
#include "calibrate/collect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate/partial.h"
#include "common/file.h"
#include "common/log.h"
#include "common/progress.h"
#include "ptq/dialect.h"

#define SEED_MAX (UINT64_C(1) << 53)  // what every JSON reader keeps

static oct_status check_is_16_bit(const oct_collection *collection, oct_err *err)
{
    const oct_dialect dialect = oct_dialect_detect(&collection->pipeline.source);
    if (dialect == OCT_DIALECT_NONE) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "'%s' is an FP8 model (%s): ranges come from the 16-bit model",
                    collection->options->paths.model, oct_dialect_name(dialect));
}

static oct_status open_inputs(oct_collection *collection, oct_err *err)
{
    const oct_collect_options *options = collection->options;

    oct_status st = oct_prompts_load(&collection->prompts, options->prompts, options->limit, err);
    if (st) return st;
    oct_jobs_init(&collection->jobs, &collection->prompts, &options->sampling, options->seed);
    st = oct_pipeline_open(&collection->pipeline, &options->paths, err);
    if (!st) st = check_is_16_bit(collection, err);
    if (st) return st;
    const oct_sample_params params =
        oct_job_params(&collection->jobs.items[0], &options->sampling, NULL);
    st = oct_sample_check(&collection->pipeline, &params, err);
    if (!st) {
        st = oct_device_options_open(&collection->device, &options->device,
                                     &collection->pipeline.denoiser, err);
    }
    collection->pipeline.device = collection->device;
    return st;
}

// A place that cannot be written is better known now than after hours.
static oct_status check_out(const char *path, oct_err *err)
{
    oct_output output = {0};
    const oct_status st = oct_output_begin(&output, path, err);
    oct_output_abort(&output);
    return st;
}

oct_status oct_collection_open(oct_collection *collection, const oct_collect_options *options,
                               const oct_ranks *ranks, oct_err *err)
{
    *collection = (oct_collection){.options = options, .ranks = *ranks};
    if (options->seed > SEED_MAX) {
        return oct_fail(err, OCT_EUSAGE, "option '--seed' needs a count up to %llu, not %llu",
                        (unsigned long long)SEED_MAX, (unsigned long long)options->seed);
    }
    oct_status st = open_inputs(collection, err);
    if (!st) st = check_out(options->out, err);
    st = oct_ranks_agree(ranks, st, err);
    if (st) oct_collection_close(collection);
    return st;
}

void oct_collection_close(oct_collection *collection)
{
    oct_calibration_deinit(&collection->calibration);
    oct_observer_deinit(&collection->observer);
    oct_jobs_deinit(&collection->jobs);
    oct_pipeline_close(&collection->pipeline);
    oct_device_close(collection->device);
    oct_prompts_deinit(&collection->prompts);
    *collection = (oct_collection){0};
}

static oct_status sample_job(oct_collection *collection, size_t index, oct_progress *progress,
                             float *latent, oct_err *err)
{
    const oct_job *job = &collection->jobs.items[index];
    oct_sample_params params = oct_job_params(job, &collection->options->sampling, NULL);

    params.observer = &collection->observer;
    params.on_step = oct_count_step;
    params.context = progress;
    const oct_status st = oct_pipeline_sample(&collection->pipeline, &params, latent, err);
    return st ? oct_wrap(err, st, "prompt '%s'", job->prompt->id) : OCT_OK;
}

static oct_status sample_all(oct_collection *collection, float *latent, oct_err *err)
{
    const size_t steps = collection->options->sampling.steps, n = collection->jobs.count;
    const size_t first = (size_t)collection->ranks.rank, stride = (size_t)collection->ranks.count;
    const size_t mine = first < n ? (n - first - 1) / stride + 1 : 0;
    const size_t n_done = oct_partial_load(collection);
    oct_progress progress = {0};
    oct_status st = OCT_OK;

    oct_progress_begin(&progress, "calibrating", (mine - n_done) * steps, "steps");
    for (size_t i = n_done; i < mine && !st; i++) {
        st = sample_job(collection, first + i * stride, &progress, latent, err);
        if (!st) st = oct_partial_save(collection, i + 1, err);
    }
    oct_progress_end(&progress);
    return st;
}

static oct_status sample(oct_collection *collection, oct_err *err)
{
    const oct_sampling_options *sampling = &collection->options->sampling;
    oct_pipeline *pipeline = &collection->pipeline;
    const size_t n = pipeline->denoiser.channels * (sampling->width / 8) * (sampling->height / 8);
    float *latent = malloc(n * sizeof *latent);
    if (!latent) return oct_fail(err, OCT_ENOMEM, "out of memory for a latent of %zu numbers", n);

    oct_status st = oct_pipeline_load_denoiser(pipeline, NULL, err);
    if (!st) {
        oct_observer_init(&collection->observer, pipeline->denoiser.n_layers, sampling->steps);
        if (collection->options->has_channels) {
            oct_observer_add_channels(&collection->observer, &pipeline->denoiser);
        }
        st = sample_all(collection, latent, err);
    }
    collection->executed = oct_pipeline_executed(pipeline);
    oct_pipeline_unload_denoiser(pipeline);
    free(latent);
    return st;
}

static oct_status check_range(const oct_calibration_layer *layer, oct_err *err)
{
    if (isfinite(layer->amax)) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "the input of layer '%s' became infinite or NaN",
                    layer->name);
}

oct_status oct_calibration_collect(oct_calibration *calibration, const oct_denoiser *denoiser,
                                   const oct_observer *observer, bool has_guidance, oct_err *err)
{
    const size_t steps = observer->n_steps;

    calibration->steps = steps;
    calibration->n_layers = denoiser->n_layers;
    calibration->channels = observer->channels;
    calibration->layers =
        oct_arena_array(&calibration->arena, denoiser->n_layers, sizeof *calibration->layers);
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        float *amax = observer->amax + i * 2 * steps;
        oct_calibration_layer *layer = &calibration->layers[i];
        *layer = (oct_calibration_layer){
            .name = denoiser->layers[i].name,
            .amax = oct_observer_amax(observer, i),
            .cond = amax,
            .uncond = has_guidance ? amax + steps : NULL,
            .exponents = &observer->exponents[i],
            .channels = observer->channels ? &observer->channels[i] : NULL,
        };
        const oct_status st = check_range(layer, err);
        if (st) return st;
    }
    return OCT_OK;
}

static oct_status save(oct_collection *collection, oct_err *err)
{
    const oct_collect_options *options = collection->options;
    oct_calibration *calibration = &collection->calibration;

    strcpy(calibration->denoiser_xxh3, collection->denoiser_xxh3);
    oct_calibration_part *part = oct_arena_alloc(&calibration->arena, sizeof *part);
    strcpy(part->prompts_sha256, collection->prompts.sha256);
    part->prompts = collection->prompts.count;
    part->seed = options->seed;
    calibration->parts = part;
    calibration->n_parts = 1;
    calibration->sampler = oct_sampler_name(options->sampling.sampler);
    calibration->width = options->sampling.width;
    calibration->height = options->sampling.height;
    calibration->cfg = options->sampling.cfg;
    const oct_status st =
        oct_calibration_collect(calibration, &collection->pipeline.denoiser, &collection->observer,
                                collection->jobs.has_guidance, err);
    return st ? st : oct_calibration_save(calibration, options->out, err);
}

oct_status oct_collection_run(oct_collection *collection, oct_err *err)
{
    oct_status st = oct_jobs_encode(&collection->jobs, &collection->pipeline,
                                    collection->options->sampling.t5_tokens, err);
    if (!st) {
        st = oct_source_read_denoiser_digest(&collection->pipeline.source,
                                             collection->denoiser_xxh3, err);
    }
    if (!st) st = sample(collection, err);
    st = oct_ranks_agree(&collection->ranks, st, err);
    if (st) return st;
    oct_observer *observer = &collection->observer;
    oct_ranks_max(&collection->ranks, observer->amax, observer->n_layers * 2 * observer->n_steps);
    oct_ranks_add(&collection->ranks, observer->exponents->counts,
                  observer->n_layers * OCT_EXPONENT_BINS);
    for (size_t i = 0; observer->channels && i < observer->n_layers; i++) {
        oct_ranks_sum(&collection->ranks, &observer->channels[i]);
    }
    if (collection->ranks.rank == 0) st = save(collection, err);
    st = oct_ranks_agree(&collection->ranks, st, err);
    if (!st) oct_partial_remove(collection);
    return st;
}
