// SPDX-License-Identifier: Apache-2.0
//
// The MMDiT from inside: its parts and what lives between begin and end. For mmdit_load.c (parts),
// mmdit_begin.c (the run, and what is computed once), mmdit.c (a pass) and their test.
//
// S image tokens, L context tokens of a branch, T = S + L, h hidden, N steps.
#pragma once

#include "runtime/mmdit.h"

typedef struct oct_mmdit_attention {
    oct_linear *qkv, *proj;        // proj: NULL for the context of the last block
    float *norm_q, *norm_k;        // [64] on the device, owned; NULL in models without qk-norm
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

typedef struct oct_mmdit_offsets { // of a block's modulation in that of a step
    size_t x;                      // [6 h], dual [9 h]
    size_t context;                // [6 h], last block [2 h]
} oct_mmdit_offsets;

typedef struct oct_mmdit_branch {  // views into oct_mmdit_run.block
    size_t context_tokens;         // L
    float *context;                // [L][h], embedded
    float *c;                      // [N][h], conditioning vectors before SiLU
    float *modulation;             // [N][modulation_width]
} oct_mmdit_branch;

typedef struct oct_mmdit_tokens {  // one stream's way through a block, n tokens
    float *residual;               // F32 [n][h]
    void *input;                   // operand [n][h] of qkv and fc1
    void *attended;                // operand [n][h]
    void *hidden;                  // operand of fc2 [n][4 h]; the patch embedding's
    void *scratch;                 // activation [n][4 h]; NULL on the CPU
    void *y;                       // activation [n][h], or of the last layer's patches
} oct_mmdit_tokens;

typedef struct oct_mmdit_run {
    const oct_mmdit_inputs *inputs;
    size_t grid_height, grid_width, image_tokens;  // S = grid_height * grid_width
    size_t context_tokens;         // the larger L
    size_t n_branches;
    oct_mmdit_offsets *offsets;    // [depth], owned
    size_t final_offset;           // of the last layer's modulation, [2 h]
    size_t modulation_width;       // of a step: all blocks, then the last layer
    void *block;                   // all device memory of this run, owned; the rest are views
    oct_mmdit_branch branches[2];
    float *current;                // [modulation_width], of the step that runs
    float *position;               // [S][h]
    float *modulated;              // [N][h], SiLU of c
    float *pooled;                 // [h]
    float *raw;                    // what is embedded, before it is an operand
    void *embedded[2];             // operands of embedders: as `raw`; [N][h]
    void *embed_scratch;           // activation [N][h]; NULL on the CPU
    float *rows;                   // [N][widest modulation]
    oct_mmdit_tokens image, text;
    void *qkv;                     // activation [T][3 h]
    void *attended2;               // operand [S][h] when a block is dual
} oct_mmdit_run;

// Timestep features in binary32, in the rounding order of Stability-AI/sd3.5: cosines, then sines.
// out: [n][2 * half], on the host.
void oct_mmdit_time_features(float *out, const float *timesteps, size_t n, size_t half);

// Tell the observer what runs now.
void oct_mmdit_observe_as(const oct_mmdit *mmdit, int branch, int step);

// The stages of oct_mmdit_forward(): choose a step and branch; latent to run->image.residual and
// the branch's context to run->text.residual; one block on both; run->image.residual to velocity.
void oct_mmdit_select(oct_mmdit *mmdit, size_t step, int branch);
void oct_mmdit_enter(oct_mmdit *mmdit, const float *latent, int branch);
void oct_mmdit_block_run(oct_mmdit *mmdit, int block, int branch);
void oct_mmdit_leave(oct_mmdit *mmdit, float *velocity);
