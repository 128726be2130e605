// SPDX-License-Identifier: Apache-2.0
//
// The MMDiT's forward pass. Formulas: Stability-AI/sd3.5.
#include "runtime/mmdit.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/ops.h"
#include "runtime/mmdit_internal.h"

#define RMS_EPS 1e-6f

// ---- Loading. That everything is there and has its shape is oct_denoiser_init()'s promise.

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

static oct_status load_norm(float **weight, const oct_source *source, const oct_linear *qkv,
                            const char *which, oct_err *err)
{
    char name[128];
    size_t count = 0;
    const int stem = (int)(strlen(qkv->name) - strlen("qkv"));
    snprintf(name, sizeof name, "%.*s%s.weight", stem, qkv->name, which);
    const oct_status st = oct_load_f32(source, OCT_DENOISER, name, weight, &count, err);
    assert(st || count == OCT_MMDIT_HEAD);
    return st;
}

static oct_status load_norms(oct_mmdit_attention *attention, const oct_source *source, oct_err *err)
{
    if (!attention->qkv) return OCT_OK;
    const oct_status st = load_norm(&attention->norm_q, source, attention->qkv, "ln_q", err);
    return st ? st : load_norm(&attention->norm_k, source, attention->qkv, "ln_k", err);
}

static oct_status load_all_norms(oct_mmdit *mmdit, const oct_source *source, oct_err *err)
{
    oct_status st = OCT_OK;
    if (!mmdit->denoiser->has_qk_norm) return OCT_OK;
    for (int i = 0; i < mmdit->denoiser->depth && !st; i++) {
        oct_mmdit_block *block = &mmdit->parts->blocks[i];
        st = load_norms(&block->x.attn, source, err);
        if (!st) st = load_norms(&block->x.attn2, source, err);
        if (!st) st = load_norms(&block->context.attn, source, err);
    }
    return st;
}

oct_status oct_mmdit_load(oct_mmdit *mmdit, const oct_source *source, const oct_denoiser *denoiser,
                          const oct_plan *plan, oct_err *err)
{
    oct_status st = OCT_OK;

    *mmdit = (oct_mmdit){.denoiser = denoiser};
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
    for (size_t i = 0; i < denoiser->n_layers && !st; i++) {
        st = oct_linear_load_layer(&mmdit->linears[i], source, denoiser, i, plan, err);
    }
    if (st) goto out;
    find_parts(mmdit);
    st = load_all_norms(mmdit, source, err);

out:
    if (st) oct_mmdit_deinit(mmdit);
    return st;
}

static void free_norms(oct_mmdit_attention *attention)
{
    free(attention->norm_q);
    free(attention->norm_k);
}

static void free_parts(oct_mmdit_parts *parts, int depth)
{
    for (int i = 0; parts->blocks && i < depth; i++) {
        free_norms(&parts->blocks[i].x.attn);
        free_norms(&parts->blocks[i].x.attn2);
        free_norms(&parts->blocks[i].context.attn);
    }
    free(parts->blocks);
    free(parts);
}

void oct_mmdit_deinit(oct_mmdit *mmdit)
{
    oct_mmdit_end(mmdit);
    if (mmdit->parts) free_parts(mmdit->parts, mmdit->denoiser->depth);
    for (size_t i = 0; mmdit->linears && i < mmdit->denoiser->n_layers; i++) {
        oct_linear_deinit(&mmdit->linears[i]);
    }
    free(mmdit->linears);
    *mmdit = (oct_mmdit){0};
}

// ---- Before the loop.

// Hand out `n` floats of a block; with a NULL block only count them.
static float *carve(float *block, size_t *used, size_t n)
{
    float *view = block ? block + *used : NULL;
    *used += n;
    return view;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t widest_hidden(const oct_mmdit *mmdit)
{
    size_t width = 0;
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        const oct_mmdit_block *block = &mmdit->parts->blocks[i];
        width = larger(width, block->x.fc1->out);
        if (block->context.fc1) width = larger(width, block->context.fc1->out);
    }
    return width;
}

static bool has_dual(const oct_denoiser *denoiser)
{
    for (int i = 0; i < denoiser->depth; i++) {
        if (denoiser->is_dual[i]) return true;
    }
    return false;
}

