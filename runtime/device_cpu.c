// SPDX-License-Identifier: Apache-2.0
//
// The CPU as a device: every buffer is F32 memory of the host, and every operation is done when it
// returns. A layer's weights stay as they were loaded.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "kernels/kernels.h"
#include "runtime/device.h"

// ---- Memory.

static void cpu_close(oct_device *device)
{
}

static oct_status cpu_alloc(oct_device *device, void **p, size_t bytes, const char *what,
                            oct_err *err)
{
    *p = malloc(bytes > 0 ? bytes : 1);
    return *p ? OCT_OK : oct_fail(err, OCT_ENOMEM, "out of memory for %s", what);
}

static void cpu_release(oct_device *device, void *p)
{
    free(p);
}

static void cpu_write(oct_device *device, void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

static oct_status cpu_read(oct_device *device, void *to, const void *from, size_t bytes,
                           oct_err *err)
{
    memcpy(to, from, bytes);
    return OCT_OK;
}

static void cpu_copy(oct_device *device, void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

static oct_status cpu_sync(oct_device *device, oct_err *err)
{
    return OCT_OK;
}

static oct_status cpu_adopt(oct_device *device, oct_linear *linear, oct_precision precision,
                            int group, oct_err *err)
{
    return OCT_OK;
}

static void cpu_drop(oct_device *device, oct_linear *linear)
{
    oct_linear_free_weights(linear);
}

static oct_status cpu_adopt_conv(oct_device *device, oct_conv *conv, oct_err *err)
{
    return OCT_OK;
}

static void cpu_drop_conv(oct_device *device, oct_conv *conv)
{
    free(conv->weight);
    free(conv->bias);
    *conv = (oct_conv){0};
}

static void cpu_enter_group(oct_device *device, int group)
{
}

// ---- Order.

static void cpu_use(oct_device *device, oct_stream_index stream)
{
}

static void cpu_fork(oct_device *device)
{
}

static void cpu_join(oct_device *device)
{
}

static void cpu_run(oct_device *device, int slot, void (*body)(void *context), void *context)
{
    assert(slot >= 0 && slot < OCT_SLOTS);
    body(context);
}

static void cpu_forget(oct_device *device)
{
}

// ---- Layers.

static oct_operand cpu_plain(oct_device *device, void *buffer)
{
    return oct_operand_f32(buffer);
}

static oct_operand cpu_operand(oct_device *device, const oct_linear *linear, void *buffer)
{
    return oct_operand_f32(buffer);
}

static void cpu_linear(oct_device *device, oct_linear *linear, void *y, bool is_f32, oct_operand x,
                       size_t rows)
{
    assert(linear->weight && x.dtype == OCT_F32);
    oct_linear_run(linear, y, x.data, rows, device->observer);
}

static void cpu_linear_activate(oct_device *device, oct_linear *linear, oct_operand y,
                                oct_activation activation, void *scratch, oct_operand x,
                                size_t rows)
{
    cpu_linear(device, linear, y.data, true, x, rows);
    oct_activate(y.data, activation, rows * linear->out);
}

// ---- Rows.

static void cpu_layer_norm(oct_device *device, oct_operand y, const float *x, const float *weight,
                           const float *bias, float eps, size_t rows, size_t cols)
{
    oct_layer_norm(y.data, x, weight, bias, eps, rows, cols);
}

static void cpu_layer_norm_modulate(oct_device *device, oct_operand y, const float *x,
                                    const float *shift, const float *scale, size_t rows,
                                    size_t cols)
{
    oct_layer_norm_modulate(y.data, x, shift, scale, rows, cols);
}

static void cpu_convert(oct_device *device, oct_operand y, const float *x, size_t n)
{
    memcpy(y.data, x, n * sizeof *x);
}

static void cpu_rms_norm(oct_device *device, oct_operand y, const float *x, const float *weight,
                         float eps, size_t rows, size_t cols)
{
    cpu_convert(device, y, x, rows * cols);
    oct_rms_norm(y.data, weight, eps, rows, cols, cols);
}

static void cpu_add_gated(oct_device *device, float *x, const void *y, bool is_f32,
                          const float *gate, size_t rows, size_t cols)
{
    oct_add_gated(x, y, gate, rows, cols);
}

static void cpu_activate(oct_device *device, oct_operand y, oct_activation activation,
                         const float *x, size_t n)
{
    cpu_convert(device, y, x, n);
    oct_activate(y.data, activation, n);
}

static void cpu_activate_gated(oct_device *device, oct_operand y, oct_activation activation,
                               const void *gate, const void *up, size_t n)
{
    float *to = y.data;
    const float *by = up;

    cpu_activate(device, y, activation, gate, n);
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) to[i] *= by[i];
}

static void norm_heads(float *rows, const float *weight, size_t tokens, size_t heads)
{
    const size_t stride = 3 * heads * OCT_HEAD;

    for (size_t head = 0; weight && head < heads; head++)
        oct_rms_norm(rows + head * OCT_HEAD, weight, OCT_HEAD_NORM_EPS, tokens, OCT_HEAD, stride);
}

// Rows of one head: the numbers that E4M3 with one scale stands for. What is not finite stays.
static void round_head(float *rows, size_t tokens, size_t stride)
{
    uint8_t codes[OCT_HEAD];
    float peak = 0;

    for (size_t t = 0; t < tokens; t++) {
        int is_finite;
        const float largest = oct_absmax(OCT_F32, rows + t * stride, OCT_HEAD, &is_finite);
        if (!is_finite) return;
        if (largest > peak) peak = largest;
    }
    const float scale = peak > 0 ? peak / OCT_E4M3_MAX : 1;
    for (size_t t = 0; t < tokens; t++) {
        oct_encode_e4m3(codes, OCT_F32, rows + t * stride, OCT_HEAD, scale);
        oct_kernels_get()->decode_e4m3(rows + t * stride, codes, OCT_HEAD, scale);
    }
}

static void round_heads(float *qkv, size_t tokens, size_t heads)
{
    const size_t n = 3 * heads;

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) round_head(qkv + i * OCT_HEAD, tokens, n * OCT_HEAD);
}

