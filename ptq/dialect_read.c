// SPDX-License-Identifier: Apache-2.0
//
// Dialects: how the layers of a checkpoint are stored.
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/number.h"
#include "ptq/dialect.h"
#include "ptq/naming.h"

#define MARKER_BYTES_MAX 4096
#define NAME_BYTES 300  // a layer's name and an ending
#define METADATA_KEY "_quantization_metadata"
#define MX_BLOCK 32

static bool is_fp8_type(oct_dtype dtype)
{
    return dtype == OCT_F8_E4M3 || dtype == OCT_F8_E5M2;
}

// ---- Which dialect it is.

static const char *find_metadata(const oct_source_tensor *tensor)
{
    return oct_safetensors_find_meta(tensor->parts[0].stored->file, METADATA_KEY);
}

// What the names of a component say of its dialect.
typedef struct dialect_signs {
    bool has_marker, has_scale, has_legacy, has_fp8;
} dialect_signs;

static void look_at(dialect_signs *signs, const oct_source_tensor *tensor)
{
    const char *name = tensor->name;

    signs->has_marker |= oct_name_ends_with(name, ".comfy_quant") ||
                         (tensor->component == OCT_DENOISER && find_metadata(tensor));
    signs->has_scale |= oct_name_ends_with(name, ".weight_scale");
    signs->has_legacy |=
        strcmp(name, OCT_FP8_MARKER) == 0 || oct_name_ends_with(name, ".scale_weight");
    signs->has_fp8 |= is_fp8_type(tensor->dtype) && oct_name_ends_with(name, ".weight");
}

oct_dialect oct_dialect_detect_component(const oct_source *source, oct_component component)
{
    dialect_signs signs = {0};

    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component == component) look_at(&signs, &source->tensors[i]);
    }
    const bool is_diffusers = component == OCT_DENOISER && source->is_diffusers_named;
    if (signs.has_scale && !signs.has_marker && is_diffusers) return OCT_DIALECT_DIFFUSERS;
    if (signs.has_scale || signs.has_marker) return OCT_DIALECT_COMFY;
    if (signs.has_legacy) return OCT_DIALECT_COMFY_LEGACY;
    return signs.has_fp8 ? OCT_DIALECT_CAST : OCT_DIALECT_NONE;
}

oct_dialect oct_dialect_detect(const oct_source *source)
{
    return oct_dialect_detect_component(source, OCT_DENOISER);
}

// ---- Companions of a weight.

typedef struct reader {
    const oct_source *source;
    const oct_source_tensor *weight;
    size_t part;
    char layer[NAME_BYTES];  // the same without prefix: companions are called after it
} reader;

static void reader_init(reader *r, const oct_source *source, const oct_source_tensor *weight,
                        size_t part)
{
    const oct_ckpt_tensor *stored = weight->parts[part].stored;
    size_t length = strlen(stored->name);

    *r = (reader){.source = source, .weight = weight, .part = part};
    if (oct_name_ends_with(stored->name, ".weight")) length -= strlen(".weight");
    snprintf(r->layer, sizeof r->layer, "%.*s", (int)length, stored->name);
}

static const oct_source_tensor *find_companion(const reader *r, const char *ending)
{
    char name[NAME_BYTES + 20];

    snprintf(name, sizeof name, "%s.%s", r->layer, ending);
    return oct_source_find(r->source, r->weight->component, name);
}

static oct_status check_scale_shape(const oct_source_tensor *scale, oct_err *err)
{
    if (scale->dtype != OCT_F32) {
        return oct_fail(err, OCT_EFORMAT, "'%s' has type %s, not F32", scale->name,
                        oct_dtype_name(scale->dtype));
    }
    if (scale->rank > 1 || (scale->rank == 1 && scale->shape[0] != 1)) {
        return oct_fail(err, OCT_EFORMAT,
                        "'%s' has %" PRIu64 " elements, not one scale of the tensor", scale->name,
                        scale->bytes / sizeof(float));
    }
    return OCT_OK;
}

static oct_status read_scale(const oct_source_tensor *scale, float *value, oct_err *err)
{
    oct_status st = check_scale_shape(scale, err);
    if (!st) st = oct_source_read(scale, value, err);
    if (st) return st;
    if (!isfinite(*value) || *value <= 0) {
        return oct_fail(err, OCT_EFORMAT, "'%s' is %g: a scale must be finite and positive",
                        scale->name, (double)*value);
    }
    return OCT_OK;
}

