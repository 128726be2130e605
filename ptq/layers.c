// SPDX-License-Identifier: Apache-2.0
//
// The layer table of an SD3.5-architecture denoiser.
#include "ptq/layers.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "ptq/naming.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define HEAD_DIM 64
#define TIME_FEATURES 256

// ---- Names of the enumerations.

static const char *const role_names[OCT_ROLE_COUNT] = {
    "attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2", "mod", "embed", "final",
};
static const char *const stream_names[] = {"none", "image", "text"};

static int find_name(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) return (int)i;
    }
    return -1;
}

const char *oct_role_name(oct_role role)
{
    assert(role < OCT_ROLE_COUNT);
    return role_names[role];
}

bool oct_role_parse(const char *name, oct_role *role)
{
    const int found = find_name(role_names, COUNT(role_names), name);

    if (found >= 0) *role = (oct_role)found;
    return found >= 0;
}

const char *oct_stream_name(oct_stream_kind stream)
{
    assert(stream < COUNT(stream_names));
    return stream_names[stream];
}

bool oct_stream_parse(const char *name, oct_stream_kind *stream)
{
    const int found = find_name(stream_names, COUNT(stream_names), name);

    if (found >= 0) *stream = (oct_stream_kind)found;
    return found >= 0;
}

// ---- The architecture as a table.

typedef enum block_place { EVERY_BLOCK, NOT_LAST, DUAL_ONLY } block_place;

enum {  // what a feature count is; below these: multiples of hidden
    TIME_SIZE = 100,
    CONTEXT_SIZE,
    POOLED_SIZE,
    PATCH_SIZE,
    IMAGE_MOD_SIZE,
    TEXT_MOD_SIZE,
};

typedef struct layer_row {
    const char *name;  // after "joint_blocks.N." in a block
    oct_role role;
    oct_stream_kind stream;
    block_place place;
    int out, in;  // one of the above or a multiple of hidden
} layer_row;

// clang-format off
static const layer_row embed_rows[] = {
    {"x_embedder.proj",  OCT_ROLE_EMBED, OCT_STREAM_IMAGE, 0, 1, PATCH_SIZE},
    {"t_embedder.mlp.0", OCT_ROLE_EMBED, OCT_STREAM_NONE,  0, 1, TIME_SIZE},
    {"t_embedder.mlp.2", OCT_ROLE_EMBED, OCT_STREAM_NONE,  0, 1, 1},
    {"y_embedder.mlp.0", OCT_ROLE_EMBED, OCT_STREAM_NONE,  0, 1, POOLED_SIZE},
    {"y_embedder.mlp.2", OCT_ROLE_EMBED, OCT_STREAM_NONE,  0, 1, 1},
    {"context_embedder", OCT_ROLE_EMBED, OCT_STREAM_TEXT,  0, 1, CONTEXT_SIZE},
};

static const layer_row block_rows[] = {
    {"x_block.adaLN_modulation.1",       OCT_ROLE_MOD,       OCT_STREAM_IMAGE, EVERY_BLOCK, IMAGE_MOD_SIZE, 1},
    {"context_block.adaLN_modulation.1", OCT_ROLE_MOD,       OCT_STREAM_TEXT,  EVERY_BLOCK, TEXT_MOD_SIZE,  1},
    {"x_block.attn.qkv",                 OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, EVERY_BLOCK, 3, 1},
    {"context_block.attn.qkv",           OCT_ROLE_ATTN_QKV,  OCT_STREAM_TEXT,  EVERY_BLOCK, 3, 1},
    {"x_block.attn2.qkv",                OCT_ROLE_ATTN_QKV,  OCT_STREAM_IMAGE, DUAL_ONLY,   3, 1},
    {"x_block.attn.proj",                OCT_ROLE_ATTN_PROJ, OCT_STREAM_IMAGE, EVERY_BLOCK, 1, 1},
    {"context_block.attn.proj",          OCT_ROLE_ATTN_PROJ, OCT_STREAM_TEXT,  NOT_LAST,    1, 1},
    {"x_block.attn2.proj",               OCT_ROLE_ATTN_PROJ, OCT_STREAM_IMAGE, DUAL_ONLY,   1, 1},
    {"x_block.mlp.fc1",                  OCT_ROLE_MLP_FC1,   OCT_STREAM_IMAGE, EVERY_BLOCK, 4, 1},
    {"x_block.mlp.fc2",                  OCT_ROLE_MLP_FC2,   OCT_STREAM_IMAGE, EVERY_BLOCK, 1, 4},
    {"context_block.mlp.fc1",            OCT_ROLE_MLP_FC1,   OCT_STREAM_TEXT,  NOT_LAST,    4, 1},
    {"context_block.mlp.fc2",            OCT_ROLE_MLP_FC2,   OCT_STREAM_TEXT,  NOT_LAST,    1, 4},
};

