// SPDX-License-Identifier: Apache-2.0
//
// Attention of text encoders and the VAE, in binary32: rare enough to be simple, and text encoders
// overflow 16 bits.
//
// A block has 64 queries of one head, all of whose sums stay in registers: 16 by 16 threads, of
// which thread (y, x) keeps rows 4y to 4y + 3 and, of every 64 columns, 4x to 4x + 3. It goes over
// the keys, 64 at a time, as attention.cu does, and over the head's columns, 64 at a time, within.
//
// Its cost: two 16-byte reads of shared memory per 16 FMAs, so about a third of a GPU's binary32
// rate. The VAE's head of 512 at 1024 squared, 16,384 tokens and 0.55 TFLOP, should take an H200
// (67 TFLOP/s) 25 ms, an A100 90 ms, once per image.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device.cuh"
#include "kernels/exp.h"

constexpr unsigned TILE = 64;  // queries, keys, columns
constexpr unsigned SIDE = 16, EACH = TILE / SIDE;
constexpr unsigned HEAD_MAX = 512, PARTS_MAX = HEAD_MAX / TILE;
constexpr unsigned ROW_WORDS = TILE / 4;  // of a tile's row, four numbers each
constexpr unsigned ROW_PIECES = TILE / PIECE;

static_assert(SIDE * SIDE == THREADS, "one thread per four by four numbers");

struct tile {
    float4 words[TILE * ROW_WORDS];
};

struct tiles {
    tile rows;     // queries, or the answers
    tile columns;  // keys, or values
    tile scores;
};

__device__ static tiles *shared_tiles()
{
    __shared__ tiles all;
    return &all;
}

// Words are exchanged within a row, so that the same word of 16 rows lies in different banks.
__device__ static inline float4 *word_of(tile *t, unsigned row, unsigned word)
{
    return t->words + row * ROW_WORDS + (word ^ row % ROW_WORDS);
}

__device__ static inline float *number_of(tile *t, unsigned row, unsigned column)
{
    return (float *)word_of(t, row, column / 4) + column % 4;
}

// Rows first to first + 63 of [tokens][stride], `columns` of them at most 64; zeros elsewhere.
template <typename T>
__device__ static void load_tile(tile *to, const T *from, size_t first, size_t tokens,
                                 size_t stride, size_t columns)
{
    for (unsigned i = threadIdx.x; i < TILE * ROW_PIECES; i += THREADS) {
        const unsigned row = i / ROW_PIECES, column = i % ROW_PIECES * PIECE;
        const bool is_there = first + row < tokens && column < columns;
        const T *source = is_there ? from + (first + row) * stride + column : from;
        const piece p = load_piece(source, is_there ? PIECE : 0);
        *word_of(to, row, column / 4) = make_float4(p.x[0], p.x[1], p.x[2], p.x[3]);
        *word_of(to, row, column / 4 + 1) = make_float4(p.x[4], p.x[5], p.x[6], p.x[7]);
    }
}

__device__ static inline float half_warp_max(float x)
{
    for (unsigned lane = SIDE / 2; lane > 0; lane /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, lane));
    return x;
}

