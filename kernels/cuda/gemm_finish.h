// SPDX-License-Identifier: Apache-2.0
//
// What a matrix product leaves to a pass of our own, under the rules of kernels/cuda/cuda_kernels.h.
#pragma once

#include "kernels/cuda/cuda_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// y[row][c] = gelu(y[row][c] * row_scales[c] + bias[c]) in place, in binary32, rounded once.
typedef struct oct_gemm_finish_args {
    void *y;                  // [rows][cols]
    oct_dtype dtype;          // F32, F16, BF16
    const float *row_scales;  // [cols] or NULL: 1
    const void *bias;         // [cols] or NULL: 0
    oct_dtype bias_dtype;     // F32, F16, BF16
    bool has_gelu;            // OCT_GELU_TANH of kernels/ops.h
    size_t rows, cols;
} oct_gemm_finish_args;
void oct_gemm_finish_cuda(const oct_gemm_finish_args *args, oct_stream stream);

// y[i] = *value; a NULL value is 1.
void oct_fill_cuda(float *y, const float *value, size_t n, oct_stream stream);

#ifdef __cplusplus
}
#endif
