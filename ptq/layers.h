// SPDX-License-Identifier: Apache-2.0
//
// The layer table of a denoiser, and of the T5 beside it or alone: which tensors are layers, what
// each does, and the dimensions of the whole. Everything is read from names and shapes; any depth
// works. One file per architecture: layers_sd3.c, layers_flux.c, layers_ltx.c, layers_t5.c,
// layers_generic.c.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/source.h"

typedef enum oct_role {
    OCT_ROLE_ATTN_QKV, OCT_ROLE_ATTN_PROJ, OCT_ROLE_MLP_FC1, OCT_ROLE_MLP_FC2, OCT_ROLE_MOD,
    OCT_ROLE_EMBED, OCT_ROLE_FINAL,
    OCT_ROLE_OTHER,  // a layer found by its shape
    OCT_ROLE_COUNT
} oct_role;

typedef enum oct_stream_kind { OCT_STREAM_NONE, OCT_STREAM_IMAGE, OCT_STREAM_TEXT } oct_stream_kind;

const char *oct_role_name(oct_role role);              // "attn_qkv", "mod", ...
bool oct_role_parse(const char *name, oct_role *role);
const char *oct_stream_name(oct_stream_kind stream);   // "none", "image", "text"
bool oct_stream_parse(const char *name, oct_stream_kind *stream);

typedef struct oct_layer {
    const char *name;                    // canonical, without ".weight"
    const char *diffusers_names[OCT_PARTS_MAX];  // 1, 3 (q, k, v) or 4 (and MLP); the rest NULL
    oct_role role, second_role;          // the same but for FLUX.1's fused layers: linear1 is
                                         // mlp_fc1 and attn_qkv, linear2 mlp_fc2 and attn_proj
    oct_stream_kind stream;              // NONE also for layers that both streams pass
    oct_component component;             // DENOISER or T5
    int block;                           // -1 outside the blocks; FLUX.1: double ones, then single
    uint64_t out_features, in_features;  // GEMM N and K
    bool is_conv;                        // the patch embedding: stored as [out, in, 2, 2]
    const oct_source_tensor *weight;
    const oct_source_tensor *bias;       // NULL where there is none
} oct_layer;

typedef struct oct_denoiser {
    oct_arena arena;
    oct_architecture architecture;
    oct_component component;             // what it is the table of: DENOISER, or T5 without one
    oct_layer *layers;                   // in order of execution: embedders, blocks, final; then T5
    size_t n_layers;
    int depth, heads;                    // blocks; attention heads
    int t5_depth;                        // of a T5 beside the denoiser, else 0
    uint64_t hidden, context_width, pooled_width;
    uint64_t channels;                   // SD3: of the latent; else features of a token out
    uint64_t channels_in;                // FLUX.1: features of a token in
    uint64_t cross_width;                // LTX-Video: of the text inside the blocks
    uint64_t patch, table_side;          // SD3
    bool has_qk_norm;                    // SD3
    bool *is_dual;                       // SD3: [depth]
    uint64_t bytes;                      // of all its tensors, FP8 scales and markers included
    const char *variant;                 // "SD3.5 Large", "FLUX.1 dev", ...; "custom"
} oct_denoiser;

typedef struct oct_denoiser_params {
    bool is_generic;  // an unknown architecture gets layers by shape: 2-D weights of at least 256x256
                      // features, multiples of 16, that are no embeddings
    bool with_t5;     // a T5 beside the denoiser has its layers in the table too
} oct_denoiser_params;

// Find all layers and check every shape. OCT_EUNSUPPORTED for an unknown architecture (says what it
// looks like) unless it may be generic; OCT_EFORMAT naming the tensor when one is missing, unknown
// or misshapen. Scale and marker tensors of FP8 dialects are not unknown.
oct_status oct_denoiser_init_with(oct_denoiser *denoiser, const oct_source *source,
                                  const oct_denoiser_params *params, oct_err *err);

// The same with no parameter set.
oct_status oct_denoiser_init(oct_denoiser *denoiser, const oct_source *source, oct_err *err);
void oct_denoiser_deinit(oct_denoiser *denoiser);

// How many blocks there are where this layer is.
int oct_denoiser_depth_at(const oct_denoiser *denoiser, const oct_layer *layer);

// By canonical or diffusers layer name; NULL when absent.
const oct_layer *oct_denoiser_find(const oct_denoiser *denoiser, const char *name);
