// SPDX-License-Identifier: Apache-2.0
//
// Keeping what each step leaves: "0001.safetensors" with the latent and "0001.png" with a preview.
#pragma once

#include <stddef.h>

#include "common/status.h"

typedef struct oct_step_saver {
    const char *folder;              // exists
    size_t channels, width, height;  // of the latent
} oct_step_saver;

// Save the latent after step number `step` (from 0), at noise level `sigma`. The file holds one F32
// tensor "latent" [channels][height][width] and the metadata "step" (from 1) and "sigma". Latents
// of other than 16 channels get no preview.
oct_status oct_step_save(const oct_step_saver *saver, size_t step, float sigma, const float *latent,
                         oct_err *err);
