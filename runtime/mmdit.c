// SPDX-License-Identifier: Apache-2.0
//
// The MMDiT's forward pass. Formulas: Stability-AI/sd3.5.
#include "runtime/mmdit.h"

#include <assert.h>

#include "runtime/mmdit_internal.h"

void oct_mmdit_select(oct_mmdit *mmdit, size_t step, int branch)
{
    const oct_mmdit_run *run = mmdit->run;
    const size_t width = run->modulation_width;

    oct_mmdit_observe_as(mmdit, branch, (int)step);
    mmdit->device->ops->copy(mmdit->device, run->current,
                             run->branches[branch].modulation + step * width,
                             width * sizeof *run->current);
}

static oct_map_shape latent_shape(const oct_mmdit *mmdit)
{
    const oct_mmdit_inputs *inputs = mmdit->run->inputs;
    return (oct_map_shape){mmdit->denoiser->channels, inputs->latent_height, inputs->latent_width};
}

void oct_mmdit_enter(oct_mmdit *mmdit, const float *latent, int branch)
{
    oct_device *device = mmdit->device;
    const oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_branch *b = &run->branches[branch];
    oct_linear *patch = mmdit->parts->patch;
    const size_t h = mmdit->denoiser->hidden, S = run->image_tokens;
    const oct_operand patches = device->ops->operand(device, patch, run->image.hidden);

    device->ops->patchify(device, patches, latent, latent_shape(mmdit), mmdit->denoiser->patch);
    device->ops->linear(device, patch, run->image.residual, true, patches, S);
    device->ops->add_gated(device, run->image.residual, run->position, true, NULL, S, h);
    device->ops->copy(device, run->text.residual, b->context,
                      b->context_tokens * h * sizeof *b->context);
}

// qkv: [n][3 h] of a residual stream, modulated by shift and scale, [2][h].
static void project_qkv(const oct_mmdit *mmdit, oct_linear *linear, void *qkv,
                        const oct_mmdit_tokens *tokens, const float *modulation, size_t n)
{
    oct_device *device = mmdit->device;
    const size_t h = mmdit->denoiser->hidden;
    const oct_operand input = device->ops->operand(device, linear, tokens->input);

    device->ops->layer_norm_modulate(device, input, tokens->residual, modulation, modulation + h, n,
                                     h);
    device->ops->linear(device, linear, qkv, false, input, n);
}

static void add_projection(const oct_mmdit *mmdit, const oct_mmdit_tokens *tokens, oct_linear *proj,
                           oct_operand attended, const float *gate, size_t n)
{
    oct_device *device = mmdit->device;

    device->ops->linear(device, proj, tokens->y, false, attended, n);
    device->ops->add_gated(device, tokens->residual, tokens->y, false, gate, n,
                           mmdit->denoiser->hidden);
}

// modulation: shift, scale and gate, [3][h].
static void add_feed_forward(const oct_mmdit *mmdit, const oct_mmdit_tokens *tokens,
                             const oct_mmdit_stream *weights, const float *modulation, size_t n)
{
    oct_device *device = mmdit->device;
    const size_t h = mmdit->denoiser->hidden;
    const oct_operand input = device->ops->operand(device, weights->fc1, tokens->input);
    const oct_operand hidden = device->ops->operand(device, weights->fc2, tokens->hidden);

    device->ops->layer_norm_modulate(device, input, tokens->residual, modulation, modulation + h, n,
                                     h);
    device->ops->linear_activate(device, weights->fc1, hidden, OCT_GELU_TANH, tokens->scratch,
                                 input, n);
    device->ops->linear(device, weights->fc2, tokens->y, false, hidden, n);
    device->ops->add_gated(device, tokens->residual, tokens->y, false, modulation + 2 * h, n, h);
}

// ---- A block. Modulation chunks of h: 0 shift, 1 scale, 2 gate of attention; 3, 4, 5 of the
// feed-forward; 6, 7, 8 of the second attention. The last block's context has the first two and is
// dropped afterwards, so that its queries need no answer.

typedef struct block_run {
    const oct_mmdit *mmdit;
    const oct_mmdit_block *weights;
    const float *mx, *mc;  // modulation of image and text
    size_t n_image, n_text;
    oct_operand image, text;  // what attention gives; text.data is NULL in the last block
} block_run;

static void attend(const block_run *b)
{
    oct_device *device = b->mmdit->device;
    const oct_mmdit_run *run = b->mmdit->run;
    const oct_mmdit_attention *x = &b->weights->x.attn, *context = &b->weights->context.attn;
    const size_t h = b->mmdit->denoiser->hidden;
    const size_t row_bytes = 3 * h * oct_dtype_bits(device->activation) / 8;
    char *qkv = run->qkv;

    device->ops->fork(device);
    device->ops->use(device, OCT_STREAM_SIDE);
    project_qkv(b->mmdit, context->qkv, qkv + b->n_image * row_bytes, &run->text, b->mc, b->n_text);
    device->ops->use(device, OCT_STREAM_MAIN);
    project_qkv(b->mmdit, x->qkv, qkv, &run->image, b->mx, b->n_image);
    device->ops->join(device);
    device->ops->joint_attention(
        device, &(oct_joint_attention){
                    .qkv = qkv,
                    .heads = h / OCT_HEAD,
                    .n_streams = 2,
                    .is_fp8 = run->inputs->has_fp8_attention,
                    .streams = {{b->n_image, x->norm_q, x->norm_k, b->image},
                                {b->n_text, context->norm_q, context->norm_k, b->text}},
                });
}

