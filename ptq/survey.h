// SPDX-License-Identifier: Apache-2.0
//
// Surveying a source for its layers: what the files of one architecture each (layers_sd3.c, ...)
// have in common. Only layers*.c include it.
#pragma once

#include "ptq/layers.h"

typedef struct oct_survey {
    oct_denoiser *denoiser;
    const oct_source *source;
    oct_component component;  // whose tensors are taken
    bool *is_known;           // [source->n_tensors]: taken
    size_t capacity;          // of denoiser->layers
} oct_survey;

// Printed into `text`, which is returned: "[3072,64]".
const char *oct_shape_print(char *text, size_t bytes, int rank, const uint64_t *shape);

// A tensor that must be there and be a floating-point one; then also of this rank or shape.
// OCT_EFORMAT, or OCT_EUNSUPPORTED for its type, naming it.
oct_status oct_survey_take(oct_survey *survey, const char *name, const oct_source_tensor **tensor,
                           oct_err *err);
oct_status oct_survey_take_ranked(oct_survey *survey, const char *name, int rank,
                                  const oct_source_tensor **tensor, oct_err *err);
oct_status oct_survey_take_shaped(oct_survey *survey, const char *name, int rank,
                                  const uint64_t *shape, const oct_source_tensor **tensor,
                                  oct_err *err);

// Whether the component has a tensor of that name.
bool oct_survey_has(const oct_survey *survey, const char *name);

// A tensor that may be there and may be anything.
void oct_survey_ignore(oct_survey *survey, const char *name);

// Dimensions of the model, each read from rows (0) or columns (1) of a 2-D weight.
typedef struct oct_dimension {
    const char *weight;
    int axis;
    uint64_t *features;
} oct_dimension;

oct_status oct_survey_dimensions(oct_survey *survey, const oct_dimension *dimensions, size_t n,
                                 oct_err *err);

// How many blocks are called `prefix` and an index. Each has at least `tensors_min` tensors, which
// bounds the work by the size of the file: a larger index is OCT_EFORMAT.
oct_status oct_survey_depth(const oct_survey *survey, const char *prefix, size_t tensors_min,
                            int *depth, oct_err *err);

typedef struct oct_layer_row {  // of a table of layers
    const char *name;           // in a block: after the block's name and a dot
    oct_role role;
    oct_stream_kind stream;
    int out, in;                // what resolve_size() of its architecture understands
} oct_layer_row;

// What features `amount` stands for, by the dimensions found so far.
typedef uint64_t oct_size_fn(const oct_denoiser *denoiser, int amount);

// Add a layer and take its tensors: of `layer` the name, roles, stream, block and sizes are given.
// conv_shape: that of the weight of a convolution, else NULL.
oct_status oct_survey_add(oct_survey *survey, const oct_layer *layer, bool has_bias,
                          const uint64_t conv_shape[4], oct_err *err);

// Add the rows of a block ("double_blocks.3"), or those outside the blocks (NULL and -1).
typedef struct oct_row_place {
    const char *name;
    int block;
    oct_size_fn *size;
    bool has_bias;
    bool is_fused;  // mlp_fc1 is attn_qkv too, mlp_fc2 attn_proj
} oct_row_place;

oct_status oct_survey_add_rows(oct_survey *survey, const oct_layer_row *rows, size_t n_rows,
                               const oct_row_place *place, oct_err *err);

// Sum the component's bytes up. OCT_EFORMAT naming the first tensor that nobody took.
oct_status oct_survey_finish(oct_survey *survey, oct_err *err);

// The architectures: layers, dimensions and the variant's name.
oct_status oct_survey_sd3(oct_survey *survey, oct_err *err);
oct_status oct_survey_flux(oct_survey *survey, oct_err *err);
oct_status oct_survey_ltx(oct_survey *survey, oct_err *err);
oct_status oct_survey_t5(oct_survey *survey, oct_err *err);       // alone, or beside the denoiser
oct_status oct_survey_generic(oct_survey *survey, oct_err *err);
