// SPDX-License-Identifier: Apache-2.0
//
// Tiny checkpoints for tests.
#include "tests/runtime/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tools/formula.h"

static oct_status write_tensor(oct_st_writer *writer, const oct_st_tensor *tensor,
                               const char *prefix, oct_err *err)
{
    float *values = malloc(tensor->bytes);
    if (!values) return oct_fail(err, OCT_ENOMEM, "out of memory for '%s'", tensor->name);
    oct_formula_fill(values, tensor->name + strlen(prefix), tensor->rank, tensor->shape);
    const oct_status st = oct_st_writer_write(writer, tensor, 0, values, tensor->bytes, err);
    free(values);
    return st;
}

oct_status tiny_write(oct_st_writer *writer, const char *path, const char *prefix, oct_err *err)
{
    oct_status st = oct_st_writer_begin(writer, path, err);
    for (size_t i = 0; i < writer->n_tensors && !st; i++) {
        st = write_tensor(writer, &writer->tensors[i], prefix, err);
    }
    if (!st) st = oct_st_writer_commit(writer, err);
    oct_st_writer_deinit(writer);
    return st;
}

double tiny_distance(const float *got, size_t n, const tiny_want *want)
{
    double sum = 0, squares = 0, most = 0;

    if (n != want->n) return INFINITY;
    for (size_t i = 0; i < n; i++) {
        sum += got[i];
        squares += (double)got[i] * got[i];
    }
    for (size_t i = 0; i < 6; i++) most = fmax(most, fabs(got[i] - want->first[i]));
    most = fmax(most, fabs(got[n - 1] - want->last));
    most = fmax(most, fabs(sum - want->sum) / sqrt((double)n));
    most = fmax(most, fabs(squares - want->squares) / sqrt((double)n));
    return isfinite(sum) ? most : INFINITY;
}
