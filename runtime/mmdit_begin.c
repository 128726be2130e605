// SPDX-License-Identifier: Apache-2.0
//
// What the MMDiT does once per picture: memory, positions, texts, and all modulation.
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "runtime/mmdit_internal.h"

// ---- Memory.

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool has_dual(const oct_denoiser *denoiser)
{
    for (int i = 0; i < denoiser->depth; i++) {
        if (denoiser->is_dual[i]) return true;
    }
    return false;
}

typedef struct widths {
    size_t x_hidden, context_hidden;  // of the feed-forward
    size_t modulation;
} widths;

static widths find_widest(const oct_mmdit *mmdit)
{
    widths w = {.modulation = mmdit->parts->final_modulation->out};
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        const oct_mmdit_block *block = &mmdit->parts->blocks[i];
        w.x_hidden = larger(w.x_hidden, block->x.fc1->out);
        if (block->context.fc1)
            w.context_hidden = larger(w.context_hidden, block->context.fc1->out);
        w.modulation = larger(w.modulation, block->x.modulation->out);
        w.modulation = larger(w.modulation, block->context.modulation->out);
    }
    return w;
}

static void carve_tokens(oct_mmdit_tokens *tokens, oct_carver *c, size_t n, size_t h, size_t hidden,
                         size_t patch)
{
    tokens->residual = oct_carve_f32(c, n * h);
    tokens->input = oct_carve_f32(c, n * h);
    tokens->attended = oct_carve_f32(c, n * h);
    tokens->hidden = oct_carve_f32(c, n * larger(hidden, patch));
    tokens->scratch = oct_carve_scratch(c, n * hidden);
    tokens->y = oct_carve_activation(c, n * larger(h, patch));
}

// What is only used before the first step.
static void carve_embedders(const oct_mmdit *mmdit, oct_carver *c, size_t widest_modulation)
{
    oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_parts *parts = mmdit->parts;
    const size_t steps = run->inputs->steps, h = mmdit->denoiser->hidden;
    const size_t raw =
        larger(larger(run->context_tokens * parts->context->in, parts->pooled[0]->in),
               steps * parts->time[0]->in);

    run->modulated = oct_carve_f32(c, steps * h);
    run->pooled = oct_carve_f32(c, h);
    run->raw = oct_carve_f32(c, raw);
    run->embedded[0] = oct_carve_f32(c, larger(raw, steps * h));
    run->embedded[1] = oct_carve_f32(c, steps * h);
    run->embed_scratch = oct_carve_scratch(c, steps * h);
    run->rows = oct_carve_f32(c, steps * widest_modulation);
}

// Lay out all memory of a run; returns how many bytes that takes.
static size_t carve_run(const oct_mmdit *mmdit, void *block)
{
    oct_mmdit_run *run = mmdit->run;
    const size_t steps = run->inputs->steps, h = mmdit->denoiser->hidden;
    const size_t S = run->image_tokens, L = run->context_tokens;
    const size_t patch = larger(mmdit->parts->patch->in, mmdit->parts->final->out);
    const widths w = find_widest(mmdit);
    oct_carver c = {.device = mmdit->device, .block = block};

    for (size_t b = 0; b < run->n_branches; b++) {
        oct_mmdit_branch *branch = &run->branches[b];
        branch->context = oct_carve_f32(&c, branch->context_tokens * h);
        branch->c = oct_carve_f32(&c, steps * h);
        branch->modulation = oct_carve_f32(&c, steps * run->modulation_width);
    }
    run->current = oct_carve_f32(&c, run->modulation_width);
    run->position = oct_carve_f32(&c, S * h);
    carve_embedders(mmdit, &c, w.modulation);
    carve_tokens(&run->image, &c, S, h, w.x_hidden, patch);
    carve_tokens(&run->text, &c, L, h, w.context_hidden, 0);
    run->qkv = oct_carve_activation(&c, (S + L) * 3 * h);
    run->attended2 = has_dual(mmdit->denoiser) ? oct_carve_f32(&c, S * h) : NULL;
    return c.used;
}

