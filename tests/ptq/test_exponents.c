// SPDX-License-Identifier: Apache-2.0
//
// Histograms of exponents, and what they say against really encoding the numbers.
#include "ptq/exponents.h"

#include <math.h>
#include <stdlib.h>

#include "common/number.h"
#include "tests/test.h"

#define N 200000

static oct_exponents count(const float *x, size_t n)
{
    oct_exponents exponents = {{0}};

    oct_count_exponents(exponents.counts, x, n);
    return exponents;
}

static void check_bin(float x, size_t bin)
{
    const oct_exponents of = count(&x, 1);

    CHECK(of.counts[bin] == 1);
    CHECK(oct_exponents_total(&of) == 1);
}

static void a_number_is_in_the_bin_of_its_exponent(void)
{
    check_bin(0, 0);
    check_bin(-0.0f, 0);
    check_bin(0x1p-149f, 0);
    check_bin(nextafterf(0x1p-30f, 0), 0);
    check_bin(0x1p-30f, 1);
    check_bin(nextafterf(0x1p-29f, 0), 1);
    check_bin(-0x1p-29f, 2);
    check_bin(1, 31);
    check_bin(-1.99f, 31);
    check_bin(nextafterf(0x1p16f, 0), 46);
    check_bin(0x1p16f, 47);
    check_bin(-0x1p127f, 47);
    check_bin(INFINITY, 47);
    check_bin(NAN, 47);
}

static void every_number_is_counted_once(void)
{
    for (size_t n = 0; n < 40; n++) {
        float x[40];
        for (size_t i = 0; i < n; i++) x[i] = ldexpf(1.5f, (int)i % 13);
        const oct_exponents of = count(x, n);
        CHECK(oct_exponents_total(&of) == n);
        CHECK(of.counts[31] == (n + 12) / 13);
    }
}

static void counts_are_added(void)
{
    const float x[] = {1, 2, 3};
    oct_exponents of = count(x, 3);

    oct_count_exponents(of.counts, x, 3);
    CHECK(of.counts[31] == 2 && of.counts[32] == 4 && oct_exponents_total(&of) == 6);
}

static void fill(float *x, bool is_normal, float sigma)
{
    unsigned state = 1;

    for (size_t i = 0; i < N; i++) {
        double sum = 0;  // of twelve: nearly normal
        for (int k = 0; k < (is_normal ? 12 : 1); k++) {
            state = state * 1664525u + 1013904223u;
            sum += (double)(state >> 8) / (1 << 24) - 0.5;
        }
        x[i] = (float)sum * sigma;
    }
}

static double encoded_sqnr_db(const float *x, float scale)
{
    double signal = 0, noise = 0;

    for (size_t i = 0; i < N; i++) {
        const double back = (double)oct_e4m3_to_f32(oct_f32_to_e4m3(x[i] / scale)) * (double)scale;
        signal += (double)x[i] * (double)x[i];
        noise += ((double)x[i] - back) * ((double)x[i] - back);
    }
    return 10 * log10(signal / noise);
}

static double encoded_underflow(const float *x, float scale)
{
    size_t n = 0;

    for (size_t i = 0; i < N; i++) {
        n += x[i] != 0 && oct_e4m3_to_f32(oct_f32_to_e4m3(x[i] / scale)) == 0;
    }
    return (double)n / N;
}

static double absmax(const float *x)
{
    float amax = 0;

    for (size_t i = 0; i < N; i++) amax = fmaxf(amax, fabsf(x[i]));
    return (double)amax;
}

// 1 dB: the density of normal numbers falls within a bin, by more the farther out.
static void estimates_agree_with_encoding(void)
{
    float *x = malloc(N * sizeof *x);

    for (int is_normal = 0; is_normal < 2; is_normal++) {
        fill(x, is_normal, 3.7f);
        const oct_exponents of = count(x, N);
        const double amax = absmax(x);
        for (double times = 1; times <= 64; times *= 1.4) {
            const double scale = amax / 448 * times;
            CHECK_NEAR(oct_exponents_sqnr_db(&of, amax, scale), encoded_sqnr_db(x, (float)scale),
                       1.0);
            CHECK_NEAR(oct_exponents_underflow(&of, amax, scale),
                       encoded_underflow(x, (float)scale), 0.003);
        }
    }
    free(x);
}

static void nothing_says_nothing(void)
{
    const float zeros[8] = {0};
    const oct_exponents none = {{0}}, zero = count(zeros, 8);

    CHECK(oct_exponents_underflow(&none, 0, 1) == 0);
    CHECK(isnan(oct_exponents_sqnr_db(&none, 0, 1)));
    CHECK(oct_exponents_underflow(&zero, 0, 1) == 0);
    CHECK(isnan(oct_exponents_sqnr_db(&zero, 0, 1)));
}

int main(void)
{
    RUN(a_number_is_in_the_bin_of_its_exponent);
    RUN(every_number_is_counted_once);
    RUN(counts_are_added);
    RUN(estimates_agree_with_encoding);
    RUN(nothing_says_nothing);
    return test_end();
}
