// SPDX-License-Identifier: Apache-2.0
//
// The layers of LTX-Video. One modulation serves all blocks; each adds a table of its own to it.
#include <string.h>

#include "ptq/survey.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define HEADS 32
#define TIME_FEATURES 256
#define BLOCK_TENSORS_MIN 25

enum {  // what a feature count is; below these: multiples of hidden
    TIME_SIZE = 100,
    CONTEXT_SIZE,
    CROSS_SIZE,
    CHANNELS_SIZE,
};

// clang-format off
static const oct_layer_row embed_rows[] = {
    {"patchify_proj",                              OCT_ROLE_EMBED, OCT_STREAM_IMAGE, 1, CHANNELS_SIZE},
    {"adaln_single.emb.timestep_embedder.linear_1", OCT_ROLE_EMBED, OCT_STREAM_NONE, 1, TIME_SIZE},
    {"adaln_single.emb.timestep_embedder.linear_2", OCT_ROLE_EMBED, OCT_STREAM_NONE, 1, 1},
    {"adaln_single.linear",                        OCT_ROLE_MOD,   OCT_STREAM_NONE,  6, 1},
    {"caption_projection.linear_1",                OCT_ROLE_EMBED, OCT_STREAM_TEXT,  1, CONTEXT_SIZE},
    {"caption_projection.linear_2",                OCT_ROLE_EMBED, OCT_STREAM_TEXT,  1, 1},
};

// attn1 is self attention, attn2 reads keys and values from the text.
static const oct_layer_row block_rows[] = {
    {"attn1.to_q",     OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, 1, 1},
    {"attn1.to_k",     OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, 1, 1},
    {"attn1.to_v",     OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, 1, 1},
    {"attn1.to_out.0", OCT_ROLE_ATTN_PROJ, OCT_STREAM_IMAGE, 1, 1},
    {"attn2.to_q",     OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, 1, 1},
    {"attn2.to_k",     OCT_ROLE_ATTN_QKV,  OCT_STREAM_TEXT,  1, CROSS_SIZE},
    {"attn2.to_v",     OCT_ROLE_ATTN_QKV,  OCT_STREAM_TEXT,  1, CROSS_SIZE},
    {"attn2.to_out.0", OCT_ROLE_ATTN_PROJ, OCT_STREAM_IMAGE, 1, 1},
    {"ff.net.0.proj",  OCT_ROLE_MLP_FC1,   OCT_STREAM_IMAGE, 4, 1},
    {"ff.net.2",       OCT_ROLE_MLP_FC2,   OCT_STREAM_IMAGE, 1, 4},
};

static const oct_layer_row final_rows[] = {
    {"proj_out", OCT_ROLE_FINAL, OCT_STREAM_IMAGE, CHANNELS_SIZE, 1},
};
// clang-format on

static const char *const norm_names[] = {
    "attn1.q_norm",
    "attn1.k_norm",
    "attn2.q_norm",
    "attn2.k_norm",
};

static uint64_t resolve_size(const oct_denoiser *denoiser, int amount)
{
    switch (amount) {
    case TIME_SIZE:
        return TIME_FEATURES;
    case CONTEXT_SIZE:
        return denoiser->context_width;
    case CROSS_SIZE:
        return denoiser->cross_width;
    case CHANNELS_SIZE:
        return denoiser->channels;
    default:
        return (uint64_t)amount * denoiser->hidden;
    }
}

static oct_status find_dimensions(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_dimension dimensions[] = {
        {"patchify_proj.weight", 0, &denoiser->hidden},
        {"patchify_proj.weight", 1, &denoiser->channels},
        {"caption_projection.linear_1.weight", 1, &denoiser->context_width},
        {"transformer_blocks.0.attn2.to_k.weight", 1, &denoiser->cross_width},
    };

    denoiser->heads = HEADS;
    return oct_survey_dimensions(survey, dimensions, COUNT(dimensions), err);
}

// A table that is added to modulations, of `rows` of them.
static oct_status take_table(oct_survey *survey, const char *name, uint64_t rows, oct_err *err)
{
    const uint64_t shape[2] = {rows, survey->denoiser->hidden};
    const oct_source_tensor *table = NULL;

    return oct_survey_take_shaped(survey, name, 2, shape, &table, err);
}

static oct_status take_block(oct_survey *survey, int block, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    oct_arena *arena = &denoiser->arena;
    const oct_source_tensor *norm = NULL;
    const char *name = oct_arena_print(arena, "transformer_blocks.%d", block);
    const oct_row_place place = {name, block, resolve_size, true, false};

    oct_status st = oct_survey_add_rows(survey, block_rows, COUNT(block_rows), &place, err);
    for (size_t i = 0; i < COUNT(norm_names) && !st; i++) {
        st = oct_survey_take_shaped(survey,
                                    oct_arena_print(arena, "%s.%s.weight", name, norm_names[i]), 1,
                                    &denoiser->hidden, &norm, err);
    }
    return st ? st
              : take_table(survey, oct_arena_print(arena, "%s.scale_shift_table", name), 6, err);
}

static const char *find_variant(const oct_denoiser *denoiser)
{
    if (denoiser->hidden == 2048 && denoiser->depth == 28) return "LTX-Video 2B";
    if (denoiser->hidden == 4096 && denoiser->depth == 48) return "LTX-Video 13B";
    return "custom";
}

oct_status oct_survey_ltx(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_row_place outside = {NULL, -1, resolve_size, true, false};

    oct_status st =
        oct_survey_depth(survey, "transformer_blocks.", BLOCK_TENSORS_MIN, &denoiser->depth, err);
    if (!st) st = find_dimensions(survey, err);
    if (!st) st = oct_survey_add_rows(survey, embed_rows, COUNT(embed_rows), &outside, err);
    for (int block = 0; block < denoiser->depth && !st; block++) {
        st = take_block(survey, block, err);
    }
    if (!st) st = take_table(survey, "scale_shift_table", 2, err);
    if (!st) st = oct_survey_add_rows(survey, final_rows, COUNT(final_rows), &outside, err);
    if (!st) denoiser->variant = find_variant(denoiser);
    return st;
}
