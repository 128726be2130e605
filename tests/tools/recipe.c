// SPDX-License-Identifier: Apache-2.0
//
// Recipes: tensors of SD3.5 models and how their values are made.
#include "tests/tools/recipe.h"

#include <string.h>

#include "tests/tools/formula.h"
#include "tests/tools/vocabulary.h"

#define LATENT_CHANNELS 16
#define PATCH 2
#define TIMESTEP_FEATURES 256

oct_model_size oct_model_size_small(uint64_t depth, uint64_t dual_blocks)
{
    const uint64_t clip = oct_vocabulary_clip_size(), t5 = oct_vocabulary_t5_size();

    return (oct_model_size){
        .hidden = 64 * depth,
        .blocks = depth,
        .dual_blocks = dual_blocks,
        .table_side = 32,
        .vae_channels = {64, 96, 128, 128},  // with 32, GroupNorm would cancel every bias before it
        .clip_l = {.width = 64, .layers = 3, .mlp = 256, .vocabulary = clip, .positions = 77},
        .clip_g = {.width = 128, .layers = 4, .mlp = 512, .vocabulary = clip, .positions = 77},
        .t5 = {.width = 256, .layers = 3, .mlp = 640, .vocabulary = t5},
    };
}

static oct_model_size full_size(uint64_t depth, uint64_t dual_blocks, uint64_t table_side)
{
    return (oct_model_size){
        .hidden = 64 * depth,
        .blocks = depth,
        .dual_blocks = dual_blocks,
        .table_side = table_side,
        .vae_channels = {128, 256, 512, 512},
        .clip_l = {.width = 768, .layers = 12, .mlp = 3072, .vocabulary = 49408, .positions = 77},
        .clip_g = {.width = 1280, .layers = 32, .mlp = 5120, .vocabulary = 49408, .positions = 77},
        .t5 = {.width = 4096, .layers = 24, .mlp = 10240, .vocabulary = 32128},
    };
}

oct_model_size oct_model_size_large(void)
{
    return full_size(38, 0, 192);
}

oct_model_size oct_model_size_medium(void)
{
    return full_size(24, 13, 384);
}

// Names. `sai` and `diffusers` name the same thing; the list's naming picks one to store, and the
// formula always hashes `sai`.

typedef struct names {
    const char *sai, *diffusers;
} names;

static const char *concat(oct_recipes *r, const char *a, const char *b)
{
    return oct_arena_print(&r->arena, "%s%s", a, b);
}

static names join(oct_recipes *r, names base, const char *sai, const char *diffusers)
{
    return (names){concat(r, base.sai, sai), concat(r, base.diffusers, diffusers)};
}

static names same(const char *name)
{
    return (names){name, name};
}

static oct_recipe *add(oct_recipes *r, const char *prefix, names n, int rank, const uint64_t *shape)
{
    const char *stored = r->naming == OCT_NAMING_SAI ? n.sai : n.diffusers;
    oct_recipe *recipe;

    if (r->count == r->capacity) {
        oct_recipe *old = r->items;
        r->capacity = r->capacity ? 2 * r->capacity : 256;
        r->items = oct_arena_array(&r->arena, r->capacity, sizeof *r->items);
        if (r->count) memcpy(r->items, old, r->count * sizeof *old);
    }
    recipe = &r->items[r->count++];
    recipe->name = oct_arena_print(&r->arena, "%s%s", prefix, stored);
    recipe->source =
        r->seed ? oct_arena_print(&r->arena, "%llu/%s", (unsigned long long)r->seed, n.sai) : n.sai;
    recipe->rank = rank;
    memcpy(recipe->shape, shape, (size_t)rank * sizeof *shape);
    return recipe;
}

static void add_vector(oct_recipes *r, const char *prefix, names n, uint64_t length)
{
    add(r, prefix, n, 1, (uint64_t[]){length});
}

static void add_norm(oct_recipes *r, const char *prefix, names n, uint64_t channels)
{
    add_vector(r, prefix, join(r, n, ".weight", ".weight"), channels);
    add_vector(r, prefix, join(r, n, ".bias", ".bias"), channels);
}

static void add_matrix(oct_recipes *r, const char *prefix, names n, uint64_t out, uint64_t in)
{
    add(r, prefix, join(r, n, ".weight", ".weight"), 2, (uint64_t[]){out, in});
}

static void add_linear(oct_recipes *r, const char *prefix, names n, uint64_t out, uint64_t in)
{
    add_matrix(r, prefix, n, out, in);
    add_vector(r, prefix, join(r, n, ".bias", ".bias"), out);
}

