// SPDX-License-Identifier: Apache-2.0
//
// Attention on the GPU: softmax(scale * q k^T + bias) v per head, as oct_attention() in
// kernels/ops.h. The launchers keep the rules of kernels/cuda/cuda_kernels.h: they neither
// synchronise, nor allocate, nor fail, and may be captured in a graph. One GPU gives one result.
//
// Of the arithmetic stated there, the kernel of joint attention keeps two things otherwise: its
// products are the tensor cores', of 16-bit or E4M3 numbers summed in binary32, weights of the
// softmax included; and its exponentials are the GPU's own exp2 (relative error 2^-22).
// kernels/exp.h would take three times as long as the products, and the rounding of the weights to
// 16 bits hides the difference. So two kinds of GPU agree within the bounds of
// tests/cuda/check_attention.c only.
#pragma once

#include "kernels/cuda/cuda_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// Joint attention of an MMDiT block, heads of 64, scale 1/8: all `joint` tokens are keys, of the
// image first and then of the text, as oct_split_heads_cuda() lays them out. What they receive goes
// to two sinks, whose types may differ: the operands of the streams' projections.
typedef struct oct_joint_attention_args {
    const void *q, *k, *v;  // [heads][joint][64]
    oct_dtype dtype;        // F16 or BF16; F8_E4M3 from oct_encode_heads_cuda(), sm_89 and above
    const float *scales;    // of F8_E4M3: [3][heads] of q, k, v, and
    size_t padded;          // keys of a row of v
    size_t heads, joint;
    size_t image_tokens;  // of `joint`, > 0
    oct_sink image;       // [image_tokens][heads * 64]
    oct_sink text;        // [joint - image_tokens][heads * 64]; data NULL: the text's queries
                          // are not answered
} oct_joint_attention_args;
void oct_joint_attention_cuda(const oct_joint_attention_args *args, oct_stream stream);

// The same in E4M3, in `codes`: each head's queries, keys and values divided by their largest
// magnitude / 448 (all zeros: by 1), then as oct_encode_f32_fn in kernels/kernels.h. Values are
// laid out for the kernel: [heads][64][padded], a multiple of 64, zeros behind the end, each 32
// keys in the order 0 1 8 9 2 3 10 11 4 5 12 13 6 7 14 15, then the same of 16 to 31. Returns the
// arguments for the kernel. A NaN or an infinity makes its head's answers NaN.
oct_joint_attention_args oct_encode_heads_cuda(const oct_joint_attention_args *args, void *codes,
                                               oct_stream stream);
size_t oct_encode_heads_cuda_bytes(const oct_joint_attention_args *args);

// Whether the current device runs code that was compiled for sm_89 or above. Without it the kernel
// in E4M3 traps: a newer GPU may run what was compiled for an older one.
bool oct_has_e4m3_attention_cuda(void);

// Attention among the tokens of a text encoder or of the VAE. Products, sums and exponentials
// (kernels/exp.h) are binary32, whatever the type of the inputs.
typedef struct oct_plain_attention_args {
    const void *q, *k, *v;  // [tokens][heads * head_dim]
    oct_dtype dtype;        // F16, BF16 or F32
    size_t tokens, heads;
    size_t head_dim;    // a multiple of 8, at most 512
    float scale;        // of q.k before softmax
    bool is_causal;     // query i sees keys <= i
    const float *bias;  // [heads][tokens][tokens] added to the scores, or NULL
} oct_plain_attention_args;
void oct_plain_attention_cuda(oct_sink y, const oct_plain_attention_args *args, oct_stream stream);

#ifdef __cplusplus
}
#endif
