// SPDX-License-Identifier: Apache-2.0
//
// SSIM with a Gaussian window, one output row at a time.
//
// The five moments (x, y, xx, yy, xy) are filtered down the columns into one row each, then along
// that row: no plane of moments ever exists, and rows are independent.
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "regress/metrics.h"

enum { RADIUS = 5, TAPS = 2 * RADIUS + 1, MOMENTS = 5 };

_Static_assert(TAPS == OCT_SSIM_SIDE_MIN, "the window must fit");

static const double c1 = (0.01 * 255) * (0.01 * 255);
static const double c2 = (0.03 * 255) * (0.03 * 255);

static void init_taps(double taps[TAPS])
{
    double sum = 0;
    for (int i = -RADIUS; i <= RADIUS; i++) sum += taps[i + RADIUS] = exp(-i * i / (2 * 1.5 * 1.5));
    for (int i = 0; i < TAPS; i++) taps[i] /= sum;
}

// moments: [MOMENTS][width], of column x below `top`.
static void filter_columns(double *moments, const oct_image *a, const oct_image *b, size_t channel,
                           size_t top, const double taps[TAPS])
{
    const size_t width = a->width;
    for (size_t x = 0; x < width; x++) {
        double m[MOMENTS] = {0};
        for (size_t i = 0; i < TAPS; i++) {
            const size_t at = ((top + i) * width + x) * 3 + channel;
            const double p = a->rgb[at], q = b->rgb[at];
            m[0] += taps[i] * p;
            m[1] += taps[i] * q;
            m[2] += taps[i] * (p * p);
            m[3] += taps[i] * (q * q);
            m[4] += taps[i] * (p * q);
        }
        for (size_t k = 0; k < MOMENTS; k++) moments[k * width + x] = m[k];
    }
}

static double ssim_of(const double m[MOMENTS])
{
    const double xx = m[2] - m[0] * m[0], yy = m[3] - m[1] * m[1], xy = m[4] - m[0] * m[1];
    return (2 * m[0] * m[1] + c1) * (2 * xy + c2) /
           ((m[0] * m[0] + m[1] * m[1] + c1) * (xx + yy + c2));
}

static double sum_row(const double *moments, size_t width, const double taps[TAPS])
{
    double sum = 0;
    for (size_t left = 0; left + TAPS <= width; left++) {
        double m[MOMENTS] = {0};
        for (size_t k = 0; k < MOMENTS; k++) {
            for (size_t i = 0; i < TAPS; i++) m[k] += taps[i] * moments[k * width + left + i];
        }
        sum += ssim_of(m);
    }
    return sum;
}

oct_status oct_ssim(double *ssim, const oct_image *a, const oct_image *b, oct_err *err)
{
    assert(a->width == b->width && a->height == b->height);
    assert(a->width >= TAPS && a->height >= TAPS);
    const size_t width = a->width, rows = a->height - TAPS + 1, columns = width - TAPS + 1;
    double taps[TAPS];
    double *row_sums = malloc(3 * rows * sizeof *row_sums);
    double *moments = malloc(rows * MOMENTS * width * sizeof *moments);
    if (!row_sums || !moments) {
        free(row_sums);
        free(moments);
        return oct_fail(err, OCT_ENOMEM, "out of memory for the SSIM of %zux%zu pixels", a->width,
                        a->height);
    }
    init_taps(taps);

    double total = 0;
    for (size_t channel = 0; channel < 3; channel++) {
#pragma omp parallel for schedule(static)
        for (size_t y = 0; y < rows; y++) {
            double *row = moments + y * MOMENTS * width;
            filter_columns(row, a, b, channel, y, taps);
            row_sums[y] = sum_row(row, width, taps);
        }
        double sum = 0;
        for (size_t y = 0; y < rows; y++) sum += row_sums[y];
        total += sum / (double)(rows * columns);
    }
    *ssim = total / 3;
    free(row_sums);
    free(moments);
    return OCT_OK;
}
