// SPDX-License-Identifier: Apache-2.0
//
// checkcuda: options, the table of checks, buffers, comparison.
#include "tests/cuda/check_cuda.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/number.h"
#include "tests/cuda/memory.h"

#define MISMATCHES_SHOWN 8
#define HOST_MAX 64

const oct_dtype cuda_floats[3] = {OCT_F32, OCT_F16, OCT_BF16};
const oct_dtype cuda_sinks[4] = {OCT_F32, OCT_F16, OCT_BF16, OCT_F8_E4M3};
const size_t cuda_sizes[] = {0,   1,   2,    7,    8,    9,    15,   31,    33,      63,
                             255, 257, 1000, 2047, 2048, 2049, 4097, 10007, SIZE_MAX};

static const struct {
    const char *name;
    void (*run)(cuda_check *t);
} operations[] = {
    {"observe", check_cuda_observe},
    {"count_exponents", check_cuda_count_exponents},
    {"square_sums", check_cuda_square_sums},
    {"convert", check_cuda_convert},
    {"decode", check_cuda_decode},
    {"layer_norm_modulate", check_cuda_layer_norm_modulate},
    {"layer_norm_affine", check_cuda_layer_norm},
    {"rms_norm", check_cuda_rms_norm},
    {"activate", check_cuda_activate},
    {"activate_gated", check_cuda_activate_gated},
    {"add_gated", check_cuda_add_gated},
    {"add", check_cuda_add},
    {"transpose", check_cuda_transpose},
    {"upsample2", check_cuda_upsample2},
    {"split_heads", check_cuda_split_heads},
    {"joint_attention", check_cuda_joint_attention},
    {"encoded_attention", check_cuda_encoded_attention},
    {"plain_attention", check_cuda_plain_attention},
    {"patchify", check_cuda_patchify},
    {"unpatchify", check_cuda_unpatchify},
    {"group_norm", check_cuda_group_norm},
    {"embed", check_cuda_embed},
    {"sampler_step", check_cuda_sampler_step},
    {"conv_direct", check_cuda_conv_direct},
    {"conv_bias", check_cuda_conv_bias},
    {"gemm_finish", check_cuda_gemm_finish},
    {"fill", check_cuda_fill},
};

static void *host_buffers[HOST_MAX];
static size_t n_host_buffers;
static cuda_check *running;

static void release(void)
{
    for (size_t i = 0; i < n_host_buffers; i++) free(host_buffers[i]);
    n_host_buffers = 0;
    memory_release();
}