// What is expected of the weight and its scale.
typedef enum stored_form { STORED_E4M3, STORED_E5M2, STORED_MX_TILED, STORED_ANY } stored_form;

static uint64_t part_rows(const reader *r)
{
    const oct_st_tensor *stored = r->weight->parts[r->part].stored->tensor;

    return stored->rank > 0 ? stored->shape[0] : 1;
}

static oct_status fail_shape(const reader *r, const oct_source_tensor *scale, oct_err *err)
{
    return oct_fail(err, OCT_EFORMAT, "'%s' has not the shape of scales for '%s'", scale->name,
                    r->weight->parts[r->part].stored->name);
}

static oct_status take_mx(const reader *r, const oct_source_tensor *scale, bool is_tiled,
                          oct_fp8_layer *fp8, oct_err *err)
{
    uint64_t rows = part_rows(r), blocks = r->weight->shape[1] / MX_BLOCK;

    if (is_tiled) {
        rows = (rows + OCT_MX_TILE_ROWS - 1) / OCT_MX_TILE_ROWS * OCT_MX_TILE_ROWS;
        blocks = (blocks + OCT_MX_TILE_BLOCKS - 1) / OCT_MX_TILE_BLOCKS * OCT_MX_TILE_BLOCKS;
    }
    if ((scale->dtype != OCT_U8 && scale->dtype != OCT_F8_E8M0) || r->weight->shape[1] % MX_BLOCK ||
        scale->rank != 2 || scale->shape[0] != rows || scale->shape[1] != blocks) {
        return fail_shape(r, scale, err);
    }
    fp8->granularity = OCT_PER_MX_BLOCK;
    fp8->has_tiled_scales = is_tiled;
    fp8->scales = *scale;
    return OCT_OK;
}

static oct_status take_channel(const reader *r, const oct_source_tensor *scale, oct_fp8_layer *fp8,
                               oct_err *err)
{
    if (scale->dtype != OCT_F32 || scale->shape[0] != part_rows(r) ||
        (scale->rank == 2 && scale->shape[1] != 1) || scale->rank > 2) {
        return fail_shape(r, scale, err);
    }
    fp8->granularity = OCT_PER_CHANNEL;
    fp8->scales = *scale;
    fp8->scales.rank = 1;
    return OCT_OK;
}

static oct_status take_weight_scale(const reader *r, const oct_source_tensor *scale,
                                    stored_form form, oct_fp8_layer *fp8, oct_err *err)
{
    const bool is_scalar = scale->rank == 0 || (scale->rank == 1 && scale->shape[0] == 1);

    if (form == STORED_MX_TILED) return take_mx(r, scale, true, fp8, err);
    if (form != STORED_ANY || is_scalar) return read_scale(scale, &fp8->weight_scale, err);
    if (scale->dtype == OCT_F32) return take_channel(r, scale, fp8, err);
    return take_mx(r, scale, false, fp8, err);
}

// The scale of the weight, which must be there, and that of the input, which need not.
static oct_status read_scales(const reader *r, const char *weight_ending, const char *input_ending,
                              stored_form form, oct_fp8_layer *fp8, oct_err *err)
{
    const oct_source_tensor *weight = find_companion(r, weight_ending);
    const oct_source_tensor *input = find_companion(r, input_ending);
    const oct_dtype dtype = form == STORED_E5M2 ? OCT_F8_E5M2 : OCT_F8_E4M3;

    if (r->weight->dtype != dtype) {
        return oct_fail(err, OCT_EFORMAT, "'%s' has type %s, not %s", r->weight->name,
                        oct_dtype_name(r->weight->dtype), oct_dtype_name(dtype));
    }
    if (!weight) {
        return oct_fail(err, OCT_EFORMAT, "'%s.%s' is missing: the weight is %s", r->layer,
                        weight_ending, oct_dtype_name(r->weight->dtype));
    }
    oct_status st = take_weight_scale(r, weight, form, fp8, err);
    if (!st && input) st = read_scale(input, &fp8->input_scale, err);
    return st;
}

// ---- comfy.

typedef struct marker_text {
    stored_form form;
    bool is_full_precision;
} marker_text;

