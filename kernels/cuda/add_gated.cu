// SPDX-License-Identifier: Apache-2.0
//
// A branch's result, gated, onto the residual stream.
#include "kernels/cuda/device.cuh"

template <typename T>
__global__ void add_gated(float *x, const T *y, const float *gate, size_t n, size_t cols)
{
    const place at = flat_place(n);
    if (at.count == 0) return;

    // A piece lies within one row: cols is a multiple of its length.
    const size_t c = at.first % cols;
    piece sum = load_piece(x + at.first, PIECE);
    const piece branch = load_piece(y + at.first, PIECE);
    for (unsigned i = 0; i < PIECE; i++) sum.x[i] += (gate ? gate[c + i] : 1.0f) * branch.x[i];
    store(x + at.first, sum.x, PIECE);
}

void oct_add_gated_cuda(float *x, oct_dtype dtype, const void *y, const float *gate, size_t rows,
                        size_t cols, oct_stream stream)
{
    assert(cols > 0 && cols % PIECE == 0);
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(add_gated<T>, flat_grid(rows * cols), THREADS, stream, x, (const T *)y, gate,
               rows * cols, cols);
    });
}
