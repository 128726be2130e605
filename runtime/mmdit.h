// SPDX-License-Identifier: Apache-2.0
//
// MMDiT and MMDiT-X: the denoiser, one latent and one guidance branch at a time. Formulas:
// Stability-AI/sd3.5; checked against huggingface/diffusers.
//
// Modulation is hoisted: everything that adaLN computes depends only on (step, pooled text), so
// oct_mmdit_begin() computes it for all steps before the loop.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "ptq/layers.h"
#include "ptq/plan.h"
#include "ptq/source.h"
#include "runtime/conditioning.h"
#include "runtime/device.h"
#include "runtime/linear.h"
#include "runtime/observe.h"

// What each pass is called in oct_device_ops.run(). Callers that run something beside the MMDiT
// number theirs from OCT_MMDIT_SLOTS.
enum { OCT_SLOT_COND, OCT_SLOT_UNCOND, OCT_SLOT_SKIPPED, OCT_MMDIT_SLOTS };

typedef struct oct_mmdit {
    oct_device *device;               // borrowed
    const oct_denoiser *denoiser;     // borrowed
    oct_linear *linears;              // [denoiser->n_layers], by layer index, owned
    struct oct_mmdit_parts *parts;    // which linear is where; qk-norm weights; owned
    const oct_source_tensor *table;   // pos_embed; only the crop is ever read
    struct oct_mmdit_run *run;        // between begin and end, owned
} oct_mmdit;

// With a plan, layers are quantized as they are loaded. The source must stay open.
oct_status oct_mmdit_load(oct_mmdit *mmdit, oct_device *device, const oct_source *source,
                          const oct_denoiser *denoiser, const oct_plan *plan, oct_err *err);
void oct_mmdit_deinit(oct_mmdit *mmdit);

typedef struct oct_mmdit_inputs {
    size_t latent_height, latent_width;             // multiples of the patch
    const oct_conditioning *branches[2];            // conditional, unconditional or NULL
    const float *timesteps;                         // [steps], 1000 sigma
    size_t steps;
    oct_observer *observer;                         // or NULL
    bool has_fp8_attention;                         // as oct_joint_attention.is_fp8
    bool is_last;                                   // modulation weights are dropped after begin
} oct_mmdit_inputs;

// Crop the position table, embed the contexts, compute all modulation. OCT_EUNSUPPORTED when the
// image is larger than the table. `inputs` is borrowed until end.
oct_status oct_mmdit_begin(oct_mmdit *mmdit, const oct_mmdit_inputs *inputs, oct_err *err);

// v = velocity of x at `step` for `branch`; x, v: [channels][latent_height][latent_width] on the
// device, F32. skipped: [depth] blocks to leave out, for branch 0, or NULL. Between begin and end
// x, v and `skipped` of one kind of pass are always the same ones.
void oct_mmdit_forward(oct_mmdit *mmdit, float *v, const float *x, size_t step, int branch,
                       const bool *skipped);

// What observers saw is only complete when the device was synchronized before.
void oct_mmdit_end(oct_mmdit *mmdit);