// {"format": "float8_e4m3fn"} and perhaps more; `where` it stands, for the sentence.
static oct_status parse_marker(const cJSON *marker, const char *where, marker_text *said,
                               oct_err *err)
{
    static const char *const formats[] = {"float8_e4m3fn", "float8_e5m2", "mxfp8"};
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(marker, "format");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(marker, "full_precision_matrix_mult");
    char shown[100];

    if (!cJSON_IsObject(marker) || !cJSON_IsString(format) || (full && !cJSON_IsBool(full))) {
        return oct_fail(err, OCT_EFORMAT, "%s is not understood", where);
    }
    said->is_full_precision = cJSON_IsTrue(full);
    for (int i = STORED_E4M3; i <= STORED_MX_TILED; i++) {
        if (strcmp(format->valuestring, formats[i]) != 0) continue;
        said->form = (stored_form)i;
        return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "%s has format '%s', not '%s', '%s' or '%s'", where,
                    oct_printable(format->valuestring, shown, sizeof shown), formats[0], formats[1],
                    formats[2]);
}

static oct_status read_marker(const oct_source_tensor *marker, marker_text *said, oct_err *err)
{
    char text[MARKER_BYTES_MAX], where[NAME_BYTES];
    cJSON *root = NULL;

    snprintf(where, sizeof where, "'%s'", marker->name);
    if (marker->dtype != OCT_U8 || marker->rank != 1 || marker->bytes > sizeof text) {
        return oct_fail(err, OCT_EFORMAT, "%s must be a list of at most %d U8", where,
                        MARKER_BYTES_MAX);
    }
    oct_status st = oct_source_read(marker, text, err);
    if (st) return st;
    st = oct_json_parse(text, marker->bytes, &root, err);
    if (st) return oct_wrap(err, st, "%s", where);
    st = parse_marker(root, where, said, err);
    cJSON_Delete(root);
    return st;
}

// The entry of the file's header, if there is one. It goes before a marker tensor.
static oct_status read_header_entry(const reader *r, bool *has, marker_text *said, oct_err *err)
{
    const oct_source_tensor *weight = r->weight;
    const char *text = find_metadata(weight);
    char name[NAME_BYTES];
    cJSON *root = NULL;

    *has = false;
    if (!text) return OCT_OK;
    oct_status st = oct_json_parse(text, strlen(text), &root, err);
    if (st) return oct_wrap(err, st, "'" METADATA_KEY "'");
    snprintf(name, sizeof name, "%s%s", weight->parts[0].stored->prefix, r->layer);
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(root, "layers");
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(layers, name);
    if (!cJSON_IsObject(layers)) {
        st = oct_fail(err, OCT_EFORMAT, "'" METADATA_KEY "' has no object 'layers'");
    } else if (entry) {
        char where[2 * NAME_BYTES];
        snprintf(where, sizeof where, "'" METADATA_KEY "' of '%s'", name);
        st = parse_marker(entry, where, said, err);
        *has = true;
    }
    cJSON_Delete(root);
    return st;
}

static oct_status read_comfy(const reader *r, oct_fp8_layer *fp8, oct_err *err)
{
    const oct_source_tensor *marker = find_companion(r, "comfy_quant");
    marker_text said = {0};
    bool has_entry = false;

    oct_status st = read_header_entry(r, &has_entry, &said, err);
    if (st) return st;
    if (!has_entry && !marker) {
        return oct_fail(err, OCT_EFORMAT, "'%s.comfy_quant' is missing: the weight is %s", r->layer,
                        oct_dtype_name(r->weight->dtype));
    }
    if (!has_entry) st = read_marker(marker, &said, err);
    if (st) return st;
    fp8->is_full_precision = said.is_full_precision;
    st = read_scales(r, "weight_scale", "input_scale", said.form, fp8, err);
    return st;
}

// ---- comfy-legacy.

static oct_status read_legacy(const reader *r, oct_fp8_layer *fp8, oct_err *err)
{
    const oct_source_tensor *marker =
        oct_source_find(r->source, r->weight->component, OCT_FP8_MARKER);

    if (!marker) {
        return oct_fail(err, OCT_EFORMAT, "'" OCT_FP8_MARKER "' is missing: '%s' is %s",
                        r->weight->name, oct_dtype_name(r->weight->dtype));
    }
    // F32 is an early spelling of the same.
    if ((marker->dtype != OCT_F8_E4M3 && marker->dtype != OCT_F32) || marker->rank != 1 ||
        marker->shape[0] > 2) {
        return oct_fail(err, OCT_EFORMAT,
                        "'" OCT_FP8_MARKER "' must be a list of at most 2 F8_E4M3");
    }
    fp8->is_full_precision = marker->shape[0] == 2;
    return read_scales(r, "scale_weight", "scale_input", STORED_E4M3, fp8, err);
}