static void copy_rows(float *to, size_t to_stride, const float *from, size_t from_stride,
                      size_t rows)
{
#pragma omp parallel for schedule(static)
    for (size_t row = 0; row < rows; row++)
        memcpy(to + row * to_stride, from + row * from_stride, to_stride * sizeof *to);
}

// The answers take the place of the queries: all streams are asked in one go, as one sequence.
static void cpu_joint_attention(oct_device *device, const oct_joint_attention *args)
{
    const size_t h = args->heads * OCT_HEAD;
    float *qkv = args->qkv, *rows = qkv;
    size_t tokens_q = 0, tokens = 0;

    for (size_t i = 0; i < args->n_streams; i++) {
        const size_t n = args->streams[i].tokens;
        norm_heads(qkv + tokens * 3 * h, args->streams[i].norm_q, n, args->heads);
        norm_heads(qkv + tokens * 3 * h + h, args->streams[i].norm_k, n, args->heads);
        tokens += n;
        if (args->streams[i].out.data) tokens_q = tokens;
    }
    if (args->is_fp8) round_heads(qkv, tokens, args->heads);
    oct_attention(&(oct_attention_args){
        .out = qkv,
        .q = qkv,
        .k = qkv + h,
        .v = qkv + 2 * h,
        .out_stride = 3 * h,
        .q_stride = 3 * h,
        .k_stride = 3 * h,
        .v_stride = 3 * h,
        .tokens_q = tokens_q,
        .tokens_k = tokens,
        .heads = args->heads,
        .head_dim = OCT_HEAD,
        .scale = 0.125f,
        .has_e4m3_weights = args->is_fp8,
    });
    for (size_t i = 0; i < args->n_streams; i++) {
        const size_t n = args->streams[i].tokens;
        if (args->streams[i].out.data) copy_rows(args->streams[i].out.data, h, rows, 3 * h, n);
        rows += n * 3 * h;
    }
}

static void cpu_plain_attention(oct_device *device, const oct_plain_attention *args)
{
    const size_t stride = args->heads * args->head_dim;

    oct_attention(&(oct_attention_args){
        .out = args->out.data,
        .q = args->q,
        .k = args->k,
        .v = args->v,
        .out_stride = stride,
        .q_stride = stride,
        .k_stride = stride,
        .v_stride = stride,
        .tokens_q = args->tokens,
        .tokens_k = args->tokens,
        .heads = args->heads,
        .head_dim = args->head_dim,
        .scale = args->scale,
        .is_causal = args->is_causal,
        .bias = args->bias,
    });
}

