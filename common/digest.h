// SPDX-License-Identifier: Apache-2.0
//
// Digests: SHA-256 (OpenSSL's libcrypto) for what must be proven, XXH3-128 (xxHash) for identity
// and damage.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/file.h"
#include "common/status.h"

#define OCT_SHA256_HEX 65  // 64 hex digits and a NUL
#define OCT_XXH128_HEX 33

typedef struct oct_sha256 {
    void *context;
} oct_sha256;

void oct_sha256_begin(oct_sha256 *sha);
void oct_sha256_add(oct_sha256 *sha, const void *data, size_t bytes);
void oct_sha256_end(oct_sha256 *sha, char hex[OCT_SHA256_HEX]);  // and frees the context

// Pieces of something, in order, which several threads may bring in any order.
typedef struct oct_pieces {
    uint64_t count;
    size_t bytes_max;  // of a piece
    // Put piece `index` into `to` and say how long it is, > 0. Called by several threads at once.
    oct_status (*fill)(void *context, uint64_t index, void *to, size_t *bytes, oct_err *err);
    void *context;
} oct_pieces;

// SHA-256 of all pieces, digested by this thread while n_threads others fill. At most seven pieces
// and one for each thread are in memory.
oct_status oct_sha256_of_pieces(const oct_pieces *pieces, size_t n_threads,
                                char hex[OCT_SHA256_HEX], oct_err *err);

// All bytes of an open file, or all from an offset on, by its descriptor. A second thread reads
// ahead, through 4 MiB.
oct_status oct_sha256_of_file(const oct_file *file, char hex[OCT_SHA256_HEX], oct_err *err);
oct_status oct_sha256_of_range(const oct_file *file, uint64_t from, char hex[OCT_SHA256_HEX],
                               oct_err *err);
void oct_sha256_of(const void *data, size_t bytes, char hex[OCT_SHA256_HEX]);

typedef struct oct_xxh128 {
    uint64_t low, high;
} oct_xxh128;

oct_xxh128 oct_xxh128_of(const void *data, size_t bytes);
void oct_xxh128_hex(oct_xxh128 digest, char hex[OCT_XXH128_HEX]);  // canonical, big-endian

// The digest of a tensor's data: XXH3-128 over the digests of its chunks, which are 1 MiB each and
// the last one shorter; a digest goes in as the 16 bytes of its canonical form. So chunks can be
// digested in any order, from any threads, while they are in the cache.
#define OCT_DIGEST_CHUNK ((uint64_t)1 << 20)

uint64_t oct_digest_chunk_count(uint64_t bytes);  // of a tensor of so many bytes
oct_xxh128 oct_digest_of_chunks(const oct_xxh128 *chunks, uint64_t n);  // in the tensor's order
oct_xxh128 oct_digest_of_data(const void *data, uint64_t bytes);        // all of a tensor

// Digest bytes [offset, offset + bytes) of an open file, through `chunk`: [OCT_DIGEST_CHUNK] bytes
// of the caller's. Safe from several threads with a chunk each.
oct_status oct_digest_of_range(const oct_file *file, uint64_t offset, uint64_t bytes, void *chunk,
                               oct_xxh128 *digest, oct_err *err);