// Where each layer's modulation is in that of a step.
static oct_status lay_out_modulation(oct_mmdit *mmdit, oct_err *err)
{
    oct_mmdit_run *run = mmdit->run;
    const size_t depth = (size_t)mmdit->denoiser->depth;
    size_t used = 0;

    run->offsets = calloc(depth, sizeof *run->offsets);
    if (!run->offsets) return oct_fail(err, OCT_ENOMEM, "out of memory");
    for (size_t i = 0; i < depth; i++) {
        run->offsets[i].x = used;
        used += mmdit->parts->blocks[i].x.modulation->out;
        run->offsets[i].context = used;
        used += mmdit->parts->blocks[i].context.modulation->out;
    }
    run->final_offset = used;
    run->modulation_width = used + mmdit->parts->final_modulation->out;
    return OCT_OK;
}

static oct_status allocate_run(oct_mmdit *mmdit, oct_err *err)
{
    oct_device *device = mmdit->device;
    oct_mmdit_run *run = mmdit->run;

    oct_status st = lay_out_modulation(mmdit, err);
    if (st) return st;
    st = device->ops->alloc(device, &run->block, carve_run(mmdit, NULL),
                            "activations and modulation", err);
    if (!st) carve_run(mmdit, run->block);
    return st;
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

// ---- Positions.

// Read the centre of the position table: one run of elements per row of patches.
static oct_status read_positions(const oct_mmdit *mmdit, oct_err *err)
{
    const oct_mmdit_run *run = mmdit->run;
    oct_device *device = mmdit->device;
    const oct_ckpt_tensor *stored = mmdit->table->parts[0].stored;
    const size_t side = mmdit->denoiser->table_side, h = mmdit->denoiser->hidden;
    const size_t top = (side - run->grid_height) / 2, left = (side - run->grid_width) / 2;
    const size_t count = run->grid_width * h;
    const size_t element = oct_dtype_bits(mmdit->table->dtype) / 8;
    oct_status st = OCT_OK;

    void *row = malloc(count * element);
    float *wide = malloc(count * sizeof *wide);
    if (!row || !wide) st = oct_fail(err, OCT_ENOMEM, "out of memory for a row of positions");
    for (size_t y = 0; y < run->grid_height && !st; y++) {
        const size_t from = ((top + y) * side + left) * h;
        st = oct_safetensors_read(stored->file, stored->tensor, from * element, count * element,
                                  row, err);
        if (st) break;
        oct_widen(wide, mmdit->table->dtype, row, count);
        device->ops->write(device, run->position + y * count, wide, count * sizeof *wide);
    }
    free(row);
    free(wide);
    return st;
}

// ---- Embedding.

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

void oct_mmdit_observe_as(const oct_mmdit *mmdit, int branch, int step)
{
    oct_observer *observer = mmdit->run->inputs->observer;
    if (!observer) return;
    observer->branch = branch;
    observer->step = step;
}

// x: [rows][linear->in] on the host, as the layer's input.
static oct_operand embed_input(const oct_mmdit *mmdit, const oct_linear *linear, const float *x,
                               size_t rows)
{
    oct_device *device = mmdit->device;
    oct_mmdit_run *run = mmdit->run;
    const size_t n = rows * linear->in;
    const oct_operand input = device->ops->operand(device, linear, run->embedded[0]);

    device->ops->write(device, run->raw, x, n * sizeof *x);
    device->ops->convert(device, input, run->raw, n);
    return input;
}

static void embed_mlp(const oct_mmdit *mmdit, oct_linear *const mlp[2], float *y, const float *x,
                      size_t rows)
{
    oct_device *device = mmdit->device;
    oct_mmdit_run *run = mmdit->run;
    const oct_operand input = embed_input(mmdit, mlp[0], x, rows);
    const oct_operand hidden = device->ops->operand(device, mlp[1], run->embedded[1]);

    device->ops->linear_activate(device, mlp[0], hidden, OCT_SILU, run->embed_scratch, input, rows);
    device->ops->linear(device, mlp[1], y, true, hidden, rows);
}

static void embed_texts(const oct_mmdit *mmdit, int b)
{
    const oct_mmdit_run *run = mmdit->run;
    oct_device *device = mmdit->device;
    const oct_conditioning *conditioning = run->inputs->branches[b];
    oct_linear *linear = mmdit->parts->context;

    oct_mmdit_observe_as(mmdit, b, -2);
    const oct_operand input =
        embed_input(mmdit, linear, conditioning->context, conditioning->tokens);
    device->ops->linear(device, linear, run->branches[b].context, true, input,
                        conditioning->tokens);
    embed_mlp(mmdit, mmdit->parts->pooled, run->pooled, conditioning->pooled, 1);
}

// c: the conditioning vector of every step.
static void embed_steps(const oct_mmdit *mmdit, float *c, const float *features)
{
    oct_device *device = mmdit->device;
    const oct_mmdit_run *run = mmdit->run;
    const size_t steps = run->inputs->steps, h = mmdit->denoiser->hidden;

    embed_mlp(mmdit, mmdit->parts->time, c, features, steps);
    for (size_t i = 0; i < steps; i++) {
        device->ops->add_gated(device, c + i * h, run->pooled, true, NULL, 1, h);
    }
    device->ops->activate(device, oct_operand_f32(run->modulated), OCT_SILU, c, steps * h);
}

// ---- Modulation.

// A layer's modulation for all steps, to where each step has it.
static void modulate(const oct_mmdit *mmdit, oct_linear *linear, float *modulation, size_t offset)
{
    oct_device *device = mmdit->device;
    const oct_mmdit_run *run = mmdit->run;
    const size_t steps = run->inputs->steps;
    const oct_operand input = device->ops->operand(device, linear, run->embedded[0]);

    device->ops->convert(device, input, run->modulated, steps * linear->in);
    device->ops->linear(device, linear, run->rows, true, input, steps);
    for (size_t i = 0; i < steps; i++) {
        device->ops->copy(device, modulation + i * run->modulation_width + offset,
                          run->rows + i * linear->out, linear->out * sizeof *run->rows);
    }
}

// All that depends only on (step, pooled text), every step at once.
static void hoist_modulation(const oct_mmdit *mmdit, int b, const float *features)
{
    const oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_parts *parts = mmdit->parts;
    oct_device *device = mmdit->device;
    float *modulation = run->branches[b].modulation;
    const int depth = mmdit->denoiser->depth;

    oct_mmdit_observe_as(mmdit, b, -1);
    embed_steps(mmdit, run->branches[b].c, features);
    for (int i = 0; i < depth; i++) {
        device->ops->enter_group(device, depth + i);
        modulate(mmdit, parts->blocks[i].x.modulation, modulation, run->offsets[i].x);
        modulate(mmdit, parts->blocks[i].context.modulation, modulation, run->offsets[i].context);
    }
    device->ops->enter_group(device, -1);
    modulate(mmdit, parts->final_modulation, modulation, run->final_offset);
}

static void drop_modulation(oct_mmdit *mmdit)
{
    oct_device *device = mmdit->device;
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        device->ops->drop(device, mmdit->parts->blocks[i].x.modulation);
        device->ops->drop(device, mmdit->parts->blocks[i].context.modulation);
    }
    device->ops->drop(device, mmdit->parts->final_modulation);
}

