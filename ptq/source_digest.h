// SPDX-License-Identifier: Apache-2.0
//
// The SHA-256 of a source as files, for provenance: what a published checkpoint's page shows.
#pragma once

#include "common/digest.h"
#include "common/status.h"
#include "ptq/source.h"

// A single file: the SHA-256 of its bytes. A diffusers folder: the SHA-256 of the lines
// "<sha256>  <file name>\n" of the denoiser's shards in name order, so that it can be made again
// with `cd transformer && sha256sum *.safetensors | sha256sum`. Shares the page cache with other
// readers of the source and may run beside them.
oct_status oct_source_sha256(const oct_source *source, char hex[OCT_SHA256_HEX], oct_err *err);
