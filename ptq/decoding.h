// SPDX-License-Identifier: Apache-2.0
//
// FP8 weights seen in a wider type, whatever dialect they are stored in.
#pragma once

#include "common/status.h"
#include "ptq/source.h"

#define OCT_EVERY_COMPONENT (~0u)

// Let every FP8 tensor of the components (bits 1 << oct_component) read as `to` (F16, BF16 or F32)
// from now on, and take its scales and markers off the list: what is left is a plain checkpoint, of
// which nothing has been read but the scales. Every component by its own dialect; weights without
// any are taken as they are, with scale 1. Must be called before anything keeps pointers to the source's tensors. *n_decoded: how
// many. OCT_EFORMAT as oct_dialect_read() says. On failure `source` may only be closed.
oct_status oct_source_decode(oct_source *source, unsigned components, oct_dtype to,
                             size_t *n_decoded, oct_err *err);

// For oct_source_read_range() alone: the range of a tensor that has a decoding.
oct_status oct_decoding_read(const oct_source_tensor *tensor, uint64_t from, uint64_t bytes,
                             void *buffer, oct_err *err);
