// SPDX-License-Identifier: Apache-2.0
//
// Writing a quantized checkpoint with its digests. The tensors go through quantize/stream.h; the file
// appears under its name only when it is complete. Shards do so one after the other, and their index
// comes last: without it, there is no model for a reader.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/shard_index.h"
#include "common/status.h"
#include "ptq/dialect.h"
#include "ptq/plan.h"
#include "ptq/source.h"

typedef enum oct_writing {
    OCT_WRITE_QUANTIZED,  // the source by a plan
    OCT_WRITE_DECODED,    // the source as it is, after oct_source_decode()
    OCT_WRITE_RESPELLED,  // the source's codes in another dialect
} oct_writing;

// Whether it is a transformer folder.
static inline bool oct_writing_is_folder(oct_writing writing, oct_dialect dialect)
{
    return writing != OCT_WRITE_DECODED && dialect == OCT_DIALECT_DIFFUSERS;
}

typedef struct oct_write_params {
    const oct_source *source;
    oct_writing writing;
    const oct_plan *plan;    // QUANTIZED only
    oct_dialect dialect;     // not DECODED
    const char *out;         // FILE; FILE.xxh3 and FILE.sha256 follow when it is there
    uint64_t shard_bytes;    // diffusers only: split FILE, see quantize/shards.h; 0: one file
    bool no_source_digest;   // leave the source's SHA-256 out
    bool no_sha256;          // that, and write no FILE.sha256 (an old one is removed)
} oct_write_params;

typedef struct oct_written {
    size_t n_files;                      // 1, or the shards: oct_shard_path() of FILE
    char sha256[OCT_SHARDS_MAX][OCT_SHA256_HEX];  // [n_files]; or ""
    char source_sha256[OCT_SHA256_HEX];  // oct_source_sha256(); or ""
    char denoiser_xxh3[OCT_XXH128_HEX];  // of the source
    uint64_t file_bytes, source_bytes;   // written; read
} oct_written;

// Metadata of each file: quantize/metadata.h. Shards have a FILE.xxh3 each; FILE.sha256 lists them
// all, FILE.index.json is their index. Nothing is left behind on failure. OCT_EUSAGE when `out` is
// an input, or the folder has weights in the other form, which some reader would take instead.
oct_status oct_write_checkpoint(oct_written *written, const oct_write_params *params, oct_err *err);
