// SPDX-License-Identifier: Apache-2.0
//
// Surveying a source for its layers.
#include "ptq/survey.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "ptq/naming.h"

#define FEATURES_MAX ((uint64_t)1 << 24)

// ---- Finding tensors.

const char *oct_shape_print(char *text, size_t bytes, int rank, const uint64_t *shape)
{
    size_t used = (size_t)snprintf(text, bytes, "[");

    for (int d = 0; d < rank && used < bytes; d++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%" PRIu64, d ? "," : "", shape[d]);
    }
    if (used < bytes) snprintf(text + used, bytes - used, "]");
    return text;
}

oct_status oct_survey_take(oct_survey *survey, const char *name, const oct_source_tensor **tensor,
                           oct_err *err)
{
    *tensor = oct_source_find(survey->source, survey->component, name);
    if (!*tensor) return oct_fail(err, OCT_EFORMAT, "'%s' is missing", name);
    survey->is_known[*tensor - survey->source->tensors] = true;
    switch ((*tensor)->dtype) {
    case OCT_F16:
    case OCT_BF16:
    case OCT_F32:
    case OCT_F8_E4M3:
    case OCT_F8_E5M2:
        return OCT_OK;
    default:
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "'%s' has type %s: F16, BF16, F32, F8_E4M3 or F8_E5M2 is needed", name,
                        oct_dtype_name((*tensor)->dtype));
    }
}

oct_status oct_survey_take_shaped(oct_survey *survey, const char *name, int rank,
                                  const uint64_t *shape, const oct_source_tensor **tensor,
                                  oct_err *err)
{
    char got[200], want[200];

    const oct_status st = oct_survey_take(survey, name, tensor, err);
    if (st) return st;
    if ((*tensor)->rank == rank &&
        memcmp((*tensor)->shape, shape, (size_t)rank * sizeof *shape) == 0) {
        return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "'%s' has shape %s, not %s", name,
                    oct_shape_print(got, sizeof got, (*tensor)->rank, (*tensor)->shape),
                    oct_shape_print(want, sizeof want, rank, shape));
}

oct_status oct_survey_take_ranked(oct_survey *survey, const char *name, int rank,
                                  const oct_source_tensor **tensor, oct_err *err)
{
    const oct_status st = oct_survey_take(survey, name, tensor, err);
    if (st) return st;
    if ((*tensor)->rank != rank) {
        return oct_fail(err, OCT_EFORMAT, "'%s' has %d dimensions, not %d", name, (*tensor)->rank,
                        rank);
    }
    return OCT_OK;
}

bool oct_survey_has(const oct_survey *survey, const char *name)
{
    return oct_source_find(survey->source, survey->component, name) != NULL;
}

void oct_survey_ignore(oct_survey *survey, const char *name)
{
    const oct_source_tensor *tensor = oct_source_find(survey->source, survey->component, name);

    if (tensor) survey->is_known[tensor - survey->source->tensors] = true;
}

static oct_status take_dimension(oct_survey *survey, const oct_dimension *dimension, oct_err *err)
{
    const oct_source_tensor *tensor = NULL;

    const oct_status st = oct_survey_take_ranked(survey, dimension->weight, 2, &tensor, err);
    if (st) return st;
    const uint64_t features = tensor->shape[dimension->axis];
    *dimension->features = features;
    if (features > 0 && features <= FEATURES_MAX) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "'%s' has %" PRIu64 " %s, not 1..2^24", dimension->weight,
                    features, dimension->axis == 0 ? "rows" : "columns");
}

oct_status oct_survey_dimensions(oct_survey *survey, const oct_dimension *dimensions, size_t n,
                                 oct_err *err)
{
    oct_status st = OCT_OK;

    for (size_t i = 0; i < n && !st; i++) {
        st = take_dimension(survey, &dimensions[i], err);
    }
    return st;
}