static void add_swapped_linear(oct_recipes *r, const char *prefix, names n, uint64_t out,
                               uint64_t in)
{
    add_linear(r, prefix, n, out, in);
    if (r->naming == OCT_NAMING_DIFFUSERS) {
        r->items[r->count - 2].kind = OCT_RECIPE_SWAPPED;
        r->items[r->count - 1].kind = OCT_RECIPE_SWAPPED;
    }
}

static void add_conv(oct_recipes *r, const char *prefix, names n, uint64_t out, uint64_t in,
                     uint64_t side)
{
    add(r, prefix, join(r, n, ".weight", ".weight"), 4, (uint64_t[]){out, in, side, side});
    add_vector(r, prefix, join(r, n, ".bias", ".bias"), out);
}

// The denoiser.

typedef struct stream_names {
    const char *sai, *modulation, *qkv[3], *norms[2], *out, *fc1, *fc2;
} stream_names;

static const stream_names image_stream = {
    .sai = "x_block",
    .modulation = "norm1.linear",
    .qkv = {"attn.to_q", "attn.to_k", "attn.to_v"},
    .norms = {"attn.norm_q", "attn.norm_k"},
    .out = "attn.to_out.0",
    .fc1 = "ff.net.0.proj",
    .fc2 = "ff.net.2",
};

