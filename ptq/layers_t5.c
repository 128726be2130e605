// SPDX-License-Identifier: Apache-2.0
//
// The layers of a T5 v1.1 encoder. None has a bias; loaders compute all of them in full precision.
#include <string.h>

#include "ptq/survey.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define BLOCK_TENSORS_MIN 9

enum { MODEL_SIZE, INNER_SIZE, MLP_SIZE, N_SIZES };  // what a feature count is

typedef struct t5_row {
    const char *name;
    oct_role role;
    int out, in;
} t5_row;

// clang-format off
static const t5_row rows[] = {
    {"layer.0.SelfAttention.q",       OCT_ROLE_ATTN_QKV,  INNER_SIZE, MODEL_SIZE},
    {"layer.0.SelfAttention.k",       OCT_ROLE_ATTN_QKV,  INNER_SIZE, MODEL_SIZE},
    {"layer.0.SelfAttention.v",       OCT_ROLE_ATTN_QKV,  INNER_SIZE, MODEL_SIZE},
    {"layer.0.SelfAttention.o",       OCT_ROLE_ATTN_PROJ, MODEL_SIZE, INNER_SIZE},
    {"layer.1.DenseReluDense.wi_0",   OCT_ROLE_MLP_FC1,   MLP_SIZE,   MODEL_SIZE},
    {"layer.1.DenseReluDense.wi_1",   OCT_ROLE_MLP_FC1,   MLP_SIZE,   MODEL_SIZE},
    {"layer.1.DenseReluDense.wo",     OCT_ROLE_MLP_FC2,   MODEL_SIZE, MLP_SIZE},
};
// clang-format on

static const char *const norm_names[] = {"layer.0.layer_norm", "layer.1.layer_norm"};
static const char *const embeddings[] = {"shared.weight", "encoder.embed_tokens.weight"};

static oct_status take_tensor(oct_survey *survey, const char *name, int rank, const uint64_t *shape,
                              oct_err *err)
{
    const oct_source_tensor *tensor = NULL;

    return oct_survey_take_shaped(survey, name, rank, shape, &tensor, err);
}

// Old files store the embedding under both names.
static oct_status take_embeddings(oct_survey *survey, uint64_t *model, oct_err *err)
{
    oct_status st = OCT_OK;
    size_t n = 0;

    for (size_t i = 0; i < COUNT(embeddings) && !st; i++) {
        if (!oct_survey_has(survey, embeddings[i])) continue;
        const oct_dimension width = {embeddings[i], 1, model};
        st = oct_survey_dimensions(survey, &width, 1, err);
        n++;
    }
    if (!st && n == 0) st = oct_fail(err, OCT_EFORMAT, "'%s' is missing", embeddings[0]);
    return st;
}

static oct_status find_sizes(oct_survey *survey, uint64_t sizes[N_SIZES], uint64_t bias[2],
                             oct_err *err)
{
    const char *table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    const oct_dimension dimensions[] = {
        {"encoder.block.0.layer.0.SelfAttention.q.weight", 0, &sizes[INNER_SIZE]},
        {"encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0, &sizes[MLP_SIZE]},
        {table, 0, &bias[0]},
        {table, 1, &bias[1]},
    };

    oct_status st = take_embeddings(survey, &sizes[MODEL_SIZE], err);
    if (!st) st = oct_survey_dimensions(survey, dimensions, COUNT(dimensions), err);
    return st;
}

static oct_status take_block(oct_survey *survey, int block, const uint64_t sizes[N_SIZES],
                             oct_err *err)
{
    oct_arena *arena = &survey->denoiser->arena;
    oct_status st = OCT_OK;

    for (size_t i = 0; i < COUNT(rows) && !st; i++) {
        const oct_layer layer = {
            .name = oct_arena_print(arena, "encoder.block.%d.%s", block, rows[i].name),
            .role = rows[i].role,
            .second_role = rows[i].role,
            .stream = OCT_STREAM_TEXT,
            .block = block,
            .out_features = sizes[rows[i].out],
            .in_features = sizes[rows[i].in]};
        st = oct_survey_add(survey, &layer, false, NULL, err);
    }
    for (size_t i = 0; i < COUNT(norm_names) && !st; i++) {
        const char *name =
            oct_arena_print(arena, "encoder.block.%d.%s.weight", block, norm_names[i]);
        st = take_tensor(survey, name, 1, &sizes[MODEL_SIZE], err);
    }
    return st;
}

oct_status oct_survey_t5(oct_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    uint64_t sizes[N_SIZES] = {0}, bias[2] = {0};
    int depth = 0;

    oct_status st = oct_survey_depth(survey, "encoder.block.", BLOCK_TENSORS_MIN, &depth, err);
    if (!st) st = find_sizes(survey, sizes, bias, err);
    for (int block = 0; block < depth && !st; block++) {
        st = take_block(survey, block, sizes, err);
    }
    if (!st)
        st = take_tensor(survey, "encoder.final_layer_norm.weight", 1, &sizes[MODEL_SIZE], err);
    if (st) return st;
    oct_survey_ignore(survey, "spiece_model");  // the vocabulary, which some files carry
    if (denoiser->component != OCT_T5) {
        denoiser->t5_depth = depth;
        return OCT_OK;
    }
    denoiser->depth = depth;
    denoiser->heads = (int)bias[1];
    denoiser->hidden = sizes[MODEL_SIZE];
    const bool is_xxl = sizes[MODEL_SIZE] == 4096 && sizes[MLP_SIZE] == 10240 && depth == 24;
    denoiser->variant = is_xxl ? "T5-XXL" : "custom";
    return OCT_OK;
}
