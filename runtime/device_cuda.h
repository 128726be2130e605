// SPDX-License-Identifier: Apache-2.0
//
// A GPU as a device, from inside. device_cuda.c opens it and holds the table, device_cuda_memory.c
// has its memory and weights, device_cuda_stream.c the order of things, device_cuda_layer.c matrix
// products, attention and convolutions.
//
// Three streams: main and side compute, the third copies weights that are streamed (--low-vram).
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/gemm.h"
#include "runtime/device.h"

#define OCT_COMPUTE_STREAMS 2

// Device memory that grows with what is asked for; one per stream where two could use it at once.
typedef struct oct_cuda_room {
    void *data;
    size_t bytes;
} oct_cuda_room;

// What a layer became on the device: oct_linear.on_device. One piece of memory holds it all; the
// offsets of what is not there are 0.
typedef struct oct_cuda_layer {
    oct_dtype dtype;  // of the weight: F8_E4M3, activation, or anything with F32 products
    oct_dtype input;  // of operands: F8_E4M3, activation or F32
    float scale;      // of the weight, where row_scales are at most 1
    float *scales;    // [2] on the device, never streamed: of inputs, of the weight
    size_t bias_f32, bias, row_scales;  // offsets: [out]; bias is of the activation type
    size_t bytes;

    uint8_t *data;                // resident
    bool is_missing;              // there was no room: counted in `wanted`
    uint8_t *pinned;              // on the host, streamed
    int group;                    // -1: none
    size_t at;                    // in its group's slot
    struct oct_cuda_layer *next;  // of its group
} oct_cuda_layer;

typedef struct oct_cuda_conv {  // oct_conv.on_device
    void *weight;               // [out][in][kernel][kernel], activation
    float *bias;                // [out] behind it, or NULL
} oct_cuda_conv;

typedef struct oct_cuda_group {
    oct_cuda_layer *layers;
    size_t bytes;
    int successor;  // the group that followed last time
} oct_cuda_group;

typedef struct oct_cuda_slot {  // holds one group at a time
    uint8_t *data;
    int group;                              // -1: none
    cudaEvent_t loaded;                     // the copy is complete
    cudaEvent_t left[OCT_COMPUTE_STREAMS];  // its last user is done
} oct_cuda_slot;

typedef struct oct_cuda_graph {
    bool is_warm;  // has run once: plans are made, memory has grown
    cudaGraphExec_t exec;
} oct_cuda_graph;

typedef struct oct_cuda_piece {
    void *data;
    size_t bytes;
} oct_cuda_piece;

// What layers saw since it was last gathered.
typedef struct oct_cuda_observed {
    const oct_observer *observer;  // for whom; NULL: nothing is kept
    size_t n_layers, n_steps;
    uint32_t *peaks;        // bits, [layers][2][steps + 1]; the last of a row is for all steps
    uint64_t *counts;       // [layers][OCT_EXPONENT_BINS]
    double *squares;        // sums, of all layers' channels in turn; NULL: not asked for
    size_t *first_channel;  // [layers + 1], where a layer's begin; of the host, like
    size_t *cols;           // [layers], of a layer's input
} oct_cuda_observed;

typedef struct oct_cuda_device {
    oct_device device;  // first: the table's functions get a pointer to it
    char name[256];
    int sm;
    oct_gemm_cuda *gemm;
    oct_conv_cuda *conv;
    oct_attention_cuda *attention;

    // Memory. `pieces` is everything that is allocated.
    oct_cuda_piece *pieces;
    size_t n_pieces, pieces_room;
    uint64_t bytes, budget;
    bool is_budget_given;  // by --vram; otherwise it is what was free
    uint64_t wanted;       // by layers for which adopt() found no room
    oct_cuda_room workspace[OCT_COMPUTE_STREAMS], wide[OCT_COMPUTE_STREAMS];
    oct_cuda_room by_row[OCT_COMPUTE_STREAMS];
    oct_cuda_room heads, codes, ids, staging;
    bool has_noted_decoding;

    // Streaming.
    bool is_low_vram;
    oct_cuda_group *groups;
    size_t n_groups;
    oct_cuda_slot slots[2];
    size_t slot_bytes;
    int active;  // slot; -1: none

    // Order.
    cudaStream_t streams[OCT_COMPUTE_STREAMS], copies;
    oct_stream_index current;
    cudaEvent_t forked, joined;
    oct_cuda_graph graphs[OCT_SLOTS];
    bool is_capturing;

    oct_cuda_observed observed;
    oct_status status;  // the first error
    oct_err error;
} oct_cuda_device;

static inline oct_cuda_device *oct_cuda_of(oct_device *device)
{
    return (oct_cuda_device *)device;
}

