// SPDX-License-Identifier: Apache-2.0
//
// The device merges moments of chunks. The formula in binary64, which kernels/group_norm.c keeps to
// but for the rounding of the mean, is met within a few units in the last place of its terms.
#include <math.h>

#include "tests/cuda/check_cuda.h"
#include "tests/cuda/memory.h"

#define ULP 0x1p-23f
#define EPS 1e-6f

typedef struct shape {
    size_t groups, channels, pixels;
} shape;

static void norm_group(float *y, float *bound, const float *x, const float *weight,
                       const float *bias, size_t channels, size_t pixels, bool silu)
{
    const size_t n = channels * pixels;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1 / sqrt(squares / (double)n + EPS);
    for (size_t i = 0; i < n; i++) {
        const double normal = (x[i] - mean) * inverse, factor = weight[i / pixels];
        const double affine = normal * factor + bias[i / pixels];
        const double lost = 4 * (fabs(normal) + 1) * fabs(factor) + 2 * fabs(affine);
        y[i] = (float)(silu ? affine / (1 + exp(-affine)) : affine);
        bound[i] = ULP * (float)(1.1 * lost + 2 * fabs(y[i]));  // SiLU is nowhere steeper than 1.1
    }
}

static void check_image(cuda_check *t, oct_dtype from, oct_dtype to, shape s, float mean, bool silu)
{
    const size_t n = s.channels * s.pixels, each = s.channels / s.groups;
    cuda_case(t, "%s to %s, %zu groups, %zux%zu, mean %g%s", oct_dtype_name(from),
              oct_dtype_name(to), s.groups, s.channels, s.pixels, mean, silu ? ", silu" : "");
    float *values = cuda_uniform(t, n, 3);
    for (size_t i = 0; i < n; i++) values[i] += mean;
    const void *x = cuda_narrowed(from, values, n);
    const float *wide = cuda_widened(from, x, n);
    const float *weight = cuda_uniform(t, s.channels, 2), *bias = cuda_uniform(t, s.channels, 1);
    float *want = cuda_host(n * sizeof *want), *bound = cuda_host(n * sizeof *bound);
    const cuda_target y = cuda_new_target(t, to, n, 0.0123f);

    oct_group_norm_cuda(
        y.sink,
        &(oct_group_norm_args){
            .x = cuda_copy(x, cuda_bytes(from, n)),
            .dtype = from,
            .weight = cuda_copy(weight, s.channels * sizeof *weight),
            .bias = cuda_copy(bias, s.channels * sizeof *bias),
            .eps = EPS,
            .has_silu = silu,
            .groups = s.groups,
            .channels = s.channels,
            .pixels = s.pixels,
            .workspace = memory_new(oct_group_norm_cuda_bytes(s.groups, s.channels, s.pixels)),
        },
        NULL);
    for (size_t c = 0; c < s.channels; c += each)
        norm_group(want + c * s.pixels, bound + c * s.pixels, wide + c * s.pixels, weight + c,
                   bias + c, each, s.pixels, silu);
    cuda_check_target(t, &y, want, bound);
}

void check_cuda_group_norm(cuda_check *t)
{
    // One chunk is 8,192 numbers: less, exactly one, a few with a short last one, more than a warp.
    static const shape shapes[] = {{1, 1, 8},    {2, 4, 16},    {32, 64, 64},
                                   {1, 2, 4096}, {3, 6, 10248}, {1, 1, 270344}};

    for (size_t i = 0; i < CHECK_COUNT(shapes); i++) {
        const bool is_large = shapes[i].pixels > 10000;  // the emulation takes its time
        for (size_t f = 0; f < (is_large ? 1 : CHECK_COUNT(cuda_floats)); f++)
            for (size_t s = 0; s < (is_large ? 1 : CHECK_COUNT(cuda_sinks)); s++)
                for (int silu = 0; silu < 2; silu++)
                    check_image(t, cuda_floats[f], cuda_sinks[s], shapes[i],
                                silu     ? 1
                                : f == 0 ? 1e6f
                                         : 3e4f,
                                silu);
    }
}
