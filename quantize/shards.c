// SPDX-License-Identifier: Apache-2.0
//
// Splitting an output over several files.
#include "quantize/shards.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/safetensors.h"
#include "common/shard_index.h"

#define OPEN SIZE_MAX  // in the shard that has no number yet

static void close_shard(size_t *shard_of, size_t n, size_t shard)
{
    for (size_t i = 0; i < n; i++) {
        if (shard_of[i] == OPEN) shard_of[i] = shard;
    }
}

size_t oct_shards_split(const uint64_t *bytes, size_t n, uint64_t bytes_max, size_t *shard_of)
{
    size_t shards = 0;
    uint64_t used = 0;
    bool is_open = false;

    for (size_t i = 0; i < n; i++) {
        if (bytes[i] > bytes_max) {
            shard_of[i] = shards++;
            continue;
        }
        if (bytes[i] > bytes_max - used) {
            close_shard(shard_of, i, shards++);
            used = 0;
        }
        shard_of[i] = OPEN;
        used += bytes[i];
        is_open = true;
    }
    if (is_open || !shards) close_shard(shard_of, n, shards++);
    return shards;
}

static uint64_t bytes_of(const oct_out_tensor *out)
{
    uint64_t elements = 1;

    for (int i = 0; i < out->rank; i++) elements *= out->shape[i];
    return elements * oct_dtype_bits(out->dtype) / 8;
}

oct_status oct_shards_init(oct_shards *shards, oct_arena *arena, const oct_outputs *outputs,
                           const char *path, uint64_t bytes_max, oct_err *err)
{
    uint64_t *bytes = oct_arena_array(arena, outputs->n_tensors, sizeof *bytes);

    shards->index = oct_arena_print(arena, "%s.index.json", path);
    shards->shard_of = oct_arena_array(arena, outputs->n_tensors, sizeof *shards->shard_of);
    shards->n = 1;
    for (size_t i = 0; i < outputs->n_tensors; i++) bytes[i] = bytes_of(&outputs->tensors[i]);
    if (bytes_max) {
        shards->n = oct_shards_split(bytes, outputs->n_tensors, bytes_max, shards->shard_of);
    }
    if (shards->n > OCT_SHARDS_MAX) {
        return oct_fail(err, OCT_EUSAGE,
                        "%zu shards of %" PRIu64 " bytes are over the limit of %d: choose a larger "
                        "--shard-size",
                        shards->n, bytes_max, OCT_SHARDS_MAX);
    }
    shards->paths = oct_arena_array(arena, shards->n, sizeof *shards->paths);
    for (size_t i = 0; i < shards->n; i++) {
        shards->paths[i] = oct_shard_path(arena, path, i, shards->n);
    }
    return OCT_OK;
}

oct_status oct_shards_write_index(const oct_shards *shards, const oct_outputs *outputs,
                                  oct_err *err)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *metadata = cJSON_AddObjectToObject(root, "metadata");
    cJSON *map = cJSON_AddObjectToObject(root, "weight_map");
    uint64_t total_bytes = 0;

    for (size_t i = 0; i < outputs->n_tensors; i++) {
        const char *path = shards->paths[shards->shard_of[i]];
        cJSON_AddStringToObject(map, outputs->tensors[i].name, oct_path_name(path));
        total_bytes += bytes_of(&outputs->tensors[i]);
    }
    oct_json_add_count(metadata, "total_size", total_bytes);
    char *text = oct_json_print(root);
    const oct_status st = oct_file_write(shards->index, text, strlen(text), err);
    free(text);
    cJSON_Delete(root);
    return st;
}