static inline cudaStream_t oct_cuda_stream(const oct_cuda_device *d)
{
    return d->streams[d->current];
}

// Paths of libraries; NULL: what is installed.
typedef struct oct_cuda_libraries {
    const char *cublaslt, *cudnn;
} oct_cuda_libraries;

// As oct_device_open_cuda(), with these libraries.
oct_status oct_cuda_open(oct_device **device, const oct_device_request *request,
                         const oct_cuda_libraries *libraries, oct_err *why);

// ---- Errors. The first one is kept, with the operation's name, until somebody asks.

void oct_cuda_keep(oct_cuda_device *d, cudaError_t error, const char *operation);
void oct_cuda_keep_status(oct_cuda_device *d, oct_status st, const oct_err *err,
                          const char *operation);
void oct_cuda_keep_launch(oct_cuda_device *d, const char *operation);  // of the kernels before

// ---- Memory.

// `what` ends the message "out of memory for ...". Within the budget; without one that fits, the
// message says what would.
oct_status oct_cuda_alloc(oct_cuda_device *d, void **p, size_t bytes, const char *what,
                          oct_err *err);
void oct_cuda_free(oct_cuda_device *d, void *p);

// Make room for `bytes`; what was there is lost. NULL, and an error is kept, when that fails.
// Captured graphs know the old address: they are forgotten.
void *oct_cuda_reserve(oct_cuda_device *d, oct_cuda_room *room, size_t bytes, const char *what);

// Where a layer's memory is now; NULL, and an error is kept, when it is nowhere.
const uint8_t *oct_cuda_layer_data(oct_cuda_device *d, const oct_linear *linear);

void oct_cuda_free_streaming(oct_cuda_device *d);

oct_status oct_cuda_adopt(oct_device *device, oct_linear *linear, oct_precision precision,
                          int group, oct_err *err);
void oct_cuda_drop(oct_device *device, oct_linear *linear);
oct_status oct_cuda_adopt_conv(oct_device *device, oct_conv *conv, oct_err *err);
void oct_cuda_drop_conv(oct_device *device, oct_conv *conv);
void oct_cuda_enter_group(oct_device *device, int group);

// ---- Order.

oct_status oct_cuda_open_streams(oct_cuda_device *d, oct_err *err);
void oct_cuda_close_streams(oct_cuda_device *d);
void oct_cuda_use(oct_device *device, oct_stream_index stream);
void oct_cuda_fork(oct_device *device);
void oct_cuda_join(oct_device *device);
void oct_cuda_run(oct_device *device, int slot, void (*body)(void *context), void *context);
void oct_cuda_forget(oct_device *device);

// ---- Sinks of operands, and observers.

// Where an operation writes an operand of n numbers, and what follows when it has. Where every row
// of the operand has a peak of its own, numbers take the way through binary32.
oct_sink oct_cuda_begin_sink(oct_cuda_device *d, oct_operand y, size_t n);
void oct_cuda_end_sink(oct_cuda_device *d, oct_operand y, oct_sink sink, size_t n,
                       const char *operation);

// Where the largest magnitude of a layer's input goes now, or NULL: nobody observes, or an error is
// kept.
uint32_t *oct_cuda_find_peak(oct_cuda_device *d, const oct_linear *linear);

// Count the input of a layer that is observed, and sum its squares where they are asked for. Not of
// codes, which are a quantized model's.
void oct_cuda_observe_input(oct_cuda_device *d, const oct_linear *linear, oct_operand x,
                            size_t rows);

void oct_cuda_gather_observed(oct_cuda_device *d);  // into the observer; waits
void oct_cuda_end_observed(oct_cuda_device *d);

// ---- Layers.

oct_operand oct_cuda_operand(oct_device *device, const oct_linear *linear, void *buffer);
oct_operand oct_cuda_plain(oct_device *device, void *buffer);
void oct_cuda_linear(oct_device *device, oct_linear *linear, void *y, bool is_f32, oct_operand x,
                     size_t rows);
void oct_cuda_linear_activate(oct_device *device, oct_linear *linear, oct_operand y,
                              oct_activation activation, void *scratch, oct_operand x, size_t rows);
void oct_cuda_joint_attention(oct_device *device, const oct_joint_attention *args);
void oct_cuda_plain_attention(oct_device *device, const oct_plain_attention *args);
void oct_cuda_embed(oct_device *device, float *y, const oct_linear *table, const float *position,
                    const int32_t *ids, size_t tokens);
void oct_cuda_conv2d(oct_device *device, void *y, const void *x, const oct_conv *conv,
                     size_t height, size_t width);
void oct_cuda_conv2d_down2(oct_device *device, void *y, const void *x, const oct_conv *conv,
                           size_t height, size_t width);
