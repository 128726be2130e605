// SPDX-License-Identifier: Apache-2.0
//
// How fast a kernel is, beside a memcpy that moves as many bytes (read and written together) on
// the same buffers. Both are timed in turns, so that a disturbance hits both.
#include "tests/kernels/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/number.h"

#define SAMPLES 11
#define CACHE_NUMBERS ((size_t)64 << 10)   // 128 KiB of F16 and as much or less of output: in L2
#define MEMORY_NUMBERS ((size_t)48 << 20)  // beyond any last-level cache
#define SAMPLE_NS_MIN 300000.0             // the clock and the call no longer count

typedef struct timing {
    double gb_per_s, spread_percent, copy_percent;
} timing;

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct subject {
    const check *t;
    oct_dtype dtype;
    check_call *call;
    void *y;
    const void *x;
    size_t n, input_bytes, output_bytes;
} subject;

static double time_calls(const subject *s, unsigned repeats)
{
    const double start = now_ns();
    for (unsigned i = 0; i < repeats; i++) s->call(s->t->got, s->dtype, s->y, s->x, s->n);
    return (now_ns() - start) / repeats;
}

// Half of the bytes that the kernel moves read, as many written.
static double time_copies(const subject *s, unsigned repeats)
{
    const size_t half = (s->input_bytes + s->output_bytes) / 2;
    const double start = now_ns();
    for (unsigned i = 0; i < repeats; i++) {
        memcpy(s->y, s->x, half);
        __asm__ volatile("" : : "r"(s->y) : "memory");  // or the compiler would drop all but one
    }
    return (now_ns() - start) / repeats;
}

static timing measure(const subject *s)
{
    double call[SAMPLES], copy[SAMPLES];
    const double once = time_calls(s, 1);
    const unsigned repeats = once < SAMPLE_NS_MIN ? (unsigned)(SAMPLE_NS_MIN / once) + 1 : 1;

    for (int i = 0; i < SAMPLES; i++) {
        call[i] = time_calls(s, repeats);
        copy[i] = time_copies(s, repeats);
    }
    qsort(call, SAMPLES, sizeof *call, compare_doubles);
    qsort(copy, SAMPLES, sizeof *copy, compare_doubles);
    const double median = call[SAMPLES / 2];
    const double quartiles = call[SAMPLES * 3 / 4] - call[SAMPLES / 4];
    return (timing){(double)s->input_bytes / median, 50 * quartiles / median,
                    100 * copy[SAMPLES / 2] / median};
}

static timing bench(check *t, oct_dtype dtype, size_t n, size_t output_bytes_each, check_call *call)
{
    const size_t input_bytes = n * (oct_dtype_bits(dtype) / 8);
    const size_t output_bytes = n * output_bytes_each;
    const size_t room = (input_bytes > output_bytes ? input_bytes : output_bytes) + 64;
    uint16_t *x = aligned_alloc(64, room);
    uint8_t *y = aligned_alloc(64, room);

    if (!x || !y) {
        fprintf(stderr, "checkkernels: out of memory for 2 x %zu bytes\n", room);
        exit(3);
    }
    // Finite in every type, and of every E4M3 code once divided.
    for (size_t i = 0; i < room / 2; i++) x[i] = oct_f32_to_bf16((float)((int)(i % 4001) - 2000));
    memset(y, 0, room);
    const subject s = {t, dtype, call, y, x, n, input_bytes, output_bytes};
    const timing result = measure(&s);
    free(y);
    free(x);
    return result;
}

void check_bench(check *t, oct_dtype dtype, size_t output_bytes_each, check_call *call)
{
    static bool has_header;

    if (!t->is_bench || t->mismatches) return;
    if (!has_header) {
        printf("GB/s of input, half the interquartile range, and percent of a copy of the bytes "
               "moved\n%-21s %28s %28s\n",
               "", "in cache", "from memory");
        has_header = true;
    }
    const timing cache = bench(t, dtype, CACHE_NUMBERS, output_bytes_each, call);
    const timing memory = bench(t, dtype, MEMORY_NUMBERS, output_bytes_each, call);
    printf("%12s_%-8s %9.2f +-%4.1f%% %5.0f%% copy %9.2f +-%4.1f%% %5.0f%% copy\n", t->operation,
           t->level, cache.gb_per_s, cache.spread_percent, cache.copy_percent, memory.gb_per_s,
           memory.spread_percent, memory.copy_percent);
    fflush(stdout);
}
