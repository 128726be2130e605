// SPDX-License-Identifier: Apache-2.0
//
// What a plan will cost, before anything is written: the signal-to-noise ratio of each FP8 weight,
// from really encoding some of its rows, and of its FP8 inputs, from the calibration.
#pragma once

#include "ptq/plan.h"

#define OCT_PREDICT_ROWS 64

// Of the sampled rows alone, encoded as if they were the whole weight: 10 log10 of the sum of
// squares over the sum of squared errors. With one scale per tensor the whole weight's scale is
// usually a little larger than theirs; per row and per MX block they are the same.
typedef struct oct_prediction {
    double sqnr_db;  // NAN for a kept layer, INFINITY where no value is changed
    double output_sqnr_db;  // the same of the layer's outputs in 16 bit: every column's squares
                            // times the mean square of its input channel, which takes channels for
                            // uncorrelated; NAN where the calibration does not know them
    double input_sqnr_db;    // of the inputs as E4M3 by their calibrated scale, estimated from their
    double input_underflow;  // histogram, and the share that becomes 0: ptq/exponents.h. NAN where
                             // inputs are not static or nothing was counted
    uint64_t rows;   // OCT_PREDICT_ROWS, evenly spread from the first; all of a smaller weight;
                     // 0 for a kept layer
} oct_prediction;

// predictions: [plan->n_decisions]. Threads inside; the same bits for any number of them.
// OCT_EFORMAT for a NaN or infinity in a sampled row, naming tensor, row and column.
oct_status oct_plan_predict(const oct_plan *plan, oct_prediction *predictions, oct_err *err);
