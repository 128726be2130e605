// SPDX-License-Identifier: Apache-2.0
//
// A whole SD3.5 pipeline in three phases that are never resident together: text encoders, denoiser,
// VAE. What render, calibrate and regress share.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/checkpoint.h"
#include "common/status.h"
#include "ptq/layers.h"
#include "ptq/plan.h"
#include "ptq/source.h"
#include "runtime/conditioning.h"
#include "runtime/device.h"
#include "runtime/image.h"
#include "runtime/mmdit.h"
#include "runtime/observe.h"
#include "runtime/sampler.h"
#include "runtime/vae.h"

#define OCT_DOWNSCALE 8  // pixels of a latent's side

typedef struct oct_pipeline {
    oct_device *device;          // borrowed; the CPU until somebody sets another, before encoding
    oct_source source;
    oct_denoiser denoiser;
    oct_mmdit mmdit;             // loaded between load and unload
    oct_vae vae;                 // loaded by the first decode
    const char *tokenizers;      // borrowed from the paths, or NULL
    const oct_plan *plan;        // of the denoiser as loaded last, borrowed; or NULL
    bool has_mmdit, has_vae;
    bool is_evicted;             // the denoiser had to make room
    bool uses_tiles;             // set by the user, before decoding
    bool has_noted_tiles;
} oct_pipeline;

oct_status oct_pipeline_open(oct_pipeline *pipeline, const oct_model_paths *paths, oct_err *err);
void oct_pipeline_close(oct_pipeline *pipeline);

// Phase 1. As oct_conditioning_encode, with the default number of T5 tokens when 0.
oct_status oct_pipeline_encode(oct_pipeline *pipeline, const char *const *texts, size_t n,
                               size_t t5_tokens, oct_conditioning *out, oct_err *err);

// Phase 2. Load the denoiser as stored or, with a plan, quantized on the way; the plan is borrowed
// until the denoiser is unloaded.
oct_status oct_pipeline_load_denoiser(oct_pipeline *pipeline, const oct_plan *plan, oct_err *err);
void oct_pipeline_unload_denoiser(oct_pipeline *pipeline);

// Unload a denoiser that will be needed again, and load it as it was if it was evicted.
void oct_pipeline_evict_denoiser(oct_pipeline *pipeline);
oct_status oct_pipeline_restore_denoiser(oct_pipeline *pipeline, oct_err *err);

typedef struct oct_sample_params {
    const oct_conditioning *positive, *negative;  // negative: used when cfg > 1
    oct_sampler_kind sampler;
    size_t steps;
    double cfg;                   // guidance scale; <= 1: the conditional branch alone
    size_t width, height;         // pixels, multiples of 16
    uint64_t seed;
    const bool *slg_blocks;       // [depth] blocks that skip-layer guidance leaves out, or NULL
    double slg_scale, slg_start, slg_stop;
    bool has_fp8_attention;       // oct_device_check_fp8_attention() comes first
    oct_observer *observer;       // or NULL
    bool is_last;                 // no other sample follows: memory may be freed early
    // After each step, with the latent at the next sigma; may be NULL. A failure stops the run.
    oct_status (*on_step)(void *context, size_t step, float sigma, const float *latent,
                          oct_err *err);
    void *context;
} oct_sample_params;

// "size 100x64 is not a multiple of 16" and other limits: OCT_EUSAGE.
oct_status oct_sample_check(const oct_pipeline *pipeline, const oct_sample_params *params,
                            oct_err *err);

// latent: [16][height / 8][width / 8], F32.
oct_status oct_pipeline_sample(oct_pipeline *pipeline, const oct_sample_params *params,
                               float *latent, oct_err *err);

// Phase 3. `image` is zeroed by the caller and owned by it. The VAE stays loaded. The picture is
// decoded whole or, with uses_tiles, in tiles of the VAE's own side. may_tile: on a GPU without room
// for that, in tiles that are halved until they fit, with a note; pictures then differ slightly.
oct_status oct_pipeline_decode(oct_pipeline *pipeline, const float *latent, size_t width,
                               size_t height, bool may_tile, oct_image *image, oct_err *err);

void oct_pipeline_unload_vae(oct_pipeline *pipeline);

typedef struct oct_executed {  // how many of the denoiser's layers ran
    size_t f32, f16, bf16, fp8_static, fp8_weight_only;  // as what they are stored
    size_t paths[OCT_PATHS];                             // how the device ran them
} oct_executed;

// All 0 while no denoiser is loaded.
oct_executed oct_pipeline_executed(const oct_pipeline *pipeline);

// "512x768" to numbers. OCT_EUSAGE: "size 'x' is not WIDTHxHEIGHT".
oct_status oct_size_parse(const char *text, size_t *width, size_t *height, oct_err *err);
uint64_t oct_peak_memory_bytes(void);  // of this process, by the kernel's own accounting
