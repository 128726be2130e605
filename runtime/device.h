// SPDX-License-Identifier: Apache-2.0
//
// What a model runs on: memory, and one table of operations that the CPU (device_cpu.c) and a GPU
// (device_cuda.c) both fill. Models are written once, against this table.
//
// Numbers. A model's buffers are of three kinds:
//
//   F32          residual streams, modulation, latents, conditioning: always binary32
//   activation   outputs of layers, q/k/v, feature maps: `device->activation`,
//                F32 on the CPU, F16 or BF16 on a GPU
//   operand      the input of one layer, in the type in which the layer wants it on this device
//                (oct_operand); an operand's buffer has room for F32
//
// Order. Operations go to the current stream, main or side, and are in order there; use(), fork()
// and join() as below. On the CPU everything is done when the call returns. On a GPU nothing is
// waited for but in read() and sync(); inside run() there is neither allocation, write nor read.
//
// Errors. Operations do not fail one by one: what a GPU refuses is kept in the device and returned,
// named, by the next read() or sync(). alloc(), adopt() and open() fail at once.
//
// Observers. With `device->observer` every layer of the denoiser notes how large its input was, for
// the observer's branch and step at the time of the call, and how its numbers are spread (a GPU
// counts them as the layer reads them, in 16 bits). All of it is in the observer after the next
// sync(). The observer is set and taken away between sync() and the next operation.
//
// Pointers named x, y, ... below are to device memory; ids, shapes and layers are host memory.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "common/tensor.h"
#include "kernels/ops.h"
#include "kernels/sampler_args.h"
#include "runtime/linear.h"
#include "runtime/observe.h"

#define OCT_SLOTS 8
#define OCT_HEAD 64                 // of the MMDiT
#define OCT_HEAD_NORM_EPS 1e-6f

typedef struct oct_device oct_device;

// The input of a layer: written by the operation before it (as "operand y"), read by linear().
// Made by operand(); which numbers are in it is the device's business. Several layers may read one
// operand when none of them has an input scale or is in the denoiser's table. "operand y" does not
// overlap what the operation reads unless that is said.
typedef struct oct_operand {
    void *data;
    oct_dtype dtype;         // F32, activation, or F8_E4M3 already divided by the input scale
    const float *scale;      // on the device; of F8_E4M3
    uint32_t *peak;          // where the largest magnitude goes while observed, or NULL
} oct_operand;

// F32 numbers as operand y: what is read back, or read by an operation that wants F32.
static inline oct_operand oct_operand_f32(float *data)
{
    return (oct_operand){.data = data, .dtype = OCT_F32};
}

typedef enum oct_stream_index {
    OCT_STREAM_MAIN,         // image tokens; everything that is not said to be elsewhere
    OCT_STREAM_SIDE,         // text tokens of a block
} oct_stream_index;

// Joint attention of an MMDiT block: tokens of up to two streams in one sequence.
//   qkv    activation [tokens][3][heads][64]: first the image's rows, then the text's
//   norms  RMS norms of queries and keys per head, F32 [64]; NULL: none
//   out    operand of each stream's projection; data NULL: the stream is dropped afterwards and
//          its queries need no answer
//   is_fp8 queries, keys and values in E4M3, each head's with scales of its own, and so the weights
//          of the softmax; the CPU rounds to the same numbers. A GPU must have has_fp8_attention.
typedef struct oct_joint_attention {
    void *qkv;               // may be overwritten
    size_t heads, n_streams;
    bool is_fp8;
    struct {
        size_t tokens;
        const float *norm_q, *norm_k;
        oct_operand out;     // [tokens][heads * 64]
    } streams[2];
} oct_joint_attention;

// Attention of text encoders and the VAE: q, k, v activation [tokens][heads * head_dim].
// out = softmax(scale q k^T + bias) v.
typedef struct oct_plain_attention {
    oct_operand out;         // [tokens][heads * head_dim]
    const void *q, *k, *v;
    size_t tokens, heads, head_dim;
    float scale;
    bool is_causal;
    const float *bias;       // F32 [heads][tokens][tokens] or NULL
} oct_plain_attention;

typedef struct oct_map_shape {   // a planar feature map, activation [channels][height][width]
    size_t channels, height, width;
} oct_map_shape;

typedef struct oct_conv {        // a convolution, zero padding; weights moved by adopt_conv()
    oct_dtype dtype;
    void *weight;                // [out][in][kernel][kernel]
    float *bias;                 // [out]
    size_t out, in, kernel;      // kernel 1 or 3
    void *on_device;             // the device's own copy, or NULL
} oct_conv;

