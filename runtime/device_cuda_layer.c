// SPDX-License-Identifier: Apache-2.0
//
// Layers on a GPU: operands, matrix products, attention, convolutions.
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "common/number.h"
#include "runtime/device_cuda.h"

// ---- Operands.

oct_operand oct_cuda_operand(oct_device *device, const oct_linear *linear, void *buffer)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_cuda_layer *layer = linear->on_device;

    assert(layer);
    return (oct_operand){
        .data = buffer,
        .dtype = layer->input,
        .scale = layer->input == OCT_F8_E4M3 ? layer->scales : NULL,
        .peak = oct_cuda_find_peak(d, linear),
    };
}

oct_operand oct_cuda_plain(oct_device *device, void *buffer)
{
    return (oct_operand){.data = buffer, .dtype = device->activation};
}

// ---- Matrix products.

static const oct_path paths[] = {
    [OCT_GEMM_F32] = OCT_PATH_F32,
    [OCT_GEMM_16BIT] = OCT_PATH_16BIT,
    [OCT_GEMM_FP8] = OCT_PATH_FP8,
    [OCT_GEMM_FP8_WIDENED] = OCT_PATH_FP8_WIDENED,
};

static void set_bias(oct_cuda_device *d, oct_gemm_cuda_call *call, const oct_cuda_layer *layer)
{
    const uint8_t *data = call->w.data;

    if (!layer->bias_f32) return;
    const bool is_narrow =
        oct_gemm_cuda_bias_dtype(call->x.dtype, call->y.dtype) == d->device.activation;
    call->bias.dtype = is_narrow ? d->device.activation : OCT_F32;
    call->bias.data = data + (is_narrow ? layer->bias : layer->bias_f32);
}

static void launch_product(oct_cuda_device *d, const oct_gemm_cuda_call *call, oct_linear *linear)
{
    oct_gemm_path path = OCT_GEMM_F32;
    oct_status st = OCT_OK;
    oct_err err;

    const size_t bytes = oct_gemm_cuda_bytes(d->gemm, call);
    void *workspace = oct_cuda_reserve(d, &d->workspace[d->current], bytes, "matrix products");
    if (bytes > 0 && !workspace) return;
    if (!d->is_capturing)
        st = oct_gemm_cuda_plan(d->gemm, call, workspace, oct_cuda_stream(d), &err);
    if (!st) st = oct_gemm_cuda_run(d->gemm, call, workspace, oct_cuda_stream(d), &path, &err);
    if (st) {
        oct_cuda_keep_status(d, st, &err, linear->name);
        return;
    }
    linear->runs++;
    linear->path = paths[path];
}

// y, of the type `dtype`, = layer(x).
static void multiply(oct_cuda_device *d, oct_linear *linear, void *y, oct_dtype dtype,
                     oct_operand x, size_t rows, bool has_gelu)
{
    const oct_cuda_layer *layer = linear->on_device;
    const uint8_t *data = oct_cuda_layer_data(d, linear);

    if (!data) return;
    assert(x.dtype == layer->input);
    oct_gemm_cuda_call call = {
        .m = rows,
        .n = linear->out,
        .k = linear->in,
        .x = {.dtype = x.dtype, .data = x.data, .scale = x.scale},
        .w = {.dtype = layer->dtype, .data = data, .scale = layer->scale},
        .y = {.dtype = dtype, .data = y},
        .has_gelu = has_gelu,
    };
    if (layer->row_scales) call.w.row_scales = (const float *)(data + layer->row_scales);
    set_bias(d, &call, layer);
    oct_cuda_observe_input(d, linear, x, rows);
    launch_product(d, &call, linear);
}

// F32 products leave F32; it is kept here until somebody narrows it.
static void *wide_room(oct_cuda_device *d, const oct_linear *linear, size_t rows)
{
    return oct_cuda_reserve(d, &d->wide[d->current], rows * linear->out * sizeof(float),
                            "products in F32");
}

void oct_cuda_linear(oct_device *device, oct_linear *linear, void *y, bool is_f32, oct_operand x,
                     size_t rows)
{
    oct_cuda_device *d = oct_cuda_of(device);

    if (is_f32 || x.dtype != OCT_F32) {
        multiply(d, linear, y, is_f32 ? OCT_F32 : device->activation, x, rows, false);
        return;
    }
    void *wide = wide_room(d, linear, rows);
    if (!wide) return;
    multiply(d, linear, wide, OCT_F32, x, rows, false);
    const oct_sink sink = {.data = y, .dtype = device->activation};
    oct_convert_cuda(sink, OCT_F32, wide, rows * linear->out, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "conversion");
}

