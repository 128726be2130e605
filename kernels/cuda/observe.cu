// SPDX-License-Identifier: Apache-2.0
//
// Observers. The largest magnitude is an integer maximum of bits and a histogram counts, so the order
// of threads and atomics cannot change them.
#include "kernels/cuda/device.cuh"
#include "kernels/exponents.h"

constexpr size_t BLOCKS = 1024;  // fills the largest GPU; more would only queue at the atomics

// ---- The largest magnitude.

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

// ---- Histograms of exponents.

// As kernels/exponents.c has it.
__device__ static inline unsigned bin_of(float x)
{
    const int bin = (int)(bits_of(x) >> 23 & 0xff) - (127 + OCT_EXPONENT_FIRST - 1);
    if (bin < 0) return 0;
    return bin < OCT_EXPONENT_BINS ? bin : OCT_EXPONENT_BINS - 1;
}

// Every warp has bins of its own, so that few threads meet at one.
template <typename T>
__global__ void count_exponents(unsigned long long *counts, const T *x, size_t n)
{
    __shared__ unsigned bins[WARPS * OCT_EXPONENT_BINS];
    const size_t stride = (size_t)gridDim.x * THREADS * PIECE;
    unsigned *mine = bins + threadIdx.x / LANES * OCT_EXPONENT_BINS;

    for (unsigned i = threadIdx.x; i < WARPS * OCT_EXPONENT_BINS; i += THREADS) bins[i] = 0;
    __syncthreads();
    for (size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * PIECE; i < n; i += stride) {
        const piece p = load_piece(x + i, n - i);
        for (unsigned j = 0; j < PIECE; j++)
            if (j < n - i) atomicAdd(&mine[bin_of(p.x[j])], 1u);
    }
    __syncthreads();
    if (threadIdx.x >= OCT_EXPONENT_BINS) return;
    unsigned long long sum = 0;
    for (unsigned i = threadIdx.x; i < WARPS * OCT_EXPONENT_BINS; i += OCT_EXPONENT_BINS)
        sum += bins[i];
    if (sum > 0) atomicAdd(&counts[threadIdx.x], sum);
}

void oct_count_exponents_cuda(uint64_t *counts, oct_dtype dtype, const void *x, size_t n,
                              oct_stream stream)
{
    const size_t grid = flat_grid(n) < BLOCKS ? flat_grid(n) : BLOCKS;
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(count_exponents<T>, grid, THREADS, stream, (unsigned long long *)counts,
               (const T *)x, n);
    });
}