typedef enum oct_precision {
    OCT_PRECISION_AUTO,          // as stored; 16-bit or FP8 products
    OCT_PRECISION_F32,           // inputs and products in F32: layers whose inputs overflow F16
} oct_precision;

typedef struct oct_device_ops {
    void (*close)(oct_device *);

    // ---- Memory, aligned to 16 bytes or more. `what` ends the message "out of memory for ...".
    // What is released or dropped may still be in use by operations that were called before.
    oct_status (*alloc)(oct_device *, void **p, size_t bytes, const char *what, oct_err *);
    void (*release)(oct_device *, void *p);                  // NULL is fine
    void (*write)(oct_device *, void *to, const void *from, size_t bytes);  // from the host, whose
                                                             // memory may change afterwards
    oct_status (*read)(oct_device *, void *to, const void *from, size_t bytes, oct_err *);
    void (*copy)(oct_device *, void *to, const void *from, size_t bytes);   // device to device
    oct_status (*sync)(oct_device *, oct_err *);

    // Move a loaded layer's weights to the device. On a GPU the host's copies (weight, bias and
    // scales) are freed and linear->on_device is set. `group`: layers that run together, a block;
    // with --low-vram groups are streamed. Groups are numbered in the order in which they run. -1:
    // always resident. drop() undoes it and frees the weights, wherever they are: what the layer is
    // and how it ran stays for the report, only oct_linear_deinit() may follow. Fine on a zeroed
    // layer and on one that was not adopted.
    oct_status (*adopt)(oct_device *, oct_linear *, oct_precision, int group, oct_err *);
    void (*drop)(oct_device *, oct_linear *);
    oct_status (*adopt_conv)(oct_device *, oct_conv *, oct_err *);   // conv->weight is never NULL
    void (*drop_conv)(oct_device *, oct_conv *);             // leaves it zeroed; fine as drop() is
    void (*enter_group)(oct_device *, int group);            // needed from here on; -1: none

    // ---- Order.
    void (*use)(oct_device *, oct_stream_index);
    void (*fork)(oct_device *);  // the side stream goes on from where main is
    void (*join)(oct_device *);  // main goes on when both are there

    // Run body(context), which only calls operations. On a GPU it is captured once per `slot`, from
    // 0 to OCT_SLOTS - 1, and replayed: pointers and sizes must be those of the first time, until
    // forget(). Not captured while the device observes.
    void (*run)(oct_device *, int slot, void (*body)(void *context), void *context);
    void (*forget)(oct_device *);

    // ---- Layers.
    oct_operand (*operand)(oct_device *, const oct_linear *, void *buffer);
    oct_operand (*plain)(oct_device *, void *buffer);        // an activation as operand y
    // y[rows][out] = layer(x): activation, or F32 with `is_f32`. Counts in linear->runs, a replay
    // not again, and says in linear->path how it ran.
    void (*linear)(oct_device *, oct_linear *, void *y, bool is_f32, oct_operand x, size_t rows);
    // operand y = activation(layer(x)); scratch: activation [rows][out], not y; the CPU needs none.
    void (*linear_activate)(oct_device *, oct_linear *, oct_operand y, oct_activation, void *scratch,
                            oct_operand x, size_t rows);

    // ---- Rows. x: F32 [rows][cols] unless said; weights, shifts, scales, gates: F32 [cols].
    void (*layer_norm)(oct_device *, oct_operand y, const float *x, const float *weight,
                       const float *bias, float eps, size_t rows, size_t cols);
    void (*layer_norm_modulate)(oct_device *, oct_operand y, const float *x, const float *shift,
                                const float *scale, size_t rows, size_t cols);
    void (*rms_norm)(oct_device *, oct_operand y, const float *x, const float *weight, float eps,
                     size_t rows, size_t cols);
    // x += gate * y; y: activation, or F32 with `is_f32`; gate may be NULL.
    void (*add_gated)(oct_device *, float *x, const void *y, bool is_f32, const float *gate,
                      size_t rows, size_t cols);
    // operand y = activation(x) of n numbers.
    void (*activate)(oct_device *, oct_operand y, oct_activation, const float *x, size_t n);
    // operand y = activation(gate) * up; gate, up: activation [n].
    void (*activate_gated)(oct_device *, oct_operand y, oct_activation, const void *gate,
                           const void *up, size_t n);
    void (*convert)(oct_device *, oct_operand y, const float *x, size_t n);
    void (*joint_attention)(oct_device *, const oct_joint_attention *);
    void (*plain_attention)(oct_device *, const oct_plain_attention *);
    // y[t] = row ids[t] of the table (adopted) + position[t]; F32 [tokens][width]; position may be
    // NULL; ids: host, rows of the table.
    void (*embed)(oct_device *, float *y, const oct_linear *table, const float *position,
                  const int32_t *ids, size_t tokens);

    // ---- Latents, F32 [channels][height][width].
    void (*patchify)(oct_device *, oct_operand y, const float *latent, oct_map_shape, size_t patch);
    void (*unpatchify)(oct_device *, float *latent, const void *patches, oct_map_shape,
                       size_t patch);                        // patches: activation
    void (*sampler_step)(oct_device *, const oct_sampler_args *);

    // ---- Feature maps, activation. In group_norm() y may be x, nowhere else.
    void (*to_map)(oct_device *, void *y, const float *x, size_t n);       // F32 to activation
    void (*from_map)(oct_device *, float *y, const void *x, size_t n);
    void (*conv2d)(oct_device *, void *y, const void *x, const oct_conv *, size_t height,
                   size_t width);
    void (*conv2d_down2)(oct_device *, void *y, const void *x, const oct_conv *, size_t height,
                         size_t width);
    void (*group_norm)(oct_device *, void *y, const void *x, const float *weight,
                       const float *bias, float eps, size_t groups, oct_map_shape, bool has_silu);
    void (*upsample2)(oct_device *, void *y, const void *x, oct_map_shape);
    void (*add)(oct_device *, void *x, const void *y, size_t n);           // x += y
    void (*transpose)(oct_device *, void *y, const void *x, size_t rows, size_t cols);
} oct_device_ops;

