// SPDX-License-Identifier: Apache-2.0
//
// Names of denoiser and VAE tensors in both namings.
#include "ptq/naming.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum {                 // what a row says besides the two names
    SWAPPED = 1,       // the halves of rows change places
    SWAPPED_LAST = 2,  // only in the last block
    FLAT = 4,          // linear in diffusers, 1x1 convolution in SAI naming
    SCALE = 8,         // ".weight" in diffusers, ".scale" in the canonical naming
};

typedef struct name_row {
    const char *diffusers, *canonical;  // '#': an index; '~' in the latter: levels - 1 - index
    oct_slot slot;
    unsigned flags;
} name_row;

// clang-format off
static const name_row sd3_rows[] = {
    {"pos_embed.pos_embed",                          "pos_embed", 0, 0},
    {"pos_embed.proj",                               "x_embedder.proj", 0, 0},
    {"time_text_embed.timestep_embedder.linear_1",   "t_embedder.mlp.0", 0, 0},
    {"time_text_embed.timestep_embedder.linear_2",   "t_embedder.mlp.2", 0, 0},
    {"time_text_embed.text_embedder.linear_1",       "y_embedder.mlp.0", 0, 0},
    {"time_text_embed.text_embedder.linear_2",       "y_embedder.mlp.2", 0, 0},
    {"context_embedder",                             "context_embedder", 0, 0},
    {"transformer_blocks.#.norm1.linear",            "joint_blocks.#.x_block.adaLN_modulation.1", 0, 0},
    {"transformer_blocks.#.norm1_context.linear",    "joint_blocks.#.context_block.adaLN_modulation.1", 0, SWAPPED_LAST},
    {"transformer_blocks.#.attn.to_q",               "joint_blocks.#.x_block.attn.qkv", OCT_SLOT_Q, 0},
    {"transformer_blocks.#.attn.to_k",               "joint_blocks.#.x_block.attn.qkv", OCT_SLOT_K, 0},
    {"transformer_blocks.#.attn.to_v",               "joint_blocks.#.x_block.attn.qkv", OCT_SLOT_V, 0},
    {"transformer_blocks.#.attn.norm_q",             "joint_blocks.#.x_block.attn.ln_q", 0, 0},
    {"transformer_blocks.#.attn.norm_k",             "joint_blocks.#.x_block.attn.ln_k", 0, 0},
    {"transformer_blocks.#.attn.to_out.0",           "joint_blocks.#.x_block.attn.proj", 0, 0},
    {"transformer_blocks.#.attn.add_q_proj",         "joint_blocks.#.context_block.attn.qkv", OCT_SLOT_Q, 0},
    {"transformer_blocks.#.attn.add_k_proj",         "joint_blocks.#.context_block.attn.qkv", OCT_SLOT_K, 0},
    {"transformer_blocks.#.attn.add_v_proj",         "joint_blocks.#.context_block.attn.qkv", OCT_SLOT_V, 0},
    {"transformer_blocks.#.attn.norm_added_q",       "joint_blocks.#.context_block.attn.ln_q", 0, 0},
    {"transformer_blocks.#.attn.norm_added_k",       "joint_blocks.#.context_block.attn.ln_k", 0, 0},
    {"transformer_blocks.#.attn.to_add_out",         "joint_blocks.#.context_block.attn.proj", 0, 0},
    {"transformer_blocks.#.attn2.to_q",              "joint_blocks.#.x_block.attn2.qkv", OCT_SLOT_Q, 0},
    {"transformer_blocks.#.attn2.to_k",              "joint_blocks.#.x_block.attn2.qkv", OCT_SLOT_K, 0},
    {"transformer_blocks.#.attn2.to_v",              "joint_blocks.#.x_block.attn2.qkv", OCT_SLOT_V, 0},
    {"transformer_blocks.#.attn2.norm_q",            "joint_blocks.#.x_block.attn2.ln_q", 0, 0},
    {"transformer_blocks.#.attn2.norm_k",            "joint_blocks.#.x_block.attn2.ln_k", 0, 0},
    {"transformer_blocks.#.attn2.to_out.0",          "joint_blocks.#.x_block.attn2.proj", 0, 0},
    {"transformer_blocks.#.ff.net.0.proj",           "joint_blocks.#.x_block.mlp.fc1", 0, 0},
    {"transformer_blocks.#.ff.net.2",                "joint_blocks.#.x_block.mlp.fc2", 0, 0},
    {"transformer_blocks.#.ff_context.net.0.proj",   "joint_blocks.#.context_block.mlp.fc1", 0, 0},
    {"transformer_blocks.#.ff_context.net.2",        "joint_blocks.#.context_block.mlp.fc2", 0, 0},
    {"norm_out.linear",                              "final_layer.adaLN_modulation.1", 0, SWAPPED},
    {"proj_out",                                     "final_layer.linear", 0, 0},
};

