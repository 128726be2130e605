// SPDX-License-Identifier: Apache-2.0
//
// A checkpoint under canonical names.
#include "ptq/source.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/progress.h"
#include "ptq/decoding.h"
#include "ptq/naming.h"

typedef struct name_entry {  // one stored tensor and where it goes
    const char *name;        // canonical
    oct_slot slot;
    bool is_flat;
    const oct_ckpt_tensor *stored;
} name_entry;

static int compare_entries(const void *left, const void *right)
{
    const name_entry *a = left, *b = right;

    if (a->stored->component != b->stored->component) {
        return a->stored->component < b->stored->component ? -1 : 1;
    }
    const int order = strcmp(a->name, b->name);
    if (order) return order;
    if (a->slot != b->slot) return a->slot < b->slot ? -1 : 1;
    return a->stored < b->stored ? -1 : a->stored > b->stored;  // qsort is not stable
}

// Several files may hold tensors of no component under the same name.
static bool is_same_tensor(const name_entry *a, const name_entry *b)
{
    return a->stored->component == b->stored->component && a->stored->component != OCT_OTHER &&
           strcmp(a->name, b->name) == 0;
}

// How many indices there are after `prefix`: the largest and one.
static unsigned count_indices(const oct_checkpoint *ckpt, oct_component component,
                              const char *prefix)
{
    unsigned count = 0, index = 0;

    for (size_t i = 0; i < ckpt->n_tensors; i++) {
        const oct_ckpt_tensor *tensor = &ckpt->tensors[i];
        if (tensor->component == component && oct_name_index(tensor->name, prefix, &index) &&
            index >= count) {
            count = index + 1;
        }
    }
    return count;
}

static name_entry *name_all(oct_source *source)
{
    const oct_checkpoint *ckpt = &source->checkpoint;
    name_entry *entries = oct_arena_array(&source->arena, ckpt->n_tensors, sizeof *entries);

    source->architecture = oct_architecture_find(ckpt, &source->is_diffusers_named);
    const unsigned blocks = count_indices(ckpt, OCT_DENOISER, "transformer_blocks.");
    const unsigned levels = count_indices(ckpt, OCT_VAE, "decoder.up_blocks.");
    for (size_t i = 0; i < ckpt->n_tensors; i++) {
        const oct_ckpt_tensor *stored = &ckpt->tensors[i];
        name_entry *entry = &entries[i];
        *entry = (name_entry){.name = stored->name, .stored = stored};
        if (stored->component == OCT_DENOISER && source->is_diffusers_named) {
            entry->name = oct_name_of_denoiser(&source->arena, source->architecture, stored->name,
                                               blocks, &entry->slot);
        } else if (stored->component == OCT_VAE) {
            entry->name = oct_name_of_vae(&source->arena, stored->name, levels, &entry->is_flat);
        }
    }
    qsort(entries, ckpt->n_tensors, sizeof *entries, compare_entries);
    return entries;
}

static uint64_t row_count(const oct_st_tensor *tensor)
{
    return tensor->rank > 0 ? tensor->shape[0] : 1;
}

static void set_whole(oct_source_tensor *tensor, const name_entry *entry)
{
    const oct_st_tensor *stored = entry->stored->tensor;

    tensor->name = entry->name;
    tensor->file_name = entry->slot == OCT_SLOT_WHOLE ? stored->name : NULL;
    tensor->component = entry->stored->component;
    tensor->dtype = stored->dtype;
    tensor->rank = stored->rank;
    memcpy(tensor->shape, stored->shape, sizeof tensor->shape);
    tensor->bytes = stored->bytes;
    tensor->parts[0] = (oct_part){entry->stored, 0, row_count(stored)};
    tensor->n_parts = 1;
    if (entry->is_flat && tensor->rank == 2) {
        tensor->shape[2] = tensor->shape[3] = 1;
        tensor->rank = 4;
    }
}

static oct_status swap_halves(oct_source_tensor *tensor, oct_err *err)
{
    const oct_ckpt_tensor *stored = tensor->parts[0].stored;
    const uint64_t rows = tensor->parts[0].rows;

    if (tensor->rank == 0 || rows % 2 != 0 || (rows > 0 && tensor->bytes % rows != 0)) {
        return oct_fail(err, OCT_EFORMAT, "'%s' cannot be cut into two halves of rows",
                        stored->tensor->name);
    }
    tensor->parts[0] = (oct_part){stored, rows / 2, rows / 2};
    tensor->parts[1] = (oct_part){stored, 0, rows / 2};
    tensor->n_parts = 2;
    return OCT_OK;
}

// Parts of one tensor differ in rows at most, and only the feed-forward part does.
static bool can_fuse(const oct_st_tensor *q, const oct_st_tensor *part, oct_slot slot)
{
    const int same_from = slot == OCT_SLOT_MLP ? 1 : 0;

    return part->dtype == q->dtype && part->rank == q->rank && q->rank > 0 &&
           memcmp(part->shape + same_from, q->shape + same_from,
                  (OCT_RANK_MAX - (size_t)same_from) * sizeof *q->shape) == 0;
}

