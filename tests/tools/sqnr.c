// SPDX-License-Identifier: Apache-2.0
//
// The figures of docs/numerics.md: signal-to-noise ratios of Gaussian weights by every method, and
// how many codes other arithmetic would change. Deterministic but for the last bits of log and cos.
//
//   sqnr
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/number.h"
#include "kernels/kernels.h"
#include "ptq/encoder.h"

#define ROWS ((size_t)2432)
#define COLUMNS ((size_t)2432)
#define N (ROWS * COLUMNS)
#define SPREAD 0.02

static uint16_t weights[N];
static uint8_t codes[N];
static double energy[COLUMNS];  // of input channels
static oct_energy sums[COLUMNS];

static void fill_weights(void)
{
    uint64_t state = 1;

    for (size_t i = 0; i < N; i += 2) {
        double uniform[2];
        for (int j = 0; j < 2; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            uniform[j] = ((double)(state >> 11) + 0.5) * 0x1p-53;
        }
        const double radius = sqrt(-2 * log(uniform[0])), angle = 2 * M_PI * uniform[1];
        weights[i] = oct_f32_to_f16((float)(SPREAD * radius * cos(angle)));
        weights[i + 1] = oct_f32_to_f16((float)(SPREAD * radius * sin(angle)));
    }
}

static float scale_at(const oct_decision *d, const void *scales, size_t i)
{
    if (d->granularity == OCT_PER_MX_BLOCK) {
        return oct_e8m0_to_f32(((const uint8_t *)scales)[i / OCT_MX_BLOCK]);
    }
    return ((const float *)scales)[d->granularity == OCT_PER_CHANNEL ? i / COLUMNS : 0];
}

// Of the weight, or, by the energies, of the outputs.
static double sqnr_db(const oct_decision *d, const void *scales, bool is_of_outputs)
{
    double signal = 0, noise = 0;

    for (size_t i = 0; i < N; i++) {
        const bool is_e5m2 = d->weights == OCT_WEIGHTS_E5M2;
        const float code = is_e5m2 ? oct_e5m2_to_f32(codes[i]) : oct_e4m3_to_f32(codes[i]);
        const double value = (double)oct_f16_to_f32(weights[i]);
        const double error = value - (double)(code * scale_at(d, scales, i));
        const double counts = is_of_outputs ? energy[i % COLUMNS] : 1;
        signal += counts * value * value;
        noise += counts * error * error;
    }
    return 10 * log10(signal / noise);
}

static double encode(oct_decision decision, float qmax, oct_snap snap, bool is_of_outputs)
{
    const oct_source_tensor tensor = {.name = "weight", .dtype = OCT_F16, .bytes = sizeof weights};
    const oct_layer layer = {.weight = &tensor, .out_features = ROWS, .in_features = COLUMNS};
    const oct_plan plan = {.params = {.qmax = qmax, .snap_scales = snap}};
    oct_encoder *encoder = NULL;
    oct_err err = {0};
    uint64_t bytes = 0;

    decision.layer = &layer;
    oct_status st = oct_encoder_begin(&encoder, &plan, &decision, &err);
    if (!st) {
#pragma omp parallel for schedule(static)
        for (size_t row = 0; row < ROWS; row++) {
            oct_encoder_scan(encoder, weights + row * COLUMNS, row * COLUMNS, COLUMNS);
        }
        st = oct_encoder_settle(encoder, weights, &err);
    }
    if (st) {
        fprintf(stderr, "sqnr: %s\n", err.text);
        exit(3);
    }
    oct_encoder_encode(encoder, weights, 0, N, codes);
    const double found = sqnr_db(&decision, oct_encoder_scales(encoder, &bytes), is_of_outputs);
    oct_encoder_end(encoder);
    return found;
}

