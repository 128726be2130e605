// SPDX-License-Identifier: Apache-2.0
//
// Writing a quantized checkpoint: one tensor after the other is read once, encoded or copied, and
// written to its place; the file appears under its name only when it is complete.
#pragma once

#include <stdint.h>

#include "common/digest.h"
#include "common/status.h"
#include "ptq/dialect.h"
#include "ptq/plan.h"
#include "ptq/source.h"

typedef struct oct_write_params {
    const oct_source *source;
    const oct_plan *plan;
    oct_dialect dialect;
    const char *out;  // FILE; FILE.sha256 is written last
} oct_write_params;

typedef struct oct_written {
    char sha256[OCT_SHA256_HEX];         // of the output file
    char source_sha256[OCT_SHA256_HEX];  // oct_source_sha256()
    char denoiser_xxh3[OCT_XXH128_HEX];  // of the source
    uint64_t file_bytes, source_bytes;   // written; read
} oct_written;

// Metadata of the file: "octavo.*" keys (version, dialect, policy and digests, qmax), the source
// file's own entries except digests that no longer hold, and ComfyUI's header form of the markers
// where that is safe. Nothing is left behind on failure. OCT_EUSAGE when `out` is an input.
oct_status oct_write_checkpoint(oct_written *written, const oct_write_params *params, oct_err *err);