// ---- All of it.

static oct_status compute(oct_mmdit *mmdit, oct_err *err)
{
    const oct_mmdit_inputs *inputs = mmdit->run->inputs;
    const size_t width = mmdit->parts->time[0]->in;
    float *features = malloc(inputs->steps * width * sizeof *features);
    if (!features) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu steps", inputs->steps);

    oct_mmdit_time_features(features, inputs->timesteps, inputs->steps, width / 2);
    for (int b = 0; b < (int)mmdit->run->n_branches; b++) {
        embed_texts(mmdit, b);
        hoist_modulation(mmdit, b, features);
    }
    free(features);
    return OCT_OK;
}

oct_status oct_mmdit_begin(oct_mmdit *mmdit, const oct_mmdit_inputs *inputs, oct_err *err)
{
    assert(!mmdit->run);
    oct_status st = start_run(mmdit, inputs, err);
    if (!st) st = read_positions(mmdit, err);
    if (!st) st = mmdit->device->ops->sync(mmdit->device, err);
    if (!st) {
        mmdit->device->observer = inputs->observer;
        st = compute(mmdit, err);
    }
    if (st) {
        oct_mmdit_end(mmdit);
        return st;
    }
    if (inputs->is_last) drop_modulation(mmdit);
    return OCT_OK;
}

void oct_mmdit_end(oct_mmdit *mmdit)
{
    oct_device *device = mmdit->device;

    if (!mmdit->run) return;
    device->ops->forget(device);
    device->observer = NULL;
    device->ops->release(device, mmdit->run->block);
    free(mmdit->run->offsets);
    free(mmdit->run);
    mmdit->run = NULL;
}
