// SPDX-License-Identifier: Apache-2.0
//
// FP8 weights seen in a wider type.
#include "ptq/decoding.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/number.h"
#include "ptq/dialect.h"
#include "ptq/naming.h"

#define CODES_AT_ONCE 16384
#define TABLES 32
#define MX_BLOCK 32

// F16's numbers are 2^-24 apart near zero, E4M3's are 2^-9 scales: codes stay apart by two of the
// former from here on.
#define F16_SCALE_MIN 0x1p-15f

// ---- Reading.

// The largest magnitude that rounds to a finite value of the type.
static float largest(oct_dtype dtype)
{
    switch (dtype) {
    case OCT_F16:
        return 0x1.ffdffep15f;  // below 65520, where rounding turns to infinity
    case OCT_BF16:
        return 0x1.fefffep127f;
    default:
        return 0x1.fffffep127f;
    }
}

static uint32_t narrow(oct_dtype dtype, float value)
{
    switch (dtype) {
    case OCT_F16:
        return oct_f32_to_f16(value);
    case OCT_BF16:
        return oct_f32_to_bf16(value);
    default:
        return oct_f32_bits(value);
    }
}

// One scale has 256 values: a table is faster than arithmetic, and rounds the same everywhere.
typedef struct value_table {
    float scale;
    uint32_t bits[256];
    bool is_valid[256];
    bool is_made;
} value_table;

static void make_table(value_table *table, const oct_source_tensor *tensor, float scale)
{
    const bool is_e5m2 = tensor->decoding->stored == OCT_F8_E5M2;
    const float most = largest(tensor->dtype);

    if (table->is_made && oct_f32_bits(table->scale) == oct_f32_bits(scale)) return;
    for (int code = 0; code < 256; code++) {
        const float value =
            (is_e5m2 ? oct_e5m2_to_f32((uint8_t)code) : oct_e4m3_to_f32((uint8_t)code)) * scale;
        table->bits[code] = narrow(tensor->dtype, value);
        table->is_valid[code] = fabsf(value) <= most;  // false for NaN
    }
    table->scale = scale;
    table->is_made = true;
}

static oct_status fail_code(const oct_source_tensor *tensor, const value_table *table,
                            uint64_t index, uint8_t code, oct_err *err)
{
    const float value =
        tensor->decoding->stored == OCT_F8_E5M2 ? oct_e5m2_to_f32(code) : oct_e4m3_to_f32(code);

    if (isnan(value)) {
        return oct_fail(err, OCT_EFORMAT, "'%s' holds NaN at index %" PRIu64, tensor->name, index);
    }
    return oct_fail(err, OCT_EFORMAT, "'%s' holds %g at index %" PRIu64 ", which %s cannot hold",
                    tensor->name, (double)(value * table->scale), index,
                    oct_dtype_name(tensor->dtype));
}

// Values of one run.
static oct_status put_values(const oct_source_tensor *tensor, value_table *table, float scale,
                             const uint8_t *codes, uint64_t first, size_t n, uint8_t *out,
                             oct_err *err)
{
    const size_t element = oct_dtype_bits(tensor->dtype) / 8;

    make_table(table, tensor, scale);
    for (size_t i = 0; i < n; i++) {
        if (!table->is_valid[codes[i]]) return fail_code(tensor, table, first + i, codes[i], err);
        if (element == 2) {
            const uint16_t bits = (uint16_t)table->bits[codes[i]];
            memcpy(out + 2 * i, &bits, sizeof bits);
        } else {
            memcpy(out + 4 * i, &table->bits[codes[i]], sizeof(uint32_t));
        }
    }
    return OCT_OK;
}

typedef struct decoder {
    const oct_source_tensor *tensor;
    oct_source_tensor stored;    // the same as codes
    uint64_t blocks;             // MX: per row
    uint8_t *mx;                 // MX: scales of the rows that are read
    uint64_t first_row;          // of these
    value_table tables[TABLES];  // MX's scales are few and come again and again
    uint8_t codes[CODES_AT_ONCE];
} decoder;

