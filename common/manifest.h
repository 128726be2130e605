// SPDX-License-Identifier: Apache-2.0
//
// Manifests: lists of SHA-256 digests as sha256sum writes and checks them.
//
//   <64 hex digits>  <name>      or  <64 hex digits> *<name>
//
// A line that begins with a backslash has \\, \n and \r escaped in its name.
#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"

// One line with its newline, in the arena.
const char *oct_manifest_line(oct_arena *arena, const char *sha256, const char *name);

// The digest of `name` (compared with the last component of each entry). OCT_EFORMAT: a malformed
// line (with its number), no entry, or two entries that differ.
oct_status oct_manifest_find(const char *path, const char *name, char sha256[OCT_SHA256_HEX],
                             oct_err *err);
bool oct_is_sha256_hex(const char *text);  // 64 hexadecimal digits, either case
