// SPDX-License-Identifier: Apache-2.0
//
// How much two pictures of one size differ: PSNR, SSIM and FLIP of 8-bit sRGB.
//
// All sums are double, by rows and then over rows in order, so that results do not depend on the
// number of threads. Other programs print other numbers under the same names; the variants here are
//
//   PSNR  10 log10(255^2 / MSE), one MSE over all samples (scikit-image, data_range=255)
//   SSIM  "ssim-wang": 11x11 Gaussian of sigma 1.5, population covariance, mean over the area that
//         the window fits into, mean of the three channels (scikit-image, gaussian_weights=True,
//         use_sample_covariance=False; Wang et al. 2004)
//   FLIP  LDR-FLIP of Andersson et al. 2020 at 67.0206 pixels per degree (NVlabs/flip 1.6)
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "runtime/image.h"

#define OCT_SSIM_SIDE_MIN 11                // pixels, of either side
#define OCT_FLIP_PIXELS_PER_DEGREE 67.0206  // a 0.7 m wide screen of 3840 pixels, seen from 0.7 m

// Mean squared error over all samples, in 8-bit units squared; exact. One size: asserted.
double oct_mse(const oct_image *a, const oct_image *b);

double oct_psnr_db(double mse);  // of 8-bit samples; infinity for 0

// SSIM in -1..1. Both sides are at least OCT_SSIM_SIDE_MIN: asserted. OCT_ENOMEM.
oct_status oct_ssim(double *ssim, const oct_image *a, const oct_image *b, oct_err *err);

// map: [height][width], 0 (same) to 1. OCT_ENOMEM.
oct_status oct_flip(float *map, const oct_image *reference, const oct_image *test, oct_err *err);

// A FLIP map as a picture in the colours of magma: black, purple, orange, near white. `heat` is
// zeroed by the caller and owned by it.
oct_status oct_flip_picture(oct_image *heat, const float *map, size_t width, size_t height,
                            oct_err *err);

typedef struct oct_metrics {
    bool is_identical;
    double mse;      // 8-bit units squared
    double psnr_db;  // infinity when identical
    double ssim;
    double flip_mean, flip_max;
} oct_metrics;

// All of them. `flip_map` ([height][width]) may be NULL. OCT_EFORMAT: "the pictures are 8x8 and
// 16x8 pixels", "pictures of 8x8 pixels are too small for SSIM, which needs 11x11".
oct_status oct_metrics_measure(oct_metrics *metrics, float *flip_map, const oct_image *reference,
                               const oct_image *test, oct_err *err);
