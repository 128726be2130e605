// SPDX-License-Identifier: Apache-2.0
//
// Expected digests in the forms in which hosts publish them.
//
//   git-LFS pointer  version https://git-lfs.github.com/spec/v1 / oid sha256:HEX / size N
//   digest text      HEX, sha256:HEX, an ETag "HEX" (quoted, perhaps after W/)
//
// Facts: git-lfs docs/spec.md; Hugging Face serves the SHA-256 of a large file as X-Linked-ETag.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/status.h"

typedef struct oct_expected {
    char sha256[OCT_SHA256_HEX];  // lower case
    bool has_bytes;
    uint64_t bytes;               // size of the file
} oct_expected;

bool oct_is_lfs_pointer(const char *text);  // begins as one

// Strict: keys sorted after "version", each once, a SHA-256 and a size. OCT_EFORMAT otherwise.
oct_status oct_lfs_pointer_parse(oct_expected *expected, const char *text, oct_err *err);
oct_status oct_lfs_pointer_load(oct_expected *expected, const char *path, oct_err *err);

// False when `text` is none of the forms above.
bool oct_digest_text_parse(oct_expected *expected, const char *text);
