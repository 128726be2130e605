// SPDX-License-Identifier: Apache-2.0
//
// The contract of a quantized file.
#include "verify/contract.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "ptq/scale.h"

static void shape_text(char *out, size_t bytes, int rank, const uint64_t *shape)
{
    size_t at = (size_t)snprintf(out, bytes, "[");
    for (int i = 0; i < rank && at < bytes; i++) {
        at += (size_t)snprintf(out + at, bytes - at, "%s%" PRIu64, i ? ", " : "", shape[i]);
    }
    if (at < bytes) snprintf(out + at, bytes - at, "]");
}

static bool has_shape(const oct_st_tensor *got, const oct_out_tensor *want)
{
    return got->rank == want->rank &&
           !memcmp(got->shape, want->shape, (size_t)got->rank * sizeof *got->shape);
}

static void check_tensor(const oct_out_tensor *want, const oct_st_tensor *got,
                         oct_findings *findings)
{
    if (!got) {
        oct_findings_add(findings, "tensor '%s' is missing", want->name);
    } else if (got->dtype != want->dtype) {
        oct_findings_add(findings, "tensor '%s' is %s, but the plan says %s", want->name,
                         oct_dtype_name(got->dtype), oct_dtype_name(want->dtype));
    } else if (!has_shape(got, want)) {
        char is[160], should[160];
        shape_text(is, sizeof is, got->rank, got->shape);
        shape_text(should, sizeof should, want->rank, want->shape);
        oct_findings_add(findings, "tensor '%s' has shape %s, but the plan says %s", want->name, is,
                         should);
    }
}

static const oct_st_tensor *find_stored(const oct_checkpoint *ckpt, const char *name)
{
    const oct_st_tensor *found = NULL;
    for (size_t i = 0; i < ckpt->n_files && !found; i++) {
        found = oct_safetensors_find(&ckpt->files[i], name);
    }
    return found;
}

static const oct_out_tensor *find_output(const oct_outputs *outputs, const char *name)
{
    size_t low = 0, high = outputs->n_tensors;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(outputs->tensors[middle].name, name);
        if (order == 0) return &outputs->tensors[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void check_strays(const oct_outputs *outputs, const oct_safetensors *file,
                         oct_findings *findings)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (find_output(outputs, file->tensors[i].name)) continue;
        oct_findings_add(findings, "tensor '%s' is stray: the plan has no such tensor",
                         file->tensors[i].name);
    }
}

// With source and policy the output is known tensor by tensor.
static oct_status check_outputs(const oct_contract_params *p, oct_findings *findings, oct_err *err)
{
    const oct_checkpoint *ckpt = &p->file->checkpoint;
    const oct_dialect is = p->dialects->of[p->denoiser->component];
    const oct_dialect dialect = is == OCT_DIALECT_NONE ? OCT_DIALECT_COMFY : is;
    oct_outputs outputs = {0};
    oct_status st = oct_outputs_init(&outputs, p->source, p->plan, dialect, err);
    for (size_t i = 0; i < outputs.n_tensors && !st; i++) {
        const oct_out_tensor *want = &outputs.tensors[i];
        check_tensor(want, find_stored(ckpt, want->name), findings);
    }
    for (size_t i = 0; i < ckpt->n_files && !st; i++) {
        check_strays(&outputs, &ckpt->files[i], findings);
    }
    oct_outputs_deinit(&outputs);
    return st;
}

// One scale per row or block: each must be a positive number.
static oct_status check_scales(const oct_layer *layer, const oct_stored_layer *stored,
                               oct_findings *findings, oct_err *err)
{
    oct_err broken = {{0}};
    uint64_t run;
    if (stored->whole.granularity == OCT_PER_TENSOR) return OCT_OK;
    float *scales = malloc(oct_stored_layer_scales(stored, layer, &run) * sizeof *scales);
    if (!scales) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for the scales of '%s'", layer->name);
    }
    oct_status st = oct_stored_layer_read_scales(stored, layer, scales, &broken);
    free(scales);
    if (st == OCT_EFORMAT) {
        oct_findings_add(findings, "%s", broken.text);
        st = OCT_OK;
    }
    if (st && err) *err = broken;
    return st;
}

