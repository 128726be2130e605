// SPDX-License-Identifier: Apache-2.0
//
// What an interrupted calibration leaves.
//
//   "OCTPART1", digest of the run, prompts done, ranges, counts, sums and rows, digest of it all
#include "calibrate/partial.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "common/version.h"

typedef struct header {
    char magic[8];
    oct_xxh128 run;
    uint64_t n_done;
} header;

static const char magic[8] = {'O', 'C', 'T', 'P', 'A', 'R', 'T', '1'};

static const char *path_of(const oct_collection *collection, oct_arena *arena)
{
    const oct_ranks *ranks = &collection->ranks;
    const char *out = collection->options->out;

    if (ranks->count == 1) return oct_arena_print(arena, "%s.partial", out);
    return oct_arena_print(arena, "%s.partial-%d-of-%d", out, ranks->rank, ranks->count);
}

// ---- Which run it is.

static oct_xxh128 digest_of_settings(const oct_collection *collection)
{
    const oct_sampling_options *sampling = &collection->options->sampling;
    oct_arena arena = {0};

    const char *text =
        oct_arena_print(&arena, "%s %s %s %s %zu %.17g %zux%zu %d %zu %d/%d", oct_version(),
                        collection->denoiser_xxh3, collection->device->name,
                        oct_sampler_name(sampling->sampler), sampling->steps, sampling->cfg,
                        sampling->width, sampling->height, collection->options->has_channels,
                        collection->jobs.count, collection->ranks.rank, collection->ranks.count);
    const oct_xxh128 digest = oct_xxh128_of(text, strlen(text));
    oct_arena_deinit(&arena);
    return digest;
}

static oct_xxh128 *digest_conditioning(oct_xxh128 *next, const oct_conditioning *conditioning)
{
    if (!conditioning) return next;
    *next++ = oct_xxh128_of(conditioning->context,
                            conditioning->tokens * conditioning->width * sizeof(float));
    *next++ = oct_xxh128_of(conditioning->pooled, conditioning->pooled_width * sizeof(float));
    return next;
}

static oct_xxh128 digest_of_run(const oct_collection *collection)
{
    const oct_jobs *jobs = &collection->jobs;
    oct_arena arena = {0};
    oct_xxh128 *digests = oct_arena_array(&arena, 1 + 5 * jobs->count, sizeof *digests);
    oct_xxh128 *next = digests;

    *next++ = digest_of_settings(collection);
    for (size_t i = 0; i < jobs->count; i++) {
        const oct_job *job = &jobs->items[i];
        *next++ = oct_xxh128_of(&job->seed, sizeof job->seed);
        next = digest_conditioning(next, job->conditional);
        next = digest_conditioning(next, job->unconditional);
    }
    const oct_xxh128 run = oct_digest_of_chunks(digests, (uint64_t)(next - digests));
    oct_arena_deinit(&arena);
    return run;
}

// ---- Its numbers.

typedef struct cursor {
    uint8_t *memory;  // NULL: only count
    size_t bytes;
    bool is_load;
} cursor;

static void move(cursor *c, void *data, size_t bytes)
{
    if (c->memory && c->is_load) memcpy(data, c->memory + c->bytes, bytes);
    if (c->memory && !c->is_load) memcpy(c->memory + c->bytes, data, bytes);
    c->bytes += bytes;
}

static void move_all(cursor *c, header *head, oct_observer *observer)
{
    const size_t n = observer->n_layers;

    move(c, head, sizeof *head);
    move(c, observer->amax, n * 2 * observer->n_steps * sizeof *observer->amax);
    move(c, observer->exponents, n * sizeof *observer->exponents);
    for (size_t i = 0; observer->channels && i < n; i++) {
        oct_channels *channels = &observer->channels[i];
        move(c, channels->sums, channels->n * sizeof *channels->sums);
        move(c, &channels->rows, sizeof channels->rows);
    }
}

static size_t count_bytes(oct_observer *observer)
{
    cursor counting = {0};
    header head;

    move_all(&counting, &head, observer);
    return counting.bytes;
}

// ---- Files.

oct_status oct_partial_save(oct_collection *collection, size_t n_done, oct_err *err)
{
    header head = {.run = collection->run, .n_done = n_done};
    const size_t bytes = count_bytes(&collection->observer);
    oct_arena arena = {0};
    cursor writing = {.memory = oct_arena_alloc(&arena, bytes + sizeof(oct_xxh128))};

    memcpy(head.magic, magic, sizeof magic);
    move_all(&writing, &head, &collection->observer);
    oct_xxh128 digest = oct_xxh128_of(writing.memory, bytes);
    move(&writing, &digest, sizeof digest);
    const oct_status st =
        oct_file_write(path_of(collection, &arena), (char *)writing.memory, writing.bytes, err);
    oct_arena_deinit(&arena);
    return st ? oct_wrap(err, st, "cannot keep what is done") : OCT_OK;
}

static bool is_whole(uint8_t *memory, size_t bytes)
{
    const oct_xxh128 digest = oct_xxh128_of(memory, bytes);

    return memcmp(memory, magic, sizeof magic) == 0 &&
           memcmp(memory + bytes, &digest, sizeof digest) == 0;
}

static bool is_same(oct_xxh128 a, oct_xxh128 b)
{
    return a.low == b.low && a.high == b.high;
}

// How many prompts are in a file's bytes; the observer is only touched when they are of this run.
static size_t take(oct_collection *collection, char *text, size_t text_bytes)
{
    const size_t bytes = count_bytes(&collection->observer);
    cursor reading = {.memory = (uint8_t *)text, .is_load = true};
    header head;

    if (text_bytes != bytes + sizeof(oct_xxh128) || !is_whole(reading.memory, bytes)) return 0;
    memcpy(&head, text, sizeof head);
    if (!is_same(head.run, collection->run)) return 0;
    move_all(&reading, &head, &collection->observer);
    return (size_t)head.n_done;
}

size_t oct_partial_load(oct_collection *collection)
{
    const size_t bytes = count_bytes(&collection->observer) + sizeof(oct_xxh128);
    oct_arena arena = {0};
    const char *path = path_of(collection, &arena);
    size_t n_done = 0, text_bytes = 0;
    char *text = NULL;

    collection->run = digest_of_run(collection);
    if (oct_path_exists(path)) {
        if (!oct_file_read_text(&arena, path, bytes, &text, &text_bytes, NULL))
            n_done = take(collection, text, text_bytes);
        if (n_done) {
            oct_note("going on from '%s': %zu prompts are done", path, n_done);
        } else {
            oct_note("'%s' is not of this run: begun anew", path);
        }
    }
    oct_arena_deinit(&arena);
    return n_done;
}

void oct_partial_remove(const oct_collection *collection)
{
    oct_arena arena = {0};

    unlink(path_of(collection, &arena));
    oct_arena_deinit(&arena);
}
