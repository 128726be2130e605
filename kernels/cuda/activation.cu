// SPDX-License-Identifier: Apache-2.0
//
// Activations, gated or not, into the form that the next matrix product reads.
#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/device.cuh"

__device__ static inline void activate(oct_activation activation, piece *p)
{
    switch (activation) {  // uniform
    case OCT_GELU_TANH:
        for (unsigned i = 0; i < PIECE; i++) p->x[i] = gelu_tanh(p->x[i]);
        break;
    case OCT_GELU_ERF:
        for (unsigned i = 0; i < PIECE; i++) p->x[i] = gelu_erf(p->x[i]);
        break;
    case OCT_QUICK_GELU:
        for (unsigned i = 0; i < PIECE; i++) p->x[i] = quick_gelu(p->x[i]);
        break;
    case OCT_SILU:
        for (unsigned i = 0; i < PIECE; i++) p->x[i] = silu(p->x[i]);
        break;
    }
}

template <typename T, typename U>
__global__ void activate_all(sink<U> y, oct_activation activation, const T *x, size_t n)
{
    const place at = flat_place(n);
    piece p = load_piece(x + at.first, at.count);

    activate(activation, &p);
    y.put(at.first, p, at.count);
    y.observe(peak_of(p, at.count));
}

template <typename T, typename U>
__global__ void activate_gated(sink<U> y, oct_activation activation, const T *gate, const T *up,
                               size_t n)
{
    const place at = flat_place(n);
    const piece factor = load_piece(up + at.first, at.count);
    piece p = load_piece(gate + at.first, at.count);

    activate(activation, &p);
    for (unsigned i = 0; i < PIECE; i++) p.x[i] *= factor.x[i];
    y.put(at.first, p, at.count);
    y.observe(peak_of(p, at.count));
}

void oct_activate_cuda(oct_sink y, const oct_activate_args *args, oct_stream stream)
{
    const size_t n = args->rows * args->cols;
    with_float(args->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        with_sink(y, [&](auto to) {
            typedef typename decltype(to)::type U;
            launch(activate_all<T, U>, flat_grid(n), THREADS, stream, to, args->activation,
                   (const T *)args->x, n);
        });
    });
}

void oct_activate_gated_cuda(oct_sink y, oct_activation activation, oct_dtype dtype,
                             const void *gate, const void *up, size_t n, oct_stream stream)
{
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        with_sink(y, [&](auto to) {
            typedef typename decltype(to)::type U;
            launch(activate_gated<T, U>, flat_grid(n), THREADS, stream, to, activation,
                   (const T *)gate, (const T *)up, n);
        });
    });
}