// ---- Any.

// A weight in 16 bit or more has no companions.
static oct_status check_plain(const reader *r, oct_err *err)
{
    static const char *const endings[] = {"comfy_quant", "weight_scale", "scale_weight"};

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const oct_source_tensor *companion = find_companion(r, endings[i]);
        if (companion) {
            return oct_fail(err, OCT_EFORMAT, "'%s' has type %s, but '%s' says FP8",
                            r->weight->name, oct_dtype_name(r->weight->dtype), companion->name);
        }
    }
    return OCT_OK;
}

static oct_status read_scaled(const reader *r, oct_dialect dialect, oct_fp8_layer *fp8,
                              oct_err *err)
{
    const oct_source_tensor *weight = r->weight;

    if (weight->rank != 2) {
        return oct_fail(err, OCT_EFORMAT, "'%s' is a convolution: no loader reads it in FP8",
                        weight->name);
    }
    switch (dialect) {
    case OCT_DIALECT_COMFY:
        return read_comfy(r, fp8, err);
    case OCT_DIALECT_COMFY_LEGACY:
        return read_legacy(r, fp8, err);
    default:
        return read_scales(r, "weight_scale", "input_scale", STORED_ANY, fp8, err);
    }
}

oct_status oct_dialect_read_part(const oct_source *source, oct_dialect dialect,
                                 const oct_source_tensor *weight, size_t part, oct_fp8_layer *fp8,
                                 oct_err *err)
{
    reader r;

    reader_init(&r, source, weight, part);
    *fp8 = (oct_fp8_layer){0};
    if (!is_fp8_type(weight->dtype)) return check_plain(&r, err);
    assert(dialect != OCT_DIALECT_NONE);
    *fp8 = (oct_fp8_layer){.is_fp8 = true, .weight_scale = 1};
    const oct_status st = dialect == OCT_DIALECT_CAST ? OCT_OK : read_scaled(&r, dialect, fp8, err);
    const bool has_marker = dialect == OCT_DIALECT_COMFY || dialect == OCT_DIALECT_COMFY_LEGACY;
    fp8->is_marked_full_precision = has_marker ? fp8->is_full_precision : fp8->input_scale == 0;
    if (fp8->input_scale == 0) fp8->is_full_precision = true;
    return st;
}

static bool is_same_scale(const oct_fp8_layer *a, const oct_fp8_layer *b)
{
    return a->granularity == b->granularity && a->weight_scale == b->weight_scale &&
           a->input_scale == b->input_scale;
}

// Arrays of scales have rows like the weight: they are joined, or swapped, like it.
static void join_scales(const oct_source_tensor *weight, size_t part, oct_fp8_layer *fp8,
                        const oct_fp8_layer *other)
{
    oct_source_tensor *scales = &fp8->scales;
    const bool is_mx = fp8->granularity == OCT_PER_MX_BLOCK;
    const uint64_t row_bytes = is_mx ? other->scales.shape[1] : sizeof(float);
    const uint64_t rows = weight->parts[part].rows;

    if (part == 0) scales->shape[0] = scales->bytes = scales->n_parts = 0;
    scales->parts[part] =
        (oct_part){other->scales.parts[0].stored, weight->parts[part].first_row, rows};
    scales->n_parts++;
    scales->shape[0] += rows;
    scales->bytes += rows * row_bytes;
}

oct_status oct_dialect_read_weight(const oct_source *source, oct_dialect dialect,
                                   const oct_source_tensor *weight, oct_fp8_layer *fp8,
                                   oct_err *err)
{
    oct_fp8_layer first, other;

    oct_status st = oct_dialect_read_part(source, dialect, weight, 0, &first, err);
    *fp8 = first;
    if (weight->n_parts == 1 || st) return st;
    if (first.granularity != OCT_PER_TENSOR) join_scales(weight, 0, fp8, &first);
    for (size_t i = 1; i < weight->n_parts && !st; i++) {
        st = oct_dialect_read_part(source, dialect, weight, i, &other, err);
        if (st) return st;
        if (!is_same_scale(&first, &other)) {
            return oct_fail(err, OCT_EUNSUPPORTED,
                            "'%s' and '%s' have different scales: as one layer they need one",
                            weight->parts[0].stored->name, weight->parts[i].stored->name);
        }
        if (first.granularity != OCT_PER_TENSOR) join_scales(weight, i, fp8, &other);
    }
    return st;
}

