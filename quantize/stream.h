// SPDX-License-Identifier: Apache-2.0
//
// Tensors from a source to an output: each read once, held once, written once.
//
// Every thread takes tasks of about a mebibyte, one after the other: read a chunk of a tensor, with
// its digest and its part of the range; settle the scales of a tensor that has been read; encode a
// chunk of one that is settled, with its digest; write a chunk. Writing goes before encoding and
// encoding before reading, so that what is held is soon let go. Where writes to a file exclude each
// other, in the page cache, one thread at a time writes. Tensors to encode are held until they are
// encoded, together in at most OCT_STREAM_HELD_BYTES, or one larger one alone; what is encoded, and
// tensors to copy, wait for their turn to be written in a few chunks. So reading, encoding, digests
// and writing overlap, memory does not grow with the model, and no byte depends on the number of
// threads.
#pragma once

#include <stdbool.h>

#include "common/digest.h"
#include "common/progress.h"
#include "common/safetensors.h"
#include "common/status.h"
#include "ptq/dialect.h"
#include "ptq/plan.h"
#include "ptq/source.h"

#define OCT_STREAM_HELD_BYTES ((uint64_t)144 << 20)
#define OCT_STREAM_THREADS_MAX 32    // more do not help, and each has a chunk
#define OCT_STREAM_THREADS_DIRECT 4  // at least, when they wait for a disk

typedef struct oct_stream_params {
    const oct_source *source;
    const oct_plan *plan;
    const oct_outputs *outputs;
    oct_st_writer *writers;  // begun: one per shard, or the one
    size_t n_writers;
    const size_t *writer_of;  // [outputs->n_tensors]: which writer has the tensor
    bool is_direct;           // input and output go past the page cache: no digest reads them too
    oct_progress *progress;   // begun here, ended by the caller; counts bytes read. Or NULL
} oct_stream_params;

// Write every tensor of `outputs`. source_digests: [source->n_tensors], of those that were read;
// output_digests: [outputs->n_tensors], in the outputs' order. Of several failures the one is told
// whose tensor comes first in the source's files, on any number of threads.
oct_status oct_stream_run(const oct_stream_params *params, oct_xxh128 *source_digests,
                          oct_xxh128 *output_digests, oct_err *err);
