// SPDX-License-Identifier: Apache-2.0
//
// Drift against the source.
#include "verify/drift.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "common/progress.h"
#include "kernels/kernels.h"
#include "ptq/scale.h"

// x / s is itself rounded to binary32 before it is rounded to E4M3: 2^-24 relative, which half a
// step (2^-5 relative at least) can feel in its 19th bit.
#define BOUND_SLACK (1.0 + 0x1p-18)

typedef struct buffers {
    void *source;    // stored bytes of the source tensor
    uint8_t *file;   // stored bytes of the file's tensor
    uint8_t *codes;  // what the codes should be
    float *values;   // source, widened
} buffers;

static void buffers_deinit(buffers *b)
{
    free(b->source);
    free(b->file);
    free(b->codes);
    free(b->values);
    *b = (buffers){0};
}

static oct_status buffers_init(buffers *b, const oct_source_tensor *source,
                               const oct_source_tensor *file, bool is_fp8, oct_err *err)
{
    b->source = malloc(source->bytes + 1);
    b->file = malloc(file->bytes + 1);
    if (is_fp8) {
        b->codes = malloc(file->bytes + 1);
        b->values = malloc(file->bytes * sizeof *b->values + 1);
    }
    if (b->source && b->file && (!is_fp8 || (b->codes && b->values))) return OCT_OK;
    return oct_fail(err, OCT_ENOMEM, "out of memory for tensor '%s' of %" PRIu64 " bytes",
                    source->name, source->bytes);
}

// Half the distance between neighbours of |x / s| in E4M3, times s.
static double half_step(float ratio, float scale)
{
    int exponent;
    frexp(fabs((double)ratio), &exponent);   // ratio = m * 2^exponent, m in [0.5, 1)
    int step = exponent - 1 - 3;             // three mantissa bits
    if (step < -9 || ratio == 0) step = -9;  // subnormal
    if (step > 5) step = 5;                  // the last binade, 256 to 448
    return 0.5 * ldexp((double)scale, step);
}

static void measure(oct_drift_layer *layer, const float *x, const uint8_t *codes, uint64_t n,
                    float scale)
{
    double signal = 0, noise = 0, error_max = 0, of_bound = 0;
    uint64_t underflow = 0, saturated = 0;
    for (uint64_t i = 0; i < n; i++) {
        const float ratio = x[i] / scale;
        const double error = fabs((double)x[i] - (double)oct_e4m3_to_f32(codes[i]) * (double)scale);
        signal += (double)x[i] * (double)x[i];
        noise += error * error;
        if (error > error_max) error_max = error;
        if (fabsf(ratio) > OCT_E4M3_MAX) {
            saturated++;
        } else if (error > of_bound * half_step(ratio, scale)) {
            of_bound = error / half_step(ratio, scale);
        }
        underflow += x[i] != 0 && (codes[i] & 0x7f) == 0;
    }
    layer->sqnr_db = noise > 0 ? 10 * log10(signal / noise) : INFINITY;
    layer->error_max = error_max;
    layer->error_max_of_bound = of_bound;
    layer->underflow_share = (double)underflow / (double)n;
    layer->saturated_share = (double)saturated / (double)n;
}

static void judge(const oct_drift_params *p, const oct_drift_layer *layer, const buffers *b,
                  uint64_t n, oct_findings *findings)
{
    uint64_t differ = 0, first = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (b->codes[i] != b->file[i] && !differ++) first = i;
    }
    if (differ) {
        oct_findings_add(findings,
                         "layer '%s': %" PRIu64 " codes are not the source's, the first at "
                         "index %" PRIu64 " (0x%02x, should be 0x%02x)",
                         layer->name, differ, first, b->file[first], b->codes[first]);
    }
    if (layer->error_max_of_bound > BOUND_SLACK) {
        oct_findings_add(findings, "layer '%s': an error of %.6g times half a step of E4M3",
                         layer->name, layer->error_max_of_bound);
    }
    if (layer->sqnr_db < p->sqnr_db_min) {
        oct_findings_add(findings, "layer '%s': SQNR %.2f dB is below %.2f dB", layer->name,
                         layer->sqnr_db, p->sqnr_db_min);
    }
}

static oct_status compare_fp8(const oct_drift_params *p, const oct_layer *layer, float scale,
                              const oct_source_tensor *source, oct_drift *drift,
                              oct_findings *findings, oct_err *err)
{
    buffers b = {0};
    const uint64_t n = layer->weight->bytes;
    oct_status st = buffers_init(&b, source, layer->weight, true, err);
    if (!st) st = oct_source_read(source, b.source, err);
    if (!st) st = oct_source_read(layer->weight, b.file, err);
    if (st) goto out;

    int is_finite;
    const float amax = oct_absmax(source->dtype, b.source, n, &is_finite);
    const float want = oct_weight_scale(amax, p->qmax);
    if (p->check_scale && oct_f32_bits(want) != oct_f32_bits(scale)) {
        oct_findings_add(findings, "layer '%s': weight scale is %.9g, but the source gives %.9g",
                         layer->name, (double)scale, (double)want);
    }
    oct_widen(b.values, source->dtype, b.source, n);
    oct_encode_e4m3(b.codes, source->dtype, b.source, n, scale);
    oct_drift_layer *result = &drift->layers[drift->n_layers];
    result->name = layer->name;
    measure(result, b.values, b.file, n, scale);
    if (result->sqnr_db < drift->layers[drift->worst].sqnr_db) drift->worst = drift->n_layers;
    drift->n_layers++;
    judge(p, result, &b, n, findings);

out:
    buffers_deinit(&b);
    return st;
}

