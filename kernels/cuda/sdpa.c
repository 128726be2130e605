// SPDX-License-Identifier: Apache-2.0
//
// Attention by cuDNN's backend: five tensors, one operation, a graph of it, engines that the
// heuristics recommend, a plan.
#include "kernels/cuda/sdpa.h"

#include <assert.h>
#include <stdbool.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/cudnn_graph.h"

#define HEAD OCT_HEAD_CUDA
#define CONFIGS_MAX 8
#define ALIGNMENT 16

// What only attention needs, as in cudnn_graph.h.
enum {
    OPERATION_SDPA_FWD_DESCRIPTOR = 41,
    OPERATION_SDPA_FWD_QDESC = 2800,
    OPERATION_SDPA_FWD_KDESC = 2801,
    OPERATION_SDPA_FWD_VDESC = 2802,
    OPERATION_SDPA_FWD_ODESC = 2803,
    OPERATION_SDPA_FWD_SCALEDESC = 2805,
};

// Tensors by their number, which is their unique id too.
enum { Q = 1, K, V, OUT, SCALE, TENSORS = SCALE };

// A descriptor that is being filled; the first refusal is kept and what follows does nothing.
typedef struct builder {
    const oct_cudnn *cudnn;
    void *descriptor;
    int status;
} builder;

static builder begin(const oct_cudnn *cudnn, int type)
{
    builder b = {.cudnn = cudnn};
    b.status = cudnn->create_descriptor(type, &b.descriptor);
    if (b.status) b.descriptor = NULL;
    return b;
}

static void set(builder *b, int name, int type, int64_t count, const void *values)
{
    if (b->status) return;
    b->status = b->cudnn->set_attribute(b->descriptor, name, type, count, values);
}

static void set_descriptor(builder *b, int name, void *descriptor)
{
    set(b, name, OCT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &descriptor);
}

static void finalize(builder *b)
{
    if (!b->status) b->status = b->cudnn->finalize(b->descriptor);
}

static oct_status keep(oct_sdpa *sdpa, builder b, const char *what, oct_err *err)
{
    assert(sdpa->n_descriptors < sizeof sdpa->descriptors / sizeof *sdpa->descriptors);
    if (b.descriptor) sdpa->descriptors[sdpa->n_descriptors++] = b.descriptor;
    return oct_cudnn_fail(sdpa->cudnn, b.status, what, err);
}

static void *last(const oct_sdpa *sdpa)
{
    return sdpa->descriptors[sdpa->n_descriptors - 1];
}

// ---- The operation.

static oct_status add_tensor(oct_sdpa *sdpa, int64_t id, int data_type, const int64_t *dimensions,
                             const int64_t *strides, oct_err *err)
{
    const int64_t alignment = ALIGNMENT;
    const bool is_by_value = id == SCALE;
    builder b = begin(sdpa->cudnn, OCT_CUDNN_TENSOR_DESCRIPTOR);

    set(&b, OCT_CUDNN_TENSOR_DATA_TYPE, OCT_CUDNN_TYPE_DATA_TYPE, 1, &data_type);
    set(&b, OCT_CUDNN_TENSOR_DIMENSIONS, OCT_CUDNN_TYPE_INT64, 4, dimensions);
    set(&b, OCT_CUDNN_TENSOR_STRIDES, OCT_CUDNN_TYPE_INT64, 4, strides);
    set(&b, OCT_CUDNN_TENSOR_UNIQUE_ID, OCT_CUDNN_TYPE_INT64, 1, &id);
    set(&b, OCT_CUDNN_TENSOR_BYTE_ALIGNMENT, OCT_CUDNN_TYPE_INT64, 1, &alignment);
    set(&b, OCT_CUDNN_TENSOR_IS_BY_VALUE, OCT_CUDNN_TYPE_BOOLEAN, 1, &is_by_value);
    finalize(&b);
    return keep(sdpa, b, "a tensor of attention", err);
}

