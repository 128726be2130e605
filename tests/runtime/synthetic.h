// SPDX-License-Identifier: Apache-2.0
//
// Small safetensors files for tests of the encoders: tensors by formula (tests/tools/formula.h) or
// with given bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "common/tensor.h"

typedef struct synthetic {
    const char *name;
    oct_dtype dtype;
    int rank;
    uint64_t shape[2];
    const void *data;    // in `dtype`; NULL: by formula
    const char *values;  // name that the formula sees, or NULL: `name`
} synthetic;

oct_status synthetic_write(const char *path, const synthetic *tensors, size_t n, oct_err *err);

// The tensors of a CLIP text model (text_projection last) or of a T5 encoder, F32, for
// synthetic_write(); names are static until the next call. Returns how many.
size_t synthetic_clip(synthetic *tensors, size_t layers, size_t width, size_t mlp,
                      size_t vocabulary);
size_t synthetic_t5(synthetic *tensors, size_t layers, size_t width, size_t heads, size_t head_dim,
                    size_t mlp, size_t vocabulary);
