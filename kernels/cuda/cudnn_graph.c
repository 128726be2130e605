// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cudnn_graph.h"

#include <assert.h>

#define CONFIGS_MAX 16
#define NOTES_MAX 16
#define ALIGNMENT 16

#define ROOM (sizeof((oct_cudnn_graph){0}.descriptors) / sizeof(void *))

void *oct_cudnn_begin(oct_cudnn_graph *graph, int type)
{
    void *descriptor = NULL;

    if (graph->status) return NULL;
    assert(graph->n_descriptors < ROOM);
    graph->status = graph->cudnn->create_descriptor(type, &descriptor);
    if (graph->status) return NULL;
    return graph->descriptors[graph->n_descriptors++] = descriptor;
}

void oct_cudnn_set(oct_cudnn_graph *graph, void *descriptor, int name, int type, int64_t count,
                   const void *values)
{
    if (graph->status) return;
    graph->status = graph->cudnn->set_attribute(descriptor, name, type, count, values);
}

void oct_cudnn_set_descriptor(oct_cudnn_graph *graph, void *descriptor, int name, void *value)
{
    oct_cudnn_set(graph, descriptor, name, OCT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void oct_cudnn_end(oct_cudnn_graph *graph, void *descriptor)
{
    if (!graph->status) graph->status = graph->cudnn->finalize(descriptor);
}

static int data_type(oct_dtype dtype)
{
    assert(dtype == OCT_F32 || oct_dtype_is_float16(dtype));
    if (dtype == OCT_F32) return OCT_CUDNN_DATA_FLOAT;
    return dtype == OCT_F16 ? OCT_CUDNN_DATA_HALF : OCT_CUDNN_DATA_BFLOAT16;
}

static void *describe_tensor(oct_cudnn_graph *graph, int64_t id, oct_dtype dtype,
                             const int64_t dimensions[4], const int64_t strides[4],
                             bool is_by_value)
{
    const int64_t alignment = ALIGNMENT;
    const int type = data_type(dtype);
    void *tensor = oct_cudnn_begin(graph, OCT_CUDNN_TENSOR_DESCRIPTOR);

    oct_cudnn_set(graph, tensor, OCT_CUDNN_TENSOR_DATA_TYPE, OCT_CUDNN_TYPE_DATA_TYPE, 1, &type);
    oct_cudnn_set(graph, tensor, OCT_CUDNN_TENSOR_DIMENSIONS, OCT_CUDNN_TYPE_INT64, 4, dimensions);
    oct_cudnn_set(graph, tensor, OCT_CUDNN_TENSOR_STRIDES, OCT_CUDNN_TYPE_INT64, 4, strides);
    oct_cudnn_set(graph, tensor, OCT_CUDNN_TENSOR_UNIQUE_ID, OCT_CUDNN_TYPE_INT64, 1, &id);
    oct_cudnn_set(graph, tensor, OCT_CUDNN_TENSOR_BYTE_ALIGNMENT, OCT_CUDNN_TYPE_INT64, 1,
                  &alignment);
    oct_cudnn_set(graph, tensor, OCT_CUDNN_TENSOR_IS_BY_VALUE, OCT_CUDNN_TYPE_BOOLEAN, 1,
                  &is_by_value);
    oct_cudnn_end(graph, tensor);
    return tensor;
}

void *oct_cudnn_tensor(oct_cudnn_graph *graph, int64_t id, oct_dtype dtype,
                       const int64_t dimensions[4], const int64_t strides[4])
{
    const int64_t rows = dimensions[2] * dimensions[3];
    const int64_t dense[4] = {dimensions[1] * rows, rows, dimensions[3], 1};

    return describe_tensor(graph, id, dtype, dimensions, strides ? strides : dense, false);
}

void *oct_cudnn_scalar(oct_cudnn_graph *graph, int64_t id)
{
    static const int64_t one[4] = {1, 1, 1, 1};

    return describe_tensor(graph, id, OCT_F32, one, one, true);
}

static void *ask_heuristics(oct_cudnn_graph *graph, void *operation)
{
    const int mode = OCT_CUDNN_HEUR_MODE_A;
    void *ops = oct_cudnn_begin(graph, OCT_CUDNN_OPERATIONGRAPH_DESCRIPTOR);
    oct_cudnn_set_descriptor(graph, ops, OCT_CUDNN_OPERATIONGRAPH_OPS, operation);
    oct_cudnn_set(graph, ops, OCT_CUDNN_OPERATIONGRAPH_HANDLE, OCT_CUDNN_TYPE_HANDLE, 1,
                  &graph->cudnn->handle);
    oct_cudnn_end(graph, ops);

    void *heuristics = oct_cudnn_begin(graph, OCT_CUDNN_ENGINEHEUR_DESCRIPTOR);
    oct_cudnn_set_descriptor(graph, heuristics, OCT_CUDNN_ENGINEHEUR_OPERATION_GRAPH, ops);
    oct_cudnn_set(graph, heuristics, OCT_CUDNN_ENGINEHEUR_MODE, OCT_CUDNN_TYPE_HEUR_MODE, 1, &mode);
    oct_cudnn_end(graph, heuristics);
    return heuristics;
}

// cuDNN fills configurations that exist. Returns how many.
static int64_t get_configs(oct_cudnn_graph *graph, void *heuristics, void *configs[CONFIGS_MAX])
{
    int64_t count = 0;

    for (int i = 0; i < CONFIGS_MAX; i++)
        configs[i] = oct_cudnn_begin(graph, OCT_CUDNN_ENGINECFG_DESCRIPTOR);
    if (graph->status) return 0;
    graph->status = graph->cudnn->get_attribute(heuristics, OCT_CUDNN_ENGINEHEUR_RESULTS,
                                                OCT_CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX,
                                                &count, configs);
    return count < CONFIGS_MAX ? count : CONFIGS_MAX;
}

static bool is_faithful(const oct_cudnn_graph *graph, void *config)
{
    const oct_cudnn *cudnn = graph->cudnn;
    int notes[NOTES_MAX];
    int64_t count = 0;
    void *engine = NULL;

    if (cudnn->create_descriptor(OCT_CUDNN_ENGINE_DESCRIPTOR, &engine)) return false;
    int status = cudnn->get_attribute(config, OCT_CUDNN_ENGINECFG_ENGINE,
                                      OCT_CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine);
    if (!status)
        status = cudnn->get_attribute(engine, OCT_CUDNN_ENGINE_NUMERICAL_NOTE,
                                      OCT_CUDNN_TYPE_NUMERICAL_NOTE, NOTES_MAX, &count, notes);
    cudnn->destroy_descriptor(engine);
    for (int64_t i = 0; i < count && i < NOTES_MAX && !status; i++) {
        if (notes[i] != OCT_CUDNN_NOTE_TENSOR_CORE && notes[i] != OCT_CUDNN_NOTE_STRICT_NAN_PROP)
            return false;
    }
    return !status;
}

// An engine may be recommended and still refuse: that is not kept.
static void *make_plan(oct_cudnn_graph *graph, void *config)
{
    void *plan = oct_cudnn_begin(graph, OCT_CUDNN_EXECUTION_PLAN_DESCRIPTOR);

    oct_cudnn_set(graph, plan, OCT_CUDNN_EXECUTION_PLAN_HANDLE, OCT_CUDNN_TYPE_HANDLE, 1,
                  &graph->cudnn->handle);
    oct_cudnn_set_descriptor(graph, plan, OCT_CUDNN_EXECUTION_PLAN_ENGINE_CONFIG, config);
    oct_cudnn_end(graph, plan);
    if (!graph->status) return plan;
    if (plan) graph->cudnn->destroy_descriptor(graph->descriptors[--graph->n_descriptors]);
    graph->status = 0;
    return NULL;
}

oct_status oct_cudnn_graph_plan(oct_cudnn_graph *graph, void *operation, oct_err *err)
{
    void *configs[CONFIGS_MAX];
    int64_t count = 0, bytes = 0;

    void *heuristics = ask_heuristics(graph, operation);
    const int64_t n_configs = get_configs(graph, heuristics, configs);
    oct_status st = oct_cudnn_fail(graph->cudnn, graph->status, graph->what, err);
    if (st) return st;
    for (int64_t i = 0; i < n_configs && !graph->plan; i++)
        if (graph->takes_any_engine || is_faithful(graph, configs[i]))
            graph->plan = make_plan(graph, configs[i]);
    if (!graph->plan)
        return oct_fail(err, OCT_EUNSUPPORTED, "cuDNN has no engine for %s (of %d)", graph->what,
                        (int)n_configs);
    graph->status =
        graph->cudnn->get_attribute(graph->plan, OCT_CUDNN_EXECUTION_PLAN_WORKSPACE_SIZE,
                                    OCT_CUDNN_TYPE_INT64, 1, &count, &bytes);
    graph->workspace_bytes = (size_t)bytes;
    return oct_cudnn_fail(graph->cudnn, graph->status, graph->what, err);
}

oct_status oct_cudnn_graph_run(const oct_cudnn_graph *graph, int64_t count, const int64_t *ids,
                               void *const *pointers, void *workspace, oct_stream stream,
                               oct_err *err)
{
    const oct_cudnn *cudnn = graph->cudnn;
    oct_cudnn_graph launch = {.cudnn = cudnn, .what = graph->what};
    void *pack = oct_cudnn_begin(&launch, OCT_CUDNN_VARIANT_PACK_DESCRIPTOR);

    oct_cudnn_set(&launch, pack, OCT_CUDNN_VARIANT_PACK_UNIQUE_IDS, OCT_CUDNN_TYPE_INT64, count,
                  ids);
    oct_cudnn_set(&launch, pack, OCT_CUDNN_VARIANT_PACK_DATA_POINTERS, OCT_CUDNN_TYPE_VOID_PTR,
                  count, pointers);
    oct_cudnn_set(&launch, pack, OCT_CUDNN_VARIANT_PACK_WORKSPACE, OCT_CUDNN_TYPE_VOID_PTR, 1,
                  &workspace);
    oct_cudnn_end(&launch, pack);
    int status = launch.status;
    if (!status) status = cudnn->set_stream(cudnn->handle, stream);
    if (!status) status = cudnn->execute(cudnn->handle, graph->plan, pack);
    oct_cudnn_graph_deinit(&launch);
    return oct_cudnn_fail(cudnn, status, graph->what, err);
}

void oct_cudnn_graph_deinit(oct_cudnn_graph *graph)
{
    while (graph->n_descriptors > 0)
        graph->cudnn->destroy_descriptor(graph->descriptors[--graph->n_descriptors]);
    *graph = (oct_cudnn_graph){0};
}