// As [batch][head][token][64], strides in numbers.
static oct_status add_tensors(oct_sdpa *sdpa, oct_sdpa_shape shape, oct_err *err)
{
    const int data_type = shape.dtype == OCT_F16 ? OCT_CUDNN_DATA_HALF : OCT_CUDNN_DATA_BFLOAT16;
    const int64_t heads = (int64_t)shape.heads, queries = (int64_t)shape.queries;
    const int64_t joint = (int64_t)shape.joint, one[4] = {1, 1, 1, 1};
    const int64_t asking[4] = {1, heads, queries, HEAD}, asked[4] = {1, heads, joint, HEAD};
    const int64_t split[4] = {heads * joint * HEAD, joint * HEAD, HEAD, 1};
    const int64_t rows[4] = {queries * heads * HEAD, HEAD, heads * HEAD, 1};

    oct_status st = add_tensor(sdpa, Q, data_type, asking, split, err);
    if (!st) st = add_tensor(sdpa, K, data_type, asked, split, err);
    if (!st) st = add_tensor(sdpa, V, data_type, asked, split, err);
    if (!st) st = add_tensor(sdpa, OUT, data_type, asking, rows, err);
    if (!st) st = add_tensor(sdpa, SCALE, OCT_CUDNN_DATA_FLOAT, one, one, err);
    return st;
}

oct_status oct_sdpa_describe(oct_sdpa *sdpa, const oct_cudnn *cudnn, oct_sdpa_shape shape,
                             oct_err *err)
{
    static const int name[TENSORS] = {
        OPERATION_SDPA_FWD_QDESC, OPERATION_SDPA_FWD_KDESC,     OPERATION_SDPA_FWD_VDESC,
        OPERATION_SDPA_FWD_ODESC, OPERATION_SDPA_FWD_SCALEDESC,
    };
    assert(shape.dtype == OCT_F16 || shape.dtype == OCT_BF16);
    *sdpa = (oct_sdpa){.cudnn = cudnn};
    const oct_status st = add_tensors(sdpa, shape, err);
    if (st) return st;

    builder b = begin(cudnn, OPERATION_SDPA_FWD_DESCRIPTOR);
    for (size_t i = 0; i < TENSORS; i++) set_descriptor(&b, name[i], sdpa->descriptors[i]);
    finalize(&b);
    return keep(sdpa, b, "attention", err);
}

// ---- The plan.

static oct_status add_graph(oct_sdpa *sdpa, oct_err *err)
{
    builder b = begin(sdpa->cudnn, OCT_CUDNN_OPERATIONGRAPH_DESCRIPTOR);
    set_descriptor(&b, OCT_CUDNN_OPERATIONGRAPH_OPS, last(sdpa));
    set(&b, OCT_CUDNN_OPERATIONGRAPH_HANDLE, OCT_CUDNN_TYPE_HANDLE, 1, &sdpa->cudnn->handle);
    finalize(&b);
    return keep(sdpa, b, "a graph of attention", err);
}

