// SPDX-License-Identifier: Apache-2.0
//
// Memory for the metadata of one job: names, tensor tables, layer lists. It goes all at once.
//
// An exhausted arena ends the process with a message: these sizes are ours and bounded by limits
// that are checked first. Tensor-sized memory never comes from here. A zeroed arena is valid.
#pragma once

#include <stddef.h>

typedef struct oct_arena {
    struct oct_arena_chunk *chunks;
} oct_arena;

// `bytes` zeroed bytes aligned for any type, valid until oct_arena_deinit. Never NULL, also for 0.
void *oct_arena_alloc(oct_arena *arena, size_t bytes);

// An array of `count` elements; ends the process when the product overflows.
void *oct_arena_array(oct_arena *arena, size_t count, size_t element_bytes);

// Room for one more element in an array that doubles: `items` itself, or a larger copy of its
// `count` elements. `*capacity` is in elements; it and `items` begin as 0 and NULL.
void *oct_arena_grow(oct_arena *arena, void *items, size_t count, size_t *capacity,
                     size_t element_bytes);

char *oct_arena_copy(oct_arena *arena, const char *text);                  // strdup
char *oct_arena_copy_n(oct_arena *arena, const char *text, size_t bytes);  // and a final NUL
__attribute__((format(printf, 2, 3))) char *oct_arena_print(oct_arena *arena, const char *format,
                                                            ...);

void oct_arena_deinit(oct_arena *arena);  // fine on an empty one
