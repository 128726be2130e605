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

// ---- Tensor cores: kernels/cuda/mma.cuh.

// Small whole numbers, so that products are exact.
static float number_at(unsigned row, unsigned column)
{
    return (float)(row * 7 + column * 13 + row * column % 5) - 100;
}

static uint32_t two_halves(float low, float high)
{
    const __half2 both = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, sizeof bits);
    return bits;
}

// Element i of a lane's fragments lies, says PTX, in
//   a[16][16]  row g, or g + 8 where i % 4 > 1; column 2t + i % 2, and 8 more from i = 4
//   b[16][8]   row 2t + i % 2, and 8 more from i = 2; column g
//   c[16][8]   row g, and 8 more from i = 2; column 2t + i % 2
__global__ static void multiply_fragments(float *c)
{
    const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    uint32_t a[4], b[2];
    float sum[4];
    for (unsigned i = 0; i < 8; i += 2) {
        const unsigned row = g + (i % 4 > 1 ? 8 : 0), column = 2 * t + (i >= 4 ? 8 : 0);
        a[i / 2] = two_halves(number_at(row, column), number_at(row, column + 1));
    }
    for (unsigned i = 0; i < 4; i += 2) {
        const unsigned row = 2 * t + (i >= 2 ? 8 : 0);
        b[i / 2] = two_halves(number_at(row, g), number_at(row + 1, g));
    }
    for (unsigned i = 0; i < 4; i++) sum[i] = 1000;
    multiply_add(sum, a, b[0], b[1], __half());
    for (unsigned i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// c[16][8] against 1000 + a b.
static unsigned count_wrong_products(const float *c)
{
    unsigned wrong = 0;
    for (unsigned row = 0; row < 16; row++) {
        for (unsigned column = 0; column < 8; column++) {
            float sum = 1000;
            for (unsigned k = 0; k < 16; k++) sum += number_at(row, k) * number_at(k, column);
            wrong += c[row * 8 + column] != sum;
        }
    }
    return wrong;
}

static void a_warp_multiplies_the_fragments_of_ptx()
{
    float c[16 * 8];
    launch(multiply_fragments, 1, 32, nullptr, c);
    CHECK(count_wrong_products(c) == 0);
}

struct matrices {
    alignas(16) __half a[4][8][8], b[4][8][8];
};

__device__ static matrices *shared_matrices()
{
    __shared__ matrices both;
    return &both;
}

// a as four matrices, b[k][n] as its upper and lower half.
__global__ static void multiply_loaded(float *c)
{
    matrices *m = shared_matrices();
    const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
    for (unsigned i = lane; i < 256; i += 32) {
        const unsigned matrix = i / 64, row = i / 8 % 8, column = i % 8;
        m->a[matrix][row][column] = number_at(row + matrix % 2 * 8, column + matrix / 2 * 8);
        m->b[matrix][row][column] = number_at(row + matrix * 8, column);
    }
    __syncwarp();
    uint32_t a[4], b[4];
    float sum[4] = {1000, 1000, 1000, 1000};
    load_matrices(a, m->a[lane / 8][lane % 8]);
    load_transposed(b, m->b[lane / 8][lane % 8]);
    multiply_add(sum, a, b[0], b[1], __half());
    for (unsigned i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

static void matrices_of_shared_memory_load_as_fragments()
{
    float c[16 * 8];
    launch(multiply_loaded, 1, 32, nullptr, c);
    CHECK(count_wrong_products(c) == 0);
}

__device__ static uint4 *shared_words()
{
    __shared__ uint4 words[2];
    return words;
}

__global__ static void copy_and_wait(const uint4 *from, uint4 *before, uint4 *after)
{
    uint4 *words = shared_words();
    begin_copy(words, from, true);
    begin_copy(words + 1, from + 1, false);
    memcpy(before, words, 32);
    wait_for_copies();
    memcpy(after, words, 32);
}

static void copies_arrive_when_they_are_waited_for()
{
    const uint4 from[2] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
    uint4 before[2], after[2];
    launch(copy_and_wait, 1, 1, nullptr, from, before, after);
    CHECK(before[0].x == 0xffffffffu && before[1].w == 0xffffffffu);
    CHECK(after[0].x == 1 && after[0].w == 4 && after[1].x == 0 && after[1].w == 0);
}

__global__ static void copy_without_waiting(unsigned)
{
    alignas(16) static const uint4 zeros = {0, 0, 0, 0};
    begin_copy(shared_words(), &zeros, true);
}

__global__ static void load_unaligned(unsigned bytes)
{
    uint32_t to[4];
    load_matrices(to, (const char *)shared_words() + bytes);
}

__global__ static void load_from_elsewhere(unsigned)
{
    alignas(16) static const char row[16] = {};
    uint32_t to[4];
    load_matrices(to, row);
}

static void misused_instructions_end_the_program()
{
    CHECK(ends(copy_without_waiting, 0));
    CHECK(ends(load_unaligned, 8));
    CHECK(ends(load_from_elsewhere, 0));
    CHECK(!ends(load_unaligned, 16));
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
    RUN(a_warp_multiplies_the_fragments_of_ptx);
    RUN(matrices_of_shared_memory_load_as_fragments);
    RUN(copies_arrive_when_they_are_waited_for);
    RUN(misused_instructions_end_the_program);
    return test_end();
}
