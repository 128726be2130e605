// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: the safetensors header. The first byte says how much data the header must cover.
#include <stdlib.h>

#include "common/safetensors.h"
#include "tests/fuzz/fuzz.h"

static const char *const texts[] = {
    "\x10{\"t\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}",
    "\x0c{\"__metadata__\":{\"format\":\"pt\",\"a\":\"\\u00e9\"},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
    "\"b\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,3],\"data_offsets\":[4,10]},"
    "\"c\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[10,10]},"
    "\"d\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[10,12]}}  ",
};

size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max)
{
    if (index >= sizeof texts / sizeof *texts) return 0;
    return fuzz_seed_text(texts[index], out, bytes_max);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oct_safetensors st = {0};
    oct_err err = {{0}};
    if (bytes == 0) return 0;
    if (oct_st_header_parse(&st, (const char *)data + 1, bytes - 1, data[0], &err)) {
        if (!err.text[0]) abort();  // a failure without a sentence
        return 0;
    }
    uint64_t covered = 0;
    for (size_t i = 0; i < st.n_tensors; i++) covered += st.tensors[i].bytes;
    if (covered != data[0]) abort();
    oct_safetensors_close(&st);
    return 0;
}
