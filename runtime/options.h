// SPDX-License-Identifier: Apache-2.0
//
// Command-line options that the tools which run a model share: what calibrate measures, render
// draws and regress compares must be asked for, and checked, in one way.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/checkpoint.h"
#include "common/cli.h"
#include "common/status.h"
#include "ptq/layers.h"
#include "runtime/device.h"
#include "runtime/sampler.h"

#define OCT_STEPS_MAX 1000
#define OCT_CFG_MAX 100

typedef struct oct_sampling_options {
    uint64_t steps;
    const char *sampler_name;
    double cfg;
    const char *size;  // NULL: the model's
    const char *negative;
    uint64_t t5_tokens;
    // Set by oct_sampling_check():
    oct_sampler_kind sampler;
    size_t width, height;
} oct_sampling_options;

#define OCT_SAMPLING_DEFAULTS                                                                      \
    {                                                                                              \
        .steps = 28, .sampler_name = "euler", .cfg = 4.5, .negative = "", .t5_tokens = 256,        \
    }

// clang-format off
#define OPT_SAMPLING(s)                                                                            \
    OPT_GROUP("Sampling"),                                                                         \
    OPT_COUNT("steps", "N", &(s)->steps, "denoising steps (default: 28)"),                         \
    OPT_TEXT("sampler", "NAME", &(s)->sampler_name,                                                \
             "euler, dpmpp-2m or dpmpp-2m-diffusers (default: euler)"),                            \
    OPT_NUMBER("cfg", "G", &(s)->cfg,                                                              \
               "guidance scale; at most 1: the prompt alone (default: 4.5)"),                      \
    OPT_TEXT("size", "WxH", &(s)->size,                                                            \
             "pixels, multiples of 16 (default: what a diffusers folder says, or 1024x1024)"),     \
    OPT_TEXT("negative", "TEXT", &(s)->negative,                                                   \
             "what guidance leads away from, unless a prompt says (default: nothing)"),            \
    OPT_COUNT("t5-tokens", "N", &(s)->t5_tokens, "tokens that T5 reads, 1 to 512 (default: 256)")
// clang-format on

// OCT_EUSAGE: "option '--steps' needs a count from 1 to 1000, not 0". What only the model can tell
// is left to oct_sample_check(), but for the size: without one it is eight times the "sample_size"
// in transformer/config.json of the folder `model`, as in huggingface/diffusers.
oct_status oct_sampling_check(oct_sampling_options *sampling, const char *model, oct_err *err);

typedef struct oct_slg_options {  // skip-layer guidance
    const char *layers;           // "7,8,9"; NULL: none
    double scale, start, stop;
    const bool *blocks;  // [depth], set by oct_slg_resolve(); NULL: none
} oct_slg_options;

#define OCT_SLG_DEFAULTS                                                                           \
    {                                                                                              \
        .scale = 2.8, .start = 0.01, .stop = 0.2                                                   \
    }

// clang-format off
#define OPT_SLG(s)                                                                                 \
    OPT_GROUP("Skip-layer guidance (recommended for SD3.5 Medium: --slg-layers 7,8,9)"),           \
    OPT_TEXT("slg-layers", "LIST", &(s)->layers,                                                   \
             "blocks that the extra pass leaves out (default: no such pass)"),                     \
    OPT_NUMBER("slg-scale", "S", &(s)->scale, "its weight (default: 2.8)"),                        \
    OPT_NUMBER("slg-start", "F", &(s)->start, "share of the steps before it (default: 0.01)"),     \
    OPT_NUMBER("slg-stop", "F", &(s)->stop, "share of the steps at its end (default: 0.2)")
// clang-format on

// Turn the list into blocks of a model of `depth` blocks; they live in the arena. OCT_EUSAGE:
// "option '--slg-layers' names block 40 of a model with 24".
oct_status oct_slg_resolve(oct_slg_options *slg, size_t depth, oct_arena *arena, oct_err *err);

// Options for oct_model_paths, less the model itself, whose option each tool names as it likes.
// clang-format off
#define OPT_MODEL_PARTS(p)                                                                         \
    OPT_GROUP("Parts that the model does not hold"),                                               \
    OPT_TEXT("clip-l", "FILE", &(p)->clip_l, "CLIP-L text encoder"),                               \
    OPT_TEXT("clip-g", "FILE", &(p)->clip_g, "CLIP-G text encoder"),                               \
    OPT_TEXT("t5", "FILE", &(p)->t5, "T5-XXL text encoder"),                                       \
    OPT_TEXT("vae", "FILE", &(p)->vae, "VAE"),                                                     \
    OPT_TEXT("tokenizers", "DIR", &(p)->tokenizers,                                                \
             "folder with clip/ and t5/ (default: those of a diffusers folder)")
// clang-format on

// What a model runs on; --device itself is one of the general options.
typedef struct oct_device_options {
    const char *require;         // "gpu,fp8"; NULL: nothing
    const char *vram;            // "8G"; NULL: what is free
    bool is_low_vram;
    bool uses_vae_tiles;         // of tools that decode: oct_pipeline.uses_tiles
    oct_device_request request;  // set by oct_device_options_check(), borrows from the options
} oct_device_options;

#define OCT_DEVICE_WORDS "auto, cpu, cuda or cuda:N (default: auto)"

// clang-format off
#define OPT_DEVICE(d)                                                                              \
    OPT_GROUP("Device"),                                                                           \
    OPT_TEXT("require", "LIST", &(d)->require,                                                     \
             "gpu, fp8 or both: fail where that is not there (default: nothing)"),                 \
    OPT_TEXT("vram", "SIZE", &(d)->vram,                                                           \
             "GPU memory to use at most, as 8G or 7500M (default: what is free)"),                 \
    OPT_FLAG("low-vram", &(d)->is_low_vram,                                                        \
             "keep weights in the host's memory and send them to the GPU block by block")
#define OPT_VAE_TILES(d)                                                                           \
    OPT_FLAG("vae-tiles", &(d)->uses_vae_tiles,                                                    \
             "decode large pictures in tiles of the side that the VAE states (SD3.5: 1024), "      \
             "for less memory; changes them slightly")
// clang-format on

// `name` is what --device says, or NULL. OCT_EUSAGE: "option '--vram' needs a size such as 8G, not
// 'x'".
oct_status oct_device_options_check(oct_device_options *options, const char *name, oct_err *err);

// Open the device: a GPU computes in BF16 if the denoiser is stored so, else in F16. Fails as
// oct_device_open() does.
oct_status oct_device_options_open(oct_device **device, const oct_device_options *options,
                                   const oct_denoiser *denoiser, oct_err *err);

// "mlp+fp8-attention" asks for FP8 attention besides: returns the rest, in the arena.
const char *oct_fp8_attention_split(const char *name, bool *has_fp8_attention, oct_arena *arena);

// OCT_EUSAGE "option '--NAME' is missing" when `value` is NULL or empty.
oct_status oct_option_required(const char *name, const char *value, oct_err *err);
