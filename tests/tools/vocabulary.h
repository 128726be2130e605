// SPDX-License-Identifier: Apache-2.0
//
// Small tokenizers of our own, in the files that huggingface/transformers and this project read.
// Both know every byte or letter of English and the words of a short list; they are made from that
// list, not from anybody's vocabulary.
#pragma once

#include <stddef.h>

#include "common/status.h"

// Ids: 256 bytes, the same at a word's end, one per merge, then the start and the end token.
size_t oct_vocabulary_clip_size(void);

// Rows for T5's embedding: at least one per id, a multiple of 32 as in the published models.
size_t oct_vocabulary_t5_size(void);

// vocab.json, merges.txt, special_tokens_map.json, tokenizer_config.json for CLIPTokenizer. The
// folder exists. pad: "<|endoftext|>" as CLIP-L's, "!" (id 0) as CLIP-G's.
oct_status oct_vocabulary_write_clip(const char *folder, const char *pad, oct_err *err);

// tokenizer.json (Unigram) and tokenizer_config.json for T5TokenizerFast. The folder exists.
oct_status oct_vocabulary_write_t5(const char *folder, oct_err *err);
