// SPDX-License-Identifier: Apache-2.0
//
// A branch's result, gated, onto the residual stream; a feature map onto another.
#include "kernels/cuda/device.cuh"

template <typename T> __global__ void add_gated(float *x, oct_add_gated_args a)
{
    const place at = flat_place(a.rows * a.cols);
    if (at.count == 0) return;

    // A piece lies within one row: cols is a multiple of its length.
    const size_t c = at.first % a.cols;
    piece sum = load_piece(x + at.first, PIECE);
    const piece branch = load_piece((const T *)a.y + at.first, PIECE);
    for (unsigned i = 0; i < PIECE; i++) sum.x[i] += (a.gate ? a.gate[c + i] : 1.0f) * branch.x[i];
    store(x + at.first, sum.x, PIECE);
}

template <typename T> __global__ void add(T *x, const T *y, size_t n)
{
    const place at = flat_place(n);
    const piece a = load_piece(x + at.first, at.count), b = load_piece(y + at.first, at.count);
    T sum[PIECE];

    for (unsigned i = 0; i < PIECE; i++) narrow(&sum[i], a.x[i] + b.x[i], 1.0f, 0);
    store(x + at.first, sum, at.count);
}

void oct_add_gated_cuda(float *x, const oct_add_gated_args *args, oct_stream stream)
{
    assert(args->cols > 0 && args->cols % PIECE == 0);
    with_float(args->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(add_gated<T>, flat_grid(args->rows * args->cols), THREADS, stream, x, *args);
    });
}

void oct_add_cuda(void *x, oct_dtype dtype, const void *y, size_t n, oct_stream stream)
{
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(add<T>, flat_grid(n), THREADS, stream, (T *)x, (const T *)y, n);
    });
}
