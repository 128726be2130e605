// SPDX-License-Identifier: Apache-2.0
//
// Memory for the metadata of one job.
#include "common/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 << 10)
#define ALIGNMENT alignof(max_align_t)

typedef struct oct_arena_chunk {
    struct oct_arena_chunk *next;
    size_t used, bytes;
    alignas(max_align_t) char data[];
} chunk;

_Noreturn static void end_exhausted(size_t count, size_t element_bytes)
{
    fprintf(stderr, "octavo: out of memory for %zu x %zu bytes of metadata\n", count,
            element_bytes);
    exit(3);
}

static chunk *add_chunk(oct_arena *arena, size_t bytes)
{
    const size_t data_bytes = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
    chunk *added = calloc(1, sizeof *added + data_bytes);
    if (!added) end_exhausted(1, bytes);
    added->bytes = data_bytes;

    // A large request gets a chunk of its own behind the current one, which stays in use.
    if (bytes > CHUNK_BYTES / 4 && arena->chunks) {
        added->next = arena->chunks->next;
        arena->chunks->next = added;
    } else {
        added->next = arena->chunks;
        arena->chunks = added;
    }
    return added;
}

void *oct_arena_alloc(oct_arena *arena, size_t bytes)
{
    if (bytes > PTRDIFF_MAX - CHUNK_BYTES) end_exhausted(1, bytes);
    bytes = (bytes + !bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

    chunk *from = arena->chunks;
    if (!from || from->bytes - from->used < bytes) from = add_chunk(arena, bytes);
    void *memory = from->data + from->used;
    from->used += bytes;
    return memory;
}

void *oct_arena_array(oct_arena *arena, size_t count, size_t element_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, element_bytes, &bytes)) end_exhausted(count, element_bytes);
    return oct_arena_alloc(arena, bytes);
}

void *oct_arena_grow(oct_arena *arena, void *items, size_t count, size_t *capacity,
                     size_t element_bytes)
{
    if (count < *capacity) return items;
    *capacity = *capacity ? 2 * *capacity : 16;
    void *larger = oct_arena_array(arena, *capacity, element_bytes);
    if (count) memcpy(larger, items, count * element_bytes);
    return larger;
}

char *oct_arena_copy(oct_arena *arena, const char *text)
{
    return oct_arena_copy_n(arena, text, strlen(text));
}

char *oct_arena_copy_n(oct_arena *arena, const char *text, size_t bytes)
{
    if (bytes == SIZE_MAX) end_exhausted(1, bytes);
    char *copy = oct_arena_alloc(arena, bytes + 1);
    if (bytes) memcpy(copy, text, bytes);
    return copy;
}

char *oct_arena_print(oct_arena *arena, const char *format, ...)
{
    assert(format);
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    if (length < 0) end_exhausted(1, SIZE_MAX);
    char *text = oct_arena_alloc(arena, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

void oct_arena_deinit(oct_arena *arena)
{
    while (arena->chunks) {
        chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
}
