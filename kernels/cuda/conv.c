// SPDX-License-Identifier: Apache-2.0
//
// The choice between cuDNN's convolutions and ours.
#include "kernels/cuda/conv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cudnn_graph.h"

#define WORKSPACE_ALIGNMENT 256
#define POINTER_ALIGNMENT 16

enum { X = 1, WEIGHT, Y, TENSORS = Y };  // the tensors' unique ids

typedef struct plan {
    oct_conv_cuda_call shape;  // pointers are not looked at
    oct_cudnn_graph graph;     // its plan is NULL where the own kernel does the work
    struct plan *next;
} plan;

struct oct_conv_cuda {
    oct_cudnn cudnn;  // closed where there is none
    char library[32];
    plan *plans;
};

oct_status oct_conv_cuda_open(oct_conv_cuda **conv, const char *library, oct_err *err)
{
    oct_conv_cuda *made = calloc(1, sizeof *made);

    *conv = NULL;
    if (!made) return oct_fail(err, OCT_ENOMEM, "out of memory for convolutions");
    strcpy(made->library, "own kernels");
    const oct_status st = oct_cudnn_open(&made->cudnn, library, err);
    if (st && st != OCT_EUNSUPPORTED) {
        free(made);
        return st;
    }
    const size_t version = made->cudnn.version;
    if (!st)
        snprintf(made->library, sizeof made->library, "cuDNN %zu.%zu.%zu", version / 10000,
                 version / 100 % 100, version % 100);
    *conv = made;
    return OCT_OK;
}

void oct_conv_cuda_close(oct_conv_cuda *conv)
{
    if (!conv) return;
    while (conv->plans) {
        plan *first = conv->plans;
        conv->plans = first->next;
        oct_cudnn_graph_deinit(&first->graph);
        free(first);
    }
    oct_cudnn_close(&conv->cudnn);
    free(conv);
}

static bool is_alike(const oct_conv_cuda_call *a, const oct_conv_cuda_call *b)
{
    return a->dtype == b->dtype && a->in == b->in && a->out == b->out && a->height == b->height &&
           a->width == b->width && a->kernel == b->kernel && a->is_down2 == b->is_down2;
}

static const plan *find(const oct_conv_cuda *conv, const oct_conv_cuda_call *call)
{
    for (const plan *p = conv->plans; p; p = p->next) {
        if (is_alike(&p->shape, call)) return p;
    }
    return NULL;
}

const char *oct_conv_cuda_library(const oct_conv_cuda *conv)
{
    return conv->library;
}

static void *describe_taps(oct_cudnn_graph *graph, const oct_conv_cuda_call *call)
{
    const int type = OCT_CUDNN_DATA_FLOAT, mode = OCT_CUDNN_CROSS_CORRELATION;
    const int64_t side = (int64_t)call->kernel / 2, stride = call->is_down2 ? 2 : 1, dims = 2;
    const int64_t before[2] = {call->is_down2 ? 0 : side, call->is_down2 ? 0 : side};
    const int64_t behind[2] = {side, side}, strides[2] = {stride, stride}, dilations[2] = {1, 1};
    void *taps = oct_cudnn_begin(graph, OCT_CUDNN_CONVOLUTION_DESCRIPTOR);

    oct_cudnn_set(graph, taps, OCT_CUDNN_CONVOLUTION_COMP_TYPE, OCT_CUDNN_TYPE_DATA_TYPE, 1, &type);
    oct_cudnn_set(graph, taps, OCT_CUDNN_CONVOLUTION_CONV_MODE, OCT_CUDNN_TYPE_CONVOLUTION_MODE, 1,
                  &mode);
    oct_cudnn_set(graph, taps, OCT_CUDNN_CONVOLUTION_SPATIAL_DIMS, OCT_CUDNN_TYPE_INT64, 1, &dims);
    oct_cudnn_set(graph, taps, OCT_CUDNN_CONVOLUTION_DILATIONS, OCT_CUDNN_TYPE_INT64, 2, dilations);
    oct_cudnn_set(graph, taps, OCT_CUDNN_CONVOLUTION_FILTER_STRIDES, OCT_CUDNN_TYPE_INT64, 2,
                  strides);
    oct_cudnn_set(graph, taps, OCT_CUDNN_CONVOLUTION_PRE_PADDINGS, OCT_CUDNN_TYPE_INT64, 2, before);
    oct_cudnn_set(graph, taps, OCT_CUDNN_CONVOLUTION_POST_PADDINGS, OCT_CUDNN_TYPE_INT64, 2,
                  behind);
    oct_cudnn_end(graph, taps);
    return taps;
}

