// SPDX-License-Identifier: Apache-2.0
//
// Digests of the file as a whole.
#include "verify/digests.h"

#include <string.h>
#include <strings.h>

#include "common/file.h"
#include "common/manifest.h"

static oct_status find_expected(oct_digests *digests, const oct_digests_params *params,
                                char expected[OCT_SHA256_HEX], oct_findings *findings, oct_err *err)
{
    expected[0] = '\0';
    if (params->sha256) {
        if (!oct_is_sha256_hex(params->sha256)) {
            return oct_fail(err, OCT_EUSAGE,
                            "option '--sha256' needs 64 hexadecimal digits, not '%s'",
                            params->sha256);
        }
        digests->expected_by = "--sha256";
        strcpy(expected, params->sha256);
        return OCT_OK;
    }
    const char *manifest = params->manifest;
    if (!manifest) {
        manifest = oct_arena_print(&findings->arena, "%s.sha256", params->path);
        if (!oct_path_exists(manifest)) return OCT_OK;
    }
    digests->expected_by = manifest;
    return oct_manifest_find(manifest, params->path, expected, err);
}

oct_status oct_digests_check(oct_digests *digests, const oct_digests_params *params,
                             oct_findings *findings, oct_err *err)
{
    char expected[OCT_SHA256_HEX];
    oct_file file = {0};
    *digests = (oct_digests){0};
    oct_status st = oct_file_open(&file, params->path, err);
    if (!st) st = find_expected(digests, params, expected, findings, err);
    if (!st) st = oct_sha256_of_file(&file, digests->sha256, err);
    oct_file_close(&file);
    if (st) return st;
    if (digests->expected_by && strcasecmp(expected, digests->sha256)) {
        oct_findings_add(findings, "sha256 is %s, but %s says %s", digests->sha256,
                         digests->expected_by, expected);
    }
    return OCT_OK;
}
