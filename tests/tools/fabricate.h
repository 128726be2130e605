// SPDX-License-Identifier: Apache-2.0
//
// Fabricated pipelines: complete models of SD3.5's architecture with synthetic weights, at any
// size, for tests and benchmarks. Their pictures mean nothing, but every number depends on every
// layer.
//
// A diffusers folder loads in diffusers.StableDiffusion3Pipeline.from_pretrained(). The weights are
// the same in every layout (recipe.h).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "common/tensor.h"
#include "tests/tools/recipe.h"

typedef enum oct_fabric_layout {
    OCT_FABRIC_DIFFUSERS,   // a folder
    OCT_FABRIC_SINGLE,      // one file: denoiser and VAE, with prefixes
    OCT_FABRIC_ALL_IN_ONE,  // and the encoders; tokenizers in "<out>.tokenizers/clip" and "t5"
} oct_fabric_layout;

typedef struct oct_fabric {
    const char *out;  // file or folder; the folder may exist
    oct_fabric_layout layout;
    oct_model_size size;
    oct_dtype dtype;    // OCT_F16, OCT_BF16 or OCT_F32
    uint64_t seed;      // 0: the formula as it is
    bool has_outliers;  // as oct_recipes
    bool lacks_clip_g, lacks_t5;
    size_t shards;  // files of a diffusers folder's transformer; 0 or 1: one, no index
} oct_fabric;

// Written tensor by tensor: memory does not grow with the model.
oct_status oct_fabricate(const oct_fabric *fabric, oct_err *err);
