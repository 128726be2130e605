// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/work.h"

#define BRANCHES 2
#define PASSES 12  // norm 1; heads 4; gate, residual and norm 4; gate and residual 3

static bool is_of_block(const oct_layer *layer)
{
    return layer->role == OCT_ROLE_ATTN_QKV || layer->role == OCT_ROLE_ATTN_PROJ ||
           layer->role == OCT_ROLE_MLP_FC1 || layer->role == OCT_ROLE_MLP_FC2;
}

static bool is_fp8(const oct_device *device, const oct_linear *linear)
{
    return device->has_fp8 && linear->dtype == OCT_F8_E4M3 && linear->input_scale > 0;
}

static void add_products(step_work *work, const oct_pipeline *p, double image, double text)
{
    for (size_t i = 0; i < p->denoiser.n_layers; i++) {
        const oct_layer *layer = &p->denoiser.layers[i];
        const oct_linear *linear = &p->mmdit.linears[i];
        if (!is_of_block(layer)) continue;
        const double rows = layer->stream == OCT_STREAM_TEXT ? text : image;
        const double flop = 2 * rows * (double)layer->out_features * (double)layer->in_features;
        *(is_fp8(p->device, linear) ? &work->flop_fp8 : &work->flop_16bit) += BRANCHES * flop;
    }
}

// In the last block nobody reads what the text's queries would find.
static void add_attention(step_work *work, const oct_denoiser *d, double image, double text)
{
    for (int block = 0; block < d->depth; block++) {
        const double queries = image + (block + 1 < d->depth ? text : 0);
        const double pairs =
            queries * (image + text) + (d->is_dual && d->is_dual[block] ? image * image : 0);
        work->flop_attention += BRANCHES * 4 * pairs * (double)d->hidden;
    }
}

step_work step_work_of(const oct_pipeline *pipeline, size_t image_tokens, size_t text_tokens)
{
    const oct_denoiser *d = &pipeline->denoiser;
    const double image = (double)image_tokens, text = (double)text_tokens;
    step_work work = {0};

    add_products(&work, pipeline, image, text);
    add_attention(&work, d, image, text);
    work.least_bytes =
        BRANCHES * 2.0 * PASSES * (image + text) * (double)d->hidden * (double)d->depth;
    return work;
}
