// SPDX-License-Identifier: Apache-2.0
//
// Encoding one weight in chunks.
#include "ptq/encoder.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/number.h"
#include "kernels/kernels.h"
#include "ptq/scale.h"
#include "ptq/scale_search.h"

#define E5M2_PER_E4M3 128  // 57344 / 448: the same headroom in either
#define PIECE_BLOCKS ((uint64_t)64)

struct oct_encoder {
    const oct_plan *plan;
    const oct_decision *decision;
    oct_dtype dtype;
    uint64_t n, rows, columns;
    float qmax;
    _Atomic uint32_t amax_bits;        // of what was scanned; binary32 from 0 up sorts as integers
    _Atomic uint64_t first_nonfinite;  // its index twice, plus one for a NaN; or UINT64_MAX
    _Atomic uint64_t saturated;
    uint64_t *counts;  // [columns]: what each counts under mse; NULL: all the same
    void *scales;
    uint64_t scale_bytes;
};

static void set_most(_Atomic uint32_t *most, uint32_t value)
{
    uint32_t now = atomic_load(most);
    while (now < value && !atomic_compare_exchange_weak(most, &now, value)) {
    }
}

static void set_least(_Atomic uint64_t *least, uint64_t value)
{
    uint64_t now = atomic_load(least);
    while (now > value && !atomic_compare_exchange_weak(least, &now, value)) {
    }
}

static oct_status fail_memory(const oct_decision *decision, oct_err *err)
{
    return oct_fail(err, OCT_ENOMEM, "out of memory for the scales of '%s'",
                    decision->layer->weight->name);
}

static oct_status weigh_columns(oct_encoder *encoder, oct_err *err)
{
    const oct_decision *decision = encoder->decision;

    if (decision->scaling != OCT_SCALE_MSE || !decision->channels) return OCT_OK;
    encoder->counts = calloc(encoder->columns, sizeof *encoder->counts);
    if (!encoder->counts) return fail_memory(decision, err);
    if (!oct_numbers_weigh(decision->channels, encoder->counts)) {
        free(encoder->counts);
        encoder->counts = NULL;
    }
    return OCT_OK;
}

oct_status oct_encoder_begin(oct_encoder **encoder, const oct_plan *plan,
                             const oct_decision *decision, oct_err *err)
{
    const oct_layer *layer = decision->layer;

    assert(decision->weights != OCT_WEIGHTS_KEEP);
    *encoder = calloc(1, sizeof **encoder);
    if (!*encoder) return fail_memory(decision, err);
    **encoder = (oct_encoder){
        .plan = plan,
        .decision = decision,
        .dtype = layer->weight->dtype,
        .n = layer->out_features * layer->in_features,
        .rows = layer->out_features,
        .columns = layer->in_features,
        .qmax = plan->params.qmax * (decision->weights == OCT_WEIGHTS_E5M2 ? E5M2_PER_E4M3 : 1),
        .first_nonfinite = UINT64_MAX,
        .scales = calloc(1, oct_decision_scale_bytes(decision)),
        .scale_bytes = oct_decision_scale_bytes(decision),
    };
    oct_status st = (*encoder)->scales ? OCT_OK : fail_memory(decision, err);
    if (!st) st = weigh_columns(*encoder, err);
    if (st) {
        oct_encoder_end(*encoder);
        *encoder = NULL;
    }
    return st;
}

uint64_t oct_encoder_grain(const oct_encoder *encoder)
{
    return encoder->decision->granularity == OCT_PER_CHANNEL ? encoder->columns : OCT_MX_BLOCK;
}

bool oct_encoder_is_rereading(const oct_encoder *encoder)
{
    const oct_decision *decision = encoder->decision;

    return decision->granularity == OCT_PER_TENSOR && decision->scaling != OCT_SCALE_MAX &&
           !encoder->plan->params.has_unit_scales;
}

static size_t element_bytes(const oct_encoder *encoder)
{
    return oct_dtype_bits(encoder->dtype) / 8;
}

static void check_chunk(const oct_encoder *encoder, uint64_t first, uint64_t n)
{
    const uint64_t grain = oct_encoder_grain(encoder);

    assert(first % grain == 0 && first <= encoder->n && n <= encoder->n - first);
    assert(n % grain == 0 || first + n == encoder->n);
    (void)grain;
    (void)first;
    (void)n;
}

static void remember_nonfinite(oct_encoder *encoder, const uint8_t *x, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        float value;
        oct_widen(&value, encoder->dtype, x + i * element_bytes(encoder), 1);
        if (!isfinite(value)) {
            set_least(&encoder->first_nonfinite, 2 * (first + i) + (isnan(value) ? 1 : 0));
            return;
        }
    }
}

// ---- Scanning.

static float code_max(const oct_encoder *encoder)
{
    return encoder->decision->weights == OCT_WEIGHTS_E5M2 ? OCT_E5M2_MAX : OCT_E4M3_MAX;
}

