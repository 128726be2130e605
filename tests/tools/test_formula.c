// SPDX-License-Identifier: Apache-2.0
//
// Tests of tests/tools/formula.c.
#include "tests/tools/formula.h"

#include "tests/test.h"

static void the_hash_is_fnv_1a(void)
{
    CHECK(oct_formula_hash("") == 2166136261u);
    CHECK(oct_formula_hash("pos_embed") == 2414328495u);
}

static void a_position_table_is_half_of_w(void)
{
    const uint64_t shape[3] = {1, 64, 128};
    const double u[3] = {0.67133205, 0.32392035, 0.17775676};

    for (int i = 0; i < 3; i++) {
        CHECK_NEAR(oct_formula_value("pos_embed", 3, shape, i), 0.5 * (2 * u[i] - 1), 1e-8);
    }
}

static void a_bias_is_a_tenth_of_w(void)
{
    const double want[4] = {0.03592832, -0.09944506, -0.02739992, -0.00756436};
    const uint64_t shape[1] = {4};
    float got[4];

    oct_formula_fill(got, "context_embedder.bias", 1, shape);
    for (int i = 0; i < 4; i++) {
        CHECK_NEAR(got[i], want[i], 1e-8);
    }
}

static void a_weight_is_bounded_by_its_fan_in(void)
{
    const uint64_t shape[4] = {8, 3, 2, 2};
    float got[96], peak = 0;

    oct_formula_fill(got, "x_embedder.proj.weight", 4, shape);
    for (int i = 0; i < 96; i++) {
        peak = fmaxf(peak, fabsf(got[i]));
    }
    CHECK(peak <= 0.5f && peak > 0.45f);
}

static void a_range_is_a_part_of_the_whole(void)
{
    const uint64_t shape[2] = {300, 700};
    static float whole[210000], part[100000];

    oct_formula_fill(whole, "a.weight", 2, shape);
    oct_formula_fill_range(part, "a.weight", 2, shape, 777, 100000);
    CHECK(memcmp(whole + 777, part, sizeof part) == 0);
}

static void a_seed_changes_values_but_not_the_rule(void)
{
    const uint64_t shape[2] = {2, 8}, one[1] = {4};
    float plain[16], seeded[16], norm[4];

    oct_formula_fill(plain, "pos_embed", 2, shape);
    oct_formula_fill(seeded, "7/pos_embed", 2, shape);
    oct_formula_fill(norm, "7/norm.weight", 1, one);
    CHECK(memcmp(plain, seeded, sizeof plain) != 0);
    for (int i = 0; i < 16; i++) {
        CHECK(fabsf(seeded[i]) <= 0.5f);
    }
    CHECK(norm[0] >= 0.9f && norm[0] <= 1.1f);
}

int main(void)
{
    RUN(the_hash_is_fnv_1a);
    RUN(a_position_table_is_half_of_w);
    RUN(a_bias_is_a_tenth_of_w);
    RUN(a_weight_is_bounded_by_its_fan_in);
    RUN(a_range_is_a_part_of_the_whole);
    RUN(a_seed_changes_values_but_not_the_rule);
    return test_end();
}