static void carve_branch(const oct_mmdit *mmdit, oct_mmdit_branch *branch, float *block,
                         size_t *used)
{
    const size_t steps = mmdit->run->inputs->steps, h = mmdit->denoiser->hidden;
    const oct_mmdit_parts *parts = mmdit->parts;

    branch->context = carve(block, used, branch->context_tokens * h);
    branch->c = carve(block, used, steps * h);
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        oct_mmdit_modulation *modulation = &branch->blocks[i];
        modulation->x = carve(block, used, steps * parts->blocks[i].x.modulation->out);
        modulation->context = carve(block, used, steps * parts->blocks[i].context.modulation->out);
    }
    branch->final = carve(block, used, steps * parts->final_modulation->out);
}

// Lay out all memory of a run in `block`; returns how many floats that takes.
static size_t carve_run(const oct_mmdit *mmdit, float *block)
{
    oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_parts *parts = mmdit->parts;
    const size_t steps = run->inputs->steps, h = mmdit->denoiser->hidden;
    const size_t S = run->image_tokens, L = run->context_tokens, T = S + L;
    const size_t patch_width = larger(parts->patch->in, parts->final->out);
    size_t used = 0;

    for (size_t b = 0; b < run->n_branches; b++) {
        carve_branch(mmdit, &run->branches[b], block, &used);
    }
    run->position = carve(block, &used, S * h);
    run->features = carve(block, &used, steps * parts->time[0]->in);
    run->hidden = carve(block, &used, steps * h);
    run->modulated = carve(block, &used, steps * h);
    run->pooled[0] = carve(block, &used, h);
    run->pooled[1] = carve(block, &used, h);
    run->x = carve(block, &used, S * h);
    run->context = carve(block, &used, L * h);
    run->narrow = carve(block, &used, larger(S, L) * h);
    run->wide =
        carve(block, &used,
              larger(larger(T * 3 * h, S * patch_width), larger(S, L) * widest_hidden(mmdit)));
    run->attended = carve(block, &used, T * h);
    run->attended2 = carve(block, &used, has_dual(mmdit->denoiser) ? S * h : 0);
    return used;
}

static oct_status allocate_run(oct_mmdit *mmdit, oct_err *err)
{
    oct_mmdit_run *run = mmdit->run;
    for (size_t b = 0; b < run->n_branches; b++) {
        run->branches[b].blocks =
            calloc((size_t)mmdit->denoiser->depth, sizeof *run->branches[b].blocks);
        if (!run->branches[b].blocks) return oct_fail(err, OCT_ENOMEM, "out of memory");
    }
    const size_t floats = carve_run(mmdit, NULL);
    run->block = malloc(floats * sizeof *run->block);
    if (!run->block) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for %zu MiB of activations and modulation",
                        floats * sizeof *run->block >> 20);
    }
    carve_run(mmdit, run->block);
    return OCT_OK;
}

static oct_status check_grid(const oct_mmdit *mmdit, oct_err *err)
{
    const oct_mmdit_run *run = mmdit->run;
    const size_t side = mmdit->denoiser->table_side;
    if (run->grid_height <= side && run->grid_width <= side) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "a picture of %zux%zu patches is larger than the model's position table, "
                    "%zux%zu",
                    run->grid_width, run->grid_height, side, side);
}

static oct_status start_run(oct_mmdit *mmdit, const oct_mmdit_inputs *inputs, oct_err *err)
{
    const size_t patch = mmdit->denoiser->patch;
    assert(inputs->latent_height % patch == 0 && inputs->latent_width % patch == 0);
    assert(inputs->latent_height > 0 && inputs->latent_width > 0 && inputs->steps > 0);
    oct_mmdit_run *run = mmdit->run = calloc(1, sizeof *run);
    if (!run) return oct_fail(err, OCT_ENOMEM, "out of memory");
    run->inputs = inputs;
    run->grid_height = inputs->latent_height / patch;
    run->grid_width = inputs->latent_width / patch;
    run->image_tokens = run->grid_height * run->grid_width;
    run->n_branches = inputs->branches[1] ? 2 : 1;
    for (size_t b = 0; b < run->n_branches; b++) {
        const oct_conditioning *conditioning = inputs->branches[b];
        assert(conditioning->width == mmdit->denoiser->context_width);
        assert(conditioning->pooled_width == mmdit->denoiser->pooled_width);
        run->branches[b].context_tokens = conditioning->tokens;
        run->context_tokens = larger(run->context_tokens, conditioning->tokens);
    }
    const oct_status st = check_grid(mmdit, err);
    return st ? st : allocate_run(mmdit, err);
}