static void cpu_embed(oct_device *device, float *y, const oct_linear *table, const float *position,
                      const int32_t *ids, size_t tokens)
{
    const size_t width = table->in;

    for (size_t t = 0; t < tokens; t++) {
        oct_linear_row(table, (size_t)ids[t], y + t * width);
        if (position) oct_add_gated(y + t * width, position + t * width, NULL, 1, width);
    }
}

// ---- Latents.

static void cpu_patchify(oct_device *device, oct_operand y, const float *latent,
                         oct_map_shape shape, size_t patch)
{
    oct_patchify(y.data, latent, shape.channels, shape.height, shape.width, patch);
}

static void cpu_unpatchify(oct_device *device, float *latent, const void *patches,
                           oct_map_shape shape, size_t patch)
{
    oct_unpatchify(latent, patches, shape.channels, shape.height, shape.width, patch);
}

static void cpu_sampler_step(oct_device *device, const oct_sampler_args *args)
{
    oct_sampler_step(args);
}

// ---- Feature maps.

static void cpu_to_map(oct_device *device, void *y, const float *x, size_t n)
{
    memcpy(y, x, n * sizeof *x);
}

static void cpu_from_map(oct_device *device, float *y, const void *x, size_t n)
{
    memcpy(y, x, n * sizeof *y);
}

static void cpu_conv2d(oct_device *device, void *y, const void *x, const oct_conv *conv,
                       size_t height, size_t width)
{
    oct_conv2d(y, x, conv->dtype, conv->weight, conv->bias, conv->in, conv->out, height, width,
               conv->kernel);
}

static void cpu_conv2d_down2(oct_device *device, void *y, const void *x, const oct_conv *conv,
                             size_t height, size_t width)
{
    oct_conv2d_down2(y, x, conv->dtype, conv->weight, conv->bias, conv->in, conv->out, height,
                     width);
}

static void cpu_group_norm(oct_device *device, void *y, const void *x, const float *weight,
                           const float *bias, float eps, size_t groups, oct_map_shape shape,
                           bool has_silu)
{
    oct_group_norm(y, x, weight, bias, eps, groups, shape.channels, shape.height * shape.width,
                   has_silu);
}

static void cpu_upsample2(oct_device *device, void *y, const void *x, oct_map_shape shape)
{
    oct_upsample2(y, x, shape.channels, shape.height, shape.width);
}

static void cpu_add(oct_device *device, void *x, const void *y, size_t n)
{
    float *to = x;
    const float *from = y;

#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

static void cpu_transpose(oct_device *device, void *y, const void *x, size_t rows, size_t cols)
{
    const float *from = x;
    float *to = y;

#pragma omp parallel for schedule(static)
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++) to[c * rows + r] = from[r * cols + c];
}

// clang-format off
static const oct_device_ops cpu_ops = {
    .close = cpu_close,
    .alloc = cpu_alloc, .release = cpu_release,
    .write = cpu_write, .read = cpu_read, .copy = cpu_copy, .sync = cpu_sync,
    .adopt = cpu_adopt, .drop = cpu_drop, .adopt_conv = cpu_adopt_conv, .drop_conv = cpu_drop_conv,
    .enter_group = cpu_enter_group,
    .use = cpu_use, .fork = cpu_fork, .join = cpu_join, .run = cpu_run, .forget = cpu_forget,
    .operand = cpu_operand, .plain = cpu_plain,
    .linear = cpu_linear, .linear_activate = cpu_linear_activate,
    .layer_norm = cpu_layer_norm, .layer_norm_modulate = cpu_layer_norm_modulate,
    .rms_norm = cpu_rms_norm, .add_gated = cpu_add_gated,
    .activate = cpu_activate, .activate_gated = cpu_activate_gated, .convert = cpu_convert,
    .joint_attention = cpu_joint_attention, .plain_attention = cpu_plain_attention,
    .embed = cpu_embed,
    .patchify = cpu_patchify, .unpatchify = cpu_unpatchify, .sampler_step = cpu_sampler_step,
    .to_map = cpu_to_map, .from_map = cpu_from_map,
    .conv2d = cpu_conv2d, .conv2d_down2 = cpu_conv2d_down2,
    .group_norm = cpu_group_norm, .upsample2 = cpu_upsample2, .add = cpu_add,
    .transpose = cpu_transpose,
};
// clang-format on

oct_device *oct_device_cpu(void)
{
    static oct_device cpu = {.ops = &cpu_ops, .activation = OCT_F32, .name = "the CPU"};
    return &cpu;
}
