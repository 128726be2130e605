// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <string.h>

#include "common/number.h"
#include "tests/cuda/check_cuda.h"

static uint32_t absmax(oct_dtype dtype, const void *x, size_t n)
{
    const oct_kernels *k = oct_kernels_get();
    if (dtype == OCT_F32) return k->absmax_f32(x, n);
    return dtype == OCT_F16 ? k->absmax_f16(x, n) : k->absmax_bf16(x, n);
}

static void compare(cuda_check *t, const uint32_t *device, uint32_t want)
{
    uint32_t got;
    cuda_read(t, &got, device, sizeof got);
    if (got != want) cuda_report(t, "0x%" PRIx32 ", not 0x%" PRIx32, got, want);
}

static void check_pattern_of(cuda_check *t, oct_dtype dtype, check_pattern pattern, size_t n)
{
    const uint32_t before = pattern == CHECK_UNIFORM ? 0x3f : 0;
    cuda_case(t, "%s, %s, n %zu", oct_dtype_name(dtype), check_pattern_name[pattern], n);
    const void *x = cuda_fill(t, pattern, dtype, n, 1);
    uint32_t *max = cuda_copy(&before, sizeof before);
    const uint32_t peak = absmax(dtype, x, n);

    oct_absmax_cuda(max, dtype, cuda_copy(x, cuda_bytes(dtype, n)), n, NULL);
    compare(t, max, peak > before ? peak : before);
}

static void check_peak(cuda_check *t, oct_dtype dtype, size_t n, size_t at)
{
    const uint32_t zero = 0, peak = 0x80004321;  // in 16 bits as in 32
    cuda_case(t, "%s, peak at %zu of %zu", oct_dtype_name(dtype), at, n);
    uint8_t *x = cuda_host(cuda_bytes(dtype, n));
    memcpy(x + cuda_bytes(dtype, at), &peak, cuda_bytes(dtype, 1));
    uint32_t *max = cuda_copy(&zero, sizeof zero);

    oct_absmax_cuda(max, dtype, cuda_copy(x, cuda_bytes(dtype, n)), n, NULL);
    compare(t, max, 0x4321);
}

// One large number at every place in turn, so that none is overlooked.
static void check_peaks(cuda_check *t, oct_dtype dtype, size_t n, size_t step)
{
    for (size_t at = 0; at < n; at += step) check_peak(t, dtype, n, at);
}

void check_cuda_absmax(cuda_check *t)
{
    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++) {
        for (check_pattern p = 0; p < CHECK_PATTERNS; p++)
            check_pattern_of(t, cuda_floats[d], p, 2051);
        for (size_t i = 0; cuda_sizes[i] != SIZE_MAX; i++)
            check_pattern_of(t, cuda_floats[d], i % CHECK_PATTERNS, cuda_sizes[i]);
        check_peaks(t, cuda_floats[d], 75, 1);
        check_peaks(t, cuda_floats[d], 4099, 251);
    }
    // One number more than a whole grid takes in one round; it is the large one.
    check_peak(t, OCT_F16, 1024 * 2048 + 1, 1024 * 2048);
}

static uint32_t row_peak(const float *row, size_t cols)
{
    return oct_kernels_get()->absmax_f32(row, cols);
}

static bool is_same_peak(uint32_t got, uint32_t want)
{
    return got == want || (got > 0x7f800000u && want > 0x7f800000u);  // a NaN is a NaN
}

static void check_rows(cuda_check *t, oct_dtype dtype, check_pattern pattern, size_t rows,
                       size_t cols, bool is_shared)
{
    cuda_case(t, "%s, %s, %zux%zu%s", oct_dtype_name(dtype), check_pattern_name[pattern], rows,
              cols, is_shared ? ", shared" : "");
    const void *x = cuda_fill(t, pattern, dtype, rows * cols, 1);
    const float *wide = cuda_widened(dtype, x, rows * cols);
    uint32_t *got = cuda_host(rows * sizeof *got), *want = cuda_host(rows * sizeof *want);
    uint32_t *peaks = cuda_copy(got, rows * sizeof *got);

    for (size_t row = 0; row < rows; row++) {
        uint32_t *to = &want[is_shared ? 0 : row];
        const uint32_t bits = row_peak(wide + row * cols, cols);
        if (bits > *to) *to = bits;
    }
    oct_observe_cuda(peaks, is_shared, dtype, cuda_copy(x, cuda_bytes(dtype, rows * cols)), rows,
                     cols, NULL);
    cuda_read(t, got, peaks, rows * sizeof *got);
    for (size_t row = 0; row < rows; row++) {
        if (!is_same_peak(got[row], want[row]))
            cuda_report(t, "row %zu: 0x%" PRIx32 ", not 0x%" PRIx32, row, got[row], want[row]);
    }
}

void check_cuda_observe(cuda_check *t)
{
    static const struct {
        size_t rows, cols;
    } shape[] = {{1, 8}, {3, 16}, {8, 248}, {9, 256}, {17, 264}, {5, 1536}, {2, 2432}};

    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++)
        for (check_pattern p = 0; p < CHECK_PATTERNS; p++)
            for (size_t i = 0; i < CHECK_COUNT(shape); i++)
                check_rows(t, cuda_floats[d], p, shape[i].rows, shape[i].cols, (i + p) % 2);
}
