// SPDX-License-Identifier: Apache-2.0
//
// Jobs: prompts with all that sampling them takes.
#include "runtime/jobs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/log.h"

enum { FILE_NAME_MAX = 100 };

const char *oct_model_name(oct_arena *arena, const char *path)
{
    size_t bytes = strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/') bytes--;
    return oct_path_name(oct_arena_copy_n(arena, path, bytes));
}

const char *oct_file_name_of(oct_arena *arena, const char *id)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    char *name = oct_arena_copy_n(arena, id, strnlen(id, FILE_NAME_MAX));

    for (char *c = name; *c; c++) {
        if (!strchr(safe, *c) || (c == name && *c == '.')) *c = '_';
    }
    return *name ? name : "_";
}

static int by_name(const void *a, const void *b)
{
    const oct_job *const *p = a, *const *q = b;
    const int order = strcmp((*p)->name, (*q)->name);
    return order ? order : (*p > *q) - (*p < *q);
}

oct_status oct_jobs_check_names(const oct_jobs *jobs, oct_err *err)
{
    oct_status st = OCT_OK;
    const oct_job **sorted = malloc(jobs->count * sizeof(*sorted));
    if (!sorted) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu prompts", jobs->count);

    for (size_t i = 0; i < jobs->count; i++) sorted[i] = &jobs->items[i];
    qsort(sorted, jobs->count, sizeof *sorted, by_name);
    for (size_t i = 1; i < jobs->count && !st; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) != 0) continue;
        st = oct_fail(err, OCT_EFORMAT, "prompts %zu and %zu both have the id '%s' as a file name",
                      (size_t)(sorted[i - 1] - jobs->items) + 1,
                      (size_t)(sorted[i] - jobs->items) + 1, sorted[i]->name);
    }
    free(sorted);
    return st;
}

void oct_jobs_init(oct_jobs *jobs, const oct_prompts *prompts, const oct_sampling_options *sampling,
                   uint64_t seed)
{
    *jobs = (oct_jobs){.count = prompts->count, .has_guidance = sampling->cfg > 1};
    jobs->items = oct_arena_array(&jobs->arena, jobs->count, sizeof *jobs->items);
    for (size_t i = 0; i < jobs->count; i++) {
        const oct_prompt *prompt = &prompts->items[i];
        jobs->items[i] = (oct_job){
            .prompt = prompt,
            .name = oct_file_name_of(&jobs->arena, prompt->id),
            .negative = prompt->negative ? prompt->negative : sampling->negative,
            .seed = prompt->has_seed ? prompt->seed : seed + i,
        };
    }
}

void oct_jobs_deinit(oct_jobs *jobs)
{
    for (size_t i = 0; i < jobs->n_conditionings; i++) {
        oct_conditioning_deinit(&jobs->conditionings[i]);
    }
    oct_arena_deinit(&jobs->arena);
    *jobs = (oct_jobs){0};
}

// texts: [2 * count]. Prompts come first; a negative that the job before has too is not repeated.
static size_t list_texts(const oct_jobs *jobs, const char **texts, size_t *negative_of)
{
    size_t n = 0;
    for (size_t i = 0; i < jobs->count; i++) texts[n++] = jobs->items[i].prompt->text;
    for (size_t i = 0; i < jobs->count && jobs->has_guidance; i++) {
        const char *negative = jobs->items[i].negative;
        if (i == 0 || strcmp(negative, jobs->items[i - 1].negative) != 0) texts[n++] = negative;
        negative_of[i] = n - 1;
    }
    return n;
}

oct_status oct_jobs_encode(oct_jobs *jobs, oct_pipeline *pipeline, size_t t5_tokens, oct_err *err)
{
    const char **texts = oct_arena_array(&jobs->arena, 2 * jobs->count, sizeof *texts);
    size_t *negative_of = oct_arena_array(&jobs->arena, jobs->count, sizeof *negative_of);
    const size_t n = list_texts(jobs, texts, negative_of);
    oct_conditioning *out = oct_arena_array(&jobs->arena, n, sizeof *out);

    const oct_status st = oct_pipeline_encode(pipeline, texts, n, t5_tokens, out, err);
    if (st) return st;
    jobs->conditionings = out;
    jobs->n_conditionings = n;
    for (size_t i = 0; i < jobs->count; i++) {
        jobs->items[i].conditional = &out[i];
        if (jobs->has_guidance) jobs->items[i].unconditional = &out[negative_of[i]];
    }
    return OCT_OK;
}

oct_sample_params oct_job_params(const oct_job *job, const oct_sampling_options *sampling,
                                 const oct_slg_options *slg)
{
    oct_sample_params params = {
        .positive = job->conditional,
        .negative = job->unconditional,
        .sampler = sampling->sampler,
        .steps = sampling->steps,
        .cfg = sampling->cfg,
        .width = sampling->width,
        .height = sampling->height,
        .seed = job->seed,
    };
    if (slg && slg->blocks) {
        params.slg_blocks = slg->blocks;
        params.slg_scale = slg->scale;
        params.slg_start = slg->start;
        params.slg_stop = slg->stop;
    }
    return params;
}

oct_status oct_render_check(const oct_pipeline *decoder, oct_err *err)
{
    if (oct_checkpoint_has(&decoder->source.checkpoint, OCT_VAE)) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "the model holds no VAE: give one with option '--vae'");
}

// Flat pictures are what broken weights give.
static void warn_if_flat(const oct_image *image, uint64_t seed)
{
    const size_t bytes = 3 * image->width * image->height;
    if (memcmp(image->rgb, image->rgb + 3, bytes - 3) != 0) return;
    oct_warn("the picture of seed %" PRIu64 " is one flat colour", seed);
}

// Where a GPU has no room for the VAE beside the denoiser, they take turns: tiles, which change the
// picture, come after that.
static oct_status decode(oct_pipeline *pipeline, oct_pipeline *decoder, const float *latent,
                         const oct_sample_params *params, oct_image *image, oct_err *err)
{
    const bool is_alone = !pipeline->has_mmdit;
    oct_status st =
        oct_pipeline_decode(decoder, latent, params->width, params->height, is_alone, image, err);
    if (st != OCT_ENOMEM || !decoder->device->is_gpu || is_alone) return st;
    oct_verbose("the denoiser makes room for the VAE");
    oct_pipeline_evict_denoiser(pipeline);
    st = oct_pipeline_decode(decoder, latent, params->width, params->height, true, image, err);
    oct_pipeline_unload_vae(decoder);
    return st;
}

oct_status oct_render(oct_pipeline *pipeline, oct_pipeline *decoder,
                      const oct_sample_params *params, oct_executed *executed, oct_image *image,
                      oct_err *err)
{
    const size_t n = pipeline->denoiser.channels * (params->width / 8) * (params->height / 8);
    float *latent = malloc(n * sizeof *latent);
    if (!latent) return oct_fail(err, OCT_ENOMEM, "out of memory for a latent of %zu numbers", n);

    oct_status st = oct_pipeline_restore_denoiser(pipeline, err);
    if (!st) st = oct_pipeline_sample(pipeline, params, latent, err);
    if (st) goto out;
    *executed = oct_pipeline_executed(pipeline);
    if (params->is_last) oct_pipeline_unload_denoiser(pipeline);
    st = decode(pipeline, decoder, latent, params, image, err);
    if (!st) warn_if_flat(image, params->seed);

out:
    free(latent);
    return st;
}

oct_status oct_count_step(void *progress, size_t step, float sigma, const float *latent,
                          oct_err *err)
{
    oct_progress_add(progress, 1);
    return OCT_OK;
}
