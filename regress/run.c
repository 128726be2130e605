// SPDX-License-Identifier: Apache-2.0
//
// A run of regress.
#include "regress/run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/log.h"
#include "common/progress.h"
#include "common/version.h"
#include "regress/album.h"
#include "regress/report.h"
#include "regress/run_scores.h"
#include "regress/sheet.h"
#include "runtime/describe.h"

// ---- Opening.

static size_t count_policies(const char *list)
{
    size_t n = list ? 1 : 0;
    for (const char *c = list; c && *c; c++) n += *c == ',';
    return n;
}

static oct_status open_policies(oct_regression *run, oct_err *err)
{
    const char *at = run->options->policies;
    const oct_calibration *calibration = run->options->calibration ? &run->calibration : NULL;

    while (at) {
        const size_t bytes = strcspn(at, ",");
        const char *name = oct_arena_copy_n(&run->arena, at, bytes);
        if (bytes == 0) return oct_fail(err, OCT_EUSAGE, "option '--policies' has an empty name");
        oct_candidate *candidate = &run->candidates[run->comparison.n_candidates];
        const oct_status st = oct_candidate_open_policy(candidate, name, &run->reference,
                                                        calibration, &run->arena, err);
        if (st) return st;
        run->comparison.n_candidates++;
        at = at[bytes] ? at + bytes + 1 : NULL;
    }
    return OCT_OK;
}

static oct_status open_files(oct_regression *run, oct_err *err)
{
    for (size_t i = 0; i < run->options->files.count; i++) {
        oct_candidate *candidate = &run->candidates[run->comparison.n_candidates];
        const oct_status st = oct_candidate_open_file(candidate, run->options->files.items[i],
                                                      &run->reference, &run->arena, err);
        if (st) return st;
        run->comparison.n_candidates++;
    }
    return OCT_OK;
}

static oct_status check_candidate_names(const oct_regression *run, oct_err *err)
{
    for (size_t i = 0; i < run->comparison.n_candidates; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(run->candidates[i].name, run->candidates[k].name) != 0) continue;
            return oct_fail(err, OCT_EUSAGE, "two candidates are called '%s'",
                            run->candidates[i].name);
        }
    }
    return OCT_OK;
}

static oct_status open_candidates(oct_regression *run, oct_err *err)
{
    const size_t n = count_policies(run->options->policies) + run->options->files.count;

    run->candidates = oct_arena_array(&run->arena, n, sizeof *run->candidates);
    oct_status st = open_policies(run, err);
    if (!st) st = open_files(run, err);
    if (!st) st = check_candidate_names(run, err);
    return st;
}

// The sizes that the options ask for, in the reference and in every file.
static oct_status check_sampling(const oct_regression *run, oct_err *err)
{
    const oct_sample_params params =
        oct_job_params(&run->jobs.items[0], &run->options->sampling, &run->options->slg);
    oct_status st = oct_sample_check(&run->reference, &params, err);

    for (size_t i = 0; i < run->comparison.n_candidates && !st; i++) {
        const oct_candidate *candidate = &run->candidates[i];
        if (candidate->is_policy) continue;
        st = oct_sample_check(&candidate->pipeline, &params, err);
        if (st) oct_wrap(err, st, "candidate '%s'", candidate->name);
    }
    return st;
}

// One for all, in the type of the reference.
static oct_status open_device(oct_regression *run, oct_err *err)
{
    const oct_status st =
        oct_device_options_open(&run->device, &run->options->device, &run->reference.denoiser, err);
    if (st) return st;
    run->reference.device = run->device;
    run->reference.uses_tiles = run->options->device.uses_vae_tiles;
    for (size_t i = 0; i < run->comparison.n_candidates; i++) {
        run->candidates[i].pipeline.device = run->device;
        if (!run->candidates[i].has_fp8_attention) continue;
        const oct_status no = oct_device_check_fp8_attention(run->device, err);
        if (no) return oct_wrap(err, no, "candidate '%s'", run->candidates[i].name);
    }
    return OCT_OK;
}

