// SPDX-License-Identifier: Apache-2.0
//
// Names of denoiser and VAE tensors: diffusers naming to canonical naming (that of the model's
// makers) and back.
//
// One table per architecture, and one for the VAE, holds pairs of module names, in which '#' stands
// for an index. A tensor is a module and ".weight" or ".bias". Other tensors (scales, markers,
// unknown ones) keep the name they have.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "ptq/architecture.h"

typedef enum oct_slot { // where a stored tensor goes in the canonical one
    OCT_SLOT_WHOLE,
    OCT_SLOT_SWAPPED, // whole, but its two halves of rows change places
    OCT_SLOT_Q,
    OCT_SLOT_K,
    OCT_SLOT_V,
    OCT_SLOT_MLP, // after q, k and v in the fused layers of FLUX.1's single blocks
} oct_slot;

#define OCT_PARTS_MAX 4 // stored tensors that one canonical tensor is made of

#define OCT_INDEX_MAX 99999u // of a block in a name

// Whether `name` is `prefix`, an index and a dot: "joint_blocks.7.x_block" for "joint_blocks.". No
// sign, no leading zeros, at most OCT_INDEX_MAX.
bool oct_name_index(const char *name, const char *prefix, unsigned *index);

// The canonical name of the denoiser tensor that diffusers calls `name`, in the arena (or `name`
// itself), and its slot. blocks: how many there are; in SD3 the last one has swapped halves.
const char *oct_name_of_denoiser(oct_arena *arena, oct_architecture architecture, const char *name,
                                 unsigned blocks, oct_slot *slot);

// The same for a VAE; `levels` of the decoder run the other way round. A SAI name is its own
// canonical name. *is_flat: a linear layer there is a 1x1 convolution here.
const char *oct_name_of_vae(oct_arena *arena, const char *name, unsigned levels, bool *is_flat);

// The diffusers names of a canonical layer, in the arena; the rest NULL. One, or three or four for
// fused ones (q, k, v and the feed-forward part). Returns how many.
size_t oct_name_in_diffusers(oct_arena *arena, oct_architecture architecture, const char *layer,
                             const char *names[OCT_PARTS_MAX]);

bool oct_name_ends_with(const char *name, const char *ending);

#define OCT_FP8_MARKER "scaled_fp8" // of comfy-legacy, one per component

// Whether `name` is a scale or a marker of one layer in any FP8 dialect ("<layer>.weight_scale").
// The layer's name goes to `layer`; false when it does not fit.
bool oct_name_of_scaled_layer(const char *name, char *layer, size_t bytes);
