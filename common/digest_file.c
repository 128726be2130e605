// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 of files. It has no parallelism inside and reading takes a sixth of its time even from
// memory, so other threads read ahead of the one that digests: into a ring of pieces, which are
// digested in order whoever is done first.
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/digest.h"

#define PIECE_BYTES ((size_t)512 << 10)
#define ROOM 7  // pieces in memory beside one for each thread

typedef struct ring {
    const oct_pieces *pieces;
    size_t n_slots;
    char *data;     // [n_slots][pieces->bytes_max]
    size_t *bytes;  // [n_slots]; of what is there to be digested, 0: nothing
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t n_begun, n_digested;
    oct_status status;
    oct_err err;
} ring;

static char *slot(const ring *r, uint64_t index)
{
    return r->data + index % r->n_slots * r->pieces->bytes_max;
}

// The next piece to fill; false when none is left.
static bool take(ring *r, uint64_t *index)
{
    pthread_mutex_lock(&r->lock);
    while (!r->status && r->n_begun < r->pieces->count && r->n_begun - r->n_digested == r->n_slots)
        pthread_cond_wait(&r->changed, &r->lock);
    const bool is_there = !r->status && r->n_begun < r->pieces->count;
    *index = r->n_begun;
    r->n_begun += is_there;
    pthread_mutex_unlock(&r->lock);
    return is_there;
}

static void give(ring *r, uint64_t index, size_t bytes, oct_status st, const oct_err *err)
{
    pthread_mutex_lock(&r->lock);
    r->bytes[index % r->n_slots] = bytes;
    if (st && !r->status) {
        r->status = st;
        r->err = *err;
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void *fill(void *argument)
{
    ring *r = argument;
    uint64_t index;

    while (take(r, &index)) {
        oct_err err = {{0}};
        size_t bytes = 0;
        const oct_status st =
            r->pieces->fill(r->pieces->context, index, slot(r, index), &bytes, &err);
        assert(st || (bytes > 0 && bytes <= r->pieces->bytes_max));
        give(r, index, bytes, st, &err);
    }
    return NULL;
}

static size_t wait_for(ring *r, uint64_t index)
{
    pthread_mutex_lock(&r->lock);
    while (!r->status && !r->bytes[index % r->n_slots]) pthread_cond_wait(&r->changed, &r->lock);
    const size_t bytes = r->status ? 0 : r->bytes[index % r->n_slots];
    pthread_mutex_unlock(&r->lock);
    return bytes;
}

static void free_slot(ring *r, uint64_t index)
{
    pthread_mutex_lock(&r->lock);
    r->bytes[index % r->n_slots] = 0;
    r->n_digested++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void digest(ring *r, oct_sha256 *sha)
{
    for (uint64_t i = 0; i < r->pieces->count; i++) {
        const size_t bytes = wait_for(r, i);
        if (!bytes) return;
        oct_sha256_add(sha, slot(r, i), bytes);
        free_slot(r, i);
    }
}

static oct_status run(ring *r, pthread_t *threads, size_t n_threads, oct_sha256 *sha, oct_err *err)
{
    size_t n = 0;

    while (n < n_threads && !pthread_create(&threads[n], NULL, fill, r)) n++;
    if (n == 0) return oct_fail(err, OCT_ENOMEM, "cannot start a thread to read a file");
    digest(r, sha);
    while (n) pthread_join(threads[--n], NULL);
    if (r->status && err) *err = r->err;
    return r->status;
}

oct_status oct_sha256_of_pieces(const oct_pieces *pieces, size_t n_threads,
                                char hex[OCT_SHA256_HEX], oct_err *err)
{
    ring r = {
        .pieces = pieces,
        .n_slots = n_threads + ROOM,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    oct_sha256 sha;
    pthread_t *threads = calloc(n_threads, sizeof *threads);
    oct_status st = OCT_OK;

    assert(n_threads > 0);
    r.data = malloc(r.n_slots * pieces->bytes_max);
    r.bytes = calloc(r.n_slots, sizeof *r.bytes);
    if (!r.data || !r.bytes || !threads)
        st = oct_fail(err, OCT_ENOMEM, "out of memory for pieces of a file");
    oct_sha256_begin(&sha);
    if (!st) st = run(&r, threads, n_threads, &sha, err);
    oct_sha256_end(&sha, hex);
    if (st) hex[0] = '\0';
    free(threads);
    free(r.bytes);
    free(r.data);
    return st;
}

// ---- A range of a file.

typedef struct range {
    const oct_file *file;
    uint64_t from;
} range;

static oct_status read_piece(void *context, uint64_t index, void *to, size_t *bytes, oct_err *err)
{
    const range *r = context;
    const uint64_t at = r->from + index * PIECE_BYTES, rest = r->file->bytes - at;

    *bytes = rest < PIECE_BYTES ? (size_t)rest : PIECE_BYTES;
    oct_file_read_ahead(r->file, at + OCT_READ_AHEAD, PIECE_BYTES);
    return oct_file_read(r->file, to, *bytes, at, err);
}

oct_status oct_sha256_of_range(const oct_file *file, uint64_t from, char hex[OCT_SHA256_HEX],
                               oct_err *err)
{
    const uint64_t bytes = from < file->bytes ? file->bytes - from : 0;
    const oct_pieces pieces = {
        .count = bytes / PIECE_BYTES + (bytes % PIECE_BYTES != 0),
        .bytes_max = PIECE_BYTES,
        .fill = read_piece,
        .context = &(range){file, from},
    };

    oct_file_read_ahead(file, from, OCT_READ_AHEAD);
    return oct_sha256_of_pieces(&pieces, 1, hex, err);
}

oct_status oct_sha256_of_file(const oct_file *file, char hex[OCT_SHA256_HEX], oct_err *err)
{
    return oct_sha256_of_range(file, 0, hex, err);
}
