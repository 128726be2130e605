// SPDX-License-Identifier: Apache-2.0
//
// T5 v1.1 encoder, any width and depth: gated GELU (tanh form), RMS norms, relative position bias
// of block 0 for all blocks, no mask. The residual stream is F32.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "ptq/source.h"
#include "runtime/device.h"

typedef struct oct_t5 {
    oct_device *device;              // borrowed
    size_t width, layers, heads, head_dim, vocabulary;
    struct oct_t5_weights *weights;  // owned
} oct_t5;

oct_status oct_t5_load(oct_t5 *t5, oct_device *device, const oct_source *source, oct_err *err);
void oct_t5_deinit(oct_t5 *t5);

// out: [length][width], on the host. An id outside the vocabulary is OCT_EFORMAT.
oct_status oct_t5_encode(oct_t5 *t5, const int32_t *ids, size_t length, float *out, oct_err *err);
