// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/number.h"
#include "kernels/exponents.h"
#include "tests/cuda/check_cuda.h"

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

static void check_counts(cuda_check *t, oct_dtype dtype, check_pattern pattern, size_t n)
{
    uint64_t want[OCT_EXPONENT_BINS] = {[3] = 7}, got[OCT_EXPONENT_BINS];
    cuda_case(t, "%s, %s, n %zu", oct_dtype_name(dtype), check_pattern_name[pattern], n);
    const void *x = cuda_fill(t, pattern, dtype, n, 1);
    uint64_t *counts = cuda_copy(want, sizeof want);

    oct_count_exponents(want, cuda_widened(dtype, x, n), n);
    oct_count_exponents_cuda(counts, dtype, cuda_copy(x, cuda_bytes(dtype, n)), n, NULL);
    cuda_read(t, got, counts, sizeof got);
    for (size_t bin = 0; bin < OCT_EXPONENT_BINS; bin++) {
        if (got[bin] != want[bin])
            cuda_report(t, "bin %zu: %" PRIu64 ", not %" PRIu64, bin, got[bin], want[bin]);
    }
}

void check_cuda_count_exponents(cuda_check *t)
{
    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++) {
        for (check_pattern p = 0; p < CHECK_PATTERNS; p++) check_counts(t, cuda_floats[d], p, 2051);
        for (size_t i = 0; cuda_sizes[i] != SIZE_MAX; i++)
            check_counts(t, cuda_floats[d], i % CHECK_PATTERNS, cuda_sizes[i]);
    }
    // One number more than a whole grid takes in one round.
    check_counts(t, OCT_F16, CHECK_UNIFORM, 1024 * 2048 + 1);
}

static void check_sums(cuda_check *t, oct_dtype dtype, size_t rows, size_t cols)
{
    cuda_case(t, "%s, %zux%zu", oct_dtype_name(dtype), rows, cols);
    const size_t n = rows * cols;
    const void *x = cuda_fill(t, CHECK_OUTLIERS, dtype, n, 0.1f);
    const float *wide = cuda_widened(dtype, x, n);
    double *before = cuda_host(cols * sizeof *before), *got = cuda_host(cols * sizeof *got);
    for (size_t c = 0; c < cols; c++) before[c] = (double)c;
    double *sums = cuda_copy(before, cols * sizeof *before);
    void *workspace =
        cuda_new_target(t, OCT_F8_E4M3, oct_square_sums_cuda_bytes(rows, cols), 1).sink.data;

    oct_square_sums_cuda(sums, dtype, cuda_copy(x, cuda_bytes(dtype, n)), rows, cols, workspace,
                         NULL);
    cuda_read(t, got, sums, cols * sizeof *got);
    for (size_t c = 0; c < cols; c++) {
        double want = before[c];
        for (size_t row = 0; row < rows; row++)
            want += (double)wide[row * cols + c] * wide[row * cols + c];
        if (!(fabs(got[c] - want) <= 1e-12 * want))
            cuda_report(t, "column %zu: %.17g, not %.17g", c, got[c], want);
    }
}

void check_cuda_square_sums(cuda_check *t)
{
    static const struct {
        size_t rows, cols;
    } shape[] = {{1, 1}, {1, 8}, {63, 5}, {64, 255}, {65, 256}, {129, 257}, {200, 1536}};

    for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++)
        for (size_t i = 0; i < CHECK_COUNT(shape); i++)
            check_sums(t, cuda_floats[d], shape[i].rows, shape[i].cols);
}