oct_status oct_dialect_read(const oct_source *source, oct_dialect dialect, const oct_layer *layer,
                            oct_fp8_layer *fp8, oct_err *err)
{
    return oct_dialect_read_weight(source, dialect, layer->weight, fp8, err);
}

bool oct_source_is_companion(const oct_source_tensor *tensor)
{
    char layer[NAME_BYTES];

    return tensor->component != OCT_OTHER &&
           (strcmp(tensor->name, OCT_FP8_MARKER) == 0 ||
            oct_name_of_scaled_layer(tensor->name, layer, sizeof layer));
}

// ---- Arrays of scales.

static oct_status fail_scale(const oct_fp8_layer *fp8, double value, uint64_t index, oct_err *err)
{
    return oct_fail(err, OCT_EFORMAT,
                    "'%s' is %g at index %" PRIu64 ": a scale must be finite and positive",
                    fp8->scales.name, value, index);
}

uint64_t oct_mx_tiled_index(uint64_t row, uint64_t block, uint64_t blocks)
{
    const uint64_t tiles = (blocks + OCT_MX_TILE_BLOCKS - 1) / OCT_MX_TILE_BLOCKS;
    const uint64_t tile = row / OCT_MX_TILE_ROWS * tiles + block / OCT_MX_TILE_BLOCKS;

    return tile * OCT_MX_TILE_ROWS * OCT_MX_TILE_BLOCKS + row % 32 * 16 +
           row % OCT_MX_TILE_ROWS / 32 * OCT_MX_TILE_BLOCKS + block % OCT_MX_TILE_BLOCKS;
}

static oct_status read_tiled(const oct_fp8_layer *fp8, uint64_t blocks, uint64_t row, uint64_t rows,
                             uint8_t *scales, oct_err *err)
{
    const uint64_t tile_row_bytes = fp8->scales.shape[1] * OCT_MX_TILE_ROWS;
    const uint64_t first = row / OCT_MX_TILE_ROWS, end = (row + rows - 1) / OCT_MX_TILE_ROWS + 1;

    uint8_t *tiled = malloc((end - first) * tile_row_bytes);
    if (!tiled) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for the scales '%s'", fp8->scales.name);
    }
    const oct_status st = oct_source_read_range(&fp8->scales, first * tile_row_bytes,
                                                (end - first) * tile_row_bytes, tiled, err);
    for (uint64_t r = 0; r < rows && !st; r++) {
        const uint64_t in_tiles = row + r - first * OCT_MX_TILE_ROWS;
        for (uint64_t b = 0; b < blocks; b++) {
            scales[r * blocks + b] = tiled[oct_mx_tiled_index(in_tiles, b, blocks)];
        }
    }
    free(tiled);
    return st;
}

oct_status oct_dialect_read_mx(const oct_fp8_layer *fp8, uint64_t blocks, uint64_t row,
                               uint64_t rows, uint8_t *scales, oct_err *err)
{
    assert(fp8->granularity == OCT_PER_MX_BLOCK && rows > 0);
    const oct_status st = fp8->has_tiled_scales ? read_tiled(fp8, blocks, row, rows, scales, err)
                                                : oct_source_read_range(&fp8->scales, row * blocks,
                                                                        rows * blocks, scales, err);
    for (uint64_t i = 0; i < rows * blocks && !st; i++) {
        if (scales[i] == 0xff) return fail_scale(fp8, (double)NAN, row * blocks + i, err);
    }
    return st;
}

oct_status oct_dialect_read_channels(const oct_fp8_layer *fp8, float *scales, oct_err *err)
{
    const uint64_t rows = fp8->scales.bytes / sizeof *scales;

    assert(fp8->granularity == OCT_PER_CHANNEL);
    const oct_status st = oct_source_read(&fp8->scales, scales, err);
    for (uint64_t r = 0; r < rows && !st; r++) {
        if (!isfinite(scales[r]) || scales[r] <= 0) {
            return fail_scale(fp8, (double)scales[r], r, err);
        }
    }
    return st;
}

oct_status oct_dialect_read_scales(const oct_fp8_layer *fp8, const oct_layer *layer, void *scales,
                                   oct_err *err)
{
    assert(fp8->granularity != OCT_PER_TENSOR);
    if (fp8->granularity == OCT_PER_CHANNEL) return oct_dialect_read_channels(fp8, scales, err);
    return oct_dialect_read_mx(fp8, layer->in_features / MX_BLOCK, 0, layer->out_features, scales,
                               err);
}