static float scale_of(const decoder *d, uint64_t run, value_table **table)
{
    const oct_decoding *decoding = d->tensor->decoding;

    if (!decoding->mx) return decoding->scales[run];
    const uint8_t scale = d->mx[run - d->first_row * d->blocks];
    *table += scale % TABLES;
    return oct_e8m0_to_f32(scale);
}

static oct_status decode_chunk(decoder *d, uint64_t at, size_t n, uint8_t *out, oct_err *err)
{
    const uint64_t run = d->tensor->decoding->run;
    const size_t element = oct_dtype_bits(d->tensor->dtype) / 8;

    oct_status st = oct_source_read_range(&d->stored, at, n, d->codes, err);
    for (size_t done = 0; done < n && !st;) {
        const uint64_t left = run - (at + done) % run;
        const size_t some = left < n - done ? left : n - done;
        value_table *table = d->tables;
        const float scale = scale_of(d, (at + done) / run, &table);
        st = put_values(d->tensor, table, scale, d->codes + done, at + done, some,
                        out + done * element, err);
        done += some;
    }
    return st;
}

static oct_status read_mx(decoder *d, uint64_t first, uint64_t end, oct_err *err)
{
    const uint64_t columns = d->tensor->shape[1], rows = (end - 1) / columns + 1;

    d->blocks = columns / d->tensor->decoding->run;
    d->first_row = first / columns;
    d->mx = malloc((rows - d->first_row) * d->blocks);
    if (!d->mx) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for the scales of '%s'", d->tensor->name);
    }
    return oct_dialect_read_mx(d->tensor->decoding->mx, d->blocks, d->first_row,
                               rows - d->first_row, d->mx, err);
}

oct_status oct_decoding_read(const oct_source_tensor *tensor, uint64_t from, uint64_t bytes,
                             void *buffer, oct_err *err)
{
    const size_t element = oct_dtype_bits(tensor->dtype) / 8;
    const uint64_t first = from / element, end = (from + bytes) / element;
    uint8_t *out = buffer;
    oct_status st = OCT_OK;

    assert(from % element == 0 && bytes % element == 0);
    if (bytes == 0) return OCT_OK;
    decoder *d = calloc(1, sizeof *d);
    if (!d) return oct_fail(err, OCT_ENOMEM, "out of memory to decode '%s'", tensor->name);
    d->tensor = tensor;
    d->stored = *tensor;
    d->stored.decoding = NULL;
    d->stored.dtype = tensor->decoding->stored;
    d->stored.bytes = tensor->bytes / element;
    if (tensor->decoding->mx) st = read_mx(d, first, end, err);
    for (uint64_t at = first; at < end && !st; at += CODES_AT_ONCE) {
        const size_t n = end - at < CODES_AT_ONCE ? end - at : CODES_AT_ONCE;
        st = decode_chunk(d, at, n, out + (at - first) * element, err);
    }
    free(d->mx);
    free(d);
    return st;
}

// ---- Which tensors, and what is left of the rest.

static bool is_fp8(oct_dtype dtype)
{
    return dtype == OCT_F8_E4M3 || dtype == OCT_F8_E5M2;
}

// Parts that differ: the scale of each, for each of its rows.
static oct_status read_parts(oct_source *source, const oct_source_tensor *tensor,
                             oct_dialect dialect, oct_decoding *decoding, oct_err *err)
{
    float *scales = oct_arena_array(&source->arena, tensor->shape[0], sizeof *scales);
    oct_fp8_layer fp8;
    uint64_t row = 0;

    for (size_t i = 0; i < tensor->n_parts; i++) {
        const oct_status st = oct_dialect_read_part(source, dialect, tensor, i, &fp8, err);
        if (st) return st;
        if (fp8.granularity != OCT_PER_TENSOR) {
            return oct_fail(err, OCT_EUNSUPPORTED, "the parts of '%s' differ in granularity",
                            tensor->name);
        }
        for (uint64_t r = 0; r < tensor->parts[i].rows; r++) scales[row++] = fp8.weight_scale;
    }
    decoding->scales = scales;
    decoding->run = tensor->bytes / tensor->shape[0];
    return OCT_OK;
}