static const layer_row final_rows[] = {
    {"final_layer.adaLN_modulation.1", OCT_ROLE_MOD,   OCT_STREAM_IMAGE, 0, 2, 1},
    {"final_layer.linear",             OCT_ROLE_FINAL, OCT_STREAM_IMAGE, 0, PATCH_SIZE, 1},
};

static const struct { const char *name; block_place place; } norm_rows[] = {
    {"x_block.attn.ln_q",       EVERY_BLOCK}, {"x_block.attn.ln_k",       EVERY_BLOCK},
    {"context_block.attn.ln_q", EVERY_BLOCK}, {"context_block.attn.ln_k", EVERY_BLOCK},
    {"x_block.attn2.ln_q",      DUAL_ONLY},   {"x_block.attn2.ln_k",      DUAL_ONLY},
};
// clang-format on

#define LAYERS_PER_BLOCK COUNT(block_rows)
#define BLOCK_TENSORS_MIN 14  // of the last block without norms

typedef struct layer_survey {  // what oct_denoiser_init works with
    oct_denoiser *denoiser;
    const oct_source *source;
    bool *is_known;  // [n_tensors] of the source
} layer_survey;

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

// ---- What else a checkpoint may be.

// Signs of other families, of any component.
// clang-format off
static const struct { const char *sign, *family; } other_families[] = {
    {"double_blocks.0.img_attn.norm.key_norm.scale", "FLUX.1"},
    {"double_blocks.0.img_attn.norm.key_norm.weight", "FLUX.1"},
    {"single_transformer_blocks.0.attn.to_q.weight", "FLUX.1"},
    {"patchify_proj.weight", "LTX-Video"},
    {"adaln_single.linear.weight", "LTX-Video or PixArt"},
    {"input_blocks.0.0.weight", "Stable Diffusion 1, 2 or XL"},
    {"text_model.encoder.layers.0.mlp.fc1.weight", "a CLIP text encoder"},
    {"encoder.block.0.layer.0.SelfAttention.q.weight", "a T5 text encoder"},
    {"decoder.conv_in.weight", "a VAE"},
};
// clang-format on

static oct_status check_family(const oct_source *source, oct_err *err)
{
    const char *path = source->checkpoint.n_files ? source->checkpoint.files[0].file.path : "";
    unsigned block = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component == OCT_DENOISER &&
            oct_name_index(source->tensors[i].name, "joint_blocks.", &block)) {
            return OCT_OK;
        }
    }
    for (size_t family = 0; family < COUNT(other_families); family++) {
        for (size_t i = 0; i < source->n_tensors; i++) {
            if (!oct_name_ends_with(source->tensors[i].name, other_families[family].sign)) continue;
            return oct_fail(err, OCT_EUNSUPPORTED, "'%s' holds no SD3.5 denoiser: it looks like %s",
                            path, other_families[family].family);
        }
    }
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "'%s' holds no SD3.5 denoiser: it has no tensor 'joint_blocks.0...'", path);
}

// ---- Finding tensors.

static const char *print_shape(char *text, size_t bytes, int rank, const uint64_t *shape)
{
    size_t used = (size_t)snprintf(text, bytes, "[");

    for (int d = 0; d < rank && used < bytes; d++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%" PRIu64, d ? "," : "", shape[d]);
    }
    if (used < bytes) snprintf(text + used, bytes - used, "]");
    return text;
}

// A tensor of the denoiser that must be there and be a floating-point one.
static oct_status take(layer_survey *survey, const char *name, const oct_source_tensor **tensor,
                       oct_err *err)
{
    *tensor = oct_source_find(survey->source, OCT_DENOISER, name);
    if (!*tensor) return oct_fail(err, OCT_EFORMAT, "'%s' is missing", name);
    survey->is_known[*tensor - survey->source->tensors] = true;
    switch ((*tensor)->dtype) {
    case OCT_F16:
    case OCT_BF16:
    case OCT_F32:
    case OCT_F8_E4M3:
    case OCT_F8_E5M2:
        return OCT_OK;
    default:
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "'%s' has type %s: F16, BF16, F32, F8_E4M3 or F8_E5M2 is needed", name,
                        oct_dtype_name((*tensor)->dtype));
    }
}

