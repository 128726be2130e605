// SPDX-License-Identifier: Apache-2.0
//
// Index files of split models.
#include "common/shard_index.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "common/json_scan.h"
#include "common/log.h"
#include "common/manifest.h"

#define ENDING ".safetensors"
#define SHOWN_MAX 256
#define FILE_NAME_MAX 255

typedef struct raw_entry {  // as spelled, before the shards have numbers
    const char *tensor, *shard;
} raw_entry;

typedef struct index_scan {
    oct_json_scan json;
    oct_arena *arena;
    raw_entry *entries;
    size_t n_entries, capacity;
    bool has_map, has_metadata;
    oct_shard_index *index;
} index_scan;

// --- text ---

static bool ends_with(const char *text, const char *ending)
{
    const size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && strcmp(text + length - tail, ending) == 0;
}

// The name is one plain file name; everything else could lead out of the folder.
static oct_status check_shard_name(const char *name, size_t bytes, oct_err *err)
{
    static const char ending[] = ENDING;
    const char *rule = NULL;
    char shown[SHOWN_MAX];

    if (bytes == 0) rule = "is empty";
    if (bytes > FILE_NAME_MAX) rule = "is too long";
    for (size_t i = 0; i < bytes && !rule; i++)
        if (name[i] == '/' || name[i] == '\\' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            rule = "is a path, not one plain file name";
    if (!rule && (!ends_with(name, ending) || bytes < sizeof ending))
        rule = "does not end in '.safetensors'";
    if (!rule) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "shard name '%s' %s",
                    oct_printable(name, shown, sizeof shown), rule);
}

static oct_status scan_map_entry(index_scan *scan, oct_err *err)
{
    char shown[SHOWN_MAX];

    const char *tensor = scan->json.value;
    if (strlen(tensor) != scan->json.value_bytes)
        return oct_fail(err, OCT_EFORMAT, "a tensor name has U+0000 in it");
    if (scan->n_entries == OCT_ST_TENSORS_MAX)
        return oct_fail(err, OCT_EFORMAT, "the number of tensors is over the limit of %u",
                        OCT_ST_TENSORS_MAX);
    oct_status st = oct_json_scan_expect(&scan->json, OCT_JSON_STRING, err);
    if (!st) st = check_shard_name(scan->json.value, scan->json.value_bytes, err);
    if (st) return oct_wrap(err, st, "tensor '%s'", oct_printable(tensor, shown, sizeof shown));
    scan->entries = oct_arena_grow(scan->arena, scan->entries, scan->n_entries, &scan->capacity,
                                   sizeof *scan->entries);
    scan->entries[scan->n_entries++] = (raw_entry){tensor, scan->json.value};
    return OCT_OK;
}

static oct_status scan_map(index_scan *scan, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;

    if (scan->has_map) return oct_fail(err, OCT_EFORMAT, "duplicate key 'weight_map'");
    scan->has_map = true;
    oct_status st = oct_json_scan_expect(&scan->json, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(&scan->json, &token, err);
        if (st || token == OCT_JSON_OBJECT_END) break;
        st = scan_map_entry(scan, err);
    }
    return st ? oct_wrap(err, st, "weight_map") : OCT_OK;
}

static oct_status scan_total(index_scan *scan, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;

    if (scan->index->has_total) return oct_fail(err, OCT_EFORMAT, "duplicate key 'total_size'");
    scan->index->has_total = true;
    const oct_status st = oct_json_scan_next(&scan->json, &token, err);
    if (st) return st;
    if (token != OCT_JSON_NUMBER || !oct_json_scan_u64(&scan->json, &scan->index->total_bytes))
        return oct_fail(err, OCT_EFORMAT, "total_size is not a whole number");
    return OCT_OK;
}

static oct_status skip_value(index_scan *scan, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;

    const oct_status st = oct_json_scan_next(&scan->json, &token, err);
    return st ? st : oct_json_scan_skip(&scan->json, token, err);
}

static oct_status scan_metadata(index_scan *scan, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;

    if (scan->has_metadata) return oct_fail(err, OCT_EFORMAT, "duplicate key 'metadata'");
    scan->has_metadata = true;
    oct_status st = oct_json_scan_expect(&scan->json, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(&scan->json, &token, err);
        if (st || token == OCT_JSON_OBJECT_END) break;
        const bool is_total = strcmp(scan->json.value, "total_size") == 0;
        st = is_total ? scan_total(scan, err) : skip_value(scan, err);
    }
    return st ? oct_wrap(err, st, "metadata") : OCT_OK;
}

