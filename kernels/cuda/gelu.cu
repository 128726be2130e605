// SPDX-License-Identifier: Apache-2.0
//
// GELU (tanh), into the form that the next matrix product reads.
#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/device.cuh"

template <typename T, typename U> __global__ void gelu(sink<U> y, const T *x, size_t n)
{
    const place at = flat_place(n);
    piece p = load_piece(x + at.first, at.count);

    for (unsigned i = 0; i < PIECE; i++) p.x[i] = gelu_tanh(p.x[i]);
    y.put(at.first, p, at.count);
    y.observe(peak_of(p, at.count));
}

void oct_gelu_cuda(oct_sink y, oct_dtype dtype, const void *x, size_t n, oct_stream stream)
{
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        with_sink(y, [&](auto to) {
            typedef typename decltype(to)::type U;
            launch(gelu<T, U>, flat_grid(n), THREADS, stream, to, (const T *)x, n);
        });
    });
}
