// SPDX-License-Identifier: Apache-2.0
//
// Searching scales.
#include "ptq/scale_search.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "common/number.h"
#include "kernels/kernels.h"

#define PIECE 512
#define LANES 8  // sums side by side: one alone waits for each addition
#define GRID_FIRST 24
#define GRID_LAST 64
#define GRID_START 32
#define GRID (1 + GRID_LAST - GRID_FIRST + 1)
#define WHOLE 0x1p30              // the count of the strongest channel
#define MANY (UINT64_C(1) << 18)  // numbers that are worth threads

// ---- Error.

// What is decoded from the codes of x.
static void decode_again(float *value, oct_weights weights, const float *x, size_t n, float scale)
{
    uint8_t codes[PIECE];

    if (weights == OCT_WEIGHTS_E4M3) {
        oct_encode_e4m3(codes, OCT_F32, x, n, scale);
        oct_kernels_get()->decode_e4m3(value, codes, n, scale);
        return;
    }
    oct_encode_e5m2(codes, OCT_F32, x, n, scale);
    oct_widen(value, OCT_F8_E5M2, codes, n);
    for (size_t i = 0; i < n; i++) value[i] *= scale;
}

static double squared_difference(float x, float value)
{
    const double difference = (double)x - (double)value;
    return difference * difference;
}

// Element i of a piece goes to lane i % LANES; in steps of all lanes they become vectors.
static void add_squares(double sums[LANES], const float *x, const float *value, size_t n)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            sums[lane] += squared_difference(x[i + lane], value[i + lane]);
        }
    }
    for (; i < n; i++) sums[i % LANES] += squared_difference(x[i], value[i]);
}

static void add_counted_squares(double sums[LANES], const float *x, const float *value,
                                const uint64_t *counts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sums[i % LANES] += (double)counts[i] * squared_difference(x[i], value[i]);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t period_of(const oct_numbers *numbers)
{
    return numbers->counts && numbers->period ? numbers->period : numbers->n;
}

double oct_numbers_error(const oct_numbers *numbers, oct_weights weights, float scale)
{
    const uint64_t period = period_of(numbers);
    const size_t element = oct_dtype_bits(numbers->dtype) / 8;
    const uint8_t *bytes = numbers->x;
    float x[PIECE], value[PIECE];
    double sums[LANES] = {0}, sum = 0;

    assert(weights != OCT_WEIGHTS_KEEP);
    for (uint64_t i = 0, n; i < numbers->n; i += n) {
        n = least(least(numbers->n - i, period - i % period), PIECE);
        oct_widen(x, numbers->dtype, bytes + i * element, n);
        decode_again(value, weights, x, n, scale);
        if (numbers->counts) {
            add_counted_squares(sums, x, value, numbers->counts + i % period, n);
        } else {
            add_squares(sums, x, value, n);
        }
    }
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

// ---- Least error.

// The distinct scales of the grid, `start` first.
static int fill_grid(float scales[GRID], float start, oct_snap snap)
{
    int n = 0;

    scales[n++] = start;
    for (int i = GRID_FIRST; i <= GRID_LAST; i++) {
        const float scale = (float)((double)start * i / GRID_START);
        const float snapped = oct_scale_snap(scale < FLT_MIN ? FLT_MIN : scale, snap);
        if (isfinite(snapped) && snapped != start && snapped != scales[n - 1]) {
            scales[n++] = snapped;
        }
    }
    return n;
}

float oct_numbers_best_scale(const oct_numbers *numbers, oct_weights weights, float start,
                             oct_snap snap)
{
    float scales[GRID];
    double errors[GRID];
    int best = 0;

    assert(isfinite(start) && start >= FLT_MIN);
    const int n = fill_grid(scales, start, snap);
#pragma omp parallel for schedule(dynamic) if (numbers->n >= MANY)
    for (int i = 0; i < n; i++) {
        errors[i] = oct_numbers_error(numbers, weights, scales[i]);
    }
    for (int i = 1; i < n; i++) {
        if (errors[i] < errors[best]) best = i;
    }
    return scales[best];
}

// ---- Percentiles.

static uint32_t magnitude_bits(const oct_numbers *numbers, uint64_t i)
{
    if (numbers->dtype == OCT_F32) {
        return oct_f32_bits(((const float *)numbers->x)[i]) & 0x7fffffffu;
    }
    return ((const uint16_t *)numbers->x)[i] & 0x7fffu;
}

static float magnitude_of(oct_dtype dtype, uint32_t bits)
{
    if (dtype == OCT_F32) return oct_f32_from_bits(bits);
    return dtype == OCT_F16 ? oct_f16_to_f32((uint16_t)bits) : oct_bf16_to_f32((uint16_t)bits);
}

// Byte by byte from the top: how many numbers share the bytes so far, and have which next.
float oct_numbers_magnitude_at(const oct_numbers *numbers, double percentile)
{
    const int bits = (int)oct_dtype_bits(numbers->dtype);
    uint64_t rank = (uint64_t)ceil(percentile * (double)numbers->n / 100);
    uint32_t found = 0;

    assert(numbers->n > 0 && !numbers->counts && percentile > 0 && percentile <= 100);
    if (rank < 1) rank = 1;
    if (rank > numbers->n) rank = numbers->n;
    for (int shift = bits - 8; shift >= 0; shift -= 8) {
        uint64_t counts[256] = {0};
        uint32_t byte = 0;
        for (uint64_t i = 0; i < numbers->n; i++) {
            const uint64_t m = magnitude_bits(numbers, i);
            if (m >> (shift + 8) == found >> shift >> 8) counts[m >> shift & 0xff]++;
        }
        for (; rank > counts[byte]; byte++) rank -= counts[byte];
        found |= byte << shift;
    }
    return magnitude_of(numbers->dtype, found);
}

// ---- Counting.

bool oct_numbers_weigh(const oct_channels *channels, uint64_t *counts)
{
    double most = 0;

    for (size_t i = 0; i < channels->n && channels->rows > 0; i++) {
        most = fmax(most, (double)oct_channels_mean(channels, i));
    }
    if (most == 0) return false;
    for (size_t i = 0; i < channels->n; i++) {
        counts[i] = (uint64_t)nearbyint((double)oct_channels_mean(channels, i) / most * WHOLE);
    }
    return true;
}

void oct_numbers_count(const oct_numbers *numbers, uint16_t *magnitudes, uint64_t *counts,
                       oct_numbers *counted)
{
    const uint64_t period = period_of(numbers);
    size_t n = 0;

    assert(oct_dtype_is_float16(numbers->dtype));
    memset(counts, 0, OCT_MAGNITUDES_16 * sizeof *counts);
    for (uint64_t first = 0; first < numbers->n; first += period) {
        const uint64_t end = least(first + period, numbers->n);
        for (uint64_t i = first; i < end; i++) {
            counts[magnitude_bits(numbers, i)] += numbers->counts ? numbers->counts[i - first] : 1;
        }
    }
    for (uint32_t bits = 0; bits < OCT_MAGNITUDES_16; bits++) {
        if (counts[bits] == 0) continue;
        magnitudes[n] = (uint16_t)bits;
        counts[n++] = counts[bits];
    }
    *counted = (oct_numbers){.dtype = numbers->dtype, .x = magnitudes, .counts = counts, .n = n};
}