static oct_status scan_index(index_scan *scan, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;

    oct_status st = oct_json_scan_expect(&scan->json, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(&scan->json, &token, err);
        if (st || token == OCT_JSON_OBJECT_END) break;
        const char *key = scan->json.value;
        st = strcmp(key, "weight_map") == 0 ? scan_map(scan, err)
             : strcmp(key, "metadata") == 0 ? scan_metadata(scan, err)
                                            : skip_value(scan, err);
    }
    if (!st) st = oct_json_scan_expect(&scan->json, OCT_JSON_END, err);
    if (!st && scan->n_entries == 0)
        st = oct_fail(err, OCT_EFORMAT, "weight_map is missing or empty");
    return st;
}

// --- tables ---

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const oct_shard_entry *)a)->tensor, ((const oct_shard_entry *)b)->tensor);
}

static oct_status number_shards(index_scan *scan, oct_err *err)
{
    oct_shard_index *index = scan->index;

    const char **names = oct_arena_array(scan->arena, scan->n_entries, sizeof *names);
    for (size_t i = 0; i < scan->n_entries; i++) names[i] = scan->entries[i].shard;
    qsort(names, scan->n_entries, sizeof *names, compare_texts);
    index->shards = names;
    index->n_shards = 0;
    for (size_t i = 0; i < scan->n_entries; i++)
        if (i == 0 || strcmp(names[i], names[index->n_shards - 1]) != 0)
            names[index->n_shards++] = names[i];
    if (index->n_shards > OCT_SHARDS_MAX)
        return oct_fail(err, OCT_EFORMAT, "%zu shards are over the limit of %d", index->n_shards,
                        OCT_SHARDS_MAX);
    return OCT_OK;
}

static oct_status fill_entries(index_scan *scan, oct_err *err)
{
    oct_shard_index *index = scan->index;
    char shown[SHOWN_MAX];

    index->n_entries = scan->n_entries;
    index->entries = oct_arena_array(scan->arena, scan->n_entries, sizeof *index->entries);
    for (size_t i = 0; i < scan->n_entries; i++) {
        const char **shard = bsearch(&scan->entries[i].shard, index->shards, index->n_shards,
                                     sizeof *index->shards, compare_texts);
        index->entries[i] =
            (oct_shard_entry){scan->entries[i].tensor, (size_t)(shard - index->shards)};
    }
    qsort(index->entries, index->n_entries, sizeof *index->entries, compare_tensors);
    for (size_t i = 1; i < index->n_entries; i++)
        if (compare_tensors(&index->entries[i - 1], &index->entries[i]) == 0)
            return oct_fail(err, OCT_EFORMAT, "duplicate tensor '%s' in weight_map",
                            oct_printable(index->entries[i].tensor, shown, sizeof shown));
    return OCT_OK;
}

oct_status oct_shard_index_parse(oct_shard_index *index, oct_arena *arena, const char *text,
                                 size_t bytes, oct_err *err)
{
    index_scan scan = {.arena = arena, .index = index};

    *index = (oct_shard_index){0};
    oct_json_scan_init(&scan.json, text, bytes, OCT_JSON_DEPTH_MAX, arena);
    oct_status st = scan_index(&scan, err);
    if (!st) st = number_shards(&scan, err);
    if (!st) st = fill_entries(&scan, err);
    return st;
}

oct_status oct_shard_index_load(oct_shard_index *index, oct_arena *arena, const char *path,
                                oct_err *err)
{
    char *text = NULL;
    size_t bytes = 0;

    oct_status st = oct_file_read_text(arena, path, OCT_JSON_BYTES_MAX, &text, &bytes, err);
    if (st) return st;
    st = oct_shard_index_parse(index, arena, text, bytes, err);
    if (st) return oct_wrap(err, st, "'%s'", path);
    const size_t folder_bytes = (size_t)(oct_path_name(path) - path);
    index->path = oct_arena_copy(arena, path);
    index->folder = folder_bytes ? oct_arena_copy_n(arena, path, folder_bytes) : ".";
    return OCT_OK;
}

// --- shards ---

const char *oct_shard_path(oct_arena *arena, const char *path, size_t shard, size_t n_shards)
{
    assert(shard < n_shards);
    if (n_shards == 1) return oct_arena_copy(arena, path);
    assert(ends_with(path, ENDING));
    const int stem = (int)(strlen(path) - strlen(ENDING));
    return oct_arena_print(arena, "%.*s-%05zu-of-%05zu" ENDING, stem, path, shard + 1, n_shards);
}

const char *oct_shard_whole_path(oct_arena *arena, const char *path)
{
    static const char form[] = "-#####-of-#####" ENDING;
    const size_t length = strlen(path), tail = sizeof form - 1;

    if (length <= tail) return NULL;
    for (size_t i = 0; i < tail; i++) {
        const char c = path[length - tail + i];
        if (form[i] == '#' ? c < '0' || c > '9' : c != form[i]) return NULL;
    }
    return oct_arena_print(arena, "%.*s" ENDING, (int)(length - tail), path);
}

