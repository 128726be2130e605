// SPDX-License-Identifier: Apache-2.0
//
// The largest magnitude, as bits: an integer maximum, so that the order of threads and atomics
// cannot change it.
#include "kernels/cuda/device.cuh"

constexpr size_t BLOCKS = 1024;  // fills the largest GPU; more would only queue at the atomic

__device__ static uint32_t block_max(uint32_t x)
{
    __shared__ uint32_t warps[WARPS];

    x = warp_max(x);
    if (threadIdx.x % LANES == 0) warps[threadIdx.x / LANES] = x;
    __syncthreads();
    return warp_max(warps[threadIdx.x % WARPS]);
}

__device__ static inline uint32_t magnitude(float x)
{
    return bits_of(x) & 0x7fffffffu;
}

template <typename T> __device__ static inline uint32_t magnitude(T x)
{
    uint16_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffu;
}

template <typename T> __global__ void absmax(uint32_t *max, const T *x, size_t n)
{
    const size_t stride = (size_t)gridDim.x * THREADS * PIECE;
    uint32_t mine = 0;

    for (size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * PIECE; i < n; i += stride) {
        T stored[PIECE];
        load(stored, x + i, n - i);
        for (unsigned j = 0; j < PIECE; j++) {
            const uint32_t bits = magnitude(stored[j]);
            mine = bits > mine ? bits : mine;
        }
    }
    mine = block_max(mine);
    if (threadIdx.x == 0) raise(max, mine);
}

// One warp reads one row.
template <typename T>
__global__ void observe(uint32_t *peaks, bool is_shared, const T *x, size_t rows, size_t cols)
{
    const size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / LANES;
    const unsigned lane = threadIdx.x % LANES;
    if (row >= rows) return;  // uniform per warp, so the shuffles below stay full

    uint32_t mine = 0;
    for (size_t c = lane * PIECE; c < cols; c += LANES * PIECE) {
        const uint32_t bits = peak_of(load_piece(x + row * cols + c, PIECE), PIECE);
        mine = bits > mine ? bits : mine;
    }
    mine = warp_max(mine);
    if (lane == 0) raise(peaks + (is_shared ? 0 : row), mine);
}

void oct_absmax_cuda(uint32_t *max, oct_dtype dtype, const void *x, size_t n, oct_stream stream)
{
    const size_t grid = flat_grid(n) < BLOCKS ? flat_grid(n) : BLOCKS;
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(absmax<T>, grid, THREADS, stream, max, (const T *)x, n);
    });
}

void oct_observe_cuda(uint32_t *peaks, bool is_shared, oct_dtype dtype, const void *x, size_t rows,
                      size_t cols, oct_stream stream)
{
    assert(cols % PIECE == 0);
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(observe<T>, divide_up(rows, WARPS), THREADS, stream, peaks, is_shared, (const T *)x,
               rows, cols);
    });
}
