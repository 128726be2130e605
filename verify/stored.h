// SPDX-License-Identifier: Apache-2.0
//
// A layer as a file stores it, whole or in parts: diffusers keeps q, k and v apart and may give
// each its own scale.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "ptq/dialect.h"
#include "ptq/layers.h"
#include "ptq/source.h"

typedef struct oct_dialects {  // of one file
    oct_dialect of[OCT_COMPONENT_COUNT];
} oct_dialects;

void oct_dialects_detect(oct_dialects *dialects, const oct_source *source);

typedef struct oct_stored_layer {
    oct_fp8_layer whole;                  // of parts that differ: the first part's
    oct_fp8_layer parts[OCT_PARTS_MAX];
    size_t n_parts;                       // 1 when all parts agree
} oct_stored_layer;

// As oct_dialect_read(), except that parts may differ in their scales.
oct_status oct_stored_layer_read(oct_stored_layer *stored, const oct_source *source,
                                 const oct_dialects *dialects, const oct_layer *layer,
                                 oct_err *err);

// How many scales there are, each for `*run` consecutive elements.
uint64_t oct_stored_layer_scales(const oct_stored_layer *stored, const oct_layer *layer,
                                 uint64_t *run);

// These scales as floats. OCT_EFORMAT when one is not finite and positive.
oct_status oct_stored_layer_read_scales(const oct_stored_layer *stored, const oct_layer *layer,
                                        float *scales, oct_err *err);