static uint64_t count_saturated(const oct_encoder *encoder, const uint8_t *x, uint64_t n)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < n; i++) {
        float value;
        oct_widen(&value, encoder->dtype, x + i * element_bytes(encoder), 1);
        count += fabsf(value) > code_max(encoder);
    }
    return count;
}

// The scale of a tensor or a row, snapped. May be infinite.
static float range_scale(const oct_encoder *encoder, const oct_numbers *numbers, float amax)
{
    const oct_decision *decision = encoder->decision;
    float range = amax;

    if (decision->scaling == OCT_SCALE_PERCENTILE) {
        range = oct_numbers_magnitude_at(numbers, decision->percentile);
        if (range == 0) range = amax;
    }
    return oct_scale_snap(oct_weight_scale(range, encoder->qmax),
                          encoder->plan->params.snap_scales);
}

static void scan_rows(oct_encoder *encoder, const uint8_t *x, uint64_t first, uint64_t n)
{
    const oct_decision *decision = encoder->decision;
    const uint64_t columns = encoder->columns;
    float *scales = encoder->scales;
    int is_finite;

    for (uint64_t i = 0; i < n; i += columns) {
        const oct_numbers row = {.dtype = encoder->dtype,
                                 .x = x + i * element_bytes(encoder),
                                 .counts = encoder->counts,
                                 .n = columns};
        const float amax = oct_absmax(row.dtype, row.x, columns, &is_finite);
        float scale = range_scale(encoder, &row, amax);
        if (decision->scaling == OCT_SCALE_MSE && amax > 0 && isfinite(scale)) {
            scale = oct_numbers_best_scale(&row, decision->weights, scale,
                                           encoder->plan->params.snap_scales);
        }
        scales[(first + i) / columns] = scale;
    }
}

// The kernel does both at once; these codes are not kept.
static void scan_blocks(oct_encoder *encoder, const uint8_t *x, uint64_t first, uint64_t n)
{
    uint8_t codes[PIECE_BLOCKS * OCT_MX_BLOCK], *scales = encoder->scales;
    const uint64_t blocks = n / OCT_MX_BLOCK;

    for (uint64_t b = 0; b < blocks; b += PIECE_BLOCKS) {
        const uint64_t now = blocks - b < PIECE_BLOCKS ? blocks - b : PIECE_BLOCKS;
        oct_encode_mx(codes, scales + first / OCT_MX_BLOCK + b, encoder->dtype,
                      x + b * OCT_MX_BLOCK * element_bytes(encoder), now);
    }
}

void oct_encoder_scan(oct_encoder *encoder, const void *x, uint64_t first, uint64_t n)
{
    int is_finite = 0;

    check_chunk(encoder, first, n);
    const float amax = oct_absmax(encoder->dtype, x, n, &is_finite);
    if (!is_finite) {
        remember_nonfinite(encoder, x, first, n);
        return;
    }
    set_most(&encoder->amax_bits, oct_f32_bits(amax));
    if (encoder->plan->params.has_unit_scales) {
        if (amax > code_max(encoder)) encoder->saturated += count_saturated(encoder, x, n);
    } else if (encoder->decision->granularity == OCT_PER_CHANNEL) {
        scan_rows(encoder, x, first, n);
    } else if (encoder->decision->granularity == OCT_PER_MX_BLOCK) {
        scan_blocks(encoder, x, first, n);
    }
}

// ---- Settling.

static oct_status fail_nonfinite(const oct_encoder *encoder, oct_err *err)
{
    const uint64_t i = encoder->first_nonfinite / 2, columns = encoder->columns;

    return oct_fail(err, OCT_EFORMAT,
                    "'%s' holds %s at index %" PRIu64 " (row %" PRIu64 ", column %" PRIu64 ")",
                    encoder->decision->layer->weight->name,
                    encoder->first_nonfinite % 2 ? "NaN" : "infinity", i, i / columns, i % columns);
}

static void settle_unit_scales(oct_encoder *encoder)
{
    float *scales = encoder->scales;

    assert(encoder->decision->granularity != OCT_PER_MX_BLOCK);
    for (uint64_t i = 0; i < encoder->scale_bytes / sizeof *scales; i++) scales[i] = 1;
    if (encoder->saturated) {
        oct_warn("'%s': without a scale, %" PRIu64
                 " of its values are cut to %g (the largest is %.9g)",
                 encoder->decision->layer->weight->name, encoder->saturated,
                 (double)code_max(encoder), (double)oct_f32_from_bits(encoder->amax_bits));
    }
}

// The search goes over distinct magnitudes where that is possible.
static oct_status search_tensor(oct_encoder *encoder, const oct_numbers *all, oct_err *err)
{
    const oct_weights weights = encoder->decision->weights;
    const oct_snap snap = encoder->plan->params.snap_scales;
    float *scale = encoder->scales;
    oct_numbers counted;

    if (!oct_dtype_is_float16(all->dtype)) {
        *scale = oct_numbers_best_scale(all, weights, *scale, snap);
        return OCT_OK;
    }
    uint16_t *magnitudes = calloc(OCT_MAGNITUDES_16, sizeof *magnitudes);
    uint64_t *counts = calloc(OCT_MAGNITUDES_16, sizeof *counts);
    if (magnitudes && counts) {
        oct_numbers_count(all, magnitudes, counts, &counted);
        *scale = oct_numbers_best_scale(&counted, weights, *scale, snap);
    }
    const bool is_done = magnitudes && counts;
    free(magnitudes);
    free(counts);
    return is_done ? OCT_OK
                   : oct_fail(err, OCT_ENOMEM, "out of memory to search the scale of '%s'",
                              encoder->decision->layer->weight->name);
}

