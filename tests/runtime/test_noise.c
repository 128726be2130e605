// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/noise.c: the streams of PyTorch's CPU generator and of Philox.
#include "runtime/noise.h"

#include <stdlib.h>

#include "common/number.h"
#include "tests/test.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

// The values are printed with seven digits, and PyTorch's own vector functions differ from libm's
// by up to 5e-7.
#define BOUND 1e-6

static void check_f32(const float *got, const double *want, size_t n, double bound)
{
    for (size_t i = 0; i < n; i++) CHECK_NEAR(got[i], want[i], bound);
}

static void integers_are_those_of_mt19937(void)
{
    static const struct {
        uint64_t seed;
        uint32_t want[4];
    } cases[] = {
        {0, {2357136044u, 2546248239u, 3071714933u, 3626093760u}},
        {42, {1608637542u, 3421126067u, 4083286876u, 787846414u}},
        {23, {2221777491u, 2873750246u, 4067173416u, 794519497u}},
    };
    for (size_t c = 0; c < COUNT(cases); c++) {
        oct_noise noise;
        oct_noise_init(&noise, cases[c].seed);
        for (size_t i = 0; i < 4; i++) CHECK(oct_noise_u32(&noise) == cases[c].want[i]);
    }
}

static void only_the_low_32_bits_of_a_seed_count(void)
{
    oct_noise a, b;
    oct_noise_init(&a, 42);
    oct_noise_init(&b, (UINT64_C(7) << 32) + 42);
    CHECK(oct_noise_u32(&a) == oct_noise_u32(&b));
}

static void a_latent_of_1024_pixels_is_pytorchs(void)
{
    static const struct {
        uint64_t seed;
        double first[9], last, mean, std;
    } cases[] = {
        {0,
         {-1.12584, -1.15236, -0.2505786, -0.4338788, 0.8487104, 0.6920092, -0.3160128, -2.115219,
          0.3222749},
         0.07685992,
         -0.0033910,
         1.0001831},
        {42,
         {1.926915, 1.487284, 0.9007172, -2.105521, 0.6784185, -1.234545, -0.04306748, -1.604667,
          -0.7521353},
         -2.329417,
         -0.0002400,
         1.0022362},
        {23,
         {-0.9012059, 0.5655949, -0.4882264, 0.7506958, 0.5892538, -0.4551959, -0.813548, 0.2670397,
          -0.5531394},
         0.6753715,
         -0.0003627,
         0.9985843},
    };
    const size_t n = 16 * 128 * 128;
    float *x = malloc(n * sizeof *x);

    for (size_t c = 0; c < COUNT(cases); c++) {
        double sum = 0, squares = 0;
        oct_noise noise;
        oct_noise_init(&noise, cases[c].seed);
        oct_noise_f32(&noise, x, n);
        check_f32(x, cases[c].first, COUNT(cases[c].first), BOUND);
        CHECK_NEAR(x[n - 1], cases[c].last, BOUND);
        for (size_t i = 0; i < n; i++) {
            sum += x[i];
            squares += (double)x[i] * x[i];
        }
        const double mean = sum / (double)n;
        CHECK_NEAR(mean, cases[c].mean, 1e-7);
        CHECK_NEAR(sqrt(squares / (double)n - mean * mean), cases[c].std, 2e-7);
    }
    free(x);
}

static void a_ragged_tail_is_drawn_again(void)
{
    static const double want[17] = {1.926915,  -0.1595975, -0.4973975, 0.4395893,  -0.7581311,
                                    1.078318,  0.8008006,  1.680621,   0.3558599,  1.296423,
                                    0.6104665, 1.334738,   -0.2316243, 0.04175949, -0.2515753,
                                    0.8598585, -0.3097268};
    float x[17];
    oct_noise noise;
    oct_noise_init(&noise, 42);
    oct_noise_f32(&noise, x, 17);
    check_f32(x, want, 17, BOUND);
}