static oct_status read_decoding(oct_source *source, const oct_source_tensor *tensor,
                                oct_dialect dialect, oct_decoding *decoding, oct_err *err)
{
    oct_fp8_layer *fp8 = oct_arena_alloc(&source->arena, sizeof *fp8);
    float *scales = NULL;

    decoding->stored = tensor->dtype;
    const oct_status st = oct_dialect_read_weight(source, dialect, tensor, fp8, err);
    if (st == OCT_EUNSUPPORTED) return read_parts(source, tensor, dialect, decoding, err);
    if (st) return st;
    switch (fp8->granularity) {
    case OCT_PER_TENSOR:
        decoding->run = tensor->bytes;
        scales = oct_arena_array(&source->arena, 1, sizeof *scales);
        scales[0] = fp8->weight_scale;
        break;
    case OCT_PER_CHANNEL:
        decoding->run = tensor->bytes / tensor->shape[0];
        scales = oct_arena_array(&source->arena, tensor->shape[0], sizeof *scales);
        break;
    case OCT_PER_MX_BLOCK:
        decoding->run = MX_BLOCK;
        decoding->mx = fp8;
    }
    decoding->scales = scales;
    return fp8->granularity == OCT_PER_CHANNEL ? oct_dialect_read_channels(fp8, scales, err)
                                               : OCT_OK;
}

static oct_status set_decoding(oct_source *source, oct_source_tensor *tensor, oct_dialect dialect,
                               oct_dtype to, oct_err *err)
{
    oct_decoding *decoding = oct_arena_alloc(&source->arena, sizeof *decoding);

    // Biases and norms of files that were cast as a whole never have a scale.
    if (!oct_name_ends_with(tensor->name, ".weight")) dialect = OCT_DIALECT_CAST;
    const oct_status st = read_decoding(source, tensor, dialect, decoding, err);
    if (st) return st;
    tensor->decoding = decoding;
    tensor->dtype = to;
    tensor->file_name = NULL;
    tensor->bytes *= oct_dtype_bits(to) / 8;
    return OCT_OK;
}

static bool is_among(const oct_source_tensor *tensor, unsigned components)
{
    return components >> tensor->component & 1;
}

static bool is_lossy(const oct_source_tensor *tensor)
{
    const oct_decoding *decoding = tensor->decoding;
    const uint64_t n = tensor->bytes / 2 / decoding->run;

    if (tensor->dtype != OCT_F16 || !decoding->scales) return false;
    for (uint64_t i = 0; i < n; i++) {
        if (decoding->scales[i] < F16_SCALE_MIN) return true;
    }
    return false;
}

static void remove_companions(oct_source *source, unsigned components)
{
    size_t n = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        if (!oct_source_is_companion(&source->tensors[i]))
            source->tensors[n++] = source->tensors[i];
    }
    source->n_tensors = n;
}

oct_status oct_source_decode(oct_source *source, unsigned components, oct_dtype to,
                             size_t *n_decoded, oct_err *err)
{
    oct_dialect dialects[OCT_COMPONENT_COUNT];
    size_t n_lossy = 0;
    oct_status st = OCT_OK;

    assert(to == OCT_F16 || to == OCT_BF16 || to == OCT_F32);
    *n_decoded = 0;
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        dialects[i] = oct_dialect_detect_component(source, (oct_component)i);
    }
    for (size_t i = 0; i < source->n_tensors && !st; i++) {
        oct_source_tensor *tensor = &source->tensors[i];
        if (!is_among(tensor, components) || !is_fp8(tensor->dtype)) continue;
        if (tensor->bytes == 0 || oct_source_is_companion(tensor)) continue;
        st = set_decoding(source, tensor, dialects[tensor->component], to, err);
        n_lossy += !st && is_lossy(tensor);
        ++*n_decoded;
    }
    if (n_lossy) {
        oct_warn("F16 cannot tell the smallest codes of %zu tensors apart, whose scales are below "
                 "2^-15: BF16 can",
                 n_lossy);
    }
    if (!st) remove_companions(source, components);
    return st;
}
