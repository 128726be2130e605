// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/sampler.c: published schedules, and samplers on a scalar equation.
#include "runtime/sampler.h"

#include "kernels/ops.h"
#include "tests/test.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define STEPS_MAX 64

static void check_schedule(oct_schedule_kind kind, size_t steps, const double *want)
{
    float sigmas[STEPS_MAX + 1];
    oct_schedule(kind, 3, steps, sigmas);
    for (size_t i = 0; i <= steps; i++) CHECK_NEAR(sigmas[i], want[i], 5.5e-7);  // six digits
    CHECK(sigmas[steps] == 0);
}

static void eulers_schedule_has_the_published_sigmas(void)
{
    static const double four[] = {1, 0.857692, 0.602151, 0.008929, 0};
    static const double eight[] = {1,        0.947543, 0.882788, 0.800837, 0.693793,
                                   0.548046, 0.337972, 0.008929, 0};
    static const double twenty_eight[] = {
        1,        0.987381, 0.974108, 0.960129, 0.945387, 0.929818, 0.913349, 0.895900,
        0.877382, 0.857692, 0.836717, 0.814325, 0.790368, 0.764677, 0.737056, 0.707278,
        0.675082, 0.640160, 0.602151, 0.560625, 0.515072, 0.464876, 0.409289, 0.347393,
        0.278049, 0.199827, 0.110906, 0.008929, 0};
    static const double forty[] = {
        1,        0.991331, 0.982356, 0.973058, 0.963421, 0.953424, 0.943048, 0.932270, 0.921067,
        0.909412, 0.897279, 0.884637, 0.871453, 0.857692, 0.843315, 0.828280, 0.812540, 0.796044,
        0.778738, 0.760559, 0.741440, 0.721306, 0.700074, 0.677652, 0.653936, 0.628812, 0.602151,
        0.573805, 0.543612, 0.511384, 0.476909, 0.439941, 0.400203, 0.357368, 0.311062, 0.260845,
        0.206198, 0.146509, 0.081046, 0.008929, 0};
    check_schedule(OCT_SCHEDULE_DIFFUSERS, 4, four);
    check_schedule(OCT_SCHEDULE_DIFFUSERS, 8, eight);
    check_schedule(OCT_SCHEDULE_DIFFUSERS, 28, twenty_eight);
    check_schedule(OCT_SCHEDULE_DIFFUSERS, 40, forty);
}

static void the_other_schedules_have_the_published_sigmas(void)
{
    static const double sgm[] = {1, 0.900359, 0.751121, 0.502985, 0};
    static const double simple[] = {1, 0.9, 0.75, 0.5, 0};
    static const double dpmpp[] = {0.999666, 0.899640, 0.749625, 0.499667, 0};
    check_schedule(OCT_SCHEDULE_SGM_UNIFORM, 4, sgm);
    check_schedule(OCT_SCHEDULE_SIMPLE, 4, simple);
    check_schedule(OCT_SCHEDULE_DPMPP, 4, dpmpp);
}

static void one_step_goes_from_noise_to_the_picture(void)
{
    float sigmas[2];
    oct_schedule(OCT_SCHEDULE_DIFFUSERS, 3, 1, sigmas);
    CHECK(sigmas[0] == 1 && sigmas[1] == 0);
}

static void the_model_is_told_a_thousand_sigma(void)
{
    oct_sampler sampler;
    CHECK(oct_sampler_init(&sampler, OCT_SAMPLER_EULER, 4, 3, NULL) == OCT_OK);
    CHECK_NEAR(sampler.timesteps[0], 1000, 0);
    CHECK_NEAR(sampler.timesteps[1], 857.6923, 5e-5);
    CHECK_NEAR(sampler.timesteps[3], 8.928571, 1e-6);
    oct_sampler_deinit(&sampler);
}

static void diffusers_dpmpp_truncates_timesteps(void)
{
    static const int four[] = {999, 899, 749, 499};
    static const int twenty_eight[] = {999, 987, 974, 961, 947, 932, 916, 899, 881, 863,
                                       843, 822, 799, 775, 749, 721, 691, 659, 624, 586,
                                       545, 499, 449, 394, 333, 264, 187, 99};
    oct_sampler sampler;
    CHECK(!oct_sampler_init(&sampler, OCT_SAMPLER_DPMPP_2M_DIFFUSERS, 4, 3, NULL));
    for (size_t i = 0; i < COUNT(four); i++) CHECK(sampler.timesteps[i] == (float)four[i]);
    oct_sampler_deinit(&sampler);
    CHECK(!oct_sampler_init(&sampler, OCT_SAMPLER_DPMPP_2M_DIFFUSERS, 28, 3, NULL));
    for (size_t i = 0; i < COUNT(twenty_eight); i++) {
        CHECK(sampler.timesteps[i] == (float)twenty_eight[i]);
    }
    oct_sampler_deinit(&sampler);
}