static oct_status settle_tensor(oct_encoder *encoder, const void *x, oct_err *err)
{
    const oct_numbers all = {.dtype = encoder->dtype,
                             .x = x,
                             .counts = encoder->counts,
                             .n = encoder->n,
                             .period = encoder->columns};
    const float amax = oct_f32_from_bits(encoder->amax_bits);
    float *scale = encoder->scales;

    *scale = range_scale(encoder, &all, amax);
    if (!isfinite(*scale)) {
        return oct_fail(err, OCT_EFORMAT, "'%s': range %.9g over %.9g is no finite scale",
                        encoder->decision->layer->weight->name, amax, encoder->qmax);
    }
    if (encoder->decision->scaling != OCT_SCALE_MSE || amax == 0) return OCT_OK;
    return search_tensor(encoder, &all, err);
}

static oct_status settle_rows(const oct_encoder *encoder, oct_err *err)
{
    const float *scales = encoder->scales;

    for (uint64_t row = 0; row < encoder->rows; row++) {
        if (isfinite(scales[row])) continue;
        return oct_fail(err, OCT_EFORMAT,
                        "'%s': the range of row %" PRIu64 " over %.9g is no finite scale",
                        encoder->decision->layer->weight->name, row, encoder->qmax);
    }
    return OCT_OK;
}

oct_status oct_encoder_settle(oct_encoder *encoder, const void *x, oct_err *err)
{
    if (encoder->first_nonfinite != UINT64_MAX) return fail_nonfinite(encoder, err);
    if (encoder->plan->params.has_unit_scales) {
        settle_unit_scales(encoder);
        return OCT_OK;
    }
    assert(x || !oct_encoder_is_rereading(encoder));
    switch (encoder->decision->granularity) {
    case OCT_PER_TENSOR:
        return settle_tensor(encoder, x, err);
    case OCT_PER_CHANNEL:
        return settle_rows(encoder, err);
    case OCT_PER_MX_BLOCK:
        break;
    }
    return OCT_OK;
}

// ---- Encoding.

static void encode(const oct_encoder *encoder, const void *x, uint64_t n, float scale,
                   uint8_t *codes)
{
    if (encoder->decision->weights == OCT_WEIGHTS_E5M2) {
        oct_encode_e5m2(codes, encoder->dtype, x, n, scale);
    } else {
        oct_encode_e4m3(codes, encoder->dtype, x, n, scale);
    }
}

static void encode_rows(const oct_encoder *encoder, const uint8_t *x, uint64_t first, uint64_t n,
                        uint8_t *codes)
{
    const uint64_t columns = encoder->columns;
    const float *scales = encoder->scales;

    for (uint64_t i = 0; i < n; i += columns) {
        encode(encoder, x + i * element_bytes(encoder), columns, scales[(first + i) / columns],
               codes + i);
    }
}

// The scales are found again rather than written again: other threads may read them.
static void encode_blocks(const oct_encoder *encoder, const uint8_t *x, uint64_t n, uint8_t *codes)
{
    const uint64_t blocks = n / OCT_MX_BLOCK;
    uint8_t scales[PIECE_BLOCKS];

    for (uint64_t b = 0; b < blocks; b += PIECE_BLOCKS) {
        const uint64_t now = blocks - b < PIECE_BLOCKS ? blocks - b : PIECE_BLOCKS;
        oct_encode_mx(codes + b * OCT_MX_BLOCK, scales, encoder->dtype,
                      x + b * OCT_MX_BLOCK * element_bytes(encoder), now);
    }
}

void oct_encoder_encode(const oct_encoder *encoder, const void *x, uint64_t first, uint64_t n,
                        uint8_t *codes)
{
    const float *scale = encoder->scales;

    check_chunk(encoder, first, n);
    switch (encoder->decision->granularity) {
    case OCT_PER_TENSOR:
        encode(encoder, x, n, *scale, codes);
        break;
    case OCT_PER_CHANNEL:
        encode_rows(encoder, x, first, n, codes);
        break;
    case OCT_PER_MX_BLOCK:
        encode_blocks(encoder, x, n, codes);
        break;
    }
}

const void *oct_encoder_scales(const oct_encoder *encoder, uint64_t *bytes)
{
    *bytes = encoder->scale_bytes;
    return encoder->scales;
}

void oct_encoder_end(oct_encoder *encoder)
{
    if (!encoder) return;
    free(encoder->scales);
    free(encoder->counts);
    free(encoder);
}
