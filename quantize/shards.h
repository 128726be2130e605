// SPDX-License-Identifier: Apache-2.0
//
// Splitting an output over several files, as huggingface_hub does.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/status.h"
#include "ptq/dialect.h"

typedef struct oct_shards {
    const char **paths;  // [n]; of one: the path as given
    size_t n;            // 1..OCT_SHARDS_MAX
    size_t *shard_of;    // [outputs->n_tensors]
    const char *index;   // path of the index, whether it is written or not
} oct_shards;

// Give each of `n` tensors of bytes[i] its shard; returns their number. A shard is closed when the
// next tensor would not fit. One that is larger than bytes_max stands alone, and does not close the
// shard before it.
size_t oct_shards_split(const uint64_t *bytes, size_t n, uint64_t bytes_max, size_t *shard_of);

// Split the tensors in the order of their names; bytes_max 0: one file. All is in the arena.
// OCT_EUSAGE when there would be more than OCT_SHARDS_MAX shards.
oct_status oct_shards_init(oct_shards *shards, oct_arena *arena, const oct_outputs *outputs,
                           const char *path, uint64_t bytes_max, oct_err *err);

// Write the index of shards that are there.
oct_status oct_shards_write_index(const oct_shards *shards, const oct_outputs *outputs,
                                  oct_err *err);