static const name_row flux_rows[] = {
    {"x_embedder",                                    "img_in", 0, 0},
    {"context_embedder",                              "txt_in", 0, 0},
    {"time_text_embed.timestep_embedder.linear_1",    "time_in.in_layer", 0, 0},
    {"time_text_embed.timestep_embedder.linear_2",    "time_in.out_layer", 0, 0},
    {"time_text_embed.text_embedder.linear_1",        "vector_in.in_layer", 0, 0},
    {"time_text_embed.text_embedder.linear_2",        "vector_in.out_layer", 0, 0},
    {"time_text_embed.guidance_embedder.linear_1",    "guidance_in.in_layer", 0, 0},
    {"time_text_embed.guidance_embedder.linear_2",    "guidance_in.out_layer", 0, 0},
    {"transformer_blocks.#.norm1.linear",             "double_blocks.#.img_mod.lin", 0, 0},
    {"transformer_blocks.#.norm1_context.linear",     "double_blocks.#.txt_mod.lin", 0, 0},
    {"transformer_blocks.#.attn.to_q",                "double_blocks.#.img_attn.qkv", OCT_SLOT_Q, 0},
    {"transformer_blocks.#.attn.to_k",                "double_blocks.#.img_attn.qkv", OCT_SLOT_K, 0},
    {"transformer_blocks.#.attn.to_v",                "double_blocks.#.img_attn.qkv", OCT_SLOT_V, 0},
    {"transformer_blocks.#.attn.norm_q",              "double_blocks.#.img_attn.norm.query_norm", 0, SCALE},
    {"transformer_blocks.#.attn.norm_k",              "double_blocks.#.img_attn.norm.key_norm", 0, SCALE},
    {"transformer_blocks.#.attn.to_out.0",            "double_blocks.#.img_attn.proj", 0, 0},
    {"transformer_blocks.#.attn.add_q_proj",          "double_blocks.#.txt_attn.qkv", OCT_SLOT_Q, 0},
    {"transformer_blocks.#.attn.add_k_proj",          "double_blocks.#.txt_attn.qkv", OCT_SLOT_K, 0},
    {"transformer_blocks.#.attn.add_v_proj",          "double_blocks.#.txt_attn.qkv", OCT_SLOT_V, 0},
    {"transformer_blocks.#.attn.norm_added_q",        "double_blocks.#.txt_attn.norm.query_norm", 0, SCALE},
    {"transformer_blocks.#.attn.norm_added_k",        "double_blocks.#.txt_attn.norm.key_norm", 0, SCALE},
    {"transformer_blocks.#.attn.to_add_out",          "double_blocks.#.txt_attn.proj", 0, 0},
    {"transformer_blocks.#.ff.net.0.proj",            "double_blocks.#.img_mlp.0", 0, 0},
    {"transformer_blocks.#.ff.net.2",                 "double_blocks.#.img_mlp.2", 0, 0},
    {"transformer_blocks.#.ff_context.net.0.proj",    "double_blocks.#.txt_mlp.0", 0, 0},
    {"transformer_blocks.#.ff_context.net.2",         "double_blocks.#.txt_mlp.2", 0, 0},
    {"single_transformer_blocks.#.norm.linear",       "single_blocks.#.modulation.lin", 0, 0},
    {"single_transformer_blocks.#.attn.to_q",         "single_blocks.#.linear1", OCT_SLOT_Q, 0},
    {"single_transformer_blocks.#.attn.to_k",         "single_blocks.#.linear1", OCT_SLOT_K, 0},
    {"single_transformer_blocks.#.attn.to_v",         "single_blocks.#.linear1", OCT_SLOT_V, 0},
    {"single_transformer_blocks.#.proj_mlp",          "single_blocks.#.linear1", OCT_SLOT_MLP, 0},
    {"single_transformer_blocks.#.attn.norm_q",       "single_blocks.#.norm.query_norm", 0, SCALE},
    {"single_transformer_blocks.#.attn.norm_k",       "single_blocks.#.norm.key_norm", 0, SCALE},
    {"single_transformer_blocks.#.proj_out",          "single_blocks.#.linear2", 0, 0},
    {"norm_out.linear",                               "final_layer.adaLN_modulation.1", 0, SWAPPED},
    {"proj_out",                                      "final_layer.linear", 0, 0},
};

