// SPDX-License-Identifier: Apache-2.0
//
// Writing a quantized checkpoint with its digests. The tensors go through quantize/stream.h; the file
// appears under its name only when it is complete.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/status.h"
#include "ptq/dialect.h"
#include "ptq/plan.h"
#include "ptq/source.h"

typedef enum oct_writing {
    OCT_WRITE_QUANTIZED,  // the source by a plan
    OCT_WRITE_DECODED,    // the source as it is, after oct_source_decode()
    OCT_WRITE_RESPELLED,  // the source's codes in another dialect
} oct_writing;

typedef struct oct_write_params {
    const oct_source *source;
    oct_writing writing;
    const oct_plan *plan;    // QUANTIZED only
    oct_dialect dialect;     // not DECODED
    const char *out;         // FILE; FILE.xxh3 and FILE.sha256 follow when it is there
    bool no_source_digest;   // leave the source's SHA-256 out
    bool no_sha256;          // that, and write no FILE.sha256 (an old one is removed)
} oct_write_params;

typedef struct oct_written {
    char sha256[OCT_SHA256_HEX];         // of the output file; or ""
    char source_sha256[OCT_SHA256_HEX];  // oct_source_sha256(); or ""
    char denoiser_xxh3[OCT_XXH128_HEX];  // of the source
    uint64_t file_bytes, source_bytes;   // written; read
} oct_written;

// Metadata of the file: quantize/metadata.h. Nothing is left behind on failure. OCT_EUSAGE when `out` is an input.
oct_status oct_write_checkpoint(oct_written *written, const oct_write_params *params, oct_err *err);
