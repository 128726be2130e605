// SPDX-License-Identifier: Apache-2.0
//
// bench-gpu-rates: options, buffers, timing, the copy.
#include "tests/gpu/rates.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/cli.h"
#include "common/file.h"
#include "common/number.h"
#include "kernels/cuda/cuda_kernels.h"
#include "tests/gpu/prepare.h"

#define POOL ((size_t)64 << 20)
#define TINY_POOL ((size_t)1 << 18)
#define SAMPLES 5
#define SAMPLE_SECONDS 0.02

static const rates_model models[] = {
    {"large", 2432, 38, 333, {1024, 512}},
    {"medium", 1536, 24, 333, {1024, 512}},
};
static const rates_model tiny_models[] = {{"tiny", 128, 2, 5, {64, 32}}};

void rates_must(cudaError_t error, const char *what)
{
    if (!error) return;
    fprintf(stderr, "bench-gpu-rates: %s: %s\n", what, cudaGetErrorString(error));
    exit(3);
}

static void *on_device(size_t bytes, const char *what)
{
    void *p = NULL;
    rates_must(cudaMalloc(&p, bytes), what);
    return p;
}

void *rates_workspace(rates *r, size_t bytes)
{
    if (bytes > r->workspace_bytes) {
        rates_must(cudaFree(r->workspace), "workspace");
        r->workspace = on_device(bytes, "workspace");
        r->workspace_bytes = bytes;
    }
    return r->workspace;
}

size_t rates_image_tokens(size_t pixels)
{
    return (pixels / 16) * (pixels / 16);
}

// ---- Timing.

static double seconds_of(rates *r, rates_work *work, void *context, size_t launches, size_t *round)
{
    float ms = 0;

    rates_must(cudaEventRecord(r->begin, r->stream), "an event");
    for (size_t i = 0; i < launches; i++) work(r, context, (*round)++);
    rates_must(cudaEventRecord(r->end, r->stream), "an event");
    rates_must(cudaEventSynchronize(r->end), "a measurement");
    rates_must(cudaGetLastError(), "a launch");
    rates_must(cudaEventElapsedTime(&ms, r->begin, r->end), "an event");
    return (double)ms / 1e3 / (double)launches;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double rates_seconds(rates *r, rates_work *work, void *context)
{
    double samples[SAMPLES];
    size_t round = 0;

    seconds_of(r, work, context, 1, &round);
    if (r->is_tiny) return seconds_of(r, work, context, 1, &round);
    const double once = seconds_of(r, work, context, 3, &round);
    const size_t launches = once < SAMPLE_SECONDS ? (size_t)(SAMPLE_SECONDS / once) + 1 : 1;
    for (int i = 0; i < SAMPLES; i++) samples[i] = seconds_of(r, work, context, launches, &round);
    qsort(samples, SAMPLES, sizeof *samples, by_value);
    return samples[SAMPLES / 2];
}

// ---- The copy, which everything that only moves numbers is held against.

static void copy_half(rates *r, void *context, size_t round)
{
    const size_t bytes = r->n;  // half of the 16-bit pool
    const uint8_t *from = (const uint8_t *)r->halves + round % 2 * bytes;
    rates_must(cudaMemcpyAsync(r->out, from, bytes, cudaMemcpyDeviceToDevice, r->stream), "a copy");
}

void rates_copy(rates *r)
{
    r->copy_bytes_per_s = 2 * (double)r->n / rates_seconds(r, copy_half, NULL);
    cJSON_AddNumberToObject(r->root, "copy_gb_per_s", r->copy_bytes_per_s / 1e9);
}

// ---- Buffers.

static uint32_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

// The sum of four bytes is normal enough; its deviation is 148.
static float normal(uint64_t *state)
{
    const uint32_t bits = next(state);
    const int sum =
        (int)(bits & 255) + (int)(bits >> 8 & 255) + (int)(bits >> 16 & 255) + (int)(bits >> 24);
    return (float)(sum - 510) / 148;
}

static void fill_pools(rates *r)
{
    const float scale = 3.5f / 448;
    uint64_t state = 1;

    uint16_t *halves = malloc(r->n * sizeof *halves);
    if (!halves) {
        fputs("bench-gpu-rates: out of memory for random numbers\n", stderr);
        exit(3);
    }
    for (size_t i = 0; i < r->n; i++) halves[i] = oct_f32_to_f16(normal(&state));
    rates_must(cudaMemcpy(r->halves, halves, r->n * sizeof *halves, cudaMemcpyHostToDevice),
               "random numbers");
    free(halves);
    rates_must(cudaMemcpy(r->scale, &scale, sizeof scale, cudaMemcpyHostToDevice), "a scale");
    oct_convert_cuda((oct_sink){.data = r->codes, .dtype = OCT_F8_E4M3, .scale = r->scale}, OCT_F16,
                     r->halves, r->n, r->stream);
    oct_convert_cuda((oct_sink){.data = r->floats, .dtype = OCT_F32}, OCT_F16, r->halves, r->n / 4,
                     r->stream);
    rates_must(cudaStreamSynchronize(r->stream), "random numbers");
}

static void open_gpu(rates *r)
{
    int driver = 0, runtime = 0, n = 0;

    rates_must(cudaGetDeviceCount(&n), "no usable GPU");
    rates_must(n > 0 ? cudaSuccess : cudaErrorNoDevice, "no usable GPU");
    rates_must(cudaSetDevice(0), "the GPU");
    rates_must(cudaGetDeviceProperties(&r->gpu, 0), "the GPU");
    rates_must(cudaDriverGetVersion(&driver), "the driver");
    rates_must(cudaRuntimeGetVersion(&runtime), "the runtime");
    r->sm = r->gpu.major * 10 + r->gpu.minor;
    cJSON_AddStringToObject(r->root, "gpu", r->gpu.name);
    cJSON_AddNumberToObject(r->root, "sm", r->sm);
    cJSON_AddNumberToObject(r->root, "multiprocessors", r->gpu.multiProcessorCount);
    cJSON_AddNumberToObject(r->root, "memory_bytes", (double)r->gpu.totalGlobalMem);
    cJSON_AddNumberToObject(r->root, "driver", driver);
    cJSON_AddNumberToObject(r->root, "runtime", runtime);

    rates_must(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking), "a stream");
    rates_must(cudaEventCreate(&r->begin), "an event");
    rates_must(cudaEventCreate(&r->end), "an event");
    r->n = r->is_tiny ? TINY_POOL : POOL;
    r->halves = on_device(r->n * sizeof *r->halves, "operands");
    r->codes = on_device(r->n, "operands");
    r->floats = on_device(r->n / 4 * sizeof *r->floats, "operands");
    r->scale = on_device(sizeof *r->scale, "operands");
    r->out = on_device(r->n / 2 * sizeof(float), "results");
    fill_pools(r);
}

