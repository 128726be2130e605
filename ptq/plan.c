// SPDX-License-Identifier: Apache-2.0
//
// The plan: deciding, and encoding as decided.
#include "ptq/plan.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/number.h"
#include "kernels/kernels.h"
#include "ptq/encoder.h"
#include "ptq/scale.h"

#define FP8_GEMM_MULTIPLE 16         // of both feature counts, for FP8 matrix products
#define CHUNK (UINT64_C(64) * 1024)  // elements per piece of work

// ---- Deciding.

static bool is_encodable(oct_dtype dtype)
{
    return dtype == OCT_F16 || dtype == OCT_BF16 || dtype == OCT_F32;
}

static oct_status check_types(const oct_denoiser *denoiser, oct_err *err)
{
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        const oct_source_tensor *weight = denoiser->layers[i].weight;
        if (denoiser->layers[i].component != denoiser->component) continue;
        if (!is_encodable(weight->dtype)) {
            return oct_fail(err, OCT_EUNSUPPORTED, "the model is FP8 already: '%s' has type %s",
                            weight->name, oct_dtype_name(weight->dtype));
        }
    }
    return OCT_OK;
}

static oct_status check_calibration(const oct_denoiser *denoiser,
                                    const oct_calibration *calibration, oct_err *err)
{
    char shown[200];

    for (size_t i = 0; calibration && i < calibration->n_layers; i++) {
        const char *name = calibration->layers[i].name;
        const oct_layer *layer = oct_denoiser_find(denoiser, name);
        if (!layer || strcmp(layer->name, name) != 0) {
            return oct_fail(err, OCT_EFORMAT, "the calibration has layer '%s', the model has not",
                            oct_printable(name, shown, sizeof shown));
        }
        const oct_channels *channels = calibration->layers[i].channels;
        if (channels && channels->n != layer->in_features) {
            return oct_fail(err, OCT_EFORMAT,
                            "layer '%s': the calibration has %zu channels, the model %" PRIu64,
                            layer->name, channels->n, layer->in_features);
        }
    }
    return OCT_OK;
}

static void set_weight_only(oct_decision *decision, const char *reason)
{
    decision->inputs = OCT_INPUTS_NONE;
    decision->reason = reason;
}

// What calibration says of a layer: give static inputs their scale, or take them back with a
// reason.
static oct_status decide_inputs(oct_plan *plan, oct_decision *decision, oct_err *err)
{
    const oct_layer *layer = decision->layer;
    const oct_calibration *calibration = plan->params.calibration;

    const oct_calibration_layer *range =
        calibration ? oct_calibration_find(calibration, layer->name) : NULL;
    if (range && range->channels && range->channels->rows > 0) decision->channels = range->channels;
    if (decision->inputs != OCT_INPUTS_STATIC) return OCT_OK;
    if (plan->params.has_unit_scales) {
        set_weight_only(decision, "no scales in this dialect: weight only");
        return OCT_OK;
    }
    if (layer->component == OCT_T5) {
        set_weight_only(decision, "text encoder: weight only");
        return OCT_OK;
    }
    if (layer->out_features % FP8_GEMM_MULTIPLE || layer->in_features % FP8_GEMM_MULTIPLE) {
        set_weight_only(decision, "features are not multiples of 16: weight only");
        return OCT_OK;
    }
    if (!range || range->amax == 0) {
        if (plan->params.require_calibration) {
            return oct_fail(err, OCT_EFORMAT, "layer '%s' has no calibrated range", layer->name);
        }
        set_weight_only(decision, "no calibrated range: weight only");
        return OCT_OK;
    }
    decision->input_scale =
        oct_scale_snap(oct_input_scale(range->amax, plan->params.qmax), plan->params.snap_scales);
    if (!isfinite(decision->input_scale)) {
        return oct_fail(err, OCT_EFORMAT, "layer '%s': range %.9g over %.9g is no finite scale",
                        layer->name, range->amax, plan->params.qmax);
    }
    return OCT_OK;
}

static void keep(oct_decision *decision, const char *reason)
{
    decision->weights = OCT_WEIGHTS_KEEP;
    decision->reason = reason;
}

// Weights, granularity and scaling, where the layer allows them.
static oct_status decide_weights(oct_decision *decision, const oct_setting *set, oct_err *err)
{
    const oct_layer *layer = decision->layer;
    const bool is_mx = set->granularity == OCT_PER_MX_BLOCK;

    decision->weights = set->weights;
    if (set->weights == OCT_WEIGHTS_KEEP) return OCT_OK;
    if (layer->is_conv) {
        keep(decision, "convolution: no loader reads it in FP8");
        return OCT_OK;
    }
    if (!is_encodable(layer->weight->dtype)) {
        keep(decision, "FP8 already");
        return OCT_OK;
    }
    if (is_mx && (set->weights != OCT_WEIGHTS_E4M3 || set->scaling != OCT_SCALE_MAX)) {
        return oct_fail(err, OCT_EFORMAT,
                        "layer '%s': granularity 'mx' goes with weights 'e4m3' and scale 'max', "
                        "not '%s' and '%s'",
                        layer->name, oct_weights_name(set->weights),
                        oct_scaling_name(set->scaling));
    }
    if (is_mx && layer->in_features % OCT_MX_BLOCK) {
        keep(decision, "in_features is no multiple of 32: no MX blocks");
        return OCT_OK;
    }
    decision->granularity = set->granularity;
    decision->scaling = set->scaling;
    decision->percentile = set->percentile;
    return OCT_OK;
}

