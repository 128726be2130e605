// SPDX-License-Identifier: Apache-2.0
//
// Fibers by ucontext, one per thread of a block, and their barriers.
#include "tests/cuda/emulate.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

constexpr unsigned THREADS_MAX = 1024, WARP = 32;
constexpr size_t STACK_BYTES = 65536;

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

enum state { READY, AT_BARRIER, AT_EXCHANGE, ENDED };

struct copy {
    void *to;
    const void *from;  // NULL: zeros
};

struct fiber {
    ucontext_t context;
    state at;
    unsigned mask;             // of the exchange
    unsigned exchanges;        // so far
    std::vector<copy> copies;  // on their way
};

struct warp {
    alignas(16)
        emulate_gifts gifts[2];  // alternate: a lane is at most one exchange ahead of another
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
    if (!fibers[current].copies.empty()) fail("a thread ends without waiting for its copies");
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

static const emulate_gifts &exchange(unsigned mask, const void *gift, size_t bytes)
{
    fiber *self = &fibers[current];
    emulate_gifts &gifts = warps[current / WARP].gifts[self->exchanges++ % 2];

    if (!(mask >> emulate_lane() & 1)) fail("a lane is not in the mask of its own exchange");
    self->mask = mask;
    memcpy(gifts[emulate_lane()], gift, bytes);
    wait(AT_EXCHANGE);
    return gifts;
}

uint64_t emulate_exchange(unsigned mask, uint64_t value, unsigned from)
{
    if (!(mask >> from & 1)) fail("a shuffle reads a lane that is not in its mask");
    memcpy(&value, exchange(mask, &value, sizeof value)[from], sizeof value);
    return value;
}

const emulate_gifts &emulate_gather(const void *gift, size_t bytes)
{
    return exchange(0xffffffffu, gift, bytes);
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

// ---- Tensor cores. A row is read when its lane arrives: others may write it only after a barrier.

static const void *in_shared(const void *p)
{
    if ((uintptr_t)p % 16 != 0) fail("not aligned to 16 bytes");
    if ((const char *)p < __start_emulated_shared || (const char *)p >= __stop_emulated_shared)
        fail("not in shared memory");
    return p;
}

static uint32_t two_of(const emulate_gifts &rows, unsigned first, unsigned low_row,
                       unsigned low_column, unsigned high_row, unsigned high_column)
{
    uint16_t low, high;
    memcpy(&low, rows[first + low_row] + 2 * low_column, sizeof low);
    memcpy(&high, rows[first + high_row] + 2 * high_column, sizeof high);
    return (uint32_t)high << 16 | low;
}

void load_matrices(uint32_t (&to)[4], const void *row)
{
    const emulate_gifts &rows = emulate_gather(in_shared(row), 16);
    const unsigned g = emulate_lane() / 4, t = emulate_lane() % 4;
    for (unsigned m = 0; m < 4; m++) to[m] = two_of(rows, 8 * m, g, 2 * t, g, 2 * t + 1);
}

void load_transposed(uint32_t (&to)[4], const void *row)
{
    const emulate_gifts &rows = emulate_gather(in_shared(row), 16);
    const unsigned g = emulate_lane() / 4, t = emulate_lane() % 4;
    for (unsigned m = 0; m < 4; m++) to[m] = two_of(rows, 8 * m, 2 * t, g, 2 * t + 1, g);
}

// One lane's registers of a[16][K] and b[K][8], of numbers that fill K / 8 to a register.
struct fragments {
    uint32_t a[4], b[2];
};
static_assert(sizeof(fragments) <= EMULATE_GIFT, "a lane's fragments are one gift");

static float widened(__half x)
{
    return __half2float(x);
}

static float widened(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

static float widened(__nv_fp8_storage_t code)
{
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
}

template <typename T> static float number_of(uint32_t word, unsigned i)
{
    T x[sizeof word / sizeof(T)];
    memcpy((void *)x, &word, sizeof word);
    return widened(x[i]);
}

template <typename T>
static float product(const emulate_gifts &given, unsigned row, unsigned column)
{
    constexpr unsigned PER_WORD = sizeof(uint32_t) / sizeof(T), HALF = 4 * PER_WORD;
    float sum = 0;
    for (unsigned k = 0; k < 2 * HALF; k++) {
        const unsigned lane = k % HALF / PER_WORD;
        const fragments *a = (const fragments *)given[row % 8 * 4 + lane];
        const fragments *b = (const fragments *)given[column * 4 + lane];
        sum += number_of<T>(a->a[row / 8 + k / HALF * 2], k % PER_WORD) *
               number_of<T>(b->b[k / HALF], k % PER_WORD);
    }
    return sum;
}

template <typename T>
static void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high)
{
    const fragments own = {{a[0], a[1], a[2], a[3]}, {b_low, b_high}};
    const emulate_gifts &given = emulate_gather(&own, sizeof own);
    const unsigned g = emulate_lane() / 4, t = emulate_lane() % 4;
    for (unsigned i = 0; i < 4; i++) c[i] += product<T>(given, g + i / 2 * 8, 2 * t + i % 2);
}

void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high, __half)
{
    multiply<__half>(c, a, b_low, b_high);
}

void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high,
                  __nv_bfloat16)
{
    multiply<__nv_bfloat16>(c, a, b_low, b_high);
}

void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high,
                  __nv_fp8_storage_t)
{
    multiply<__nv_fp8_storage_t>(c, a, b_low, b_high);
}

void begin_copy(void *to, const void *from, bool is_there)
{
    in_shared(to);
    if ((uintptr_t)from % 16 != 0) fail("a copy is not aligned to 16 bytes");
    memset(to, 0xff, 16);
    fibers[current].copies.push_back(copy{to, is_there ? from : nullptr});
}

void wait_for_copies()
{
    for (const copy &c : fibers[current].copies) {
        if (c.from)
            memcpy(c.to, c.from, 16);
        else
            memset(c.to, 0, 16);
    }
    fibers[current].copies.clear();
}

float fast_exp2(float x)
{
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;  // NaN is not below
}