static void check_input_scale(const oct_contract_params *p, const oct_layer *layer,
                              const oct_fp8_layer *fp8, oct_findings *findings)
{
    if (!p->calibration || !fp8->is_fp8 || fp8->input_scale == 0) return;
    const oct_calibration_layer *range = oct_calibration_find(p->calibration, layer->name);
    if (!range) {
        oct_findings_add(findings,
                         "layer '%s' has an input scale, but the calibration no such layer",
                         layer->name);
        return;
    }
    const float want = oct_scale_snap(oct_input_scale(range->amax, p->qmax), p->snap);
    if (oct_f32_bits(want) != oct_f32_bits(fp8->input_scale)) {
        oct_findings_add(findings,
                         "layer '%s': input scale is %.9g, but the calibration gives %.9g",
                         layer->name, (double)fp8->input_scale, (double)want);
    }
}

// "e4m3" or "e5m2 per channel".
static const char *describe(oct_weights weights, oct_granularity granularity, char out[64])
{
    snprintf(out, 64, "%s%s%s", oct_weights_name(weights),
             granularity == OCT_PER_TENSOR ? "" : " per ",
             granularity == OCT_PER_TENSOR ? "" : oct_granularity_name(granularity));
    return out;
}

// Without a source the policy alone says what each layer must be.
static void check_policy(const oct_contract_params *p, const oct_layer *layer,
                         const oct_fp8_layer *fp8, oct_findings *findings)
{
    char is[64], should[64];
    int rule;
    if (!p->policy || p->plan) return;
    const oct_setting set = oct_policy_apply(p->policy, p->denoiser, layer, &rule);
    const bool is_mx_impossible =
        set.granularity == OCT_PER_MX_BLOCK && layer->in_features % 32 != 0;
    const bool should_be_fp8 =
        set.weights != OCT_WEIGHTS_KEEP && !layer->is_conv && !is_mx_impossible;
    if (should_be_fp8 != fp8->is_fp8) {
        oct_findings_add(findings, "layer '%s' is %s, but policy '%s' says %s", layer->name,
                         fp8->is_fp8 ? "FP8" : oct_dtype_name(layer->weight->dtype),
                         p->policy->name, should_be_fp8 ? oct_weights_name(set.weights) : "keep");
        return;
    }
    if (!fp8->is_fp8 || p->dialects->of[layer->component] == OCT_DIALECT_CAST) return;
    const oct_weights weights =
        layer->weight->dtype == OCT_F8_E5M2 ? OCT_WEIGHTS_E5M2 : OCT_WEIGHTS_E4M3;
    if (weights == set.weights && fp8->granularity == set.granularity) return;
    oct_findings_add(findings, "layer '%s' is %s, but policy '%s' says %s", layer->name,
                     describe(weights, fp8->granularity, is), p->policy->name,
                     describe(set.weights, set.granularity, should));
}

static oct_status check_layers(const oct_contract_params *p, oct_findings *findings, oct_err *err)
{
    for (size_t i = 0; i < p->denoiser->n_layers; i++) {
        const oct_layer *layer = &p->denoiser->layers[i];
        oct_stored_layer stored = {0};
        oct_err broken = {{0}};
        const oct_status st = oct_stored_layer_read(&stored, p->file, p->dialects, layer, &broken);
        if (st == OCT_EIO || st == OCT_ENOMEM) {
            if (err) *err = broken;
            return st;
        }
        if (st) {
            oct_findings_add(findings, "%s", broken.text);
            continue;
        }
        check_policy(p, layer, &stored.whole, findings);
        check_input_scale(p, layer, &stored.whole, findings);
        const oct_status scales = check_scales(layer, &stored, findings, err);
        if (scales) return scales;
    }
    return OCT_OK;
}

oct_status oct_contract_check(const oct_contract_params *params, oct_findings *findings,
                              oct_err *err)
{
    oct_status st = OCT_OK;
    if (params->plan) st = check_outputs(params, findings, err);
    return st ? st : check_layers(params, findings, err);
}
