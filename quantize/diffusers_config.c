// SPDX-License-Identifier: Apache-2.0
//
// The config.json of a transformer folder in dialect diffusers.
#include "quantize/diffusers_config.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/version.h"
#include "ptq/dialect.h"
#include "ptq/layers.h"

#define HEAD_DIM 64
#define SAMPLE_SIDE 128  // of the latent of 1024 x 1024

typedef struct written {  // the file that is described
    oct_source source;
    oct_denoiser denoiser;
} written;

static void add_dual_layers(cJSON *config, const oct_denoiser *denoiser)
{
    cJSON *list = cJSON_CreateArray();

    for (int block = 0; block < denoiser->depth; block++) {
        if (denoiser->is_dual[block]) cJSON_AddItemToArray(list, cJSON_CreateNumber(block));
    }
    cJSON_AddItemToObject(config, "dual_attention_layers", list);
}

static cJSON *config_by_shapes(const oct_denoiser *denoiser)
{
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"attention_head_dim", HEAD_DIM},
        {"caption_projection_dim", (double)denoiser->hidden},
        {"in_channels", (double)denoiser->channels},
        {"joint_attention_dim", (double)denoiser->context_width},
        {"num_attention_heads", denoiser->heads},
        {"num_layers", denoiser->depth},
        {"out_channels", (double)denoiser->channels},
        {"patch_size", (double)denoiser->patch},
        {"pooled_projection_dim", (double)denoiser->pooled_width},
        {"pos_embed_max_size", (double)denoiser->table_side},
        {"sample_size", SAMPLE_SIDE},
    };
    cJSON *config = cJSON_CreateObject();

    cJSON_AddStringToObject(config, "_class_name", "SD3Transformer2DModel");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        cJSON_AddNumberToObject(config, numbers[i].key, numbers[i].value);
    }
    add_dual_layers(config, denoiser);
    if (denoiser->has_qk_norm) {
        cJSON_AddStringToObject(config, "qk_norm", "rms_norm");
    } else {
        cJSON_AddNullToObject(config, "qk_norm");
    }
    return config;
}

// ---- What is FP8.

static cJSON *describe_numbers(const oct_fp8_layer *fp8)
{
    static const char *const strategies[] = {"tensor", "channel", "group"};
    cJSON *object = cJSON_CreateObject();

    cJSON_AddNumberToObject(object, "num_bits", 8);
    cJSON_AddStringToObject(object, "type", "float");
    cJSON_AddBoolToObject(object, "dynamic", false);
    cJSON_AddStringToObject(object, "strategy", strategies[fp8->granularity]);
    if (fp8->granularity == OCT_PER_MX_BLOCK) cJSON_AddNumberToObject(object, "group_size", 32);
    return object;
}

// What ModelOpt calls a layer that is stored and computed so; NULL: it has no name for that. Its
// readers compute the last two with inputs that they encode themselves, per token and per block.
static const char *algorithm_of(const oct_fp8_layer *fp8)
{
    const bool is_static = fp8->input_scale > 0;

    switch (fp8->granularity) {
    case OCT_PER_TENSOR:
        return is_static ? "FP8" : NULL;
    case OCT_PER_CHANNEL:
        return is_static ? NULL : "FP8_PER_CHANNEL_PER_TOKEN";
    default:
        return is_static ? NULL : "MXFP8";
    }
}

// The group of layers that are stored and computed like this one.
static cJSON *find_group(cJSON *groups, const oct_fp8_layer *fp8)
{
    const oct_fp8_layer per_tensor = {.granularity = OCT_PER_TENSOR};
    char key[32];

    snprintf(key, sizeof key, "%s_%s", oct_granularity_name(fp8->granularity),
             fp8->input_scale > 0 ? "static" : "weight_only");
    cJSON *group = cJSON_GetObjectItemCaseSensitive(groups, key);
    if (group) return group;
    group = cJSON_AddObjectToObject(groups, key);
    cJSON_AddItemToObject(group, "weights", describe_numbers(fp8));
    cJSON_AddItemToObject(group, "input_activations",
                          fp8->input_scale > 0 ? describe_numbers(&per_tensor)
                                               : cJSON_CreateNull());
    cJSON_AddArrayToObject(group, "targets");
    return group;
}

static void add_names(cJSON *list, const oct_layer *layer)
{
    for (size_t i = 0; i < OCT_PARTS_MAX && layer->diffusers_names[i]; i++) {
        cJSON_AddItemToArray(list, cJSON_CreateString(layer->diffusers_names[i]));
    }
}

typedef struct algorithms {  // of all FP8 layers
    const char *only;        // NULL: none yet, or several
    bool has_several;
    size_t n_unnamed;
    cJSON *layers;  // name -> {"quant_algo": ...}, of all that have one
} algorithms;

