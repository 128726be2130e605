// SPDX-License-Identifier: Apache-2.0
//
// Where checked kernels run: the emulation (memory_emulated.c) or the first GPU (memory_cuda.c).
//
// Buffers are aligned to 16 bytes, as kernels/cuda expects and not better, and lie between guard
// bytes. In the emulation an unreadable page follows within 16 bytes.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// NULL when kernels can run here; otherwise why not. Prints what it found as a comment.
const char *memory_open(void);

void *memory_new(size_t bytes);
void memory_write(void *to, const void *from, size_t bytes);

// Wait for all kernels, then copy to the host. NULL, or what the device says went wrong.
const char *memory_read(void *to, const void *from, size_t bytes);

// Whether every byte around the buffers is as it was.
bool memory_is_intact(void);

void memory_release(void);  // all buffers
