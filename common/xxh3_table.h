// SPDX-License-Identifier: Apache-2.0
//
// FILE.xxh3: the XXH3-128 digest of every tensor of a safetensors file, for fast re-checks that name
// what is damaged. It shows accidents, not attacks: what must be proven is in FILE.sha256.
//
//   octavo-xxh3 1
//   <32 lower-case hex digits>  __metadata__
//   <32 lower-case hex digits>  <tensor name>
//
// First the header (all bytes before the data: length and JSON), under the name that no tensor may
// have; then every tensor in the file's order. Digests are of chunks, as in common/digest.h. One
// newline ends each line; a name, which has no control characters, is as in the file.
#pragma once

#include <stddef.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/safetensors.h"
#include "common/status.h"

#define OCT_XXH3_HEADER "__metadata__"

typedef struct oct_xxh3_entry {
    const char *name;
    oct_xxh128 digest;
} oct_xxh3_entry;

typedef struct oct_xxh3_table {
    oct_arena arena;
    oct_xxh3_entry *entries;  // as in the file
    size_t n_entries;
} oct_xxh3_table;

// The text of a table, in the arena.
const char *oct_xxh3_table_print(oct_arena *arena, const oct_xxh3_entry *entries, size_t n_entries);

// OCT_EFORMAT: another first line, a malformed line (with its number), a name twice, no header. On
// failure `table` is left empty.
oct_status oct_xxh3_table_read(oct_xxh3_table *table, const char *path, oct_err *err);
void oct_xxh3_table_deinit(oct_xxh3_table *table);

// NULL when absent. Looks at every entry.
const oct_xxh3_entry *oct_xxh3_table_find(const oct_xxh3_table *table, const char *name);
