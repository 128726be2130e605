// SPDX-License-Identifier: Apache-2.0
//
// Bootstrap intervals.
#include <math.h>

#include "regress/interval.h"
#include "tests/test.h"

// Differences of Darwin's maize heights, whose acceleration is known.
static const double maize[] = {6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75};

static void acceleration_is_that_of_the_jackknife(void)
{
    CHECK_NEAR(oct_interval_acceleration(maize, 15), -0.0426928815, 1e-10);
}

static void equal_values_have_no_width(void)
{
    const double values[30] = {0};
    oct_interval interval;
    CHECK(oct_interval_of_mean(&interval, values, 30, NULL) == OCT_OK);
    CHECK(interval.mean == 0 && interval.low == 0 && interval.high == 0);
    CHECK(oct_interval_acceleration(values, 30) == 0);
}

static void one_value_is_its_own_interval(void)
{
    const double value = 2.5;
    oct_interval interval;
    CHECK(oct_interval_of_mean(&interval, &value, 1, NULL) == OCT_OK);
    CHECK(interval.mean == 2.5 && interval.low == 2.5 && interval.high == 2.5);
}

// SciPy 1.17's scipy.stats.bootstrap(method='BCa'), means of 20 seeds, 10000 resamples each.
static void intervals_are_scipys_within_their_noise(void)
{
    double skewed[40], few[256];
    oct_interval interval;

    for (int i = 0; i < 40; i++) skewed[i] = exp(i / 10.0);
    CHECK(oct_interval_of_mean(&interval, skewed, 40, NULL) == OCT_OK);
    CHECK_NEAR(interval.mean, 12.7407251, 1e-6);
    CHECK_NEAR(interval.low, 9.2109, 0.1);
    CHECK_NEAR(interval.high, 17.5138, 0.2);
    for (int i = 0; i < 256; i++) few[i] = i < 12 ? -1 : i < 15 ? 1 : 0;
    CHECK(oct_interval_of_mean(&interval, few, 256, NULL) == OCT_OK);
    CHECK_NEAR(interval.mean, -9 / 256.0, 1e-12);
    CHECK_NEAR(interval.low, -0.0664, 0.003);
    CHECK_NEAR(interval.high, -0.0078, 0.003);
}

static void fifteen_values_give_plain_percentiles(void)
{
    oct_interval interval;
    CHECK(oct_interval_of_mean(&interval, maize, 15, NULL) == OCT_OK);
    CHECK_NEAR(interval.low, 1.3330, 0.5);
    CHECK_NEAR(interval.high, 38.1937, 0.5);
}

int main(void)
{
    RUN(acceleration_is_that_of_the_jackknife);
    RUN(equal_values_have_no_width);
    RUN(one_value_is_its_own_interval);
    RUN(intervals_are_scipys_within_their_noise);
    RUN(fifteen_values_give_plain_percentiles);
    return test_end();
}