// dx/dsigma of the scalar equation that all samplers solve here; its solution is about 0.460.
static double velocity(double x, double sigma)
{
    return 0.7 * x - 0.2 * sigma + 0.1 + 0.05 * sin(3 * x);
}

// One step of x[n], which remembers up to two numbers.
static void advance(const oct_sampler *sampler, size_t step, float *x, const float *v, size_t n)
{
    static float memory[2][2];
    const oct_step_factors factors = oct_sampler_factors(sampler, step);
    const bool remembers = sampler->kind != OCT_SAMPLER_EULER;

    oct_sampler_step(&(oct_sampler_args){
        .x = x,
        .cond = v,
        .denoised = remembers ? memory[step % 2] : NULL,
        .previous = memory[(step + 1) % 2],
        .factors = &factors,
        .n = n,
    });
}

static double solve(oct_sampler_kind kind, size_t steps)
{
    float x[1] = {1};
    oct_sampler sampler;
    if (oct_sampler_init(&sampler, kind, steps, 3, NULL)) return NAN;
    for (size_t i = 0; i < steps; i++) {
        const float v = (float)velocity(x[0], sampler.sigmas[i]);
        advance(&sampler, i, x, &v, 1);
    }
    oct_sampler_deinit(&sampler);
    return x[0];
}

// The wanted values are from binary64 arithmetic. Ours rounds x, v and the coefficients to
// binary32, three half-ulps of 6e-8 a step at most: 20 steps stay below 4e-6.
static void samplers_solve_a_scalar_equation_as_the_references_do(void)
{
    CHECK_NEAR(solve(OCT_SAMPLER_EULER, 6), 0.44299261, 1e-6);
    CHECK_NEAR(solve(OCT_SAMPLER_EULER, 20), 0.45545603, 4e-6);
    CHECK_NEAR(solve(OCT_SAMPLER_DPMPP_2M, 6), 0.52995672, 1e-6);
    CHECK_NEAR(solve(OCT_SAMPLER_DPMPP_2M, 20), 0.46924164, 4e-6);
    CHECK_NEAR(solve(OCT_SAMPLER_DPMPP_2M_DIFFUSERS, 6), 0.44901020, 1e-6);
    CHECK_NEAR(solve(OCT_SAMPLER_DPMPP_2M_DIFFUSERS, 20), 0.45917955, 4e-6);
}

static void every_sampler_ends_at_the_denoised_latent(void)
{
    for (int kind = 0; kind <= OCT_SAMPLER_DPMPP_2M_DIFFUSERS; kind++) {
        float x[2] = {0.75f, -2}, v[2] = {0.5f, 1};
        oct_sampler sampler;
        CHECK(!oct_sampler_init(&sampler, (oct_sampler_kind)kind, 1, 3, NULL));
        const float sigma = sampler.sigmas[0];
        advance(&sampler, 0, x, v, 2);
        CHECK(x[0] == 0.75f - sigma * 0.5f && x[1] == -2 - sigma);
        oct_sampler_deinit(&sampler);
    }
}

static void names_round_trip(void)
{
    for (int kind = 0; kind <= OCT_SAMPLER_DPMPP_2M_DIFFUSERS; kind++) {
        oct_sampler_kind parsed = OCT_SAMPLER_EULER;
        CHECK(oct_sampler_parse(oct_sampler_name((oct_sampler_kind)kind), &parsed));
        CHECK((int)parsed == kind);
    }
    oct_sampler_kind untouched = OCT_SAMPLER_DPMPP_2M;
    CHECK(!oct_sampler_parse("Euler", &untouched) && untouched == OCT_SAMPLER_DPMPP_2M);
}

static void skip_layer_guidance_of_40_steps_acts_in_1_to_7(void)
{
    for (size_t step = 0; step < 40; step++) {
        CHECK(oct_slg_is_active(step, 40, 0.01, 0.2) == (step >= 1 && step <= 7));
    }
}

int main(void)
{
    RUN(eulers_schedule_has_the_published_sigmas);
    RUN(the_other_schedules_have_the_published_sigmas);
    RUN(one_step_goes_from_noise_to_the_picture);
    RUN(the_model_is_told_a_thousand_sigma);
    RUN(diffusers_dpmpp_truncates_timesteps);
    RUN(samplers_solve_a_scalar_equation_as_the_references_do);
    RUN(every_sampler_ends_at_the_denoised_latent);
    RUN(names_round_trip);
    RUN(skip_layer_guidance_of_40_steps_acts_in_1_to_7);
    return test_end();
}
