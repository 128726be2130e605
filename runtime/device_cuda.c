// SPDX-License-Identifier: Apache-2.0
//
// The GPU: whether there is one, and the table of its operations.
#include "runtime/device_cuda.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define SM_MIN 80

// ---- Errors.

void oct_cuda_keep_status(oct_cuda_device *d, oct_status st, const oct_err *err,
                          const char *operation)
{
    if (!st || d->status) return;
    d->status = st;
    d->error = *err;
    if (operation) oct_wrap(&d->error, st, "%s: %s", d->name, operation);
}

void oct_cuda_keep(oct_cuda_device *d, cudaError_t error, const char *operation)
{
    oct_err err;

    if (!error) return;
    cudaGetLastError();  // kept here, and not found again behind the next kernel
    const oct_status st = oct_fail(&err, OCT_EDEVICE, "%s", cudaGetErrorString(error));
    oct_cuda_keep_status(d, st, &err, operation);
}

void oct_cuda_keep_launch(oct_cuda_device *d, const char *operation)
{
    oct_cuda_keep(d, cudaGetLastError(), operation);
}

// ---- Memory.

static oct_status cuda_alloc(oct_device *device, void **p, size_t bytes, const char *what,
                             oct_err *err)
{
    return oct_cuda_alloc(oct_cuda_of(device), p, bytes, what, err);
}

static void cuda_release(oct_device *device, void *p)
{
    oct_cuda_free(oct_cuda_of(device), p);
}

static void cuda_write(oct_device *device, void *to, const void *from, size_t bytes)
{
    oct_cuda_device *d = oct_cuda_of(device);
    oct_cuda_keep(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, oct_cuda_stream(d)),
                  "copy to the device");
}

static void cuda_copy(oct_device *device, void *to, const void *from, size_t bytes)
{
    oct_cuda_device *d = oct_cuda_of(device);
    oct_cuda_keep(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, oct_cuda_stream(d)),
                  "copy");
}

static oct_status report(oct_cuda_device *d, oct_err *err)
{
    const oct_status st = d->status;
    if (st && err) *err = d->error;
    d->status = OCT_OK;
    return st;
}

static oct_status cuda_read(oct_device *device, void *to, const void *from, size_t bytes,
                            oct_err *err)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const cudaStream_t stream = oct_cuda_stream(d);

    cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream);
    if (!error) error = cudaStreamSynchronize(stream);
    oct_cuda_keep(d, error, "copy from the device");
    return report(d, err);
}

static oct_status cuda_sync(oct_device *device, oct_err *err)
{
    oct_cuda_device *d = oct_cuda_of(device);

    for (int i = 0; i < OCT_COMPUTE_STREAMS; i++)
        oct_cuda_keep(d, cudaStreamSynchronize(d->streams[i]), "waiting");
    oct_cuda_gather_observed(d);
    return report(d, err);
}

// ---- Rows.

static void cuda_layer_norm(oct_device *device, oct_operand y, const float *x, const float *weight,
                            const float *bias, float eps, size_t rows, size_t cols)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_sink sink = oct_cuda_begin_sink(d, y, rows * cols);
    if (sink.data) oct_layer_norm_cuda(sink, x, weight, bias, eps, rows, cols, oct_cuda_stream(d));
    oct_cuda_end_sink(d, y, sink, rows * cols, "layer norm");
}

static void cuda_layer_norm_modulate(oct_device *device, oct_operand y, const float *x,
                                     const float *shift, const float *scale, size_t rows,
                                     size_t cols)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_sink sink = oct_cuda_begin_sink(d, y, rows * cols);
    if (sink.data)
        oct_layer_norm_modulate_cuda(sink, x, shift, scale, rows, cols, oct_cuda_stream(d));
    oct_cuda_end_sink(d, y, sink, rows * cols, "modulated layer norm");
}

static void cuda_rms_norm(oct_device *device, oct_operand y, const float *x, const float *weight,
                          float eps, size_t rows, size_t cols)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_sink sink = oct_cuda_begin_sink(d, y, rows * cols);
    if (sink.data) oct_rms_norm_cuda(sink, x, weight, eps, rows, cols, oct_cuda_stream(d));
    oct_cuda_end_sink(d, y, sink, rows * cols, "RMS norm");
}

