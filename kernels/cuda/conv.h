// SPDX-License-Identifier: Apache-2.0
//
// Convolutions of planar maps [channels][height][width] on a GPU: by cuDNN, which is looked for
// when the program runs, and by a kernel of our own (oct_conv_direct_cuda) where cuDNN is missing
// or has nothing for a shape.
//
// x, y and weights are F16 or BF16, all three the same; sums and biases are binary32. The own
// kernel rounds y once; behind cuDNN the bias is a pass of its own, and y is rounded before and
// after it. Zeros surround a map. Pointers but `oct_conv_cuda_call` itself are to device memory,
// aligned to 16 bytes.
//
// A shape is planned once and then launched as often as one likes: launches neither allocate nor
// wait, and may be captured in a graph. Of cuDNN only engines are used that add up as one expects:
// no Winograd, no FFT, no partial sums in 16 bits, nothing that differs from run to run. One GPU
// and one library give one result.
//
// One thread at a time uses an oct_conv_cuda.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "common/tensor.h"
#include "kernels/cuda/cuda_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oct_conv_cuda oct_conv_cuda;
struct oct_cudnn;

// Make a cuDNN handle on the current device; library: its path, NULL: libcudnn.so.9. Without the
// library the own kernel does everything, so only a library that is there and fails is an error,
// OCT_EDEVICE.
oct_status oct_conv_cuda_open(oct_conv_cuda **conv, const char *library, oct_err *err);
void oct_conv_cuda_close(oct_conv_cuda *conv);  // NULL is fine

const char *oct_conv_cuda_library(const oct_conv_cuda *conv);  // "cuDNN 9.19.0" or "own kernels"

typedef struct oct_conv_cuda_call {
    oct_dtype dtype;
    size_t in, out, height, width;  // height and width of x
    size_t kernel;                  // 1 or 3
    bool is_down2;                  // oct_conv2d_down2 of kernels/ops.h: kernel 3, stride 2, zeros
                                    // below and on the right only; height and width are even
    const void *x;                  // [in][height][width]
    const void *weight;             // [out][in][kernel][kernel]
    const float *bias;              // [out] or NULL: 0
    void *y;                        // [out][height][width], of half the size with is_down2
} oct_conv_cuda_call;

// Plan this shape; nothing happens if that is planned already. `bytes` gets the workspace that it
// wants. Not in a graph capture; no pointer is followed.
oct_status oct_conv_cuda_plan(oct_conv_cuda *conv, const oct_conv_cuda_call *call, size_t *bytes,
                              oct_err *err);

// Launch a call that is planned; the first launch may load a kernel, so a graph is captured after
// it. workspace: aligned to 256 bytes; each stream has its own.
// OCT_EDEVICE when the library refuses, or when there is no plan.
oct_status oct_conv_cuda_run(oct_conv_cuda *conv, const oct_conv_cuda_call *call, void *workspace,
                             oct_stream stream, oct_err *err);

// What a plan launches where cuDNN does nothing; no plan is needed.
void oct_conv_direct_cuda(const oct_conv_cuda_call *call, oct_stream stream);

// y[c][..] += bias[c], behind cuDNN.
void oct_conv_bias_cuda(const oct_conv_cuda_call *call, oct_stream stream);

// Describe a convolution to cuDNN and forget it: whether it takes the description, without a GPU.
oct_status oct_conv_cuda_describe(const struct oct_cudnn *cudnn, const oct_conv_cuda_call *call,
                                  oct_err *err);

#ifdef __cplusplus
}
#endif
