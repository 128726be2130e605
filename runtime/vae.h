// SPDX-License-Identifier: Apache-2.0
//
// The SD3 VAE (16 channels, GroupNorm of 32), any widths and depths, read from the tensors.
//
// The denoiser's latent and the VAE's are related by z = latent / 1.5305 + 0.0609. These constants
// and the number of groups are those of vae/config.json in a diffusers folder that states them, as
// is the side of a tile, for oct_vae_decode_tiled().
#pragma once

#include <stddef.h>

#include "common/status.h"
#include "ptq/source.h"
#include "runtime/device.h"

typedef struct oct_vae {
    oct_device *device;                  // borrowed
    size_t latent_channels, downscale;   // 16 and 8 for SD3.5
    size_t tile_side;                    // latents, a multiple of 4: 128 for SD3.5
    float scaling_factor, shift_factor;
    struct oct_vae_weights *weights;     // owned
} oct_vae;

// OCT_EUNSUPPORTED when there is no VAE, or one of another family; OCT_EFORMAT names a tensor that is
// missing or misshapen. The source may be closed afterwards.
oct_status oct_vae_load(oct_vae *vae, oct_device *device, oct_source *source, oct_err *err);
void oct_vae_deinit(oct_vae *vae);

// All numbers of the host. z: [latent_channels][height][width] in VAE space. image: [3][downscale * height][downscale *
// width], about -1..1, not clamped. OCT_ENOMEM when the workspace cannot be had.
oct_status oct_vae_decode(oct_vae *vae, const float *z, size_t height, size_t width, float *image,
                          oct_err *err);

// The encoder: image [3][height][width] in -1..1 to mean and log variance, [2 *
// latent_channels][height / downscale][width / downscale]. height and width are multiples of
// downscale. OCT_EUNSUPPORTED without encoder tensors.
oct_status oct_vae_encode(oct_vae *vae, const float *image, size_t height, size_t width,
                          float *moments, oct_err *err);

void oct_latent_to_vae(const oct_vae *vae, float *z, const float *latent, size_t n);
