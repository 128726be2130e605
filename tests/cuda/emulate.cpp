// SPDX-License-Identifier: Apache-2.0
//
// Fibers by ucontext, one per thread of a block, and their barriers.
#include "tests/cuda/emulate.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <ucontext.h>

constexpr unsigned THREADS_MAX = 1024, WARP = 32;
constexpr size_t STACK_BYTES = 65536;

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

enum state { READY, AT_BARRIER, AT_EXCHANGE, ENDED };

struct fiber {
    ucontext_t context;
    state at;
    unsigned mask;       // of the exchange
    unsigned exchanges;  // so far
};

struct warp {
    uint64_t words[2][WARP];  // alternate: a lane is at most one exchange ahead of another
};

static fiber fibers[THREADS_MAX];
static warp warps[THREADS_MAX / WARP];
static ucontext_t scheduler;
static unsigned current, n_threads;
static const std::function<void()> *body;
static char *stacks;

// The section of all shared memory; absent where nothing is shared.
extern "C" char __start_emulated_shared[] __attribute__((weak));
extern "C" char __stop_emulated_shared[] __attribute__((weak));

__attribute__((noreturn)) static void fail(const char *reason)
{
    printf("Bail out! emulation: %s (block %u, thread %u)\n", reason, blockIdx.x, current);
    fflush(stdout);
    _Exit(3);
}

static void wait(state at)
{
    fibers[current].at = at;
    swapcontext(&fibers[current].context, &scheduler);
}

static void run_thread()
{
    (*body)();
    wait(ENDED);
}

void __syncthreads()
{
    wait(AT_BARRIER);
}

unsigned emulate_lane()
{
    return current % WARP;
}

uint64_t emulate_exchange(unsigned mask, uint64_t value, unsigned from)
{
    fiber *self = &fibers[current];
    uint64_t *words = warps[current / WARP].words[self->exchanges++ % 2];

    if (!(mask >> emulate_lane() & 1)) fail("a lane is not in the mask of its own exchange");
    if (!(mask >> from & 1)) fail("a shuffle reads a lane that is not in its mask");
    self->mask = mask;
    words[emulate_lane()] = value;
    wait(AT_EXCHANGE);
    return words[from];
}

void __syncwarp(unsigned mask)
{
    emulate_exchange(mask, 0, emulate_lane());
}

static bool is_complete(unsigned first, unsigned mask)
{
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        if (first + lane >= n_threads) fail("an exchange waits for a thread that does not exist");
        const fiber *other = &fibers[first + lane];
        if (other->at == ENDED) fail("an exchange waits for a thread that has ended");
        if (other->at != AT_EXCHANGE || other->mask != mask) return false;
    }
    return true;
}

// Let the lanes of a warp go on whose exchange is complete.
static bool release_exchanges(unsigned first)
{
    bool released = false;
    for (unsigned thread = first; thread < first + WARP && thread < n_threads; thread++) {
        const unsigned mask = fibers[thread].mask;
        if (fibers[thread].at != AT_EXCHANGE || !is_complete(first, mask)) continue;
        for (unsigned lane = 0; lane < WARP; lane++)
            if (mask >> lane & 1) fibers[first + lane].at = READY;
        released = true;
    }
    return released;
}

static bool release_barrier()
{
    for (unsigned thread = 0; thread < n_threads; thread++)
        if (fibers[thread].at != AT_BARRIER) return false;
    for (unsigned thread = 0; thread < n_threads; thread++) fibers[thread].at = READY;
    return true;
}

static bool has_ended()
{
    for (unsigned thread = 0; thread < n_threads; thread++)
        if (fibers[thread].at != ENDED) return false;
    return true;
}

static void start_fiber(unsigned thread)
{
    fiber *f = &fibers[thread];
    f->at = READY;
    f->exchanges = 0;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stacks + thread * STACK_BYTES;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = nullptr;
    makecontext(&f->context, run_thread, 0);
}

// As far as it goes without the others, so that what they have not read yet is overwritten.
static void run_warp(unsigned first, bool is_reversed)
{
    const unsigned lanes = n_threads - first < WARP ? n_threads - first : WARP;
    do {
        for (unsigned i = 0; i < lanes; i++) {
            current = first + (is_reversed ? lanes - 1 - i : i);
            if (fibers[current].at != READY) continue;
            threadIdx = uint3{current, 0, 0};
            swapcontext(&scheduler, &fibers[current].context);
        }
    } while (release_exchanges(first));
}

static void run_block(bool is_reversed)
{
    const size_t shared = (size_t)(__stop_emulated_shared - __start_emulated_shared);
    const unsigned n_warps = (n_threads + WARP - 1) / WARP;

    if (shared > 0) memset(__start_emulated_shared, 0xff, shared);
    for (unsigned thread = 0; thread < n_threads; thread++) start_fiber(thread);
    do {
        for (unsigned i = 0; i < n_warps; i++)
            run_warp((is_reversed ? n_warps - 1 - i : i) * WARP, is_reversed);
    } while (release_barrier());
    if (!has_ended()) fail("some threads wait, the others do not come");
}

static void run_at_once(struct CUstream_st *, const std::function<void()> &work)
{
    work();
}

void (*emulate_enqueue)(struct CUstream_st *, const std::function<void()> &) = run_at_once;

void emulate(dim3 grid, dim3 block, const std::function<void()> &thread)
{
    static unsigned launches;

    if (block.x == 0 || block.x > THREADS_MAX || block.y * block.z != 1 || grid.y * grid.z != 1)
        fail("only one-dimensional grids of at most 1024 threads a block");
    if (!stacks) {
        stacks = (char *)mmap(nullptr, THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stacks == MAP_FAILED) fail("no memory for stacks");
    }
    gridDim = grid;
    blockDim = block;
    n_threads = block.x;
    body = &thread;
    launches++;
    for (unsigned i = 0; i < grid.x; i++) {
        blockIdx = uint3{i, 0, 0};
        run_block((launches + i) % 2 == 0);
    }
}
