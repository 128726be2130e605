// SPDX-License-Identifier: Apache-2.0
//
// Digests of the file as a whole.
#pragma once

#include "common/digest.h"
#include "common/status.h"
#include "verify/findings.h"

typedef struct oct_digests_params {
    const char *path;
    const char *sha256;    // expected, or NULL
    const char *manifest;  // or NULL: "<path>.sha256" where that exists
} oct_digests_params;

typedef struct oct_digests {
    char sha256[OCT_SHA256_HEX];  // of the file
    const char
        *expected_by;  // "--sha256", the manifest's path (in the arena), NULL: nothing to compare
} oct_digests;

// Compare the file's SHA-256 with what is expected of it; a difference is a finding. A manifest
// that cannot be read or has no entry for the file is an error.
oct_status oct_digests_check(oct_digests *digests, const oct_digests_params *params,
                             oct_findings *findings, oct_err *err);
