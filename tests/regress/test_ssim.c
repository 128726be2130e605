// SPDX-License-Identifier: Apache-2.0
//
// SSIM against pinned values.
#include <omp.h>

#include "regress/metrics.h"
#include "tests/regress/pairs.h"
#include "tests/test.h"

static double ssim_against_reference(pair_kind kind)
{
    oct_image reference = pair_image(PAIR_REFERENCE), test = pair_image(kind);
    double ssim = NAN;
    CHECK(oct_ssim(&ssim, &reference, &test, NULL) == OCT_OK);
    free(reference.rgb);
    free(test.rgb);
    return ssim;
}

static void ssim_equals_scikit_image(void)
{
    CHECK_NEAR(ssim_against_reference(PAIR_NOISE), 0.850563739, 1e-8);
    CHECK_NEAR(ssim_against_reference(PAIR_BLUR), 0.916071075, 1e-8);
    CHECK_NEAR(ssim_against_reference(PAIR_POST), 0.896584935, 1e-8);
    CHECK_NEAR(ssim_against_reference(PAIR_BRIGHT), 0.985513168, 1e-8);
    CHECK_NEAR(ssim_against_reference(PAIR_ONE), 0.999228866, 1e-8);
}

static void threads_do_not_change_a_bit(void)
{
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const double one = ssim_against_reference(PAIR_NOISE);
    omp_set_num_threads(3);
    const double three = ssim_against_reference(PAIR_NOISE);
    omp_set_num_threads(threads);
    CHECK(one == three);
}

static void the_window_fits_into_the_smallest_picture(void)
{
    uint8_t a[11 * 11 * 3], b[11 * 11 * 3];
    const oct_image black = {11, 11, memset(a, 0, sizeof a)};
    const oct_image white = {11, 11, memset(b, 255, sizeof b)};
    double ssim = NAN;

    CHECK(oct_ssim(&ssim, &black, &white, NULL) == OCT_OK);
    CHECK_NEAR(ssim, 6.5025 / (255.0 * 255.0 + 6.5025), 1e-12);  // means alone differ
}

int main(void)
{
    RUN(ssim_equals_scikit_image);
    RUN(threads_do_not_change_a_bit);
    RUN(the_window_fits_into_the_smallest_picture);
    return test_end();
}
