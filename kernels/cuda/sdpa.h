// SPDX-License-Identifier: Apache-2.0
//
// One shape of joint attention as cuDNN's scaled dot-product attention: the operation that it has
// since 9.13, which needs no graph of products and softmax.
#pragma once

#include "common/tensor.h"
#include "kernels/cuda/cudnn_graph.h"

#define OCT_SDPA_CUDNN_MIN 91301  // 9.13.1

typedef struct oct_sdpa_shape {
    oct_dtype dtype;  // F16 or BF16
    size_t heads, queries, joint;
} oct_sdpa_shape;

// Begin the graph with the operation; needs no GPU. A refusal is kept in graph->status.
//
//   q, k, v   [heads][joint][64], of q the first `queries` tokens of each head
//   out       [queries][heads * 64]
void *oct_sdpa_describe(oct_cudnn_graph *graph, const oct_cudnn *cudnn, oct_sdpa_shape shape);

// Describe it and make a plan, the first that cuDNN recommends and accepts. OCT_EUNSUPPORTED when
// there is none. On failure the graph is left empty.
oct_status oct_sdpa_init(oct_cudnn_graph *graph, const oct_cudnn *cudnn, oct_sdpa_shape shape,
                         oct_err *err);

// Launch the plan; may be captured. workspace: workspace_bytes, aligned to 256.
oct_status oct_sdpa_run(const oct_cudnn_graph *graph, void *out, const void *q, const void *k,
                        const void *v, void *workspace, oct_stream stream, oct_err *err);