static oct_status take_shaped(layer_survey *survey, const char *name, int rank,
                              const uint64_t *shape, const oct_source_tensor **tensor, oct_err *err)
{
    char got[200], want[200];

    const oct_status st = take(survey, name, tensor, err);
    if (st) return st;
    if ((*tensor)->rank == rank &&
        memcmp((*tensor)->shape, shape, (size_t)rank * sizeof *shape) == 0) {
        return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "'%s' has shape %s, not %s", name,
                    print_shape(got, sizeof got, (*tensor)->rank, (*tensor)->shape),
                    print_shape(want, sizeof want, rank, shape));
}

static oct_status take_ranked(layer_survey *survey, const char *name, int rank,
                              const oct_source_tensor **tensor, oct_err *err)
{
    const oct_status st = take(survey, name, tensor, err);
    if (st) return st;
    if ((*tensor)->rank != rank) {
        return oct_fail(err, OCT_EFORMAT, "'%s' has %d dimensions, not %d", name, (*tensor)->rank,
                        rank);
    }
    return OCT_OK;
}

// ---- The dimensions of the whole.

static oct_status find_depth(layer_survey *survey, oct_err *err)
{
    const oct_source *source = survey->source;
    size_t n_denoiser = 0;
    unsigned block = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        n_denoiser += source->tensors[i].component == OCT_DENOISER;
    }
    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component != OCT_DENOISER) continue;
        if (!oct_name_index(tensor->name, "joint_blocks.", &block)) continue;
        if ((size_t)block * BLOCK_TENSORS_MIN >=
            n_denoiser) {  // bounds the work by the size of the file
            return oct_fail(err, OCT_EFORMAT, "'%s' is of block %u, but there are only %zu tensors",
                            tensor->name, block, n_denoiser);
        }
        if ((int)block >= survey->denoiser->depth) survey->denoiser->depth = (int)block + 1;
    }
    return OCT_OK;
}

static void find_features(layer_survey *survey)
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

static oct_status find_table(layer_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_source_tensor *table = NULL;

    oct_status st = take_ranked(survey, "pos_embed", 3, &table, err);
    if (st) return st;
    const uint64_t side = square_root(table->shape[1]);
    denoiser->table_side = side;
    if (table->shape[0] == 1 && side > 0 && side * side == table->shape[1] &&
        table->shape[2] == denoiser->hidden) {
        return OCT_OK;
    }
    char text[200];
    return oct_fail(err, OCT_EFORMAT, "'pos_embed' has shape %s, not [1,P*P,%" PRIu64 "]",
                    print_shape(text, sizeof text, table->rank, table->shape), denoiser->hidden);
}

static oct_status find_dimensions(layer_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_source_tensor *patches = NULL, *context = NULL, *pooled = NULL;

    oct_status st = take_ranked(survey, "x_embedder.proj.weight", 4, &patches, err);
    if (!st) st = take_ranked(survey, "context_embedder.weight", 2, &context, err);
    if (!st) st = take_ranked(survey, "y_embedder.mlp.0.weight", 2, &pooled, err);
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
                        print_shape(text, sizeof text, 4, patches->shape));
    }
    denoiser->heads = (int)(denoiser->hidden / HEAD_DIM);
    return find_table(survey, err);
}

// ---- The layers.

static oct_status take_layer(layer_survey *survey, const layer_row *row, const char *name,
                             int block, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    oct_arena *arena = &denoiser->arena;
    oct_layer *layer = &denoiser->layers[denoiser->n_layers++];

    *layer = (oct_layer){.name = name,
                         .role = row->role,
                         .stream = row->stream,
                         .block = block,
                         .out_features = resolve_size(denoiser, row->out, block),
                         .in_features = resolve_size(denoiser, row->in, block)};
    oct_name_in_diffusers(arena, name, layer->diffusers_names);
    layer->is_conv = row->in == PATCH_SIZE;
    const uint64_t linear[2] = {layer->out_features, layer->in_features};
    const uint64_t conv[4] = {layer->out_features, denoiser->channels, denoiser->patch,
                              denoiser->patch};
    oct_status st =
        take_shaped(survey, oct_arena_print(arena, "%s.weight", name), layer->is_conv ? 4 : 2,
                    layer->is_conv ? conv : linear, &layer->weight, err);
    if (st) return st;
    return take_shaped(survey, oct_arena_print(arena, "%s.bias", name), 1, linear, &layer->bias,
                       err);
}

