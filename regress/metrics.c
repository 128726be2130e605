// SPDX-License-Identifier: Apache-2.0
//
// PSNR, and all metrics of a pair at once.
#include "regress/metrics.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

double oct_mse(const oct_image *a, const oct_image *b)
{
    assert(a->width == b->width && a->height == b->height && a->width > 0 && a->height > 0);
    const size_t n = a->width * a->height * 3;
    uint64_t sum = 0;  // integers, so exact up to 2^48 samples

    for (size_t i = 0; i < n; i++) {
        const int d = a->rgb[i] - b->rgb[i];
        sum += (uint64_t)(d * d);
    }
    return (double)sum / (double)n;
}

double oct_psnr_db(double mse)
{
    return mse > 0 ? 10 * log10(255.0 * 255.0 / mse) : INFINITY;
}

static oct_status check_sizes(const oct_image *a, const oct_image *b, oct_err *err)
{
    if (a->width != b->width || a->height != b->height) {
        return oct_fail(err, OCT_EFORMAT, "the pictures are %zux%zu and %zux%zu pixels", a->width,
                        a->height, b->width, b->height);
    }
    if (a->width < OCT_SSIM_SIDE_MIN || a->height < OCT_SSIM_SIDE_MIN) {
        return oct_fail(err, OCT_EFORMAT,
                        "pictures of %zux%zu pixels are too small for SSIM, which needs %dx%d",
                        a->width, a->height, OCT_SSIM_SIDE_MIN, OCT_SSIM_SIDE_MIN);
    }
    return OCT_OK;
}

static void pool_flip(oct_metrics *metrics, const float *map, size_t width, size_t height)
{
    double sum = 0, max = 0;
    for (size_t y = 0; y < height; y++) {
        double row_sum = 0;
        for (size_t x = 0; x < width; x++) {
            const double value = map[y * width + x];
            row_sum += value;
            if (value > max) max = value;
        }
        sum += row_sum;
    }
    metrics->flip_mean = sum / (double)(width * height);
    metrics->flip_max = max;
}

oct_status oct_metrics_measure(oct_metrics *metrics, float *flip_map, const oct_image *reference,
                               const oct_image *test, oct_err *err)
{
    float *own_map = NULL;

    *metrics = (oct_metrics){0};
    oct_status st = check_sizes(reference, test, err);
    if (st) return st;
    if (!flip_map) {
        own_map = malloc(reference->width * reference->height * sizeof *own_map);
        if (!own_map) return oct_fail(err, OCT_ENOMEM, "out of memory for a FLIP map");
        flip_map = own_map;
    }

    metrics->mse = oct_mse(reference, test);
    metrics->is_identical = metrics->mse == 0;
    metrics->psnr_db = oct_psnr_db(metrics->mse);
    st = oct_ssim(&metrics->ssim, reference, test, err);
    if (st) goto out;
    st = oct_flip(flip_map, reference, test, err);
    if (st) goto out;
    pool_flip(metrics, flip_map, reference->width, reference->height);

out:
    free(own_map);
    return st;
}
