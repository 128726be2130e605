// SPDX-License-Identifier: Apache-2.0
#include "kernels/scratch.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

float *oct_scratch_alloc(size_t floats)
{
    void *memory = NULL;

    if (floats > SIZE_MAX / sizeof(float) || posix_memalign(&memory, 64, floats * sizeof(float))) {
        fprintf(stderr, "octavo: out of memory for %zu floats of scratch\n", floats);
        exit(3);
    }
    return memory;
}