oct_status oct_survey_depth(const oct_survey *survey, const char *prefix, size_t tensors_min,
                            int *depth, oct_err *err)
{
    const oct_source *source = survey->source;
    size_t n_tensors = 0;
    unsigned block = 0;

    *depth = 0;
    for (size_t i = 0; i < source->n_tensors; i++) {
        n_tensors += source->tensors[i].component == survey->component;
    }
    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component != survey->component) continue;
        if (!oct_name_index(tensor->name, prefix, &block)) continue;
        if ((size_t)block * tensors_min >= n_tensors) {
            return oct_fail(err, OCT_EFORMAT, "'%s' is of block %u, but there are only %zu tensors",
                            tensor->name, block, n_tensors);
        }
        if ((int)block >= *depth) *depth = (int)block + 1;
    }
    return OCT_OK;
}

// ---- Layers.

oct_status oct_survey_add(oct_survey *survey, const oct_layer *layer, bool has_bias,
                          const uint64_t conv_shape[4], oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    oct_arena *arena = &denoiser->arena;

    denoiser->layers = oct_arena_grow(arena, denoiser->layers, denoiser->n_layers,
                                      &survey->capacity, sizeof *denoiser->layers);
    oct_layer *added = &denoiser->layers[denoiser->n_layers++];
    *added = *layer;
    added->component = survey->component;
    added->is_conv = conv_shape != NULL;
    oct_name_in_diffusers(arena, survey->component == OCT_T5 ? OCT_ARCH_T5 : denoiser->architecture,
                          layer->name, added->diffusers_names);
    const uint64_t linear[2] = {layer->out_features, layer->in_features};
    oct_status st = oct_survey_take_shaped(survey, oct_arena_print(arena, "%s.weight", layer->name),
                                           conv_shape ? 4 : 2, conv_shape ? conv_shape : linear,
                                           &added->weight, err);
    if (st || !has_bias) return st;
    return oct_survey_take_shaped(survey, oct_arena_print(arena, "%s.bias", layer->name), 1, linear,
                                  &added->bias, err);
}

static oct_role second_role(oct_role role, bool is_fused)
{
    if (!is_fused) return role;
    return role == OCT_ROLE_MLP_FC1 ? OCT_ROLE_ATTN_QKV : OCT_ROLE_ATTN_PROJ;
}

oct_status oct_survey_add_rows(oct_survey *survey, const oct_layer_row *rows, size_t n_rows,
                               const oct_row_place *place, oct_err *err)
{
    oct_status st = OCT_OK;

    for (size_t i = 0; i < n_rows && !st; i++) {
        const oct_layer_row *row = &rows[i];
        const oct_layer layer = {
            .name = place->name
                        ? oct_arena_print(&survey->denoiser->arena, "%s.%s", place->name, row->name)
                        : row->name,
            .role = row->role,
            .second_role = second_role(row->role, place->is_fused),
            .stream = row->stream,
            .block = place->block,
            .out_features = place->size(survey->denoiser, row->out),
            .in_features = place->size(survey->denoiser, row->in)};
        st = oct_survey_add(survey, &layer, place->has_bias, NULL, err);
    }
    return st;
}

// ---- What is left over.

static bool is_fp8_companion(const oct_denoiser *denoiser, const char *name)
{
    char layer[256];

    return strcmp(name, OCT_FP8_MARKER) == 0 ||
           (oct_name_of_scaled_layer(name, layer, sizeof layer) &&
            oct_denoiser_find(denoiser, layer));
}

static const char *model_of(const oct_survey *survey)
{
    if (survey->component == OCT_T5) return "a T5 encoder";
    switch (survey->denoiser->architecture) {
    case OCT_ARCH_FLUX:
        return "a FLUX.1 denoiser";
    case OCT_ARCH_LTX:
        return "an LTX-Video denoiser";
    case OCT_ARCH_GENERIC:
        return "the model";
    default:
        return "an SD3.5 denoiser";
    }
}

oct_status oct_survey_finish(oct_survey *survey, oct_err *err)
{
    const oct_source *source = survey->source;
    const char *first = NULL;
    char shown[200];
    size_t n = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component != survey->component) continue;
        survey->denoiser->bytes += tensor->bytes;
        if (survey->is_known[i]) continue;
        if (is_fp8_companion(survey->denoiser, tensor->name)) continue;
        if (n++ == 0) first = tensor->name;
    }
    if (n == 0) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "'%s' is no tensor of %s (%zu unknown)",
                    oct_printable(first, shown, sizeof shown), model_of(survey), n);
}