static void add_algorithm(algorithms *of, const oct_layer *layer, const char *name)
{
    if (!name) {
        of->n_unnamed++;
        return;
    }
    if (of->only && strcmp(of->only, name) != 0) of->has_several = true;
    of->only = name;
    for (size_t i = 0; i < OCT_PARTS_MAX && layer->diffusers_names[i]; i++) {
        cJSON *entry = cJSON_AddObjectToObject(of->layers, layer->diffusers_names[i]);
        cJSON_AddStringToObject(entry, "quant_algo", name);
    }
}

// A reader that takes a layer for what it is not computes garbage: where ModelOpt has no name, it
// must not find one that it knows.
static void add_overall_algorithm(cJSON *object, algorithms *of)
{
    const bool is_mixed = of->has_several && !of->n_unnamed;
    const char *name = of->n_unnamed ? OCT_QUANT_ALGO_OWN : of->only;

    if (name) cJSON_AddStringToObject(object, "quant_algo", is_mixed ? "MIXED_PRECISION" : name);
    if (is_mixed) {
        cJSON_AddItemToObject(object, "quantized_layers", of->layers);
    } else {
        cJSON_Delete(of->layers);
    }
    if (of->n_unnamed) {
        oct_note("quant_algo is '" OCT_QUANT_ALGO_OWN
                 "': ModelOpt has no name for %zu of the FP8 layers, so its readers will refuse "
                 "the folder",
                 of->n_unnamed);
    }
}

static oct_status add_quantization(cJSON *config, const written *file, oct_err *err)
{
    const oct_dialect dialect = oct_dialect_detect(&file->source);
    cJSON *object = cJSON_CreateObject(), *groups = cJSON_CreateObject();
    cJSON *ignored = cJSON_CreateArray();
    algorithms of = {.layers = cJSON_CreateObject()};
    oct_status st = OCT_OK;

    cJSON_DeleteItemFromObjectCaseSensitive(config, "quantization_config");
    cJSON_AddItemToObject(config, "quantization_config", object);
    cJSON_AddStringToObject(object, "quant_method", "modelopt");
    cJSON *producer = cJSON_AddObjectToObject(object, "producer");
    cJSON_AddStringToObject(producer, "name", "octavo");
    cJSON_AddStringToObject(producer, "version", oct_version());
    cJSON_AddItemToObject(object, "config_groups", groups);
    cJSON_AddItemToObject(object, "ignore", ignored);
    for (size_t i = 0; i < file->denoiser.n_layers && !st; i++) {
        const oct_layer *layer = &file->denoiser.layers[i];
        oct_fp8_layer fp8;
        st = oct_dialect_read(&file->source, dialect, layer, &fp8, err);
        if (st) break;
        cJSON *list = ignored;
        if (fp8.is_fp8) {
            list = cJSON_GetObjectItem(find_group(groups, &fp8), "targets");
            add_algorithm(&of, layer, algorithm_of(&fp8));
        }
        add_names(list, layer);
    }
    add_overall_algorithm(object, &of);
    // Without FP8 it is a folder like any other.
    if (!groups->child) cJSON_DeleteItemFromObjectCaseSensitive(config, "quantization_config");
    return st;
}

static oct_status load_config(cJSON **config, oct_source *source, const oct_denoiser *denoiser,
                              oct_err *err)
{
    const char *path = oct_checkpoint_config(&source->checkpoint, OCT_DENOISER);

    if (!path) {
        *config = config_by_shapes(denoiser);
        return OCT_OK;
    }
    const oct_status st = oct_json_load(path, config, err);
    if (!st && !cJSON_IsObject(*config)) {
        return oct_fail(err, OCT_EFORMAT, "'%s': the root must be an object", path);
    }
    return st;
}

oct_status oct_diffusers_config_write(const char *folder, const char *weights, oct_source *source,
                                      oct_err *err)
{
    oct_arena arena = {0};
    written file = {0};
    cJSON *config = NULL;
    char *text = NULL;

    oct_status st = oct_source_open(&file.source, &(oct_model_paths){.model = weights}, err);
    if (!st) st = oct_denoiser_init(&file.denoiser, &file.source, err);
    if (!st) st = load_config(&config, source, &file.denoiser, err);
    if (!st) st = add_quantization(config, &file, err);
    if (st) goto out;
    text = oct_json_print(config);
    st = oct_file_write(oct_path_join(&arena, folder, "config.json"), text, strlen(text), err);

out:
    free(text);
    cJSON_Delete(config);
    oct_denoiser_deinit(&file.denoiser);
    oct_source_close(&file.source);
    oct_arena_deinit(&arena);
    return st;
}
