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

    cJSON *paths = cJSON_AddObjectToObject(object, "executed_paths");
    oct_json_add_count(paths, "f32", executed->paths[OCT_PATH_F32]);
    oct_json_add_count(paths, "16bit", executed->paths[OCT_PATH_16BIT]);
    oct_json_add_count(paths, "fp8", executed->paths[OCT_PATH_FP8]);
    oct_json_add_count(paths, "fp8_widened", executed->paths[OCT_PATH_FP8_WIDENED]);
}

typedef struct counted {
    const char *name;
    size_t *n;
} counted;

static oct_status read_counts(const cJSON *object, const char *key, const counted *kinds, size_t n,
                              oct_err *err)
{
    const cJSON *counts = cJSON_GetObjectItemCaseSensitive(object, key);

    if (!counts) return oct_fail(err, OCT_EFORMAT, "'%s' is missing", key);
    for (size_t i = 0; i < n; i++) {
        uint64_t count = 0;
        const oct_status st = oct_json_count(counts, kinds[i].name, &count, err);
        if (st) return st;
        *kinds[i].n = count;
    }
    return OCT_OK;
}

oct_status oct_json_read_executed(const cJSON *object, oct_executed *executed, oct_err *err)
{
    const counted layers[] = {
        {"f32", &executed->f32},
        {"f16", &executed->f16},
        {"bf16", &executed->bf16},
        {"fp8_static", &executed->fp8_static},
        {"fp8_weight_only", &executed->fp8_weight_only},
    };
    const counted paths[] = {
        {"f32", &executed->paths[OCT_PATH_F32]},
        {"16bit", &executed->paths[OCT_PATH_16BIT]},
        {"fp8", &executed->paths[OCT_PATH_FP8]},
        {"fp8_widened", &executed->paths[OCT_PATH_FP8_WIDENED]},
    };

    const oct_status st = read_counts(object, "executed_layers", layers, 5, err);
    return st ? st : read_counts(object, "executed_paths", paths, 4, err);
}

void oct_json_add_device(cJSON *object, const oct_device *device)
{
    cJSON_AddStringToObject(object, "device", device->name);
    oct_json_add_count(object, "peak_device_memory_bytes", device->peak_bytes);
}

typedef struct kind {
    const char *name;
    size_t n;
} kind;

static const char *list_kinds(const kind *kinds, size_t n, char *out, size_t bytes)
{
    size_t at = 0;

    snprintf(out, bytes, "none");
    for (size_t i = 0; i < n && at < bytes; i++) {
        if (kinds[i].n == 0) continue;
        at += (size_t)snprintf(out + at, bytes - at, "%s%zu %s", at ? ", " : "", kinds[i].n,
                               kinds[i].name);
    }
    return out;
}

const char *oct_executed_text(const oct_executed *executed, char *out, size_t bytes)
{
    const kind kinds[] = {
        {"FP8", executed->fp8_static}, {"FP8 weight-only", executed->fp8_weight_only},
        {"F16", executed->f16},        {"BF16", executed->bf16},
        {"F32", executed->f32},
    };
    return list_kinds(kinds, sizeof kinds / sizeof *kinds, out, bytes);
}

const char *oct_paths_text(const oct_executed *executed, char *out, size_t bytes)
{
    const kind kinds[] = {
        {"FP8", executed->paths[OCT_PATH_FP8]},
        {"FP8 decoded to 16-bit", executed->paths[OCT_PATH_FP8_WIDENED]},
        {"16-bit", executed->paths[OCT_PATH_16BIT]},
        {"F32", executed->paths[OCT_PATH_F32]},
    };
    return list_kinds(kinds, sizeof kinds / sizeof *kinds, out, bytes);
}
