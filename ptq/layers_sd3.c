// SPDX-License-Identifier: Apache-2.0
//
// The layers of SD3 and SD3.5.
#include <inttypes.h>
#include <string.h>

#include "ptq/naming.h"
#include "ptq/survey.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define HEAD_DIM 64
#define TIME_FEATURES 256
#define BLOCK_TENSORS_MIN 14  // of the last block without norms

typedef enum block_place { EVERY_BLOCK, NOT_LAST, DUAL_ONLY } block_place;

enum {  // what a feature count is; below these: multiples of hidden
    TIME_SIZE = 100,
    CONTEXT_SIZE,
    POOLED_SIZE,
    PATCH_SIZE,
    IMAGE_MOD_SIZE,
    TEXT_MOD_SIZE,
};

typedef struct block_row {
    oct_layer_row row;
    block_place place;
} block_row;

// clang-format off
static const oct_layer_row embed_rows[] = {
    {"x_embedder.proj",  OCT_ROLE_EMBED, OCT_STREAM_IMAGE, 1, PATCH_SIZE},
    {"t_embedder.mlp.0", OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, TIME_SIZE},
    {"t_embedder.mlp.2", OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, 1},
    {"y_embedder.mlp.0", OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, POOLED_SIZE},
    {"y_embedder.mlp.2", OCT_ROLE_EMBED, OCT_STREAM_NONE,  1, 1},
    {"context_embedder", OCT_ROLE_EMBED, OCT_STREAM_TEXT,  1, CONTEXT_SIZE},
};

static const block_row block_rows[] = {
    {{"x_block.adaLN_modulation.1",       OCT_ROLE_MOD,       OCT_STREAM_IMAGE, IMAGE_MOD_SIZE, 1}, EVERY_BLOCK},
    {{"context_block.adaLN_modulation.1", OCT_ROLE_MOD,       OCT_STREAM_TEXT, TEXT_MOD_SIZE, 1}, EVERY_BLOCK},
    {{"x_block.attn.qkv",                 OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, 3, 1}, EVERY_BLOCK},
    {{"context_block.attn.qkv",           OCT_ROLE_ATTN_QKV,  OCT_STREAM_TEXT, 3, 1}, EVERY_BLOCK},
    {{"x_block.attn2.qkv",                OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, 3, 1}, DUAL_ONLY},
    {{"x_block.attn.proj",                OCT_ROLE_ATTN_PROJ, OCT_STREAM_IMAGE, 1, 1}, EVERY_BLOCK},
    {{"context_block.attn.proj",          OCT_ROLE_ATTN_PROJ, OCT_STREAM_TEXT, 1, 1}, NOT_LAST},
    {{"x_block.attn2.proj",               OCT_ROLE_ATTN_PROJ, OCT_STREAM_IMAGE, 1, 1}, DUAL_ONLY},
    {{"x_block.mlp.fc1",                  OCT_ROLE_MLP_FC1,   OCT_STREAM_IMAGE, 4, 1}, EVERY_BLOCK},
    {{"x_block.mlp.fc2",                  OCT_ROLE_MLP_FC2,   OCT_STREAM_IMAGE, 1, 4}, EVERY_BLOCK},
    {{"context_block.mlp.fc1",            OCT_ROLE_MLP_FC1,   OCT_STREAM_TEXT, 4, 1}, NOT_LAST},
    {{"context_block.mlp.fc2",            OCT_ROLE_MLP_FC2,   OCT_STREAM_TEXT, 1, 4}, NOT_LAST},
};

static const oct_layer_row final_rows[] = {
    {"final_layer.adaLN_modulation.1", OCT_ROLE_MOD,   OCT_STREAM_IMAGE, 2, 1},
    {"final_layer.linear",             OCT_ROLE_FINAL, OCT_STREAM_IMAGE, PATCH_SIZE, 1},
};

static const struct { const char *name; block_place place; } norm_rows[] = {
    {"x_block.attn.ln_q",       EVERY_BLOCK}, {"x_block.attn.ln_k",       EVERY_BLOCK},
    {"context_block.attn.ln_q", EVERY_BLOCK}, {"context_block.attn.ln_k", EVERY_BLOCK},
    {"x_block.attn2.ln_q",      DUAL_ONLY},   {"x_block.attn2.ln_k",      DUAL_ONLY},
};
// clang-format on