static oct_status add_heuristics(oct_sdpa *sdpa, oct_err *err)
{
    const int mode = OCT_CUDNN_HEUR_MODE_A;
    builder b = begin(sdpa->cudnn, OCT_CUDNN_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(&b, OCT_CUDNN_ENGINEHEUR_OPERATION_GRAPH, last(sdpa));
    set(&b, OCT_CUDNN_ENGINEHEUR_MODE, OCT_CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finalize(&b);
    return keep(sdpa, b, "engines for attention", err);
}

// cuDNN fills configurations that exist.
static oct_status add_configs(oct_sdpa *sdpa, int64_t *count, oct_err *err)
{
    const oct_cudnn *cudnn = sdpa->cudnn;
    void *heuristics = last(sdpa), **configs = sdpa->descriptors + sdpa->n_descriptors;
    oct_status st = OCT_OK;

    for (int i = 0; i < CONFIGS_MAX && !st; i++)
        st = keep(sdpa, begin(cudnn, OCT_CUDNN_ENGINECFG_DESCRIPTOR), "an engine's configuration",
                  err);
    if (st) return st;
    const int status =
        cudnn->get_attribute(heuristics, OCT_CUDNN_ENGINEHEUR_RESULTS,
                             OCT_CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX, count, configs);
    if (*count > CONFIGS_MAX) *count = CONFIGS_MAX;
    return oct_cudnn_fail(cudnn, status, "engines for attention", err);
}

// An engine may be recommended and still refuse: then the next one is asked.
static void *make_plan(const oct_cudnn *cudnn, void *config)
{
    builder b = begin(cudnn, OCT_CUDNN_EXECUTION_PLAN_DESCRIPTOR);
    set(&b, OCT_CUDNN_EXECUTION_PLAN_HANDLE, OCT_CUDNN_TYPE_HANDLE, 1, &cudnn->handle);
    set_descriptor(&b, OCT_CUDNN_EXECUTION_PLAN_ENGINE_CONFIG, config);
    finalize(&b);
    if (!b.status) return b.descriptor;
    if (b.descriptor) cudnn->destroy_descriptor(b.descriptor);
    return NULL;
}

static oct_status add_plan(oct_sdpa *sdpa, oct_err *err)
{
    int64_t n_configs = 0, bytes = 0, count = 0;
    const size_t first = sdpa->n_descriptors;
    const oct_status st = add_configs(sdpa, &n_configs, err);
    if (st) return st;

    for (int64_t i = 0; i < n_configs && !sdpa->plan; i++)
        sdpa->plan = make_plan(sdpa->cudnn, sdpa->descriptors[first + (size_t)i]);
    if (!sdpa->plan) {
        return oct_fail(err, OCT_EUNSUPPORTED, "cuDNN has no engine for this attention (of %d)",
                        (int)n_configs);
    }
    const int status =
        sdpa->cudnn->get_attribute(sdpa->plan, OCT_CUDNN_EXECUTION_PLAN_WORKSPACE_SIZE,
                                   OCT_CUDNN_TYPE_INT64, 1, &count, &bytes);
    sdpa->workspace_bytes = (size_t)bytes;
    return oct_cudnn_fail(sdpa->cudnn, status, "the workspace of attention", err);
}

oct_status oct_sdpa_init(oct_sdpa *sdpa, const oct_cudnn *cudnn, oct_sdpa_shape shape, oct_err *err)
{
    oct_status st = oct_sdpa_describe(sdpa, cudnn, shape, err);
    if (!st) st = add_graph(sdpa, err);
    if (!st) st = add_heuristics(sdpa, err);
    if (!st) st = add_plan(sdpa, err);
    if (st) oct_sdpa_deinit(sdpa);
    return st;
}

void oct_sdpa_deinit(oct_sdpa *sdpa)
{
    if (sdpa->plan) sdpa->cudnn->destroy_descriptor(sdpa->plan);
    while (sdpa->n_descriptors > 0)
        sdpa->cudnn->destroy_descriptor(sdpa->descriptors[--sdpa->n_descriptors]);
    *sdpa = (oct_sdpa){0};
}

oct_status oct_sdpa_run(const oct_sdpa *sdpa, void *out, const void *q, const void *k,
                        const void *v, void *workspace, oct_stream stream, oct_err *err)
{
    static const int64_t ids[TENSORS] = {Q, K, V, OUT, SCALE};
    const oct_cudnn *cudnn = sdpa->cudnn;
    float scale = 0.125f;  // by value: read when the plan is launched
    void *const pointers[TENSORS] = {(void *)q, (void *)k, (void *)v, out, &scale};
    builder b = begin(cudnn, OCT_CUDNN_VARIANT_PACK_DESCRIPTOR);

    set(&b, OCT_CUDNN_VARIANT_PACK_UNIQUE_IDS, OCT_CUDNN_TYPE_INT64, TENSORS, ids);
    set(&b, OCT_CUDNN_VARIANT_PACK_DATA_POINTERS, OCT_CUDNN_TYPE_VOID_PTR, TENSORS, pointers);
    set(&b, OCT_CUDNN_VARIANT_PACK_WORKSPACE, OCT_CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(&b);
    if (!b.status) b.status = cudnn->set_stream(cudnn->handle, stream);
    if (!b.status) b.status = cudnn->execute(cudnn->handle, sdpa->plan, b.descriptor);
    if (b.descriptor) cudnn->destroy_descriptor(b.descriptor);
    return oct_cudnn_fail(cudnn, b.status, "attention", err);
}
