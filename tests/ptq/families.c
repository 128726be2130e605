// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of other architectures for tests.
#include "tests/ptq/families.h"

#include <stdarg.h>
#include <stdio.h>

const flux_spec flux_dev = {24, 19, 38, true, 64, 4096, 768};
const flux_spec flux_schnell = {24, 19, 38, false, 64, 4096, 768};
const flux_spec flux_fill = {24, 19, 38, true, 384, 4096, 768};
const flux_spec flux_tiny = {2, 2, 3, true, 64, 64, 48};
const ltx_spec ltx_2b = {2048, 2048, 4096, 28};
const ltx_spec ltx_13b = {4096, 4096, 4096, 48};
const ltx_spec ltx_tiny = {128, 96, 64, 7};
const t5_spec t5_xxl = {4096, 4096, 10240, 64, 32128, 24};
const t5_spec t5_tiny = {64, 32, 160, 4, 99, 2};

__attribute__((format(printf, 5, 6))) static void add(model_file *file, int rank, uint64_t rows,
                                                      uint64_t columns, const char *format, ...)
{
    char name[256];
    va_list args;

    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    model_add(file, name, OCT_BF16, rank, (uint64_t[]){rows, columns}, NULL);
}

// A linear layer with its bias.
static void add_linear(model_file *file, const char *stem, const char *layer, uint64_t out,
                       uint64_t in)
{
    add(file, 2, out, in, "%s%s.weight", stem, layer);
    add(file, 1, out, 0, "%s%s.bias", stem, layer);
}

// ---- FLUX.1.

static void add_embedders(model_file *file, const flux_spec *spec, const char *prefix,
                          const char *const names[3][2])
{
    const uint64_t h = 128 * spec->heads, in[3] = {256, spec->pooled, 256};

    for (int i = 0; i < 2 + spec->has_guidance; i++) {
        add_linear(file, prefix, names[i][0], h, in[i]);
        add_linear(file, prefix, names[i][1], h, h);
    }
}

static void add_double(model_file *file, const flux_spec *spec, const char *prefix, int i)
{
    const uint64_t h = 128 * spec->heads;
    char stem[128];

    for (int side = 0; side < 2; side++) {
        snprintf(stem, sizeof stem, "%sdouble_blocks.%d.%s", prefix, i, side ? "txt" : "img");
        add_linear(file, stem, "_mod.lin", 6 * h, h);
        add_linear(file, stem, "_attn.qkv", 3 * h, h);
        add_linear(file, stem, "_attn.proj", h, h);
        add_linear(file, stem, "_mlp.0", 4 * h, h);
        add_linear(file, stem, "_mlp.2", h, 4 * h);
        add(file, 1, 128, 0, "%s_attn.norm.query_norm.scale", stem);
        add(file, 1, 128, 0, "%s_attn.norm.key_norm.scale", stem);
    }
}

void model_add_flux(model_file *file, const flux_spec *spec, const char *prefix)
{
    static const char *const embedders[3][2] = {
        {"time_in.in_layer", "time_in.out_layer"},
        {"vector_in.in_layer", "vector_in.out_layer"},
        {"guidance_in.in_layer", "guidance_in.out_layer"},
    };
    const uint64_t h = 128 * spec->heads;
    char stem[128];

    add_linear(file, prefix, "img_in", h, spec->channels_in);
    add_linear(file, prefix, "txt_in", h, spec->context);
    add_embedders(file, spec, prefix, embedders);
    for (int i = 0; i < spec->doubles; i++) {
        add_double(file, spec, prefix, i);
    }
    for (int i = 0; i < spec->singles; i++) {
        snprintf(stem, sizeof stem, "%ssingle_blocks.%d.", prefix, i);
        add_linear(file, stem, "modulation.lin", 3 * h, h);
        add_linear(file, stem, "linear1", 7 * h, h);
        add_linear(file, stem, "linear2", h, 5 * h);
        add(file, 1, 128, 0, "%snorm.query_norm.scale", stem);
        add(file, 1, 128, 0, "%snorm.key_norm.scale", stem);
    }
    add_linear(file, prefix, "final_layer.adaLN_modulation.1", 2 * h, h);
    add_linear(file, prefix, "final_layer.linear", 64, h);
}

static void add_diffusers_double(model_file *file, uint64_t h, int i)
{
    static const char *const square[] = {
        "attn.to_q",       "attn.to_k",       "attn.to_v",     "attn.add_q_proj",
        "attn.add_k_proj", "attn.add_v_proj", "attn.to_out.0", "attn.to_add_out",
    };
    static const char *const norms[] = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"};
    char stem[128];

    snprintf(stem, sizeof stem, "transformer_blocks.%d.", i);
    add_linear(file, stem, "norm1.linear", 6 * h, h);
    add_linear(file, stem, "norm1_context.linear", 6 * h, h);
    for (int j = 0; j < 8; j++) {
        add_linear(file, stem, square[j], h, h);
    }
    for (int j = 0; j < 4; j++) {
        add(file, 1, 128, 0, "%sattn.%s.weight", stem, norms[j]);
    }
    add_linear(file, stem, "ff.net.0.proj", 4 * h, h);
    add_linear(file, stem, "ff.net.2", h, 4 * h);
    add_linear(file, stem, "ff_context.net.0.proj", 4 * h, h);
    add_linear(file, stem, "ff_context.net.2", h, 4 * h);
}