// The others have the same names in both.
static const name_row ltx_rows[] = {
    {"proj_in",                                       "patchify_proj", 0, 0},
    {"time_embed.emb.timestep_embedder.linear_1",     "adaln_single.emb.timestep_embedder.linear_1", 0, 0},
    {"time_embed.emb.timestep_embedder.linear_2",     "adaln_single.emb.timestep_embedder.linear_2", 0, 0},
    {"time_embed.linear",                             "adaln_single.linear", 0, 0},
    {"transformer_blocks.#.attn1.norm_q",             "transformer_blocks.#.attn1.q_norm", 0, 0},
    {"transformer_blocks.#.attn1.norm_k",             "transformer_blocks.#.attn1.k_norm", 0, 0},
    {"transformer_blocks.#.attn2.norm_q",             "transformer_blocks.#.attn2.q_norm", 0, 0},
    {"transformer_blocks.#.attn2.norm_k",             "transformer_blocks.#.attn2.k_norm", 0, 0},
};

// After "encoder." or "decoder.". The second spelling of the attention is that of old files.
static const name_row vae_rows[] = {
    {"conv_norm_out",                                "norm_out", 0, 0},
    {"down_blocks.#.resnets.#.norm1",                "down.#.block.#.norm1", 0, 0},
    {"down_blocks.#.resnets.#.conv1",                "down.#.block.#.conv1", 0, 0},
    {"down_blocks.#.resnets.#.norm2",                "down.#.block.#.norm2", 0, 0},
    {"down_blocks.#.resnets.#.conv2",                "down.#.block.#.conv2", 0, 0},
    {"down_blocks.#.resnets.#.conv_shortcut",        "down.#.block.#.nin_shortcut", 0, 0},
    {"down_blocks.#.downsamplers.0.conv",            "down.#.downsample.conv", 0, 0},
    {"up_blocks.#.resnets.#.norm1",                  "up.~.block.#.norm1", 0, 0},
    {"up_blocks.#.resnets.#.conv1",                  "up.~.block.#.conv1", 0, 0},
    {"up_blocks.#.resnets.#.norm2",                  "up.~.block.#.norm2", 0, 0},
    {"up_blocks.#.resnets.#.conv2",                  "up.~.block.#.conv2", 0, 0},
    {"up_blocks.#.resnets.#.conv_shortcut",          "up.~.block.#.nin_shortcut", 0, 0},
    {"up_blocks.#.upsamplers.0.conv",                "up.~.upsample.conv", 0, 0},
    {"mid_block.resnets.0.norm1",                    "mid.block_1.norm1", 0, 0},
    {"mid_block.resnets.0.conv1",                    "mid.block_1.conv1", 0, 0},
    {"mid_block.resnets.0.norm2",                    "mid.block_1.norm2", 0, 0},
    {"mid_block.resnets.0.conv2",                    "mid.block_1.conv2", 0, 0},
    {"mid_block.resnets.1.norm1",                    "mid.block_2.norm1", 0, 0},
    {"mid_block.resnets.1.conv1",                    "mid.block_2.conv1", 0, 0},
    {"mid_block.resnets.1.norm2",                    "mid.block_2.norm2", 0, 0},
    {"mid_block.resnets.1.conv2",                    "mid.block_2.conv2", 0, 0},
    {"mid_block.attentions.0.group_norm",            "mid.attn_1.norm", 0, 0},
    {"mid_block.attentions.0.to_q",                  "mid.attn_1.q", 0, FLAT},
    {"mid_block.attentions.0.to_k",                  "mid.attn_1.k", 0, FLAT},
    {"mid_block.attentions.0.to_v",                  "mid.attn_1.v", 0, FLAT},
    {"mid_block.attentions.0.to_out.0",              "mid.attn_1.proj_out", 0, FLAT},
    {"mid_block.attentions.0.query",                 "mid.attn_1.q", 0, FLAT},
    {"mid_block.attentions.0.key",                   "mid.attn_1.k", 0, FLAT},
    {"mid_block.attentions.0.value",                 "mid.attn_1.v", 0, FLAT},
    {"mid_block.attentions.0.proj_attn",             "mid.attn_1.proj_out", 0, FLAT},
};
// clang-format on

