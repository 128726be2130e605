// SPDX-License-Identifier: Apache-2.0
//
// The emulation shows the mistakes that it is there for.
#include "tests/cuda/emulate.h"

#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

constexpr unsigned N = 64;

__device__ static void reverse(int *out, const int *in, bool has_barrier)
{
    __shared__ int words[N];
    words[threadIdx.x] = in[blockIdx.x * N + threadIdx.x];
    if (has_barrier) __syncthreads();
    out[blockIdx.x * N + threadIdx.x] = words[N - 1 - threadIdx.x];
}

__global__ static void reverse_blocks(int *out, const int *in, bool has_barrier)
{
    reverse(out, in, has_barrier);
}

static unsigned count_wrong(unsigned blocks, bool has_barrier)
{
    int in[4 * N], out[4 * N];
    unsigned wrong = 0;
    for (unsigned i = 0; i < 4 * N; i++) in[i] = (int)i;
    launch(reverse_blocks, blocks, N, nullptr, out, (const int *)in, has_barrier);
    for (unsigned i = 0; i < blocks * N; i++) wrong += out[i] != in[i / N * N + N - 1 - i % N];
    return wrong;
}

static void barriers_order_shared_memory()
{
    CHECK(count_wrong(4, true) == 0);
}

static void a_missing_barrier_gives_wrong_numbers_in_every_block()
{
    CHECK(count_wrong(4, false) == 4 * N / 2);
    CHECK(count_wrong(1, false) == N / 2);
    CHECK(count_wrong(1, false) == N / 2);
}

__device__ static void announce_twice(float *out, bool has_barrier)
{
    __shared__ float total;
    for (unsigned round = 0; round < 2; round++) {
        if (has_barrier) __syncthreads();  // the round before has been read
        if (threadIdx.x == 0) total = (float)round;
        __syncthreads();
        out[round * N + threadIdx.x] = total;
    }
}

__global__ static void broadcast_twice(float *out, bool has_barrier)
{
    announce_twice(out, has_barrier);
}

static void a_warp_overwrites_what_others_have_not_read()
{
    float out[2 * N];
    unsigned wrong = 0;
    launch(broadcast_twice, 1, N, nullptr, out, true);
    for (unsigned i = 0; i < 2 * N; i++) CHECK(out[i] == (float)(i / N));
    for (unsigned launches = 0; launches < 2; launches++) {
        launch(broadcast_twice, 1, N, nullptr, out, false);
        for (unsigned i = 0; i < 2 * N; i++) wrong += out[i] != (float)(i / N);
    }
    CHECK(wrong > 0);
}

__global__ static void sum_lanes(float *out)
{
    float x = (float)threadIdx.x;
    for (unsigned lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    out[threadIdx.x] = x;
}

static void butterflies_sum_each_warp()
{
    float out[96];
    launch(sum_lanes, 1, 96, nullptr, out);
    for (unsigned i = 0; i < 96; i++) CHECK(out[i] == 496.0f + 1024.0f * (float)(i / 32));
}

__global__ static void shift_down(double *out)
{
    out[threadIdx.x] = __shfl_down_sync(0xffffffffu, (double)threadIdx.x, 4);
}

static void lanes_without_a_source_keep_their_own()
{
    double out[32];
    launch(shift_down, 1, 32, nullptr, out);
    for (unsigned i = 0; i < 32; i++) CHECK(out[i] == (i < 28 ? i + 4 : i));
}

__global__ static void raise_all(unsigned *max)
{
    atomicMax(max, blockIdx.x * 32 + threadIdx.x);
}

static void atomics_of_all_blocks_meet()
{
    unsigned max = 0;
    launch(raise_all, 3, 32, nullptr, &max);
    CHECK(max == 95);
}

__global__ static void part_of_a_barrier(unsigned threads)
{
    if (threadIdx.x < threads) __syncthreads();
}

__global__ static void part_of_a_warp(unsigned lanes)
{
    if (threadIdx.x < lanes) __shfl_xor_sync(0xffffffffu, 1, 1);
}

__global__ static void barrier_against_shuffle(unsigned lanes)
{
    if (threadIdx.x < lanes)
        __syncthreads();
    else
        __shfl_xor_sync(0xffffffffu, 1, 1);
}

static bool ends(void (*kernel)(unsigned), unsigned argument)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(1);
        launch(kernel, 1, 64, nullptr, argument);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 3;
}

static void threads_that_never_come_end_the_program()
{
    CHECK(ends(part_of_a_barrier, 40));
    CHECK(ends(part_of_a_warp, 40));
    CHECK(ends(barrier_against_shuffle, 16));
    CHECK(!ends(part_of_a_barrier, 64));
    CHECK(!ends(part_of_a_warp, 64));
    CHECK(!ends(part_of_a_warp, 32));
}

__device__ static float read_shared()
{
    __shared__ float words[N];
    const float before = words[threadIdx.x];
    words[threadIdx.x] = 1;
    return before;
}

__global__ static void read_before_writing(float *out)
{
    out[blockIdx.x * N + threadIdx.x] = read_shared();
}

static void shared_memory_begins_as_nan()
{
    float out[2 * N];
    launch(read_before_writing, 2, N, nullptr, out);
    for (unsigned i = 0; i < 2 * N; i++) CHECK(isnan(out[i]));
}

int main(void)
{
    RUN(barriers_order_shared_memory);
    RUN(a_missing_barrier_gives_wrong_numbers_in_every_block);
    RUN(a_warp_overwrites_what_others_have_not_read);
    RUN(butterflies_sum_each_warp);
    RUN(lanes_without_a_source_keep_their_own);
    RUN(atomics_of_all_blocks_meet);
    RUN(threads_that_never_come_end_the_program);
    RUN(shared_memory_begins_as_nan);
    return test_end();
}