static oct_status open_inputs(oct_regression *run, oct_regress_options *options, oct_err *err)
{
    oct_status st = oct_prompts_load(&run->prompts, options->prompts, options->limit, err);
    if (st) return st;
    oct_jobs_init(&run->jobs, &run->prompts, &options->sampling, options->seed);
    st = oct_jobs_check_names(&run->jobs, err);
    if (!st && options->calibration) {
        st = oct_calibration_load(&run->calibration, options->calibration, err);
    }
    if (!st) st = oct_pipeline_open(&run->reference, &options->paths, err);
    if (!st) st = oct_render_check(&run->reference, err);
    if (!st) st = oct_folder_check(options->out, err);
    if (!st) {
        st =
            oct_slg_resolve(&options->slg, (size_t)run->reference.denoiser.depth, &run->arena, err);
    }
    if (!st) st = open_candidates(run, err);
    if (!st) st = check_sampling(run, err);
    if (!st) st = oct_regression_load_scores(run, err);
    if (!st) st = open_device(run, err);
    return st;
}

oct_status oct_regression_open(oct_regression *run, oct_regress_options *options, oct_err *err)
{
    *run = (oct_regression){.options = options};
    const oct_status st = open_inputs(run, options, err);
    if (st) oct_regression_close(run);
    return st;
}

void oct_regression_close(oct_regression *run)
{
    oct_jobs_deinit(&run->jobs);
    for (size_t i = 0; i < run->comparison.n_candidates; i++) {
        oct_candidate_close(&run->candidates[i]);
    }
    oct_pipeline_close(&run->reference);
    oct_device_close(run->device);
    oct_calibration_deinit(&run->calibration);
    oct_prompts_deinit(&run->prompts);
    oct_arena_deinit(&run->arena);
    *run = (oct_regression){0};
}

// ---- Describing.

static oct_status describe_candidates(oct_regression *run, oct_err *err)
{
    oct_comparison *comparison = &run->comparison;
    const size_t n = comparison->n_candidates;

    comparison->candidates = oct_arena_array(&run->arena, n, sizeof *comparison->candidates);
    for (size_t i = 0; i < n; i++) {
        const oct_candidate *candidate = &run->candidates[i];
        oct_compared *compared = &comparison->candidates[i];
        compared->is_policy = candidate->is_policy;
        compared->has_fp8_attention = candidate->has_fp8_attention;
        compared->outcomes =
            oct_arena_array(&run->arena, run->jobs.count, sizeof *compared->outcomes);
        oct_status st = oct_candidate_describe(candidate, &run->arena, &compared->facts, err);
        if (!st && candidate->is_policy && run->options->calibration) {
            st = oct_plan_check_model(&candidate->plan, comparison->reference.digest, err);
        }
        if (st) return st;
    }
    return OCT_OK;
}

static oct_status describe(oct_regression *run, oct_err *err)
{
    oct_comparison *comparison = &run->comparison;
    const char *name = oct_model_name(&run->arena, run->options->paths.model);

    oct_status st =
        oct_pipeline_describe(&run->reference, name, &run->arena, &comparison->reference, err);
    if (!st) st = describe_candidates(run, err);
    if (st) return st;
    comparison->prompts_name = oct_path_name(run->options->prompts);
    comparison->prompts_sha256 = run->prompts.sha256;
    comparison->calibration_sha256 = run->options->calibration ? run->calibration.sha256 : NULL;
    comparison->device = run->device;
    comparison->sampling = &run->options->sampling;
    comparison->slg = &run->options->slg;
    comparison->seed = run->options->seed;
    comparison->jobs = &run->jobs;
    comparison->reference_images =
        oct_arena_array(&run->arena, run->jobs.count, sizeof *comparison->reference_images);
    return OCT_OK;
}

// ---- Rendering.

typedef struct picture_set {  // all pictures of the reference or of one candidate
    oct_pipeline *pipeline;   // that samples
    const char *label;        // on the progress line
    const char *folder;       // "images/1-mlp", relative to the report
    const char *denoiser_xxh3;
    const oct_plan *plan;    // of a policy, else NULL
    oct_compared *compared;  // of a candidate, else NULL
    oct_executed executed;
} picture_set;

static bool has_fp8_attention(const picture_set *set)
{
    return set->compared && set->compared->has_fp8_attention;
}

