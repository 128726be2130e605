// SPDX-License-Identifier: Apache-2.0
//
// One operation of cuDNN's backend, from its descriptors to a plan that can be launched.
//
// Descriptors are made, filled and finalized in turn; the first refusal is kept, and what follows
// does nothing until oct_cudnn_graph_plan() returns it. They live as long as the graph.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/tensor.h"
#include "kernels/cuda/cudnn.h"

// Of cudnn_graph.h, version 9; the names there begin with CUDNN_, CUDNN_BACKEND_ or CUDNN_ATTR_.
enum {
    OCT_CUDNN_TYPE_HANDLE = 0,
    OCT_CUDNN_TYPE_DATA_TYPE = 1,
    OCT_CUDNN_TYPE_BOOLEAN = 2,
    OCT_CUDNN_TYPE_INT64 = 3,
    OCT_CUDNN_TYPE_FLOAT = 4,
    OCT_CUDNN_TYPE_VOID_PTR = 6,
    OCT_CUDNN_TYPE_CONVOLUTION_MODE = 7,
    OCT_CUDNN_TYPE_HEUR_MODE = 8,
    OCT_CUDNN_TYPE_NUMERICAL_NOTE = 11,
    OCT_CUDNN_TYPE_BACKEND_DESCRIPTOR = 15,

    OCT_CUDNN_DATA_FLOAT = 0,
    OCT_CUDNN_DATA_HALF = 2,
    OCT_CUDNN_DATA_BFLOAT16 = 9,

    OCT_CUDNN_CONVOLUTION_DESCRIPTOR = 1,
    OCT_CUDNN_ENGINE_DESCRIPTOR = 2,
    OCT_CUDNN_ENGINECFG_DESCRIPTOR = 3,
    OCT_CUDNN_ENGINEHEUR_DESCRIPTOR = 4,
    OCT_CUDNN_EXECUTION_PLAN_DESCRIPTOR = 5,
    OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR = 10,
    OCT_CUDNN_OPERATIONGRAPH_DESCRIPTOR = 15,
    OCT_CUDNN_VARIANT_PACK_DESCRIPTOR = 16,
    OCT_CUDNN_TENSOR_DESCRIPTOR = 17,

    OCT_CUDNN_CONVOLUTION_COMP_TYPE = 100,
    OCT_CUDNN_CONVOLUTION_CONV_MODE = 101,
    OCT_CUDNN_CONVOLUTION_DILATIONS = 102,
    OCT_CUDNN_CONVOLUTION_FILTER_STRIDES = 103,
    OCT_CUDNN_CONVOLUTION_POST_PADDINGS = 104,
    OCT_CUDNN_CONVOLUTION_PRE_PADDINGS = 105,
    OCT_CUDNN_CONVOLUTION_SPATIAL_DIMS = 106,
    OCT_CUDNN_ENGINEHEUR_MODE = 200,
    OCT_CUDNN_ENGINEHEUR_OPERATION_GRAPH = 201,
    OCT_CUDNN_ENGINEHEUR_RESULTS = 202,
    OCT_CUDNN_ENGINECFG_ENGINE = 300,
    OCT_CUDNN_EXECUTION_PLAN_HANDLE = 400,
    OCT_CUDNN_EXECUTION_PLAN_ENGINE_CONFIG = 401,
    OCT_CUDNN_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
    OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_ALPHA = 700,
    OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_BETA = 701,
    OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_CONV_DESC = 702,
    OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_W = 703,
    OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_X = 704,
    OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_Y = 705,
    OCT_CUDNN_OPERATIONGRAPH_HANDLE = 800,
    OCT_CUDNN_OPERATIONGRAPH_OPS = 801,
    OCT_CUDNN_TENSOR_BYTE_ALIGNMENT = 900,
    OCT_CUDNN_TENSOR_DATA_TYPE = 901,
    OCT_CUDNN_TENSOR_DIMENSIONS = 902,
    OCT_CUDNN_TENSOR_STRIDES = 903,
    OCT_CUDNN_TENSOR_UNIQUE_ID = 906,
    OCT_CUDNN_TENSOR_IS_BY_VALUE = 908,
    OCT_CUDNN_VARIANT_PACK_UNIQUE_IDS = 1000,
    OCT_CUDNN_VARIANT_PACK_DATA_POINTERS = 1001,
    OCT_CUDNN_VARIANT_PACK_WORKSPACE = 1003,
    OCT_CUDNN_ENGINE_NUMERICAL_NOTE = 1303,

    OCT_CUDNN_CROSS_CORRELATION = 1,
    OCT_CUDNN_HEUR_MODE_A = 3,
    OCT_CUDNN_NOTE_TENSOR_CORE = 0,
    OCT_CUDNN_NOTE_STRICT_NAN_PROP = 9,
};

// A zeroed one with `cudnn` and `what` is valid and empty.
typedef struct oct_cudnn_graph {
    const oct_cudnn *cudnn;  // borrowed until deinit
    const char *what;        // for messages: "a convolution"; borrowed
    bool takes_any_engine;   // whatever cuDNN notes about its numbers
    void *descriptors[48];
    size_t n_descriptors;
    int status;              // the first refusal
    void *plan;              // one of the descriptors
    size_t workspace_bytes;
} oct_cudnn_graph;

void *oct_cudnn_begin(oct_cudnn_graph *graph, int type);  // NULL after a refusal
void oct_cudnn_set(oct_cudnn_graph *graph, void *descriptor, int name, int type, int64_t count,
                   const void *values);
void oct_cudnn_set_descriptor(oct_cudnn_graph *graph, void *descriptor, int name, void *value);
void oct_cudnn_end(oct_cudnn_graph *graph, void *descriptor);  // finalize it

// A tensor of four dimensions, aligned to 16 bytes. Strides are in numbers; NULL: dense, the last
// dimension innermost. dtype: F32, F16 or BF16.
void *oct_cudnn_tensor(oct_cudnn_graph *graph, int64_t id, oct_dtype dtype,
                       const int64_t dimensions[4], const int64_t strides[4]);

// A number of F32 that is read on the host when the plan is launched.
void *oct_cudnn_scalar(oct_cudnn_graph *graph, int64_t id);

// A plan of the operation: the first that cuDNN recommends and accepts, unless takes_any_engine of
// engines that add products up in the type of the operation, without transforming them, and the
// same in each run. OCT_EUNSUPPORTED when there is none.
oct_status oct_cudnn_graph_plan(oct_cudnn_graph *graph, void *operation, oct_err *err);

// Launch the plan. workspace: workspace_bytes, aligned to 256.
oct_status oct_cudnn_graph_run(const oct_cudnn_graph *graph, int64_t count, const int64_t *ids,
                               void *const *pointers, void *workspace, oct_stream stream,
                               oct_err *err);
void oct_cudnn_graph_deinit(oct_cudnn_graph *graph);
