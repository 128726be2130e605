// SPDX-License-Identifier: Apache-2.0
//
// Our own kernels at the sizes of a block, in bytes read and written per second, beside a copy.
#include "tests/gpu/rates.h"

#include <stdio.h>

#include "kernels/cuda/cuda_kernels.h"

typedef struct kernel_case {
    size_t rows, cols;  // of image tokens
    size_t heads;
    bool is_fp8;
    oct_sink sink;
} kernel_case;

static oct_stream stream_of(const rates *r)
{
    return (oct_stream)r->stream;
}

static void norm(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    oct_layer_norm_modulate_cuda(c->sink, r->floats, r->floats, r->floats + c->cols, c->rows,
                                 c->cols, stream_of(r));
}

static void gelu(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    const oct_activate_args args = {.activation = OCT_GELU_TANH,
                                    .dtype = OCT_F16,
                                    .x = r->halves,
                                    .rows = c->rows,
                                    .cols = 2 * c->cols};
    oct_activate_cuda(c->sink, &args, stream_of(r));
}

static void gate(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    const oct_add_gated_args args = {
        .y = r->halves, .dtype = OCT_F16, .gate = r->floats, .rows = c->rows, .cols = c->cols};
    oct_add_gated_cuda(r->out, &args, stream_of(r));
}

static void split(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    uint16_t *out = r->out;
    const size_t n = c->rows * c->cols;
    const oct_heads_args args = {
        .qkv = r->halves,
        .dtype = OCT_F16,
        .norm_q = r->floats,
        .norm_k = r->floats + OCT_HEAD_CUDA,
        .q = out,
        .k = out + n,
        .v = out + 2 * n,
        .out_dtype = OCT_F16,
        .tokens = c->rows,
        .heads = c->heads,
        .joint = c->rows,
    };
    oct_split_heads_cuda(&args, stream_of(r));
}

static void convert(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    oct_convert_cuda(c->sink, OCT_F16, r->halves, c->rows * c->cols, stream_of(r));
}

static void group_norm(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    const oct_group_norm_args args = {
        .x = r->halves,
        .dtype = OCT_F16,
        .weight = r->floats,
        .bias = r->floats,
        .eps = 1e-6f,
        .has_silu = true,
        .groups = 32,
        .channels = 128,
        .pixels = c->rows * c->cols / 128,
        .workspace = r->workspace,
    };
    oct_group_norm_cuda(c->sink, &args, stream_of(r));
}

static void upsample(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    oct_upsample2_cuda(r->out, OCT_F16, r->halves, c->rows, 1, c->cols, stream_of(r));
}

static void transpose(rates *r, void *context, size_t round)
{
    const kernel_case *c = context;
    oct_transpose_cuda(r->out, OCT_F16, r->halves, c->rows, c->cols, stream_of(r));
}

// Bytes that must move per number of rows x cols; the second counts FP8 sinks.
static const struct {
    const char *name;
    rates_work *work;
    double bytes, fp8_bytes;  // 0: has no such sink
} kernels[] = {
    {"norm and modulate", norm, 6, 5},  {"GELU", gelu, 8, 6},  // of twice as many numbers
    {"gate and residual", gate, 10, 0}, {"heads and their norms", split, 12, 0},
    {"convert", convert, 4, 3},         {"GroupNorm and SiLU", group_norm, 6, 0},  // reads twice
    {"upsample", upsample, 10, 0},      {"transpose", transpose, 4, 0},
};

static void measure(rates *r, const char *name, rates_work *work, kernel_case *c, double bytes)
{
    char shape[64];
    cJSON *row = cJSON_CreateObject();

    c->sink =
        (oct_sink){.data = r->out, .dtype = c->is_fp8 ? OCT_F8_E4M3 : OCT_F16, .scale = r->scale};
    const double rate = bytes * (double)(c->rows * c->cols) / rates_seconds(r, work, c);
    snprintf(shape, sizeof shape, "%zux%zu to %s", c->rows, c->cols, c->is_fp8 ? "E4M3" : "F16");
    cJSON_AddItemToArray(cJSON_GetObjectItem(r->root, "kernels"), row);
    cJSON_AddStringToObject(row, "name", name);
    cJSON_AddStringToObject(row, "shape", shape);
    cJSON_AddNumberToObject(row, "us", bytes * (double)(c->rows * c->cols) / rate * 1e6);
    cJSON_AddNumberToObject(row, "gb_per_s", rate / 1e9);
    cJSON_AddNumberToObject(row, "of_copy", rate / r->copy_bytes_per_s);
}

void rates_kernels(rates *r)
{
    const rates_model *model = &r->models[0];
    kernel_case c = {
        .rows = rates_image_tokens(model->pixels[0]), .cols = model->hidden, .heads = model->heads};

    cJSON_AddArrayToObject(r->root, "kernels");
    rates_workspace(r, oct_group_norm_cuda_bytes(32, 128, c.rows * c.cols / 128));
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        c.is_fp8 = false;
        measure(r, kernels[i].name, kernels[i].work, &c, kernels[i].bytes);
        if (kernels[i].fp8_bytes == 0) continue;
        c.is_fp8 = true;
        measure(r, kernels[i].name, kernels[i].work, &c, kernels[i].fp8_bytes);
    }
}
