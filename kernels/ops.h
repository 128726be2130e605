// SPDX-License-Identifier: Apache-2.0
//
// The operations of a diffusion transformer and its VAE on the CPU, in binary32.
//
// These use OpenMP threads themselves, in pieces that do not depend on their number: neither do the
// results. Matrices are row-major and dense unless a stride is given. Statistics are accumulated in
// binary32 or better. In-place is allowed where said. Nothing here fails; sizes are asserted.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/tensor.h"
#include "kernels/sampler_args.h"

// y[m][n] = x[m][k] * w[n][k]^T * scale + bias[n].  bias may be NULL.
void oct_gemm(float *y, const float *x, const float *w, const float *bias, float scale, size_t m,
              size_t n, size_t k);

// The same with weights in their stored type (F32, F16, BF16, F8_E4M3, F8_E5M2), widened exactly
// in tiles, so that no full F32 copy ever exists. FP8 codes enter as they are: `scale` applies to
// the accumulated product.
void oct_gemm_weights(float *y, const float *x, oct_dtype dtype, const void *w, const float *bias,
                      float scale, size_t m, size_t n, size_t k);

// Weights [n][k] with more scales than one.
typedef struct oct_gemm_weight {
    oct_dtype dtype;
    const void *data;
    float scale;                  // of the accumulated product
    const float *row_scales;      // [n], or NULL: y = (x w^T) * (scale * row_scales[n]) + bias
    const uint8_t *block_scales;  // E8M0 [n][k / 32] of MXFP8 codes, or NULL: decoded in the tiles
} oct_gemm_weight;

void oct_gemm_scaled(float *y, const float *x, const oct_gemm_weight *w, const float *bias,
                     size_t m, size_t n, size_t k);

// y = (x - mean) / sqrt(var + eps) * weight + bias per row; biased variance; weight and bias may be
// NULL. In-place allowed.
void oct_layer_norm(float *y, const float *x, const float *weight, const float *bias, float eps,
                    size_t rows, size_t cols);

// y = layer_norm(x) * (1 + scale) + shift, eps 1e-6; shift, scale: [cols].
void oct_layer_norm_modulate(float *y, const float *x, const float *shift, const float *scale,
                             size_t rows, size_t cols);

// x[i][:] = x / sqrt(mean(x^2) + eps) * weight for `rows` rows of `cols` that lie `stride` floats
// apart. In place.
void oct_rms_norm(float *x, const float *weight, float eps, size_t rows, size_t cols,
                  size_t stride);

// x[t][c] += gate[c] * y[t][c];  gate may be NULL (1).
void oct_add_gated(float *x, const float *y, const float *gate, size_t rows, size_t cols);

typedef enum oct_activation {
    OCT_GELU_TANH,   // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    OCT_GELU_ERF,    // 0.5 x (1 + erf(x / sqrt 2))
    OCT_QUICK_GELU,  // x sigmoid(1.702 x)
    OCT_SILU,        // x sigmoid(x)
} oct_activation;

void oct_activate(float *x, oct_activation activation, size_t n);  // in place

typedef struct oct_attention_args {
    float *out;                 // [tokens_q][heads * head_dim], rows out_stride apart; may be q
    const float *q, *k, *v;     // [tokens][heads * head_dim], rows *_stride floats apart
    size_t out_stride, q_stride, k_stride, v_stride;
    size_t tokens_q, tokens_k, heads, head_dim;
    float scale;                // of q.k before softmax
    bool is_causal;             // query i sees keys <= i
    const float *bias;          // [heads][tokens_q][tokens_k] added to the scores, or NULL
    bool has_e4m3_weights;      // the weights of the softmax times 256, as the largest so far has
                                // 1, are rounded to E4M3; their sum is not
} oct_attention_args;

// out = softmax(scale * q k^T + bias) v per head; scores and sums in F32, tiled over queries: the
// full score matrix never exists.
void oct_attention(const oct_attention_args *args);

// Images are planar: [channels][height][width].
// y = conv(x) with zero padding so that height and width stay; kernel: 1 or 3.
// weight: [out][in][kernel][kernel] in its stored type.
void oct_conv2d(float *y, const float *x, oct_dtype dtype, const void *weight, const float *bias,
                size_t in, size_t out, size_t height, size_t width, size_t kernel);

// The same with kernel 3 and stride 2, padded with one row of zeros below and one column on the
// right only. y: [out][height / 2][width / 2].
void oct_conv2d_down2(float *y, const float *x, oct_dtype dtype, const void *weight,
                      const float *bias, size_t in, size_t out, size_t height, size_t width);

// GroupNorm (affine), statistics in double; then SiLU when `silu`. In-place allowed.
void oct_group_norm(float *y, const float *x, const float *weight, const float *bias, float eps,
                    size_t groups, size_t channels, size_t pixels, bool silu);

// y[c][2h][2w] = x[c][h][w] repeated 2x2.
void oct_upsample2(float *y, const float *x, size_t channels, size_t height, size_t width);

// A latent [channels][height][width] as patches, and back; patch divides height and width.
//
//   patchify    y[gy, gx][c, py, px]        = latent[c][patch gy + py][patch gx + px]
//   unpatchify  latent[c][.. + py][.. + px] = patches[gy, gx][py, px, c]
//
// The two orders of a patch differ, as the model's first and last layers do.
void oct_patchify(float *y, const float *latent, size_t channels, size_t height, size_t width,
                  size_t patch);
void oct_unpatchify(float *latent, const float *patches, size_t channels, size_t height,
                    size_t width, size_t patch);

// Guidance and one step of a sampler.
void oct_sampler_step(const oct_sampler_args *args);
