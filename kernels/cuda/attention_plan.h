// SPDX-License-Identifier: Apache-2.0
//
// Joint attention by whichever is faster: cuDNN's on sm_90 and sm_100, if it is there and takes the
// shape; otherwise oct_joint_attention_cuda().
//
// A shape is planned once, which may take seconds (cuDNN compiles), and then launched as often as
// one likes: launches neither allocate nor wait, and may be captured in a graph. One GPU and one
// library give one result.
//
// One thread at a time uses an oct_attention_cuda.
#pragma once

#include <stddef.h>

#include "common/status.h"
#include "kernels/cuda/attention.h"

typedef struct oct_attention_cuda oct_attention_cuda;

typedef struct oct_attention_cuda_params {
    int sm;               // compute capability of the current device: 90 for 9.0
    const char *library;  // path of cuDNN; NULL: libcudnn.so.9
} oct_attention_cuda_params;

// Make a cuDNN handle on the current device, where cuDNN would be used. Without the library the own
// kernel does everything, so only a library that is there and fails is an error, OCT_EDEVICE.
oct_status oct_attention_cuda_open(oct_attention_cuda **attention,
                                   const oct_attention_cuda_params *params, oct_err *err);
void oct_attention_cuda_close(oct_attention_cuda *attention);  // NULL is fine

// What does the work of this shape, or of all where none is planned: "cuDNN 9.19.0" or "own
// kernel"; for the report.
const char *oct_attention_cuda_library(const oct_attention_cuda *attention,
                                       const oct_joint_attention_args *args);

// Plan the shape of these arguments; nothing happens if that is planned already. `bytes` gets the
// workspace that it wants. Not in a graph capture; no pointer is followed, but whether there are
// sinks, and whether they are one array, counts.
oct_status oct_attention_cuda_plan(oct_attention_cuda *attention,
                                   const oct_joint_attention_args *args, size_t *bytes,
                                   oct_err *err);

// Launch arguments of a shape that is planned. workspace: aligned to 256 bytes; each stream has its
// own. OCT_EDEVICE when the library refuses, or when there is no plan.
//
// cuDNN leaves numbers of `dtype` in one array. Sinks of that type without a peak, the text's
// directly behind the image's, are that array; others are filled from the workspace by
// oct_convert_cuda(), two roundings instead of one.
oct_status oct_attention_cuda_run(oct_attention_cuda *attention,
                                  const oct_joint_attention_args *args, void *workspace,
                                  oct_stream stream, oct_err *err);
