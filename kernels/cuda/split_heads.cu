// SPDX-License-Identifier: Apache-2.0
//
// From the fused projection to the layout of attention, with RMS norm of queries and keys.
#include "kernels/cuda/device.cuh"

constexpr float EPS = 1e-6f;
constexpr unsigned HEAD = OCT_HEAD_CUDA;
constexpr unsigned HEAD_LANES = HEAD / PIECE;  // 8 lanes hold one head of one token

__device__ static inline float head_sum(float x)
{
    for (unsigned lane = HEAD_LANES / 2; lane > 0; lane /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}

__device__ static inline piece normalized(piece p, const float *norm, unsigned first)
{
    float squares = 0;
    for (unsigned i = 0; i < PIECE; i++) squares += p.x[i] * p.x[i];
    const float inverse_rms = 1.0f / sqrtf(head_sum(squares) / HEAD + EPS);
    for (unsigned i = 0; i < PIECE; i++) p.x[i] = p.x[i] * inverse_rms * norm[first + i];
    return p;
}

// blockIdx.x counts groups of heads along [tokens][heads]; part: 0 queries, 1 keys, 2 values.
template <typename T, typename U>
__global__ void split_heads(oct_heads_args a, unsigned part, const float *norm, U *out)
{
    const size_t item = ((size_t)blockIdx.x * THREADS + threadIdx.x) / HEAD_LANES;
    const unsigned first = threadIdx.x % HEAD_LANES * PIECE;
    const bool is_there = item < a.tokens * a.heads;
    const size_t token = item / a.heads, head = item % a.heads;

    // Lanes behind the end stay: their warp's shuffles need them.
    const T *from = (const T *)a.qkv + ((token * 3 + part) * a.heads + head) * HEAD + first;
    piece p = load_piece(from, is_there ? PIECE : 0);
    if (norm) p = normalized(p, norm, first);
    if (!is_there) return;

    U stored[PIECE];
    for (unsigned i = 0; i < PIECE; i++) narrow(&stored[i], p.x[i], 1.0f, 0);
    store(out + (head * a.joint + a.first + token) * HEAD + first, stored, PIECE);
}

void oct_split_heads_cuda(const oct_heads_args *args, oct_stream stream)
{
    const size_t threads = args->tokens * args->heads * HEAD_LANES;
    void *const out[] = {args->q, args->k, args->v};
    const float *const norm[] = {args->norm_q, args->norm_k, NULL};

    assert(args->first + args->tokens <= args->joint);
    with_float(args->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        with_float(args->out_dtype, [&](auto out_tag) {
            typedef typename decltype(out_tag)::type U;
            for (unsigned part = 0; part < 3; part++)
                launch(split_heads<T, U>, divide_up(threads, THREADS), THREADS, stream, *args, part,
                       norm[part], (U *)out[part]);
        });
    });
}