static oct_status take_outer(layer_survey *survey, const layer_row *rows, size_t n_rows,
                             oct_err *err)
{
    oct_status st = OCT_OK;

    for (size_t i = 0; i < n_rows && !st; i++) {
        st = take_layer(survey, &rows[i], rows[i].name, -1, err);
    }
    return st;
}

static oct_status take_norms(layer_survey *survey, int block, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const oct_source_tensor *norm = NULL;
    const uint64_t shape[1] = {HEAD_DIM};
    oct_status st = OCT_OK;

    for (size_t i = 0; i < COUNT(norm_rows) && !st; i++) {
        if (!denoiser->has_qk_norm || !has_place(denoiser, norm_rows[i].place, block)) continue;
        const char *name = oct_arena_print(&denoiser->arena, "joint_blocks.%d.%s.weight", block,
                                           norm_rows[i].name);
        st = take_shaped(survey, name, 1, shape, &norm, err);
    }
    return st;
}

static oct_status take_block(layer_survey *survey, int block, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    oct_status st = OCT_OK;

    for (size_t i = 0; i < COUNT(block_rows) && !st; i++) {
        if (!has_place(denoiser, block_rows[i].place, block)) continue;
        const char *name =
            oct_arena_print(&denoiser->arena, "joint_blocks.%d.%s", block, block_rows[i].name);
        st = take_layer(survey, &block_rows[i], name, block, err);
    }
    if (!st) st = take_norms(survey, block, err);
    return st;
}

static oct_status take_layers(layer_survey *survey, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const size_t n_max =
        COUNT(embed_rows) + COUNT(final_rows) + (size_t)denoiser->depth * LAYERS_PER_BLOCK;

    denoiser->layers = oct_arena_array(&denoiser->arena, n_max, sizeof *denoiser->layers);
    oct_status st = take_outer(survey, embed_rows, COUNT(embed_rows), err);
    for (int block = 0; block < denoiser->depth && !st; block++) {
        st = take_block(survey, block, err);
    }
    if (!st) st = take_outer(survey, final_rows, COUNT(final_rows), err);
    return st;
}

// ---- What is left over.

static bool is_fp8_companion(const oct_denoiser *denoiser, const char *name)
{
    char layer[256];

    return strcmp(name, OCT_FP8_MARKER) == 0 ||
           (oct_name_of_scaled_layer(name, layer, sizeof layer) &&
            oct_denoiser_find(denoiser, layer));
}

static oct_status sum_and_check(const layer_survey *survey, oct_err *err)
{
    const oct_source *source = survey->source;
    const char *first = NULL;
    char shown[200];
    size_t n = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component != OCT_DENOISER) continue;
        survey->denoiser->bytes += tensor->bytes;
        if (survey->is_known[i]) continue;
        if (is_fp8_companion(survey->denoiser, tensor->name)) continue;
        if (n++ == 0) first = tensor->name;
    }
    if (n == 0) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "'%s' is no tensor of an SD3.5 denoiser (%zu unknown)",
                    oct_printable(first, shown, sizeof shown), n);
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

static oct_status survey_all(layer_survey *survey, oct_err *err)
{
    oct_status st = check_family(survey->source, err);
    if (!st) st = find_depth(survey, err);
    if (st) return st;
    find_features(survey);
    st = find_dimensions(survey, err);
    if (!st) st = take_layers(survey, err);
    if (!st) st = sum_and_check(survey, err);
    return st;
}

oct_status oct_denoiser_init(oct_denoiser *denoiser, const oct_source *source, oct_err *err)
{
    oct_arena scratch = {0};

    *denoiser = (oct_denoiser){0};
    layer_survey all = {.denoiser = denoiser,
                        .source = source,
                        .is_known = oct_arena_array(&scratch, source->n_tensors, sizeof(bool))};
    const oct_status st = survey_all(&all, err);
    oct_arena_deinit(&scratch);
    if (st) {
        oct_denoiser_deinit(denoiser);
        return st;
    }
    denoiser->variant = find_variant(denoiser);
    return OCT_OK;
}

void oct_denoiser_deinit(oct_denoiser *denoiser)
{
    oct_arena_deinit(&denoiser->arena);
    *denoiser = (oct_denoiser){0};
}

const oct_layer *oct_denoiser_find(const oct_denoiser *denoiser, const char *name)
{
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        const oct_layer *layer = &denoiser->layers[i];
        if (strcmp(layer->name, name) == 0) return layer;
        for (size_t j = 0; j < 3 && layer->diffusers_names[j]; j++) {
            if (strcmp(layer->diffusers_names[j], name) == 0) return layer;
        }
    }
    return NULL;
}
