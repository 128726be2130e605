// SPDX-License-Identifier: Apache-2.0
//
// CLIP's tokenizer: byte-pair encoding over lower-cased, NFC-normalised text, as the fast Hugging
// Face tokenizer does it. Files: vocab.json and merges.txt of any size; the start and end tokens are
// found by name. Algorithm: spec of openai/CLIP and huggingface/tokenizers.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/status.h"

typedef struct oct_bpe {
    oct_arena arena;
    struct oct_bpe_table *table;  // symbols, merges, hash
    int32_t start_id, end_id;     // <|startoftext|>, <|endoftext|>
    int32_t pad_id;               // from special_tokens_map.json / tokenizer_config.json, else end_id
    const char *pad_text;         // its spelling there; NULL: the files name none
} oct_bpe;

// `folder` holds vocab.json and merges.txt, perhaps special_tokens_map.json.
oct_status oct_bpe_load(oct_bpe *bpe, const char *folder, oct_err *err);
void oct_bpe_deinit(oct_bpe *bpe);

// Exactly `length` ids: start, text, end, padding with `pad`. Longer text keeps its first
// length - 2 ids. Special tokens typed in the text become their ids; so does the pad token that the
// files name ("!" for CLIP-G in diffusers folders), as in transformers. Invalid UTF-8 is OCT_EFORMAT. *used, if not NULL: ids before cutting, with start
// and end, so that callers can say that a prompt was cut.
oct_status oct_bpe_encode(const oct_bpe *bpe, const char *text, int32_t pad, int32_t *ids,
                          size_t length, size_t *used, oct_err *err);
