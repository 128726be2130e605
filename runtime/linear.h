// SPDX-License-Identifier: Apache-2.0
//
// A linear layer in whatever type its weight is stored, and how it runs.
//
//   F32, F16, BF16      y = x W^T + b, weights widened exactly, F32 accumulation
//   FP8, weight only    y = (x Q^T) * s_w + b
//   FP8, static input   q = e4m3(x / s_x);  y = (q Q^T) * (s_x * s_w) + b
//
// With scales per channel s_w is a vector over y's columns. MX weights are decoded exactly before
// they are multiplied, and s_w is 1.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "ptq/dialect.h"
#include "ptq/layers.h"
#include "ptq/plan.h"
#include "ptq/source.h"
#include "runtime/observe.h"

typedef enum oct_path {       // how a layer was run
    OCT_PATH_F32,             // products of F32
    OCT_PATH_16BIT,
    OCT_PATH_FP8,
    OCT_PATH_FP8_WIDENED,     // weights decoded, then 16-bit
    OCT_PATHS,
} oct_path;

typedef struct oct_linear {
    const char *name;         // borrowed from the source
    oct_dtype dtype;
    void *weight;             // [out][in], owned; NULL once it is on a GPU
    float *bias;              // [out] or NULL, owned
    size_t out, in;
    float weight_scale;       // 1 unless FP8 with one scale
    float *row_scales;        // [out] of FP8 with a scale per channel, else NULL; owned
    uint8_t *block_scales;    // E8M0 [out][in / 32] of MX, else NULL; owned
    float input_scale;        // > 0: inputs are encoded to E4M3
    int layer;                // index in the denoiser's layer table; -1: not in it
    void *on_device;          // the GPU's copy; owned by the device, see oct_device_ops.adopt
    uint64_t runs;            // calls so far, for the report of what was executed
    oct_path path;            // of the last of them
} oct_linear;

// Load "<name>.weight" and, when there, "<name>.bias" of a component, as stored. FP8 is refused
// here except bare or scaled T5 weights of the comfy and comfy-legacy dialects.
oct_status oct_linear_load(oct_linear *linear, const oct_source *source, oct_component component,
                           const char *name, oct_err *err);

// Load a layer of the denoiser's table: FP8 by its dialect, or, with a plan, quantized now exactly
// as quantize would write it.
oct_status oct_linear_load_layer(oct_linear *linear, const oct_source *source,
                                 const oct_denoiser *denoiser, size_t layer, const oct_plan *plan,
                                 oct_err *err);
void oct_linear_deinit(oct_linear *linear);  // not on a GPU; fine on a zeroed one

// Free the weights, bias and scales of the host; what the layer is and how it ran stays.
void oct_linear_free_weights(oct_linear *linear);

// y: [rows][out], x: [rows][in]. `observer` may be NULL. Not for two threads at once.
void oct_linear_run(oct_linear *linear, float *y, const float *x, size_t rows,
                    oct_observer *observer);

// Row `row` of the weight, with its scale, as F32: a linear layer is also a table of embeddings.
void oct_linear_row(const oct_linear *linear, size_t row, float *values);

// A vector or table as F32, malloc'ed: norm weights, embeddings, biases. *count: elements.
oct_status oct_load_f32(const oct_source *source, oct_component component, const char *name,
                        float **values, size_t *count, oct_err *err);
