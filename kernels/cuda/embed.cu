// SPDX-License-Identifier: Apache-2.0
//
// Rows of an embedding table.
#include "kernels/cuda/device.cuh"

template <typename T> __global__ void embed(float *y, oct_embed_args a)
{
    const place at = flat_place(a.tokens * a.width);
    if (at.count == 0) return;

    // A piece lies within one row: width is a multiple of its length.
    const size_t token = at.first / a.width, c = at.first % a.width;
    const float factor = a.scale ? *a.scale : 1.0f;
    piece p = load_piece((const T *)a.table + (size_t)a.ids[token] * a.width + c, PIECE);
    for (unsigned i = 0; i < PIECE; i++) p.x[i] *= factor;
    if (a.position) {
        const piece term = load_piece(a.position + at.first, PIECE);
        for (unsigned i = 0; i < PIECE; i++) p.x[i] += term.x[i];
    }
    store(y + at.first, p.x, PIECE);
}

void oct_embed_cuda(float *y, const oct_embed_args *args, oct_stream stream)
{
    assert(args->width > 0 && args->width % PIECE == 0);
    const size_t grid = flat_grid(args->tokens * args->width);
    if (args->dtype == OCT_F8_E5M2) {
        launch(embed<e5m2>, grid, THREADS, stream, y, *args);
        return;
    }
    with_stored(args->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(embed<T>, grid, THREADS, stream, y, *args);
    });
}
