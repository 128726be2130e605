// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/device_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/number.h"
#include "kernels/kernels.h"

#define BUFFERS_MAX 256

__attribute__((noreturn)) static void bail_out(const char *reason)
{
    printf("Bail out! %s\n", reason);
    fflush(stdout);
    exit(3);
}

static void must(oct_status st, const oct_err *err)
{
    if (st) bail_out(err->text);
}

static void *host(size_t bytes)
{
    void *p = calloc(1, bytes > 0 ? bytes : 1);
    if (!p) bail_out("out of memory");
    return p;
}

oct_cuda_libraries gpu_libraries = {.cudnn = "/nowhere/libcudnn.so.9"};

void gpu_init(int argc, char **argv)
{
    if (argc != 2) bail_out("the argument is the path of a fake cuBLASLt");
    gpu_libraries.cublaslt = argv[1];
    setenv("OCTAVO_PLANS", "off", 1);
}

oct_device *gpu_open(int sm, const oct_device_request *request)
{
    static const oct_device_request defaults = {.name = "cuda"};
    oct_device *device = NULL;
    oct_err err;

    emulated_reset(
        (emulated_device){.n_devices = 1, .major = sm / 10, .minor = sm % 10, .bytes = GPU_BYTES});
    must(oct_cuda_open(&device, request ? request : &defaults, &gpu_libraries, &err), &err);
    return device;
}

void gpu_close(oct_device *device)
{
    oct_device_close(device);
    const char *damage = emulated_finish();
    if (damage) bail_out(damage);
    if (emulated_buffers() > 0) bail_out("memory is left when the device is closed");
}

// ---- Buffers.

static void *buffers[BUFFERS_MAX];
static size_t n_buffers;

const float *numbers(unsigned seed, size_t n, float largest)
{
    static oct_arena arena;
    float *x = oct_arena_array(&arena, n, sizeof *x);
    uint64_t state = 0x9e3779b97f4a7c15u * (seed + 1);

    for (size_t i = 0; i < n; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const float uniform = (float)(state >> 40) / 8388608.0f - 1;
        x[i] = oct_f16_to_f32(oct_f32_to_f16(uniform * largest));
    }
    return x;
}

void *room(oct_device *device, size_t n)
{
    void *p = NULL;
    oct_err err;

    if (n_buffers == BUFFERS_MAX) bail_out("too many buffers");
    must(device->ops->alloc(device, &p, n * sizeof(float), "a test", &err), &err);
    buffers[n_buffers++] = p;
    return p;
}

float *put_f32(oct_device *device, const float *x, size_t n)
{
    float *p = room(device, n);
    device->ops->write(device, p, x, n * sizeof *x);
    return p;
}

void *put_activation(oct_device *device, const float *x, size_t n)
{
    if (device->activation == OCT_F32) return put_f32(device, x, n);
    uint16_t *narrow = host(n * sizeof *narrow);
    for (size_t i = 0; i < n; i++)
        narrow[i] = device->activation == OCT_F16 ? oct_f32_to_f16(x[i]) : oct_f32_to_bf16(x[i]);
    void *p = room(device, n);
    device->ops->write(device, p, narrow, n * sizeof *narrow);
    free(narrow);
    return p;
}

void release_all(oct_device *device)
{
    while (n_buffers > 0) device->ops->release(device, buffers[--n_buffers]);
}

static void get(oct_device *device, float *to, const void *from, oct_dtype dtype, size_t n)
{
    const size_t bytes = n * oct_dtype_bits(dtype) / 8;
    void *stored = host(bytes);
    oct_err err;

    must(device->ops->read(device, stored, from, bytes, &err), &err);
    oct_widen(to, dtype, stored, n);
    free(stored);
}

void get_f32(oct_device *device, float *to, const float *from, size_t n)
{
    get(device, to, from, OCT_F32, n);
}

void get_activation(oct_device *device, float *to, const void *from, size_t n)
{
    get(device, to, from, device->activation, n);
}

void get_operand(oct_device *device, float *to, oct_operand from, size_t n)
{
    float scale = 1;

    get(device, to, from.data, from.dtype, n);
    if (from.scale) get_f32(device, &scale, from.scale, 1);
    for (size_t i = 0; i < n; i++) to[i] *= scale;
}

// ---- Layers.

static void set_weight(oct_linear *linear, oct_dtype dtype, const float *w, size_t n)
{
    uint16_t *narrow = host(n * sizeof(float));

    linear->dtype = dtype;
    linear->weight = narrow;
    if (dtype == OCT_F32) memcpy(narrow, w, n * sizeof *w);
    for (size_t i = 0; i < n && dtype == OCT_F16; i++) narrow[i] = oct_f32_to_f16(w[i]);
    for (size_t i = 0; i < n && dtype == OCT_BF16; i++) narrow[i] = oct_f32_to_bf16(w[i]);
}

