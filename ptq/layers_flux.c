// SPDX-License-Identifier: Apache-2.0
//
// The layers of FLUX.1. Its variants differ in the features of a patch (Fill and the control models
// read more than they write) and in the guidance embedder, which schnell lacks.
#include <inttypes.h>
#include <string.h>

#include "ptq/survey.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define HEAD_DIM 128
#define TIME_FEATURES 256
#define DOUBLE_TENSORS_MIN 24
#define SINGLE_TENSORS_MIN 8

enum {  // what a feature count is; below these: multiples of hidden
    TIME_SIZE = 100,
    CONTEXT_SIZE,
    POOLED_SIZE,
    PATCH_IN_SIZE,
    PATCH_OUT_SIZE,
};

// clang-format off
static const oct_layer_row embed_rows[] = {
    {"img_in",              OCT_ROLE_EMBED, OCT_STREAM_IMAGE, 1, PATCH_IN_SIZE},
    {"txt_in",              OCT_ROLE_EMBED, OCT_STREAM_TEXT,  1, CONTEXT_SIZE},
    {"time_in.in_layer",    OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, TIME_SIZE},
    {"time_in.out_layer",   OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, 1},
    {"vector_in.in_layer",  OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, POOLED_SIZE},
    {"vector_in.out_layer", OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, 1},
};

static const oct_layer_row guidance_rows[] = {
    {"guidance_in.in_layer",  OCT_ROLE_EMBED, OCT_STREAM_NONE, 1, TIME_SIZE},
    {"guidance_in.out_layer", OCT_ROLE_EMBED, OCT_STREAM_NONE, 1, 1},
};

static const oct_layer_row double_rows[] = {
    {"img_mod.lin",   OCT_ROLE_MOD,       OCT_STREAM_IMAGE, 6, 1},
    {"txt_mod.lin",   OCT_ROLE_MOD,       OCT_STREAM_TEXT,  6, 1},
    {"img_attn.qkv",  OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, 3, 1},
    {"txt_attn.qkv",  OCT_ROLE_ATTN_QKV,  OCT_STREAM_TEXT,  3, 1},
    {"img_attn.proj", OCT_ROLE_ATTN_PROJ, OCT_STREAM_IMAGE, 1, 1},
    {"txt_attn.proj", OCT_ROLE_ATTN_PROJ, OCT_STREAM_TEXT,  1, 1},
    {"img_mlp.0",     OCT_ROLE_MLP_FC1,   OCT_STREAM_IMAGE, 4, 1},
    {"img_mlp.2",     OCT_ROLE_MLP_FC2,   OCT_STREAM_IMAGE, 1, 4},
    {"txt_mlp.0",     OCT_ROLE_MLP_FC1,   OCT_STREAM_TEXT,  4, 1},
    {"txt_mlp.2",     OCT_ROLE_MLP_FC2,   OCT_STREAM_TEXT,  1, 4},
};

// linear1 is q, k, v and the first feed-forward layer by rows; linear2 attention's projection and
// the second one by columns. Their tokens are those of both streams.
static const oct_layer_row modulation_rows[] = {
    {"modulation.lin", OCT_ROLE_MOD, OCT_STREAM_NONE, 3, 1},
};
static const oct_layer_row fused_rows[] = {
    {"linear1", OCT_ROLE_MLP_FC1, OCT_STREAM_NONE, 7, 1},
    {"linear2", OCT_ROLE_MLP_FC2, OCT_STREAM_NONE, 1, 5},
};

static const oct_layer_row final_rows[] = {
    {"final_layer.adaLN_modulation.1", OCT_ROLE_MOD,   OCT_STREAM_IMAGE, 2, 1},
    {"final_layer.linear",             OCT_ROLE_FINAL, OCT_STREAM_IMAGE, PATCH_OUT_SIZE, 1},
};
// clang-format on

static const char *const double_norms[] = {
    "img_attn.norm.query_norm",
    "img_attn.norm.key_norm",
    "txt_attn.norm.query_norm",
    "txt_attn.norm.key_norm",
};
static const char *const single_norms[] = {"norm.query_norm", "norm.key_norm"};

static uint64_t resolve_size(const oct_denoiser *denoiser, int amount)
{
    switch (amount) {
    case TIME_SIZE:
        return TIME_FEATURES;
    case CONTEXT_SIZE:
        return denoiser->context_width;
    case POOLED_SIZE:
        return denoiser->pooled_width;
    case PATCH_IN_SIZE:
        return denoiser->channels_in;
    case PATCH_OUT_SIZE:
        return denoiser->channels;
    default:
        return (uint64_t)amount * denoiser->hidden;
    }
}

