// SPDX-License-Identifier: Apache-2.0
//
// Bootstrap intervals.
#include "regress/interval.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

// splitmix64 of a counter.
static uint64_t random_at(uint64_t counter)
{
    uint64_t z = (counter + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// 0..n - 1: the upper half of a product, whose bias is n / 2^32.
static size_t random_index(uint64_t counter, size_t n)
{
    return (size_t)(((random_at(counter) >> 32) * n) >> 32);
}

static double mean_of(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum / (double)n;
}

static double normal_share(double z)  // below z
{
    return erfc(-z / sqrt(2)) / 2;
}

// The z below which the share lies, by halving.
static double normal_point(double share)
{
    double low = -40, high = 40;
    for (int i = 0; i < 100; i++) {
        const double middle = (low + high) / 2;
        if (normal_share(middle) < share)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

double oct_interval_acceleration(const double *values, size_t n)
{
    const double mean = mean_of(values, n);
    double squares = 0, cubes = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = values[i] - mean;
        squares += d * d;
        cubes += d * d * d;
    }
    return squares > 0 ? cubes / (6 * pow(squares, 1.5)) : 0;
}

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Between two of the sorted numbers where the share falls between them.
static double percentile(const double *sorted, size_t n, double share)
{
    const double at = fmin(fmax(share, 0), 1) * (double)(n - 1);
    const size_t below = (size_t)at;
    if (below + 1 >= n) return sorted[n - 1];
    return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

// The share that stands for `share` once bias and skewness are corrected.
static double correct(double share, double z0, double acceleration)
{
    const double z = z0 + normal_point(share);
    return normal_share(z0 + z / (1 - acceleration * z));
}

// Of means below, and half of those that are equal, which are many when the values are whole.
static double share_below(const double *means, double mean)
{
    double below = 0;
    for (size_t i = 0; i < OCT_INTERVAL_RESAMPLES; i++) {
        below += means[i] < mean ? 1 : means[i] == mean ? 0.5 : 0;
    }
    return below / OCT_INTERVAL_RESAMPLES;
}

static void resample(double *means, const double *values, size_t n)
{
    for (size_t b = 0; b < OCT_INTERVAL_RESAMPLES; b++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += values[random_index(b * n + i, n)];
        means[b] = sum / (double)n;
    }
    qsort(means, OCT_INTERVAL_RESAMPLES, sizeof *means, compare_numbers);
}

oct_status oct_interval_of_mean(oct_interval *interval, const double *values, size_t n,
                                oct_err *err)
{
    double tails[2] = {(1 - OCT_INTERVAL_CONFIDENCE) / 2, (1 + OCT_INTERVAL_CONFIDENCE) / 2};
    double *means = malloc(OCT_INTERVAL_RESAMPLES * sizeof *means);

    assert(n > 0);
    if (!means) return oct_fail(err, OCT_ENOMEM, "out of memory for a bootstrap");
    interval->mean = mean_of(values, n);
    resample(means, values, n);
    const double share = share_below(means, interval->mean);
    if (n >= OCT_INTERVAL_BCA_MIN && share > 0 && share < 1) {
        const double z0 = normal_point(share);
        const double acceleration = oct_interval_acceleration(values, n);
        for (int i = 0; i < 2; i++) tails[i] = correct(tails[i], z0, acceleration);
    }
    interval->low = percentile(means, OCT_INTERVAL_RESAMPLES, tails[0]);
    interval->high = percentile(means, OCT_INTERVAL_RESAMPLES, tails[1]);
    free(means);
    return OCT_OK;
}