static void cuda_add_gated(oct_device *device, float *x, const void *y, bool is_f32,
                           const float *gate, size_t rows, size_t cols)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_add_gated_args args = {
        .y = y,
        .dtype = is_f32 ? OCT_F32 : device->activation,
        .gate = gate,
        .rows = rows,
        .cols = cols,
    };
    oct_add_gated_cuda(x, &args, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "gated addition");
}

static void cuda_activate(oct_device *device, oct_operand y, oct_activation activation,
                          const float *x, size_t n)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_activate_args args = {
        .activation = activation, .dtype = OCT_F32, .x = x, .rows = 1, .cols = n};
    const oct_sink sink = oct_cuda_begin_sink(d, y, n);
    if (sink.data) oct_activate_cuda(sink, &args, oct_cuda_stream(d));
    oct_cuda_end_sink(d, y, sink, n, "activation");
}

static void cuda_activate_gated(oct_device *device, oct_operand y, oct_activation activation,
                                const void *gate, const void *up, size_t n)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_sink sink = oct_cuda_begin_sink(d, y, n);
    if (sink.data) {
        oct_activate_gated_cuda(sink, activation, device->activation, gate, up, n,
                                oct_cuda_stream(d));
    }
    oct_cuda_end_sink(d, y, sink, n, "gated activation");
}

static void cuda_convert(oct_device *device, oct_operand y, const float *x, size_t n)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_sink sink = oct_cuda_begin_sink(d, y, n);
    if (sink.data) oct_convert_cuda(sink, OCT_F32, x, n, oct_cuda_stream(d));
    oct_cuda_end_sink(d, y, sink, n, "conversion");
}

// ---- Latents.

static oct_latent_shape latent_shape(oct_map_shape shape, size_t patch)
{
    return (oct_latent_shape){shape.channels, shape.height, shape.width, patch};
}

static void cuda_patchify(oct_device *device, oct_operand y, const float *latent,
                          oct_map_shape shape, size_t patch)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const size_t n = shape.channels * shape.height * shape.width;
    const oct_sink sink = oct_cuda_begin_sink(d, y, n);
    if (sink.data) oct_patchify_cuda(sink, latent, latent_shape(shape, patch), oct_cuda_stream(d));
    oct_cuda_end_sink(d, y, sink, n, "patchify");
}

static void cuda_unpatchify(oct_device *device, float *latent, const void *patches,
                            oct_map_shape shape, size_t patch)
{
    oct_cuda_device *d = oct_cuda_of(device);
    oct_unpatchify_cuda(latent, device->activation, patches, latent_shape(shape, patch),
                        oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "unpatchify");
}

static void cuda_sampler_step(oct_device *device, const oct_sampler_args *args)
{
    oct_cuda_device *d = oct_cuda_of(device);
    oct_sampler_step_cuda(args, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "sampler step");
}

// ---- Feature maps.

static void cuda_to_map(oct_device *device, void *y, const float *x, size_t n)
{
    cuda_convert(device, oct_cuda_plain(device, y), x, n);
}

static void cuda_from_map(oct_device *device, float *y, const void *x, size_t n)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_sink sink = {.data = y, .dtype = OCT_F32};
    oct_convert_cuda(sink, device->activation, x, n, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "conversion");
}

static void cuda_group_norm(oct_device *device, void *y, const void *x, const float *weight,
                            const float *bias, float eps, size_t groups, oct_map_shape shape,
                            bool has_silu)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const size_t pixels = shape.height * shape.width;
    void *workspace =
        oct_cuda_reserve(d, &d->workspace[d->current],
                         oct_group_norm_cuda_bytes(groups, shape.channels, pixels), "group norm");
    const oct_sink sink = {.data = y, .dtype = device->activation};
    const oct_group_norm_args args = {
        .x = x,
        .dtype = device->activation,
        .weight = weight,
        .bias = bias,
        .eps = eps,
        .has_silu = has_silu,
        .groups = groups,
        .channels = shape.channels,
        .pixels = pixels,
        .workspace = workspace,
    };

    if (!workspace) return;
    oct_group_norm_cuda(sink, &args, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "group norm");
}

static void cuda_upsample2(oct_device *device, void *y, const void *x, oct_map_shape shape)
{
    oct_cuda_device *d = oct_cuda_of(device);
    oct_upsample2_cuda(y, device->activation, x, shape.channels, shape.height, shape.width,
                       oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "upsampling");
}

