// SPDX-License-Identifier: Apache-2.0
//
// Tiny checkpoints with values from the formula, and how vectors of the reference are compared.
#pragma once

#include <stddef.h>

#include "common/safetensors.h"
#include "common/status.h"

// Fill every tensor that was added (all F32) by the formula on its name without `prefix`; write the
// file and end the writer.
oct_status tiny_write(oct_st_writer *writer, const char *path, const char *prefix, oct_err *err);

typedef struct tiny_want {  // as test vectors are printed
    size_t n;
    double first[6], last, sum, squares;
} tiny_want;

// The largest deviation of the listed elements; of sum and squares, divided by sqrt(n), because
// independent errors grow so. Infinite when `n` differs.
double tiny_distance(const float *got, size_t n, const tiny_want *want);
