// SPDX-License-Identifier: Apache-2.0
//
// Working memory of the CPU operations: a few megabytes, sized by tiles and never by a file.
#pragma once

#include <stddef.h>

// `floats` uninitialised numbers aligned for any vector; free() them. Ends the process with a
// message when there is no memory.
float *oct_scratch_alloc(size_t floats);
