// SPDX-License-Identifier: Apache-2.0
//
// A source: a checkpoint seen under canonical names, whatever its layout.
//
// Canonical names: those of the model's makers for the denoiser and the VAE
// ("joint_blocks.0.x_block.attn.qkv.weight", "decoder.up.3.block.0.conv1.weight"), Hugging Face
// names for the text encoders. Under diffusers names (a folder, or its transformer as one file) q,
// k and v (and in FLUX.1's single blocks the feed-forward part) are fused by rows, and the swapped
// halves of the 2h modulations are put back: a canonical tensor is a list of row ranges of stored
// tensors. Shapes are canonical too: attention weights of the VAE are [c][c][1][1]. Nothing is read
// until oct_source_read(). Mapping: docs of Stability-AI/sd3.5, black-forest-labs/flux,
// Lightricks/LTX-Video and huggingface/diffusers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/checkpoint.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/tensor.h"
#include "ptq/architecture.h"
#include "ptq/naming.h"

typedef struct oct_part {             // rows [first_row, first_row + rows) of a stored tensor
    const oct_ckpt_tensor *stored;
    uint64_t first_row, rows;
} oct_part;

// An FP8 tensor seen in a wider type: value = code * scale of its run, one binary32 product,
// rounded once to the tensor's dtype. Element i in canonical order belongs to run i / run.
typedef struct oct_decoding {
    oct_dtype stored;                 // F8_E4M3 or F8_E5M2
    uint64_t run;                     // elements per scale: the whole tensor, a row, or an MX block
    const float *scales;              // one per run; NULL for MX, whose scales stay in the file
    const struct oct_fp8_layer *mx;   // see oct_dialect_read_mx(); else NULL
} oct_decoding;

typedef struct oct_source_tensor {
    const char *name;                 // canonical
    const char *file_name;            // as stored, with prefix; NULL when it is not one stored tensor as it is
    oct_component component;
    oct_dtype dtype;                  // one for all parts
    int rank;
    uint64_t shape[OCT_RANK_MAX];
    uint64_t bytes;
    oct_part parts[OCT_PARTS_MAX];
    size_t n_parts;                   // 1; 3 for fused q, k, v, 4 with the MLP; 2 for swapped halves
    const oct_decoding *decoding;     // NULL: bytes as stored; else only oct_source_read() has them
} oct_source_tensor;

typedef struct oct_source {
    oct_arena arena;
    oct_checkpoint checkpoint;
    oct_source_tensor *tensors;       // by component, then canonical name
    size_t n_tensors;
    const char *denoiser_prefix;      // in the file: "model.diffusion_model." or ""
    oct_architecture architecture;    // of the denoiser, or T5 without one
    bool is_diffusers_named;          // the denoiser is stored under diffusers names
} oct_source;

// Open and map. OCT_EFORMAT when q, k and v differ in type or shape, when one of them is missing,
// and when two stored tensors mean the same canonical one. On failure `source` is left empty.
oct_status oct_source_open(oct_source *source, const oct_model_paths *paths, oct_err *err);
void oct_source_close(oct_source *source);

const oct_source_tensor *oct_source_find(const oct_source *source, oct_component component,
                                         const char *name);

// All bytes of a tensor, parts joined, in stored type. Safe from several threads.
oct_status oct_source_read(const oct_source_tensor *tensor, void *buffer, oct_err *err);

// Bytes [from, from + bytes) of that; the range lies within the tensor, and holds whole elements
// where it is decoded. A NaN code, or a value that the type cannot hold, is OCT_EFORMAT then.
oct_status oct_source_read_range(const oct_source_tensor *tensor, uint64_t from, uint64_t bytes,
                                 void *buffer, oct_err *err);

// The identity of a denoiser: XXH3-128 over (canonical name, type, shape, digest of the data as in
// common/digest.h) of its tensors in canonical order. The same for every layout of the same
// weights. Start with n_tensors digests in source order; those of other components are ignored.
void oct_source_denoiser_digest(const oct_source *source, const oct_xxh128 *digests,
                                char hex[OCT_XXH128_HEX]);

// The same by reading all data now, with progress and in little memory.
oct_status oct_source_read_denoiser_digest(const oct_source *source, char hex[OCT_XXH128_HEX],
                                           oct_err *err);
