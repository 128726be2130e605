// SPDX-License-Identifier: Apache-2.0
//
// Encode, widen, narrow; decode. Nothing but memory traffic, and a division.
#include "kernels/cuda/device.cuh"

template <typename T, typename U> __global__ void convert(sink<U> y, const T *x, size_t n)
{
    const place at = flat_place(n);
    T stored[PIECE];
    uint8_t signs[PIECE];
    piece p;

    load(stored, x + at.first, at.count);
    for (unsigned i = 0; i < PIECE; i++) {
        p.x[i] = widen(stored[i]);
        signs[i] = sign_of(stored[i]);
    }
    y.put(at.first, p, signs, at.count);
    y.observe(peak_of(p, at.count));
}

template <typename U> __global__ void decode(U *y, const e4m3 *q, size_t n, const float *scale)
{
    const place at = flat_place(n);
    const float factor = scale ? *scale : 1.0f;
    U stored[PIECE];

    const piece p = load_piece(q + at.first, at.count);
    for (unsigned i = 0; i < PIECE; i++) narrow(&stored[i], p.x[i] * factor, 1.0f, 0);
    store(y + at.first, stored, at.count);
}

void oct_convert_cuda(oct_sink y, oct_dtype dtype, const void *x, size_t n, oct_stream stream)
{
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        with_sink(y, [&](auto to) {
            typedef typename decltype(to)::type U;
            launch(convert<T, U>, flat_grid(n), THREADS, stream, to, (const T *)x, n);
        });
    });
}

void oct_decode_cuda(void *y, oct_dtype dtype, const uint8_t *q, size_t n, const float *scale,
                     oct_stream stream)
{
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type U;
        launch(decode<U>, flat_grid(n), THREADS, stream, (U *)y, q, n, scale);
    });
}
