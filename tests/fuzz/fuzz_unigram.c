// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: T5's tokenizer.json, whose character map is a trie of foreign offsets. What loads
// must also encode.
#include <stdlib.h>

#include "runtime/tokenize_unigram.h"
#include "tests/fuzz/fuzz.h"

static const char *const texts[] = {
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<pad>\", \"special\": true},"
    " {\"id\": 1, \"content\": \"</s>\", \"special\": true},"
    " {\"id\": 2, \"content\": \"<unk>\", \"special\": true}],"
    " \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\":"
    " \"CAAAAAAEAAAABAAAYQA=\"}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\":"
    " \"\xe2\x96\x81\", \"add_prefix_space\": true}, \"model\": {\"type\": \"Unigram\", "
    "\"unk_id\": 2,"
    " \"vocab\": [[\"<pad>\", 0], [\"</s>\", 0], [\"<unk>\", 0], [\"\xe2\x96\x81\", -2.0],"
    " [\"a\", -3.5], [\"\xe2\x96\x81"
    "b\", -4], [\"ab\", -5.25]]}}",
};

size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max)
{
    if (index >= sizeof texts / sizeof *texts) return 0;
    return fuzz_seed_text(texts[index], out, bytes_max);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oct_unigram unigram = {0};
    oct_err err = {{0}};
    int32_t ids[16];
    if (oct_unigram_load(&unigram, fuzz_file(data, bytes, ".json"), &err)) {
        if (!err.text[0]) abort();
        return 0;
    }
    oct_unigram_encode(&unigram, "ab  \xc3\xa9 \xf0\x9f\x98\x80 ba</s>", ids, 16, NULL, &err);
    oct_unigram_deinit(&unigram);
    return 0;
}