static void activate(oct_cuda_device *d, oct_operand y, oct_activation activation, oct_dtype dtype,
                     const void *x, size_t rows, size_t cols)
{
    const oct_activate_args args = {
        .activation = activation, .dtype = dtype, .x = x, .rows = rows, .cols = cols};
    const oct_sink sink = oct_cuda_begin_sink(d, y, rows * cols);

    if (sink.data) oct_activate_cuda(sink, &args, oct_cuda_stream(d));
    oct_cuda_end_sink(d, y, sink, rows * cols, "activation");
}

void oct_cuda_linear_activate(oct_device *device, oct_linear *linear, oct_operand y,
                              oct_activation activation, void *scratch, oct_operand x, size_t rows)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const bool is_wide = x.dtype == OCT_F32;

    if (activation == OCT_GELU_TANH && y.dtype == device->activation && !y.peak && !is_wide) {
        multiply(d, linear, y.data, y.dtype, x, rows, true);
        return;
    }
    void *product = is_wide ? wide_room(d, linear, rows) : scratch;
    if (!product) return;
    multiply(d, linear, product, is_wide ? OCT_F32 : device->activation, x, rows, false);
    activate(d, y, activation, is_wide ? OCT_F32 : device->activation, product, rows, linear->out);
}

// ---- Attention.

static oct_sink sink_of(oct_operand y)
{
    return (oct_sink){.data = y.data, .dtype = y.dtype, .scale = y.scale, .peak = y.peak};
}

// The projections of both streams as queries, keys and values of one sequence, in `heads`.
static void split_heads(oct_cuda_device *d, const oct_joint_attention *args,
                        const oct_joint_attention_args *joint)
{
    const size_t row_bytes = 3 * args->heads * OCT_HEAD * sizeof(uint16_t);
    size_t first = 0;

    for (size_t i = 0; i < args->n_streams; i++) {
        const oct_heads_args heads = {
            .qkv = (const uint8_t *)args->qkv + first * row_bytes,
            .dtype = joint->dtype,
            .norm_q = args->streams[i].norm_q,
            .norm_k = args->streams[i].norm_k,
            .q = (void *)joint->q,
            .k = (void *)joint->k,
            .v = (void *)joint->v,
            .out_dtype = joint->dtype,
            .tokens = args->streams[i].tokens,
            .heads = args->heads,
            .first = first,
            .joint = joint->joint,
        };
        oct_split_heads_cuda(&heads, oct_cuda_stream(d));
        first += args->streams[i].tokens;
    }
}

static void attend(oct_cuda_device *d, const oct_joint_attention_args *args)
{
    oct_status st = OCT_OK;
    size_t bytes = 0;
    void *workspace = NULL;
    oct_err err;

    // Its size is the plan's to say, and a plan that is there is found again.
    st = oct_attention_cuda_plan(d->attention, args, &bytes, &err);
    if (!st && bytes > 0) {
        workspace = oct_cuda_reserve(d, &d->workspace[d->current], bytes, "attention");
        if (!workspace) return;
    }
    if (!st) st = oct_attention_cuda_run(d->attention, args, workspace, oct_cuda_stream(d), &err);
    if (st) oct_cuda_keep_status(d, st, &err, "joint attention");
}

static void attend_in_fp8(oct_cuda_device *d, const oct_joint_attention_args *args)
{
    assert(d->device.has_fp8_attention);
    void *codes = oct_cuda_reserve(d, &d->codes, oct_encode_heads_cuda_bytes(args), "attention");
    if (!codes) return;
    const oct_joint_attention_args encoded = oct_encode_heads_cuda(args, codes, oct_cuda_stream(d));
    oct_joint_attention_cuda(&encoded, oct_cuda_stream(d));
}

