// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 of whole files, compared with what is expected of them.
//
// Reading and hashing happen in threads of their own, so that other checks go on beside them.
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/digest.h"
#include "common/manifest.h"
#include "common/safetensors.h"
#include "common/status.h"
#include "verify/findings.h"
#include "verify/pointer.h"

typedef struct oct_digests_params {
    const char *sha256;       // expected, as text, or NULL
    const char *hf_etag;      // the same as a Hugging Face ETag, or NULL
    const char *lfs_pointer;  // file, or NULL
    const char *manifest;     // list or pointer file, or NULL: "<path>.sha256" where that
                              // exists, for a shard also the one without its number
    bool needs_data;          // also the digest of the data behind the header
    bool has_sha256;          // files[0].sha256 is written by somebody else before the end
} oct_digests_params;

typedef struct oct_digest {
    const char *path;
    uint64_t header_bytes;             // where data begins; 0: not known
    char sha256[OCT_SHA256_HEX];       // of the file
    char data_sha256[OCT_SHA256_HEX];  // of the data, "" when not asked for
    oct_expected expected;
    const char *expected_by;           // "--sha256", a path, NULL: nothing to compare with
    oct_status status;                 // of reading it
    const char *trouble;               // its sentence, NULL; of a list also that it differs
} oct_digest;

typedef struct oct_digests {
    oct_arena arena;
    oct_digest *files;
    size_t n_files, capacity;
    bool is_list, needs_data, has_sha256;
    pthread_t *workers;  // that run
    size_t n_workers;
    pthread_mutex_t mutex;
    size_t next;  // stream to hash: files, or files and their data
} oct_digests;

// Add a file; `header_bytes` is 0 for one that is no safetensors file. Before oct_digests_begin().
void oct_digests_add(oct_digests *digests, const char *path, uint64_t header_bytes);

// Add every file that a manifest names, with its digest. One that cannot be read will be a finding.
oct_status oct_digests_add_list(oct_digests *digests, const char *manifest, oct_err *err);

// Find what is expected (NULL: of a list it is known, else nothing is) and start hashing.
// OCT_EUSAGE: a digest that is none, or one digest for several files. OCT_EFORMAT: a manifest that
// is malformed or has no entry for a file.
oct_status oct_digests_begin(oct_digests *digests, const oct_digests_params *params, oct_err *err);

// Wait for the digests; differences are findings of the check "digest".
oct_status oct_digests_end(oct_digests *digests, oct_findings *findings, oct_err *err);

void oct_digests_deinit(oct_digests *digests);  // waits for a thread that still runs
