// SPDX-License-Identifier: Apache-2.0
//
// Decoding a picture in overlapping tiles, as huggingface/diffusers does: for pictures whose
// feature maps have no room in memory.
//
// Norms and attention see one tile at a time, so the picture is not quite that of oct_vae_decode().
// Each tile begins three quarters of a side after the one before. Where two overlap, the tile fades
// from the one above it to itself, then from the one on its left.
#pragma once

#include <stddef.h>

#include "common/status.h"
#include "runtime/vae.h"

// As oct_vae_decode(), in tiles of `side` x `side` latents, a multiple of 4 and not 0; rests at the
// right and at the bottom are smaller tiles. What is not larger than one tile is decoded whole.
oct_status oct_vae_decode_tiled(oct_vae *vae, const float *z, size_t height, size_t width,
                                size_t side, float *image, oct_err *err);