// Read an index at *at and move past it.
static bool parse_index(const char **at, unsigned *index)
{
    const char *c = *at;
    unsigned value = 0;

    if (!isdigit((unsigned char)*c) || (*c == '0' && isdigit((unsigned char)c[1]))) return false;
    for (; isdigit((unsigned char)*c); c++) {
        value = value * 10 + (unsigned)(*c - '0');
        if (value > OCT_INDEX_MAX) return false;
    }
    *at = c;
    *index = value;
    return true;
}

bool oct_name_index(const char *name, const char *prefix, unsigned *index)
{
    const size_t length = strlen(prefix);
    const char *at = name + length;

    return strncmp(name, prefix, length) == 0 && parse_index(&at, index) && *at == '.';
}

// Match the beginning of `name`; *rest is what follows.
static bool match_pattern(const char *pattern, const char *name, unsigned indices[2],
                          const char **rest)
{
    size_t n = 0;

    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            assert(n < 2);
            if (!parse_index(&name, &indices[n++])) return false;
        } else if (*pattern != *name++) {
            return false;
        }
    }
    *rest = name;
    return true;
}

static const char *expand_pattern(oct_arena *arena, const char *pattern, const unsigned indices[2],
                                  unsigned levels, const char *before, const char *after)
{
    char text[256];
    size_t n = 0, used = 0;

    for (; *pattern; pattern++) {
        if (*pattern == '#' || *pattern == '~') {
            const unsigned index = *pattern == '#' ? indices[n] : levels - 1 - indices[n];
            n++;
            used += (size_t)snprintf(text + used, sizeof text - used, "%u", index);
        } else {
            text[used++] = *pattern;
        }
        assert(used < sizeof text);
    }
    text[used] = '\0';
    return oct_arena_print(arena, "%s%s%s", before, text, after);
}

static bool is_leaf(const char *rest)
{
    return *rest == '\0' || strcmp(rest, ".weight") == 0 || strcmp(rest, ".bias") == 0;
}

static const name_row *find_row(const name_row *rows, size_t n_rows, const char *name,
                                unsigned indices[2], const char **rest)
{
    for (size_t i = 0; i < n_rows; i++) {
        if (match_pattern(rows[i].diffusers, name, indices, rest) && is_leaf(*rest)) {
            return &rows[i];
        }
    }
    return NULL;
}