static oct_status find_dimensions(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;

    const oct_dimension dimensions[] = {
        {"img_in.weight", 0, &denoiser->hidden},
        {"img_in.weight", 1, &denoiser->channels_in},
        {"txt_in.weight", 1, &denoiser->context_width},
        {"vector_in.in_layer.weight", 1, &denoiser->pooled_width},
        {"final_layer.linear.weight", 0, &denoiser->channels},
    };
    const oct_status st = oct_survey_dimensions(survey, dimensions, COUNT(dimensions), err);
    if (st) return st;
    if (denoiser->hidden % HEAD_DIM) {
        return oct_fail(err, OCT_EFORMAT,
                        "'img_in.weight' has %" PRIu64 " rows: not a multiple of %d",
                        denoiser->hidden, HEAD_DIM);
    }
    denoiser->heads = (int)(denoiser->hidden / HEAD_DIM);
    return OCT_OK;
}

// ComfyUI saves the scales as "weight".
static oct_status take_norms(oct_survey *survey, const char *block, const char *const *norms,
                             size_t n, oct_err *err)
{
    const uint64_t shape[1] = {HEAD_DIM};
    const oct_source_tensor *norm = NULL;
    oct_status st = OCT_OK;

    for (size_t i = 0; i < n && !st; i++) {
        oct_arena *arena = &survey->denoiser->arena;
        const char *name = oct_arena_print(arena, "%s.%s.weight", block, norms[i]);
        if (!oct_survey_has(survey, name)) {
            name = oct_arena_print(arena, "%s.%s.scale", block, norms[i]);
        }
        st = oct_survey_take_shaped(survey, name, 1, shape, &norm, err);
    }
    return st;
}

static oct_status take_outer(oct_survey *survey, const oct_layer_row *rows, size_t n, oct_err *err)
{
    const oct_row_place place = {NULL, -1, resolve_size, true, false};

    return oct_survey_add_rows(survey, rows, n, &place, err);
}

static oct_status take_double(oct_survey *survey, int index, oct_err *err)
{
    const char *name = oct_arena_print(&survey->denoiser->arena, "double_blocks.%d", index);
    const oct_row_place place = {name, index, resolve_size, true, false};

    oct_status st = oct_survey_add_rows(survey, double_rows, COUNT(double_rows), &place, err);
    if (!st) st = take_norms(survey, name, double_norms, COUNT(double_norms), err);
    return st;
}

static oct_status take_single(oct_survey *survey, int index, int block, oct_err *err)
{
    const char *name = oct_arena_print(&survey->denoiser->arena, "single_blocks.%d", index);
    const oct_row_place place = {name, block, resolve_size, true, false};
    const oct_row_place fused = {name, block, resolve_size, true, true};

    oct_status st =
        oct_survey_add_rows(survey, modulation_rows, COUNT(modulation_rows), &place, err);
    if (!st) st = oct_survey_add_rows(survey, fused_rows, COUNT(fused_rows), &fused, err);
    if (!st) st = take_norms(survey, name, single_norms, COUNT(single_norms), err);
    return st;
}

static const char *find_variant(const oct_denoiser *denoiser, int n_double, bool has_guidance)
{
    if (denoiser->hidden != 3072 || n_double != 19 || denoiser->depth != 19 + 38) return "custom";
    switch (denoiser->channels_in) {
    case 64:
        return has_guidance ? "FLUX.1 dev" : "FLUX.1 schnell";
    case 128:
        return "FLUX.1 Canny or Depth";
    case 384:
        return "FLUX.1 Fill";
    default:
        return "custom";
    }
}

oct_status oct_survey_flux(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const bool has_guidance = oct_survey_has(survey, "guidance_in.in_layer.weight");
    int n_double = 0, n_single = 0;

    oct_status st = oct_survey_depth(survey, "double_blocks.", DOUBLE_TENSORS_MIN, &n_double, err);
    if (!st) st = oct_survey_depth(survey, "single_blocks.", SINGLE_TENSORS_MIN, &n_single, err);
    if (!st) st = find_dimensions(survey, err);
    if (st) return st;
    denoiser->depth = n_double + n_single;
    st = take_outer(survey, embed_rows, COUNT(embed_rows), err);
    if (!st && has_guidance) st = take_outer(survey, guidance_rows, COUNT(guidance_rows), err);
    for (int i = 0; i < n_double && !st; i++) {
        st = take_double(survey, i, err);
    }
    for (int i = 0; i < n_single && !st; i++) {
        st = take_single(survey, i, n_double + i, err);
    }
    if (!st) st = take_outer(survey, final_rows, COUNT(final_rows), err);
    if (!st) denoiser->variant = find_variant(denoiser, n_double, has_guidance);
    return st;
}
