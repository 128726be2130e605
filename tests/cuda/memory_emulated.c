// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)65536)  // the largest page size in use
#define GUARD 0xa5
#define GUARD_BYTES ((size_t)512)  // before a buffer; up to 15 behind it
#define BUFFERS_MAX 32

typedef struct buffer {
    uint8_t *map, *end;  // an unreadable page begins at `end`
    uint8_t *data;
    size_t bytes;
} buffer;

static buffer buffers[BUFFERS_MAX];
static size_t n_buffers;

const char *memory_open(void)
{
    puts("# emulated on the host");
    return NULL;
}

void *memory_new(size_t bytes)
{
    const size_t padded = (bytes + 15) / 16 * 16;
    const size_t readable = (GUARD_BYTES + padded + PAGE - 1) / PAGE * PAGE;
    uint8_t *map =
        mmap(NULL, readable + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (n_buffers == BUFFERS_MAX || map == MAP_FAILED ||
        mprotect(map + readable, PAGE, PROT_NONE)) {
        fputs("no memory for a buffer\n", stderr);
        exit(3);
    }
    const buffer b = {map, map + readable, map + readable - padded, bytes};
    memset(b.data - GUARD_BYTES, GUARD, GUARD_BYTES + padded);
    buffers[n_buffers++] = b;
    return b.data;
}

void memory_write(void *to, const void *from, size_t bytes)
{
    if (bytes > 0) memcpy(to, from, bytes);
}

const char *memory_read(void *to, const void *from, size_t bytes)
{
    if (bytes > 0) memcpy(to, from, bytes);
    return NULL;
}

static bool is_guard(const uint8_t *from, const uint8_t *to)
{
    for (; from < to; from++) {
        if (*from != GUARD) return false;
    }
    return true;
}

bool memory_is_intact(void)
{
    for (size_t i = 0; i < n_buffers; i++) {
        const buffer *b = &buffers[i];
        if (!is_guard(b->data - GUARD_BYTES, b->data) || !is_guard(b->data + b->bytes, b->end))
            return false;
    }
    return true;
}

void memory_release(void)
{
    for (size_t i = 0; i < n_buffers; i++)
        munmap(buffers[i].map, (size_t)(buffers[i].end - buffers[i].map) + PAGE);
    n_buffers = 0;
}