// Read the centre of the position table: one run of elements per row of patches.
static oct_status read_positions(const oct_mmdit *mmdit, oct_err *err)
{
    const oct_mmdit_run *run = mmdit->run;
    const oct_ckpt_tensor *stored = mmdit->table->parts[0].stored;
    const size_t side = mmdit->denoiser->table_side, h = mmdit->denoiser->hidden;
    const size_t top = (side - run->grid_height) / 2, left = (side - run->grid_width) / 2;
    const size_t count = run->grid_width * h;
    const size_t element = oct_dtype_bits(mmdit->table->dtype) / 8;
    oct_status st = OCT_OK;

    void *row = malloc(count * element);
    if (!row) return oct_fail(err, OCT_ENOMEM, "out of memory for a row of positions");
    for (size_t y = 0; y < run->grid_height && !st; y++) {
        const size_t from = ((top + y) * side + left) * h;
        st = oct_safetensors_read(stored->file, stored->tensor, from * element, count * element,
                                  row, err);
        if (!st) oct_widen(run->position + y * count, mmdit->table->dtype, row, count);
    }
    free(row);
    return st;
}

void oct_mmdit_time_features(float *out, const float *timesteps, size_t n, size_t half)
{
    const float log_period = -9.2103404f;  // -ln 10000
    for (size_t j = 0; j < half; j++) {
        const float exponent = log_period * (float)j / (float)half;
        const float frequency = (float)exp(exponent);
        for (size_t i = 0; i < n; i++) {
            const float angle = timesteps[i] * frequency;
            out[i * 2 * half + j] = cosf(angle);
            out[i * 2 * half + half + j] = sinf(angle);
        }
    }
}

static void observe_as(const oct_mmdit *mmdit, int branch, int step)
{
    oct_observer *observer = mmdit->run->inputs->observer;
    if (!observer) return;
    observer->branch = branch;
    observer->step = step;
}

static void run_linear(const oct_mmdit *mmdit, oct_linear *linear, float *y, const float *x,
                       size_t rows)
{
    assert(linear->weight);
    oct_linear_run(linear, y, x, rows, mmdit->run->inputs->observer);
}

static void embed_mlp(const oct_mmdit *mmdit, oct_linear *const mlp[2], float *y, float *hidden,
                      const float *x, size_t rows)
{
    run_linear(mmdit, mlp[0], hidden, x, rows);
    oct_activate(hidden, OCT_SILU, rows * mlp[0]->out);
    run_linear(mmdit, mlp[1], y, hidden, rows);
}

static void embed_texts(const oct_mmdit *mmdit, int b)
{
    const oct_mmdit_run *run = mmdit->run;
    const oct_conditioning *conditioning = run->inputs->branches[b];
    observe_as(mmdit, b, -2);
    run_linear(mmdit, mmdit->parts->context, run->branches[b].context, conditioning->context,
               conditioning->tokens);
    embed_mlp(mmdit, mmdit->parts->pooled, run->pooled[1], run->pooled[0], conditioning->pooled, 1);
}

// All that depends only on (step, pooled text), every step at once.
static void hoist_modulation(const oct_mmdit *mmdit, int b)
{
    const oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_parts *parts = mmdit->parts;
    const oct_mmdit_branch *branch = &run->branches[b];
    const size_t steps = run->inputs->steps, h = mmdit->denoiser->hidden;

    observe_as(mmdit, b, -1);
    embed_mlp(mmdit, parts->time, branch->c, run->hidden, run->features, steps);
    for (size_t i = 0; i < steps; i++) oct_add_gated(branch->c + i * h, run->pooled[1], NULL, 1, h);
    memcpy(run->modulated, branch->c, steps * h * sizeof *branch->c);
    oct_activate(run->modulated, OCT_SILU, steps * h);
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        const oct_mmdit_block *block = &parts->blocks[i];
        run_linear(mmdit, block->x.modulation, branch->blocks[i].x, run->modulated, steps);
        run_linear(mmdit, block->context.modulation, branch->blocks[i].context, run->modulated,
                   steps);
    }
    run_linear(mmdit, parts->final_modulation, branch->final, run->modulated, steps);
}

// The linear stays, so that what ran can still be counted.
static void drop_weight(oct_linear *linear)
{
    free(linear->weight);
    free(linear->bias);
    linear->weight = NULL;
    linear->bias = NULL;
}

static void drop_modulation(oct_mmdit *mmdit)
{
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        drop_weight(mmdit->parts->blocks[i].x.modulation);
        drop_weight(mmdit->parts->blocks[i].context.modulation);
    }
    drop_weight(mmdit->parts->final_modulation);
}

