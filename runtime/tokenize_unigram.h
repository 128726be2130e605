// SPDX-License-Identifier: Apache-2.0
//
// T5's tokenizer: SentencePiece Unigram from a Hugging Face tokenizer.json, both configurations in
// the wild (with and without Strip/Replace in the normalizer). Rules of google/sentencepiece.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/status.h"

typedef struct oct_unigram {
    oct_arena arena;
    struct oct_unigram_model *model;  // pieces, trie, character map
    int32_t end_id, pad_id, unknown_id;
} oct_unigram;

oct_status oct_unigram_load(oct_unigram *unigram, const char *tokenizer_json, oct_err *err);
void oct_unigram_deinit(oct_unigram *unigram);

// Exactly `length` ids: text, end, padding. Longer text keeps its first length - 1 ids. *used as in
// oct_bpe_encode.
oct_status oct_unigram_encode(const oct_unigram *unigram, const char *text, int32_t *ids,
                              size_t length, size_t *used, oct_err *err);