__device__ static inline float half_warp_sum(float x)
{
    for (unsigned lane = SIDE / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}

// What a thread knows of its four queries; the 16 threads of a half warp share them.
struct answers {
    float sums[PARTS_MAX][EACH][EACH];  // of values: part, row, column
    float max[EACH], total[EACH];       // of scores, of exponentials
};

struct place_of_tile {
    size_t head, query, key;  // the first ones
};

// Scores of keys x, x + 16, x + 32 and x + 48 += queries keys^T.
__device__ static inline void multiply_keys(float (&scores)[EACH][EACH], tiles *t)
{
    const unsigned y = threadIdx.x / SIDE, x = threadIdx.x % SIDE;
#pragma unroll 2
    for (unsigned word = 0; word < ROW_WORDS; word++) {
        float4 k[EACH];
#pragma unroll
        for (unsigned j = 0; j < EACH; j++) k[j] = *word_of(&t->columns, x + j * SIDE, word);
#pragma unroll
        for (unsigned i = 0; i < EACH; i++) {
            const float4 q = *word_of(&t->rows, y * EACH + i, word);
#pragma unroll
            for (unsigned j = 0; j < EACH; j++) {
                float *s = &scores[i][j];
                *s = fmaf(q.w, k[j].w, fmaf(q.z, k[j].z, fmaf(q.y, k[j].y, fmaf(q.x, k[j].x, *s))));
            }
        }
    }
}

// sums of one part += exponentials values.
__device__ static inline void add_values(float (&sums)[EACH][EACH], tiles *t)
{
    const unsigned y = threadIdx.x / SIDE, x = threadIdx.x % SIDE;
#pragma unroll 2
    for (unsigned word = 0; word < ROW_WORDS; word++) {
        float4 v[4];
#pragma unroll
        for (unsigned k = 0; k < 4; k++) v[k] = *word_of(&t->columns, word * 4 + k, x);
#pragma unroll
        for (unsigned i = 0; i < EACH; i++) {
            const float4 p = *word_of(&t->scores, y * EACH + i, word);
            const float weight[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
            for (unsigned k = 0; k < 4; k++) {
                sums[i][0] = fmaf(weight[k], v[k].x, sums[i][0]);
                sums[i][1] = fmaf(weight[k], v[k].y, sums[i][1]);
                sums[i][2] = fmaf(weight[k], v[k].z, sums[i][2]);
                sums[i][3] = fmaf(weight[k], v[k].w, sums[i][3]);
            }
        }
    }
}

// Turn a thread's scores of one row into exponentials and bring the row's sums to the new maximum.
__device__ static inline void soften(answers *a, unsigned i, float (&scores)[EACH],
                                     const bool (&is_seen)[EACH])
{
    float largest = a->max[i], sum = 0;
#pragma unroll
    for (unsigned j = 0; j < EACH; j++)
        if (is_seen[j]) largest = fmaxf(largest, scores[j]);
    largest = half_warp_max(largest);
    const float origin = largest == -INFINITY ? 0.0f : largest;  // a row masked so far by its bias
    const float shrink = oct_exp(a->max[i] - origin);

#pragma unroll
    for (unsigned j = 0; j < EACH; j++) {
        scores[j] = is_seen[j] ? oct_exp(scores[j] - origin) : 0.0f;
        sum += scores[j];
    }
#pragma unroll
    for (unsigned part = 0; part < PARTS_MAX; part++) {
#pragma unroll
        for (unsigned j = 0; j < EACH; j++) a->sums[part][i][j] *= shrink;
    }
    a->total[i] = fmaf(a->total[i], shrink, sum);
    a->max[i] = largest;
}

__device__ static inline void soften_tile(answers *a, float (&scores)[EACH][EACH], tile *to,
                                          const oct_plain_attention_args &args, place_of_tile at)
{
    const unsigned y = threadIdx.x / SIDE, x = threadIdx.x % SIDE;
#pragma unroll
    for (unsigned i = 0; i < EACH; i++) {
        const size_t query = at.query + y * EACH + i;
        bool is_seen[EACH];
#pragma unroll
        for (unsigned j = 0; j < EACH; j++) {
            const size_t key = at.key + x + j * SIDE;
            is_seen[j] = key < args.tokens && (!args.is_causal || key <= query);
            scores[i][j] *= args.scale;
            if (args.bias && is_seen[j] && query < args.tokens)
                scores[i][j] += args.bias[(at.head * args.tokens + query) * args.tokens + key];
        }
        soften(a, i, scores[i], is_seen);
#pragma unroll
        for (unsigned j = 0; j < EACH; j++)
            *number_of(to, y * EACH + i, x + j * SIDE) = scores[i][j];
    }
}

__device__ static inline size_t columns_of(const oct_plain_attention_args &args, unsigned part)
{
    const size_t left = args.head_dim - part * TILE;
    return left < TILE ? left : TILE;
}

template <typename T>
__device__ static inline void attend_tile(answers *a, tiles *t,
                                          const oct_plain_attention_args &args, place_of_tile at)
{
    const size_t stride = args.heads * args.head_dim, head = at.head * args.head_dim;
    const T *q = (const T *)args.q + head, *k = (const T *)args.k + head,
            *v = (const T *)args.v + head;
    float scores[EACH][EACH] = {};

    for (unsigned part = 0; part * TILE < args.head_dim; part++) {
        const size_t columns = columns_of(args, part);
        __syncthreads();  // all are done with the tiles before
        load_tile(&t->rows, q + part * TILE, at.query, args.tokens, stride, columns);
        load_tile(&t->columns, k + part * TILE, at.key, args.tokens, stride, columns);
        __syncthreads();
        multiply_keys(scores, t);
    }
    soften_tile(a, scores, &t->scores, args, at);
#pragma unroll
    for (unsigned part = 0; part < PARTS_MAX; part++) {  // unrolled: sums are registers
        if (part * TILE >= args.head_dim) break;
        __syncthreads();
        load_tile(&t->columns, v + part * TILE, at.key, args.tokens, stride,
                  columns_of(args, part));
        __syncthreads();
        add_values(a->sums[part], t);
    }
}

// One part of the answers, through shared memory so that a thread has eight in a row.
__device__ static inline uint32_t put_part(oct_sink y, tile *staged,
                                           const float (&sums)[EACH][EACH],
                                           const float (&inverse)[EACH], size_t rows, size_t first,
                                           size_t stride, size_t columns)
{
    const unsigned ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    uint32_t peak = 0;

    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < EACH; i++) {
        const float *s = sums[i], by = inverse[i];
        *word_of(staged, ty * EACH + i, tx) =
            make_float4(s[0] * by, s[1] * by, s[2] * by, s[3] * by);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < TILE * ROW_PIECES; i += THREADS) {
        const unsigned row = i / ROW_PIECES, column = i % ROW_PIECES * PIECE;
        if (row >= rows || column >= columns) continue;
        piece p;
        memcpy(p.x, word_of(staged, row, column / 4), sizeof(float4));
        memcpy(p.x + 4, word_of(staged, row, column / 4 + 1), sizeof(float4));
        put(y, first + row * stride + column, p);
        const uint32_t largest = peak_of(p, PIECE);
        peak = largest > peak ? largest : peak;
    }
    return peak;
}

// blockIdx.x counts tiles of queries, head by head.
template <typename T>
__global__ void __launch_bounds__(THREADS) attend_plain(oct_sink y, oct_plain_attention_args args)
{
    const size_t tokens = args.tokens, query_tiles = (tokens + TILE - 1) / TILE;
    const size_t stride = args.heads * args.head_dim;
    place_of_tile at = {blockIdx.x / query_tiles, blockIdx.x % query_tiles * TILE, 0};
    const size_t rows = tokens - at.query < TILE ? tokens - at.query : TILE;
    const size_t keys = args.is_causal ? at.query + rows : tokens;
    tiles *t = shared_tiles();
    answers a = {};

    for (unsigned i = 0; i < EACH; i++) a.max[i] = -INFINITY;
    for (at.key = 0; at.key < keys; at.key += TILE) attend_tile<T>(&a, t, args, at);

    float inverse[EACH];
    uint32_t peak = 0;
    for (unsigned i = 0; i < EACH; i++) inverse[i] = 1.0f / half_warp_sum(a.total[i]);
    const size_t first = at.query * stride + at.head * args.head_dim;
#pragma unroll
    for (unsigned part = 0; part < PARTS_MAX; part++) {
        if (part * TILE >= args.head_dim) break;
        const uint32_t largest = put_part(y, &t->rows, a.sums[part], inverse, rows,
                                          first + part * TILE, stride, columns_of(args, part));
        peak = largest > peak ? largest : peak;
    }
    observe(y.peak, peak);
}

void oct_plain_attention_cuda(oct_sink y, const oct_plain_attention_args *args, oct_stream stream)
{
    assert(args->head_dim > 0 && args->head_dim % PIECE == 0 && args->head_dim <= HEAD_MAX);
    check_sink(y);
    with_float(args->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(attend_plain<T>, divide_up(args->tokens, TILE) * args->heads, THREADS, stream, y,
               *args);
    });
}
