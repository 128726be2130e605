// SPDX-License-Identifier: Apache-2.0
//
// One pass over the data of a file: the XXH3 digest of each tensor, FP8 codes that are no numbers,
// and the SHA-256 of all of it. In chunks, on all threads, with one chunk of memory per thread; for
// SHA-256 with one more thread and seven more chunks.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/safetensors.h"
#include "common/status.h"
#include "verify/findings.h"

typedef struct oct_scan_tensor {
    oct_xxh128 digest;  // oct_digest_of_data(); only with digests
    uint64_t n_nan;     // codes of NaN or infinity in an FP8 tensor
    uint64_t first_nan;
} oct_scan_tensor;

typedef struct oct_scan {
    oct_arena arena;
    oct_scan_tensor *tensors;  // [file->n_tensors], in the file's order
    oct_xxh128 header;         // digest of all bytes before the data; only with digests
    bool has_digests;
} oct_scan;

// Without digests and SHA-256 only FP8 tensors are read. sha256: gets that of the file, or NULL.
oct_status oct_scan_file(oct_scan *scan, const oct_safetensors *file, bool needs_digests,
                         char *sha256, oct_err *err);
void oct_scan_deinit(oct_scan *scan);

// Findings: tensors with codes that are no numbers.
void oct_scan_check_codes(const oct_scan *scan, const oct_safetensors *file,
                          oct_findings *findings);

// Compare with the table at `path` (common/xxh3_table.h). Findings name every tensor that differs,
// that the table lacks or that the file lacks. OCT_EFORMAT: the table is malformed.
oct_status oct_scan_check_table(const oct_scan *scan, const oct_safetensors *file, const char *path,
                                oct_findings *findings, oct_err *err);
