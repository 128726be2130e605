// SPDX-License-Identifier: Apache-2.0
//
// Thresholds.
#include "regress/gate.h"
#include "tests/test.h"

static const oct_metrics fair = {.psnr_db = 30, .flip_mean = 0.1};
static const oct_metrics same = {.is_identical = true, .psnr_db = INFINITY};

static void an_open_gate_lets_everything_pass(void)
{
    const oct_gate gate = OCT_GATE_OPEN;
    CHECK(oct_gate_judge(&gate, &fair).n_failures == 0);
    CHECK(oct_gate_judge(&gate, &same).n_failures == 0);
    CHECK(oct_gate_check(&gate, NULL) == OCT_OK);
}

static void a_picture_at_the_threshold_passes(void)
{
    const oct_gate gate = {.psnr_db_min = 30, .flip_max = 0.1};
    CHECK(oct_gate_judge(&gate, &fair).n_failures == 0);
}

static void every_broken_threshold_is_named(void)
{
    const oct_gate gate = {.psnr_db_min = 30.5, .flip_max = 0.0999};
    const oct_verdict verdict = oct_gate_judge(&gate, &fair);
    CHECK(verdict.n_failures == 2);
    CHECK_TEXT(verdict.failures[0], "PSNR 30 dB is below 30.5 dB");
    CHECK_TEXT(verdict.failures[1], "FLIP 0.1 is above 0.0999");
}

static void identical_pictures_pass_the_strictest_gate(void)
{
    const oct_gate gate = {.psnr_db_min = 1e6, .flip_max = 0};
    CHECK(oct_gate_judge(&gate, &same).n_failures == 0);
}

static void a_metric_that_is_no_number_fails(void)
{
    const oct_gate gate = {.psnr_db_min = 30, .flip_max = 0.1};
    const oct_metrics broken = {.psnr_db = NAN, .flip_mean = NAN};
    CHECK(oct_gate_judge(&gate, &broken).n_failures == 2);
}

static void a_flip_threshold_is_a_share(void)
{
    const oct_gate gate = {.psnr_db_min = -INFINITY, .flip_max = 3};
    oct_err err = {0};
    CHECK(oct_gate_check(&gate, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "option '--max-flip' needs a number from 0 to 1, not 3");
}

int main(void)
{
    RUN(an_open_gate_lets_everything_pass);
    RUN(a_picture_at_the_threshold_passes);
    RUN(every_broken_threshold_is_named);
    RUN(identical_pictures_pass_the_strictest_gate);
    RUN(a_metric_that_is_no_number_fails);
    RUN(a_flip_threshold_is_a_share);
    return test_end();
}
