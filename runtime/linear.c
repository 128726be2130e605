// SPDX-License-Identifier: Apache-2.0
//
// Linear layers: loading by dialect or plan, and running.
#include "runtime/linear.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/json.h"
#include "kernels/kernels.h"
#include "kernels/ops.h"

#define MARKER_BYTES_MAX 4096

// Rows that are encoded at a time: bounds the scratch, and widening the weights once per panel is
// still little beside multiplying with them.
#define PANEL_ROWS 512

// --- reading tensors ---

static bool is_fp8(oct_dtype dtype)
{
    return dtype == OCT_F8_E4M3 || dtype == OCT_F8_E5M2;
}

static bool is_runnable(oct_dtype dtype)
{
    return dtype == OCT_F32 || oct_dtype_is_float16(dtype) || is_fp8(dtype);
}

static size_t element_bytes(oct_dtype dtype)
{
    return oct_dtype_bits(dtype) / 8;
}

// All bytes of a tensor, malloc'ed.
static oct_status read_tensor(const oct_source_tensor *tensor, void **data, oct_err *err)
{
    if (!is_runnable(tensor->dtype))
        return oct_fail(err, OCT_EUNSUPPORTED, "tensor '%s' of %s is %s, not F32, F16, BF16 or FP8",
                        tensor->name, oct_component_name(tensor->component),
                        oct_dtype_name(tensor->dtype));
    if (tensor->bytes == 0) return oct_fail(err, OCT_EFORMAT, "tensor '%s' is empty", tensor->name);
    *data = malloc(tensor->bytes);
    if (!*data)
        return oct_fail(err, OCT_ENOMEM, "out of memory for %" PRIu64 " bytes of '%s'",
                        tensor->bytes, tensor->name);
    const oct_status st = oct_source_read(tensor, *data, err);
    if (st) {
        free(*data);
        *data = NULL;
    }
    return st;
}

// --- scales of FP8 encoder weights ---

// The tensor "<base><suffix>", or NULL.
static const oct_source_tensor *find_beside(const oct_source *source, oct_component component,
                                            const char *base, const char *suffix)
{
    oct_arena arena = {0};

    const char *name = oct_arena_print(&arena, "%s%s", base, suffix);
    const oct_source_tensor *found = oct_source_find(source, component, name);
    oct_arena_deinit(&arena);
    return found;
}

static oct_status read_scale(const oct_source_tensor *tensor, float *scale, oct_err *err)
{
    if (tensor->dtype != OCT_F32 || tensor->bytes != sizeof *scale)
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "tensor '%s' is %s of %" PRIu64 " bytes, not one F32 number", tensor->name,
                        oct_dtype_name(tensor->dtype), tensor->bytes);
    const oct_status st = oct_source_read(tensor, scale, err);
    if (st) return st;
    if (!isfinite(*scale) || *scale <= 0)
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' is %g, not a finite number above 0",
                        tensor->name, (double)*scale);
    return OCT_OK;
}

static oct_status check_marker(const oct_source_tensor *marker, oct_err *err)
{
    char text[MARKER_BYTES_MAX];
    const char *format = NULL;
    cJSON *root = NULL;

    if (marker->dtype != OCT_U8 || marker->bytes > sizeof text)
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' is not a short text", marker->name);
    oct_status st = oct_source_read(marker, text, err);
    if (!st) st = oct_json_parse(text, marker->bytes, &root, err);
    if (!st) st = oct_json_text(root, "format", &format, err);
    if (!st && strcmp(format, "float8_e4m3fn") != 0)
        st = oct_fail(err, OCT_EUNSUPPORTED, "format '%.40s' is not float8_e4m3fn", format);
    cJSON_Delete(root);
    return st ? oct_wrap(err, st, "tensor '%s'", marker->name) : OCT_OK;
}

// The scale of the FP8 weight of `base`: comfy's, comfy-legacy's, or 1 when nothing speaks of
// scales.
static oct_status find_scale(const oct_source *source, const oct_source_tensor *weight,
                             const char *base, float *scale, oct_err *err)
{
    const oct_component component = weight->component;

    const oct_source_tensor *marker = find_beside(source, component, base, ".comfy_quant");
    const oct_source_tensor *tensor = find_beside(source, component, base, ".weight_scale");
    if (!tensor) tensor = find_beside(source, component, base, ".scale_weight");
    if (marker) {
        const oct_status st = check_marker(marker, err);
        if (st) return st;
    }
    if (tensor) return read_scale(tensor, scale, err);
    if (marker || oct_source_find(source, component, "scaled_fp8"))
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' of %s is %s without a scale", weight->name,
                        oct_component_name(component), oct_dtype_name(weight->dtype));
    *scale = 1;
    return OCT_OK;
}

// --- tensors as F32 ---

