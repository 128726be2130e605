// SPDX-License-Identifier: Apache-2.0
//
// Dialects: how FP8 weights and their scales are spelled in a checkpoint.
//
//   comfy         weight F8_E4M3, weight_scale F32 [], input_scale F32 [] when static, comfy_quant
//                 U8 JSON; layers computed in 16 bit say "full_precision_matrix_mult" there
//                 (ComfyUI since December 2025)
//   comfy-legacy  weight F8_E4M3, scale_weight F32 [], scale_input F32 [] when static, one marker
//                 scaled_fp8 F8_E4M3 of 0 elements, or 2 when any FP8 layer is weight-only, which
//                 makes ComfyUI compute all of them in 16 bit (ComfyUI since October 2024)
//   cast          weight F8_E4M3 or F8_E5M2 and nothing else: every scale is 1, so the plan must
//                 have unit scales
//   diffusers     the denoiser under diffusers names: weight F8_E4M3, weight_scale F32 [], or F32
//                 [rows] per channel, or U8 [rows][columns / 32], E8M0, for MX; input_scale F32 []
//                 when static. What is fused elsewhere is split, each part with the scale of all.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/status.h"
#include "ptq/plan.h"
#include "ptq/source.h"

typedef enum oct_dialect {
    OCT_DIALECT_NONE,    // no FP8 layer
    OCT_DIALECT_COMFY, OCT_DIALECT_COMFY_LEGACY,
    OCT_DIALECT_CAST,    // F8_E4M3 without scales or markers: scale 1
    OCT_DIALECT_DIFFUSERS,
} oct_dialect;

const char *oct_dialect_name(oct_dialect dialect);                     // "comfy"
bool oct_dialect_parse(const char *name, oct_dialect *dialect);        // those that can be written

// ---- Writing: the tensors of an output file.

typedef enum oct_emit {
    OCT_EMIT_COPY,          // bytes of `source`
    OCT_EMIT_CODES,         // codes of decision->layer's weight
    OCT_EMIT_WEIGHT_SCALE,  // its scales: see oct_out_scales()
    OCT_EMIT_STORED_SCALE,  // the scales of `source`, an FP8 weight: see oct_out_read_scales()
    OCT_EMIT_BYTES,         // `bytes`, known now: markers and input scales
} oct_emit;

typedef struct oct_out_tensor {
    const char *name;                 // in the output file
    oct_dtype dtype;
    int rank;
    uint64_t shape[OCT_RANK_MAX];
    oct_emit emit;
    const oct_source_tensor *source;  // COPY; STORED_SCALE: the weight
    const struct oct_fp8_layer *stored;  // STORED_SCALE: how it is stored
    bool is_tiled;                    // scales in ComfyUI's order, see oct_mx_tiled_index()
    uint64_t first_row;               // of all but BYTES: row r is row (first_row + r) mod rows of the
                                      // canonical tensor: split q, k and v, swapped halves
    const oct_decision *decision;     // CODES, WEIGHT_SCALE and BYTES that belong to a layer
    const uint8_t *bytes;             // BYTES
    size_t n_bytes;
} oct_out_tensor;

typedef struct oct_outputs {
    oct_arena arena;
    oct_out_tensor *tensors;          // sorted by name
    size_t n_tensors, capacity;
    const char *metadata;             // value of the header's "_quantization_metadata", or NULL
} oct_outputs;

// From a file, everything that the file holds is written, with its names and prefixes (separately
// given encoders and VAE files are not part of it). From a diffusers folder, or a file under
// diffusers names: the denoiser alone, SAI names, no prefix. The header's "_quantization_metadata"
// repeats the markers for ComfyUI 0.3.67 to 0.3.75, which read nothing else: in dialect comfy, when
// the denoiser is alone in the file and has no prefix. On failure `outputs` is left empty.

// What quantizing by a plan writes. OCT_EFORMAT when the source holds scales or markers although its
// weights are not FP8.
oct_status oct_outputs_init(oct_outputs *outputs, const oct_source *source, const oct_plan *plan,
                            oct_dialect dialect, oct_err *err);

// The tensors as they are: after oct_source_decode(), a checkpoint without FP8.
void oct_outputs_init_plain(oct_outputs *outputs, const oct_source *source);

// The codes that are there in another spelling, in every component that has some. OCT_EUNSUPPORTED
// naming the tensor when `to` cannot say what the source says; OCT_EFORMAT as oct_dialect_read().
oct_status oct_outputs_init_respelled(oct_outputs *outputs, const oct_source *source,
                                      oct_dialect to, oct_err *err);

