// SPDX-License-Identifier: Apache-2.0
//
// Jobs: prompts with all that sampling them takes. What calibrate, render and regress loop over.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/progress.h"
#include "common/status.h"
#include "runtime/conditioning.h"
#include "runtime/image.h"
#include "runtime/options.h"
#include "runtime/pipeline.h"
#include "runtime/prompts.h"

typedef struct oct_job {
    const oct_prompt *prompt;               // borrowed from the prompts
    const char *name;                       // the prompt's id, safe as part of a file name
    const char *negative;                   // its own, or that of the options
    uint64_t seed;                          // its own, or the first seed + its position
    const oct_conditioning *conditional;    // after encode
    const oct_conditioning *unconditional;  // the same; NULL without guidance
} oct_job;

typedef struct oct_jobs {
    oct_arena arena;
    oct_job *items;
    size_t count;
    bool has_guidance;
    oct_conditioning *conditionings;  // owned by the jobs
    size_t n_conditionings;
} oct_jobs;

// The prompts must outlive the jobs.
void oct_jobs_init(oct_jobs *jobs, const oct_prompts *prompts, const oct_sampling_options *sampling,
                   uint64_t seed);
void oct_jobs_deinit(oct_jobs *jobs);  // fine on a zeroed one

// For tools that write one file per job: OCT_EFORMAT when two names are the same.
oct_status oct_jobs_check_names(const oct_jobs *jobs, oct_err *err);

// Phase 1 for all of them at once, so that every encoder is loaded once.
oct_status oct_jobs_encode(oct_jobs *jobs, oct_pipeline *pipeline, size_t t5_tokens, oct_err *err);

// What oct_pipeline_sample() takes for a job; `slg` may be NULL. Seed and hooks may be changed.
oct_sample_params oct_job_params(const oct_job *job, const oct_sampling_options *sampling,
                                 const oct_slg_options *slg);

// What a model is called: the last part of its path.
const char *oct_model_name(oct_arena *arena, const char *path);

// An id as a file name: letters, digits, '-', '_' and '.' stay, anything else becomes '_', as does
// a leading '.'; at most 100 bytes, never empty.
const char *oct_file_name_of(oct_arena *arena, const char *id);

// Sample and decode one picture into `image`, which is zeroed by the caller and owned by it. With
// params->is_last the denoiser is unloaded before the VAE needs its memory; what it had executed
// until then goes to `executed`. On a GPU without room for both they take turns, and without room for
// the VAE alone it decodes in tiles. `decoder` is the pipeline whose VAE is used; it may be the same.
oct_status oct_render(oct_pipeline *pipeline, oct_pipeline *decoder,
                      const oct_sample_params *params, oct_executed *executed, oct_image *image,
                      oct_err *err);

// Before hours of sampling: OCT_EUSAGE when there is no VAE to decode with.
oct_status oct_render_check(const oct_pipeline *decoder, oct_err *err);

// An on_step that counts on an oct_progress, its context.
oct_status oct_count_step(void *progress, size_t step, float sigma, const float *latent,
                          oct_err *err);
