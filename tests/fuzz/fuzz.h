// SPDX-License-Identifier: Apache-2.0
//
// Fuzz targets: readers of foreign bytes must answer every input with OCT_OK or one sentence.
//
// A target defines fuzz_seed() and LLVMFuzzerTestOneInput(). With our driver (tests/fuzz/driver.c)
// it is a test of a fixed number of mutations of its seeds; linked with -fsanitize=fuzzer instead
// of the driver it is a libFuzzer target.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Valid input number `index`, written to `out` (of `bytes_max`). Returns its size, 0 past the last.
size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

// Copy a text as a seed.
size_t fuzz_seed_text(const char *text, uint8_t *out, size_t bytes_max);

// Put the bytes into a file of this process's own, "<folder>/input<ending>", and return its path.
const char *fuzz_file(const uint8_t *data, size_t bytes, const char *ending);
