// SPDX-License-Identifier: Apache-2.0
//
// Manifests: lists of SHA-256 digests as sha256sum writes and checks them.
//
//   <64 hex digits>  <name>      or  <64 hex digits> *<name>  or  SHA256 (<name>) = <64 hex digits>
//
// A line that begins with a backslash has \\, \n and \r escaped in its name; one that begins with
// '#' is a comment. A list comes from a stranger and names files to open, so a name is relative to
// the list's folder and stays below it.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"

typedef struct oct_manifest_entry {
    const char *name;             // relative to the list's folder, unescaped
    const char *path;             // folder and name joined
    char sha256[OCT_SHA256_HEX];  // lower case
} oct_manifest_entry;

typedef struct oct_manifest {
    oct_arena arena;
    oct_manifest_entry *entries;  // in the order of the list, each name once
    size_t n_entries, capacity;
} oct_manifest;

// Read a list. OCT_EFORMAT naming the line: it is malformed (digits of both cases in one digest
// count as damage), its name is absolute, has ".." in it or is the list itself, or it gives a name
// a second digest; also when the list is empty. On failure `manifest` is left empty.
oct_status oct_manifest_load(oct_manifest *manifest, const char *path, oct_err *err);
void oct_manifest_deinit(oct_manifest *manifest);

// The digest of the file at `file`: of the entry that is that very file, else of the entries with
// the same last component. OCT_EFORMAT: no entry, or several that differ.
oct_status oct_manifest_find(const char *path, const char *file, char sha256[OCT_SHA256_HEX],
                             oct_err *err);

// One line with its newline, in the arena.
const char *oct_manifest_line(oct_arena *arena, const char *sha256, const char *name);

bool oct_is_sha256_hex(const char *text);  // 64 hexadecimal digits, either case
