// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: PNG files.
#include <stdlib.h>
#include <string.h>

#include "runtime/image.h"
#include "tests/fuzz/fuzz.h"

size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max)
{
    oct_image image = {0};
    uint8_t *png = NULL;
    size_t bytes = 0;

    if (index > 0) return 0;
    if (oct_image_init(&image, 9, 7, NULL)) abort();
    for (size_t i = 0; i < 9 * 7 * 3; i++) image.rgb[i] = (uint8_t)(i * 37);
    if (oct_image_encode_png(&image, &png, &bytes, NULL) || bytes > bytes_max) abort();
    memcpy(out, png, bytes);
    free(png);
    oct_image_deinit(&image);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oct_image image = {0};
    oct_err err = {{0}};
    if (oct_image_load_png(&image, fuzz_file(data, bytes, ".png"), &err) && !err.text[0]) abort();
    oct_image_deinit(&image);
    return 0;
}
