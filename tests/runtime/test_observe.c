// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/observe.c.
#include <math.h>
#include <stdlib.h>

#include "runtime/observe.h"
#include "tests/test.h"

static float at(const oct_observer *observer, size_t layer, size_t branch, size_t step)
{
    return observer->amax[(layer * 2 + branch) * observer->n_steps + step];
}

static void one_step_sees_the_largest_magnitude_of_all_rows(void)
{
    const float x[] = {1, -2, 3, -7, 5, 6};
    oct_observer observer = {0};

    oct_observer_init(&observer, 3, 4);
    observer.branch = 1;
    observer.step = 2;
    oct_observe(&observer, 1, x, 2, 3);
    oct_observe(&observer, 1, x, 1, 2);  // a smaller one later changes nothing
    CHECK(at(&observer, 1, 1, 2) == 7);
    CHECK(at(&observer, 1, 0, 2) == 0);
    CHECK(at(&observer, 1, 1, 1) == 0);
    CHECK(oct_observer_amax(&observer, 1) == 7);
    CHECK(oct_observer_amax(&observer, 0) == 0);
    CHECK(oct_observer_amax(&observer, 2) == 0);
    oct_observer_deinit(&observer);
}

static void rows_can_be_steps(void)
{
    const float x[] = {1, -2, 3, 4, -5, 0};
    oct_observer observer = {0};

    oct_observer_init(&observer, 1, 3);
    observer.step = -1;
    oct_observe(&observer, 0, x, 3, 2);
    CHECK(at(&observer, 0, 0, 0) == 2);
    CHECK(at(&observer, 0, 0, 1) == 4);
    CHECK(at(&observer, 0, 0, 2) == 5);
    oct_observer_deinit(&observer);
}

static void input_of_no_step_belongs_to_all(void)
{
    const float x[] = {1, -9};
    oct_observer observer = {0};

    oct_observer_init(&observer, 1, 3);
    observer.step = -2;
    oct_observe(&observer, 0, x, 1, 2);
    for (size_t step = 0; step < 3; step++) CHECK(at(&observer, 0, 0, step) == 9);
    oct_observer_deinit(&observer);
}

static void every_number_is_counted_by_its_exponent(void)
{
    static float x[3 * 50000];
    oct_observer observer = {0};

    for (size_t i = 0; i < 150000; i++) x[i] = i % 3 ? 1.5f : -0.25f;
    oct_observer_init(&observer, 2, 3);
    for (observer.step = -2; observer.step < 1; observer.step++) {
        oct_observe(&observer, 1, x, 3, 50000);  // on all threads
        oct_observe(&observer, 1, x, 1, 3);
    }
    CHECK(observer.exponents[1].counts[31] == 3 * 100002);
    CHECK(observer.exponents[1].counts[29] == 3 * 50001);
    CHECK(oct_exponents_total(&observer.exponents[1]) == 3 * 150003);
    CHECK(oct_exponents_total(&observer.exponents[0]) == 0);
    oct_observer_deinit(&observer);
}

static void nan_counts_as_infinity(void)
{
    const float x[] = {1, -NAN, 3};
    oct_observer observer = {0};

    oct_observer_init(&observer, 1, 1);
    oct_observe(&observer, 0, x, 1, 3);
    CHECK(isinf(oct_observer_amax(&observer, 0)));
    oct_observer_deinit(&observer);
}

static void no_observer_and_no_layer_are_fine(void)
{
    const float x[] = {1};
    oct_observer observer = {0};

    oct_observe(NULL, 0, x, 1, 1);
    oct_observe(&observer, -1, x, 1, 1);
    oct_observer_deinit(&observer);
}

static void many_rows_are_split_among_threads(void)
{
    const size_t rows = 500, cols = 300;
    float *x = calloc(rows * cols, sizeof *x);
    oct_observer observer = {0};

    x[rows * cols - 1] = -42;
    oct_observer_init(&observer, 1, 1);
    oct_observe(&observer, 0, x, rows, cols);
    CHECK(oct_observer_amax(&observer, 0) == 42);
    oct_observer_deinit(&observer);
    free(x);
}

static void squares_are_summed_per_channel_over_steps_and_branches(void)
{
    enum { ROWS = 700, COLS = 300 };
    oct_layer layers[] = {{.name = "a", .in_features = 1}, {.name = "b", .in_features = COLS}};
    const oct_denoiser denoiser = {.layers = layers, .n_layers = 2};
    float *x = calloc(ROWS * COLS, sizeof *x);
    oct_observer observer = {0};

    for (size_t i = 0; i < ROWS * COLS; i++) x[i] = (float)(i % COLS) * (i % 2 ? -0.5f : 0.5f);
    oct_observer_init(&observer, 2, 3);
    oct_observer_add_channels(&observer, &denoiser);
    oct_observe(&observer, 1, x, ROWS, COLS);
    observer.branch = 1;
    observer.step = 2;
    oct_observe(&observer, 1, x, 100, COLS);
    const oct_channels *channels = &observer.channels[1];
    CHECK_TEXT(channels->layer, "b");
    CHECK(channels->n == COLS && channels->rows == ROWS + 100);
    CHECK(observer.channels[0].rows == 0 && observer.channels[0].sums[0].low == 0);
    for (size_t i = 0; i < COLS; i++) {
        CHECK(oct_channels_mean(channels, i) == 0.25f * (float)(i * i));
    }
    oct_observer_deinit(&observer);
    free(x);
}

int main(void)
{
    RUN(one_step_sees_the_largest_magnitude_of_all_rows);
    RUN(rows_can_be_steps);
    RUN(input_of_no_step_belongs_to_all);
    RUN(every_number_is_counted_by_its_exponent);
    RUN(nan_counts_as_infinity);
    RUN(no_observer_and_no_layer_are_fine);
    RUN(many_rows_are_split_among_threads);
    RUN(squares_are_summed_per_channel_over_steps_and_branches);
    return test_end();
}
