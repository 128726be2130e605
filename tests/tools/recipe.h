// SPDX-License-Identifier: Apache-2.0
//
// Recipes: the tensors of SD3.5 models of any size, by name and shape, and how their values are
// made. Names: Stability-AI/sd3.5, huggingface/diffusers, huggingface/transformers.
//
// Values come from the formula (formula.h) on SAI or Hugging Face names without prefix, so that
// they are the same in every layout. Three exceptions keep the model usable or the layouts equal:
//   text_projection of CLIP-L   the identity: single files do not have it
//   embed_tokens, shared of T5  both from "encoder.embed_tokens.weight"
//   outliers                    where asked for, see oct_recipes
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"

typedef enum oct_naming { OCT_NAMING_SAI, OCT_NAMING_DIFFUSERS } oct_naming;

typedef struct oct_encoder_size {
    uint64_t width, layers, mlp, vocabulary;  // heads: width / 64
    uint64_t positions;                       // of a CLIP: 77 in all that exist
} oct_encoder_size;

typedef struct oct_model_size {
    uint64_t hidden;                      // 64 times the number of heads
    uint64_t blocks, dual_blocks;         // the first `dual_blocks` have a second attention
    uint64_t table_side;                  // of the position table
    uint64_t vae_channels[4];             // from the picture inwards, multiples of 32
    oct_encoder_size clip_l, clip_g, t5;  // T5's width is the context's
} oct_model_size;

// A complete small model: `depth` blocks of width 64 depth.
oct_model_size oct_model_size_small(uint64_t depth, uint64_t dual_blocks);
oct_model_size oct_model_size_large(void);   // SD3.5 Large
oct_model_size oct_model_size_medium(void);  // SD3.5 Medium

typedef enum oct_recipe_kind {
    OCT_RECIPE_FORMULA,
    OCT_RECIPE_SWAPPED,   // the formula's halves exchanged
    OCT_RECIPE_IDENTITY,  // a square matrix
} oct_recipe_kind;

typedef enum oct_outlier {
    OCT_OUTLIER_NONE,
    OCT_OUTLIER_SCALES,   // modulation bias: +16 where scale and channel % 64 == 5
    OCT_OUTLIER_UNITS,    // first MLP bias: +16 where unit % 128 == 7
    OCT_OUTLIER_COLUMNS,  // weight: x 8 where input channel % 64 == 9
} oct_outlier;

typedef struct oct_recipe {
    const char *name;    // as stored
    const char *source;  // as hashed by the formula
    int rank;
    uint64_t shape[4];
    uint64_t first;  // flat index of its first element in the source
    oct_recipe_kind kind;
    oct_outlier outlier;
    uint64_t hidden;  // of the denoiser, for OCT_OUTLIER_SCALES
} oct_recipe;

typedef struct oct_recipes {
    // Set these before adding; zeros are fine.
    oct_naming naming;
    uint64_t seed;      // other values; 0: the formula as it is
    bool has_outliers;  // image stream of the denoiser: even blocks get SCALES (so that qkv and fc1
                        // see outlier channels, the largest 14 times the median) and UNITS (fc2
                        // does), odd blocks' qkv get COLUMNS

    oct_arena arena;
    oct_recipe *items;
    size_t count, capacity;
} oct_recipes;

// Append a component; `prefix` goes before every stored name.
void oct_recipes_add_denoiser(oct_recipes *recipes, const char *prefix, const oct_model_size *size);
void oct_recipes_add_vae(oct_recipes *recipes, const char *prefix, const oct_model_size *size);
void oct_recipes_add_clip(oct_recipes *recipes, const char *prefix, const oct_encoder_size *size);
void oct_recipes_add_t5(oct_recipes *recipes, const char *prefix, const oct_encoder_size *size);

// text_projection.weight of a CLIP encoder: the formula, or the identity.
void oct_recipes_add_projection(oct_recipes *recipes, const char *prefix,
                                const oct_encoder_size *size, oct_recipe_kind kind);

// T5's second copy of its embedding, as single files have it.
void oct_recipes_add_embed_tokens(oct_recipes *recipes, const char *prefix,
                                  const oct_encoder_size *size);
void oct_recipes_deinit(oct_recipes *recipes);

uint64_t oct_recipe_elements(const oct_recipe *recipe);

// out: the `count` elements from flat index `from` of the stored tensor on.
void oct_recipe_fill(const oct_recipe *recipe, float *out, uint64_t from, uint64_t count);
