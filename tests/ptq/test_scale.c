// SPDX-License-Identifier: Apache-2.0
//
// Scales from ranges.
#include <float.h>

#include "common/number.h"
#include "ptq/scale.h"
#include "tests/test.h"

static void scale_is_the_binary32_quotient(void)
{
    CHECK(oct_weight_scale(448, 448) == 1.0f);
    CHECK(oct_weight_scale(1, 448) == 1.0f / 448.0f);
    CHECK(oct_weight_scale(0.3f, 127) == 0.3f / 127.0f);
    CHECK(oct_input_scale(7.25f, 448) == 7.25f / 448.0f);
    CHECK(oct_weight_scale(FLT_MAX, 448) == FLT_MAX / 448.0f);
}

static void nothing_but_zeros_has_scale_one(void)
{
    CHECK(oct_weight_scale(0, 448) == 1 && oct_input_scale(0, 448) == 1);
}

static void small_ranges_keep_a_usable_scale(void)
{
    CHECK(oct_weight_scale(FLT_TRUE_MIN, 448) == FLT_MIN);
    CHECK(oct_weight_scale(FLT_MIN * 448, 448) == FLT_MIN);
    CHECK(oct_weight_scale(FLT_MIN * 896, 448) == 2 * FLT_MIN);
    CHECK(oct_input_scale(1e-6f, 448) == OCT_INPUT_SCALE_MIN);
    CHECK(oct_input_scale(0x1p-16f * 448, 448) == OCT_INPUT_SCALE_MIN);
    CHECK(oct_input_scale(0x1p-15f * 448, 448) == 0x1p-15f);
}

static void every_input_scale_has_a_finite_inverse_in_fp16(void)
{
    CHECK(oct_f32_to_f16(1 / OCT_INPUT_SCALE_MIN) < 0x7c00);
    CHECK(oct_f32_to_f16(1 / 0x1p-16f) == 0x7c00);
}

int main(void)
{
    RUN(scale_is_the_binary32_quotient);
    RUN(nothing_but_zeros_has_scale_one);
    RUN(small_ranges_keep_a_usable_scale);
    RUN(every_input_scale_has_a_finite_inverse_in_fp16);
    return test_end();
}
