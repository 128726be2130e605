// SPDX-License-Identifier: Apache-2.0
//
// Queries, keys and values to E4M3 for attention, each head with scales of its own.
#include "common/number.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device.cuh"

constexpr unsigned HEAD = OCT_HEAD_CUDA;
constexpr unsigned MEASURERS = 512;  // threads of a block that measures
constexpr unsigned TILE_K = 64;      // keys of a block that transposes
constexpr unsigned E4M3_CHUNK = 16;

__device__ static uint32_t *shared_peaks()
{
    __shared__ uint32_t peaks[MEASURERS / LANES];
    return peaks;
}

// One block per head: its largest magnitude as a scale.
template <typename T> __global__ void measure(float *scales, const T *x, size_t n)
{
    const T *head = x + blockIdx.x * n;
    uint32_t peak = 0;

    for (size_t i = (size_t)threadIdx.x * PIECE; i < n; i += MEASURERS * PIECE) {
        const uint32_t largest = peak_of(load_piece(head + i, PIECE), PIECE);
        peak = largest > peak ? largest : peak;
    }
    peak = warp_max(peak);
    if (threadIdx.x % LANES == 0) shared_peaks()[threadIdx.x / LANES] = peak;
    __syncthreads();
    if (threadIdx.x >= LANES) return;
    peak = warp_max(threadIdx.x < MEASURERS / LANES ? shared_peaks()[threadIdx.x] : 0);
    if (threadIdx.x == 0) scales[blockIdx.x] = peak > 0 ? from_bits(peak) / OCT_E4M3_MAX : 1;
}

template <typename T>
__global__ void encode_rows(e4m3 *y, const T *x, const float *scales, size_t per_head, size_t n)
{
    const place at = flat_place(n);
    if (at.count == 0) return;
    const sink<e4m3> to = {y, scales + at.first / per_head, NULL};
    to.put(at.first, load_piece(x + at.first, PIECE), PIECE);
}

// The place of a key among the 32 of a fragment: a lane has the scores of keys 2t, 2t+1 of each
// eight, and gives four of them at once.
__device__ static inline unsigned slot_of(unsigned key)
{
    const unsigned eight = key % 32 / 8, pair = key % 8 / 2;
    return key / 32 * 32 + eight / 2 * 16 + pair * 4 + eight % 2 * 2 + key % 2;
}

__device__ static e4m3 (*shared_tile())[TILE_K + E4M3_CHUNK]
{
    __shared__ uint4 tile[HEAD][(TILE_K + E4M3_CHUNK) / sizeof(uint4)];
    return (e4m3(*)[TILE_K + E4M3_CHUNK]) tile;
}

// blockIdx.x counts tiles of keys, head by head.
template <typename T>
__global__ void encode_values(e4m3 *y, const T *x, const float *scales, size_t joint, size_t padded)
{
    const size_t tiles = padded / TILE_K;
    const size_t head = blockIdx.x / tiles, first = blockIdx.x % tiles * TILE_K;
    e4m3(*tile)[TILE_K + E4M3_CHUNK] = shared_tile();

    for (unsigned i = threadIdx.x; i < TILE_K * HEAD / PIECE; i += THREADS) {
        const unsigned key = i / (HEAD / PIECE), channel = i % (HEAD / PIECE) * PIECE;
        const bool is_there = first + key < joint;
        const T *from = x + (head * joint + first + key) * HEAD + channel;
        const piece p = load_piece(from, is_there ? PIECE : 0);
        for (unsigned c = 0; c < PIECE; c++)
            tile[channel + c][slot_of(key)] = encode(p.x[c], scales[head], sign_of(p.x[c]));
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < HEAD * TILE_K / E4M3_CHUNK; i += THREADS) {
        const unsigned channel = i / (TILE_K / E4M3_CHUNK);
        const unsigned slot = i % (TILE_K / E4M3_CHUNK) * E4M3_CHUNK;
        *(uint4 *)(y + (head * HEAD + channel) * padded + first + slot) =
            *(const uint4 *)(tile[channel] + slot);
    }
}

// Where each part lies, in bytes.
struct layout {
    size_t k, v, scales, end;
    size_t padded;
};

static layout layout_of(const oct_joint_attention_args *args)
{
    const size_t rows = args->heads * args->joint * HEAD;
    const size_t padded = divide_up(args->joint, TILE_K) * TILE_K;
    const size_t scales = 2 * rows + args->heads * HEAD * padded;
    return {rows, 2 * rows, scales, scales + 3 * args->heads * sizeof(float), padded};
}

size_t oct_encode_heads_cuda_bytes(const oct_joint_attention_args *args)
{
    return layout_of(args).end;
}

template <typename T>
static void encode_heads(const oct_joint_attention_args *from, const oct_joint_attention_args *to,
                         oct_stream stream)
{
    const size_t heads = from->heads, per_head = from->joint * HEAD, n = heads * per_head;
    const void *const x[] = {from->q, from->k, from->v}, *const y[] = {to->q, to->k};
    float *scales = (float *)to->scales;

    for (unsigned part = 0; part < 3; part++)
        launch(measure<T>, heads, MEASURERS, stream, scales + part * heads, (const T *)x[part],
               per_head);
    for (unsigned part = 0; part < 2; part++)
        launch(encode_rows<T>, flat_grid(n), THREADS, stream, (e4m3 *)y[part], (const T *)x[part],
               (const float *)(scales + part * heads), per_head, n);
    launch(encode_values<T>, heads * (to->padded / TILE_K), THREADS, stream, (e4m3 *)to->v,
           (const T *)from->v, (const float *)(scales + 2 * heads), from->joint, to->padded);
}

oct_joint_attention_args oct_encode_heads_cuda(const oct_joint_attention_args *args, void *codes,
                                               oct_stream stream)
{
    const layout at = layout_of(args);
    e4m3 *base = (e4m3 *)codes;
    oct_joint_attention_args encoded = *args;

    assert(args->dtype == OCT_F16 || args->dtype == OCT_BF16);
    encoded.q = base;
    encoded.k = base + at.k;
    encoded.v = base + at.v;
    encoded.scales = (const float *)(base + at.scales);
    encoded.padded = at.padded;
    encoded.dtype = OCT_F8_E4M3;
    if (args->dtype == OCT_F16)
        encode_heads<__half>(args, &encoded, stream);
    else
        encode_heads<bf16>(args, &encoded, stream);
    return encoded;
}
