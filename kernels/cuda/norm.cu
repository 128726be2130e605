// SPDX-License-Identifier: Apache-2.0
//
// Norms of rows, into the form that the next matrix product reads.
#include "kernels/cuda/device.cuh"

struct moments {
    float mean, rest;  // the mean is their sum: `rest` is what rounding left of it
    float inverse_deviation;
};

// The second pass looks at distances from a mean that is nearly right, and corrects it, so that a
// large mean costs no digits though all is binary32.
__device__ static inline moments row_moments(const float *x, size_t cols, float eps, unsigned lane)
{
    float sum = 0, rest = 0, squares = 0;

    for (size_t c = lane * PIECE; c < cols; c += LANES * PIECE) {
        const piece p = load_piece(x + c, PIECE);
        for (unsigned i = 0; i < PIECE; i++) sum += p.x[i];
    }
    const float mean = warp_sum(sum) / (float)cols;
    for (size_t c = lane * PIECE; c < cols; c += LANES * PIECE) {
        const piece p = load_piece(x + c, PIECE);
        for (unsigned i = 0; i < PIECE; i++) {
            const float d = p.x[i] - mean;
            rest += d;
            squares += d * d;
        }
    }
    rest = warp_sum(rest) / (float)cols;
    const float variance = warp_sum(squares) / (float)cols - rest * rest;
    return moments{mean, rest, 1.0f / sqrtf((variance > 0 ? variance : 0) + eps)};
}

// Columns c to c + 8 of a vector; zeros without one.
__device__ static inline piece load_columns(const float *vector, size_t c)
{
    return load_piece(vector + (vector ? c : 0), vector ? PIECE : 0);
}

// What follows normalizing: normal * (plus + factor) + term.
struct affine {
    const float *factor, *term;  // [cols], or NULL: 0
    float plus;
};

// One warp reads one row, three times: the second and third time from the cache.
template <typename U>
__global__ void layer_norm(sink<U> y, const float *x, affine a, float eps, size_t rows, size_t cols)
{
    const size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / LANES;
    const unsigned lane = threadIdx.x % LANES;
    if (row >= rows) return;  // uniform per warp, so the shuffles below stay full

    const float *in = x + row * cols;
    const moments m = row_moments(in, cols, eps, lane);
    uint32_t peak = 0;
    for (size_t c = lane * PIECE; c < cols; c += LANES * PIECE) {
        piece p = load_piece(in + c, PIECE);
        const piece factor = load_columns(a.factor, c), term = load_columns(a.term, c);
        for (unsigned i = 0; i < PIECE; i++) {
            const float normal = (p.x[i] - m.mean - m.rest) * m.inverse_deviation;
            p.x[i] = normal * (a.plus + factor.x[i]) + term.x[i];
        }
        y.put(row * cols + c, p, PIECE);
        const uint32_t bits = peak_of(p, PIECE);
        peak = bits > peak ? bits : peak;
    }
    y.observe(peak);
}

// One warp reads one row, twice.
template <typename U>
__global__ void rms_norm(sink<U> y, const float *x, const float *weight, float eps, size_t rows,
                         size_t cols)
{
    const size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / LANES;
    const unsigned lane = threadIdx.x % LANES;
    if (row >= rows) return;  // uniform per warp, so the shuffles below stay full

    const float *in = x + row * cols;
    float squares = 0;
    for (size_t c = lane * PIECE; c < cols; c += LANES * PIECE) {
        const piece p = load_piece(in + c, PIECE);
        for (unsigned i = 0; i < PIECE; i++) squares += p.x[i] * p.x[i];
    }
    const float inverse_rms = 1.0f / sqrtf(warp_sum(squares) / (float)cols + eps);
    uint32_t peak = 0;
    for (size_t c = lane * PIECE; c < cols; c += LANES * PIECE) {
        piece p = load_piece(in + c, PIECE);
        const piece factor = load_piece(weight + c, PIECE);
        for (unsigned i = 0; i < PIECE; i++) p.x[i] = p.x[i] * inverse_rms * factor.x[i];
        y.put(row * cols + c, p, PIECE);
        const uint32_t bits = peak_of(p, PIECE);
        peak = bits > peak ? bits : peak;
    }
    y.observe(peak);
}

static void launch_layer_norm(oct_sink y, const float *x, affine a, float eps, size_t rows,
                              size_t cols, oct_stream stream)
{
    assert(cols > 0 && cols % PIECE == 0);
    with_sink(y, [&](auto to) {
        typedef typename decltype(to)::type U;
        launch(layer_norm<U>, divide_up(rows, WARPS), THREADS, stream, to, x, a, eps, rows, cols);
    });
}

void oct_layer_norm_cuda(oct_sink y, const float *x, const float *weight, const float *bias,
                         float eps, size_t rows, size_t cols, oct_stream stream)
{
    launch_layer_norm(y, x, affine{weight, bias, weight ? 0.0f : 1.0f}, eps, rows, cols, stream);
}

void oct_layer_norm_modulate_cuda(oct_sink y, const float *x, const float *shift,
                                  const float *scale, size_t rows, size_t cols, oct_stream stream)
{
    launch_layer_norm(y, x, affine{scale, shift, 1.0f}, 1e-6f, rows, cols, stream);
}

void oct_rms_norm_cuda(oct_sink y, const float *x, const float *weight, float eps, size_t rows,
                       size_t cols, oct_stream stream)
{
    assert(cols > 0 && cols % PIECE == 0);
    with_sink(y, [&](auto to) {
        typedef typename decltype(to)::type U;
        launch(rms_norm<U>, divide_up(rows, WARPS), THREADS, stream, to, x, weight, eps, rows,
               cols);
    });
}
