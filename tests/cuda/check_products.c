// SPDX-License-Identifier: Apache-2.0
//
// Our kernels around cuBLASLt and cuDNN.
#include <math.h>

#include "kernels/cuda/conv.h"
#include "kernels/cuda/gemm_finish.h"
#include "kernels/ops.h"
#include "tests/cuda/check_cuda.h"
#include "tests/cuda/memory.h"

#define ULP 0x1p-23f

static float *absolute(const float *x, size_t n)
{
    float *y = cuda_host(n * sizeof *y);
    for (size_t i = 0; i < n; i++) y[i] = fabsf(x[i]);
    return y;
}

static void convolve(float *y, const float *x, const float *weight, const float *bias,
                     const oct_conv_cuda_call *c)
{
    if (c->is_down2)
        oct_conv2d_down2(y, x, OCT_F32, weight, bias, c->in, c->out, c->height, c->width);
    else
        oct_conv2d(y, x, OCT_F32, weight, bias, c->in, c->out, c->height, c->width, c->kernel);
}

// A sum in another order: 8 units of what its terms add up to without their signs.
static void check_conv(cuda_check *t, oct_conv_cuda_call c, bool has_bias)
{
    const size_t pixels = c.height * c.width, weights = c.out * c.in * c.kernel * c.kernel;
    const size_t n = c.out * (c.is_down2 ? pixels / 4 : pixels);
    cuda_case(t, "%s, %zu to %zu channels of %zux%zu, kernel %zu%s%s", oct_dtype_name(c.dtype),
              c.in, c.out, c.height, c.width, c.kernel, c.is_down2 ? ", down2" : "",
              has_bias ? ", bias" : "");
    const void *x = cuda_fill(t, CHECK_OUTLIERS, c.dtype, c.in * pixels, 0.01f);
    const void *weight = cuda_fill(t, CHECK_UNIFORM, c.dtype, weights, 0.002f);
    const float *bias = has_bias ? cuda_uniform(t, c.out, 2) : NULL;
    const float *x_wide = cuda_widened(c.dtype, x, c.in * pixels);
    const float *weight_wide = cuda_widened(c.dtype, weight, weights);
    const cuda_target y = {.sink = {.data = memory_new(cuda_bytes(c.dtype, n)), .dtype = c.dtype},
                           .n = n};
    float *want = cuda_host(n * sizeof *want), *bound = cuda_host(n * sizeof *bound);

    c.x = cuda_copy(x, cuda_bytes(c.dtype, c.in * pixels));
    c.weight = cuda_copy(weight, cuda_bytes(c.dtype, weights));
    c.bias = has_bias ? cuda_copy(bias, c.out * sizeof *bias) : NULL;
    c.y = y.sink.data;
    oct_conv_direct_cuda(&c, NULL);
    convolve(want, x_wide, weight_wide, bias, &c);
    convolve(bound, absolute(x_wide, c.in * pixels), absolute(weight_wide, weights), NULL, &c);
    for (size_t i = 0; i < n; i++) bound[i] = 8 * ULP * (bound[i] + 2);
    cuda_check_target(t, &y, want, bound);
}

void check_cuda_conv_direct(cuda_check *t)
{
    static const oct_conv_cuda_call shape[] = {
        {.in = 1, .out = 1, .height = 2, .width = 2, .kernel = 1},
        {.in = 1, .out = 1, .height = 2, .width = 2, .kernel = 3},
        {.in = 5, .out = 3, .height = 7, .width = 9, .kernel = 3},
        {.in = 17, .out = 66, .height = 3, .width = 23, .kernel = 1},
        {.in = 4, .out = 70, .height = 10, .width = 13, .kernel = 3},
        {.in = 3, .out = 5, .height = 6, .width = 24, .kernel = 3, .is_down2 = true},
        {.in = 2, .out = 65, .height = 18, .width = 16, .kernel = 3, .is_down2 = true},
    };

    for (size_t i = 0; i < CHECK_COUNT(shape) * 4; i++) {
        oct_conv_cuda_call call = shape[i / 4];
        call.dtype = i & 1 ? OCT_BF16 : OCT_F16;
        check_conv(t, call, i & 2);
    }
}

