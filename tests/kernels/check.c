// SPDX-License-Identifier: Apache-2.0
//
// checkkernels: options, the table of checks, buffers, comparison.
#include "tests/kernels/check.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/number.h"

#define REGION_BYTES ((size_t)1 << 20)
#define GUARD_BYTES ((size_t)64)
#define GUARD 0xa5
#define QUIET 0x00400000u  // of a NaN in binary32
#define MISMATCHES_SHOWN 8

const size_t check_sizes[] = {0,  1,  2,  3,  7,   8,   9,   15,  16,  17,  31,   32,   33,
                              63, 64, 65, 95, 127, 128, 129, 191, 255, 257, 1000, 4097, SIZE_MAX};

static const struct {
    const char *name;
    void (*run)(check *t, oct_dtype dtype);
    oct_dtype dtype;
} operations[] = {
    // in the table's order
    {"absmax_f16", check_absmax, OCT_F16},         {"absmax_bf16", check_absmax, OCT_BF16},
    {"absmax_f32", check_absmax, OCT_F32},         {"encode_f16", check_encode, OCT_F16},
    {"encode_bf16", check_encode, OCT_BF16},       {"encode_f32", check_encode, OCT_F32},
    {"encode_e5m2", check_encode_e5m2, OCT_F32},   {"encode_mx_f16", check_encode_mx, OCT_F16},
    {"encode_mx_bf16", check_encode_mx, OCT_BF16}, {"encode_mx_f32", check_encode_mx, OCT_F32},
    {"decode_e4m3", check_decode, OCT_F8_E4M3},    {"widen_f16", check_widen, OCT_F16},
    {"widen_bf16", check_widen, OCT_BF16},
};

static const struct {
    const char *name;
    unsigned features;
} levels[] = {
    {"c", 0},
    {"avx2", OCT_CPU_AVX2},
    {"avx512", OCT_CPU_AVX2 | OCT_CPU_AVX512},
};

typedef void any_fn(void);
_Static_assert(sizeof(oct_kernels) == CHECK_COUNT(operations) * sizeof(any_fn *),
               "every operation in the table has a check");

static uint8_t *input_region, *output_regions[2];

void check_case(check *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(t->what, sizeof t->what, format, args);
    va_end(args);
    t->cases++;
}

