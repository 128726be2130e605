// SPDX-License-Identifier: Apache-2.0
//
// Predicting the error of a plan.
#include "ptq/predict.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/number.h"
#include "kernels/kernels.h"
#include "ptq/encoder.h"

typedef struct sample {
    oct_layer layer;        // the sampled rows as a layer of their own
    oct_decision decision;  // for it
    uint64_t n;             // elements
    uint8_t *stored;        // [n] of the source's type
    float *values;          // [n]
    uint8_t *codes;         // [n]
} sample;

static uint64_t row_at(const oct_layer *layer, uint64_t rows, uint64_t i)
{
    return i * layer->out_features / rows;
}

static oct_status read_rows(sample *s, const oct_layer *layer, oct_err *err)
{
    const uint64_t columns = layer->in_features;
    const uint64_t row_bytes = layer->weight->bytes / layer->out_features;
    oct_status st = OCT_OK;

    for (uint64_t i = 0; i < s->layer.out_features && !st; i++) {
        const uint64_t row = row_at(layer, s->layer.out_features, i);
        st = oct_source_read_range(layer->weight, row * row_bytes, row_bytes,
                                   s->stored + i * row_bytes, err);
        if (st) break;
        oct_widen(s->values + i * columns, layer->weight->dtype, s->stored + i * row_bytes,
                  columns);
        for (uint64_t c = 0; c < columns; c++) {
            const float value = s->values[i * columns + c];
            if (isfinite(value)) continue;
            return oct_fail(err, OCT_EFORMAT, "'%s' holds %s at row %" PRIu64 ", column %" PRIu64,
                            layer->weight->name, isnan(value) ? "NaN" : "infinity", row, c);
        }
    }
    return st;
}

static float scale_at(const oct_decision *decision, const void *scales, uint64_t i)
{
    switch (decision->granularity) {
    case OCT_PER_CHANNEL:
        return ((const float *)scales)[i / decision->layer->in_features];
    case OCT_PER_MX_BLOCK:
        return oct_e8m0_to_f32(((const uint8_t *)scales)[i / OCT_MX_BLOCK]);
    default:
        return ((const float *)scales)[0];
    }
}

// What column `column` of the weight is multiplied with, squared.
static double energy_at(const oct_decision *decision, uint64_t column)
{
    return decision->channels ? (double)oct_channels_mean(decision->channels, column) : 0;
}

static double decibels(double signal, double noise)
{
    return noise == 0 ? INFINITY : 10 * log10(signal / noise);
}

static void measure(const sample *s, const void *scales, oct_prediction *prediction)
{
    const bool is_e5m2 = s->decision.weights == OCT_WEIGHTS_E5M2;
    double signal = 0, noise = 0, output_signal = 0, output_noise = 0;

    for (uint64_t i = 0; i < s->n; i++) {
        const float code = is_e5m2 ? oct_e5m2_to_f32(s->codes[i]) : oct_e4m3_to_f32(s->codes[i]);
        const double energy = energy_at(&s->decision, i % s->layer.in_features);
        const double value = s->values[i];
        const double error = value - (double)(code * scale_at(&s->decision, scales, i));
        signal += value * value;
        noise += error * error;
        output_signal += energy * value * value;
        output_noise += energy * error * error;
    }
    prediction->sqnr_db = decibels(signal, noise);
    if (s->decision.channels) {
        prediction->output_sqnr_db = decibels(output_signal, output_noise);
    }
}

static oct_status encode(sample *s, const oct_plan *plan, oct_prediction *prediction, oct_err *err)
{
    oct_encoder *encoder = NULL;
    uint64_t bytes = 0;

    oct_status st = oct_encoder_begin(&encoder, plan, &s->decision, err);
    if (st) return st;
    // With unit scales there is nothing to find, and only the whole weight can say what is cut.
    if (!plan->params.has_unit_scales) oct_encoder_scan(encoder, s->stored, 0, s->n);
    st = oct_encoder_settle(encoder, s->stored, err);
    if (!st) {
        oct_encoder_encode(encoder, s->stored, 0, s->n, s->codes);
        measure(s, oct_encoder_scales(encoder, &bytes), prediction);
    }
    oct_encoder_end(encoder);
    return st;
}

static void predict_inputs(const oct_plan *plan, const oct_decision *decision,
                           oct_prediction *prediction)
{
    const double scale = (double)decision->input_scale;

    if (decision->inputs != OCT_INPUTS_STATIC) return;
    const oct_calibration_layer *range =
        oct_calibration_find(plan->params.calibration, decision->layer->name);
    if (!range->exponents) return;
    const double amax = (double)range->amax;
    prediction->input_sqnr_db = oct_exponents_sqnr_db(range->exponents, amax, scale);
    prediction->input_underflow = oct_exponents_underflow(range->exponents, amax, scale);
}

static oct_status predict(const oct_plan *plan, const oct_decision *decision,
                          oct_prediction *prediction, oct_err *err)
{
    const oct_layer *layer = decision->layer;
    sample s = {.layer = *layer, .decision = *decision};
    oct_status st = OCT_OK;

    *prediction = (oct_prediction){
        .sqnr_db = NAN, .output_sqnr_db = NAN, .input_sqnr_db = NAN, .input_underflow = NAN};
    predict_inputs(plan, decision, prediction);
    if (decision->weights == OCT_WEIGHTS_KEEP) return OCT_OK;
    if (layer->out_features > OCT_PREDICT_ROWS) s.layer.out_features = OCT_PREDICT_ROWS;
    s.decision.layer = &s.layer;
    s.n = s.layer.out_features * layer->in_features;
    prediction->rows = s.layer.out_features;
    s.stored = malloc(s.n * oct_dtype_bits(layer->weight->dtype) / 8);
    s.values = malloc(s.n * sizeof *s.values);
    s.codes = malloc(s.n);
    if (s.stored && s.values && s.codes) {
        st = read_rows(&s, layer, err);
        if (!st) st = encode(&s, plan, prediction, err);
    } else {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for %" PRIu64 " rows of '%s'",
                      prediction->rows, layer->weight->name);
    }
    free(s.stored);
    free(s.values);
    free(s.codes);
    return st;
}

oct_status oct_plan_predict(const oct_plan *plan, oct_prediction *predictions, oct_err *err)
{
    oct_status first = OCT_OK;
    size_t first_index = plan->n_decisions;

    // The first layer that fails is reported, whichever thread found it first.
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < plan->n_decisions; i++) {
        oct_err local = {{0}};
        const oct_status st = predict(plan, &plan->decisions[i], &predictions[i], &local);
        if (!st) continue;
#pragma omp critical
        if (i < first_index) {
            first_index = i;
            first = st;
            if (err) *err = local;
        }
    }
    return first;
}