static bool has_place(const oct_denoiser *denoiser, block_place place, int block)
{
    switch (place) {
    case NOT_LAST:
        return block + 1 < denoiser->depth;
    case DUAL_ONLY:
        return denoiser->is_dual[block];
    default:
        return true;
    }
}

static uint64_t resolve_size(const oct_denoiser *denoiser, int amount, int block)
{
    switch (amount) {
    case TIME_SIZE:
        return TIME_FEATURES;
    case CONTEXT_SIZE:
        return denoiser->context_width;
    case POOLED_SIZE:
        return denoiser->pooled_width;
    case PATCH_SIZE:
        return denoiser->patch * denoiser->patch * denoiser->channels;
    case IMAGE_MOD_SIZE:
        return (denoiser->is_dual[block] ? 9 : 6) * denoiser->hidden;
    case TEXT_MOD_SIZE:
        return (block + 1 < denoiser->depth ? 6 : 2) * denoiser->hidden;
    default:
        return (uint64_t)amount * denoiser->hidden;
    }
}

// ---- The dimensions of the whole.

static void find_features(oct_survey *survey)
{
    oct_denoiser *denoiser = survey->denoiser;
    unsigned block = 0;

    denoiser->is_dual =
        oct_arena_array(&denoiser->arena, (size_t)denoiser->depth, sizeof *denoiser->is_dual);
    for (size_t i = 0; i < survey->source->n_tensors; i++) {
        const oct_source_tensor *tensor = &survey->source->tensors[i];
        if (tensor->component != OCT_DENOISER) continue;
        if (!oct_name_index(tensor->name, "joint_blocks.", &block)) continue;
        if (strstr(tensor->name, ".attn2.")) denoiser->is_dual[block] = true;
        if (strstr(tensor->name, ".ln_q.")) denoiser->has_qk_norm = true;
    }
}

static uint64_t square_root(uint64_t square)
{
    uint64_t root = 0;

    for (uint64_t bit = (uint64_t)1 << 31; bit; bit >>= 1) {
        if ((root + bit) * (root + bit) <= square) root += bit;
    }
    return root;
}

static oct_status find_table(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_source_tensor *table = NULL;

    oct_status st = oct_survey_take_ranked(survey, "pos_embed", 3, &table, err);
    if (st) return st;
    const uint64_t side = square_root(table->shape[1]);
    denoiser->table_side = side;
    if (table->shape[0] == 1 && side > 0 && side * side == table->shape[1] &&
        table->shape[2] == denoiser->hidden) {
        return OCT_OK;
    }
    char text[200];
    return oct_fail(err, OCT_EFORMAT, "'pos_embed' has shape %s, not [1,P*P,%" PRIu64 "]",
                    oct_shape_print(text, sizeof text, table->rank, table->shape),
                    denoiser->hidden);
}

static oct_status find_dimensions(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_source_tensor *patches = NULL, *context = NULL, *pooled = NULL;

    oct_status st = oct_survey_take_ranked(survey, "x_embedder.proj.weight", 4, &patches, err);
    if (!st) st = oct_survey_take_ranked(survey, "context_embedder.weight", 2, &context, err);
    if (!st) st = oct_survey_take_ranked(survey, "y_embedder.mlp.0.weight", 2, &pooled, err);
    if (st) return st;
    denoiser->hidden = patches->shape[0];
    denoiser->channels = patches->shape[1];
    denoiser->patch = patches->shape[2];
    denoiser->context_width = context->shape[1];
    denoiser->pooled_width = pooled->shape[1];
    if (denoiser->hidden == 0 || denoiser->hidden % HEAD_DIM || denoiser->hidden > 1 << 20) {
        return oct_fail(err, OCT_EFORMAT,
                        "'x_embedder.proj.weight' has %" PRIu64
                        " rows: not a multiple of %d in 1..2^20",
                        denoiser->hidden, HEAD_DIM);
    }
    if (denoiser->patch == 0 || denoiser->patch > 64 || patches->shape[3] != denoiser->patch ||
        denoiser->channels == 0 || denoiser->channels > 4096) {
        char text[200];
        return oct_fail(err, OCT_EFORMAT,
                        "'x_embedder.proj.weight' has shape %s: no patch embedding",
                        oct_shape_print(text, sizeof text, 4, patches->shape));
    }
    denoiser->heads = (int)(denoiser->hidden / HEAD_DIM);
    return find_table(survey, err);
}

