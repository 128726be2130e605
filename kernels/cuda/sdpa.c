// SPDX-License-Identifier: Apache-2.0
//
// Attention by cuDNN's backend: five tensors and one operation.
#include "kernels/cuda/sdpa.h"

#include <assert.h>

#include "kernels/cuda/cuda_kernels.h"

#define HEAD OCT_HEAD_CUDA

// What only attention needs, as in cudnn_graph.h.
enum {
    OPERATION_SDPA_FWD_DESCRIPTOR = 41,
    OPERATION_SDPA_FWD_QDESC = 2800,
    OPERATION_SDPA_FWD_KDESC = 2801,
    OPERATION_SDPA_FWD_VDESC = 2802,
    OPERATION_SDPA_FWD_ODESC = 2803,
    OPERATION_SDPA_FWD_SCALEDESC = 2805,
};

enum { Q = 1, K, V, OUT, SCALE, TENSORS = SCALE };  // the tensors' unique ids

// Tensors are [batch][head][token][64].
void *oct_sdpa_describe(oct_cudnn_graph *graph, const oct_cudnn *cudnn, oct_sdpa_shape shape)
{
    const int64_t heads = (int64_t)shape.heads, queries = (int64_t)shape.queries;
    const int64_t joint = (int64_t)shape.joint;
    const int64_t asking[4] = {1, heads, queries, HEAD}, asked[4] = {1, heads, joint, HEAD};
    const int64_t split[4] = {heads * joint * HEAD, joint * HEAD, HEAD, 1};
    const int64_t rows[4] = {queries * heads * HEAD, HEAD, heads * HEAD, 1};

    assert(shape.dtype == OCT_F16 || shape.dtype == OCT_BF16);
    *graph = (oct_cudnn_graph){.cudnn = cudnn, .what = "attention", .takes_any_engine = true};
    void *q = oct_cudnn_tensor(graph, Q, shape.dtype, asking, split);
    void *k = oct_cudnn_tensor(graph, K, shape.dtype, asked, split);
    void *v = oct_cudnn_tensor(graph, V, shape.dtype, asked, split);
    void *out = oct_cudnn_tensor(graph, OUT, shape.dtype, asking, rows);
    void *scale = oct_cudnn_scalar(graph, SCALE);
    void *operation = oct_cudnn_begin(graph, OPERATION_SDPA_FWD_DESCRIPTOR);

    oct_cudnn_set_descriptor(graph, operation, OPERATION_SDPA_FWD_QDESC, q);
    oct_cudnn_set_descriptor(graph, operation, OPERATION_SDPA_FWD_KDESC, k);
    oct_cudnn_set_descriptor(graph, operation, OPERATION_SDPA_FWD_VDESC, v);
    oct_cudnn_set_descriptor(graph, operation, OPERATION_SDPA_FWD_ODESC, out);
    oct_cudnn_set_descriptor(graph, operation, OPERATION_SDPA_FWD_SCALEDESC, scale);
    oct_cudnn_end(graph, operation);
    return operation;
}

oct_status oct_sdpa_init(oct_cudnn_graph *graph, const oct_cudnn *cudnn, oct_sdpa_shape shape,
                         oct_err *err)
{
    void *operation = oct_sdpa_describe(graph, cudnn, shape);
    const oct_status st = oct_cudnn_graph_plan(graph, operation, err);
    if (st) oct_cudnn_graph_deinit(graph);
    return st;
}

oct_status oct_sdpa_run(const oct_cudnn_graph *graph, void *out, const void *q, const void *k,
                        const void *v, void *workspace, oct_stream stream, oct_err *err)
{
    static const int64_t ids[TENSORS] = {Q, K, V, OUT, SCALE};
    float scale = 0.125f;  // by value: read when the plan is launched
    void *const pointers[TENSORS] = {(void *)q, (void *)k, (void *)v, out, &scale};

    return oct_cudnn_graph_run(graph, TENSORS, ids, pointers, workspace, stream, err);
}