static const stream_names text_stream = {
    .sai = "context_block",
    .modulation = "norm1_context.linear",
    .qkv = {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"},
    .norms = {"attn.norm_added_q", "attn.norm_added_k"},
    .out = "attn.to_add_out",
    .fc1 = "ff_context.net.0.proj",
    .fc2 = "ff_context.net.2",
};

static const stream_names second_attention = {
    .qkv = {"attn2.to_q", "attn2.to_k", "attn2.to_v"},
    .norms = {"attn2.norm_q", "attn2.norm_k"},
    .out = "attn2.to_out.0",
};

// Diffusers stores q, k and v as tensors of their own: rows of the fused one.
static void add_qkv(oct_recipes *r, const char *prefix, names stream, const char *sai,
                    const char *const diffusers[3], uint64_t h, oct_outlier outlier)
{
    const size_t parts = r->naming == OCT_NAMING_SAI ? 1 : 3;

    for (size_t i = 0; i < parts; i++) {
        add_linear(r, prefix, join(r, stream, sai, diffusers[i]), parts == 1 ? 3 * h : h, h);
        r->items[r->count - 2].first = i * h * h;
        r->items[r->count - 1].first = i * h;
        r->items[r->count - 2].outlier = outlier;
    }
}

static void add_qk_norms(oct_recipes *r, const char *prefix, names stream, const char *sai,
                         const char *const diffusers[2])
{
    for (size_t i = 0; i < 2; i++) {
        const names n = join(r, stream, concat(r, sai, i ? ".ln_k" : ".ln_q"), diffusers[i]);
        add_vector(r, prefix, join(r, n, ".weight", ".weight"), 64);
    }
}

typedef struct block_shape {
    uint64_t hidden, chunks;  // of the modulation: 6, 9 (dual) or 2 (last block's text)
    bool is_last_text, is_dual;
    oct_outlier scales, units, columns;
} block_shape;

static void add_modulation(oct_recipes *r, const char *prefix, names n, const block_shape *shape)
{
    const uint64_t h = shape->hidden;

    if (shape->is_last_text) {
        add_swapped_linear(r, prefix, n, shape->chunks * h, h);
        return;
    }
    add_linear(r, prefix, n, shape->chunks * h, h);
    r->items[r->count - 1].outlier = shape->scales;
    r->items[r->count - 1].hidden = h;
}

static void add_stream(oct_recipes *r, const char *prefix, names block, const stream_names *stream,
                       const block_shape *shape)
{
    const uint64_t h = shape->hidden;
    const names in = join(r, block, stream->sai, "");

    add_modulation(r, prefix, join(r, in, ".adaLN_modulation.1", stream->modulation), shape);
    add_qkv(r, prefix, in, ".attn.qkv", stream->qkv, h, shape->columns);
    add_qk_norms(r, prefix, in, ".attn", stream->norms);
    if (shape->is_dual) {
        add_qkv(r, prefix, in, ".attn2.qkv", second_attention.qkv, h, OCT_OUTLIER_NONE);
        add_qk_norms(r, prefix, in, ".attn2", second_attention.norms);
        add_linear(r, prefix, join(r, in, ".attn2.proj", second_attention.out), h, h);
    }
    if (shape->is_last_text) return;
    add_linear(r, prefix, join(r, in, ".attn.proj", stream->out), h, h);
    add_linear(r, prefix, join(r, in, ".mlp.fc1", stream->fc1), 4 * h, h);
    r->items[r->count - 1].outlier = shape->units;
    add_linear(r, prefix, join(r, in, ".mlp.fc2", stream->fc2), h, 4 * h);
}

static void add_joint_block(oct_recipes *r, const char *prefix, const oct_model_size *size,
                            uint64_t i)
{
    const bool is_dual = i < size->dual_blocks, is_last = i + 1 == size->blocks;
    const bool is_even = r->has_outliers && i % 2 == 0, is_odd = r->has_outliers && i % 2 == 1;
    const names block = {oct_arena_print(&r->arena, "joint_blocks.%u.", (unsigned)i),
                         oct_arena_print(&r->arena, "transformer_blocks.%u.", (unsigned)i)};
    const block_shape image = {
        .hidden = size->hidden,
        .chunks = is_dual ? 9 : 6,
        .is_dual = is_dual,
        .scales = is_even ? OCT_OUTLIER_SCALES : OCT_OUTLIER_NONE,
        .units = is_even ? OCT_OUTLIER_UNITS : OCT_OUTLIER_NONE,
        .columns = is_odd ? OCT_OUTLIER_COLUMNS : OCT_OUTLIER_NONE,
    };
    const block_shape text = {
        .hidden = size->hidden, .chunks = is_last ? 2 : 6, .is_last_text = is_last};

    add_stream(r, prefix, block, &text_stream, &text);
    add_stream(r, prefix, block, &image_stream, &image);
}

void oct_recipes_add_denoiser(oct_recipes *r, const char *prefix, const oct_model_size *size)
{
    const uint64_t h = size->hidden, table = size->table_side * size->table_side;
    const uint64_t pooled = size->clip_l.width + size->clip_g.width;
    const names embed = {"", "time_text_embed."};

    add(r, prefix, (names){"pos_embed", "pos_embed.pos_embed"}, 3, (uint64_t[]){1, table, h});
    add_conv(r, prefix, (names){"x_embedder.proj", "pos_embed.proj"}, h, LATENT_CHANNELS, PATCH);
    add_linear(r, prefix, join(r, embed, "t_embedder.mlp.0", "timestep_embedder.linear_1"), h,
               TIMESTEP_FEATURES);
    add_linear(r, prefix, join(r, embed, "t_embedder.mlp.2", "timestep_embedder.linear_2"), h, h);
    add_linear(r, prefix, join(r, embed, "y_embedder.mlp.0", "text_embedder.linear_1"), h, pooled);
    add_linear(r, prefix, join(r, embed, "y_embedder.mlp.2", "text_embedder.linear_2"), h, h);
    add_linear(r, prefix, (names){"context_embedder", "context_embedder"}, h, size->t5.width);
    for (uint64_t i = 0; i < size->blocks; i++) {
        add_joint_block(r, prefix, size, i);
    }
    add_swapped_linear(r, prefix, (names){"final_layer.adaLN_modulation.1", "norm_out.linear"},
                       2 * h, h);
    add_linear(r, prefix, (names){"final_layer.linear", "proj_out"},
               PATCH * PATCH * LATENT_CHANNELS, h);
}

// The VAE.

static void add_resnet(oct_recipes *r, const char *prefix, names n, uint64_t out, uint64_t in)
{
    add_norm(r, prefix, join(r, n, ".norm1", ".norm1"), in);
    add_conv(r, prefix, join(r, n, ".conv1", ".conv1"), out, in, 3);
    add_norm(r, prefix, join(r, n, ".norm2", ".norm2"), out);
    add_conv(r, prefix, join(r, n, ".conv2", ".conv2"), out, out, 3);
    if (in != out) add_conv(r, prefix, join(r, n, ".nin_shortcut", ".conv_shortcut"), out, in, 1);
}

static void add_vae_attention(oct_recipes *r, const char *prefix, names n, uint64_t c)
{
    static const names part[4] = {
        {".q", ".to_q"}, {".k", ".to_k"}, {".v", ".to_v"}, {".proj_out", ".to_out.0"}};

    add_norm(r, prefix, join(r, n, ".norm", ".group_norm"), c);
    for (size_t i = 0; i < 4; i++) {
        const names one = join(r, n, part[i].sai, part[i].diffusers);
        if (r->naming == OCT_NAMING_SAI) {
            add_conv(r, prefix, one, c, c, 1);
        } else {
            add_linear(r, prefix, one, c, c);
        }
    }
}

static void add_middle(oct_recipes *r, const char *prefix, names side, uint64_t c)
{
    add_resnet(r, prefix, join(r, side, "mid.block_1", "mid_block.resnets.0"), c, c);
    add_vae_attention(r, prefix, join(r, side, "mid.attn_1", "mid_block.attentions.0"), c);
    add_resnet(r, prefix, join(r, side, "mid.block_2", "mid_block.resnets.1"), c, c);
}

// `up` is "up" or "down"; diffusers counts the blocks in the order of running.
static void add_level(oct_recipes *r, const char *prefix, names side, const char *up, int level,
                      int diffusers_level, uint64_t out, uint64_t in)
{
    const bool is_up = strcmp(up, "up") == 0;
    const int resnets = is_up ? 3 : 2;
    const names n = {
        oct_arena_print(&r->arena, "%s%s.%d.", side.sai, up, level),
        oct_arena_print(&r->arena, "%s%s_blocks.%d.", side.diffusers, up, diffusers_level)};

    for (int i = 0; i < resnets; i++) {
        add_resnet(r, prefix,
                   join(r, n, oct_arena_print(&r->arena, "block.%d", i),
                        oct_arena_print(&r->arena, "resnets.%d", i)),
                   out, i == 0 ? in : out);
    }
    if (diffusers_level == 3) return;
    add_conv(r, prefix,
             is_up ? join(r, n, "upsample.conv", "upsamplers.0.conv")
                   : join(r, n, "downsample.conv", "downsamplers.0.conv"),
             out, out, 3);
}

static void add_ends(oct_recipes *r, const char *prefix, names side, uint64_t c, uint64_t out)
{
    add_norm(r, prefix, join(r, side, "norm_out", "conv_norm_out"), c);
    add_conv(r, prefix, join(r, side, "conv_out", "conv_out"), out, c, 3);
}

void oct_recipes_add_vae(oct_recipes *r, const char *prefix, const oct_model_size *size)
{
    const uint64_t *c = size->vae_channels;
    const names encoder = {"encoder.", "encoder."}, decoder = {"decoder.", "decoder."};

    add_conv(r, prefix, join(r, encoder, "conv_in", "conv_in"), c[0], 3, 3);
    for (int level = 0; level < 4; level++) {
        add_level(r, prefix, encoder, "down", level, level, c[level], c[level ? level - 1 : 0]);
    }
    add_middle(r, prefix, encoder, c[3]);
    add_ends(r, prefix, encoder, c[3], 2 * LATENT_CHANNELS);

    add_conv(r, prefix, join(r, decoder, "conv_in", "conv_in"), c[3], LATENT_CHANNELS, 3);
    add_middle(r, prefix, decoder, c[3]);
    for (int level = 3; level >= 0; level--) {
        add_level(r, prefix, decoder, "up", level, 3 - level, c[level],
                  c[level < 3 ? level + 1 : 3]);
    }
    add_ends(r, prefix, decoder, c[0], 3);
}

// The text encoders: one naming.

void oct_recipes_add_clip(oct_recipes *r, const char *prefix, const oct_encoder_size *size)
{
    static const char *const projection[4] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    const uint64_t w = size->width;

    add_matrix(r, prefix, same("text_model.embeddings.token_embedding"), size->vocabulary, w);
    add_matrix(r, prefix, same("text_model.embeddings.position_embedding"), size->positions, w);
    for (unsigned i = 0; i < size->layers; i++) {
        const names layer = same(oct_arena_print(&r->arena, "text_model.encoder.layers.%u.", i));
        add_norm(r, prefix, join(r, layer, "layer_norm1", "layer_norm1"), w);
        for (size_t j = 0; j < 4; j++) {
            const names attention = join(r, layer, "self_attn.", "self_attn.");
            add_linear(r, prefix, join(r, attention, projection[j], projection[j]), w, w);
        }
        add_norm(r, prefix, join(r, layer, "layer_norm2", "layer_norm2"), w);
        add_linear(r, prefix, join(r, layer, "mlp.fc1", "mlp.fc1"), size->mlp, w);
        add_linear(r, prefix, join(r, layer, "mlp.fc2", "mlp.fc2"), w, size->mlp);
    }
    add_norm(r, prefix, same("text_model.final_layer_norm"), w);
}

void oct_recipes_add_projection(oct_recipes *r, const char *prefix, const oct_encoder_size *size,
                                oct_recipe_kind kind)
{
    add_matrix(r, prefix, same("text_projection"), size->width, size->width);
    r->items[r->count - 1].kind = kind;
}

static void add_t5_layer(oct_recipes *r, const char *prefix, const oct_encoder_size *size,
                         unsigned i)
{
    static const char *const part[4] = {"q", "k", "v", "o"};
    const uint64_t w = size->width;
    const names attention = same(oct_arena_print(&r->arena, "encoder.block.%u.layer.0.", i));
    const names feed = same(oct_arena_print(&r->arena, "encoder.block.%u.layer.1.", i));
    const names self = join(r, attention, "SelfAttention.", "SelfAttention.");
    const names dense = join(r, feed, "DenseReluDense.", "DenseReluDense.");

    for (size_t j = 0; j < 4; j++) {
        add_matrix(r, prefix, join(r, self, part[j], part[j]), w, w);
    }
    if (i == 0) {
        add_matrix(r, prefix, join(r, self, "relative_attention_bias", "relative_attention_bias"),
                   32, w / 64);
    }
    add_vector(r, prefix, join(r, attention, "layer_norm.weight", "layer_norm.weight"), w);
    add_matrix(r, prefix, join(r, dense, "wi_0", "wi_0"), size->mlp, w);
    add_matrix(r, prefix, join(r, dense, "wi_1", "wi_1"), size->mlp, w);
    add_matrix(r, prefix, join(r, dense, "wo", "wo"), w, size->mlp);
    add_vector(r, prefix, join(r, feed, "layer_norm.weight", "layer_norm.weight"), w);
}

void oct_recipes_add_t5(oct_recipes *r, const char *prefix, const oct_encoder_size *size)
{
    oct_recipes_add_embed_tokens(r, prefix, size);
    r->items[r->count - 1].name = oct_arena_print(&r->arena, "%sshared.weight", prefix);
    for (unsigned i = 0; i < size->layers; i++) {
        add_t5_layer(r, prefix, size, i);
    }
    add_vector(r, prefix, same("encoder.final_layer_norm.weight"), size->width);
}

void oct_recipes_add_embed_tokens(oct_recipes *r, const char *prefix, const oct_encoder_size *size)
{
    add_matrix(r, prefix, same("encoder.embed_tokens"), size->vocabulary, size->width);
}

void oct_recipes_deinit(oct_recipes *recipes)
{
    oct_arena_deinit(&recipes->arena);
    *recipes = (oct_recipes){0};
}

// Values.

uint64_t oct_recipe_elements(const oct_recipe *recipe)
{
    uint64_t n = 1;

    for (int d = 0; d < recipe->rank; d++) {
        n *= recipe->shape[d];
    }
    return n;
}

static void fill_swapped(const oct_recipe *recipe, float *out, uint64_t from, uint64_t count)
{
    const uint64_t n = oct_recipe_elements(recipe), half = n / 2;

    while (count) {
        const uint64_t at = (from + half) % n, left = (at < half ? half : n) - at;
        const uint64_t run = count < left ? count : left;
        oct_formula_fill_range(out, recipe->source, recipe->rank, recipe->shape, at, run);
        out += run;
        from += run;
        count -= run;
    }
}

static void fill_identity(const oct_recipe *recipe, float *out, uint64_t from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = (from + i) % (recipe->shape[1] + 1) == 0;
    }
}

static void add_outliers(const oct_recipe *recipe, float *out, uint64_t from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t at = recipe->first + from + i;
        switch (recipe->outlier) {
        case OCT_OUTLIER_NONE:
            return;
        case OCT_OUTLIER_SCALES:
            if (at / recipe->hidden % 3 == 1 && at % recipe->hidden % 64 == 5) out[i] += 16;
            break;
        case OCT_OUTLIER_UNITS:
            if (at % 128 == 7) out[i] += 16;
            break;
        case OCT_OUTLIER_COLUMNS:
            if (at % recipe->shape[1] % 64 == 9) out[i] *= 8;
            break;
        }
    }
}

void oct_recipe_fill(const oct_recipe *recipe, float *out, uint64_t from, uint64_t count)
{
    switch (recipe->kind) {
    case OCT_RECIPE_FORMULA:
        oct_formula_fill_range(out, recipe->source, recipe->rank, recipe->shape,
                               recipe->first + from, count);
        break;
    case OCT_RECIPE_SWAPPED:
        fill_swapped(recipe, out, from, count);
        break;
    case OCT_RECIPE_IDENTITY:
        fill_identity(recipe, out, from, count);
        break;
    }
    add_outliers(recipe, out, from, count);
}
