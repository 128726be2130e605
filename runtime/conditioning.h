// SPDX-License-Identifier: Apache-2.0
//
// From prompts to what the denoiser reads: tokens, three encoders, one sequence.
//
// Layout of huggingface/diffusers: [77 rows: CLIP-L and CLIP-G side by side, zero-padded to the
// context width] then [T5 rows]. pooled: CLIP-L then CLIP-G. What is absent is announced once and
// replaced: no T5, zero rows in its place; no CLIP-L or CLIP-G, zeros in its columns. CLIPs that
// read fewer or more than 77 tokens have as many rows.
#pragma once

#include <stddef.h>

#include "common/status.h"
#include "ptq/layers.h"
#include "ptq/source.h"
#include "runtime/device.h"

#define OCT_T5_TOKENS_DEFAULT 256

typedef struct oct_conditioning {
    float *context;        // [tokens][width], owned
    float *pooled;         // [pooled_width], owned
    size_t tokens, width, pooled_width;
} oct_conditioning;

void oct_conditioning_deinit(oct_conditioning *conditioning);

typedef struct oct_conditioning_params {
    oct_device *device;      // that the encoders run on
    const char *tokenizers;  // folder with clip/ and t5/, or NULL: the diffusers folder's
    size_t t5_tokens;        // 1..512
} oct_conditioning_params;

// Encode `n` texts. Encoders are loaded one after the other, each is freed before the next; equal
// texts are encoded once. out: [n], zeroed by the caller; on failure all are freed.
oct_status oct_conditioning_encode(oct_conditioning *out, const char *const *texts, size_t n,
                                   oct_source *source, const oct_denoiser *denoiser,
                                   const oct_conditioning_params *params, oct_err *err);
