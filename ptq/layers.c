// SPDX-License-Identifier: Apache-2.0
//
// The layer table: names, and one survey whatever the architecture.
#include "ptq/layers.h"

#include <assert.h>
#include <string.h>

#include "common/log.h"
#include "ptq/survey.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- Names of the enumerations.

static const char *const role_names[OCT_ROLE_COUNT] = {
    "attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2", "mod", "embed", "final", "other",
};
static const char *const stream_names[] = {"none", "image", "text"};

static int find_name(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) return (int)i;
    }
    return -1;
}

const char *oct_role_name(oct_role role)
{
    assert(role < OCT_ROLE_COUNT);
    return role_names[role];
}

bool oct_role_parse(const char *name, oct_role *role)
{
    const int found = find_name(role_names, COUNT(role_names), name);

    if (found >= 0) *role = (oct_role)found;
    return found >= 0;
}

const char *oct_stream_name(oct_stream_kind stream)
{
    assert(stream < COUNT(stream_names));
    return stream_names[stream];
}

bool oct_stream_parse(const char *name, oct_stream_kind *stream)
{
    const int found = find_name(stream_names, COUNT(stream_names), name);

    if (found >= 0) *stream = (oct_stream_kind)found;
    return found >= 0;
}

// ---- Surveying.

static oct_status fail_unknown(const oct_source *source, oct_err *err)
{
    static const char known[] = "no SD3, FLUX.1, LTX-Video or T5 model";
    const char *path = source->checkpoint.n_files ? source->checkpoint.files[0].file.path : "";
    const char *guess = oct_architecture_guess(&source->checkpoint);

    if (guess) {
        return oct_fail(err, OCT_EUNSUPPORTED, "'%s' is %s: it looks like %s", path, known, guess);
    }
    return oct_fail(err, OCT_EUNSUPPORTED, "'%s' is %s by the names of its tensors", path, known);
}

static oct_status survey_layers(oct_survey *survey, bool is_generic, oct_err *err)
{
    switch (survey->source->architecture) {
    case OCT_ARCH_SD3:
        return oct_survey_sd3(survey, err);
    case OCT_ARCH_FLUX:
        return oct_survey_flux(survey, err);
    case OCT_ARCH_LTX:
        return oct_survey_ltx(survey, err);
    case OCT_ARCH_T5:
        return oct_survey_t5(survey, err);
    default:
        if (!is_generic) return fail_unknown(survey->source, err);
        survey->denoiser->architecture = OCT_ARCH_GENERIC;
        return oct_survey_generic(survey, err);
    }
}

static oct_status survey_all(oct_survey *survey, const oct_denoiser_params *params, oct_err *err)
{
    oct_denoiser *denoiser = survey->denoiser;

    denoiser->architecture = survey->source->architecture;
    survey->component = denoiser->architecture == OCT_ARCH_T5 ? OCT_T5 : OCT_DENOISER;
    denoiser->component = survey->component;
    oct_status st = survey_layers(survey, params->is_generic, err);
    if (!st) st = oct_survey_finish(survey, err);
    if (st || !params->with_t5 || denoiser->component == OCT_T5 ||
        !oct_checkpoint_has(&survey->source->checkpoint, OCT_T5)) {
        return st;
    }
    survey->component = OCT_T5;
    st = oct_survey_t5(survey, err);
    return st ? st : oct_survey_finish(survey, err);
}

oct_status oct_denoiser_init_with(oct_denoiser *denoiser, const oct_source *source,
                                  const oct_denoiser_params *params, oct_err *err)
{
    oct_arena scratch = {0};

    *denoiser = (oct_denoiser){0};
    oct_survey survey = {.denoiser = denoiser,
                         .source = source,
                         .is_known = oct_arena_array(&scratch, source->n_tensors, sizeof(bool))};
    const oct_status st = survey_all(&survey, params, err);
    oct_arena_deinit(&scratch);
    if (st) oct_denoiser_deinit(denoiser);
    return st;
}

oct_status oct_denoiser_init(oct_denoiser *denoiser, const oct_source *source, oct_err *err)
{
    return oct_denoiser_init_with(denoiser, source, &(oct_denoiser_params){0}, err);
}

void oct_denoiser_deinit(oct_denoiser *denoiser)
{
    oct_arena_deinit(&denoiser->arena);
    *denoiser = (oct_denoiser){0};
}

int oct_denoiser_depth_at(const oct_denoiser *denoiser, const oct_layer *layer)
{
    return layer->component == denoiser->component ? denoiser->depth : denoiser->t5_depth;
}

const oct_layer *oct_denoiser_find(const oct_denoiser *denoiser, const char *name)
{
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        const oct_layer *layer = &denoiser->layers[i];
        if (strcmp(layer->name, name) == 0) return layer;
        for (size_t j = 0; j < OCT_PARTS_MAX && layer->diffusers_names[j]; j++) {
            if (strcmp(layer->diffusers_names[j], name) == 0) return layer;
        }
    }
    return NULL;
}
