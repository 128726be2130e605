// SPDX-License-Identifier: Apache-2.0
//
// The layer table of an SD3.5-architecture denoiser: which tensors are layers, what each does, and
// the dimensions of the whole. Everything is read from names and shapes; any depth works.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/source.h"

typedef enum oct_role {
    OCT_ROLE_ATTN_QKV, OCT_ROLE_ATTN_PROJ, OCT_ROLE_MLP_FC1, OCT_ROLE_MLP_FC2, OCT_ROLE_MOD,
    OCT_ROLE_EMBED, OCT_ROLE_FINAL, OCT_ROLE_COUNT
} oct_role;

typedef enum oct_stream_kind { OCT_STREAM_NONE, OCT_STREAM_IMAGE, OCT_STREAM_TEXT } oct_stream_kind;

const char *oct_role_name(oct_role role);              // "attn_qkv", "mod", ...
bool oct_role_parse(const char *name, oct_role *role);
const char *oct_stream_name(oct_stream_kind stream);   // "none", "image", "text"
bool oct_stream_parse(const char *name, oct_stream_kind *stream);

typedef struct oct_layer {
    const char *name;                    // SAI, without ".weight"
    const char *diffusers_names[3];      // 1 or 3 (q, k, v); the rest NULL
    oct_role role;
    oct_stream_kind stream;
    int block;                           // -1 outside the blocks
    uint64_t out_features, in_features;  // GEMM N and K
    bool is_conv;                        // the patch embedding: stored as [out, in, 2, 2]
    const oct_source_tensor *weight, *bias;
} oct_layer;

typedef struct oct_denoiser {
    oct_arena arena;
    oct_layer *layers;                   // in order of execution: embedders, blocks, final
    size_t n_layers;
    int depth, heads;                    // blocks; hidden / 64
    uint64_t hidden, context_width, pooled_width, channels, patch, table_side;
    bool has_qk_norm;
    bool *is_dual;                       // [depth]
    uint64_t bytes;                      // of all its tensors, FP8 scales and markers included
    const char *variant;                 // "SD3.5 Large", "SD3.5 Medium", "SD3 Medium", "custom"
} oct_denoiser;

// Find all layers and check every shape. OCT_EUNSUPPORTED when the denoiser is no SD3 family (says
// what it looks like: FLUX.1, LTX-Video, ...); OCT_EFORMAT naming the tensor when one is missing,
// unknown or misshapen. Scale and marker tensors of FP8 dialects are not unknown.
oct_status oct_denoiser_init(oct_denoiser *denoiser, const oct_source *source, oct_err *err);
void oct_denoiser_deinit(oct_denoiser *denoiser);

// By SAI or diffusers layer name; NULL when absent.
const oct_layer *oct_denoiser_find(const oct_denoiser *denoiser, const char *name);
