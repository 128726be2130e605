// SPDX-License-Identifier: Apache-2.0
//
// Layers by shape alone. Nothing is missing, unknown or misshapen here.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/naming.h"
#include "ptq/survey.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FEATURES_MIN 256
#define FEATURES_MULTIPLE 16

static bool is_float(oct_dtype dtype)
{
    return dtype == OCT_F16 || dtype == OCT_BF16 || dtype == OCT_F32 || dtype == OCT_F8_E4M3 ||
           dtype == OCT_F8_E5M2;
}

static bool is_feature_count(uint64_t features)
{
    return features >= FEATURES_MIN && features % FEATURES_MULTIPLE == 0;
}

static bool is_embedding(const char *name)
{
    static const char *const parts[] = {"embed", "shared.weight", "wte.weight", "wpe.weight"};

    for (size_t i = 0; i < COUNT(parts); i++) {
        if (strstr(name, parts[i])) return true;
    }
    return false;
}

static bool is_layer(const oct_source_tensor *tensor)
{
    return oct_name_ends_with(tensor->name, ".weight") && tensor->rank == 2 &&
           is_float(tensor->dtype) && is_feature_count(tensor->shape[0]) &&
           is_feature_count(tensor->shape[1]) && !is_embedding(tensor->name);
}

// The first index in a name: that of the outermost list it is in.
static int find_block(const char *name)
{
    unsigned index = 0;

    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        if (oct_name_index(dot + 1, "", &index)) return (int)index;
    }
    return -1;
}

static oct_status add_layer(oct_survey *survey, const oct_source_tensor *tensor, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;
    const size_t length = strlen(tensor->name) - strlen(".weight");
    const oct_layer layer = {.name = oct_arena_copy_n(&denoiser->arena, tensor->name, length),
                             .role = OCT_ROLE_OTHER,
                             .second_role = OCT_ROLE_OTHER,
                             .block = find_block(tensor->name),
                             .out_features = tensor->shape[0],
                             .in_features = tensor->shape[1]};

    if (layer.block >= denoiser->depth) denoiser->depth = layer.block + 1;
    return oct_survey_add(survey, &layer, false, NULL, err);
}

// The denoiser's tensors, or those of the first component there is.
static oct_component find_component(const oct_source *source)
{
    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component != OCT_OTHER) return source->tensors[i].component;
    }
    return OCT_DENOISER;
}

oct_status oct_survey_generic(oct_survey *survey, oct_err *err)
{
    const oct_source *source = survey->source;
    oct_status st = OCT_OK;

    survey->component = survey->denoiser->component = find_component(source);
    for (size_t i = 0; i < source->n_tensors && !st; i++) {
        if (source->tensors[i].component != survey->component) continue;
        survey->is_known[i] = true;
        if (is_layer(&source->tensors[i])) st = add_layer(survey, &source->tensors[i], err);
    }
    if (!st && survey->denoiser->n_layers == 0) {
        st = oct_fail(err, OCT_EUNSUPPORTED,
                      "no weight has 2 dimensions of at least %d features, multiples of %d",
                      FEATURES_MIN, FEATURES_MULTIPLE);
    }
    survey->denoiser->variant = "custom";
    return st;
}
