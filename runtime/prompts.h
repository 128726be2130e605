// SPDX-License-Identifier: Apache-2.0
//
// Prompt files, by extension:
//   .txt    one prompt per line; blank lines and lines that begin with '#' are skipped
//   .jsonl  one object per line: "prompt", and perhaps "id", "category", "negative", "seed"
//           (up to 2^53)
//   .json   an array of strings or of such objects, or an object {id: prompt}
//   .tsv    a header line; the column "Prompt" or "prompt"; no quoting (PartiPrompts)
//   .yaml   a flat map or list of plain, quoted or folded scalars (deepcompressor's qdiff.yaml)
// UTF-8, CRLF and a byte order mark are accepted. Invalid UTF-8, NUL and lines over 1 MiB are not.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"

typedef struct oct_prompt {
    const char *id;        // from the file, else "0000", "0001", ... by position
    const char *text;
    const char *category;  // or NULL
    const char *negative;  // or NULL
    bool has_seed;
    uint64_t seed;
} oct_prompt;

typedef struct oct_prompts {
    oct_arena arena;
    oct_prompt *items;
    size_t count;
    char sha256[OCT_SHA256_HEX];  // over each text and a newline, in order, after `limit`
} oct_prompts;

// The first `limit` prompts (0: all). An empty set is OCT_EFORMAT; repeated texts are kept with a
// warning. Ids name files of results: one that is repeated, begins with '.', holds '/' or a control
// character, or has over 128 bytes is OCT_EFORMAT. An unknown ending of `path` is OCT_EUSAGE.
oct_status oct_prompts_load(oct_prompts *prompts, const char *path, size_t limit, oct_err *err);
oct_status oct_prompts_single(oct_prompts *prompts, const char *text, oct_err *err);
void oct_prompts_deinit(oct_prompts *prompts);