static oct_status fuse(oct_source_tensor *tensor, const name_entry *entries, size_t n, oct_err *err)
{
    const oct_st_tensor *q = entries[0].stored->tensor;

    tensor->shape[0] = tensor->bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const oct_st_tensor *part = entries[i].stored->tensor;
        if (!can_fuse(q, part, entries[i].slot)) {
            return oct_fail(err, OCT_EFORMAT, "'%s' and '%s' differ in type or shape", q->name,
                            part->name);
        }
        tensor->parts[i] = (oct_part){entries[i].stored, 0, row_count(part)};
        tensor->shape[0] += part->shape[0];
        tensor->bytes += part->bytes;
    }
    tensor->file_name = NULL;
    tensor->n_parts = n;
    return OCT_OK;
}

// Map the entries that share one canonical name.
static oct_status map_group(oct_source_tensor *tensor, const name_entry *entries, size_t n,
                            oct_err *err)
{
    set_whole(tensor, entries);
    if (n == 1 && entries->slot == OCT_SLOT_WHOLE) return OCT_OK;
    if (n == 1 && entries->slot == OCT_SLOT_SWAPPED) return swap_halves(tensor, err);
    for (size_t i = 0; i < n; i++) {
        if (entries[i].slot < OCT_SLOT_Q || (i > 0 && entries[i].slot == entries[i - 1].slot)) {
            return oct_fail(err, OCT_EFORMAT, "'%s' and '%s' are the same tensor in two namings",
                            entries[0].stored->tensor->name, entries[n - 1].stored->tensor->name);
        }
    }
    if (n < 3 || entries[2].slot != OCT_SLOT_V) {
        return oct_fail(err, OCT_EFORMAT, "'%s' is there, but not all of q, k and v",
                        entries->stored->tensor->name);
    }
    return fuse(tensor, entries, n, err);
}

static oct_status map_all(oct_source *source, oct_err *err)
{
    const size_t n_entries = source->checkpoint.n_tensors;
    const name_entry *entries = name_all(source);
    oct_status st = OCT_OK;

    source->tensors = oct_arena_array(&source->arena, n_entries, sizeof *source->tensors);
    for (size_t i = 0, n = 0; i < n_entries && !st; i += n) {
        n = 1;
        while (i + n < n_entries && is_same_tensor(&entries[i], &entries[i + n])) {
            n++;
        }
        st = map_group(&source->tensors[source->n_tensors++], &entries[i], n, err);
    }
    return st;
}

static void find_prefix(oct_source *source)
{
    source->denoiser_prefix = "";
    for (size_t i = 0; i < source->checkpoint.n_tensors; i++) {
        if (source->checkpoint.tensors[i].component == OCT_DENOISER) {
            source->denoiser_prefix = source->checkpoint.tensors[i].prefix;
            return;
        }
    }
}

oct_status oct_source_open(oct_source *source, const oct_model_paths *paths, oct_err *err)
{
    *source = (oct_source){0};
    oct_status st = oct_checkpoint_open(&source->checkpoint, paths, err);
    if (st) return st;
    find_prefix(source);
    st = map_all(source, err);
    if (st) {
        oct_wrap(err, st, "'%s'", source->checkpoint.files[0].file.path);
        oct_source_close(source);
    }
    return st;
}

void oct_source_close(oct_source *source)
{
    oct_checkpoint_close(&source->checkpoint);
    oct_arena_deinit(&source->arena);
    *source = (oct_source){0};
}

