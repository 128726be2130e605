// SPDX-License-Identifier: Apache-2.0
//
// Our own CUDA kernels: what no library has. Matrix products, attention and convolutions come from
// cuBLASLt and cuDNN.
//
// Each function computes its grid, launches on the stream it is given and returns at once. It
// neither synchronises, nor allocates, nor fails: a failed launch shows in cudaGetLastError(). All
// pointers, those in structs too, are to device memory and aligned to 16 bytes; every allocation of
// cudaMalloc is. Sizes are asserted.
//
// Arithmetic is IEEE binary32 without contraction, sums are taken in an order that depends on the
// sizes alone, and exponentials are kernels/exp.h: one input gives one result, on every GPU and
// under the emulation of tests/cuda. Only a NaN's sign and payload are the hardware's, except where
// an encoding keeps the sign.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/tensor.h"
#include "kernels/ops.h"
#include "kernels/sampler_args.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st *oct_stream;  // a cudaStream_t; NULL is the default stream

// Where a kernel leaves its numbers, and in which form:
//
//   F32         as they are
//   F16, BF16   rounded to nearest, ties to even; overflow gives infinity
//   F8_E4M3     e4m3(y / *scale), as oct_encode_f32_fn in kernels/kernels.h
//
// so that the input of a matrix product costs no pass of its own. With a `peak` the largest
// magnitude before division and rounding is observed on the way: *peak is raised to its binary32
// bits, 0x7f800000 or more when a NaN or an infinity is there.
typedef struct oct_sink {
    void *data;          // does not overlap an input
    oct_dtype dtype;
    const float *scale;  // finite, > 0; only read for F8_E4M3
    uint32_t *peak;      // or NULL
} oct_sink;

// Observe the rows of x[rows][cols] (F16, BF16, F32), cols % 8 == 0: peaks[row] is raised to the
// row's largest magnitude as binary32 bits, like a sink's peak. With `is_shared` all rows raise
// peaks[0].
void oct_observe_cuda(uint32_t *peaks, bool is_shared, oct_dtype dtype, const void *x, size_t rows,
                      size_t cols, oct_stream stream);

// Count n numbers of F16, BF16 or F32 by their exponents: what oct_count_exponents() in
// kernels/exponents.h adds to counts[OCT_EXPONENT_BINS].
void oct_count_exponents_cuda(uint64_t *counts, oct_dtype dtype, const void *x, size_t n,
                              oct_stream stream);

// Sum the squares of the columns of x[rows][cols] (F16, BF16, F32): sums[c] += x[0][c]^2 + x[1][c]^2 +
// .., in binary64. workspace: oct_square_sums_cuda_bytes().
size_t oct_square_sums_cuda_bytes(size_t rows, size_t cols);
void oct_square_sums_cuda(double *sums, oct_dtype dtype, const void *x, size_t rows, size_t cols,
                          void *workspace, oct_stream stream);

// y[i] = x[i]: encode, widen or narrow n numbers of F16, BF16 or F32. To F8_E4M3 a NaN keeps its
// sign: the same bits as kernels/encode.c.
void oct_convert_cuda(oct_sink y, oct_dtype dtype, const void *x, size_t n, oct_stream stream);

// n codes of FP8: y[i] = value(q[i]) * scale, one binary32 multiplication, into F32 (the bits of
// oct_decode_e4m3_fn and oct_decode_mx() in kernels/kernels.h), F16 or BF16.
typedef struct oct_codes {
    const uint8_t *q;
    oct_dtype dtype;              // F8_E4M3 or F8_E5M2
    const float *scale;           // NULL: 1
    const uint8_t *block_scales;  // E8M0 [n / 32] of MXFP8 E4M3, in place of `scale`, or NULL
    size_t n;                     // a multiple of 32 with block_scales
} oct_codes;
void oct_decode_cuda(void *y, oct_dtype dtype, const oct_codes *codes, oct_stream stream);

// Norms of rows of the residual stream, x: [rows][cols], cols % 8 == 0; vectors: [cols].
//
//   layer_norm           y = (x - mean) / sqrt(var + eps) * weight + bias; either may be NULL
//   layer_norm_modulate  y = (x - mean) / sqrt(var + 1e-6) * (1 + scale) + shift
//   rms_norm             y = x / sqrt(mean(x^2) + eps) * weight
void oct_layer_norm_cuda(oct_sink y, const float *x, const float *weight, const float *bias,
                         float eps, size_t rows, size_t cols, oct_stream stream);
void oct_layer_norm_modulate_cuda(oct_sink y, const float *x, const float *shift,
                                  const float *scale, size_t rows, size_t cols, oct_stream stream);
void oct_rms_norm_cuda(oct_sink y, const float *x, const float *weight, float eps, size_t rows,
                       size_t cols, oct_stream stream);