static const char *picture_path(oct_regression *run, const picture_set *set, size_t job,
                                const char *ending)
{
    return oct_arena_print(&run->arena, "%s/%s-%" PRIu64 "%s", set->folder,
                           run->jobs.items[job].name, run->jobs.items[job].seed, ending);
}

static const char *in_out(oct_regression *run, const char *relative)
{
    return oct_path_join(&run->arena, run->options->out, relative);
}

static oct_status measure(oct_regression *run, const picture_set *set, size_t job,
                          const oct_image *image, oct_outcome *outcome, oct_err *err)
{
    const size_t width = image->width, height = image->height;
    oct_image reference = {0}, heat = {0};
    float *map = malloc(width * height * sizeof *map);
    oct_status st;

    if (!map) return oct_fail(err, OCT_ENOMEM, "out of memory for a FLIP map");
    st = oct_image_load_png(&reference, in_out(run, run->comparison.reference_images[job]), err);
    if (st) goto out;
    st = oct_metrics_measure(&outcome->metrics, map, &reference, image, err);
    if (st) goto out;
    outcome->verdict = oct_gate_judge(&run->comparison.gate, &outcome->metrics);
    st = oct_flip_picture(&heat, map, width, height, err);
    if (st) goto out;
    outcome->heat = picture_path(run, set, job, ".flip.png");
    st = oct_image_save_png(&heat, in_out(run, outcome->heat), NULL, 0, err);

out:
    oct_image_deinit(&reference);
    oct_image_deinit(&heat);
    free(map);
    return st;
}

// What all pictures of a set depend on, besides their own prompts.
static cJSON *made_from(const oct_regression *run, const picture_set *set)
{
    const oct_comparison *comparison = &run->comparison;
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "tool_version", oct_version());
    cJSON_AddStringToObject(object, "denoiser_xxh3", set->denoiser_xxh3);
    cJSON_AddStringToObject(object, "vae_xxh3", run->vae_xxh3);
    cJSON_AddStringToObject(object, "device", set->pipeline->device->name);
    oct_json_add_sampling(object, comparison->sampling, comparison->slg);
    if (run->reference.uses_tiles) cJSON_AddTrueToObject(object, "vae_tiles");
    // A GPU that has no room for a whole picture decodes it in tiles.
    const char *vram = run->options->device.vram;
    if (vram) cJSON_AddStringToObject(object, "vram", vram);
    if (has_fp8_attention(set)) cJSON_AddTrueToObject(object, "fp8_attention");
    if (!set->plan) return object;
    cJSON_AddStringToObject(object, "policy_sha256", set->compared->facts.digest);
    if (comparison->calibration_sha256) {
        cJSON_AddStringToObject(object, "calibration_sha256", comparison->calibration_sha256);
    }
    return object;
}

static oct_status render_job(oct_regression *run, picture_set *set, size_t job, bool is_last,
                             oct_progress *progress, oct_image *image, oct_err *err)
{
    oct_sample_params params =
        oct_job_params(&run->jobs.items[job], &run->options->sampling, &run->options->slg);

    params.has_fp8_attention = has_fp8_attention(set);
    params.is_last = is_last;
    params.on_step = oct_count_step;
    params.context = progress;
    return oct_render(set->pipeline, &run->reference, &params, &set->executed, image, err);
}

// One picture, rendered or kept, and its metrics.
static oct_status finish_job(oct_regression *run, picture_set *set, size_t job, bool is_kept,
                             bool is_last, oct_album *album, oct_progress *progress, oct_err *err)
{
    const char *path = picture_path(run, set, job, ".png");
    oct_image image = {0};
    oct_status st;

    if (is_kept) {
        st = oct_image_load_png(&image, in_out(run, path), err);
    } else {
        st = render_job(run, set, job, is_last, progress, &image, err);
        if (!st) st = oct_image_save_png(&image, in_out(run, path), NULL, 0, err);
        if (!st) {
            st = oct_album_add(album, oct_path_name(path), &run->jobs.items[job], &set->executed,
                               err);
        }
    }
    if (!st && set->compared) {
        set->compared->outcomes[job].image = path;
        st = measure(run, set, job, &image, &set->compared->outcomes[job], err);
    } else if (!st) {
        run->comparison.reference_images[job] = path;
    }
    oct_image_deinit(&image);
    return st;
}

