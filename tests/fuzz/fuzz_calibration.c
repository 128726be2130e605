// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: calibration files.
#include <stdlib.h>

#include "ptq/calibration.h"
#include "tests/fuzz/fuzz.h"

size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max)
{
    if (index > 0) return 0;
    return fuzz_seed_text(
        "{\"octavo_calibration\": 1, \"model\": {\"denoiser_xxh3\":"
        " \"0123456789abcdef0123456789abcdef\"}, \"run\": {\"prompts_sha256\":"
        " \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
        " \"prompts\": 2, \"sampler\": \"euler\", \"steps\": 2, \"cfg\": 4.5, \"width\": 64,"
        " \"height\": 64, \"seed\": 0}, \"layers\": {\"a.b\": {\"amax\": 2.5,"
        " \"cond\": [1, 2.5], \"uncond\": [0.125, 1]}, \"c\": {\"amax\": 0, \"cond\": [0, 0],"
        " \"uncond\": [0, 0]}}}",
        out, bytes_max);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oct_calibration calibration = {0};
    oct_err err = {{0}};
    if (oct_calibration_load(&calibration, fuzz_file(data, bytes, ".json"), &err) && !err.text[0]) {
        abort();
    }
    oct_calibration_deinit(&calibration);
    return 0;
}