static oct_status decide(oct_plan *plan, oct_decision *decision, oct_err *err)
{
    const oct_layer *layer = decision->layer;
    const oct_setting setting =
        oct_policy_apply(plan->params.policy, plan->denoiser, layer, &decision->rule);

    decision->reason = decision->rule < 0
                           ? "default"
                           : oct_arena_print(&plan->arena, "rule %d", decision->rule + 1);
    oct_status st = decide_weights(decision, &setting, err);
    if (st) return st;
    decision->bytes_before = layer->weight->bytes;
    decision->bytes_after = decision->bytes_before;
    if (decision->weights == OCT_WEIGHTS_KEEP) return OCT_OK;
    decision->inputs = setting.inputs;
    st = decide_inputs(plan, decision, err);
    decision->bytes_after =
        layer->out_features * layer->in_features +
        (plan->params.has_unit_scales ? 0 : oct_decision_scale_bytes(decision)) +
        (decision->inputs == OCT_INPUTS_STATIC ? sizeof(float) : 0);
    return st;
}

uint64_t oct_decision_scale_bytes(const oct_decision *decision)
{
    const oct_layer *layer = decision->layer;

    if (decision->weights == OCT_WEIGHTS_KEEP) return 0;
    switch (decision->granularity) {
    case OCT_PER_TENSOR:
        break;
    case OCT_PER_CHANNEL:
        return layer->out_features * sizeof(float);
    case OCT_PER_MX_BLOCK:
        return layer->out_features * (layer->in_features / OCT_MX_BLOCK);
    }
    return sizeof(float);
}

static void sum_up(oct_plan *plan)
{
    const oct_denoiser *denoiser = plan->denoiser;

    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *decision = &plan->decisions[i];
        plan->n_fp8 += decision->weights != OCT_WEIGHTS_KEEP;
        plan->n_static += decision->inputs == OCT_INPUTS_STATIC;
        plan->bytes_after += decision->bytes_after - decision->bytes_before;
    }
    plan->bytes_before = denoiser->bytes;
    plan->bytes_after += denoiser->bytes;
}

static oct_status decide_all(oct_plan *plan, oct_err *err)
{
    const oct_denoiser *denoiser = plan->denoiser;

    oct_status st = check_types(denoiser, err);
    if (!st) st = oct_policy_check_rules(plan->params.policy, denoiser, err);
    if (!st) st = check_calibration(denoiser, plan->params.calibration, err);
    plan->decisions = oct_arena_array(&plan->arena, denoiser->n_layers, sizeof *plan->decisions);
    for (size_t i = 0; i < denoiser->n_layers && !st; i++) {
        plan->decisions[i].layer = &denoiser->layers[i];
        st = decide(plan, &plan->decisions[i], err);
    }
    return st;
}

oct_status oct_plan_init(oct_plan *plan, const oct_denoiser *denoiser,
                         const oct_plan_params *params, oct_err *err)
{
    assert(params->policy && params->qmax > 0 && params->qmax <= OCT_E4M3_MAX);
    *plan = (oct_plan){.denoiser = denoiser, .params = *params};
    const oct_status st = decide_all(plan, err);
    if (st) {
        oct_plan_deinit(plan);
        return st;
    }
    plan->n_decisions = denoiser->n_layers;
    sum_up(plan);
    return OCT_OK;
}

void oct_plan_deinit(oct_plan *plan)
{
    oct_arena_deinit(&plan->arena);
    *plan = (oct_plan){0};
}

const oct_decision *oct_plan_find(const oct_plan *plan, const oct_layer *layer)
{
    const size_t index = (size_t)(layer - plan->denoiser->layers);

    assert(index < plan->n_decisions);
    return &plan->decisions[index];
}

oct_status oct_plan_check_model(const oct_plan *plan, const char *denoiser_xxh3, oct_err *err)
{
    const oct_calibration *calibration = plan->params.calibration;

    if (!calibration || strcmp(calibration->denoiser_xxh3, denoiser_xxh3) == 0) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT,
                    "the calibration was made with another model: its denoiser is %s, this one %s",
                    calibration->denoiser_xxh3, denoiser_xxh3);
}

// ---- Encoding.

static uint64_t chunk_at(uint64_t start, uint64_t n, uint64_t chunk)
{
    return n - start < chunk ? n - start : chunk;
}

oct_status oct_plan_encode(const oct_plan *plan, const oct_layer *layer, const void *x,
                           uint8_t *codes, void *scales, oct_err *err)
{
    const uint64_t n = layer->out_features * layer->in_features;
    const size_t element = oct_dtype_bits(layer->weight->dtype) / 8;
    const uint8_t *bytes = x;
    oct_encoder *encoder = NULL;
    uint64_t scale_bytes = 0;

    oct_status st = oct_encoder_begin(&encoder, plan, oct_plan_find(plan, layer), err);
    if (st) return st;
    const uint64_t grain = oct_encoder_grain(encoder);
    const uint64_t chunk = (CHUNK + grain - 1) / grain * grain;
#pragma omp parallel for schedule(static)
    for (uint64_t start = 0; start < n; start += chunk) {
        oct_encoder_scan(encoder, bytes + start * element, start, chunk_at(start, n, chunk));
    }
    st = oct_encoder_settle(encoder, x, err);
    if (st) goto out;
#pragma omp parallel for schedule(static)
    for (uint64_t start = 0; start < n; start += chunk) {
        oct_encoder_encode(encoder, bytes + start * element, start, chunk_at(start, n, chunk),
                           codes + start);
    }
    const void *stored = oct_encoder_scales(encoder, &scale_bytes);
    memcpy(scales, stored, scale_bytes);

out:
    oct_encoder_end(encoder);
    return st;
}
