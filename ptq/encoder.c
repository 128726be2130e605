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

#define GRAIN 32

struct oct_encoder {
    const oct_plan *plan;
    const oct_decision *decision;
    oct_dtype dtype;
    uint64_t n, rows, columns;
    _Atomic uint32_t amax_bits;        // of what was scanned; binary32 from 0 up sorts as integers
    _Atomic uint64_t first_nonfinite;  // its index twice, plus one for a NaN; or UINT64_MAX
    _Atomic uint64_t saturated;
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

oct_status oct_encoder_begin(oct_encoder **encoder, const oct_plan *plan,
                             const oct_decision *decision, oct_err *err)
{
    const oct_layer *layer = decision->layer;

    assert(decision->weights != OCT_WEIGHTS_KEEP);
    *encoder = calloc(1, sizeof **encoder);
    void *scales = calloc(1, sizeof(float));
    if (!*encoder || !scales) {
        free(*encoder);
        free(scales);
        *encoder = NULL;
        return oct_fail(err, OCT_ENOMEM, "out of memory for the scales of '%s'",
                        layer->weight->name);
    }
    **encoder = (oct_encoder){
        .plan = plan,
        .decision = decision,
        .dtype = layer->weight->dtype,
        .n = layer->out_features * layer->in_features,
        .rows = layer->out_features,
        .columns = layer->in_features,
        .first_nonfinite = UINT64_MAX,
        .scales = scales,
        .scale_bytes = sizeof(float),
    };
    return OCT_OK;
}

uint64_t oct_encoder_grain(const oct_encoder *encoder)
{
    (void)encoder;
    return GRAIN;
}

bool oct_encoder_is_rereading(const oct_encoder *encoder)
{
    (void)encoder;
    return false;
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

static uint64_t count_saturated(const oct_encoder *encoder, const uint8_t *x, uint64_t n)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < n; i++) {
        float value;
        oct_widen(&value, encoder->dtype, x + i * element_bytes(encoder), 1);
        count += fabsf(value) > OCT_E4M3_MAX;
    }
    return count;
}

void oct_encoder_scan(oct_encoder *encoder, const void *x, uint64_t first, uint64_t n)
{
    int is_finite = 0;

    check_chunk(encoder, first, n);
    const float amax = oct_absmax(encoder->dtype, x, n, &is_finite);
    if (is_finite) {
        set_most(&encoder->amax_bits, oct_f32_bits(amax));
        if (encoder->plan->params.has_unit_scales && amax > OCT_E4M3_MAX) {
            encoder->saturated += count_saturated(encoder, x, n);
        }
    } else {
        remember_nonfinite(encoder, x, first, n);
    }
}

static oct_status fail_nonfinite(const oct_encoder *encoder, oct_err *err)
{
    const uint64_t i = encoder->first_nonfinite / 2, columns = encoder->columns;

    return oct_fail(err, OCT_EFORMAT,
                    "'%s' holds %s at index %" PRIu64 " (row %" PRIu64 ", column %" PRIu64 ")",
                    encoder->decision->layer->weight->name,
                    encoder->first_nonfinite % 2 ? "NaN" : "infinity", i, i / columns, i % columns);
}

oct_status oct_encoder_settle(oct_encoder *encoder, const void *x, oct_err *err)
{
    const float amax = oct_f32_from_bits(encoder->amax_bits);
    const float qmax = encoder->plan->params.qmax;
    float *scale = encoder->scales;

    (void)x;
    if (encoder->first_nonfinite != UINT64_MAX) return fail_nonfinite(encoder, err);
    *scale = encoder->plan->params.has_unit_scales ? 1 : oct_weight_scale(amax, qmax);
    if (encoder->saturated) {
        oct_warn("'%s': without a scale, %" PRIu64
                 " of its values are cut to %g (the largest is %.9g)",
                 encoder->decision->layer->weight->name, encoder->saturated, (double)OCT_E4M3_MAX,
                 (double)amax);
    }
    if (!isfinite(*scale)) {
        return oct_fail(err, OCT_EFORMAT, "'%s': range %.9g over %.9g is no finite scale",
                        encoder->decision->layer->weight->name, amax, qmax);
    }
    return OCT_OK;
}

void oct_encoder_encode(const oct_encoder *encoder, const void *x, uint64_t first, uint64_t n,
                        uint8_t *codes)
{
    const float *scale = encoder->scales;

    check_chunk(encoder, first, n);
    oct_encode_e4m3(codes, encoder->dtype, x, n, *scale);
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
    free(encoder);
}