static void cuda_add(oct_device *device, void *x, const void *y, size_t n)
{
    oct_cuda_device *d = oct_cuda_of(device);
    oct_add_cuda(x, device->activation, y, n, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "addition");
}

static void cuda_transpose(oct_device *device, void *y, const void *x, size_t rows, size_t cols)
{
    oct_cuda_device *d = oct_cuda_of(device);
    oct_transpose_cuda(y, device->activation, x, rows, cols, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "transposition");
}

// ---- Opening and closing.

static void cuda_close(oct_device *device)
{
    oct_cuda_device *d = oct_cuda_of(device);

    for (int i = 0; i < OCT_COMPUTE_STREAMS; i++)
        if (d->streams[i]) cudaStreamSynchronize(d->streams[i]);
    oct_cuda_forget(device);
    oct_attention_cuda_close(d->attention);
    oct_conv_cuda_close(d->conv);
    oct_gemm_cuda_close(d->gemm);
    oct_cuda_free_streaming(d);
    oct_cuda_end_observed(d);
    while (d->n_pieces > 0) oct_cuda_free(d, d->pieces[0].data);
    oct_cuda_close_streams(d);
    free(d->pieces);
    free(d);
}

// clang-format off
static const oct_device_ops cuda_ops = {
    .close = cuda_close,
    .alloc = cuda_alloc, .release = cuda_release,
    .write = cuda_write, .read = cuda_read, .copy = cuda_copy, .sync = cuda_sync,
    .adopt = oct_cuda_adopt, .drop = oct_cuda_drop,
    .adopt_conv = oct_cuda_adopt_conv, .drop_conv = oct_cuda_drop_conv,
    .enter_group = oct_cuda_enter_group,
    .use = oct_cuda_use, .fork = oct_cuda_fork, .join = oct_cuda_join,
    .run = oct_cuda_run, .forget = oct_cuda_forget,
    .operand = oct_cuda_operand, .plain = oct_cuda_plain,
    .linear = oct_cuda_linear, .linear_activate = oct_cuda_linear_activate,
    .layer_norm = cuda_layer_norm, .layer_norm_modulate = cuda_layer_norm_modulate,
    .rms_norm = cuda_rms_norm, .add_gated = cuda_add_gated,
    .activate = cuda_activate, .activate_gated = cuda_activate_gated, .convert = cuda_convert,
    .joint_attention = oct_cuda_joint_attention, .plain_attention = oct_cuda_plain_attention,
    .embed = oct_cuda_embed,
    .patchify = cuda_patchify, .unpatchify = cuda_unpatchify, .sampler_step = cuda_sampler_step,
    .to_map = cuda_to_map, .from_map = cuda_from_map,
    .conv2d = oct_cuda_conv2d, .conv2d_down2 = oct_cuda_conv2d_down2,
    .group_norm = cuda_group_norm, .upsample2 = cuda_upsample2, .add = cuda_add,
    .transpose = cuda_transpose,
};
// clang-format on

static oct_status no_device(cudaError_t error, oct_err *why)
{
    int driver = 0;

    cudaGetLastError();
    if (!cudaDriverGetVersion(&driver) && driver == 0)
        return oct_fail(why, OCT_EUNSUPPORTED, "no CUDA driver (libcuda.so.1)");
    if (error == cudaErrorInsufficientDriver) {
        return oct_fail(why, OCT_EUNSUPPORTED, "the driver is for CUDA %d.%d, this build for %d.%d",
                        driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                        CUDART_VERSION % 1000 / 10);
    }
    return oct_fail(why, OCT_EUNSUPPORTED, "no GPU: %s", cudaGetErrorString(error));
}

// "auto" and "cuda" are the first GPU, "cuda:N" is the one of that number.
static oct_status choose_gpu(const char *name, int *index, oct_err *why)
{
    int n = 0;
    char rest = '\0';

    *index = 0;
    if (strncmp(name, "cuda:", 5) == 0 && sscanf(name + 5, "%d%c", index, &rest) != 1)
        return oct_fail(why, OCT_EUSAGE, "'%s' is not the number of a GPU", name + 5);
    const cudaError_t error = cudaGetDeviceCount(&n);
    if (error || n == 0) return no_device(error, why);
    if (*index < 0 || *index >= n) {
        return oct_fail(why, OCT_EUNSUPPORTED, "there is no GPU %d, only 0 to %d", *index, n - 1);
    }
    return OCT_OK;
}

