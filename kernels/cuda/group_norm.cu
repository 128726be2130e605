// SPDX-License-Identifier: Apache-2.0
//
// GroupNorm and SiLU. A group can be millions of numbers: blocks take chunks of it, one warp merges
// their moments, a third kernel applies them.
#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/device.cuh"

constexpr unsigned PIECES = 4;  // per thread, held in registers between the two sums
constexpr size_t CHUNK = (size_t)THREADS * PIECE * PIECES;

struct moments {
    double count, mean, squares;  // squares: of distances from the mean, summed
};

__device__ static float block_sum(float x)
{
    __shared__ float warps[WARPS];

    x = warp_sum(x);
    __syncthreads();  // the sum before this one has been read
    if (threadIdx.x % LANES == 0) warps[threadIdx.x / LANES] = x;
    __syncthreads();
    float sum = 0;
    for (unsigned i = 0; i < WARPS; i++) sum += warps[i];
    return sum;
}

// blockIdx.x counts chunks of all groups; a group has `chunks`, the last one may be short.
template <typename T>
__global__ void chunk_moments(moments *partial, const T *x, size_t group_n, size_t chunks)
{
    const size_t first = blockIdx.x % chunks * CHUNK;
    const size_t count = group_n - first < CHUNK ? group_n - first : CHUNK;
    const T *from = x + blockIdx.x / chunks * group_n + first;
    piece mine[PIECES];
    float sum = 0, rest = 0, squares = 0;

    for (unsigned j = 0; j < PIECES; j++) {
        const size_t at = ((size_t)j * THREADS + threadIdx.x) * PIECE;
        mine[j] = load_piece(from + at, at < count ? PIECE : 0);
        for (unsigned i = 0; i < PIECE; i++) sum += mine[j].x[i];
    }
    const float mean = block_sum(sum) / (float)count;
    for (unsigned j = 0; j < PIECES; j++) {
        const size_t at = ((size_t)j * THREADS + threadIdx.x) * PIECE;
        for (unsigned i = 0; i < PIECE && at < count; i++) {
            const float d = mine[j].x[i] - mean;
            rest += d;
            squares += d * d;
        }
    }
    const double left = block_sum(rest), n = (double)count;
    const double total = block_sum(squares);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = moments{n, (double)mean + left / n, total - left * left / n};
}

__device__ static inline moments merged(moments a, moments b)
{
    const double count = a.count + b.count, distance = b.mean - a.mean;
    if (b.count == 0) return a;
    return moments{count, a.mean + distance * (b.count / count),
                   a.squares + b.squares + distance * distance * (a.count * b.count / count)};
}

// One block of one warp per group, into the group's first entry of `partial`.
__global__ void merge_moments(moments *partial, size_t chunks)
{
    moments *group = partial + blockIdx.x * chunks;
    moments mine = {0, 0, 0};

    for (size_t i = threadIdx.x; i < chunks; i += LANES) mine = merged(mine, group[i]);
    for (unsigned lane = LANES / 2; lane > 0; lane /= 2) {
        const moments other = {__shfl_down_sync(ALL_LANES, mine.count, lane),
                               __shfl_down_sync(ALL_LANES, mine.mean, lane),
                               __shfl_down_sync(ALL_LANES, mine.squares, lane)};
        mine = merged(mine, other);
    }
    if (threadIdx.x == 0) group[0] = mine;
}

struct affine {
    const float *weight, *bias;
    float eps;
    bool has_silu;
    size_t group_channels, pixels, chunks;
};

template <typename T, typename U>
__global__ void apply(sink<U> y, const T *x, const moments *partial, affine a, size_t n)
{
    const place at = flat_place(n);
    const size_t channel = at.first / a.pixels;  // a piece lies within one channel
    const moments m = partial[channel / a.group_channels * a.chunks];
    const float mean = (float)m.mean, rest = (float)(m.mean - mean);
    const float scale = (float)(a.weight[channel] / sqrt(m.squares / m.count + a.eps));

    piece p = load_piece(x + at.first, at.count);
    for (unsigned i = 0; i < PIECE; i++) {
        p.x[i] = (p.x[i] - mean - rest) * scale + a.bias[channel];
        if (a.has_silu) p.x[i] = silu(p.x[i]);
    }
    y.put(at.first, p, at.count);
    y.observe(peak_of(p, at.count));
}

size_t oct_group_norm_cuda_bytes(size_t groups, size_t channels, size_t pixels)
{
    return groups * divide_up(channels / groups * pixels, CHUNK) * sizeof(moments);
}

void oct_group_norm_cuda(oct_sink y, const oct_group_norm_args *args, oct_stream stream)
{
    const size_t groups = args->groups, channels = args->channels, pixels = args->pixels;
    assert(groups > 0 && channels > 0 && channels % groups == 0);
    assert(pixels > 0 && pixels % PIECE == 0);
    const size_t n = channels * pixels, group_n = n / groups;
    const size_t chunks = divide_up(group_n, CHUNK);
    moments *partial = (moments *)args->workspace;
    const affine a = {args->weight,      args->bias, args->eps, args->has_silu,
                      channels / groups, pixels,     chunks};

    with_float(args->dtype, [&](auto tag) {
        typedef typename decltype(tag)::type T;
        const T *x = (const T *)args->x;
        launch(chunk_moments<T>, groups * chunks, THREADS, stream, partial, x, group_n, chunks);
        launch(merge_moments, groups, LANES, stream, partial, chunks);
        with_sink(y, [&](auto to) {
            typedef typename decltype(to)::type U;
            launch(apply<T, U>, flat_grid(n), THREADS, stream, to, x, (const moments *)partial, a,
                   n);
        });
    });
}