static void map_regions(void)
{
    // The page behind the input is there and cannot be touched.
    const size_t page = 65536;  // the largest page size in use
    input_region =
        mmap(NULL, REGION_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    output_regions[0] = malloc(REGION_BYTES);
    output_regions[1] = malloc(REGION_BYTES);
    if (input_region == MAP_FAILED || !output_regions[0] || !output_regions[1] ||
        mprotect(input_region + REGION_BYTES, page, PROT_NONE)) {
        perror("checkkernels");
        exit(3);
    }
}

static void unmap_regions(void)
{
    free(output_regions[1]);
    free(output_regions[0]);
    munmap(input_region, REGION_BYTES + 65536);
}

void *check_input(check *t, size_t bytes, size_t gap)
{
    return input_region + REGION_BYTES - gap - bytes;
}

check_output check_outputs(check *t, size_t bytes, size_t shift)
{
    const size_t used = GUARD_BYTES + shift + bytes + GUARD_BYTES;
    memset(output_regions[0], GUARD, used);
    memset(output_regions[1], GUARD, used);
    return (check_output){output_regions[0] + GUARD_BYTES + shift,
                          output_regions[1] + GUARD_BYTES + shift, bytes};
}

__attribute__((format(printf, 2, 3))) static void report(check *t, const char *format, ...)
{
    if (t->mismatches++ >= MISMATCHES_SHOWN) return;
    va_list args;
    va_start(args, format);
    printf("# %s_%s [%s]: ", t->operation, t->level, t->what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static void check_guards(check *t, check_output out)
{
    const uint8_t *before = (const uint8_t *)out.got - GUARD_BYTES;
    const uint8_t *after = (const uint8_t *)out.got + out.bytes;

    for (size_t i = 0; i < GUARD_BYTES; i++) {
        if (before[i] != GUARD) report(t, "wrote %zu bytes before its output", GUARD_BYTES - i);
        if (after[i] != GUARD) report(t, "wrote %zu bytes behind its output", i + 1);
    }
}

// The bits of element i, to tell what a wrong result came from.
static uint32_t element_bits(oct_dtype dtype, const void *x, size_t i)
{
    if (dtype == OCT_F32) return oct_f32_bits(((const float *)x)[i]);
    if (dtype == OCT_F8_E4M3) return ((const uint8_t *)x)[i];
    return ((const uint16_t *)x)[i];
}

void check_same_bytes(check *t, check_output out, oct_dtype dtype, const void *x)
{
    const uint8_t *got = out.got, *want = out.want;

    check_guards(t, out);
    if (memcmp(got, want, out.bytes) == 0) return;
    for (size_t i = 0; i < out.bytes; i++) {
        if (got[i] != want[i])
            report(t, "y[%zu] is 0x%02x, not 0x%02x, from 0x%" PRIx32, i, got[i], want[i],
                   element_bits(dtype, x, i));
    }
}

void check_same_floats(check *t, check_output out, oct_dtype dtype, const void *x)
{
    const float *got = out.got, *want = out.want;

    check_guards(t, out);
    for (size_t i = 0; i < out.bytes / sizeof *got; i++) {
        const uint32_t g = oct_f32_bits(got[i]), w = oct_f32_bits(want[i]);
        const bool are_nan = got[i] != got[i] && want[i] != want[i];
        if ((g ^ w) & ~(are_nan ? QUIET : 0))
            report(t, "y[%zu] is 0x%08" PRIx32 ", not 0x%08" PRIx32 ", from 0x%" PRIx32, i, g, w,
                   element_bits(dtype, x, i));
    }
}

void check_same_bits(check *t, uint32_t got, uint32_t want)
{
    if (got != want) report(t, "0x%" PRIx32 ", not 0x%" PRIx32, got, want);
}

static const check *running;

// A kernel that leaves its buffers: say which and where, then die of the signal as before.
static void name_crash(int signal_number)
{
    char text[256];
    const int length = snprintf(text, sizeof text, "# %s_%s [%s]: crashed\n", running->operation,
                                running->level, running->what);
    if (write(STDOUT_FILENO, text, (size_t)length) != length) _exit(3);
}

static void watch_crashes(void)
{
    const struct sigaction action = {.sa_handler = name_crash, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

static any_fn *find_function(const oct_kernels *kernels, size_t operation)
{
    any_fn *function;
    memcpy(&function, (const char *)kernels + operation * sizeof function, sizeof function);
    return function;
}

// Whether a level has an implementation of its own.
static bool is_written(size_t operation, size_t level)
{
    oct_kernels own, below;

    if (level == 0) return true;
    oct_kernels_init(&own, levels[level].features);
    oct_kernels_init(&below, levels[level - 1].features);
    return find_function(&own, operation) != find_function(&below, operation);
}

static bool has_features(size_t level)
{
    return (levels[level].features & ~oct_cpu_features()) == 0;
}

static void list(void)
{
    printf("%-16s", "operation");
    for (size_t level = 0; level < CHECK_COUNT(levels); level++)
        printf("%s%s", levels[level].name, level + 1 < CHECK_COUNT(levels) ? "\t" : "\n");
    for (size_t i = 0; i < CHECK_COUNT(operations); i++) {
        printf("%-16s", operations[i].name);
        for (size_t level = 0; level < CHECK_COUNT(levels); level++) {
            const char *answer = has_features(level) ? "yes" : "not here";
            printf("%s%s", is_written(i, level) ? answer : "-",
                   level + 1 < CHECK_COUNT(levels) ? "\t" : "\n");
        }
    }
}

typedef struct options {
    uint64_t seed;
    const char *filter;
    bool is_bench;
} options;

static uint64_t hash_name(const char *name)
{
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    return hash;
}

// Returns whether the implementation is right.
static bool run_check(size_t operation, size_t level, const options *o)
{
    oct_kernels got, c;
    oct_kernels_init(&got, levels[level].features);
    oct_kernels_init(&c, 0);
    check t = {
        .operation = operations[operation].name,
        .level = levels[level].name,
        .want = level == 0 ? &check_reference : &c,
        .got = &got,
        .state = o->seed ^ hash_name(operations[operation].name),
        .is_bench = o->is_bench,
    };

    running = &t;
    operations[operation].run(&t, operations[operation].dtype);
    if (t.mismatches > MISMATCHES_SHOWN)
        printf("# %s_%s: %u more\n", t.operation, t.level, t.mismatches - MISMATCHES_SHOWN);
    return t.mismatches == 0;
}

static int run_all(const options *o)
{
    unsigned count = 0, failed = 0;

    printf("# seed %" PRIu64 "\n", o->seed);
    for (size_t i = 0; i < CHECK_COUNT(operations); i++) {
        for (size_t level = 0; level < CHECK_COUNT(levels); level++) {
            char name[64];
            snprintf(name, sizeof name, "%s_%s", operations[i].name, levels[level].name);
            if (!is_written(i, level) || (o->filter && !strstr(name, o->filter))) continue;

            count++;
            const bool is_here = has_features(level);
            const bool is_right = !is_here || run_check(i, level, o);
            failed += !is_right;
            if (o->is_bench && is_right) continue;
            printf("%s %u - %s%s\n", is_right ? "ok" : "not ok", count, name,
                   is_here ? "" : " # SKIP not on this processor");
            fflush(stdout);
        }
    }
    if (!o->is_bench) printf("1..%u\n", count);
    return failed > 0;
}

static void print_help(void)
{
    puts("checkkernels compares every implementation of every kernel with its reference.\n"
         "\n"
         "  --seed N       of the random inputs (default: from the clock; always printed)\n"
         "  --filter TEXT  only names that contain TEXT, as in encode_f16_avx2\n"
         "  --bench        also time what was found right\n"
         "  --list         print the operation x level matrix\n"
         "  --help");
}

int main(int argc, char **argv)
{
    options o = {.seed = (uint64_t)time(NULL)};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) return print_help(), 0;
        if (strcmp(argv[i], "--list") == 0) return list(), 0;
        if (strcmp(argv[i], "--bench") == 0) {
            o.is_bench = true;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            o.seed = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc) {
            o.filter = argv[++i];
        } else {
            fprintf(stderr, "checkkernels: cannot use '%s'\nTry 'checkkernels --help'.\n", argv[i]);
            return 2;
        }
    }
    map_regions();
    watch_crashes();
    const int code = run_all(&o);
    unmap_regions();
    return code;
}