static oct_status compare_copy(const oct_source_tensor *file, const oct_source_tensor *source,
                               oct_drift *drift, oct_findings *findings, oct_err *err)
{
    buffers b = {0};
    oct_status st = buffers_init(&b, source, file, false, err);
    if (!st) st = oct_source_read(source, b.source, err);
    if (!st) st = oct_source_read(file, b.file, err);
    if (!st && memcmp(b.source, b.file, file->bytes)) {
        uint64_t at = 0;
        while (b.file[at] == ((const uint8_t *)b.source)[at]) at++;
        oct_findings_add(findings, "tensor '%s' differs from the source at byte %" PRIu64,
                         file->name, at);
    } else if (!st) {
        drift->n_copied++;
    }
    buffers_deinit(&b);
    return st;
}

static const oct_layer *layer_of(const oct_denoiser *denoiser, const oct_source_tensor *tensor)
{
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        if (denoiser->layers[i].weight == tensor) return &denoiser->layers[i];
    }
    return NULL;
}

// Scales and markers have no counterpart in a 16-bit source.
static bool belongs_to_dialect(const char *name)
{
    static const char *const ends[] = {"weight_scale", "input_scale", "comfy_quant",
                                       "scale_weight", "scale_input", "scaled_fp8"};
    const char *dot = strrchr(name, '.');
    const char *last = dot ? dot + 1 : name;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (!strcmp(last, ends[i])) return true;
    }
    return false;
}

static bool is_same_shape(const oct_source_tensor *a, const oct_source_tensor *b)
{
    return a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

static oct_status compare(const oct_drift_params *p, const oct_source_tensor *tensor,
                          oct_drift *drift, oct_findings *findings, oct_err *err)
{
    const oct_source_tensor *source = oct_source_find(p->source, tensor->component, tensor->name);
    if (!source) {
        if (!belongs_to_dialect(tensor->name)) {
            oct_findings_add(findings, "tensor '%s' is not in the source", tensor->name);
        }
        return OCT_OK;
    }
    if (!is_same_shape(tensor, source)) {
        oct_findings_add(findings, "tensor '%s' has another shape than in the source",
                         tensor->name);
        return OCT_OK;
    }
    if (tensor->dtype == source->dtype) return compare_copy(tensor, source, drift, findings, err);

    if (source->dtype != OCT_F32 && !oct_dtype_is_float16(source->dtype)) {
        oct_findings_add(findings, "tensor '%s' is %s in the source, which is not 16-bit",
                         tensor->name, oct_dtype_name(source->dtype));
        return OCT_OK;
    }
    const oct_layer *layer = layer_of(p->denoiser, tensor);
    oct_fp8_layer fp8 = {0};
    if (!layer || oct_dialect_read(p->file, p->dialect, layer, &fp8, NULL) || !fp8.is_fp8) {
        if (!layer) {
            oct_findings_add(findings, "tensor '%s' is %s, but %s in the source", tensor->name,
                             oct_dtype_name(tensor->dtype), oct_dtype_name(source->dtype));
        }
        return OCT_OK;  // the contract has named a broken layer already
    }
    return compare_fp8(p, layer, fp8.weight_scale, source, drift, findings, err);
}

oct_status oct_drift_measure(oct_drift *drift, const oct_drift_params *params,
                             oct_findings *findings, oct_err *err)
{
    oct_progress progress;
    uint64_t bytes = 0;
    *drift = (oct_drift){0};
    drift->layers =
        oct_arena_array(&drift->arena, params->denoiser->n_layers + 1, sizeof *drift->layers);
    for (size_t i = 0; i < params->file->n_tensors; i++) bytes += params->file->tensors[i].bytes;
    oct_progress_begin(&progress, "comparing", bytes, "B");
    oct_status st = OCT_OK;
    for (size_t i = 0; i < params->file->n_tensors && !st; i++) {
        st = compare(params, &params->file->tensors[i], drift, findings, err);
        oct_progress_add(&progress, params->file->tensors[i].bytes);
    }
    oct_progress_end(&progress);
    return st;
}

void oct_drift_deinit(oct_drift *drift)
{
    oct_arena_deinit(&drift->arena);
    *drift = (oct_drift){0};
}