// The Hugging Face cache holds each file once, named by its SHA-256, in the folder "blobs" of its
// repository, and links to it from every revision: "../../../blobs/<64 digits>".
static bool is_link_to_blob(const char *path)
{
    static const char up[] = "../", blobs[] = "blobs/";
    char target[PATH_MAX];
    const ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) return false;
    target[n] = '\0';

    const char *rest = target;
    while (!strncmp(rest, up, strlen(up))) rest += strlen(up);
    return rest > target && !strncmp(rest, blobs, strlen(blobs)) &&
           oct_is_sha256_hex(rest + strlen(blobs));
}

// Which file an open shard must turn out to be. What is not there or no file, opening it says.
static oct_status identify_shard(const char *path, struct stat *named, oct_err *err)
{
    if (lstat(path, named) != 0 || !S_ISLNK(named->st_mode)) return OCT_OK;
    if (!is_link_to_blob(path))
        return oct_fail(err, OCT_EFORMAT,
                        "shard '%s' is a symbolic link, and not one of a Hugging Face cache; copy "
                        "the files into one folder first",
                        path);
    stat(path, named);
    return OCT_OK;
}

oct_status oct_shard_open(const oct_shard_index *index, size_t shard, oct_safetensors *st,
                          oct_err *err)
{
    oct_arena arena = {0};
    struct stat named = {0};

    const char *path = oct_path_join(&arena, index->folder, index->shards[shard]);
    oct_status status = identify_shard(path, &named, err);
    if (!status) status = oct_safetensors_open(st, path, err);
    // A link put there between the two calls leads to another file.
    if (!status && (st->file.stat.st_dev != named.st_dev || st->file.stat.st_ino != named.st_ino)) {
        oct_safetensors_close(st);
        status = oct_fail(err, OCT_EIO, "shard '%s' changed while it was opened", path);
    }
    oct_arena_deinit(&arena);
    return status ? oct_wrap(err, status, "'%s'", index->path) : OCT_OK;
}

static const oct_shard_entry *find_entry(const oct_shard_index *index, const char *tensor)
{
    const oct_shard_entry key = {.tensor = tensor};
    return bsearch(&key, index->entries, index->n_entries, sizeof key, compare_tensors);
}

static oct_status check_shard(const oct_shard_index *index, size_t shard,
                              const oct_safetensors *file, oct_err *err)
{
    char shown[SHOWN_MAX];

    for (size_t i = 0; i < file->n_tensors; i++) {
        const char *name = file->tensors[i].name;
        const oct_shard_entry *entry = find_entry(index, name);
        if (!entry)
            return oct_fail(err, OCT_EFORMAT, "shard '%s' has an extra tensor '%s'",
                            index->shards[shard], oct_printable(name, shown, sizeof shown));
        if (entry->shard != shard)
            return oct_fail(err, OCT_EFORMAT, "tensor '%s' is in shard '%s', the index says '%s'",
                            oct_printable(name, shown, sizeof shown), index->shards[shard],
                            index->shards[entry->shard]);
    }
    return OCT_OK;
}

static oct_status check_entries(const oct_shard_index *index, const oct_safetensors *files,
                                oct_err *err)
{
    char shown[SHOWN_MAX];

    for (size_t i = 0; i < index->n_entries; i++) {
        const oct_shard_entry *entry = &index->entries[i];
        if (!oct_safetensors_find(&files[entry->shard], entry->tensor))
            return oct_fail(err, OCT_EFORMAT, "tensor '%s' is missing in shard '%s'",
                            oct_printable(entry->tensor, shown, sizeof shown),
                            index->shards[entry->shard]);
    }
    return OCT_OK;
}

static oct_status check_total(const oct_shard_index *index, const oct_safetensors *files,
                              oct_err *err)
{
    uint64_t bytes = 0;

    if (!index->has_total) return OCT_OK;
    for (size_t i = 0; i < index->n_shards; i++)
        for (size_t k = 0; k < files[i].n_tensors; k++) bytes += files[i].tensors[k].bytes;
    if (bytes == index->total_bytes) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT,
                    "total_size is %" PRIu64 ", the shards hold %" PRIu64 " bytes",
                    index->total_bytes, bytes);
}

oct_status oct_shard_index_check(const oct_shard_index *index, const oct_safetensors *files,
                                 oct_err *err)
{
    oct_status st = check_entries(index, files, err);
    for (size_t i = 0; i < index->n_shards && !st; i++) st = check_shard(index, i, &files[i], err);
    if (!st) st = check_total(index, files, err);
    return st ? oct_wrap(err, st, "'%s'", index->path) : OCT_OK;
}
