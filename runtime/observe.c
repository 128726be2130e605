// SPDX-License-Identifier: Apache-2.0
//
// Observers. An integer maximum of magnitudes: order and threads cannot change it. Nor can they
// change counts, or sums of squares: a channel is one thread's, and calls are added as whole
// numbers.
#include "runtime/observe.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/number.h"
#include "kernels/kernels.h"

#define INFINITY_BITS 0x7f800000u
#define TILE 128  // channels that are summed together

static void end_without_memory(void)
{
    fputs("out of memory for an observer\n", stderr);
    exit(3);
}

void oct_observer_init(oct_observer *observer, size_t n_layers, size_t n_steps)
{
    assert(n_layers > 0 && n_steps > 0);
    *observer = (oct_observer){.n_layers = n_layers, .n_steps = n_steps};
    observer->amax = calloc(n_layers, 2 * n_steps * sizeof *observer->amax);
    observer->exponents = calloc(n_layers, sizeof *observer->exponents);
    if (!observer->amax || !observer->exponents) end_without_memory();
}

void oct_observer_add_channels(oct_observer *observer, const oct_denoiser *denoiser)
{
    assert(denoiser->n_layers == observer->n_layers && !observer->channels);
    observer->channels = calloc(observer->n_layers, sizeof *observer->channels);
    if (!observer->channels) end_without_memory();
    for (size_t i = 0; i < observer->n_layers; i++) {
        oct_channels *channels = &observer->channels[i];
        const size_t n = (size_t)denoiser->layers[i].in_features;
        *channels = (oct_channels){.layer = denoiser->layers[i].name, .n = n};
        channels->sums = calloc(n, sizeof *channels->sums);
        if (!channels->sums) end_without_memory();
    }
}

void oct_observer_deinit(oct_observer *observer)
{
    free(observer->amax);
    free(observer->exponents);
    for (size_t i = 0; observer->channels && i < observer->n_layers; i++) {
        free(observer->channels[i].sums);
    }
    free(observer->channels);
    *observer = (oct_observer){0};
}

static float absmax(const float *x, size_t rows, size_t cols)
{
    uint32_t max = 0;

#pragma omp parallel for schedule(static) reduction(max : max) if (rows * cols > 65536)
    for (size_t row = 0; row < rows; row++) {
        const uint32_t bits = oct_kernels_get()->absmax_f32(x + row * cols, cols);
        if (bits > max) max = bits;
    }
    return oct_f32_from_bits(max < INFINITY_BITS ? max : INFINITY_BITS);
}

static void add_squares(oct_channels *channels, const float *x, size_t rows, size_t cols)
{
    assert(cols == channels->n);
#pragma omp parallel for schedule(static) if (rows * cols > 65536)
    for (size_t first = 0; first < cols; first += TILE) {
        const size_t n = cols - first < TILE ? cols - first : TILE;
        double sums[TILE] = {0};
        for (size_t row = 0; row < rows; row++) {
            for (size_t i = 0; i < n; i++) {
                const double value = (double)x[row * cols + first + i];
                sums[i] += value * value;
            }
        }
        for (size_t i = 0; i < n; i++) oct_energy_add(&channels->sums[first + i], sums[i]);
    }
    channels->rows += rows;
}

static void count_exponents(oct_exponents *exponents, const float *x, size_t rows, size_t cols)
{
#pragma omp parallel if (rows * cols > 65536)
    {
        oct_exponents mine = {{0}};
#pragma omp for schedule(static) nowait
        for (size_t row = 0; row < rows; row++) {
            oct_count_exponents(mine.counts, x + row * cols, cols);
        }
#pragma omp critical
        oct_exponents_add(exponents, &mine);
    }
}

static void raise_to(float *amax, float value)
{
    if (value > *amax) *amax = value;
}

void oct_observe(oct_observer *observer, int layer, const float *x, size_t rows, size_t cols)
{
    if (!observer || layer < 0) return;
    assert((size_t)layer < observer->n_layers);
    assert(observer->branch == 0 || observer->branch == 1);

    count_exponents(&observer->exponents[layer], x, rows, cols);
    if (observer->channels) add_squares(&observer->channels[layer], x, rows, cols);
    float *steps =
        observer->amax + ((size_t)layer * 2 + (size_t)observer->branch) * observer->n_steps;
    if (observer->step == -1) {
        assert(rows <= observer->n_steps);
        for (size_t row = 0; row < rows; row++)
            raise_to(&steps[row], absmax(x + row * cols, 1, cols));
        return;
    }
    const float value = absmax(x, rows, cols);
    if (observer->step == -2) {
        for (size_t step = 0; step < observer->n_steps; step++) raise_to(&steps[step], value);
        return;
    }
    assert(observer->step >= 0 && (size_t)observer->step < observer->n_steps);
    raise_to(&steps[observer->step], value);
}

float oct_observer_amax(const oct_observer *observer, size_t layer)
{
    assert(layer < observer->n_layers);
    const float *steps = observer->amax + layer * 2 * observer->n_steps;
    float amax = 0;

    for (size_t i = 0; i < 2 * observer->n_steps; i++) raise_to(&amax, steps[i]);
    return amax;
}