struct oct_device {
    const oct_device_ops *ops;
    oct_dtype activation;
    const char *name;            // "the CPU", "NVIDIA H200"
    bool is_gpu, has_fp8;        // has_fp8: FP8 products in hardware
    bool has_fp8_attention;      // and our kernel was compiled for it; false on the CPU
    oct_observer *observer;      // borrowed; NULL: nobody observes
    uint64_t peak_bytes;         // of device memory, so far; 0 on the CPU
};

typedef struct oct_device_request {
    const char *name;            // "auto", "cpu", "cuda", "cuda:N"
    bool needs_gpu, needs_fp8;   // --require gpu, --require fp8
    uint64_t budget;             // --vram, bytes; 0: what is free
    bool is_low_vram;
    oct_dtype activation;        // F16 or BF16, for a GPU; F32: F16
} oct_device_request;

// The device that `request` asks for; of "auto" a GPU if it opens, else the CPU. Says with
// oct_note() which it is and why not a better one, except for "cpu". OCT_EUNSUPPORTED when what was
// asked for or required is not there, OCT_EUSAGE when the CPU is given what is for a GPU.
oct_status oct_device_open(oct_device **device, const oct_device_request *request, oct_err *err);
void oct_device_close(oct_device *device);       // fine on NULL and on the CPU

// OCT_EUNSUPPORTED: "FP8 attention needs a GPU that multiplies FP8, which NVIDIA A100 does not", or
// that this build has no code for it. The CPU will do.
oct_status oct_device_check_fp8_attention(const oct_device *device, oct_err *err);

// Behind oct_device_open(): device_cuda.c, or device_none.c in a build without CUDA. `why` gets a
// sentence when there is no usable GPU (OCT_EUNSUPPORTED): "no CUDA driver (libcuda.so.1)".
oct_status oct_device_open_cuda(oct_device **device, const oct_device_request *request,
                                oct_err *why);
oct_device *oct_device_cpu(void);                // the one CPU device, never closed

// Lays out one block of device memory: first without a block, which only counts, then with it.
typedef struct oct_carver {
    const oct_device *device;
    char *block;                 // or NULL: what is handed out is NULL
    size_t used;                 // bytes so far
} oct_carver;

float *oct_carve_f32(oct_carver *carver, size_t n);        // room for n numbers; operands too
void *oct_carve_activation(oct_carver *carver, size_t n);
void *oct_carve_scratch(oct_carver *carver, size_t n);     // the same; NULL where none is needed

// Move *values, malloc'ed numbers of the host, to the device; release() frees them. NULL stays.
// `what` as for alloc(). On failure they are freed and *values is NULL.
oct_status oct_device_adopt_f32(oct_device *device, float **values, size_t n, const char *what,
                                oct_err *err);
