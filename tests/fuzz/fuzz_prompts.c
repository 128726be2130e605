// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: prompt files of every kind. The first byte picks the ending.
#include <stdlib.h>

#include "common/log.h"
#include "runtime/prompts.h"
#include "tests/fuzz/fuzz.h"

static const char *const endings[] = {".txt", ".jsonl", ".json", ".tsv", ".yaml"};

static const char *const texts[] = {
    "0a cat\n# not this\n\na dog\r\n",
    "1{\"id\": \"a\", \"prompt\": \"x\", \"category\": \"c\", \"seed\": 7}\n{\"prompt\": \"y\"}\n",
    "2[\"a\", {\"prompt\": \"b\", \"negative\": \"n\"}]",
    "2{\"one\": \"a\", \"two\": \"b\"}",
    "3Prompt\tCategory\na \"cat\"\tAnimals\n",
    "4'0000': a plain one\n'0001': 'it''s'\n'0002': \"q\\n\"\n'0003': >-\n  folded\n  text\n",
    "4- a\n- 'b'\n",
};

size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max)
{
    oct_log_init("fuzz", OCT_LOG_QUIET);
    if (index >= sizeof texts / sizeof *texts) return 0;
    return fuzz_seed_text(texts[index], out, bytes_max);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oct_prompts prompts = {0};
    oct_err err = {{0}};
    if (bytes == 0) return 0;
    const char *ending = endings[(data[0] - '0') % 5u];
    if (oct_prompts_load(&prompts, fuzz_file(data + 1, bytes - 1, ending), 0, &err) &&
        !err.text[0]) {
        abort();
    }
    oct_prompts_deinit(&prompts);
    return 0;
}
