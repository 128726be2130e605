// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: policies, and with them the strict JSON reader.
#include <stdlib.h>

#include "ptq/policy.h"
#include "tests/fuzz/fuzz.h"

static const char *const texts[] = {
    "{\"octavo_policy\": 1, \"name\": \"p\", \"description\": \"d\","
    " \"default\": {\"weights\": \"e4m3\", \"inputs\": \"static\"},"
    " \"rules\": [{\"select\": {\"role\": [\"mod\", \"embed\"], \"stream\": \"text\","
    " \"blocks\": [0, -2], \"name\": \"joint_blocks.*.mlp.?c1\"}, \"set\": {\"weights\": "
    "\"keep\"}}]}",
    "{\"octavo_policy\": 1, \"name\": \"q\", \"description\": \"\\ud83d\\ude00\", \"rules\": []}",
};

size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max)
{
    if (index >= sizeof texts / sizeof *texts) return 0;
    return fuzz_seed_text(texts[index], out, bytes_max);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oct_policy policy = {0};
    oct_err err = {{0}};
    if (oct_policy_parse(&policy, (const char *)data, bytes, &err) && !err.text[0]) abort();
    oct_policy_deinit(&policy);
    return 0;
}