static oct_status widen_tensor(const oct_source_tensor *tensor, float scale, float **values,
                               size_t *count, oct_err *err)
{
    void *data = NULL;

    oct_status st = read_tensor(tensor, &data, err);
    if (st) return st;
    const size_t n = tensor->bytes / element_bytes(tensor->dtype);
    float *wide = n > SIZE_MAX / sizeof *wide ? NULL : malloc(n * sizeof *wide);
    if (!wide) {
        free(data);
        return oct_fail(err, OCT_ENOMEM, "out of memory for %zu numbers of '%s'", n, tensor->name);
    }
    oct_widen(wide, tensor->dtype, data, n);
    if (scale != 1)
        for (size_t i = 0; i < n; i++) wide[i] *= scale;
    free(data);
    *values = wide;
    *count = n;
    return OCT_OK;
}

oct_status oct_load_f32(const oct_source *source, oct_component component, const char *name,
                        float **values, size_t *count, oct_err *err)
{
    const oct_source_tensor *tensor = oct_source_find(source, component, name);
    const char *suffix = strrchr(name, '.');
    float scale = 1;

    if (!tensor)
        return oct_fail(err, OCT_EFORMAT, "%s has no tensor '%s'", oct_component_name(component),
                        name);
    if (is_fp8(tensor->dtype) && suffix && strcmp(suffix, ".weight") == 0) {
        oct_arena arena = {0};
        const char *base = oct_arena_copy_n(&arena, name, (size_t)(suffix - name));
        const oct_status st = find_scale(source, tensor, base, &scale, err);
        oct_arena_deinit(&arena);
        if (st) return st;
    }
    return widen_tensor(tensor, scale, values, count, err);
}

// --- loading layers ---

static oct_status load_bias(oct_linear *linear, const oct_source_tensor *bias, oct_err *err)
{
    size_t count = 0;

    if (!bias) return OCT_OK;
    const oct_status st = widen_tensor(bias, 1, &linear->bias, &count, err);
    if (!st && count != linear->out)
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' has %zu numbers, its layer %zu outputs",
                        bias->name, count, linear->out);
    return st;
}

// The weight as it is stored.
static oct_status load_weight(oct_linear *linear, const oct_source_tensor *weight, oct_err *err)
{
    if (weight->rank < 2 || weight->shape[0] == 0)
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' has %d dimensions, not 2 or more",
                        weight->name, weight->rank);
    const oct_status st = read_tensor(weight, &linear->weight, err);
    if (st) return st;
    linear->dtype = weight->dtype;
    linear->out = weight->shape[0];
    linear->in = weight->bytes / element_bytes(weight->dtype) / linear->out;
    return OCT_OK;
}

oct_status oct_linear_load(oct_linear *linear, const oct_source *source, oct_component component,
                           const char *name, oct_err *err)
{
    const oct_source_tensor *weight = find_beside(source, component, name, ".weight");

    *linear = (oct_linear){.weight_scale = 1, .layer = -1};
    if (!weight)
        return oct_fail(err, OCT_EFORMAT, "%s has no tensor '%s.weight'",
                        oct_component_name(component), name);
    linear->name = weight->name;
    if (is_fp8(weight->dtype) && component != OCT_T5)
        return oct_fail(err, OCT_EUNSUPPORTED, "tensor '%s' of %s is %s; only T5 runs in FP8 here",
                        weight->name, oct_component_name(component), oct_dtype_name(weight->dtype));
    oct_status st = load_weight(linear, weight, err);
    if (!st && is_fp8(weight->dtype))
        st = find_scale(source, weight, name, &linear->weight_scale, err);
    if (!st) st = load_bias(linear, find_beside(source, component, name, ".bias"), err);
    if (st) oct_linear_deinit(linear);
    return st;
}

// Room for the scales of a weight that has many; NULL where it has one.
static oct_status alloc_scales(oct_linear *linear, oct_granularity granularity, void **scales,
                               oct_err *err)
{
    *scales = NULL;
    switch (granularity) {
    case OCT_PER_TENSOR:
        return OCT_OK;
    case OCT_PER_CHANNEL:
        *scales = linear->row_scales = malloc(linear->out * sizeof *linear->row_scales);
        break;
    case OCT_PER_MX_BLOCK:
        *scales = linear->block_scales = malloc(linear->out * (linear->in / OCT_MX_BLOCK));
        break;
    }
    return *scales
               ? OCT_OK
               : oct_fail(err, OCT_ENOMEM, "out of memory for the scales of '%s'", linear->name);
}

// The scales that the file has.
static oct_status load_scales(oct_linear *linear, const oct_layer *layer, const oct_fp8_layer *fp8,
                              oct_err *err)
{
    void *scales = NULL;

    linear->weight_scale = fp8->weight_scale;
    linear->input_scale = fp8->is_full_precision ? 0 : fp8->input_scale;
    const oct_status st = alloc_scales(linear, fp8->granularity, &scales, err);
    return st || !scales ? st : oct_dialect_read_scales(fp8, layer, scales, err);
}