oct_status oct_mmdit_begin(oct_mmdit *mmdit, const oct_mmdit_inputs *inputs, oct_err *err)
{
    assert(!mmdit->run);
    oct_status st = start_run(mmdit, inputs, err);
    if (!st) st = read_positions(mmdit, err);
    if (st) {
        oct_mmdit_end(mmdit);
        return st;
    }
    oct_mmdit_run *run = mmdit->run;
    oct_mmdit_time_features(run->features, inputs->timesteps, inputs->steps,
                            mmdit->parts->time[0]->in / 2);
    for (int b = 0; b < (int)run->n_branches; b++) {
        embed_texts(mmdit, b);
        hoist_modulation(mmdit, b);
    }
    if (inputs->is_last) drop_modulation(mmdit);
    return OCT_OK;
}

void oct_mmdit_end(oct_mmdit *mmdit)
{
    if (!mmdit->run) return;
    free(mmdit->run->branches[0].blocks);
    free(mmdit->run->branches[1].blocks);
    free(mmdit->run->block);
    free(mmdit->run);
    mmdit->run = NULL;
}

// ---- One step.

// Feature (c, py, px) of token (gy, gx) is latent[c][p gy + py][p gx + px].
static void gather_patches(const oct_mmdit *mmdit, float *patches, const float *latent)
{
    const oct_mmdit_run *run = mmdit->run;
    const size_t p = mmdit->denoiser->patch, channels = mmdit->denoiser->channels;
    const size_t height = run->inputs->latent_height, width = run->inputs->latent_width;

    for (size_t token = 0; token < run->image_tokens; token++) {
        const size_t y = token / run->grid_width * p, x = token % run->grid_width * p;
        for (size_t c = 0; c < channels; c++) {
            for (size_t py = 0; py < p; py++) {
                const float *from = latent + (c * height + y + py) * width + x;
                for (size_t px = 0; px < p; px++) *patches++ = from[px];
            }
        }
    }
}

// Feature (py, px, c): here the channel is the fastest.
static void scatter_patches(const oct_mmdit *mmdit, float *latent, const float *patches)
{
    const oct_mmdit_run *run = mmdit->run;
    const size_t p = mmdit->denoiser->patch, channels = mmdit->denoiser->channels;
    const size_t height = run->inputs->latent_height, width = run->inputs->latent_width;

    for (size_t token = 0; token < run->image_tokens; token++) {
        const size_t y = token / run->grid_width * p, x = token % run->grid_width * p;
        for (size_t py = 0; py < p; py++) {
            for (size_t px = 0; px < p; px++) {
                for (size_t c = 0; c < channels; c++) {
                    latent[(c * height + y + py) * width + x + px] = *patches++;
                }
            }
        }
    }
}

void oct_mmdit_enter(oct_mmdit *mmdit, const float *latent, int branch)
{
    const oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_branch *b = &run->branches[branch];
    const size_t h = mmdit->denoiser->hidden;

    gather_patches(mmdit, run->wide, latent);
    run_linear(mmdit, mmdit->parts->patch, run->x, run->wide, run->image_tokens);
    oct_add_gated(run->x, run->position, NULL, run->image_tokens, h);
    memcpy(run->context, b->context, b->context_tokens * h * sizeof *b->context);
}

static void norm_heads(float *rows, const float *weight, size_t tokens, size_t h)
{
    if (!weight) return;
    for (size_t at = 0; at < h; at += OCT_MMDIT_HEAD) {
        oct_rms_norm(rows + at, weight, RMS_EPS, tokens, OCT_MMDIT_HEAD, 3 * h);
    }
}

// qkv: [tokens][3 h] of a residual stream, modulated by `shift`, `scale`.
static void project_qkv(const oct_mmdit *mmdit, const oct_mmdit_attention *attention, float *qkv,
                        const float *stream, const float *shift, const float *scale, size_t tokens)
{
    const oct_mmdit_run *run = mmdit->run;
    const size_t h = mmdit->denoiser->hidden;
    oct_layer_norm_modulate(run->narrow, stream, shift, scale, tokens, h);
    run_linear(mmdit, attention->qkv, qkv, run->narrow, tokens);
    norm_heads(qkv, attention->norm_q, tokens, h);
    norm_heads(qkv + h, attention->norm_k, tokens, h);
}

// Attention among the rows of run->wide; the first tokens_q of them ask.
static void attend(const oct_mmdit *mmdit, float *out, size_t tokens_q, size_t tokens_k)
{
    const float *qkv = mmdit->run->wide;
    const size_t h = mmdit->denoiser->hidden;
    oct_attention(&(oct_attention_args){
        .out = out,
        .out_stride = h,
        .q = qkv,
        .k = qkv + h,
        .v = qkv + 2 * h,
        .q_stride = 3 * h,
        .k_stride = 3 * h,
        .v_stride = 3 * h,
        .tokens_q = tokens_q,
        .tokens_k = tokens_k,
        .heads = h / OCT_MMDIT_HEAD,
        .head_dim = OCT_MMDIT_HEAD,
        .scale = 0.125f,
    });
}