void check_cuda_conv_bias(cuda_check *t)
{
    for (size_t i = 0; i < 4; i++) {
        oct_conv_cuda_call c = {.dtype = i & 1 ? OCT_BF16 : OCT_F16,
                                .in = 1,
                                .out = 5,
                                .height = i & 2 ? 6 : 7,
                                .width = i & 2 ? 50 : 3,
                                .kernel = 1};
        const size_t pixels = c.height * c.width, n = c.out * pixels;
        cuda_case(t, "%s, %zu pixels", oct_dtype_name(c.dtype), pixels);
        void *before = cuda_fill(t, CHECK_UNIFORM, c.dtype, n, 0.01f);
        const float *bias = cuda_uniform(t, c.out, 2);
        float *want = cuda_widened(c.dtype, before, n);

        c.y = cuda_copy(before, cuda_bytes(c.dtype, n));
        c.bias = cuda_copy(bias, c.out * sizeof *bias);
        oct_conv_bias_cuda(&c, NULL);
        for (size_t j = 0; j < n; j++) want[j] += bias[j / pixels];
        const cuda_target y = {.sink = {.data = c.y, .dtype = c.dtype}, .n = n};
        cuda_check_target(t, &y, want, NULL);
    }
}

static void check_finish(cuda_check *t, oct_dtype dtype, oct_dtype bias_dtype, unsigned parts,
                         size_t rows, size_t cols)
{
    const bool has_scales = parts & 1, has_bias = parts & 2, has_gelu = parts & 4;
    const size_t n = rows * cols;
    cuda_case(t, "%s, %zux%zu%s%s%s%s", oct_dtype_name(dtype), rows, cols,
              has_scales ? ", scales" : "", has_bias ? ", bias " : "",
              has_bias ? oct_dtype_name(bias_dtype) : "", has_gelu ? ", gelu" : "");
    void *before = cuda_fill(t, CHECK_OUTLIERS, dtype, n, 0.01f);
    const float *scales = cuda_uniform(t, cols, 1);
    void *bias = cuda_fill(t, CHECK_UNIFORM, bias_dtype, cols, 0.005f);
    const float *bias_wide = cuda_widened(bias_dtype, bias, cols);
    float *want = cuda_widened(dtype, before, n);
    const oct_gemm_finish_args args = {
        .y = cuda_copy(before, cuda_bytes(dtype, n)),
        .dtype = dtype,
        .row_scales = has_scales ? cuda_copy(scales, cols * sizeof *scales) : NULL,
        .bias = has_bias ? cuda_copy(bias, cuda_bytes(bias_dtype, cols)) : NULL,
        .bias_dtype = bias_dtype,
        .has_gelu = has_gelu,
        .rows = rows,
        .cols = cols,
    };

    oct_gemm_finish_cuda(&args, NULL);
    for (size_t i = 0; i < n; i++) {
        if (has_scales) want[i] *= scales[i % cols];
        if (has_bias) want[i] += bias_wide[i % cols];
    }
    if (has_gelu) oct_activate(want, OCT_GELU_TANH, n);
    const cuda_target y = {.sink = {.data = args.y, .dtype = dtype}, .n = n};
    cuda_check_target(t, &y, want, NULL);
}

void check_cuda_gemm_finish(cuda_check *t)
{
    static const struct {
        size_t rows, cols;
    } shape[] = {{1, 1}, {3, 8}, {7, 20}, {5, 333}, {2, 2432}};

    for (size_t f = 0; f < CHECK_COUNT(cuda_floats); f++)
        for (size_t b = 0; b < CHECK_COUNT(cuda_floats); b++)
            for (unsigned parts = 0; parts < 8; parts++)
                for (size_t i = 0; i < CHECK_COUNT(shape); i++)
                    check_finish(t, cuda_floats[f], cuda_floats[b], parts, shape[i].rows,
                                 shape[i].cols);
}

void check_cuda_fill(cuda_check *t)
{
    for (size_t i = 0; cuda_sizes[i] != SIZE_MAX; i++) {
        const size_t n = cuda_sizes[i];
        const float value = i % 2 ? 0.37f : 1.0f;
        cuda_case(t, "%zu", n);
        float *want = cuda_host(n * sizeof *want), *y = cuda_copy(want, n * sizeof *want);
        for (size_t j = 0; j < n; j++) want[j] = value;
        oct_fill_cuda(y, i % 2 ? cuda_scalar(value) : NULL, n, NULL);
        cuda_check_floats(t, y, want, NULL, n);
    }
}
