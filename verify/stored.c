// SPDX-License-Identifier: Apache-2.0
//
// A layer as a file stores it.
#include "verify/stored.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/number.h"

#define MX_BLOCK 32

void oct_dialects_detect(oct_dialects *dialects, const oct_source *source)
{
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        dialects->of[i] = oct_dialect_detect_component(source, (oct_component)i);
    }
}

oct_status oct_stored_layer_read(oct_stored_layer *stored, const oct_source *source,
                                 const oct_dialects *dialects, const oct_layer *layer, oct_err *err)
{
    const oct_dialect dialect = dialects->of[layer->component];
    *stored = (oct_stored_layer){.n_parts = 1};
    oct_status st = oct_dialect_read(source, dialect, layer, &stored->whole, err);
    stored->parts[0] = stored->whole;
    if (st != OCT_EUNSUPPORTED || layer->weight->n_parts < 2) return st;
    stored->n_parts = layer->weight->n_parts;
    st = OCT_OK;
    for (size_t i = 0; i < stored->n_parts && !st; i++) {
        st = oct_dialect_read_part(source, dialect, layer->weight, i, &stored->parts[i], err);
    }
    stored->whole = stored->parts[0];
    return st;
}

uint64_t oct_stored_layer_scales(const oct_stored_layer *stored, const oct_layer *layer,
                                 uint64_t *run)
{
    const oct_granularity granularity = stored->whole.granularity;
    *run = layer->weight->bytes;
    if (stored->n_parts > 1 || granularity == OCT_PER_CHANNEL) *run = layer->in_features;
    if (granularity == OCT_PER_MX_BLOCK) *run = MX_BLOCK;
    return layer->weight->bytes / *run;
}

// Scales of parts, repeated for each of their rows.
static void repeat(const oct_stored_layer *stored, const oct_layer *layer, float *scales)
{
    uint64_t row = 0;
    for (size_t i = 0; i < stored->n_parts; i++) {
        const uint64_t rows = layer->weight->parts[i].rows;
        for (uint64_t r = 0; r < rows; r++) scales[row++] = stored->parts[i].weight_scale;
    }
}

oct_status oct_stored_layer_read_scales(const oct_stored_layer *stored, const oct_layer *layer,
                                        float *scales, oct_err *err)
{
    uint64_t run;
    const oct_fp8_layer *whole = &stored->whole;
    const uint64_t n = oct_stored_layer_scales(stored, layer, &run);
    if (stored->n_parts > 1) {
        repeat(stored, layer, scales);
        return OCT_OK;
    }
    scales[0] = whole->weight_scale;
    if (whole->granularity == OCT_PER_TENSOR) return OCT_OK;
    if (whole->granularity == OCT_PER_CHANNEL) {
        return oct_dialect_read_scales(whole, layer, scales, err);
    }
    uint8_t *codes = malloc(n);
    if (!codes) return oct_fail(err, OCT_ENOMEM, "out of memory for %" PRIu64 " scales", n);
    const oct_status st = oct_dialect_read_scales(whole, layer, codes, err);
    for (uint64_t i = 0; i < n && !st; i++) scales[i] = oct_e8m0_to_f32(codes[i]);
    free(codes);
    return st;
}