static void set_codes(oct_linear *linear, layer_kind kind, const float *w, size_t n)
{
    const bool has_rows = kind == LAYER_E4M3_ROWS || kind == LAYER_E4M3_ROWS_STATIC;

    linear->weight = host(n);
    linear->dtype = kind == LAYER_E5M2 ? OCT_F8_E5M2 : OCT_F8_E4M3;
    if (kind == LAYER_MX) {
        linear->block_scales = host(n / OCT_MX_BLOCK);
        oct_encode_mx(linear->weight, linear->block_scales, OCT_F32, w, n / OCT_MX_BLOCK);
        return;
    }
    linear->weight_scale = has_rows ? 1 : 0.125f / 448;
    if (has_rows) linear->row_scales = host(linear->out * sizeof(float));
    for (size_t row = 0; row < linear->out; row++) {
        const float scale = has_rows ? 0.125f / (448 + (float)(row % 7)) : linear->weight_scale;
        uint8_t *codes = (uint8_t *)linear->weight + row * linear->in;
        if (has_rows) linear->row_scales[row] = scale;
        if (kind == LAYER_E5M2)
            oct_encode_e5m2(codes, OCT_F32, w + row * linear->in, linear->in, scale);
        else
            oct_encode_e4m3(codes, OCT_F32, w + row * linear->in, linear->in, scale);
    }
}

oct_linear new_layer(layer_kind kind, unsigned seed, size_t out, size_t in)
{
    oct_linear linear = {.name = "made up", .out = out, .in = in, .weight_scale = 1, .layer = -1};
    const float *w = numbers(seed, out * in, 0.125f);

    linear.bias = host(out * sizeof(float));
    memcpy(linear.bias, numbers(seed + 1, out, 0.5f), out * sizeof(float));
    if (kind == LAYER_F32) set_weight(&linear, OCT_F32, w, out * in);
    if (kind == LAYER_F16) set_weight(&linear, OCT_F16, w, out * in);
    if (kind == LAYER_BF16) set_weight(&linear, OCT_BF16, w, out * in);
    if (kind >= LAYER_E4M3) set_codes(&linear, kind, w, out * in);
    if (kind == LAYER_E4M3_STATIC || kind == LAYER_E4M3_ROWS_STATIC)
        linear.input_scale = 1.0f / 448;
    return linear;
}

void drop_layer(oct_device *device, oct_linear *linear)
{
    device->ops->drop(device, linear);
    oct_linear_deinit(linear);
}

// ---- Work.

double distance(const float *got, const float *want, size_t n)
{
    double most = 0, largest = 0;

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]) || !isfinite(want[i])) return INFINITY;
        most = fmax(most, fabs((double)got[i] - want[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    return largest > 0 ? most / largest : most;
}

static double mean_distance(const float *got, const float *want, size_t n)
{
    double squares = 0, largest = 0;

    for (size_t i = 0; i < n; i++) {
        squares += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        largest = fmax(largest, fabs((double)want[i]));
    }
    return largest > 0 ? sqrt(squares / (double)n) / largest : 0;
}

bool is_same_work(oct_device *gpu, work_fn *work, size_t n, double bound, const char *name)
{
    static const char *const orders[] = {"as issued", "first first", "last first", "in turns",
                                         "lazy"};
    float *want = host(n * sizeof *want), *first = host(n * sizeof *want);
    float *got = host(n * sizeof *want);
    bool is_same = true;

    work(oct_device_cpu(), want);
    release_all(oct_device_cpu());
    for (int order = 0; order < EMULATED_ORDERS; order++) {
        emulated_set_order((emulated_order)order);
        work(gpu, got);
        release_all(gpu);
        if (order == 0) memcpy(first, got, n * sizeof *got);
        const double far = distance(got, want, n), mean = mean_distance(got, want, n);
        const bool is_equal = memcmp(got, first, n * sizeof *got) == 0;
        if (far <= bound && mean <= bound / 8 && is_equal) continue;
        printf("# %s, %s: %.3g off, %.3g in mean square, bound %g%s\n", name, orders[order], far,
               mean, bound, is_equal ? "" : "; other bits than as issued");
        is_same = false;
    }
    emulated_set_order(EMULATED_AS_ISSUED);
    free(want);
    free(first);
    free(got);
    return is_same;
}