// Which pictures are kept; *n_new are not, the last of them is *last.
static bool *find_kept(oct_regression *run, const picture_set *set, oct_album *album, size_t *n_new,
                       size_t *last)
{
    bool *is_kept = oct_arena_array(&run->arena, run->jobs.count, sizeof *is_kept);

    *n_new = *last = 0;
    for (size_t job = 0; job < run->jobs.count; job++) {
        const char *name = oct_path_name(picture_path(run, set, job, ".png"));
        is_kept[job] = oct_album_keep(album, name, &run->jobs.items[job]);
        if (is_kept[job]) continue;
        (*n_new)++;
        *last = job;
    }
    if (run->options->reuses) {
        oct_note("%s: kept %zu of %zu pictures", set->label, run->jobs.count - *n_new,
                 run->jobs.count);
    }
    return is_kept;
}

static oct_status finish_jobs(oct_regression *run, picture_set *set, oct_album *album, oct_err *err)
{
    oct_progress progress = {0};
    size_t n_new, last;
    const bool *is_kept = find_kept(run, set, album, &n_new, &last);

    if (n_new) oct_pipeline_unload_vae(&run->reference);
    oct_status st = n_new ? oct_pipeline_load_denoiser(set->pipeline, set->plan, err)
                          : oct_album_get_executed(album, &set->executed, err);
    if (st) return st;
    oct_progress_begin(&progress, set->label, n_new * run->options->sampling.steps, "steps");
    for (size_t job = 0; job < run->jobs.count && !st; job++) {
        st = finish_job(run, set, job, is_kept[job], job == last, album, &progress, err);
    }
    oct_progress_end(&progress);
    if (n_new) oct_pipeline_unload_denoiser(set->pipeline);
    return st;
}

static oct_status make_pictures(oct_regression *run, picture_set *set, oct_err *err)
{
    oct_album album = {0};

    oct_status st = oct_album_open(&album, in_out(run, set->folder), made_from(run, set),
                                   run->options->reuses, err);
    if (!st) st = finish_jobs(run, set, &album, err);
    oct_album_close(&album);
    return st;
}

static oct_status run_candidate(oct_regression *run, size_t i, oct_err *err)
{
    oct_candidate *candidate = &run->candidates[i];
    oct_compared *compared = &run->comparison.candidates[i];
    picture_set set = {
        .pipeline = candidate->is_policy ? &run->reference : &candidate->pipeline,
        .label = candidate->name,
        .folder = oct_arena_print(&run->arena, "images/%zu-%s", i + 1,
                                  oct_file_name_of(&run->arena, candidate->name)),
        .denoiser_xxh3 =
            candidate->is_policy ? run->comparison.reference.digest : compared->facts.digest,
        .plan = candidate->is_policy ? &candidate->plan : NULL,
        .compared = compared,
    };

    const oct_status st = make_pictures(run, &set, err);
    if (st) return oct_wrap(err, st, "candidate '%s'", candidate->name);
    compared->executed = set.executed;
    compared->summary = oct_summarize(compared->outcomes, run->jobs.count);
    return OCT_OK;
}

oct_status oct_regression_run(oct_regression *run, oct_err *err)
{
    picture_set reference = {
        .pipeline = &run->reference, .label = "reference", .folder = "images/0-reference"};

    oct_status st = describe(run, err);
    if (!st) {
        st = oct_jobs_encode(&run->jobs, &run->reference, run->options->sampling.t5_tokens, err);
    }
    if (!st) st = oct_folder_make(run->options->out, err);
    if (!st) st = oct_folder_make(in_out(run, "images"), err);
    if (!st) st = oct_vae_digest(&run->reference.source, run->vae_xxh3, err);
    reference.denoiser_xxh3 = run->comparison.reference.digest;
    if (!st) st = make_pictures(run, &reference, err);
    for (size_t i = 0; i < run->comparison.n_candidates && !st; i++)
        st = run_candidate(run, i, err);
    if (!st) st = oct_regression_judge_scores(run, err);
    if (!st) st = oct_report_save(&run->comparison, run->options->out, err);
    if (!st && run->options->sheet) {
        st = oct_sheet_save(&run->comparison, run->options->out, run->options->sheet, err);
    }
    return st;
}