const oct_source_tensor *oct_source_find(const oct_source *source, oct_component component,
                                         const char *name)
{
    size_t low = 0, high = source->n_tensors;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const oct_source_tensor *tensor = &source->tensors[middle];
        const int order = tensor->component != component ? (tensor->component < component ? -1 : 1)
                                                         : strcmp(tensor->name, name);
        if (order == 0) return tensor;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static uint64_t bytes_per_row(const oct_source_tensor *tensor)
{
    uint64_t rows = 0;

    for (size_t i = 0; i < tensor->n_parts; i++) {
        rows += tensor->parts[i].rows;
    }
    return rows ? tensor->bytes / rows : 0;
}

oct_status oct_source_read_range(const oct_source_tensor *tensor, uint64_t from, uint64_t bytes,
                                 void *buffer, oct_err *err)
{
    const uint64_t row_bytes = bytes_per_row(tensor);
    uint8_t *out = buffer;
    oct_status st = OCT_OK;

    assert(from <= tensor->bytes && bytes <= tensor->bytes - from);
    if (tensor->decoding) return oct_decoding_read(tensor, from, bytes, buffer, err);
    for (size_t i = 0; i < tensor->n_parts && bytes > 0 && !st; i++) {
        const oct_part *part = &tensor->parts[i];
        const uint64_t part_bytes = tensor->n_parts == 1 ? tensor->bytes : part->rows * row_bytes;
        if (from >= part_bytes) {
            from -= part_bytes;
            continue;
        }
        const uint64_t n = bytes < part_bytes - from ? bytes : part_bytes - from;
        const uint64_t start = part->first_row * row_bytes;
        st = oct_safetensors_read(part->stored->file, part->stored->tensor, start + from, n, out,
                                  err);
        out += n;
        bytes -= n;
        from = 0;
    }
    return st;
}

oct_status oct_source_read(const oct_source_tensor *tensor, void *buffer, oct_err *err)
{
    return oct_source_read_range(tensor, 0, tensor->bytes, buffer, err);
}

// ---- The denoiser's identity. Numbers go in little-endian, texts with their NUL.

static void add_u64(XXH3_state_t *state, uint64_t value)
{
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    XXH3_128bits_update(state, bytes, sizeof bytes);
}

static void add_tensor(XXH3_state_t *state, const oct_source_tensor *tensor, oct_xxh128 digest)
{
    const char *dtype = oct_dtype_name(tensor->dtype);

    XXH3_128bits_update(state, tensor->name, strlen(tensor->name) + 1);
    XXH3_128bits_update(state, dtype, strlen(dtype) + 1);
    add_u64(state, (uint64_t)tensor->rank);
    for (int d = 0; d < tensor->rank; d++) {
        add_u64(state, tensor->shape[d]);
    }
    add_u64(state, digest.low);
    add_u64(state, digest.high);
}

static XXH3_state_t *new_state(void)
{
    XXH3_state_t *state = XXH3_createState();

    if (!state) abort();
    XXH3_128bits_reset(state);
    return state;
}

static oct_xxh128 end_state(XXH3_state_t *state)
{
    const XXH128_hash_t hash = XXH3_128bits_digest(state);

    XXH3_freeState(state);
    return (oct_xxh128){.low = hash.low64, .high = hash.high64};
}

void oct_source_denoiser_digest(const oct_source *source, const oct_xxh128 *digests,
                                char hex[OCT_XXH128_HEX])
{
    XXH3_state_t *state = new_state();

    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component == OCT_DENOISER) {
            add_tensor(state, &source->tensors[i], digests[i]);
        }
    }
    oct_xxh128_hex(end_state(state), hex);
}

static oct_status digest_tensor(const oct_source_tensor *tensor, uint8_t *chunk,
                                oct_progress *progress, oct_xxh128 *digest, oct_err *err)
{
    const uint64_t n_chunks = oct_digest_chunk_count(tensor->bytes);
    oct_arena arena = {0};
    oct_xxh128 *chunks = oct_arena_array(&arena, n_chunks, sizeof *chunks);
    oct_status st = OCT_OK;

    for (uint64_t i = 0; i < n_chunks && !st; i++) {
        const uint64_t at = i * OCT_DIGEST_CHUNK, rest = tensor->bytes - at;
        const uint64_t n = rest < OCT_DIGEST_CHUNK ? rest : OCT_DIGEST_CHUNK;
        st = oct_source_read_range(tensor, at, n, chunk, err);
        if (!st) chunks[i] = oct_xxh128_of(chunk, n);
        oct_progress_add(progress, n);
    }
    if (!st) *digest = oct_digest_of_chunks(chunks, n_chunks);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status digest_all(const oct_source *source, oct_progress *progress, oct_xxh128 *digests,
                             oct_err *err)
{
    oct_status first = OCT_OK;

#pragma omp parallel shared(first)
    {
        oct_err mine = {0};
        uint8_t *chunk = malloc(OCT_DIGEST_CHUNK);
        oct_status st = chunk ? OCT_OK
                              : oct_fail(&mine, OCT_ENOMEM, "out of memory for %" PRIu64 " bytes",
                                         OCT_DIGEST_CHUNK);
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < source->n_tensors; i++) {
            if (source->tensors[i].component != OCT_DENOISER || st) continue;
            st = digest_tensor(&source->tensors[i], chunk, progress, &digests[i], &mine);
        }
        free(chunk);
#pragma omp critical
        if (st && !first) {
            first = st;
            if (err) *err = mine;
        }
    }
    return first;
}

oct_status oct_source_read_denoiser_digest(const oct_source *source, char hex[OCT_XXH128_HEX],
                                           oct_err *err)
{
    oct_arena arena = {0};
    oct_xxh128 *digests = oct_arena_array(&arena, source->n_tensors, sizeof *digests);
    oct_progress progress = {0};
    uint64_t bytes = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component == OCT_DENOISER) bytes += source->tensors[i].bytes;
    }
    oct_progress_begin(&progress, "reading", bytes, "B");
    const oct_status st = digest_all(source, &progress, digests, err);
    oct_progress_end(&progress);
    if (!st) oct_source_denoiser_digest(source, digests, hex);
    oct_arena_deinit(&arena);
    return st;
}
