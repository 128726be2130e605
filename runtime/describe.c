// SPDX-License-Identifier: Apache-2.0
//
// What was asked for and what was run.
#include "runtime/describe.h"

#include <stdio.h>

#include "common/json.h"

void oct_json_add_sampling(cJSON *object, const oct_sampling_options *sampling,
                           const oct_slg_options *slg)
{
    cJSON_AddStringToObject(object, "sampler", oct_sampler_name(sampling->sampler));
    oct_json_add_count(object, "steps", sampling->steps);
    cJSON_AddNumberToObject(object, "cfg", sampling->cfg);
    oct_json_add_count(object, "width_px", sampling->width);
    oct_json_add_count(object, "height_px", sampling->height);
    oct_json_add_count(object, "t5_tokens", sampling->t5_tokens);
    if (!slg || !slg->layers) {
        cJSON_AddNullToObject(object, "skip_layer_guidance");
        return;
    }
    cJSON *guidance = cJSON_AddObjectToObject(object, "skip_layer_guidance");
    cJSON_AddStringToObject(guidance, "layers", slg->layers);
    cJSON_AddNumberToObject(guidance, "scale", slg->scale);
    cJSON_AddNumberToObject(guidance, "start", slg->start);
    cJSON_AddNumberToObject(guidance, "stop", slg->stop);
}

void oct_json_add_executed(cJSON *object, const oct_executed *executed)
{
    cJSON *layers = cJSON_AddObjectToObject(object, "executed_layers");
    oct_json_add_count(layers, "f32", executed->f32);
    oct_json_add_count(layers, "f16", executed->f16);
    oct_json_add_count(layers, "bf16", executed->bf16);
    oct_json_add_count(layers, "fp8_static", executed->fp8_static);
    oct_json_add_count(layers, "fp8_weight_only", executed->fp8_weight_only);
}

const char *oct_executed_text(const oct_executed *executed, char *out, size_t bytes)
{
    const struct {
        const char *name;
        size_t n;
    } kinds[] = {
        {"FP8", executed->fp8_static}, {"FP8 weight-only", executed->fp8_weight_only},
        {"F16", executed->f16},        {"BF16", executed->bf16},
        {"F32", executed->f32},
    };
    size_t at = 0;

    snprintf(out, bytes, "none");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && at < bytes; i++) {
        if (kinds[i].n == 0) continue;
        at += (size_t)snprintf(out + at, bytes - at, "%s%zu %s", at ? ", " : "", kinds[i].n,
                               kinds[i].name);
    }
    return out;
}