static void add_diffusers_single(model_file *file, uint64_t h, int i)
{
    char stem[128];

    snprintf(stem, sizeof stem, "single_transformer_blocks.%d.", i);
    add_linear(file, stem, "norm.linear", 3 * h, h);
    add_linear(file, stem, "attn.to_q", h, h);
    add_linear(file, stem, "attn.to_k", h, h);
    add_linear(file, stem, "attn.to_v", h, h);
    add_linear(file, stem, "proj_mlp", 4 * h, h);
    add_linear(file, stem, "proj_out", h, 5 * h);
    add(file, 1, 128, 0, "%sattn.norm_q.weight", stem);
    add(file, 1, 128, 0, "%sattn.norm_k.weight", stem);
}

void model_add_flux_diffusers(model_file *file, const flux_spec *spec)
{
#define EMBEDDER(name)                                                                             \
    {                                                                                              \
        "time_text_embed." name "_embedder.linear_1", "time_text_embed." name "_embedder.linear_2" \
    }
    static const char *const embedders[3][2] = {EMBEDDER("timestep"), EMBEDDER("text"),
                                                EMBEDDER("guidance")};
#undef EMBEDDER
    const uint64_t h = 128 * spec->heads;

    add_linear(file, "", "x_embedder", h, spec->channels_in);
    add_linear(file, "", "context_embedder", h, spec->context);
    add_embedders(file, spec, "", embedders);
    for (int i = 0; i < spec->doubles; i++) {
        add_diffusers_double(file, h, i);
    }
    for (int i = 0; i < spec->singles; i++) {
        add_diffusers_single(file, h, i);
    }
    add_linear(file, "", "norm_out.linear", 2 * h, h);
    add_linear(file, "", "proj_out", 64, h);
}

// ---- LTX-Video.

typedef struct ltx_names {
    const char *in, *time, *norm_q, *norm_k;
} ltx_names;

static void add_ltx(model_file *file, const ltx_spec *spec, const char *prefix,
                    const ltx_names *names)
{
    const uint64_t h = spec->hidden;
    char stem[128];

    add_linear(file, prefix, names->in, h, 128);
    snprintf(stem, sizeof stem, "%s%s.", prefix, names->time);
    add_linear(file, stem, "emb.timestep_embedder.linear_1", h, 256);
    add_linear(file, stem, "emb.timestep_embedder.linear_2", h, h);
    add_linear(file, stem, "linear", 6 * h, h);
    add_linear(file, prefix, "caption_projection.linear_1", h, spec->context);
    add_linear(file, prefix, "caption_projection.linear_2", h, h);
    add(file, 2, 2, h, "%sscale_shift_table", prefix);
    for (int i = 0; i < spec->depth; i++) {
        add(file, 2, 6, h, "%stransformer_blocks.%d.scale_shift_table", prefix, i);
        for (int j = 1; j <= 2; j++) {
            const uint64_t in = j == 2 ? spec->cross : h;
            snprintf(stem, sizeof stem, "%stransformer_blocks.%d.attn%d.", prefix, i, j);
            add_linear(file, stem, "to_q", h, h);
            add_linear(file, stem, "to_k", h, in);
            add_linear(file, stem, "to_v", h, in);
            add_linear(file, stem, "to_out.0", h, h);
            add(file, 1, h, 0, "%s%s.weight", stem, names->norm_q);
            add(file, 1, h, 0, "%s%s.weight", stem, names->norm_k);
        }
        snprintf(stem, sizeof stem, "%stransformer_blocks.%d.ff.net.", prefix, i);
        add_linear(file, stem, "0.proj", 4 * h, h);
        add_linear(file, stem, "2", h, 4 * h);
    }
    add_linear(file, prefix, "proj_out", 128, h);
}

void model_add_ltx(model_file *file, const ltx_spec *spec, const char *prefix)
{
    add_ltx(file, spec, prefix, &(ltx_names){"patchify_proj", "adaln_single", "q_norm", "k_norm"});
}

void model_add_ltx_diffusers(model_file *file, const ltx_spec *spec)
{
    add_ltx(file, spec, "", &(ltx_names){"proj_in", "time_embed", "norm_q", "norm_k"});
}

// ---- T5.

void model_add_t5(model_file *file, const t5_spec *spec, const char *prefix)
{
    char stem[128];

    add(file, 2, spec->vocabulary, spec->hidden, "%sshared.weight", prefix);
    for (int i = 0; i < spec->depth; i++) {
        snprintf(stem, sizeof stem, "%sencoder.block.%d.layer.", prefix, i);
        for (int j = 0; j < 3; j++) {
            add(file, 2, spec->inner, spec->hidden, "%s0.SelfAttention.%c.weight", stem, "qkv"[j]);
        }
        add(file, 2, spec->hidden, spec->inner, "%s0.SelfAttention.o.weight", stem);
        add(file, 2, spec->mlp, spec->hidden, "%s1.DenseReluDense.wi_0.weight", stem);
        add(file, 2, spec->mlp, spec->hidden, "%s1.DenseReluDense.wi_1.weight", stem);
        add(file, 2, spec->hidden, spec->mlp, "%s1.DenseReluDense.wo.weight", stem);
        add(file, 1, spec->hidden, 0, "%s0.layer_norm.weight", stem);
        add(file, 1, spec->hidden, 0, "%s1.layer_norm.weight", stem);
        if (i > 0) continue;
        add(file, 2, 32, spec->heads, "%s0.SelfAttention.relative_attention_bias.weight", stem);
    }
    add(file, 1, spec->hidden, 0, "%sencoder.final_layer_norm.weight", prefix);
}
