// SPDX-License-Identifier: Apache-2.0
//
// Layers on a GPU: operands and who observes them, matrix products, attention, convolutions.
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "common/number.h"
#include "runtime/device_cuda.h"

#define INFINITY_BITS 0x7f800000u

// ---- Operands.

// Memory of an observer's numbers, all 0. NULL: there is none, which is kept.
static void *new_zeros(oct_cuda_device *d, size_t bytes)
{
    void *p = NULL;
    oct_err err;

    const oct_status st = oct_cuda_alloc(d, &p, bytes, "observers", &err);
    if (st) {
        oct_cuda_keep_status(d, st, &err, NULL);
        return NULL;
    }
    oct_cuda_keep(d, cudaMemsetAsync(p, 0, bytes, oct_cuda_stream(d)), "observers");
    return p;
}

static size_t peaks_bytes(const oct_cuda_device *d)
{
    return d->n_layers * 2 * (d->n_steps + 1) * sizeof *d->peaks;
}

static size_t counts_bytes(const oct_cuda_device *d)
{
    return d->n_layers * OCT_EXPONENT_BINS * sizeof *d->counts;
}

static bool fits_observer(const oct_cuda_device *d)
{
    const oct_observer *observer = d->device.observer;

    return d->peaks && d->counts && d->n_layers == observer->n_layers &&
           d->n_steps == observer->n_steps;
}

// Where peaks and counts are kept, as large as the observer wants.
static bool prepare_to_observe(oct_cuda_device *d)
{
    const oct_observer *observer = d->device.observer;

    if (fits_observer(d)) return true;
    oct_cuda_free(d, d->peaks);
    oct_cuda_free(d, d->counts);
    d->n_layers = observer->n_layers;
    d->n_steps = observer->n_steps;
    d->cols = realloc(d->cols, d->n_layers * sizeof *d->cols);
    if (!d->cols) abort();
    d->peaks = new_zeros(d, peaks_bytes(d));
    d->counts = new_zeros(d, counts_bytes(d));
    return d->peaks && d->counts;
}

static uint32_t *find_peak(oct_cuda_device *d, const oct_linear *linear)
{
    const oct_observer *observer = d->device.observer;

    if (!observer || linear->layer < 0 || !prepare_to_observe(d)) return NULL;
    const size_t layer = (size_t)linear->layer, branch = (size_t)observer->branch;
    const size_t step = observer->step == -2   ? observer->n_steps
                        : observer->step == -1 ? 0
                                               : (size_t)observer->step;
    d->cols[layer] = linear->in;
    return d->peaks + (layer * 2 + branch) * (observer->n_steps + 1) + step;
}

oct_operand oct_cuda_operand(oct_device *device, const oct_linear *linear, void *buffer)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const oct_cuda_layer *layer = linear->on_device;

    assert(layer);
    return (oct_operand){
        .data = buffer,
        .dtype = layer->input,
        .scale = layer->input == OCT_F8_E4M3 ? layer->scales : NULL,
        .peak = find_peak(d, linear),
    };
}

oct_operand oct_cuda_plain(oct_device *device, void *buffer)
{
    return (oct_operand){.data = buffer, .dtype = device->activation};
}

// Whether every row has a peak of its own.
static bool is_observed_by_row(const oct_cuda_device *d, oct_operand y)
{
    return y.peak && d->device.observer && d->device.observer->step == -1;
}

oct_sink oct_cuda_begin_sink(oct_cuda_device *d, oct_operand y, size_t n)
{
    if (is_observed_by_row(d, y)) {
        void *wide = oct_cuda_reserve(d, &d->observed[d->current], n * sizeof(float), "observers");
        return (oct_sink){.data = wide, .dtype = OCT_F32};
    }
    return (oct_sink){.data = y.data, .dtype = y.dtype, .scale = y.scale, .peak = y.peak};
}

void oct_cuda_end_sink(oct_cuda_device *d, oct_operand y, oct_sink sink, size_t n,
                       const char *operation)
{
    const cudaStream_t stream = oct_cuda_stream(d);

    if (is_observed_by_row(d, y) && sink.data) {
        const size_t layer = (size_t)(y.peak - d->peaks) / (2 * (d->n_steps + 1));
        const size_t cols = d->cols[layer];
        assert(n % cols == 0 && n / cols <= d->n_steps);
        oct_observe_cuda(y.peak, false, OCT_F32, sink.data, n / cols, cols, stream);
        const oct_sink to = {.data = y.data, .dtype = y.dtype, .scale = y.scale};
        oct_convert_cuda(to, OCT_F32, sink.data, n, stream);
    }
    oct_cuda_keep_launch(d, operation);
}

static void raise_to(float *amax, uint32_t bits)
{
    const float value = oct_f32_from_bits(bits < INFINITY_BITS ? bits : INFINITY_BITS);
    if (value > *amax) *amax = value;
}

static void raise_steps(const oct_cuda_device *d, const uint32_t *peaks)
{
    for (size_t row = 0; row < 2 * d->n_layers; row++) {
        const uint32_t *from = peaks + row * (d->n_steps + 1);
        float *to = d->device.observer->amax + row * d->n_steps;
        for (size_t step = 0; step < d->n_steps; step++) {
            raise_to(&to[step], from[step]);
            raise_to(&to[step], from[d->n_steps]);
        }
    }
}

static void add_counts(const oct_cuda_device *d, const uint64_t *counts)
{
    for (size_t i = 0; i < d->n_layers; i++) {
        for (size_t bin = 0; bin < OCT_EXPONENT_BINS; bin++) {
            d->device.observer->exponents[i].counts[bin] += counts[i * OCT_EXPONENT_BINS + bin];
        }
    }
}

// From the device, where zeros are left: the next observer may be another. NULL: an error is kept.
static void *take(oct_cuda_device *d, void *from, size_t bytes)
{
    const cudaStream_t stream = d->streams[OCT_STREAM_MAIN];
    void *taken = malloc(bytes);

    if (!taken) abort();
    cudaError_t error = cudaMemcpyAsync(taken, from, bytes, cudaMemcpyDeviceToHost, stream);
    if (!error) error = cudaStreamSynchronize(stream);
    if (!error) error = cudaMemsetAsync(from, 0, bytes, stream);
    oct_cuda_keep(d, error, "observers");
    if (!error) return taken;
    free(taken);
    return NULL;
}

void oct_cuda_gather_observed(oct_cuda_device *d)
{
    if (!d->device.observer || !fits_observer(d)) return;
    uint32_t *peaks = take(d, d->peaks, peaks_bytes(d));
    uint64_t *counts = take(d, d->counts, counts_bytes(d));
    if (peaks) raise_steps(d, peaks);
    if (counts) add_counts(d, counts);
    free(peaks);
    free(counts);
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

// Of a layer that is observed. Codes of a quantized model are not what a histogram is wanted of.
static void count_exponents(oct_cuda_device *d, const oct_linear *linear, oct_operand x,
                            size_t rows)
{
    if (!x.peak || x.dtype == OCT_F8_E4M3) return;
    oct_count_exponents_cuda(d->counts + (size_t)linear->layer * OCT_EXPONENT_BINS, x.dtype, x.data,
                             rows * linear->in, oct_cuda_stream(d));
    oct_cuda_keep_launch(d, "observers");
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
    count_exponents(d, linear, x, rows);
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
