// SPDX-License-Identifier: Apache-2.0
//
// Observers: the largest magnitude that each layer's input reaches, per step and guidance branch,
// how its magnitudes are spread, and, where it is asked for, the sum of squares of each channel.
#pragma once

#include <stddef.h>

#include "ptq/channels.h"
#include "ptq/exponents.h"
#include "ptq/layers.h"

typedef struct oct_observer {
    size_t n_layers, n_steps;
    float *amax;      // [n_layers][2][n_steps], owned; starts at 0; NaN inputs count as infinity
    oct_exponents *exponents;  // [n_layers], owned; over all steps and branches. Input of all steps
                               // at once is counted once
    int branch;       // of what runs now: 0 conditional, 1 unconditional
    int step;         // of what runs now; -1: row i of the input belongs to step i
                      // -2: to all steps at once (input that does not depend on the step)
    oct_channels *channels;  // [n_layers], owned; NULL: squares are not asked for. Sums of one call
                             // are binary64, row after row; who observes on another device adds up
                             // its own and calls oct_energy_add()
} oct_observer;

void oct_observer_init(oct_observer *observer, size_t n_layers, size_t n_steps);
void oct_observer_deinit(oct_observer *observer);

// From now on also sum squares, for the layers of `denoiser`, whose names are borrowed.
void oct_observer_add_channels(oct_observer *observer, const oct_denoiser *denoiser);

// x: [rows][cols] enters `layer`. Does nothing for layer < 0 or a NULL observer.
void oct_observe(oct_observer *observer, int layer, const float *x, size_t rows, size_t cols);

float oct_observer_amax(const oct_observer *observer, size_t layer);  // over steps and branches
