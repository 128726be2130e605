// SPDX-License-Identifier: Apache-2.0
//
// Energy per column. Blocks take chunks of rows, and a second kernel adds the chunks in their
// order, so that no atomics decide the last bits.
#include "kernels/cuda/device.cuh"

constexpr size_t CHUNK_ROWS = 64;  // long enough to hide the writes, and 4096 rows give 64 blocks

// blockIdx.x counts chunks along [chunks][groups of columns]; a thread adds up one column.
template <typename T>
__global__ void chunk_sums(double *partial, const T *x, size_t rows, size_t cols, size_t groups)
{
    const size_t chunk = blockIdx.x / groups, c = blockIdx.x % groups * THREADS + threadIdx.x;
    const size_t first = chunk * CHUNK_ROWS;
    const size_t end = rows - first < CHUNK_ROWS ? rows : first + CHUNK_ROWS;
    if (c >= cols) return;

    double sum = 0;
    for (size_t row = first; row < end; row++) {
        const double value = widen(x[row * cols + c]);
        sum += value * value;
    }
    partial[chunk * cols + c] = sum;
}

__global__ void add_chunks(double *sums, const double *partial, size_t chunks, size_t cols)
{
    const size_t c = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= cols) return;

    double sum = 0;
    for (size_t chunk = 0; chunk < chunks; chunk++) sum += partial[chunk * cols + c];
    sums[c] += sum;
}

size_t oct_square_sums_cuda_bytes(size_t rows, size_t cols)
{
    return divide_up(rows, CHUNK_ROWS) * cols * sizeof(double);
}

void oct_square_sums_cuda(double *sums, oct_dtype dtype, const void *x, size_t rows, size_t cols,
                          void *workspace, oct_stream stream)
{
    const size_t chunks = divide_up(rows, CHUNK_ROWS), groups = divide_up(cols, THREADS);
    double *partial = (double *)workspace;

    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(chunk_sums<T>, chunks * groups, THREADS, stream, partial, (const T *)x, rows, cols,
               groups);
    });
    launch(add_chunks, groups, THREADS, stream, sums, (const double *)partial, chunks, cols);
}
