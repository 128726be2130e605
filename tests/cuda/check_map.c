// SPDX-License-Identifier: Apache-2.0
//
// Feature maps: what is moved must arrive in every bit.
#include <string.h>

#include "kernels/ops.h"
#include "tests/cuda/check_cuda.h"

// Bytes on the device against wanted ones.
static void compare_bytes(cuda_check *t, const void *device, const uint8_t *want, size_t bytes)
{
    uint8_t *got = cuda_host(bytes);

    cuda_read(t, got, device, bytes);
    for (size_t i = 0; i < bytes; i++) {
        if (got[i] != want[i]) cuda_report(t, "byte %zu is %u, not %u", i, got[i], want[i]);
    }
}

static void check_turn(cuda_check *t, oct_dtype dtype, size_t rows, size_t cols)
{
    cuda_case(t, "%s, %zux%zu", oct_dtype_name(dtype), rows, cols);
    const size_t n = rows * cols, size = cuda_bytes(dtype, 1);
    const uint8_t *x = cuda_fill(t, CHECK_ANY_BITS, dtype, n, 1);
    uint8_t *want = cuda_host(n * size);
    void *y = cuda_new_target(t, dtype, n, 1).sink.data;

    for (size_t row = 0; row < rows; row++)
        for (size_t c = 0; c < cols; c++)
            memcpy(want + (c * rows + row) * size, x + (row * cols + c) * size, size);
    oct_transpose_cuda(y, dtype, cuda_copy(x, n * size), rows, cols, NULL);
    compare_bytes(t, y, want, n * size);
}

void check_cuda_transpose(cuda_check *t)
{
    static const struct {
        size_t rows, cols;
    } shape[] = {{1, 1}, {1, 40}, {40, 1}, {31, 33}, {32, 32}, {33, 31}, {65, 96}, {512, 72}};

    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++)
        for (size_t i = 0; i < CHECK_COUNT(shape); i++)
            check_turn(t, cuda_floats[d], shape[i].rows, shape[i].cols);
}

static void check_enlarged(cuda_check *t, oct_dtype dtype, size_t channels, size_t height,
                           size_t width)
{
    cuda_case(t, "%s, %zux%zux%zu", oct_dtype_name(dtype), channels, height, width);
    const size_t n = channels * height * width;
    const void *x = cuda_fill(t, CHECK_OUTLIERS, dtype, n, 1);
    float *want = cuda_host(4 * n * sizeof *want);
    const cuda_target y = {
        .sink = {.data = cuda_new_target(t, dtype, 4 * n, 1).sink.data, .dtype = dtype},
        .n = 4 * n};

    oct_upsample2(want, cuda_widened(dtype, x, n), channels, height, width);
    oct_upsample2_cuda(y.sink.data, dtype, cuda_copy(x, cuda_bytes(dtype, n)), channels, height,
                       width, NULL);
    cuda_check_target(t, &y, want, NULL);
}

void check_cuda_upsample2(cuda_check *t)
{
    static const struct {
        size_t channels, height, width;
    } shape[] = {{1, 1, 1}, {1, 2, 3}, {3, 5, 7}, {2, 8, 8}, {5, 3, 34}, {2, 1, 1030}};

    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++)
        for (size_t i = 0; i < CHECK_COUNT(shape); i++)
            check_enlarged(t, cuda_floats[d], shape[i].channels, shape[i].height, shape[i].width);
}

static void check_sum(cuda_check *t, oct_dtype dtype, check_pattern pattern, size_t n)
{
    cuda_case(t, "%s, %s, n %zu", oct_dtype_name(dtype), check_pattern_name[pattern], n);
    const void *x = cuda_fill(t, pattern, dtype, n, 1), *y = cuda_fill(t, pattern, dtype, n, 0.7f);
    const float *a = cuda_widened(dtype, x, n), *b = cuda_widened(dtype, y, n);
    float *want = cuda_host(n * sizeof *want);
    const cuda_target sum = {.sink = {.data = cuda_copy(x, cuda_bytes(dtype, n)), .dtype = dtype},
                             .n = n};

    for (size_t i = 0; i < n; i++) want[i] = a[i] + b[i];
    oct_add_cuda(sum.sink.data, dtype, cuda_copy(y, cuda_bytes(dtype, n)), n, NULL);
    cuda_check_target(t, &sum, want, NULL);
}

void check_cuda_add(cuda_check *t)
{
    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++) {
        for (check_pattern p = 0; p < CHECK_PATTERNS; p++) check_sum(t, cuda_floats[d], p, 2051);
        for (size_t i = 0; cuda_sizes[i] != SIZE_MAX; i++)
            check_sum(t, cuda_floats[d], i % CHECK_PATTERNS, cuda_sizes[i]);
    }
}