void oct_outputs_deinit(oct_outputs *outputs);

// Where ComfyUI's mxfp8 has the scale of a block, as cuBLAS wants it: in tiles of 128 rows by 4
// scales, one row of tiles after the other; in a tile, rows r, r + 32, r + 64 and r + 96 stand side
// by side, for r from 0 to 31. The shape is padded to whole tiles.
#define OCT_MX_TILE_ROWS 128
#define OCT_MX_TILE_BLOCKS 4
uint64_t oct_mx_tiled_index(uint64_t row, uint64_t block, uint64_t blocks);

// The bytes of a WEIGHT_SCALE tensor, from the scales as oct_encoder_scales() has them: F32 [], F32
// [rows] per channel, E8M0 as U8 [rows][columns / 32] for MX, or these in tiles, padded with zeros.
void oct_out_scales(const oct_out_tensor *out, const void *scales, uint8_t *bytes);

// The bytes of a STORED_SCALE tensor: scales per channel or MX block that are there, in the order
// of the dialect that is written. OCT_EFORMAT as oct_dialect_read_scales().
oct_status oct_out_read_scales(const oct_out_tensor *out, uint8_t *bytes, oct_err *err);

// ---- Reading.

typedef struct oct_fp8_layer {
    bool is_fp8;
    oct_granularity granularity;
    float weight_scale;               // per tensor: value = code * weight_scale; else 1
    oct_source_tensor scales;         // per channel and MX: see oct_dialect_read_scales()
    bool has_tiled_scales;            // MX in the order of ComfyUI: see oct_mx_tiled_index()
    float input_scale;                // 0: none
    bool is_full_precision;           // stored FP8, computed in 16 bit; also when there is no input scale
    bool is_marked_full_precision;    // as the file spells it
} oct_fp8_layer;

// By the names of a component, and for the denoiser by the header: comfy when there is a marker, an
// entry of the header or a weight_scale, except that weight_scale alone under diffusers names is
// diffusers; else comfy-legacy when there is scaled_fp8 or a scale_weight; else cast when a weight
// is FP8. What is missing for a whole dialect shows when layers are read.
oct_dialect oct_dialect_detect_component(const oct_source *source, oct_component component);
oct_dialect oct_dialect_detect(const oct_source *source);  // of the denoiser

// Whether a tensor is a scale or a marker that belongs to FP8 weights of any dialect.
bool oct_source_is_companion(const oct_source_tensor *tensor);

// How part `part` of a weight is stored, of any component; `dialect` is what it was detected to be.
// OCT_EFORMAT naming the tensor: a scale is missing, of the wrong type or shape, not finite or not
// positive; a marker is missing or not understood; a convolution or F8_E5M2 with scales; scales of a
// weight that is not FP8. The header's entry goes before the marker tensor, as in ComfyUI.
oct_status oct_dialect_read_part(const oct_source *source, oct_dialect dialect,
                                 const oct_source_tensor *weight, size_t part, oct_fp8_layer *fp8,
                                 oct_err *err);

// The same for all parts of a weight. OCT_EUNSUPPORTED when q, k and v differ in a scale.
oct_status oct_dialect_read_weight(const oct_source *source, oct_dialect dialect,
                                   const oct_source_tensor *weight, oct_fp8_layer *fp8,
                                   oct_err *err);
oct_status oct_dialect_read(const oct_source *source, oct_dialect dialect, const oct_layer *layer,
                            oct_fp8_layer *fp8, oct_err *err);

// F32 scales of all rows, and E8M0 scales of rows [row, row + rows) of an MX weight with `blocks` a
// row, in storage order of the weight. OCT_EFORMAT when one is not finite and positive.
oct_status oct_dialect_read_channels(const oct_fp8_layer *fp8, float *scales, oct_err *err);
oct_status oct_dialect_read_mx(const oct_fp8_layer *fp8, uint64_t blocks, uint64_t row,
                               uint64_t rows, uint8_t *scales, oct_err *err);

// The scales of a layer that has one per channel or MX block, in storage order of the weight. F32
// [out] per channel; E8M0 [out][in / 32] for MX: scales[i] is of elements [32 i, 32 i + 32).
// OCT_EFORMAT when one is not finite and positive.
oct_status oct_dialect_read_scales(const oct_fp8_layer *fp8, const oct_layer *layer, void *scales,
                                   oct_err *err);