// The image among itself.
static oct_operand attend_again(const block_run *b)
{
    oct_device *device = b->mmdit->device;
    const oct_mmdit_run *run = b->mmdit->run;
    const oct_mmdit_attention *x = &b->weights->x.attn2;
    const size_t h = b->mmdit->denoiser->hidden;
    const oct_operand out = device->ops->operand(device, x->proj, run->attended2);

    project_qkv(b->mmdit, x->qkv, run->qkv, &run->image, b->mx + 6 * h, b->n_image);
    device->ops->joint_attention(device, &(oct_joint_attention){
                                             .qkv = run->qkv,
                                             .heads = h / OCT_HEAD,
                                             .n_streams = 1,
                                             .is_fp8 = run->inputs->has_fp8_attention,
                                             .streams = {{b->n_image, x->norm_q, x->norm_k, out}},
                                         });
    return out;
}

static void finish_text(const block_run *b)
{
    const oct_mmdit_tokens *text = &b->mmdit->run->text;
    const oct_mmdit_stream *weights = &b->weights->context;
    const size_t h = b->mmdit->denoiser->hidden;

    add_projection(b->mmdit, text, weights->attn.proj, b->text, b->mc + 2 * h, b->n_text);
    add_feed_forward(b->mmdit, text, weights, b->mc + 3 * h, b->n_text);
}

// The second attention reads the residual as it was before the first one is added.
static void finish_image(const block_run *b)
{
    const oct_mmdit_tokens *image = &b->mmdit->run->image;
    const oct_mmdit_stream *weights = &b->weights->x;
    const size_t h = b->mmdit->denoiser->hidden, n = b->n_image;
    const bool is_dual = weights->attn2.qkv != NULL;
    oct_operand again = {0};

    if (is_dual) again = attend_again(b);
    add_projection(b->mmdit, image, weights->attn.proj, b->image, b->mx + 2 * h, n);
    if (is_dual) add_projection(b->mmdit, image, weights->attn2.proj, again, b->mx + 8 * h, n);
    add_feed_forward(b->mmdit, image, weights, b->mx + 3 * h, n);
}

void oct_mmdit_block_run(oct_mmdit *mmdit, int block, int branch)
{
    oct_device *device = mmdit->device;
    const oct_mmdit_run *run = mmdit->run;
    const oct_mmdit_block *weights = &mmdit->parts->blocks[block];
    oct_linear *text_proj = weights->context.attn.proj;
    block_run b = {
        .mmdit = mmdit,
        .weights = weights,
        .mx = run->current + run->offsets[block].x,
        .mc = run->current + run->offsets[block].context,
        .n_image = run->image_tokens,
        .n_text = run->branches[branch].context_tokens,
        .image = device->ops->operand(device, weights->x.attn.proj, run->image.attended),
    };

    if (text_proj) b.text = device->ops->operand(device, text_proj, run->text.attended);
    device->ops->enter_group(device, block);
    attend(&b);
    if (text_proj) {
        device->ops->fork(device);
        device->ops->use(device, OCT_STREAM_SIDE);
        finish_text(&b);
        device->ops->use(device, OCT_STREAM_MAIN);
    }
    finish_image(&b);
    if (text_proj) device->ops->join(device);
}

// ---- A pass.

void oct_mmdit_leave(oct_mmdit *mmdit, float *velocity)
{
    oct_device *device = mmdit->device;
    const oct_mmdit_run *run = mmdit->run;
    const size_t h = mmdit->denoiser->hidden, S = run->image_tokens;
    const float *modulation = run->current + run->final_offset;
    oct_linear *final = mmdit->parts->final;
    const oct_operand input = device->ops->operand(device, final, run->image.input);

    device->ops->layer_norm_modulate(device, input, run->image.residual, modulation, modulation + h,
                                     S, h);
    device->ops->linear(device, final, run->image.y, false, input, S);
    device->ops->unpatchify(device, velocity, run->image.y, latent_shape(mmdit),
                            mmdit->denoiser->patch);
}

typedef struct pass {
    oct_mmdit *mmdit;
    float *v;
    const float *x;
    int branch;
    const bool *skipped;
} pass;

static void run_pass(void *context)
{
    const pass *p = context;
    oct_mmdit *mmdit = p->mmdit;

    oct_mmdit_enter(mmdit, p->x, p->branch);
    for (int i = 0; i < mmdit->denoiser->depth; i++) {
        if (!p->skipped || !p->skipped[i]) oct_mmdit_block_run(mmdit, i, p->branch);
    }
    mmdit->device->ops->enter_group(mmdit->device, -1);
    oct_mmdit_leave(mmdit, p->v);
}

void oct_mmdit_forward(oct_mmdit *mmdit, float *v, const float *x, size_t step, int branch,
                       const bool *skipped)
{
    pass p = {mmdit, v, x, branch, skipped};

    assert(mmdit->run && step < mmdit->run->inputs->steps);
    assert(branch >= 0 && (size_t)branch < mmdit->run->n_branches && (!skipped || branch == 0));
    const int slot = skipped ? OCT_SLOT_SKIPPED : branch == 0 ? OCT_SLOT_COND : OCT_SLOT_UNCOND;
    oct_mmdit_select(mmdit, step, branch);
    mmdit->device->ops->run(mmdit->device, slot, run_pass, &p);
}
