// SPDX-License-Identifier: Apache-2.0
//
// PSNR against pinned values, and what all metrics do at the edges.
#include "regress/metrics.h"
#include "tests/regress/pairs.h"
#include "tests/test.h"

static void pictures_are_those_that_were_measured(void)
{
    for (pair_kind kind = PAIR_REFERENCE; kind <= PAIR_ONE; kind++) {
        oct_image image = pair_image(kind);
        CHECK(pair_is_as_pinned(&image, kind));
        free(image.rgb);
    }
}

static double psnr_against_reference(pair_kind kind)
{
    oct_image reference = pair_image(PAIR_REFERENCE), test = pair_image(kind);
    const double db = oct_psnr_db(oct_mse(&reference, &test));
    free(reference.rgb);
    free(test.rgb);
    return db;
}

static void psnr_equals_scikit_image(void)
{
    CHECK_NEAR(psnr_against_reference(PAIR_NOISE), 34.360077961, 1e-8);
    CHECK_NEAR(psnr_against_reference(PAIR_BLUR), 23.873387666, 1e-8);
    CHECK_NEAR(psnr_against_reference(PAIR_POST), 31.755359645, 1e-8);
    CHECK_NEAR(psnr_against_reference(PAIR_BRIGHT), 28.238875921, 1e-8);
    CHECK_NEAR(psnr_against_reference(PAIR_ONE), 51.165973627, 1e-8);
}

static void equal_pictures_are_identical(void)
{
    oct_image image = pair_image(PAIR_REFERENCE);
    oct_metrics metrics;
    oct_err err;

    CHECK(oct_metrics_measure(&metrics, NULL, &image, &image, &err) == OCT_OK);
    CHECK(metrics.is_identical);
    CHECK(isinf(metrics.psnr_db));
    CHECK_NEAR(metrics.ssim, 1, 1e-12);
    CHECK(metrics.flip_mean == 0 && metrics.flip_max == 0);
    free(image.rgb);
}

static void one_changed_sample_is_not_identical(void)
{
    oct_image a = pair_image(PAIR_REFERENCE), b = pair_image(PAIR_REFERENCE);
    oct_metrics metrics;
    oct_err err;

    b.rgb[PAIR_BYTES - 1] ^= 1;
    CHECK(oct_metrics_measure(&metrics, NULL, &a, &b, &err) == OCT_OK);
    CHECK(!metrics.is_identical);
    CHECK_NEAR(metrics.mse, 1.0 / PAIR_BYTES, 1e-18);
    free(a.rgb);
    free(b.rgb);
}

static void different_sizes_are_refused(void)
{
    oct_image a = pair_image(PAIR_REFERENCE), b = a;
    oct_metrics metrics;
    oct_err err;

    b.width = PAIR_HEIGHT;
    b.height = PAIR_WIDTH;
    CHECK(oct_metrics_measure(&metrics, NULL, &a, &b, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "the pictures are 256x192 and 192x256 pixels");
    free(a.rgb);
}

static void pictures_below_the_window_of_ssim_are_refused(void)
{
    uint8_t rgb[10 * 16 * 3] = {0};
    const oct_image small = {16, 10, rgb};
    oct_metrics metrics;
    oct_err err;

    CHECK(oct_metrics_measure(&metrics, NULL, &small, &small, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "pictures of 16x10 pixels are too small for SSIM, which needs 11x11");
}

int main(void)
{
    RUN(pictures_are_those_that_were_measured);
    RUN(psnr_equals_scikit_image);
    RUN(equal_pictures_are_identical);
    RUN(one_changed_sample_is_not_identical);
    RUN(different_sizes_are_refused);
    RUN(pictures_below_the_window_of_ssim_are_refused);
    return test_end();
}
