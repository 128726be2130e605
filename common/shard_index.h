// SPDX-License-Identifier: Apache-2.0
//
// Index files: which shard of a split safetensors model holds which tensor.
//
//   {"metadata": {"total_size": 1234},
//    "weight_map": {"a.weight": "model-00001-of-00002.safetensors"}}
//
// An index comes from a stranger and names files to open, so it may name only regular files that
// end in ".safetensors" and lie beside it: no '/' or '\', no "..", no symbolic link but those of
// the Hugging Face cache ("../../blobs/<SHA-256>"). Nothing may differ between the index and its
// shards.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/safetensors.h"
#include "common/status.h"

#define OCT_SHARDS_MAX 256

typedef struct oct_shard_entry {
    const char *tensor;
    size_t shard;              // index into shards
} oct_shard_entry;

typedef struct oct_shard_index {
    const char *path;          // as given
    const char *folder;        // where the shards lie
    const char **shards;       // file names, sorted
    size_t n_shards;           // 1..OCT_SHARDS_MAX
    oct_shard_entry *entries;  // sorted by tensor
    size_t n_entries;
    bool has_total;
    uint64_t total_bytes;      // metadata.total_size
} oct_shard_index;

// Everything lives in the arena. Sentences begin with the path. Keys beside "metadata" and
// "weight_map" are skipped, so are those beside "total_size".
oct_status oct_shard_index_load(oct_shard_index *index, oct_arena *arena, const char *path,
                                oct_err *err);

// The same for text in memory; `path` and `folder` stay NULL and sentences name no file.
oct_status oct_shard_index_parse(oct_shard_index *index, oct_arena *arena, const char *text,
                                 size_t bytes, oct_err *err);

// The file names of a split model: of "a/x.safetensors", shard 0 of 2 is
// "a/x-00001-of-00002.safetensors". In the arena. The only one of one is the path as it is.
const char *oct_shard_path(oct_arena *arena, const char *path, size_t shard, size_t n_shards);

// The other way round; NULL when `path` is not named as a shard.
const char *oct_shard_whole_path(oct_arena *arena, const char *path);

// Open a shard of a loaded index.
oct_status oct_shard_open(const oct_shard_index *index, size_t shard, oct_safetensors *st,
                          oct_err *err);

// Compare with the open shards, `files[n_shards]`: each tensor is in its shard and nowhere else, no
// shard has more, the sizes add up to total_size. OCT_EFORMAT otherwise.
oct_status oct_shard_index_check(const oct_shard_index *index, const oct_safetensors *files,
                                 oct_err *err);
