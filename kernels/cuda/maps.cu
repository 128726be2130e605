// SPDX-License-Identifier: Apache-2.0
//
// Feature maps of the VAE: transposed for its attention, enlarged.
#include "kernels/cuda/device.cuh"

constexpr unsigned TILE = 32, TILE_ROWS = THREADS / TILE;

// Numbers in words of 32 bits, whatever their type; rows are one word longer, so that neither a row
// nor a column meets a bank of shared memory twice.
__device__ static inline uint32_t *shared_tile()
{
    __shared__ uint32_t words[TILE * (TILE + 1)];
    return words;
}

// blockIdx.x counts tiles along [rows][cols]. A warp reads a row of the tile and writes a column.
template <typename T> __global__ void transpose(T *y, const T *x, size_t rows, size_t cols)
{
    uint32_t *tile = shared_tile();
    const size_t across = (cols + TILE - 1) / TILE;
    const size_t top = blockIdx.x / across * TILE, left = blockIdx.x % across * TILE;
    const unsigned lane = threadIdx.x % TILE, first = threadIdx.x / TILE;

    for (unsigned i = first; i < TILE; i += TILE_ROWS)
        if (top + i < rows && left + lane < cols)
            memcpy(&tile[i * (TILE + 1) + lane], &x[(top + i) * cols + left + lane], sizeof(T));
    __syncthreads();
    for (unsigned i = first; i < TILE; i += TILE_ROWS)
        if (left + i < cols && top + lane < rows)
            memcpy((void *)&y[(left + i) * rows + top + lane], &tile[lane * (TILE + 1) + i],
                   sizeof(T));
}

// As rows of all channels: output row r lies over input row r / 2.
template <typename T> __global__ void upsample2(T *y, const T *x, size_t width, size_t n)
{
    const place at = flat_place(n);
    if (at.count == 0) return;

    size_t row = at.first / (2 * width), column = at.first % (2 * width);
    T stored[PIECE];
    for (unsigned i = 0; i < PIECE; i++) {
        if (i < at.count) stored[i] = x[row / 2 * width + column / 2];
        if (++column == 2 * width) {
            column = 0;
            row++;
        }
    }
    store(y + at.first, stored, at.count);
}

void oct_transpose_cuda(void *y, oct_dtype dtype, const void *x, size_t rows, size_t cols,
                        oct_stream stream)
{
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(transpose<T>, divide_up(rows, TILE) * divide_up(cols, TILE), THREADS, stream, (T *)y,
               (const T *)x, rows, cols);
    });
}

void oct_upsample2_cuda(void *y, oct_dtype dtype, const void *x, size_t channels, size_t height,
                        size_t width, oct_stream stream)
{
    const size_t n = channels * height * width * 4;
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(upsample2<T>, flat_grid(n), THREADS, stream, (T *)y, (const T *)x, width, n);
    });
}