void oct_cuda_joint_attention(oct_device *device, const oct_joint_attention *args)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const bool has_text = args->n_streams > 1;
    const size_t joint = args->streams[0].tokens + (has_text ? args->streams[1].tokens : 0);
    const size_t bytes = joint * args->heads * OCT_HEAD * sizeof(uint16_t);

    uint8_t *heads = oct_cuda_reserve(d, &d->heads, 3 * bytes, "attention");
    if (!heads) return;
    const oct_joint_attention_args args_of_kernel = {
        .q = heads,
        .k = heads + bytes,
        .v = heads + 2 * bytes,
        .dtype = device->activation,
        .heads = args->heads,
        .joint = joint,
        .image_tokens = args->streams[0].tokens,
        .image = sink_of(args->streams[0].out),
        .text = has_text ? sink_of(args->streams[1].out) : (oct_sink){0},
    };
    split_heads(d, args, &args_of_kernel);
    if (args->is_fp8)
        attend_in_fp8(d, &args_of_kernel);
    else
        attend(d, &args_of_kernel);
    oct_cuda_keep_launch(d, "joint attention");
}

void oct_cuda_plain_attention(oct_device *device, const oct_plain_attention *args)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const size_t n = args->tokens * args->heads * args->head_dim;
    const oct_plain_attention_args args_of_kernel = {
        .q = args->q,
        .k = args->k,
        .v = args->v,
        .dtype = device->activation,
        .tokens = args->tokens,
        .heads = args->heads,
        .head_dim = args->head_dim,
        .scale = args->scale,
        .is_causal = args->is_causal,
        .bias = args->bias,
    };

    const oct_sink sink = oct_cuda_begin_sink(d, args->out, n);
    if (sink.data) oct_plain_attention_cuda(sink, &args_of_kernel, oct_cuda_stream(d));
    oct_cuda_end_sink(d, args->out, sink, n, "attention");
}

void oct_cuda_embed(oct_device *device, float *y, const oct_linear *table, const float *position,
                    const int32_t *ids, size_t tokens)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_cuda_layer *layer = table->on_device;
    const uint8_t *data = oct_cuda_layer_data(d, table);
    int32_t *moved = oct_cuda_reserve(d, &d->ids, tokens * sizeof *ids, "tokens");

    assert(!layer->row_scales);  // no file has such a table
    if (!data || !moved) return;
    oct_cuda_keep(d,
                  cudaMemcpyAsync(moved, ids, tokens * sizeof *ids, cudaMemcpyHostToDevice,
                                  oct_cuda_stream(d)),
                  "embedding");
    const oct_embed_args args = {
        .table = data,
        .dtype = layer->dtype,
        .scale = layer->scales ? layer->scales + 1 : NULL,
        .position = position,
        .ids = moved,
        .tokens = tokens,
        .width = table->in,
    };
    oct_embed_cuda(y, &args, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "embedding");
}

// ---- Convolutions.

static void convolve(oct_cuda_device *d, const oct_conv_cuda_call *call)
{
    void *workspace = NULL;
    size_t bytes = 0;
    oct_err err;

    oct_status st = oct_conv_cuda_plan(d->conv, call, &bytes, &err);
    if (!st && bytes > 0) {
        workspace = oct_cuda_reserve(d, &d->workspace[d->current], bytes, "convolutions");
        if (!workspace) return;
    }
    if (!st) st = oct_conv_cuda_run(d->conv, call, workspace, oct_cuda_stream(d), &err);
    if (st) oct_cuda_keep_status(d, st, &err, "convolution");
    oct_cuda_keep_launch(d, "convolution");
}

static oct_conv_cuda_call call_of(const oct_device *device, void *y, const void *x,
                                  const oct_conv *conv, size_t height, size_t width)
{
    const oct_cuda_conv *adopted = conv->on_device;

    assert(adopted);
    return (oct_conv_cuda_call){
        .dtype = device->activation,
        .in = conv->in,
        .out = conv->out,
        .height = height,
        .width = width,
        .kernel = conv->kernel,
        .x = x,
        .weight = adopted->weight,
        .bias = adopted->bias,
        .y = y,
    };
}

void oct_cuda_conv2d(oct_device *device, void *y, const void *x, const oct_conv *conv,
                     size_t height, size_t width)
{
    const oct_conv_cuda_call call = call_of(device, y, x, conv, height, width);
    convolve(oct_cuda_of(device), &call);
}

void oct_cuda_conv2d_down2(oct_device *device, void *y, const void *x, const oct_conv *conv,
                           size_t height, size_t width)
{
    oct_conv_cuda_call call = call_of(device, y, x, conv, height, width);
    call.is_down2 = true;
    convolve(oct_cuda_of(device), &call);
}
