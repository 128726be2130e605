// SPDX-License-Identifier: Apache-2.0
//
// A run of render.
#include "render/draw.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/progress.h"
#include "common/version.h"
#include "render/steps.h"
#include "runtime/describe.h"

static oct_status load_prompts(oct_drawing *drawing, const oct_draw_options *options, oct_err *err)
{
    if (options->prompt) return oct_prompts_single(&drawing->prompts, options->prompt, err);
    return oct_prompts_load(&drawing->prompts, options->prompts, options->limit, err);
}

static oct_status open_inputs(oct_drawing *drawing, oct_draw_options *options, oct_err *err)
{
    oct_status st = load_prompts(drawing, options, err);
    if (st) return st;
    oct_jobs_init(&drawing->jobs, &drawing->prompts, &options->sampling, options->seed);
    st = oct_jobs_check_names(&drawing->jobs, err);
    if (!st) st = oct_pipeline_open(&drawing->pipeline, &options->paths, err);
    if (!st) st = oct_render_check(&drawing->pipeline, err);
    if (!st) st = oct_folder_check(options->out, err);
    if (!st) {
        st = oct_slg_resolve(&options->slg, (size_t)drawing->pipeline.denoiser.depth,
                             &drawing->arena, err);
    }
    if (st) return st;
    const oct_sample_params params =
        oct_job_params(&drawing->jobs.items[0], &options->sampling, &options->slg);
    st = oct_sample_check(&drawing->pipeline, &params, err);
    if (!st) {
        st = oct_device_options_open(&drawing->device, &options->device,
                                     &drawing->pipeline.denoiser, err);
    }
    if (!st && options->has_fp8_attention) {
        st = oct_device_check_fp8_attention(drawing->device, err);
    }
    drawing->pipeline.device = drawing->device;
    drawing->pipeline.uses_tiles = options->device.uses_vae_tiles;
    return st;
}

oct_status oct_drawing_open(oct_drawing *drawing, oct_draw_options *options, oct_err *err)
{
    *drawing = (oct_drawing){.options = options};
    const oct_status st = open_inputs(drawing, options, err);
    if (st) oct_drawing_close(drawing);
    return st;
}

void oct_drawing_close(oct_drawing *drawing)
{
    oct_jobs_deinit(&drawing->jobs);
    oct_pipeline_close(&drawing->pipeline);
    oct_device_close(drawing->device);
    oct_prompts_deinit(&drawing->prompts);
    oct_arena_deinit(&drawing->arena);
    *drawing = (oct_drawing){0};
}

char *oct_drawing_metadata(const oct_drawing *drawing, const oct_job *job, uint64_t seed)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "tool", "octavo-render");
    cJSON_AddStringToObject(root, "version", oct_version());
    cJSON_AddStringToObject(root, "model", drawing->model_name);
    cJSON_AddStringToObject(root, "denoiser_xxh3", drawing->denoiser_xxh3);
    cJSON_AddStringToObject(root, "id", job->prompt->id);
    cJSON_AddStringToObject(root, "prompt", job->prompt->text);
    cJSON_AddStringToObject(root, "negative", job->negative);
    oct_json_add_count(root, "seed", seed);
    oct_json_add_sampling(root, &drawing->options->sampling, &drawing->options->slg);
    if (drawing->options->has_fp8_attention) cJSON_AddTrueToObject(root, "fp8_attention");
    char *text = oct_json_print_line(root);
    cJSON_Delete(root);
    return text;
}

typedef struct step_watch {  // what each step of a picture does besides
    oct_progress *progress;
    const oct_step_saver *saver;  // or NULL
} step_watch;

static oct_status after_step(void *context, size_t step, float sigma, const float *latent,
                             oct_err *err)
{
    const step_watch *watch = context;
    oct_progress_add(watch->progress, 1);
    return watch->saver ? oct_step_save(watch->saver, step, sigma, latent, err) : OCT_OK;
}

static oct_status save(const oct_drawing *drawing, const oct_drawn *picture, const oct_image *image,
                       oct_err *err)
{
    char *metadata = oct_drawing_metadata(drawing, picture->job, picture->seed);
    const oct_image_text text = {"octavo", metadata};
    const oct_status st = oct_image_save_png(image, picture->path, &text, 1, err);
    free(metadata);
    return st;
}

static oct_status draw(oct_drawing *drawing, const oct_job *job, uint64_t seed, bool is_last,
                       oct_progress *progress, oct_err *err)
{
    const oct_draw_options *options = drawing->options;
    const char *stem =
        oct_arena_print(&drawing->arena, "%s/%s-%" PRIu64, options->out, job->name, seed);
    const oct_step_saver saver = {
        .folder = oct_arena_print(&drawing->arena, "%s.steps", stem),
        .channels = drawing->pipeline.denoiser.channels,
        .width = options->sampling.width / 8,
        .height = options->sampling.height / 8,
    };
    step_watch watch = {progress, options->saves_steps ? &saver : NULL};
    oct_sample_params params = oct_job_params(job, &options->sampling, &options->slg);
    oct_drawn *picture = &drawing->pictures[drawing->n_pictures];
    oct_image image = {0};

    params.seed = seed;
    params.has_fp8_attention = options->has_fp8_attention;
    params.is_last = is_last;
    params.on_step = after_step;
    params.context = &watch;
    *picture = (oct_drawn){oct_arena_print(&drawing->arena, "%s.png", stem), job, seed};

    oct_status st = options->saves_steps ? oct_folder_make(saver.folder, err) : OCT_OK;
    if (!st) {
        st = oct_render(&drawing->pipeline, &drawing->pipeline, &params, &drawing->executed, &image,
                        err);
    }
    if (!st) st = save(drawing, picture, &image, err);
    if (!st) drawing->n_pictures++;
    oct_image_deinit(&image);
    return st;
}

static oct_status draw_all(oct_drawing *drawing, oct_err *err)
{
    const size_t batch = drawing->options->batch, n = drawing->jobs.count * batch;
    oct_progress progress = {0};
    oct_status st = OCT_OK;

    drawing->pictures = oct_arena_array(&drawing->arena, n, sizeof *drawing->pictures);
    oct_progress_begin(&progress, "rendering", n * drawing->options->sampling.steps, "steps");
    for (size_t i = 0; i < n && !st; i++) {
        const oct_job *job = &drawing->jobs.items[i / batch];
        st = draw(drawing, job, job->seed + i % batch, i + 1 == n, &progress, err);
        if (st) oct_wrap(err, st, "prompt '%s'", job->prompt->id);
    }
    oct_progress_end(&progress);
    return st;
}

static oct_status load_denoiser(oct_drawing *drawing, oct_err *err)
{
    const double start_s = oct_now_s();
    const oct_status st = oct_pipeline_load_denoiser(&drawing->pipeline, NULL, err);
    drawing->load_s = oct_now_s() - start_s;
    return st;
}

oct_status oct_drawing_run(oct_drawing *drawing, oct_err *err)
{
    drawing->model_name = oct_model_name(&drawing->arena, drawing->options->paths.model);

    oct_status st = oct_jobs_encode(&drawing->jobs, &drawing->pipeline,
                                    drawing->options->sampling.t5_tokens, err);
    if (!st) {
        st =
            oct_source_read_denoiser_digest(&drawing->pipeline.source, drawing->denoiser_xxh3, err);
    }
    if (!st) st = load_denoiser(drawing, err);
    if (!st) st = oct_folder_make(drawing->options->out, err);
    if (!st) st = draw_all(drawing, err);
    return st;
}
