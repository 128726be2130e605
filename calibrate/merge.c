// SPDX-License-Identifier: Apache-2.0
//
// Merging calibration files.
#include "calibrate/merge.h"

#include "common/file.h"

static oct_status check_paths(const oct_texts *files, const char *out, oct_err *err)
{
    if (files->count < 2)
        return oct_fail(err, OCT_EUSAGE, "option '--merge' needs at least two files");
    for (size_t i = 0; i < files->count; i++) {
        if (oct_path_is_same_file(files->items[i], out))
            return oct_fail(err, OCT_EUSAGE, "'%s' is one of the calibrations to merge", out);
    }
    return OCT_OK;
}

static oct_status add_file(oct_calibration *merged, const char *path, oct_err *err)
{
    oct_calibration other;

    oct_status st = oct_calibration_load(&other, path, err);
    if (st) return st;
    st = oct_calibration_merge(merged, &other, err);
    oct_calibration_deinit(&other);
    return st ? oct_wrap(err, st, "cannot merge: '%s'", path) : OCT_OK;
}

oct_status oct_merge_files(oct_calibration *merged, const oct_texts *files, const char *out,
                           oct_err *err)
{
    *merged = (oct_calibration){0};
    oct_status st = check_paths(files, out, err);
    if (!st) st = oct_calibration_load(merged, files->items[0], err);
    for (size_t i = 1; i < files->count && !st; i++) st = add_file(merged, files->items[i], err);
    if (!st) st = oct_calibration_save(merged, out, err);
    if (st) oct_calibration_deinit(merged);
    return st;
}
