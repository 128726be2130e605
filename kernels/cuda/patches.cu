// SPDX-License-Identifier: Apache-2.0
//
// A latent as patches, and back. Small, so the gathers are element by element; the writes are not.
#include "kernels/cuda/device.cuh"

struct grid_shape {
    size_t channels, height, width, patch, columns;  // columns of patches
};

// Where in the latent number i of the patches [token][c][py][px] lies.
__device__ static inline size_t latent_index(const grid_shape &s, size_t i)
{
    const size_t px = i % s.patch, py = i / s.patch % s.patch;
    const size_t c = i / (s.patch * s.patch) % s.channels;
    const size_t token = i / (s.patch * s.patch * s.channels);
    const size_t y = token / s.columns * s.patch + py, x = token % s.columns * s.patch + px;
    return (c * s.height + y) * s.width + x;
}

// Where in the patches [token][py][px][c] number i of the latent lies.
__device__ static inline size_t patch_index(const grid_shape &s, size_t i)
{
    const size_t x = i % s.width, y = i / s.width % s.height, c = i / (s.width * s.height);
    const size_t token = y / s.patch * s.columns + x / s.patch;
    const size_t within = y % s.patch * s.patch + x % s.patch;
    return (token * s.patch * s.patch + within) * s.channels + c;
}

template <typename U>
__global__ void patchify(sink<U> y, const float *latent, grid_shape s, size_t n)
{
    const place at = flat_place(n);
    piece p = {};

    for (unsigned i = 0; i < PIECE; i++)
        if (i < at.count) p.x[i] = latent[latent_index(s, at.first + i)];
    y.put(at.first, p, at.count);
    y.observe(peak_of(p, at.count));
}

template <typename T>
__global__ void unpatchify(float *latent, const T *patches, grid_shape s, size_t n)
{
    const place at = flat_place(n);
    piece p = {};

    for (unsigned i = 0; i < PIECE; i++)
        if (i < at.count) p.x[i] = widen(patches[patch_index(s, at.first + i)]);
    store(latent + at.first, p.x, at.count);
}

static grid_shape shape_of(oct_latent_shape s)
{
    assert(s.patch > 0 && s.height % s.patch == 0 && s.width % s.patch == 0);
    return grid_shape{s.channels, s.height, s.width, s.patch, s.width / s.patch};
}

void oct_patchify_cuda(oct_sink y, const float *latent, oct_latent_shape shape, oct_stream stream)
{
    const size_t n = shape.channels * shape.height * shape.width;
    with_sink(y, [&](auto to) {
        typedef typename decltype(to)::type U;
        launch(patchify<U>, flat_grid(n), THREADS, stream, to, latent, shape_of(shape), n);
    });
}

void oct_unpatchify_cuda(float *latent, oct_dtype dtype, const void *patches,
                         oct_latent_shape shape, oct_stream stream)
{
    const size_t n = shape.channels * shape.height * shape.width;
    with_float(dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(unpatchify<T>, flat_grid(n), THREADS, stream, latent, (const T *)patches,
               shape_of(shape), n);
    });
}
