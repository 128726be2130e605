// SPDX-License-Identifier: Apache-2.0
//
// The VAE from inside: its weights, on the device. For vae_load.c and vae.c.
#pragma once

#include "runtime/vae.h"

#define OCT_VAE_LEVELS_MAX 8
#define OCT_VAE_RESNETS_MAX 16

typedef struct oct_vae_norm {
    float *weight, *bias;  // [channels]
    size_t channels, groups;
} oct_vae_norm;

typedef struct oct_vae_resnet {
    oct_vae_norm norm1, norm2;
    oct_conv conv1, conv2;
    oct_conv skip;  // when the channels change; else without outputs
} oct_vae_resnet;

typedef struct oct_vae_attention {
    oct_vae_norm norm;
    oct_linear q, k, v, proj;  // 1x1 convolutions: every pixel is a token
} oct_vae_attention;

typedef struct oct_vae_level {
    oct_vae_resnet resnets[OCT_VAE_RESNETS_MAX];
    size_t n_resnets;
    oct_conv resample;  // without outputs where the size stays
} oct_vae_level;

typedef struct oct_vae_coder {  // the encoder or the decoder
    oct_conv conv_in, conv_out;
    oct_vae_resnet mid1, mid2;
    oct_vae_attention attn;
    oct_vae_level levels[OCT_VAE_LEVELS_MAX];
    size_t n_levels;  // 0: absent
    oct_vae_norm norm_out;
} oct_vae_coder;

struct oct_vae_weights {
    oct_vae_coder decoder, encoder;
};