static void fewer_than_16_come_one_by_one(void)
{
    static const double want[5] = {0.3366904, 0.1288094, 0.2344624, 0.230333, -1.122856};
    float x[5];
    oct_noise noise;
    oct_noise_init(&noise, 42);
    oct_noise_f32(&noise, x, 5);
    check_f32(x, want, 5, BOUND);
}

static void the_second_of_a_pair_waits_for_the_next_call(void)
{
    static const double want[5] = {0.3366904, 0.1288094, 0.2344624, 0.230333, -1.122856};
    float x[5];
    oct_noise noise;
    oct_noise_init(&noise, 42);
    oct_noise_f32(&noise, x, 1);
    oct_noise_f32(&noise, x + 1, 4);
    check_f32(x, want, 5, BOUND);
}

static void a_second_call_continues_the_stream(void)
{
    static const double want[4] = {0.3188803, -0.424519, 0.3057209, -0.7745925};
    float x[20];
    oct_noise noise;
    oct_noise_init(&noise, 42);
    oct_noise_f32(&noise, x, 20);
    oct_noise_f32(&noise, x, 20);
    check_f32(x, want, 4, BOUND);
}

static void f16_has_a_stream_of_its_own(void)
{
    static const double want[8] = {0.38671875,   1.4716796875,    0.1468505859375, -1.119140625,
                                   0.6708984375, -0.203857421875, 1.8515625,       -0.4990234375};
    uint16_t x[32];
    oct_noise noise;
    oct_noise_init(&noise, 42);
    oct_noise_f16(&noise, x, 32);
    for (size_t i = 0; i < 8; i++) CHECK_NEAR(oct_f16_to_f32(x[i]), want[i], 0);
}

static void bf16_has_a_stream_of_its_own(void)
{
    static const double want[8] = {-0.80859375,   -1.53125,     0.40625,     0.171875,
                                   -0.2470703125, 0.2041015625, -0.87890625, -0.38671875};
    uint16_t x[32];
    oct_noise noise;
    oct_noise_init(&noise, 42);
    oct_noise_bf16(&noise, x, 32);
    for (size_t i = 0; i < 8; i++) CHECK_NEAR(oct_bf16_to_f32(x[i]), want[i], 0);
}

static void a_gpu_with_enough_threads_gives_each_one_normal(void)
{
    static const double zero[6] = {-0.924662, -0.425344, -2.643846, 0.145184, -0.120867, -0.579726};
    static const double forty_two[6] = {0.194019, 2.161374,  -0.172051,
                                        0.849060, -1.924399, 0.652986};
    float x[6];
    oct_noise_philox(0, x, 6, 270336);
    check_f32(x, zero, 6, 2e-6);  // a GPU's fast sine, and six printed digits
    oct_noise_philox(42, x, 6, 270336);
    check_f32(x, forty_two, 6, 2e-6);
}

static void a_small_gpu_draws_again_from_its_first_threads(void)
{
    float wide[2], narrow[2 * 5];
    oct_noise_philox(42, wide, 2, 1000);
    oct_noise_philox(42, narrow, 10, 2);
    CHECK(narrow[0] == wide[0] && narrow[1] == wide[1]);
    for (size_t i = 1; i < 5; i++) CHECK(narrow[2 * i] != narrow[2 * i - 2]);
}

int main(void)
{
    RUN(integers_are_those_of_mt19937);
    RUN(only_the_low_32_bits_of_a_seed_count);
    RUN(a_latent_of_1024_pixels_is_pytorchs);
    RUN(a_ragged_tail_is_drawn_again);
    RUN(fewer_than_16_come_one_by_one);
    RUN(the_second_of_a_pair_waits_for_the_next_call);
    RUN(a_second_call_continues_the_stream);
    RUN(f16_has_a_stream_of_its_own);
    RUN(bf16_has_a_stream_of_its_own);
    RUN(a_gpu_with_enough_threads_gives_each_one_normal);
    RUN(a_small_gpu_draws_again_from_its_first_threads);
    return test_end();
}