static oct_status open_gpu(oct_cuda_device *d, int index, struct cudaDeviceProp *properties,
                           oct_err *why)
{
    cudaError_t error = cudaSetDevice(index);
    if (!error) error = cudaGetDeviceProperties(properties, index);
    if (error) {
        cudaGetLastError();
        return oct_fail(why, OCT_EUNSUPPORTED, "GPU %d: %s", index, cudaGetErrorString(error));
    }
    snprintf(d->name, sizeof d->name, "%s", properties->name);
    d->sm = 10 * properties->major + properties->minor;
    if (d->sm >= SM_MIN) return OCT_OK;
    return oct_fail(why, OCT_EUNSUPPORTED, "%s has compute capability %d.%d, not 8.0 or more",
                    d->name, properties->major, properties->minor);
}

static oct_status set_budget(oct_cuda_device *d, uint64_t asked, oct_err *why)
{
    size_t free_bytes = 0, total = 0;

    const cudaError_t error = cudaMemGetInfo(&free_bytes, &total);
    if (error) {
        cudaGetLastError();
        return oct_fail(why, OCT_EUNSUPPORTED, "%s: %s", d->name, cudaGetErrorString(error));
    }
    d->is_budget_given = asked > 0 && asked <= free_bytes;
    d->budget = d->is_budget_given ? asked : free_bytes;
    return OCT_OK;
}

static oct_status open_libraries(oct_cuda_device *d, int multiprocessors,
                                 const oct_cuda_libraries *libraries, oct_err *why)
{
    char cache[4096];
    oct_gemm_cuda_params gemm = {
        .device_name = d->name,
        .sm = d->sm,
        .multiprocessors = multiprocessors,
        .library = libraries->cublaslt,
    };
    const oct_attention_cuda_params attention = {.sm = d->sm, .library = libraries->cudnn};

    if (oct_gemm_cuda_cache_path(cache, sizeof cache, &gemm)) gemm.cache = cache;
    oct_status st = oct_gemm_cuda_open(&d->gemm, &gemm, why);
    if (!st) st = oct_conv_cuda_open(&d->conv, libraries->cudnn, why);
    if (!st) st = oct_attention_cuda_open(&d->attention, &attention, why);
    if (!st) {
        oct_verbose("%s, sm_%d: %s, attention by %s, convolutions by %s", d->name, d->sm,
                    oct_gemm_cuda_library(d->gemm), oct_attention_cuda_library(d->attention, NULL),
                    oct_conv_cuda_library(d->conv));
    }
    return st;
}

static oct_cuda_device *new_device(const oct_device_request *request)
{
    oct_cuda_device *d = calloc(1, sizeof *d);
    if (!d) abort();
    d->device = (oct_device){
        .ops = &cuda_ops,
        .activation = request->activation == OCT_BF16 ? OCT_BF16 : OCT_F16,
        .name = d->name,
        .is_gpu = true,
    };
    d->is_low_vram = request->is_low_vram;
    d->active = d->slots[0].group = d->slots[1].group = -1;
    return d;
}

oct_status oct_cuda_open(oct_device **device, const oct_device_request *request,
                         const oct_cuda_libraries *libraries, oct_err *why)
{
    struct cudaDeviceProp properties;
    int index = 0;

    *device = NULL;
    oct_status st = choose_gpu(request->name, &index, why);
    if (st) return st;
    oct_cuda_device *d = new_device(request);
    st = open_gpu(d, index, &properties, why);
    if (!st) st = set_budget(d, request->budget, why);
    if (!st) st = oct_cuda_open_streams(d, why);
    if (!st) st = open_libraries(d, properties.multiProcessorCount, libraries, why);
    if (st) {
        cuda_close(&d->device);
        return st;
    }
    d->device.has_fp8 = oct_gemm_cuda_has_fp8(d->gemm, 16, 16);
    d->device.has_fp8_attention = d->device.has_fp8 && oct_has_e4m3_attention_cuda();
    *device = &d->device;
    return OCT_OK;
}

oct_status oct_device_open_cuda(oct_device **device, const oct_device_request *request,
                                oct_err *why)
{
    static const oct_cuda_libraries installed;
    return oct_cuda_open(device, request, &installed, why);
}