// Describe the operation; needs no GPU.
static void *describe(oct_cudnn_graph *graph, const oct_conv_cuda_call *call)
{
    const int64_t in = (int64_t)call->in, out = (int64_t)call->out, side = (int64_t)call->kernel;
    const int64_t stride = call->is_down2 ? 2 : 1;
    const int64_t height = (int64_t)call->height, width = (int64_t)call->width;
    const int64_t x_dims[4] = {1, in, height, width}, weight_dims[4] = {out, in, side, side};
    const int64_t y_dims[4] = {1, out, height / stride, width / stride};
    const float one = 1, zero = 0;
    void *x = oct_cudnn_tensor(graph, X, call->dtype, x_dims, NULL);
    void *weight = oct_cudnn_tensor(graph, WEIGHT, call->dtype, weight_dims, NULL);
    void *y = oct_cudnn_tensor(graph, Y, call->dtype, y_dims, NULL);
    void *taps = describe_taps(graph, call);
    void *operation = oct_cudnn_begin(graph, OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);

    oct_cudnn_set_descriptor(graph, operation, OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_X, x);
    oct_cudnn_set_descriptor(graph, operation, OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_W, weight);
    oct_cudnn_set_descriptor(graph, operation, OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_Y, y);
    oct_cudnn_set_descriptor(graph, operation, OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                             taps);
    oct_cudnn_set(graph, operation, OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                  OCT_CUDNN_TYPE_FLOAT, 1, &one);
    oct_cudnn_set(graph, operation, OCT_CUDNN_OPERATION_CONVOLUTION_FORWARD_BETA,
                  OCT_CUDNN_TYPE_FLOAT, 1, &zero);
    oct_cudnn_end(graph, operation);
    return operation;
}

oct_status oct_conv_cuda_describe(const oct_cudnn *cudnn, const oct_conv_cuda_call *call,
                                  oct_err *err)
{
    oct_cudnn_graph graph = {.cudnn = cudnn, .what = "a convolution"};
    describe(&graph, call);
    const oct_status st = oct_cudnn_fail(cudnn, graph.status, graph.what, err);
    oct_cudnn_graph_deinit(&graph);
    return st;
}

// What cuDNN refuses, for whatever reason, is left to the own kernel.
static void plan_with_cudnn(const oct_conv_cuda *conv, plan *p)
{
    p->graph = (oct_cudnn_graph){.cudnn = &conv->cudnn, .what = "a convolution"};
    if (oct_cudnn_graph_plan(&p->graph, describe(&p->graph, &p->shape), NULL))
        oct_cudnn_graph_deinit(&p->graph);
}

oct_status oct_conv_cuda_plan(oct_conv_cuda *conv, const oct_conv_cuda_call *call, size_t *bytes,
                              oct_err *err)
{
    const plan *planned = find(conv, call);

    assert(oct_dtype_is_float16(call->dtype) && (call->kernel == 1 || call->kernel == 3));
    assert(!call->is_down2 || (call->kernel == 3 && call->height % 2 == 0 && call->width % 2 == 0));
    if (!planned) {
        plan *p = calloc(1, sizeof *p);
        if (!p) return oct_fail(err, OCT_ENOMEM, "out of memory for a plan of a convolution");
        p->shape = *call;
        p->next = conv->plans;
        conv->plans = p;
        if (conv->cudnn.handle) plan_with_cudnn(conv, p);
        planned = p;
    }
    *bytes = planned->graph.workspace_bytes;
    return OCT_OK;
}

static bool is_aligned(const void *pointer)
{
    return (uintptr_t)pointer % POINTER_ALIGNMENT == 0;
}

oct_status oct_conv_cuda_run(oct_conv_cuda *conv, const oct_conv_cuda_call *call, void *workspace,
                             oct_stream stream, oct_err *err)
{
    static const int64_t ids[TENSORS] = {X, WEIGHT, Y};
    void *const pointers[TENSORS] = {(void *)call->x, (void *)call->weight, call->y};
    const plan *p = find(conv, call);

    if (!p)
        return oct_fail(err, OCT_EDEVICE, "no plan for a convolution of %zu channels of %zux%zu",
                        call->in, call->height, call->width);
    assert(is_aligned(call->x) && is_aligned(call->weight) && is_aligned(call->y));
    assert((uintptr_t)workspace % WORKSPACE_ALIGNMENT == 0);
    if (!p->graph.plan) {
        oct_conv_direct_cuda(call, stream);
        return OCT_OK;
    }
    const oct_status st =
        oct_cudnn_graph_run(&p->graph, TENSORS, ids, pointers, workspace, stream, err);
    if (!st && call->bias) oct_conv_bias_cuda(call, stream);
    return st;
}
