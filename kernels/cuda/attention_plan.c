// SPDX-License-Identifier: Apache-2.0
//
// The choice between cuDNN's attention and ours.
#include "kernels/cuda/attention_plan.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/sdpa.h"

#define HEAD OCT_HEAD_CUDA
#define WORKSPACE_ALIGNMENT ((size_t)256)

typedef struct plan {
    oct_sdpa_shape shape;
    oct_cudnn_graph graph;  // its plan is NULL where the own kernel does the work
    struct plan *next;
} plan;

struct oct_attention_cuda {
    oct_cudnn cudnn;  // closed where it is not used
    char library[32];
    plan *plans;
};

// Where cuDNN's kernels of attention were measured to be faster than FlashAttention-2's.
static bool prefers_cudnn(int sm)
{
    return sm == 90 || sm == 100;
}

static oct_status open_library(oct_attention_cuda *attention,
                               const oct_attention_cuda_params *params, oct_err *err)
{
    oct_cudnn *cudnn = &attention->cudnn;
    if (!prefers_cudnn(params->sm)) return OCT_OK;
    const oct_status st = oct_cudnn_open(cudnn, params->library, err);
    if (st) return st == OCT_EUNSUPPORTED ? OCT_OK : st;
    if (cudnn->version < OCT_SDPA_CUDNN_MIN) {
        oct_cudnn_close(cudnn);
        return OCT_OK;
    }
    snprintf(attention->library, sizeof attention->library, "cuDNN %zu.%zu.%zu",
             cudnn->version / 10000, cudnn->version / 100 % 100, cudnn->version % 100);
    return OCT_OK;
}

oct_status oct_attention_cuda_open(oct_attention_cuda **attention,
                                   const oct_attention_cuda_params *params, oct_err *err)
{
    *attention = calloc(1, sizeof **attention);
    if (!*attention) return oct_fail(err, OCT_ENOMEM, "out of memory for attention");
    strcpy((*attention)->library, "own kernel");
    const oct_status st = open_library(*attention, params, err);
    if (st) {
        free(*attention);
        *attention = NULL;
    }
    return st;
}

void oct_attention_cuda_close(oct_attention_cuda *attention)
{
    if (!attention) return;
    while (attention->plans) {
        plan *first = attention->plans;
        attention->plans = first->next;
        oct_cudnn_graph_deinit(&first->graph);
        free(first);
    }
    oct_cudnn_close(&attention->cudnn);
    free(attention);
}

static oct_sdpa_shape shape_of(const oct_joint_attention_args *args)
{
    const size_t queries = args->text.data ? args->joint : args->image_tokens;
    return (oct_sdpa_shape){args->dtype, args->heads, queries, args->joint};
}

static const plan *find(const oct_attention_cuda *attention, oct_sdpa_shape shape)
{
    for (const plan *p = attention->plans; p; p = p->next) {
        if (p->shape.dtype == shape.dtype && p->shape.heads == shape.heads &&
            p->shape.queries == shape.queries && p->shape.joint == shape.joint)
            return p;
    }
    return NULL;
}

const char *oct_attention_cuda_library(const oct_attention_cuda *attention,
                                       const oct_joint_attention_args *args)
{
    const plan *p = args ? find(attention, shape_of(args)) : NULL;
    return p && !p->graph.plan ? "own kernel" : attention->library;
}

// Whether cuDNN can write to the sinks.
static bool is_direct(const oct_joint_attention_args *args)
{
    const size_t image_bytes = args->image_tokens * args->heads * HEAD * sizeof(uint16_t);
    const bool has_text = args->text.data != NULL;
    if (args->image.dtype != args->dtype || args->image.peak) return false;
    if (!has_text) return true;
    return args->text.dtype == args->dtype && !args->text.peak &&
           (const char *)args->image.data + image_bytes == args->text.data;
}

static size_t padded(size_t bytes)
{
    return (bytes + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT;
}

static size_t workspace_bytes(const plan *p, const oct_joint_attention_args *args)
{
    if (!p->graph.plan) return 0;
    const size_t answers = p->shape.queries * p->shape.heads * HEAD * sizeof(uint16_t);
    return padded(p->graph.workspace_bytes) + (is_direct(args) ? 0 : answers);
}

oct_status oct_attention_cuda_plan(oct_attention_cuda *attention,
                                   const oct_joint_attention_args *args, size_t *bytes,
                                   oct_err *err)
{
    const oct_sdpa_shape shape = shape_of(args);
    const plan *planned = find(attention, shape);

    if (!planned) {
        plan *p = calloc(1, sizeof *p);
        if (!p) return oct_fail(err, OCT_ENOMEM, "out of memory for a plan of attention");
        p->shape = shape;
        p->next = attention->plans;
        attention->plans = p;
        // What cuDNN refuses, for whatever reason, is left to the own kernel.
        if (attention->cudnn.handle) oct_sdpa_init(&p->graph, &attention->cudnn, shape, NULL);
        planned = p;
    }
    *bytes = workspace_bytes(planned, args);
    return OCT_OK;
}

static oct_status run_cudnn(const plan *p, const oct_joint_attention_args *args, void *workspace,
                            oct_stream stream, oct_err *err)
{
    const size_t width = args->heads * HEAD, image = args->image_tokens * width;
    const bool direct = is_direct(args);
    uint16_t *staged = (uint16_t *)((char *)workspace + padded(p->graph.workspace_bytes));
    void *out = direct ? args->image.data : staged;

    const oct_status st =
        oct_sdpa_run(&p->graph, out, args->q, args->k, args->v, workspace, stream, err);
    if (st || direct) return st;
    oct_convert_cuda(args->image, args->dtype, staged, image, stream);
    if (args->text.data)
        oct_convert_cuda(args->text, args->dtype, staged + image, args->joint * width - image,
                         stream);
    return OCT_OK;
}

oct_status oct_attention_cuda_run(oct_attention_cuda *attention,
                                  const oct_joint_attention_args *args, void *workspace,
                                  oct_stream stream, oct_err *err)
{
    const plan *p = find(attention, shape_of(args));
    if (!p) return oct_fail(err, OCT_EDEVICE, "no plan for attention of %zu tokens", args->joint);
    assert((uintptr_t)workspace % WORKSPACE_ALIGNMENT == 0);
    if (p->graph.plan) return run_cudnn(p, args, workspace, stream, err);
    oct_joint_attention_cuda(args, stream);
    return OCT_OK;
}
