// SPDX-License-Identifier: Apache-2.0
//
// Scale, bias and GELU behind a matrix product. Nothing but memory traffic.
#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm_finish.h"

template <typename T, typename B>
__global__ void finish(T *y, const float *row_scales, const B *bias, bool has_gelu, size_t n,
                       unsigned cols)
{
    const place at = flat_place(n);
    unsigned col = (unsigned)(at.first % cols);
    piece p = load_piece(y + at.first, at.count);
    T stored[PIECE];

    for (unsigned i = 0; i < PIECE; i++) {
        if (row_scales) p.x[i] *= row_scales[col];
        if (bias) p.x[i] += widen(bias[col]);
        if (has_gelu) p.x[i] = gelu_tanh(p.x[i]);
        narrow(&stored[i], p.x[i], 1.0f, 0);
        col = col + 1 < cols ? col + 1 : 0;
    }
    store(y + at.first, stored, at.count);
}

__global__ static void fill(float *y, const float *value, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] = value ? *value : 1.0f;
}

void oct_gemm_finish_cuda(const oct_gemm_finish_args *args, oct_stream stream)
{
    const oct_gemm_finish_args a = *args;
    const size_t n = a.rows * a.cols;

    assert(a.cols <= UINT32_MAX);
    with_float(a.dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        with_float(a.bias ? a.bias_dtype : OCT_F32, [&](auto bias) {
            typedef typename decltype(bias)::type B;
            launch(finish<T, B>, flat_grid(n), THREADS, stream, (T *)a.y, a.row_scales,
                   (const B *)a.bias, a.has_gelu, n, (unsigned)a.cols);
        });
    });
}

void oct_fill_cuda(float *y, const float *value, size_t n, oct_stream stream)
{
    launch(fill, divide_up(n, THREADS), THREADS, stream, y, value, n);
}
