// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/memory.h"

#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 0xa5
#define GUARD_BYTES ((size_t)4096)
#define BUFFERS_MAX 32

typedef struct buffer {
    uint8_t *base;
    size_t bytes;
} buffer;

static buffer buffers[BUFFERS_MAX];
static size_t n_buffers;

static void must(cudaError_t error)
{
    if (!error) return;
    printf("Bail out! %s\n", cudaGetErrorString(error));
    exit(3);
}

const char *memory_open(void)
{
    struct cudaDeviceProp properties;
    int n = 0;

    const cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice)
        return cudaGetErrorString(error);
    must(error);
    if (n == 0) return "no CUDA-capable device is detected";
    must(cudaGetDeviceProperties(&properties, 0));
    printf("# on %s, sm_%d%d\n", properties.name, properties.major, properties.minor);
    return NULL;
}

void *memory_new(size_t bytes)
{
    buffer b = {.bytes = bytes};

    if (n_buffers == BUFFERS_MAX) must(cudaErrorMemoryAllocation);
    must(cudaMalloc((void **)&b.base, GUARD_BYTES + bytes + GUARD_BYTES));
    must(cudaMemset(b.base, GUARD, GUARD_BYTES + bytes + GUARD_BYTES));
    buffers[n_buffers++] = b;
    return b.base + GUARD_BYTES;
}

void memory_write(void *to, const void *from, size_t bytes)
{
    must(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

const char *memory_read(void *to, const void *from, size_t bytes)
{
    cudaError_t error = cudaGetLastError();  // a bad launch shows nowhere else
    if (!error) error = cudaDeviceSynchronize();
    if (error) return cudaGetErrorString(error);
    must(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
    return NULL;
}

static bool is_guard(const uint8_t *device)
{
    uint8_t bytes[GUARD_BYTES], guard[GUARD_BYTES];
    memset(guard, GUARD, sizeof guard);
    must(cudaMemcpy(bytes, device, sizeof bytes, cudaMemcpyDeviceToHost));
    return memcmp(bytes, guard, sizeof bytes) == 0;
}

bool memory_is_intact(void)
{
    for (size_t i = 0; i < n_buffers; i++) {
        const buffer *b = &buffers[i];
        if (!is_guard(b->base) || !is_guard(b->base + GUARD_BYTES + b->bytes)) return false;
    }
    return true;
}

void memory_release(void)
{
    for (size_t i = 0; i < n_buffers; i++) must(cudaFree(buffers[i].base));
    n_buffers = 0;
}
