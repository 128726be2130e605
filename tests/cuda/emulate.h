// SPDX-License-Identifier: Apache-2.0
//
// CUDA on the host, for tests: what kernels/cuda/*.cu need to compile and run as C++.
//
// A grid runs block by block, a block's threads as fibers that switch at barriers and shuffles. So
// a missing barrier shows: a thread runs on before its neighbours have written, and its warp up to
// the next barrier before others have read. Shared memory is filled with NaN before each block,
// every other block and launch runs its threads last to first, and threads that wait for ones that
// have ended, or at a barrier that others do not come to, end the program with a message. Formats
// are converted by CUDA's own headers. Asynchronous copies fill their target with NaN at once and
// arrive when they are waited for.
//
// Shared memory must be declared in functions that are static and no templates.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__ static __attribute__((section("emulated_shared")))

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

void emulate(dim3 grid, dim3 block, const std::function<void()> &thread);

// Where launches go: run at once, unless tests/cuda/emulated_runtime.cpp is linked and has put its
// queues here.
extern void (*emulate_enqueue)(struct CUstream_st *stream, const std::function<void()> &work);

template <typename... Params, typename... Args>
static void launch(void (*kernel)(Params...), size_t grid, unsigned block,
                   struct CUstream_st *stream, Args... args)
{
    if (grid == 0) return;
    emulate_enqueue(stream,
                    [=] { emulate(dim3((unsigned)grid), dim3(block), [=] { kernel(args...); }); });
}

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);

// Give `value` to the warp; returns what lane `from` gave in the same exchange.
uint64_t emulate_exchange(unsigned mask, uint64_t value, unsigned from);

// Give up to EMULATE_GIFT bytes to all of the warp; returns what every lane gave in the same
// exchange, valid until this lane's next but one.
#define EMULATE_GIFT 64
typedef unsigned char emulate_gifts[32][EMULATE_GIFT];
const emulate_gifts &emulate_gather(const void *gift, size_t bytes);

unsigned emulate_lane();

template <typename T> static T emulate_shuffle(unsigned mask, T value, unsigned from)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    word = emulate_exchange(mask, word, from);
    memcpy((void *)&value, &word, sizeof value);
    return value;
}

template <typename T> static T __shfl_xor_sync(unsigned mask, T value, unsigned lane_mask)
{
    return emulate_shuffle(mask, value, emulate_lane() ^ lane_mask);
}

template <typename T> static T __shfl_down_sync(unsigned mask, T value, unsigned delta)
{
    const unsigned lane = emulate_lane(), from = lane + delta;
    return emulate_shuffle(mask, value, from < 32 ? from : lane);
}

// Fibers do not preempt each other: what lies between two switches is atomic.
static inline unsigned atomicMax(unsigned *address, unsigned value)
{
    const unsigned before = *address;
    if (value > before) *address = value;
    return before;
}

template <typename T> static T atomicAdd(T *address, T value)
{
    const T before = *address;
    *address = before + value;
    return before;
}

// ---- The instructions of kernels/cuda/mma.cuh.

void load_matrices(uint32_t (&to)[4], const void *row);
void load_transposed(uint32_t (&to)[4], const void *row);
void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high, __half);
void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high,
                  __nv_bfloat16);
void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high,
                  __nv_fp8_storage_t);
void begin_copy(void *to, const void *from, bool is_there);
void wait_for_copies();
float fast_exp2(float x);