static void print_methods(void)
{
    static const struct {
        const char *name;
        oct_decision decision;
        oct_snap snap;
    } methods[] = {
        {"max", {.scaling = OCT_SCALE_MAX}, OCT_SNAP_NONE},
        {"mse", {.scaling = OCT_SCALE_MSE}, OCT_SNAP_NONE},
        {"99.99", {.scaling = OCT_SCALE_PERCENTILE, .percentile = 99.99}, OCT_SNAP_NONE},
        {"99.9", {.scaling = OCT_SCALE_PERCENTILE, .percentile = 99.9}, OCT_SNAP_NONE},
        {"pow2", {.scaling = OCT_SCALE_MAX}, OCT_SNAP_POW2},
    };
    static const struct {
        const char *name;
        oct_weights weights;
        oct_granularity granularity;
        int n_methods;
    } rows[] = {
        {"E4M3, tensor", OCT_WEIGHTS_E4M3, OCT_PER_TENSOR, 5},
        {"E4M3, channel", OCT_WEIGHTS_E4M3, OCT_PER_CHANNEL, 2},
        {"E4M3, mx", OCT_WEIGHTS_E4M3, OCT_PER_MX_BLOCK, 1},
        {"E5M2, tensor", OCT_WEIGHTS_E5M2, OCT_PER_TENSOR, 5},
        {"E5M2, channel", OCT_WEIGHTS_E5M2, OCT_PER_CHANNEL, 2},
    };

    printf("dB of weights  ");
    for (size_t i = 0; i < 5; i++) printf(" %6s", methods[i].name);
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        printf("\n%-15s", rows[row].name);
        for (int i = 0; i < rows[row].n_methods; i++) {
            oct_decision decision = methods[i].decision;
            decision.weights = rows[row].weights;
            decision.granularity = rows[row].granularity;
            printf(" %6.2f", encode(decision, 448, methods[i].snap, false));
            fflush(stdout);
        }
    }
    printf("\n");
}

// Headroom moves the largest value through a binade.
static void print_binade(void)
{
    const oct_decision decision = {.weights = OCT_WEIGHTS_E4M3};
    double least = INFINITY, most = 0;

    for (int i = 0; i < 32; i++) {
        const double db = encode(decision, (float)(448 * exp2(-i / 32.0)), OCT_SNAP_NONE, false);
        least = fmin(least, db);
        most = fmax(most, db);
    }
    printf("E4M3, tensor, max, over a binade of --qmax: %.2f to %.2f\n", least, most);
}

// One channel in a hundred has a hundred times the amplitude of the others.
static void print_outputs(void)
{
    oct_channels channels = {.rows = 1, .n = COLUMNS, .sums = sums};

    for (size_t i = 0; i < COLUMNS; i++) {
        energy[i] = i % 100 == 50 ? 1e4 : 1;
        oct_energy_add(&sums[i], energy[i]);
    }
    printf("dB of outputs      max    mse    mse by energy\n");
    for (oct_granularity g = OCT_PER_TENSOR; g <= OCT_PER_CHANNEL; g++) {
        const oct_decision max = {.weights = OCT_WEIGHTS_E4M3, .granularity = g};
        oct_decision mse = max;
        mse.scaling = OCT_SCALE_MSE;
        oct_decision by_energy = mse;
        by_energy.channels = &channels;
        printf("E4M3, %-9s %6.2f %6.2f %6.2f\n", oct_granularity_name(g),
               encode(max, 448, OCT_SNAP_NONE, true), encode(mse, 448, OCT_SNAP_NONE, true),
               encode(by_energy, 448, OCT_SNAP_NONE, true));
        fflush(stdout);
    }
}

// Of the processor's time, so that neighbours hardly matter.
static void print_speed(void)
{
    const oct_decision decision = {
        .weights = OCT_WEIGHTS_E4M3, .granularity = OCT_PER_CHANNEL, .scaling = OCT_SCALE_MSE};

    const clock_t start = clock();
    encode(decision, 448, OCT_SNAP_NONE, false);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    printf("E4M3, channel, mse: %.0f million weights per second and core\n",
           1e-6 * (double)N / seconds);
}

// Every weight that F16 can hold within the range, under the scales of many ranges: near ties,
// where codes change, F16 numbers are not random.
static void print_other_arithmetic(void)
{
    size_t n = 0, by_inverse = 0, through_f16 = 0;

    for (uint16_t amax = 0x2c00; amax < 0x3c00; amax += 61) {
        const float scale = oct_f16_to_f32(amax) / 448, inverse = 1 / scale;
        for (uint16_t bits = 0; bits <= amax; bits++) {
            const float x = oct_f16_to_f32(bits), y = x / scale;
            const uint8_t code = oct_f32_to_e4m3(y);
            by_inverse += code != oct_f32_to_e4m3(x * inverse);
            through_f16 += code != oct_f32_to_e4m3(oct_f16_to_f32(oct_f32_to_f16(y)));
            n++;
        }
    }
    printf("codes changed per million: %.0f by x * (1/s), %.0f by rounding through F16 first\n",
           1e6 * (double)by_inverse / (double)n, 1e6 * (double)through_f16 / (double)n);
}

int main(void)
{
    fill_weights();
    print_methods();
    print_binade();
    print_outputs();
    print_other_arithmetic();
    print_speed();
    return 0;
}
