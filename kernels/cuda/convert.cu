// SPDX-License-Identifier: Apache-2.0
//
// Encode, widen, narrow; decode. Nothing but memory traffic, and a division.
#include "kernels/cuda/device.cuh"

constexpr size_t MX_BLOCK = 32;

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

// 2^(code - 127); 255 is NaN.
__device__ static inline float e8m0(uint8_t code)
{
    if (code == 255) return from_bits(0x7fc00000u);
    return from_bits(code > 0 ? (uint32_t)code << 23 : 0x00400000u);
}

template <typename T, typename U> __global__ void decode(U *y, oct_codes codes)
{
    const place at = flat_place(codes.n);
    if (at.count == 0) return;

    // A piece lies within one block.
    const float factor = codes.block_scales ? e8m0(codes.block_scales[at.first / MX_BLOCK])
                         : codes.scale      ? *codes.scale
                                            : 1.0f;
    const piece p = load_piece((const T *)codes.q + at.first, at.count);
    U stored[PIECE];
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

void oct_decode_cuda(void *y, oct_dtype dtype, const oct_codes *codes, oct_stream stream)
{
    assert(!codes->block_scales || codes->n % MX_BLOCK == 0);
    assert(codes->dtype == OCT_F8_E4M3 || codes->dtype == OCT_F8_E5M2);
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type U;
        const auto kernel = codes->dtype == OCT_F8_E4M3 ? decode<e4m3, U> : decode<e5m2, U>;
        launch(kernel, flat_grid(codes->n), THREADS, stream, (U *)y, *codes);
    });
}
