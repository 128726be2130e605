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
#define FORMAT "float8_e4m3fn"

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
    const char *file_layer;  // name in the file without ".weight", with prefix
    char layer[NAME_BYTES];  // the same without prefix: companions are called after it
} reader;

static void reader_init(reader *r, const oct_source *source, const oct_source_tensor *weight,
                        size_t part)
{
    const oct_ckpt_tensor *stored = weight->parts[part].stored;
    size_t length = strlen(stored->name);

    *r = (reader){.source = source, .weight = weight, .file_layer = stored->tensor->name};
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

// The scale of the weight, which must be there, and that of the input, which need not.
static oct_status read_scales(const reader *r, const char *weight_ending, const char *input_ending,
                              oct_fp8_layer *fp8, oct_err *err)
{
    const oct_source_tensor *weight = find_companion(r, weight_ending);
    const oct_source_tensor *input = find_companion(r, input_ending);

    if (!weight) {
        return oct_fail(err, OCT_EFORMAT, "'%s.%s' is missing: the weight is %s", r->layer,
                        weight_ending, oct_dtype_name(r->weight->dtype));
    }
    oct_status st = read_scale(weight, &fp8->weight_scale, err);
    if (!st && input) st = read_scale(input, &fp8->input_scale, err);
    return st;
}

// ---- comfy.

// {"format": "float8_e4m3fn"} and perhaps more; `where` it stands, for the sentence.
static oct_status parse_marker(const cJSON *marker, const char *where, bool *is_full_precision,
                               oct_err *err)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(marker, "format");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(marker, "full_precision_matrix_mult");
    char shown[100];

    if (!cJSON_IsObject(marker) || !cJSON_IsString(format) || (full && !cJSON_IsBool(full))) {
        return oct_fail(err, OCT_EFORMAT, "%s is not understood", where);
    }
    if (strcmp(format->valuestring, FORMAT) != 0) {
        return oct_fail(err, OCT_EFORMAT, "%s has format '%s', not '" FORMAT "'", where,
                        oct_printable(format->valuestring, shown, sizeof shown));
    }
    *is_full_precision = cJSON_IsTrue(full);
    return OCT_OK;
}

static oct_status read_marker(const oct_source_tensor *marker, bool *is_full_precision,
                              oct_err *err)
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
    st = parse_marker(root, where, is_full_precision, err);
    cJSON_Delete(root);
    return st;
}

// The entry of the file's header, if there is one. It goes before a marker tensor.
static oct_status read_header_entry(const reader *r, bool *has, bool *is_full_precision,
                                    oct_err *err)
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
        st = parse_marker(entry, where, is_full_precision, err);
        *has = true;
    }
    cJSON_Delete(root);
    return st;
}

static oct_status read_comfy(const reader *r, oct_fp8_layer *fp8, oct_err *err)
{
    const oct_source_tensor *marker = find_companion(r, "comfy_quant");
    bool has_entry = false;

    oct_status st = read_header_entry(r, &has_entry, &fp8->is_full_precision, err);
    if (st) return st;
    if (!has_entry && !marker) {
        return oct_fail(err, OCT_EFORMAT, "'%s.comfy_quant' is missing: the weight is %s", r->layer,
                        oct_dtype_name(r->weight->dtype));
    }
    if (!has_entry) st = read_marker(marker, &fp8->is_full_precision, err);
    if (!st) st = read_scales(r, "weight_scale", "input_scale", fp8, err);
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
    return read_scales(r, "scale_weight", "scale_input", fp8, err);
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
    if (weight->dtype != OCT_F8_E4M3) {
        return oct_fail(err, OCT_EFORMAT, "'%s' has type %s, not F8_E4M3", weight->name,
                        oct_dtype_name(weight->dtype));
    }
    switch (dialect) {
    case OCT_DIALECT_COMFY:
        return read_comfy(r, fp8, err);
    case OCT_DIALECT_COMFY_LEGACY:
        return read_legacy(r, fp8, err);
    default:
        return read_scales(r, "weight_scale", "input_scale", fp8, err);
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
    return a->weight_scale == b->weight_scale && a->input_scale == b->input_scale;
}

oct_status oct_dialect_read_weight(const oct_source *source, oct_dialect dialect,
                                   const oct_source_tensor *weight, oct_fp8_layer *fp8,
                                   oct_err *err)
{
    oct_fp8_layer other;

    oct_status st = oct_dialect_read_part(source, dialect, weight, 0, fp8, err);
    for (size_t i = 1; i < weight->n_parts && !st; i++) {
        st = oct_dialect_read_part(source, dialect, weight, i, &other, err);
        if (st || is_same_scale(fp8, &other)) continue;
        st = oct_fail(err, OCT_EUNSUPPORTED,
                      "'%s' and '%s' have different scales: as one layer they need one",
                      weight->parts[0].stored->name, weight->parts[i].stored->name);
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

static oct_status check_scales(const oct_fp8_layer *fp8, const void *scales, oct_err *err)
{
    const bool is_mx = fp8->granularity == OCT_PER_MX_BLOCK;
    const uint64_t n = fp8->scales->bytes / (is_mx ? 1 : sizeof(float));

    for (uint64_t i = 0; i < n; i++) {
        const float scale =
            is_mx ? oct_e8m0_to_f32(((const uint8_t *)scales)[i]) : ((const float *)scales)[i];
        if (!isfinite(scale) || scale <= 0) {
            return oct_fail(err, OCT_EFORMAT,
                            "'%s' is %g at index %" PRIu64 ": a scale must be finite and positive",
                            fp8->scales->name, (double)scale, i);
        }
    }
    return OCT_OK;
}

oct_status oct_dialect_read_scales(const oct_fp8_layer *fp8, const oct_layer *layer, void *scales,
                                   oct_err *err)
{
    assert(fp8->granularity != OCT_PER_TENSOR && fp8->scales);
    (void)layer;
    const oct_status st = oct_source_read(fp8->scales, scales, err);
    return st ? st : check_scales(fp8, scales, err);
}