static void close_gpu(rates *r)
{
    void *const buffers[] = {r->halves, r->codes, r->floats, r->scale, r->out, r->workspace};

    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        rates_must(cudaFree(buffers[i]), "the end");
    rates_must(cudaEventDestroy(r->begin), "the end");
    rates_must(cudaEventDestroy(r->end), "the end");
    rates_must(cudaStreamDestroy(r->stream), "the end");
}

// ---- The program.

static oct_status measure(bool is_tiny, const char *out, oct_err *err)
{
    rates r = {
        .root = cJSON_CreateObject(),
        .is_tiny = is_tiny,
        .models = is_tiny ? tiny_models : models,
        .n_models =
            is_tiny ? sizeof tiny_models / sizeof *tiny_models : sizeof models / sizeof *models,
    };

    bench_gpu_prepare();
    open_gpu(&r);
    rates_copy(&r);
    oct_status st = rates_gemm(&r, err);
    if (!st) st = rates_attention(&r, err);
    if (!st) rates_kernels(&r);
    close_gpu(&r);
    char *text = oct_json_print(r.root);
    if (!st) st = oct_file_write(out, text, strlen(text), err);
    free(text);
    cJSON_Delete(r.root);
    return st;
}

int main(int argc, char **argv)
{
    const char *out = NULL;
    bool is_tiny = false, is_done = false;
    const oct_opt opts[] = {
        OPT_GROUP("Measuring"),
        OPT_TEXT("out", "FILE", &out, "result to write (JSON)"),
        OPT_FLAG("tiny", &is_tiny, "small shapes, once each: to try the program"),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "bench-gpu-rates",
        .summary = "Measure copy, matrix products, attention and our own kernels on the first GPU.",
        .usage = "--out FILE [options]",
        .examples = {"bench-gpu-rates --out rates.json", "bench-gpu-rates --tiny --out rates.json"},
        .opts = opts,
    };
    oct_err err = {{0}};

    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && !is_done && !out) st = oct_fail(&err, OCT_EUSAGE, "option '--out' is missing");
    if (!st && !is_done) st = measure(is_tiny, out, &err);
    return oct_cli_finish(&cli, st, &err);
}