static void add_projection(const oct_mmdit *mmdit, float *stream, oct_linear *proj,
                           const float *attended, const float *gate, size_t tokens)
{
    float *y = mmdit->run->narrow;
    run_linear(mmdit, proj, y, attended, tokens);
    oct_add_gated(stream, y, gate, tokens, mmdit->denoiser->hidden);
}

// modulation: shift, scale and gate, [3][h].
static void add_feed_forward(const oct_mmdit *mmdit, float *stream, const oct_mmdit_stream *weights,
                             const float *modulation, size_t tokens)
{
    const oct_mmdit_run *run = mmdit->run;
    const size_t h = mmdit->denoiser->hidden;
    oct_layer_norm_modulate(run->narrow, stream, modulation, modulation + h, tokens, h);
    run_linear(mmdit, weights->fc1, run->wide, run->narrow, tokens);
    oct_activate(run->wide, OCT_GELU_TANH, tokens * weights->fc1->out);
    run_linear(mmdit, weights->fc2, run->narrow, run->wide, tokens);
    oct_add_gated(stream, run->narrow, modulation + 2 * h, tokens, h);
}

// Modulation chunks of h: 0 shift, 1 scale, 2 gate of attention; 3, 4, 5 of the feed-forward; 6, 7,
// 8 of the second attention. The last block's context has the first two and is dropped afterwards,
// so that its queries need no answer.
void oct_mmdit_block_run(oct_mmdit *mmdit, int block, size_t step, int branch)
{
    const oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_block *parts = &mmdit->parts->blocks[block];
    const oct_mmdit_branch *b = &run->branches[branch];
    const size_t h = mmdit->denoiser->hidden;
    const size_t S = run->image_tokens, L = b->context_tokens;
    const float *mx = b->blocks[block].x + step * parts->x.modulation->out;
    const float *mc = b->blocks[block].context + step * parts->context.modulation->out;
    const bool keeps_context = parts->context.attn.proj != NULL;

    project_qkv(mmdit, &parts->x.attn, run->wide, run->x, mx, mx + h, S);
    project_qkv(mmdit, &parts->context.attn, run->wide + S * 3 * h, run->context, mc, mc + h, L);
    attend(mmdit, run->attended, keeps_context ? S + L : S, S + L);
    if (parts->x.attn2.qkv) {
        project_qkv(mmdit, &parts->x.attn2, run->wide, run->x, mx + 6 * h, mx + 7 * h, S);
        attend(mmdit, run->attended2, S, S);
    }
    add_projection(mmdit, run->x, parts->x.attn.proj, run->attended, mx + 2 * h, S);
    if (parts->x.attn2.qkv) {
        add_projection(mmdit, run->x, parts->x.attn2.proj, run->attended2, mx + 8 * h, S);
    }
    add_feed_forward(mmdit, run->x, &parts->x, mx + 3 * h, S);
    if (keeps_context) {
        add_projection(mmdit, run->context, parts->context.attn.proj, run->attended + S * h,
                       mc + 2 * h, L);
        add_feed_forward(mmdit, run->context, &parts->context, mc + 3 * h, L);
    }
}

void oct_mmdit_leave(oct_mmdit *mmdit, float *velocity, size_t step, int branch)
{
    const oct_mmdit_run *run = mmdit->run;
    const size_t h = mmdit->denoiser->hidden;
    const float *modulation = run->branches[branch].final + step * 2 * h;
    oct_layer_norm_modulate(run->narrow, run->x, modulation, modulation + h, run->image_tokens, h);
    run_linear(mmdit, mmdit->parts->final, run->wide, run->narrow, run->image_tokens);
    scatter_patches(mmdit, velocity, run->wide);
}

void oct_mmdit_forward(oct_mmdit *mmdit, float *v, const float *x, size_t step, int branch,
                       const bool *skipped)
{
    assert(mmdit->run && step < mmdit->run->inputs->steps);
    assert(branch >= 0 && (size_t)branch < mmdit->run->n_branches);
    observe_as(mmdit, branch, (int)step);
    oct_mmdit_enter(mmdit, x, branch);
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        if (!skipped || !skipped[i]) oct_mmdit_block_run(mmdit, i, step, branch);
    }
    oct_mmdit_leave(mmdit, v, step, branch);
}
