// SPDX-License-Identifier: Apache-2.0
//
// Digests by libcrypto and xxHash.
#include "common/digest.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>
#include <xxhash.h>
#if OCT_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

#define SHA256_BYTES 32

// libcrypto fails here only without memory for its small context, which is ours like an arena's.
static void require(bool is_done)
{
    if (is_done) return;
    fputs("octavo: libcrypto cannot compute SHA-256\n", stderr);
    exit(3);
}

void oct_sha256_begin(oct_sha256 *sha)
{
    sha->context = EVP_MD_CTX_new();
    require(sha->context && EVP_DigestInit_ex(sha->context, EVP_sha256(), NULL));
}

void oct_sha256_add(oct_sha256 *sha, const void *data, size_t bytes)
{
    require(EVP_DigestUpdate(sha->context, data, bytes));
}

void oct_sha256_end(oct_sha256 *sha, char hex[OCT_SHA256_HEX])
{
    unsigned char digest[SHA256_BYTES];
    require(EVP_DigestFinal_ex(sha->context, digest, NULL));
    EVP_MD_CTX_free(sha->context);
    sha->context = NULL;
    for (size_t i = 0; i < SHA256_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void oct_sha256_of(const void *data, size_t bytes, char hex[OCT_SHA256_HEX])
{
    oct_sha256 sha;
    oct_sha256_begin(&sha);
    oct_sha256_add(&sha, data, bytes);
    oct_sha256_end(&sha, hex);
}

oct_xxh128 oct_xxh128_of(const void *data, size_t bytes)
{
    const XXH128_hash_t hash = XXH3_128bits(data, bytes);
    return (oct_xxh128){.low = hash.low64, .high = hash.high64};
}

void oct_xxh128_hex(oct_xxh128 digest, char hex[OCT_XXH128_HEX])
{
    snprintf(hex, OCT_XXH128_HEX, "%016" PRIx64 "%016" PRIx64, digest.high, digest.low);
}

uint64_t oct_digest_chunk_count(uint64_t bytes)
{
    return bytes / OCT_DIGEST_CHUNK + (bytes % OCT_DIGEST_CHUNK != 0);
}

static XXH3_state_t *chunks_begin(void)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) abort();
    XXH3_128bits_reset(state);
    return state;
}

static void chunks_add(XXH3_state_t *state, oct_xxh128 chunk)
{
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, (XXH128_hash_t){.low64 = chunk.low, .high64 = chunk.high});
    XXH3_128bits_update(state, &bytes, sizeof bytes);
}

static oct_xxh128 chunks_end(XXH3_state_t *state)
{
    const XXH128_hash_t all = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    return (oct_xxh128){.low = all.low64, .high = all.high64};
}

oct_xxh128 oct_digest_of_chunks(const oct_xxh128 *chunks, uint64_t n)
{
    XXH3_state_t *state = chunks_begin();
    for (uint64_t i = 0; i < n; i++) chunks_add(state, chunks[i]);
    return chunks_end(state);
}

oct_xxh128 oct_digest_of_data(const void *data, uint64_t bytes)
{
    XXH3_state_t *state = chunks_begin();
    for (uint64_t at = 0; at < bytes; at += OCT_DIGEST_CHUNK) {
        const uint64_t rest = bytes - at;
        chunks_add(state, oct_xxh128_of((const char *)data + at,
                                        rest < OCT_DIGEST_CHUNK ? rest : OCT_DIGEST_CHUNK));
    }
    return chunks_end(state);
}

oct_status oct_digest_of_range(const oct_file *file, uint64_t offset, uint64_t bytes, void *chunk,
                               oct_xxh128 *digest, oct_err *err)
{
    const uint64_t n_chunks = oct_digest_chunk_count(bytes);
    oct_arena arena = {0};
    oct_xxh128 *chunks = oct_arena_array(&arena, n_chunks, sizeof *chunks);
    oct_status st = OCT_OK;

    for (uint64_t i = 0; i < n_chunks && !st; i++) {
        const uint64_t at = i * OCT_DIGEST_CHUNK, rest = bytes - at;
        const uint64_t n = rest < OCT_DIGEST_CHUNK ? rest : OCT_DIGEST_CHUNK;
        st = oct_file_read(file, chunk, n, offset + at, err);
        if (!st) chunks[i] = oct_xxh128_of(chunk, n);
    }
    if (!st) *digest = oct_digest_of_chunks(chunks, n_chunks);
    oct_arena_deinit(&arena);
    return st;
}
