// SPDX-License-Identifier: Apache-2.0
//
// CLIP text encoders (CLIP-L: quick_gelu; CLIP-G: exact gelu), any width and depth.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "kernels/ops.h"
#include "ptq/source.h"
#include "runtime/device.h"

typedef struct oct_clip_config {
    size_t heads;               // 0: width / 64
    oct_activation activation;  // OCT_QUICK_GELU or OCT_GELU_ERF
} oct_clip_config;

typedef struct oct_clip {
    oct_device *device;  // borrowed
    size_t width, layers, positions, vocabulary, heads;
    size_t projected_width;  // of the pooled output
    oct_activation activation;
    struct oct_clip_weights *weights;  // owned
} oct_clip;

// Shapes come from the tensors. The head count and activation come from `config`, which callers
// fill from config.json where there is one.
oct_status oct_clip_load(oct_clip *clip, oct_device *device, const oct_source *source,
                         oct_component component, const oct_clip_config *config, oct_err *err);
void oct_clip_deinit(oct_clip *clip);

// How many tokens a component's encoder reads, before it is loaded.
oct_status oct_clip_positions(const oct_source *source, oct_component component, size_t *positions,
                              oct_err *err);

// All on the host. ids: [positions]. hidden: [positions][width], the state after the last but one
// layer, without the final norm. pooled: [projected_width], the final-norm row at the first
// `end_id`, projected when the component has a text_projection.
oct_status oct_clip_encode(oct_clip *clip, const int32_t *ids, int32_t end_id, float *hidden,
                           float *pooled, oct_err *err);
