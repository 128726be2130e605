// SPDX-License-Identifier: Apache-2.0
//
// A run of render: check all inputs, encode all texts, then draw picture after picture. Each is
// written as soon as it is decoded, so that an interrupted run keeps what it made.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"
#include "runtime/jobs.h"
#include "runtime/options.h"
#include "runtime/pipeline.h"
#include "runtime/prompts.h"

typedef struct oct_draw_options {  // as given
    oct_model_paths paths;
    const char *prompt;   // or
    const char *prompts;  // a file
    uint64_t limit;
    const char *out;
    uint64_t batch;  // pictures per prompt; number b has the job's seed + b
    bool saves_steps;
    bool has_fp8_attention;
    oct_sampling_options sampling;
    oct_slg_options slg;
    oct_device_options device;
    uint64_t seed;
} oct_draw_options;

typedef struct oct_drawn {  // a picture that was written
    const char *path;
    const oct_job *job;
    uint64_t seed;
} oct_drawn;

typedef struct oct_drawing {  // a run and all that it owns
    oct_arena arena;
    const oct_draw_options *options;
    oct_prompts prompts;
    oct_device *device;
    oct_pipeline pipeline;
    oct_jobs jobs;
    const char *model_name;
    char denoiser_xxh3[OCT_XXH128_HEX];
    oct_drawn *pictures;  // [n_pictures]
    size_t n_pictures;
    oct_executed executed;
    double load_s;  // of the denoiser
} oct_drawing;

// Everything that can be known before anything is computed; writes nothing.
oct_status oct_drawing_open(oct_drawing *drawing, oct_draw_options *options, oct_err *err);
oct_status oct_drawing_run(oct_drawing *drawing, oct_err *err);
void oct_drawing_close(oct_drawing *drawing);  // fine on a zeroed one

// What the PNG says under the key "octavo": all that is needed to draw the picture again.
// malloc'ed.
char *oct_drawing_metadata(const oct_drawing *drawing, const oct_job *job, uint64_t seed);
