// SPDX-License-Identifier: Apache-2.0
//
// The MMDiT from inside: its parts and what lives between begin and end. For mmdit.c and its test.
//
// S image tokens, L context tokens of a branch, T = S + L, h hidden, N steps.
#pragma once

#include "runtime/mmdit.h"

#define OCT_MMDIT_HEAD 64

typedef struct oct_mmdit_attention {
    oct_linear *qkv, *proj;        // proj: NULL for the context of the last block
    float *norm_q, *norm_k;        // [64], owned; NULL in models without qk-norm
} oct_mmdit_attention;

typedef struct oct_mmdit_stream {  // an x_block or a context_block
    oct_linear *modulation;
    oct_mmdit_attention attn;
    oct_mmdit_attention attn2;     // qkv is NULL unless dual
    oct_linear *fc1, *fc2;         // NULL for the context of the last block
} oct_mmdit_stream;

typedef struct oct_mmdit_block {
    oct_mmdit_stream x, context;
} oct_mmdit_block;

typedef struct oct_mmdit_parts {
    oct_linear *patch, *time[2], *pooled[2], *context;
    oct_mmdit_block *blocks;       // [depth], owned
    oct_linear *final_modulation, *final;
} oct_mmdit_parts;

typedef struct oct_mmdit_modulation {  // of one block, all steps; views into oct_mmdit_run.block
    float *x;                      // [N][6 h], dual [N][9 h]
    float *context;                // [N][6 h], last block [N][2 h]
} oct_mmdit_modulation;

typedef struct oct_mmdit_branch {  // views likewise
    size_t context_tokens;         // L
    float *context;                // [L][h], embedded
    float *c;                      // [N][h], conditioning vectors before SiLU
    float *final;                  // [N][2 h]
    oct_mmdit_modulation *blocks;  // [depth], owned
} oct_mmdit_branch;

typedef struct oct_mmdit_run {
    const oct_mmdit_inputs *inputs;
    size_t grid_height, grid_width, image_tokens;  // S = grid_height * grid_width
    size_t context_tokens;         // the larger L
    size_t n_branches;
    oct_mmdit_branch branches[2];
    float *block;                  // all memory of this run, owned; the rest are views
    float *position;               // [S][h]
    float *features;               // [N][256]
    float *hidden;                 // [N][h]
    float *modulated;              // [N][h], SiLU of c
    float *pooled[2];              // [h]
    float *x;                      // [S][h], residual stream
    float *context;                // [L][h], residual stream
    float *narrow;                 // [max(S, L)][h]: layer inputs and projections
    float *wide;                   // [T][3 h] or [max(S, L)][4 h]: q, k, v; feed-forward
    float *attended;               // [T][h]
    float *attended2;              // [S][h] when a block is dual
} oct_mmdit_run;

// Timestep features in binary32, in the rounding order of Stability-AI/sd3.5: cosines, then sines.
// out: [n][2 * half].
void oct_mmdit_time_features(float *out, const float *timesteps, size_t n, size_t half);

// The stages of oct_mmdit_forward(): latent to run->x; run->context from the branch; one block on
// both; run->x to velocity.
void oct_mmdit_enter(oct_mmdit *mmdit, const float *latent, int branch);
void oct_mmdit_block_run(oct_mmdit *mmdit, int block, size_t step, int branch);
void oct_mmdit_leave(oct_mmdit *mmdit, float *velocity, size_t step, int branch);