// ---- The layers.

// ---- The layers.

static oct_status take_layer(oct_survey *survey, const oct_layer_row *row, const char *name,
                             int block, oct_err *err)
{
    const oct_denoiser *denoiser = survey->denoiser;
    const oct_layer layer = {.name = name,
                             .role = row->role,
                             .second_role = row->role,
                             .stream = row->stream,
                             .block = block,
                             .out_features = resolve_size(denoiser, row->out, block),
                             .in_features = resolve_size(denoiser, row->in, block)};
    const uint64_t conv[4] = {layer.out_features, denoiser->channels, denoiser->patch,
                              denoiser->patch};

    return oct_survey_add(survey, &layer, true, row->in == PATCH_SIZE ? conv : NULL, err);
}

static oct_status take_outer(oct_survey *survey, const oct_layer_row *rows, size_t n_rows,
                             oct_err *err)
{
    oct_status st = OCT_OK;

    for (size_t i = 0; i < n_rows && !st; i++) {
        st = take_layer(survey, &rows[i], rows[i].name, -1, err);
    }
    return st;
}

static oct_status take_norms(oct_survey *survey, int block, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_source_tensor *norm = NULL;
    const uint64_t shape[1] = {HEAD_DIM};
    oct_status st = OCT_OK;

    for (size_t i = 0; i < COUNT(norm_rows) && !st; i++) {
        if (!denoiser->has_qk_norm || !has_place(denoiser, norm_rows[i].place, block)) continue;
        const char *name = oct_arena_print(&denoiser->arena, "joint_blocks.%d.%s.weight", block,
                                           norm_rows[i].name);
        st = oct_survey_take_shaped(survey, name, 1, shape, &norm, err);
    }
    return st;
}

static oct_status take_block(oct_survey *survey, int block, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    oct_status st = OCT_OK;

    for (size_t i = 0; i < COUNT(block_rows) && !st; i++) {
        if (!has_place(denoiser, block_rows[i].place, block)) continue;
        const char *name =
            oct_arena_print(&denoiser->arena, "joint_blocks.%d.%s", block, block_rows[i].row.name);
        st = take_layer(survey, &block_rows[i].row, name, block, err);
    }
    if (!st) st = take_norms(survey, block, err);
    return st;
}

static oct_status take_layers(oct_survey *survey, oct_err *err)
{
    oct_status st = take_outer(survey, embed_rows, COUNT(embed_rows), err);
    for (int block = 0; block < survey->denoiser->depth && !st; block++) {
        st = take_block(survey, block, err);
    }
    if (!st) st = take_outer(survey, final_rows, COUNT(final_rows), err);
    return st;
}

static const char *find_variant(const oct_denoiser *denoiser)
{
    int n_dual = 0;

    for (int block = 0; block < denoiser->depth; block++) {
        n_dual += denoiser->is_dual[block];
    }
    const uint64_t side = denoiser->table_side;
    const bool is_large = denoiser->hidden == 2432 && denoiser->depth == 38;
    const bool is_medium = denoiser->hidden == 1536 && denoiser->depth == 24;
    if (is_large && denoiser->has_qk_norm && n_dual == 0 && side == 192) return "SD3.5 Large";
    if (is_medium && denoiser->has_qk_norm && n_dual == 13 && denoiser->is_dual[12] &&
        side == 384) {
        return "SD3.5 Medium";
    }
    if (is_medium && !denoiser->has_qk_norm && n_dual == 0 && side == 192) return "SD3 Medium";
    return "custom";
}

oct_status oct_survey_sd3(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;

    oct_status st =
        oct_survey_depth(survey, "joint_blocks.", BLOCK_TENSORS_MIN, &denoiser->depth, err);
    if (st) return st;
    find_features(survey);
    st = find_dimensions(survey, err);
    if (!st) st = take_layers(survey, err);
    if (!st) denoiser->variant = find_variant(denoiser);
    return st;
}