// The table of an architecture, none for those with one naming.
static const name_row *rows_of(oct_architecture architecture, size_t *n)
{
    switch (architecture) {
    case OCT_ARCH_SD3:
        *n = COUNT(sd3_rows);
        return sd3_rows;
    case OCT_ARCH_FLUX:
        *n = COUNT(flux_rows);
        return flux_rows;
    case OCT_ARCH_LTX:
        *n = COUNT(ltx_rows);
        return ltx_rows;
    default:
        *n = 0;
        return NULL;
    }
}

const char *oct_name_of_denoiser(oct_arena *arena, oct_architecture architecture, const char *name,
                                 unsigned blocks, oct_slot *slot)
{
    unsigned indices[2] = {0};
    const char *rest = NULL;
    size_t n = 0;

    *slot = OCT_SLOT_WHOLE;
    const name_row *rows = rows_of(architecture, &n);
    const name_row *row = find_row(rows, n, name, indices, &rest);
    if (!row) return name;
    *slot = row->slot;
    const bool is_last = indices[0] + 1 == blocks;
    if ((row->flags & SWAPPED) || ((row->flags & SWAPPED_LAST) && is_last)) {
        *slot = OCT_SLOT_SWAPPED;
    }
    if ((row->flags & SCALE) && strcmp(rest, ".weight") == 0) rest = ".scale";
    return expand_pattern(arena, row->canonical, indices, blocks, "", rest);
}

const char *oct_name_of_vae(oct_arena *arena, const char *name, unsigned levels, bool *is_flat)
{
    static const char *const sides[] = {"encoder.", "decoder."};
    unsigned indices[2] = {0};
    const char *rest = NULL;

    *is_flat = false;
    for (size_t side = 0; side < COUNT(sides); side++) {
        const size_t length = strlen(sides[side]);
        if (strncmp(name, sides[side], length) != 0) continue;
        const name_row *row = find_row(vae_rows, COUNT(vae_rows), name + length, indices, &rest);
        if (!row || (strchr(row->canonical, '~') && indices[0] >= levels)) return name;
        *is_flat = (row->flags & FLAT) && strcmp(rest, ".weight") == 0;
        return expand_pattern(arena, row->canonical, indices, levels, sides[side], rest);
    }
    return name;
}

size_t oct_name_in_diffusers(oct_arena *arena, oct_architecture architecture, const char *layer,
                             const char *names[OCT_PARTS_MAX])
{
    size_t n = 0, n_rows = 0;

    memset(names, 0, OCT_PARTS_MAX * sizeof *names);
    const name_row *rows = rows_of(architecture, &n_rows);
    for (size_t i = 0; i < n_rows; i++) {
        unsigned indices[2] = {0};
        const char *rest = NULL;
        if (!match_pattern(rows[i].canonical, layer, indices, &rest) || *rest) continue;
        assert(n < OCT_PARTS_MAX);
        names[n++] = expand_pattern(arena, rows[i].diffusers, indices, 0, "", "");
    }
    if (n == 0 && architecture != OCT_ARCH_SD3 && architecture != OCT_ARCH_FLUX) {
        names[n++] = oct_arena_copy(arena, layer);
    }
    return n;
}

bool oct_name_ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name), n = strlen(ending);

    return length >= n && strcmp(name + length - n, ending) == 0;
}

bool oct_name_of_scaled_layer(const char *name, char *layer, size_t bytes)
{
    static const char *const endings[] = {".weight_scale", ".input_scale", ".comfy_quant",
                                          ".scale_weight", ".scale_input"};

    for (size_t i = 0; i < COUNT(endings); i++) {
        if (!oct_name_ends_with(name, endings[i])) continue;
        const size_t length = strlen(name) - strlen(endings[i]);
        if (length >= bytes) return false;
        memcpy(layer, name, length);
        layer[length] = '\0';
        return true;
    }
    return false;
}