// y = activation(x), the bits of oct_activate(). x: [rows][cols] of F16, BF16 or F32.
typedef struct oct_activate_args {
    oct_activation activation;
    oct_dtype dtype;
    const void *x;
    size_t rows, cols;
} oct_activate_args;
void oct_activate_cuda(oct_sink y, const oct_activate_args *args, oct_stream stream);

// y[i] = activation(gate[i]) * up[i], n numbers of F16, BF16 or F32.
void oct_activate_gated_cuda(oct_sink y, oct_activation activation, oct_dtype dtype,
                             const void *gate, const void *up, size_t n, oct_stream stream);

// x[row][c] += gate[c] * y[row][c] on the residual stream, the bits of oct_add_gated();
// cols % 8 == 0.
typedef struct oct_add_gated_args {
    const void *y;      // F16, BF16 or F32
    oct_dtype dtype;
    const float *gate;  // [cols], or NULL: 1
    size_t rows, cols;
} oct_add_gated_args;
void oct_add_gated_cuda(float *x, const oct_add_gated_args *args, oct_stream stream);

// x[i] += y[i], n numbers of F16, BF16 or F32: one binary32 addition, rounded once.
void oct_add_cuda(void *x, oct_dtype dtype, const void *y, size_t n, oct_stream stream);

// y[cols][rows] = x[rows][cols], of F16, BF16 or F32.
void oct_transpose_cuda(void *y, oct_dtype dtype, const void *x, size_t rows, size_t cols,
                        oct_stream stream);

// y[c][2 height][2 width] = x[c][height][width], each number four times; F16, BF16 or F32.
void oct_upsample2_cuda(void *y, oct_dtype dtype, const void *x, size_t channels, size_t height,
                        size_t width, oct_stream stream);

// Split the fused projection of one stream into the layout of attention, heads outermost, and
// normalize queries and keys per head: x / sqrt(mean(x^2) + 1e-6) * norm. The image's tokens and
// the text's meet in one sequence of `joint` tokens; this stream's begin at `first`.
#define OCT_HEAD_CUDA 64
typedef struct oct_heads_args {
    const void *qkv;               // [tokens][3][heads][64], F16, BF16 or F32
    oct_dtype dtype;
    const float *norm_q, *norm_k;  // [64], or NULL: unchanged
    void *q, *k, *v;               // [heads][joint][64]
    oct_dtype out_dtype;           // F16, BF16 or F32
    size_t tokens, heads, first, joint;
} oct_heads_args;
void oct_split_heads_cuda(const oct_heads_args *args, oct_stream stream);

// A latent [channels][height][width] as patches, and back; patch divides height and width.
//
//   patchify    y[gy, gx][c, py, px]      = latent[c][patch gy + py][patch gx + px]
//   unpatchify  latent[c][.. + py][.. + px] = patches[gy, gx][py, px, c]; F16, BF16 or F32
//
// The two orders of a patch differ, as the model's first and last layers do.
typedef struct oct_latent_shape {
    size_t channels, height, width, patch;
} oct_latent_shape;
void oct_patchify_cuda(oct_sink y, const float *latent, oct_latent_shape shape, oct_stream stream);
void oct_unpatchify_cuda(float *latent, oct_dtype dtype, const void *patches,
                         oct_latent_shape shape, oct_stream stream);

// GroupNorm (affine) of a planar image x[channels][pixels], then SiLU when `has_silu`. groups
// divides channels; pixels % 8 == 0. Statistics are merged in binary64.
typedef struct oct_group_norm_args {
    const void *x;               // F16, BF16 or F32
    oct_dtype dtype;
    const float *weight, *bias;  // [channels]
    float eps;
    bool has_silu;
    size_t groups, channels, pixels;
    void *workspace;             // oct_group_norm_cuda_bytes()
} oct_group_norm_args;
size_t oct_group_norm_cuda_bytes(size_t groups, size_t channels, size_t pixels);
void oct_group_norm_cuda(oct_sink y, const oct_group_norm_args *args, oct_stream stream);

// y[t] = table[ids[t]] * *scale + position[t]: rows of an embedding table of F8_E4M3, F8_E5M2, F16,
// BF16 or F32. width % 8 == 0. Every id is a row of the table: the caller has checked.
typedef struct oct_embed_args {
    const void *table;       // [rows][width]
    oct_dtype dtype;
    const float *scale;      // NULL: 1
    const float *position;   // [tokens][width] or NULL: 0
    const int32_t *ids;      // [tokens]
    size_t tokens, width;
} oct_embed_args;
void oct_embed_cuda(float *y, const oct_embed_args *args, oct_stream stream);

// Guidance and one step of a sampler, the bits of oct_sampler_step() in kernels/ops.h.
void oct_sampler_step_cuda(const oct_sampler_args *args, oct_stream stream);

#ifdef __cplusplus
}
#endif
