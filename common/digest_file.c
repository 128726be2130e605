// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 of files. It has no parallelism inside and reading takes a sixth of its time even from
// memory, so another thread reads ahead of the one that digests.
#include <pthread.h>
#include <stdlib.h>

#include "common/digest.h"

#define PIECE_BYTES ((size_t)512 << 10)
#define PIECES 8  // in memory at once

typedef struct reading {
    const oct_file *file;
    uint64_t from;
    char *pieces;  // [PIECES][PIECE_BYTES], a ring
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t n_read, n_digested;
    oct_status status;
    oct_err err;
} reading;

static uint64_t piece_count(const reading *r)
{
    const uint64_t bytes = r->from < r->file->bytes ? r->file->bytes - r->from : 0;
    return bytes / PIECE_BYTES + (bytes % PIECE_BYTES != 0);
}

static size_t piece_bytes(const reading *r, uint64_t index)
{
    const uint64_t rest = r->file->bytes - r->from - index * PIECE_BYTES;
    return rest < PIECE_BYTES ? (size_t)rest : PIECE_BYTES;
}

static char *piece(const reading *r, uint64_t index)
{
    return r->pieces + index % PIECES * PIECE_BYTES;
}

static void wait_for_room(reading *r, uint64_t index)
{
    pthread_mutex_lock(&r->lock);
    while (index - r->n_digested == PIECES) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static oct_status wait_for_piece(reading *r, uint64_t index)
{
    pthread_mutex_lock(&r->lock);
    while (index == r->n_read) pthread_cond_wait(&r->changed, &r->lock);
    const oct_status st = r->status;
    pthread_mutex_unlock(&r->lock);
    return st;
}

static void count(reading *r, uint64_t *n, oct_status st)
{
    pthread_mutex_lock(&r->lock);
    ++*n;
    if (st) r->status = st;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void *read_pieces(void *argument)
{
    reading *r = argument;
    oct_status st = OCT_OK;

    for (uint64_t i = 0; i < piece_count(r) && !st; i++) {
        const uint64_t at = r->from + i * PIECE_BYTES;
        wait_for_room(r, i);
        oct_file_read_ahead(r->file, at + OCT_READ_AHEAD, PIECE_BYTES);
        st = oct_file_read(r->file, piece(r, i), piece_bytes(r, i), at, &r->err);
        count(r, &r->n_read, st);
    }
    return NULL;
}

static void digest_pieces(reading *r, oct_sha256 *sha)
{
    for (uint64_t i = 0; i < piece_count(r) && !wait_for_piece(r, i); i++) {
        oct_sha256_add(sha, piece(r, i), piece_bytes(r, i));
        count(r, &r->n_digested, OCT_OK);
    }
}

static oct_status run(reading *r, oct_sha256 *sha, oct_err *err)
{
    pthread_t reader;

    if (pthread_create(&reader, NULL, read_pieces, r)) {
        return oct_fail(err, OCT_ENOMEM, "cannot start a thread to read a file");
    }
    digest_pieces(r, sha);
    pthread_join(reader, NULL);
    if (r->status && err) *err = r->err;
    return r->status;
}

oct_status oct_sha256_of_range(const oct_file *file, uint64_t from, char hex[OCT_SHA256_HEX],
                               oct_err *err)
{
    reading r = {
        .file = file,
        .from = from,
        .pieces = malloc(PIECES * PIECE_BYTES),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    if (!r.pieces) return oct_fail(err, OCT_ENOMEM, "out of memory for pieces of a file");

    oct_sha256 sha;
    oct_sha256_begin(&sha);
    oct_file_read_ahead(file, from, OCT_READ_AHEAD);
    const oct_status st = run(&r, &sha, err);
    oct_sha256_end(&sha, hex);
    if (st) hex[0] = '\0';
    free(r.pieces);
    return st;
}

oct_status oct_sha256_of_file(const oct_file *file, char hex[OCT_SHA256_HEX], oct_err *err)
{
    return oct_sha256_of_range(file, 0, hex, err);
}
