// SPDX-License-Identifier: Apache-2.0
//
// Architectures: what a checkpoint is, by the names of its tensors.
#pragma once

#include <stdbool.h>

#include "common/checkpoint.h"

typedef enum oct_architecture {
    OCT_ARCH_NONE,     // none that is known
    OCT_ARCH_SD3,      // SD3 and SD3.5, any depth
    OCT_ARCH_FLUX,     // FLUX.1: dev, schnell, Kontext, Fill, Canny, Depth
    OCT_ARCH_LTX,      // LTX-Video
    OCT_ARCH_T5,       // a T5 encoder without a denoiser
    OCT_ARCH_GENERIC,  // layers by shape alone, only where it is asked for
} oct_architecture;

const char *oct_architecture_name(oct_architecture architecture);  // "FLUX.1", "none", ...

// The architecture of the checkpoint's denoiser; T5 where it has none but a T5.
// *is_diffusers_named: its names are those of huggingface/diffusers, not those of the model's
// makers.
oct_architecture oct_architecture_find(const oct_checkpoint *ckpt, bool *is_diffusers_named);

// What a checkpoint of no known architecture looks like ("Stable Diffusion 1, 2 or XL"); NULL when
// nothing is recognised.
const char *oct_architecture_guess(const oct_checkpoint *ckpt);