void cuda_report(cuda_check *t, const char *format, ...)
{
    if (t->mismatches++ >= MISMATCHES_SHOWN) return;
    va_list args;
    va_start(args, format);
    printf("# %s [%s]: ", t->operation, t->what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void cuda_case(cuda_check *t, const char *format, ...)
{
    va_list args;
    release();
    va_start(args, format);
    vsnprintf(t->what, sizeof t->what, format, args);
    va_end(args);
}

void *cuda_host(size_t bytes)
{
    void *buffer = n_host_buffers < HOST_MAX ? calloc(bytes + 1, 1) : NULL;
    if (!buffer) {
        fputs("no memory for a buffer\n", stderr);
        exit(3);
    }
    return host_buffers[n_host_buffers++] = buffer;
}

void *cuda_copy(const void *host, size_t bytes)
{
    void *device = memory_new(bytes);
    memory_write(device, host, bytes);
    return device;
}

const float *cuda_scalar(float value)
{
    return cuda_copy(&value, sizeof value);
}

void cuda_read(cuda_check *t, void *host, const void *device, size_t bytes)
{
    const char *error = memory_read(host, device, bytes);
    if (error) {
        printf("Bail out! %s [%s]: %s\n", t->operation, t->what, error);
        exit(3);
    }
    if (!memory_is_intact()) cuda_report(t, "wrote outside its buffers");
}

size_t cuda_bytes(oct_dtype dtype, size_t n)
{
    return oct_dtype_bits(dtype) / 8 * n;
}

void *cuda_fill(cuda_check *t, check_pattern pattern, oct_dtype dtype, size_t n, float scale)
{
    void *x = cuda_host(cuda_bytes(dtype, n));
    check_fill(&t->fill, pattern, dtype, x, n, scale);
    return x;
}

float *cuda_uniform(cuda_check *t, size_t n, float largest)
{
    return cuda_fill(t, CHECK_UNIFORM, OCT_F32, n, largest / 448);
}

float *cuda_widened(oct_dtype dtype, const void *host, size_t n)
{
    float *wide = cuda_host(n * sizeof *wide);
    oct_widen(wide, dtype, host, n);
    return wide;
}

void *cuda_narrowed(oct_dtype dtype, const float *x, size_t n)
{
    float *floats = cuda_host(n * sizeof *floats);
    uint16_t *halves = (uint16_t *)floats;

    for (size_t i = 0; i < n; i++) {
        if (dtype == OCT_F32)
            floats[i] = x[i];
        else
            halves[i] = dtype == OCT_F16 ? oct_f32_to_f16(x[i]) : oct_f32_to_bf16(x[i]);
    }
    return floats;
}

cuda_target cuda_new_target(cuda_check *t, oct_dtype dtype, size_t n, float scale)
{
    const uint32_t zero = 0;
    return (cuda_target){
        .sink = {.data = memory_new(cuda_bytes(dtype, n)),
                 .dtype = dtype,
                 .scale = dtype == OCT_F8_E4M3 ? cuda_scalar(scale) : NULL,
                 .peak = cuda_copy(&zero, sizeof zero)},
        .scale = scale,
        .n = n,
    };
}

// As the sink stores it, widened again; E4M3 without the scale.
static float stored(oct_dtype dtype, float x, float scale)
{
    switch (dtype) {
    case OCT_F16:
        return oct_f16_to_f32(oct_f32_to_f16(x));
    case OCT_BF16:
        return oct_bf16_to_f32(oct_f32_to_bf16(x));
    case OCT_F8_E4M3:
        return oct_e4m3_to_f32(oct_f32_to_e4m3(x / scale));
    default:
        return x;
    }
}

static void compare(cuda_check *t, size_t i, float got, float low, float high)
{
    if (isnan(got) && isnan(low)) return;
    const bool same =
        oct_f32_bits(low) == oct_f32_bits(high) && oct_f32_bits(got) == oct_f32_bits(low);
    const bool within = oct_f32_bits(low) != oct_f32_bits(high) && got >= low && got <= high;
    if (!same && !within) cuda_report(t, "y[%zu] is %.9g, not %.9g .. %.9g", i, got, low, high);
}

static void compare_peak(cuda_check *t, const cuda_target *target, const float *want,
                         const float *bound)
{
    uint32_t bits, low = 0, high = 0;

    cuda_read(t, &bits, target->sink.peak, sizeof bits);
    for (size_t i = 0; i < target->n; i++) {
        const float b = bound ? bound[i] : 0, magnitude = fabsf(want[i]);
        const uint32_t least = oct_f32_bits(fmaxf(magnitude - b, 0)),
                       most = oct_f32_bits(magnitude + b);
        if (least > low) low = least;
        if (most > high) high = most;
    }
    if (bits > 0x7f800000u && high > 0x7f800000u) return;
    if (bits < low || bits > high)
        cuda_report(t, "the peak is 0x%" PRIx32 ", not 0x%" PRIx32 " .. 0x%" PRIx32, bits, low,
                    high);
}

void cuda_check_target(cuda_check *t, const cuda_target *target, const float *want,
                       const float *bound)
{
    const oct_dtype dtype = target->sink.dtype;
    const size_t bytes = cuda_bytes(dtype, target->n);
    void *data = cuda_host(bytes);

    cuda_read(t, data, target->sink.data, bytes);
    const float *got = cuda_widened(dtype, data, target->n);
    for (size_t i = 0; i < target->n; i++) {
        const float b = bound ? bound[i] : 0;
        compare(t, i, got[i], stored(dtype, bound ? want[i] - b : want[i], target->scale),
                stored(dtype, bound ? want[i] + b : want[i], target->scale));
    }
    if (target->sink.peak) compare_peak(t, target, want, bound);
}

void cuda_check_floats(cuda_check *t, const float *device, const float *want, const float *bound,
                       size_t n)
{
    float *got = cuda_host(n * sizeof *got);

    cuda_read(t, got, device, n * sizeof *got);
    for (size_t i = 0; i < n; i++)
        compare(t, i, got[i], bound ? want[i] - bound[i] : want[i],
                bound ? want[i] + bound[i] : want[i]);
}

// An access outside of a buffer: say where, then die of the signal as before.
static void name_crash(int signal_number)
{
    char text[256];
    const int length =
        snprintf(text, sizeof text, "# %s [%s]: crashed\n", running->operation, running->what);
    if (write(STDOUT_FILENO, text, (size_t)length) != length) _exit(3);
}

static void watch_crashes(void)
{
    const struct sigaction action = {.sa_handler = name_crash, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

static int run_all(uint64_t seed, const char *filter)
{
    unsigned count = 0, failed = 0;

    printf("# seed %" PRIu64 "\n", seed);
    for (size_t i = 0; i < CHECK_COUNT(operations); i++) {
        cuda_check t = {.operation = operations[i].name, .fill.state = seed + i};
        if (filter && !strstr(t.operation, filter)) continue;
        running = &t;
        operations[i].run(&t);
        release();
        if (t.mismatches > MISMATCHES_SHOWN)
            printf("# %s: %u more\n", t.operation, t.mismatches - MISMATCHES_SHOWN);
        printf("%s %u - %s_cuda\n", t.mismatches ? "not ok" : "ok", ++count, t.operation);
        fflush(stdout);
        failed += t.mismatches > 0;
    }
    printf("1..%u\n", count);
    return failed > 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = (uint64_t)time(NULL);
    const char *filter = NULL;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc) {
            filter = argv[++i];
        } else {
            fprintf(stderr, "usage: %s [--seed N] [--filter TEXT]\n", argv[0]);
            return 2;
        }
    }
    const char *absent = memory_open();
    if (absent) {
        printf("1..0 # SKIP %s\n", absent);
        return 77;
    }
    watch_crashes();
    return run_all(seed, filter);
}
