// SPDX-License-Identifier: Apache-2.0
//
// The MMDiT's weights: from a checkpoint to the device.
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/mmdit_internal.h"

// That everything is there and has its shape is oct_denoiser_init()'s promise.

__attribute__((format(printf, 2, 3))) static oct_linear *find_linear(const oct_mmdit *mmdit,
                                                                     const char *format, ...)
{
    char name[128];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const oct_layer *layer = oct_denoiser_find(mmdit->denoiser, name);
    return layer ? &mmdit->linears[layer - mmdit->denoiser->layers] : NULL;
}

static void find_stream(oct_mmdit_stream *stream, const oct_mmdit *mmdit, int block,
                        const char *name)
{
    stream->modulation = find_linear(mmdit, "joint_blocks.%d.%s.adaLN_modulation.1", block, name);
    stream->attn.qkv = find_linear(mmdit, "joint_blocks.%d.%s.attn.qkv", block, name);
    stream->attn.proj = find_linear(mmdit, "joint_blocks.%d.%s.attn.proj", block, name);
    stream->attn2.qkv = find_linear(mmdit, "joint_blocks.%d.%s.attn2.qkv", block, name);
    stream->attn2.proj = find_linear(mmdit, "joint_blocks.%d.%s.attn2.proj", block, name);
    stream->fc1 = find_linear(mmdit, "joint_blocks.%d.%s.mlp.fc1", block, name);
    stream->fc2 = find_linear(mmdit, "joint_blocks.%d.%s.mlp.fc2", block, name);
    assert(stream->modulation && stream->attn.qkv);  // oct_denoiser_init has checked
}

static void find_parts(oct_mmdit *mmdit)
{
    oct_mmdit_parts *parts = mmdit->parts;
    parts->patch = find_linear(mmdit, "x_embedder.proj");
    parts->time[0] = find_linear(mmdit, "t_embedder.mlp.0");
    parts->time[1] = find_linear(mmdit, "t_embedder.mlp.2");
    parts->pooled[0] = find_linear(mmdit, "y_embedder.mlp.0");
    parts->pooled[1] = find_linear(mmdit, "y_embedder.mlp.2");
    parts->context = find_linear(mmdit, "context_embedder");
    parts->final_modulation = find_linear(mmdit, "final_layer.adaLN_modulation.1");
    parts->final = find_linear(mmdit, "final_layer.linear");
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        find_stream(&parts->blocks[i].x, mmdit, i, "x_block");
        find_stream(&parts->blocks[i].context, mmdit, i, "context_block");
    }
}

static oct_status load_norm(float **weight, oct_device *device, const oct_source *source,
                            const oct_linear *qkv, const char *which, oct_err *err)
{
    char name[128];
    size_t count = 0;
    const int stem = (int)(strlen(qkv->name) - strlen("qkv"));
    snprintf(name, sizeof name, "%.*s%s.weight", stem, qkv->name, which);
    const oct_status st = oct_load_f32(source, OCT_DENOISER, name, weight, &count, err);
    assert(st || count == OCT_HEAD);
    return st ? st : oct_device_adopt_f32(device, weight, count, "a norm", err);
}

static oct_status load_norms(oct_mmdit_attention *attention, oct_device *device,
                             const oct_source *source, oct_err *err)
{
    const oct_linear *qkv = attention->qkv;
    if (!qkv) return OCT_OK;
    const oct_status st = load_norm(&attention->norm_q, device, source, qkv, "ln_q", err);
    return st ? st : load_norm(&attention->norm_k, device, source, qkv, "ln_k", err);
}

static oct_status load_all_norms(oct_mmdit *mmdit, const oct_source *source, oct_err *err)
{
    oct_status st = OCT_OK;
    if (!mmdit->denoiser->has_qk_norm) return OCT_OK;
    for (int i = 0; i < mmdit->denoiser->depth && !st; i++) {
        oct_mmdit_block *block = &mmdit->parts->blocks[i];
        st = load_norms(&block->x.attn, mmdit->device, source, err);
        if (!st) st = load_norms(&block->x.attn2, mmdit->device, source, err);
        if (!st) st = load_norms(&block->context.attn, mmdit->device, source, err);
    }
    return st;
}

// Modulation runs before the blocks and is dropped alone.
static int group_of(const oct_denoiser *denoiser, const oct_layer *layer)
{
    if (layer->block < 0) return -1;
    return layer->role == OCT_ROLE_MOD ? denoiser->depth + layer->block : layer->block;
}

// Each layer is moved before the next is read: the host never holds more than one of a GPU's.
static oct_status load_layers(oct_mmdit *mmdit, const oct_source *source, const oct_plan *plan,
                              oct_err *err)
{
    const oct_denoiser *denoiser = mmdit->denoiser;
    oct_device *device = mmdit->device;
    oct_status st = OCT_OK;

    for (size_t i = 0; i < denoiser->n_layers && !st; i++) {
        oct_linear *linear = &mmdit->linears[i];
        const int group = group_of(denoiser, &denoiser->layers[i]);
        st = oct_linear_load_layer(linear, source, denoiser, i, plan, err);
        if (!st) st = device->ops->adopt(device, linear, OCT_PRECISION_AUTO, group, err);
    }
    return st;
}

oct_status oct_mmdit_load(oct_mmdit *mmdit, oct_device *device, const oct_source *source,
                          const oct_denoiser *denoiser, const oct_plan *plan, oct_err *err)
{
    oct_status st = OCT_OK;

    *mmdit = (oct_mmdit){.device = device, .denoiser = denoiser};
    mmdit->linears = calloc(denoiser->n_layers, sizeof *mmdit->linears);
    mmdit->parts = calloc(1, sizeof *mmdit->parts);
    if (mmdit->parts) {
        mmdit->parts->blocks = calloc((size_t)denoiser->depth, sizeof *mmdit->parts->blocks);
    }
    if (!mmdit->linears || !mmdit->parts || !mmdit->parts->blocks) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for %zu layers", denoiser->n_layers);
        goto out;
    }
    mmdit->table = oct_source_find(source, OCT_DENOISER, "pos_embed");
    assert(mmdit->table && mmdit->table->n_parts == 1);
    st = load_layers(mmdit, source, plan, err);
    if (st) goto out;
    find_parts(mmdit);
    st = load_all_norms(mmdit, source, err);
    if (!st) st = device->ops->sync(device, err);

out:
    if (st) oct_mmdit_deinit(mmdit);
    return st;
}

static void release_norms(oct_device *device, oct_mmdit_attention *attention)
{
    device->ops->release(device, attention->norm_q);
    device->ops->release(device, attention->norm_k);
}

static void free_parts(oct_device *device, oct_mmdit_parts *parts, int depth)
{
    for (int i = 0; parts->blocks && i < depth; i++) {
        release_norms(device, &parts->blocks[i].x.attn);
        release_norms(device, &parts->blocks[i].x.attn2);
        release_norms(device, &parts->blocks[i].context.attn);
    }
    free(parts->blocks);
    free(parts);
}

void oct_mmdit_deinit(oct_mmdit *mmdit)
{
    oct_device *device = mmdit->device;

    oct_mmdit_end(mmdit);
    if (mmdit->parts) free_parts(device, mmdit->parts, mmdit->denoiser->depth);
    for (size_t i = 0; mmdit->linears && i < mmdit->denoiser->n_layers; i++) {
        device->ops->drop(device, &mmdit->linears[i]);
        oct_linear_deinit(&mmdit->linears[i]);
    }
    free(mmdit->linears);
    *mmdit = (oct_mmdit){0};
}
