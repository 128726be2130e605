// SPDX-License-Identifier: Apache-2.0
//
// Convolution as a product of weights [out][in * taps] and the neighbourhoods of pixels, which
// exist only tile by tile in shared memory: a block computes 64 channels of 64 pixels, a thread 4
// of 4. Depth is walked in order, so that sums do not depend on the grid. Simple, and as fast as
// the GPU's binary32 units, which is what one wants where there is no cuDNN.
#include "kernels/cuda/conv.h"
#include "kernels/cuda/device.cuh"

constexpr unsigned TILE = 64, DEPTH = 16, EACH = 4;
constexpr unsigned SIDE = TILE / EACH;  // threads along a side of the tile

struct conv_shape {
    unsigned in, out, height, width, kernel, stride, padding;
    unsigned width_out, pixels_out, depth;
};

struct tile {
    float weight[DEPTH][TILE], x[DEPTH][TILE];
};

__device__ static tile *shared_tile()
{
    __shared__ tile t;
    return &t;
}

template <typename T>
__device__ static float neighbour(const T *x, const conv_shape &s, unsigned d, unsigned pixel)
{
    if (d >= s.depth || pixel >= s.pixels_out) return 0;
    const unsigned taps = s.kernel * s.kernel, channel = d / taps, tap = d % taps;
    const unsigned row = pixel / s.width_out * s.stride + tap / s.kernel - s.padding;
    const unsigned col = pixel % s.width_out * s.stride + tap % s.kernel - s.padding;
    if (row >= s.height || col >= s.width) return 0;  // also what is negative
    return widen(x[((size_t)channel * s.height + row) * s.width + col]);
}

template <typename T>
__device__ static void load_tile(tile *t, const T *weight, const T *x, const conv_shape &s,
                                 unsigned first_d, unsigned first_out, unsigned first_pixel)
{
    for (unsigned i = threadIdx.x; i < DEPTH * TILE; i += THREADS) {
        const unsigned d = first_d + i % DEPTH, out = first_out + i / DEPTH;
        const bool is_there = d < s.depth && out < s.out;
        t->weight[i % DEPTH][i / DEPTH] = is_there ? widen(weight[(size_t)out * s.depth + d]) : 0;
    }
    for (unsigned i = threadIdx.x; i < DEPTH * TILE; i += THREADS)
        t->x[i / TILE][i % TILE] = neighbour(x, s, first_d + i / TILE, first_pixel + i % TILE);
}

__device__ static void add_tile(float (*sum)[EACH], const tile *t, unsigned out, unsigned pixel)
{
    for (unsigned d = 0; d < DEPTH; d++) {
        for (unsigned i = 0; i < EACH; i++)
            for (unsigned j = 0; j < EACH; j++)
                sum[i][j] = fmaf(t->weight[d][out + i], t->x[d][pixel + j], sum[i][j]);
    }
}

template <typename T>
__global__ void conv_direct(T *y, const T *x, const T *weight, const float *bias, conv_shape s)
{
    const unsigned tiles = (s.out + TILE - 1) / TILE;
    const unsigned first_out = blockIdx.x % tiles * TILE, first_pixel = blockIdx.x / tiles * TILE;
    const unsigned out = threadIdx.x / SIDE * EACH, pixel = threadIdx.x % SIDE * EACH;
    tile *t = shared_tile();
    float sum[EACH][EACH] = {};

    for (unsigned d = 0; d < s.depth; d += DEPTH) {
        load_tile(t, weight, x, s, d, first_out, first_pixel);
        __syncthreads();
        add_tile(sum, t, out, pixel);
        __syncthreads();
    }
    for (unsigned i = 0; i < EACH; i++) {
        for (unsigned j = 0; j < EACH; j++) {
            const unsigned o = first_out + out + i, p = first_pixel + pixel + j;
            if (o >= s.out || p >= s.pixels_out) continue;
            narrow(&y[(size_t)o * s.pixels_out + p], sum[i][j] + (bias ? bias[o] : 0), 1.0f, 0);
        }
    }
}

template <typename T> __global__ void conv_bias(T *y, const float *bias, size_t n, unsigned pixels)
{
    const place at = flat_place(n);
    piece p = load_piece(y + at.first, at.count);
    T stored[PIECE];

    for (unsigned i = 0; i < PIECE; i++) {
        const size_t index = at.first + i;
        narrow(&stored[i], p.x[i] + (index < n ? bias[index / pixels] : 0), 1.0f, 0);
    }
    store(y + at.first, stored, at.count);
}

static conv_shape shape_of(const oct_conv_cuda_call *call)
{
    const unsigned stride = call->is_down2 ? 2 : 1;
    conv_shape s = {};
    s.in = (unsigned)call->in;
    s.out = (unsigned)call->out;
    s.height = (unsigned)call->height;
    s.width = (unsigned)call->width;
    s.kernel = (unsigned)call->kernel;
    s.stride = stride;
    s.padding = call->is_down2 ? 0 : s.kernel / 2;
    s.width_out = s.width / stride;
    s.pixels_out = s.height / stride * s.width_out;
    s.depth = s.in * s.kernel * s.kernel;
    return s;
}

void oct_conv_direct_cuda(const oct_conv_cuda_call *call, oct_stream stream)
{
    const conv_shape s = shape_of(call);
    const size_t grid = divide_up(s.out, TILE) * divide_up(s.pixels_out, TILE);

    assert(call->dtype != OCT_F32 && call->height * call->width <= INT32_MAX);
    with_float(call->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(conv_direct<T>, grid, THREADS, stream, (T *)call->y, (const T *)call->x,
               (const T *)call->weight, call->bias, s);
    });
}

void oct_conv_bias_cuda(const oct_conv_cuda_call *call, oct_stream stream)
{
    const conv_shape s = shape_of(call);
    const size_t n = (size_t)s.out * s.pixels_out;

    with_float(call->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        launch(conv_bias<T>, flat_grid(n), THREADS, stream, (T *)call->y, call->bias, n,
               s.pixels_out);
    });
}