// Replace the stored weight by its codes.
static oct_status quantize_weight(oct_linear *linear, const oct_layer *layer, const oct_plan *plan,
                                  const oct_decision *decision, oct_err *err)
{
    void *scales = NULL;

    oct_status st = alloc_scales(linear, decision->granularity, &scales, err);
    if (st) return st;
    uint8_t *codes = malloc(linear->out * linear->in);
    if (!codes)
        return oct_fail(err, OCT_ENOMEM, "out of memory for %zu codes of '%s'",
                        linear->out * linear->in, layer->name);
    st = oct_plan_encode(plan, layer, linear->weight, codes,
                         scales ? scales : &linear->weight_scale, err);
    free(linear->weight);
    linear->weight = codes;
    linear->dtype = decision->weights == OCT_WEIGHTS_E5M2 ? OCT_F8_E5M2 : OCT_F8_E4M3;
    linear->input_scale = decision->input_scale;
    return st;
}

oct_status oct_linear_load_layer(oct_linear *linear, const oct_source *source,
                                 const oct_denoiser *denoiser, size_t layer, const oct_plan *plan,
                                 oct_err *err)
{
    assert(layer < denoiser->n_layers);
    const oct_layer *of = &denoiser->layers[layer];
    const oct_decision *decision = plan ? oct_plan_find(plan, of) : NULL;
    oct_fp8_layer fp8 = {0};

    *linear = (oct_linear){.name = of->name, .weight_scale = 1, .layer = (int)layer};
    oct_status st = oct_dialect_read(source, oct_dialect_detect(source), of, &fp8, err);
    if (!st) st = load_weight(linear, of->weight, err);
    if (!st && fp8.is_fp8) {
        st = load_scales(linear, of, &fp8, err);
    } else if (!st && decision && decision->weights != OCT_WEIGHTS_KEEP) {
        st = quantize_weight(linear, of, plan, decision, err);
    }
    if (!st) st = load_bias(linear, of->bias, err);
    if (st) oct_linear_deinit(linear);
    return st;
}

void oct_linear_free_weights(oct_linear *linear)
{
    free(linear->weight);
    free(linear->bias);
    free(linear->row_scales);
    free(linear->block_scales);
    linear->weight = NULL;
    linear->bias = NULL;
    linear->row_scales = NULL;
    linear->block_scales = NULL;
}

void oct_linear_deinit(oct_linear *linear)
{
    assert(!linear->on_device);
    oct_linear_free_weights(linear);
    *linear = (oct_linear){0};
}

// --- running ---

void oct_linear_row(const oct_linear *linear, size_t row, float *values)
{
    assert(row < linear->out);
    const uint8_t *stored = linear->weight;
    const size_t in = linear->in, first = row * in;
    const float scale = linear->weight_scale * (linear->row_scales ? linear->row_scales[row] : 1);

    if (linear->block_scales) {
        oct_decode_mx(values, stored + first, linear->block_scales + first / OCT_MX_BLOCK,
                      in / OCT_MX_BLOCK);
        return;
    }
    oct_widen(values, linear->dtype, stored + first * element_bytes(linear->dtype), in);
    if (scale != 1)
        for (size_t i = 0; i < in; i++) values[i] *= scale;
}

static void multiply(const oct_linear *linear, float *y, const float *x, size_t rows, float scale)
{
    const oct_gemm_weight weight = {
        .dtype = linear->dtype,
        .data = linear->weight,
        .scale = scale,
        .row_scales = linear->row_scales,
        .block_scales = linear->block_scales,
    };
    oct_gemm_scaled(y, x, &weight, linear->bias, rows, linear->out, linear->in);
}

static void encode_rows(const oct_linear *linear, uint8_t *codes, float *wide, const float *x,
                        size_t rows)
{
    const size_t in = linear->in;

#pragma omp parallel for schedule(static)
    for (size_t row = 0; row < rows; row++) {
        oct_encode_e4m3(codes + row * in, OCT_F32, x + row * in, in, linear->input_scale);
        oct_widen(wide + row * in, OCT_F8_E4M3, codes + row * in, in);
    }
}

static void run_static(const oct_linear *linear, float *y, const float *x, size_t rows)
{
    const size_t panel = rows < PANEL_ROWS ? rows : PANEL_ROWS;
    const float scale = linear->input_scale * linear->weight_scale;
    oct_arena scratch = {0};
    uint8_t *codes = oct_arena_array(&scratch, panel, linear->in);
    float *wide = oct_arena_array(&scratch, panel * linear->in, sizeof *wide);

    for (size_t row = 0; row < rows; row += panel) {
        const size_t n = rows - row < panel ? rows - row : panel;
        encode_rows(linear, codes, wide, x + row * linear->in, n);
        multiply(linear, y + row * linear->out, wide, n, scale);
    }
    oct_arena_deinit(&scratch);
}

void oct_linear_run(oct_linear *linear, float *y, const float *x, size_t rows,
                    oct_observer *observer)
{
    assert(rows > 0);
    oct_observe(observer, linear->layer, x, rows, linear->in);
    linear->runs++;
    linear->path = OCT_PATH_F32;
    if (linear->input_scale > 0) {
        run_static(linear, y, x, rows);
        return;
    }
    multiply(linear, y, x, rows, linear->weight_scale);
}
