// SPDX-License-Identifier: Apache-2.0
//
// The header's metadata of what quantize writes.
#pragma once

#include "common/safetensors.h"
#include "quantize/write.h"

#define OCT_NO_SHA256 "----------------------------------------------------------------"

// Whether "octavo.source_sha256" is written: as OCT_NO_SHA256, for it is known only at the end.
bool oct_metadata_has_source(const oct_write_params *params);

// Quantized: "octavo.*" keys (version, dialect, policy and digests, qmax). Decoded: version and
// source. Respelled: those of the source with another dialect. Besides, the source file's own
// entries except digests that no longer hold, and ComfyUI's header form of the markers.
void oct_metadata_add(oct_st_writer *writer, const oct_write_params *params,
                      const oct_outputs *outputs);
