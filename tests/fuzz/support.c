// SPDX-License-Identifier: Apache-2.0
//
// What fuzz targets share.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tests/tools/scratch.h"

size_t fuzz_seed_text(const char *text, uint8_t *out, size_t bytes_max)
{
    const size_t bytes = strlen(text);
    if (bytes > bytes_max) abort();
    memcpy(out, text, bytes);
    return bytes;
}

static char *folder;

static void remove_folder(void)
{
    oct_scratch_remove(folder);
}

const char *fuzz_file(const uint8_t *data, size_t bytes, const char *ending)
{
    static char path[512];
    if (!folder) {
        folder = oct_scratch_make();
        atexit(remove_folder);
    }
    snprintf(path, sizeof path, "%s/input%s", folder, ending);
    unlink(path);  // a truncated file that is written again is flushed by ext4, a new one is not
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file)) abort();
    return path;
}
