// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of a block's layers, with bias, through kernels/cuda/gemm.h.
#include "tests/gpu/rates.h"

#include "kernels/cuda/gemm.h"

typedef struct layer_shape {
    const char *name;
    size_t out, in;  // in multiples of the model's width
} layer_shape;

static const layer_shape layers[] = {
    {"attn_qkv", 3, 1}, {"attn_proj", 1, 1}, {"mlp_fc1", 4, 1}, {"mlp_fc2", 1, 4}};

typedef enum product_type { F16, FP8, FP8_FAST, PRODUCT_TYPES } product_type;

static const char *const type_name[] = {"f16", "fp8", "fp8_fast"};
static const char *const path_name[] = {
    [OCT_GEMM_F32] = "f32",
    [OCT_GEMM_16BIT] = "16-bit",
    [OCT_GEMM_FP8] = "fp8",
    [OCT_GEMM_FP8_WIDENED] = "fp8 widened",
};

typedef struct product {
    oct_gemm_cuda *gemm;
    oct_gemm_cuda_call call;
    void *workspace;
    oct_gemm_path path;
    oct_status st;
    oct_err err;
} product;

// Weights move through the pool: those of the layer before have left the cache.
static const void *weights_at(const rates *r, const oct_gemm_cuda_call *call, size_t round)
{
    const size_t weights = call->n * call->k, places = (r->n - weights) / 64 + 1;
    const size_t at = round * (weights / 64) % places * 64;
    return call->w.dtype == OCT_F16 ? (const void *)(r->halves + at)
                                    : (const void *)(r->codes + at);
}

static void multiply(rates *r, void *context, size_t round)
{
    product *p = context;
    if (p->st) return;
    p->call.w.data = weights_at(r, &p->call, round);
    p->st = oct_gemm_cuda_run(p->gemm, &p->call, p->workspace, (oct_stream)r->stream, &p->path,
                              &p->err);
}

static oct_gemm_cuda_call call_of(const rates *r, product_type type, size_t m, size_t n, size_t k)
{
    const oct_dtype dtype = type == F16 ? OCT_F16 : OCT_F8_E4M3;
    oct_gemm_cuda_call call = {.m = m, .n = n, .k = k, .w.scale = 1};

    call.x.dtype = call.w.dtype = dtype;
    call.x.data = type == F16 ? (const void *)r->halves : (const void *)r->codes;
    call.x.scale = type == F16 ? NULL : r->scale;
    call.y.dtype = OCT_F16;
    call.y.data = r->out;
    call.bias.dtype = oct_gemm_cuda_bias_dtype(dtype, OCT_F16);
    call.bias.data = r->halves;
    call.w.data = weights_at(r, &call, 0);
    return call;
}

static void note(rates *r, const rates_model *model, const layer_shape *layer, product_type type,
                 size_t pixels, const product *p, double seconds)
{
    cJSON *row = cJSON_CreateObject();
    const double flop = 2.0 * (double)p->call.m * (double)p->call.n * (double)p->call.k;

    cJSON_AddItemToArray(cJSON_GetObjectItem(r->root, "gemm"), row);
    cJSON_AddStringToObject(row, "model", model->name);
    cJSON_AddStringToObject(row, "layer", layer->name);
    cJSON_AddNumberToObject(row, "pixels", (double)pixels);  // 0: the text's
    cJSON_AddNumberToObject(row, "m", (double)p->call.m);
    cJSON_AddNumberToObject(row, "n", (double)p->call.n);
    cJSON_AddNumberToObject(row, "k", (double)p->call.k);
    cJSON_AddStringToObject(row, "type", type_name[type]);
    cJSON_AddStringToObject(row, "path", path_name[p->path]);
    cJSON_AddNumberToObject(row, "us", seconds * 1e6);
    cJSON_AddNumberToObject(row, "tflop_per_s", flop / seconds / 1e12);
}

// `pixels` 0: the text's tokens.
static oct_status measure(rates *r, oct_gemm_cuda *gemm, product_type type,
                          const rates_model *model, const layer_shape *layer, size_t pixels,
                          oct_err *err)
{
    const size_t m = pixels ? rates_image_tokens(pixels) : model->text_tokens;
    product p = {.gemm = gemm};

    p.call = call_of(r, type, m, layer->out * model->hidden, layer->in * model->hidden);
    p.workspace = rates_workspace(r, oct_gemm_cuda_bytes(gemm, &p.call));
    oct_status st = oct_gemm_cuda_plan(gemm, &p.call, p.workspace, (oct_stream)r->stream, err);
    if (st) return st;
    const double seconds = rates_seconds(r, multiply, &p);
    if (p.st) return oct_fail(err, p.st, "%s", p.err.text);
    note(r, model, layer, type, pixels, &p, seconds);
    return OCT_OK;
}

static oct_status measure_model(rates *r, oct_gemm_cuda *gemm, product_type type,
                                const rates_model *model, oct_err *err)
{
    const size_t pixels[] = {model->pixels[0], model->pixels[1], 0};
    oct_status st = OCT_OK;

    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        for (size_t p = 0; p < 3 && !st; p++)
            st = measure(r, gemm, type, model, &layers[i], pixels[p], err);
    return st;
}

static oct_status measure_type(rates *r, product_type type, oct_err *err)
{
    char cache[1024];
    oct_gemm_cuda *gemm = NULL;
    oct_gemm_cuda_params params = {
        .device_name = r->gpu.name,
        .sm = r->sm,
        .multiprocessors = r->gpu.multiProcessorCount,
        .is_fast_fp8 = type == FP8_FAST,
    };

    params.cache = oct_gemm_cuda_cache_path(cache, sizeof cache, &params) ? cache : NULL;
    oct_status st = oct_gemm_cuda_open(&gemm, &params, err);
    if (st) return st;
    if (type == F16) cJSON_AddStringToObject(r->root, "cublaslt", oct_gemm_cuda_library(gemm));
    for (size_t i = 0; i < r->n_models && !st; i++) {
        const size_t hidden = r->models[i].hidden;
        if (type == F16 || oct_gemm_cuda_has_fp8(gemm, hidden, hidden))
            st = measure_model(r, gemm, type, &r->models[i], err);
    }
    oct_gemm_cuda_close(gemm);
    return st;
}

oct_status rates_gemm(rates *r, oct_err *err)
{
    oct_status st = OCT_OK;

    cJSON_AddArrayToObject(r->root, "gemm");
    for (product_type type = F16; type < PRODUCT_TYPES && !st; type++)
        st = measure_type(r, type, err);
    return st;
}
