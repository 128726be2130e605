// SPDX-License-Identifier: Apache-2.0
//
// Calibration files.
#include "ptq/calibration.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"

#define VERSION 1
#define STEPS_MAX 10000u
#define SIDE_MAX 65536u

// ---- Reading.

static const char *const root_keys[] = {"octavo_calibration", "model",  "run",
                                        "channels_sha256",    "layers", NULL};
static const char *const model_keys[] = {"denoiser_xxh3", NULL};
static const char *const run_keys[] = {"prompts_sha256", "prompts", "sampler", "steps", "cfg",
                                       "width",          "height",  "seed",    NULL};
static const char *const merged_run_keys[] = {"parts", "sampler", "steps", "cfg",
                                              "width", "height",  NULL};
static const char *const part_keys[] = {"prompts_sha256", "prompts", "seed", NULL};
static const char *const layer_keys[] = {"amax", "cond", "uncond", "exponents", NULL};

static oct_status get_object(const cJSON *parent, const char *key, const char *const *known,
                             const cJSON **object, oct_err *err)
{
    *object = cJSON_GetObjectItemCaseSensitive(parent, key);
    if (!*object) return oct_fail(err, OCT_EFORMAT, "'%s' is missing", key);
    if (!cJSON_IsObject(*object)) return oct_fail(err, OCT_EFORMAT, "'%s' must be an object", key);
    if (!known) return OCT_OK;
    const oct_status st = oct_json_only_keys(*object, known, err);
    return st ? oct_wrap(err, st, "'%s'", key) : OCT_OK;
}

static oct_status get_hex(const cJSON *object, const char *key, char *hex, size_t digits,
                          oct_err *err)
{
    const char *text = NULL;

    const oct_status st = oct_json_text(object, key, &text, err);
    if (st) return st;
    if (strlen(text) != digits || strspn(text, "0123456789abcdef") != digits) {
        return oct_fail(err, OCT_EFORMAT, "'%s' must be %zu lower-case hex digits", key, digits);
    }
    memcpy(hex, text, digits + 1);
    return OCT_OK;
}

static oct_status get_count(const cJSON *object, const char *key, uint64_t most, uint64_t *count,
                            oct_err *err)
{
    const oct_status st = oct_json_count(object, key, count, err);
    if (st) return st;
    if (*count == 0 || *count > most) {
        return oct_fail(err, OCT_EFORMAT, "'%s' is %" PRIu64 ", not in 1..%" PRIu64, key, *count,
                        most);
    }
    return OCT_OK;
}

static oct_status get_part(const cJSON *object, oct_calibration_part *part, oct_err *err)
{
    oct_status st =
        get_hex(object, "prompts_sha256", part->prompts_sha256, OCT_SHA256_HEX - 1, err);
    if (!st) st = get_count(object, "prompts", UINT32_MAX, &part->prompts, err);
    if (!st) st = oct_json_count(object, "seed", &part->seed, err);
    return st;
}

static oct_status get_parts(oct_calibration *calibration, const cJSON *array, oct_err *err)
{
    const cJSON *item = NULL;

    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) < 2)
        return oct_fail(err, OCT_EFORMAT, "'parts' must be a list of at least two");
    calibration->parts = oct_arena_array(&calibration->arena, (size_t)cJSON_GetArraySize(array),
                                         sizeof *calibration->parts);
    cJSON_ArrayForEach(item, array)
    {
        oct_calibration_part *part = &calibration->parts[calibration->n_parts++];
        if (!cJSON_IsObject(item)) return oct_fail(err, OCT_EFORMAT, "'parts' must hold objects");
        oct_status st = oct_json_only_keys(item, part_keys, err);
        if (!st) st = get_part(item, part, err);
        if (st) return oct_wrap(err, st, "'parts'");
        if (part > calibration->parts && oct_calibration_compare_parts(part - 1, part) >= 0)
            return oct_fail(err, OCT_EFORMAT, "'parts' must be sorted and different");
    }
    return OCT_OK;
}

static oct_status get_run(oct_calibration *calibration, const cJSON *run, oct_err *err)
{
    const cJSON *parts = cJSON_GetObjectItemCaseSensitive(run, "parts");
    const char *sampler = "";

    oct_status st = oct_json_only_keys(run, parts ? merged_run_keys : run_keys, err);
    if (st) return oct_wrap(err, st, "'run'");
    if (parts) {
        st = get_parts(calibration, parts, err);
    } else {
        calibration->parts = oct_arena_array(&calibration->arena, 1, sizeof *calibration->parts);
        calibration->n_parts = 1;
        st = get_part(run, calibration->parts, err);
    }
    if (!st) st = oct_json_text(run, "sampler", &sampler, err);
    if (!st) st = get_count(run, "steps", STEPS_MAX, &calibration->steps, err);
    if (!st) st = oct_json_number(run, "cfg", &calibration->cfg, err);
    if (!st) st = get_count(run, "width", SIDE_MAX, &calibration->width, err);
    if (!st) st = get_count(run, "height", SIDE_MAX, &calibration->height, err);
    calibration->sampler = oct_arena_copy(&calibration->arena, sampler);
    return st;
}

static oct_status check_range(const cJSON *item, const char *key, float *range, oct_err *err)
{
    if (!cJSON_IsNumber(item)) return oct_fail(err, OCT_EFORMAT, "'%s' must hold numbers", key);
    *range = (float)item->valuedouble;
    if (!isfinite(*range) || *range < 0 || signbit(*range)) {
        return oct_fail(err, OCT_EFORMAT, "'%s' holds %g: not a range in 0..3.4e38", key,
                        item->valuedouble);
    }
    return OCT_OK;
}

// `steps` ranges, or none when `may_be_empty`: *ranges stays NULL.
static oct_status get_ranges(oct_calibration *calibration, const cJSON *layer, const char *key,
                             bool may_be_empty, float **ranges, oct_err *err)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(layer, key), *item = NULL;
    size_t n = 0;

    if (!array) return oct_fail(err, OCT_EFORMAT, "'%s' is missing", key);
    if (!cJSON_IsArray(array)) return oct_fail(err, OCT_EFORMAT, "'%s' must be a list", key);
    const size_t length = (size_t)cJSON_GetArraySize(array);
    if (length == 0 && may_be_empty) return OCT_OK;
    if (length != calibration->steps) {
        return oct_fail(err, OCT_EFORMAT, "'%s' has %zu ranges for %" PRIu64 " steps", key, length,
                        calibration->steps);
    }
    *ranges = oct_arena_array(&calibration->arena, length, sizeof **ranges);
    cJSON_ArrayForEach(item, array)
    {
        const oct_status st = check_range(item, key, &(*ranges)[n++], err);
        if (st) return st;
    }
    return OCT_OK;
}

// Nothing may be counted beyond the range; by a little it may, for a GPU counts rounded numbers.
static oct_status check_counts(const oct_exponents *exponents, float amax, oct_err *err)
{
    const float most = 1.01f * amax;
    oct_exponents last = {{0}};
    int bin = OCT_EXPONENT_BINS - 1;

    oct_count_exponents(last.counts, &most, 1);
    for (; !last.counts[bin]; bin--) {
        if (exponents->counts[bin] == 0) continue;
        return oct_fail(err, OCT_EFORMAT, "'exponents' counts numbers beyond 'amax', %.9g", amax);
    }
    return OCT_OK;
}

static oct_status get_exponents(oct_calibration *calibration, const cJSON *item,
                                oct_calibration_layer *layer, oct_err *err)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(item, "exponents"), *count = NULL;
    size_t n = 0;

    if (!array) return OCT_OK;
    oct_exponents *exponents = oct_arena_alloc(&calibration->arena, sizeof *exponents);
    bool is_good = cJSON_IsArray(array) && cJSON_GetArraySize(array) == OCT_EXPONENT_BINS;
    cJSON_ArrayForEach(count, array)
    {
        is_good = is_good && oct_json_is_count(count, &exponents->counts[n++]);
    }
    if (!is_good) {
        return oct_fail(err, OCT_EFORMAT, "'exponents' must be a list of %d counts",
                        OCT_EXPONENT_BINS);
    }
    layer->exponents = exponents;
    return check_counts(exponents, layer->amax, err);
}

static float largest(const float *ranges, uint64_t n)
{
    float most = 0;

    for (uint64_t i = 0; ranges && i < n; i++) {
        if (ranges[i] > most) most = ranges[i];
    }
    return most;
}

static oct_status get_layer(oct_calibration *calibration, const cJSON *item,
                            oct_calibration_layer *layer, oct_err *err)
{
    *layer = (oct_calibration_layer){.name = oct_arena_copy(&calibration->arena, item->string)};
    if (!cJSON_IsObject(item)) return oct_fail(err, OCT_EFORMAT, "must be an object");
    oct_status st = oct_json_only_keys(item, layer_keys, err);
    if (st) return st;
    const cJSON *amax = cJSON_GetObjectItemCaseSensitive(item, "amax");
    if (!amax) return oct_fail(err, OCT_EFORMAT, "'amax' is missing");
    st = check_range(amax, "amax", &layer->amax, err);
    if (!st) st = get_ranges(calibration, item, "cond", false, &layer->cond, err);
    if (!st) st = get_ranges(calibration, item, "uncond", true, &layer->uncond, err);
    if (st) return st;
    const float cond = largest(layer->cond, calibration->steps);
    const float uncond = largest(layer->uncond, calibration->steps);
    if (layer->amax < cond || layer->amax < uncond) {
        return oct_fail(err, OCT_EFORMAT, "'amax' is %.9g, but a step has %.9g", layer->amax,
                        cond > uncond ? cond : uncond);
    }
    return get_exponents(calibration, item, layer, err);
}

static oct_status get_layers(oct_calibration *calibration, const cJSON *layers, oct_err *err)
{
    const cJSON *item = NULL;
    char shown[200];

    calibration->layers = oct_arena_array(&calibration->arena, (size_t)cJSON_GetArraySize(layers),
                                          sizeof *calibration->layers);
    cJSON_ArrayForEach(item, layers)
    {
        const oct_status st =
            get_layer(calibration, item, &calibration->layers[calibration->n_layers++], err);
        if (st) {
            return oct_wrap(err, st, "layer '%s'",
                            oct_printable(item->string, shown, sizeof shown));
        }
    }
    if (calibration->n_layers == 0) return oct_fail(err, OCT_EFORMAT, "'layers' is empty");
    return OCT_OK;
}

static oct_status get_all(oct_calibration *calibration, const cJSON *root, oct_err *err)
{
    const cJSON *model = NULL, *run = NULL, *layers = NULL;
    uint64_t version = 0;

    if (!cJSON_IsObject(root)) return oct_fail(err, OCT_EFORMAT, "not a JSON object");
    oct_status st = oct_json_count(root, "octavo_calibration", &version, err);
    if (st) return st;
    if (version != VERSION) {
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "calibration version %" PRIu64 " is not known, only %d", version, VERSION);
    }
    st = oct_json_only_keys(root, root_keys, err);
    if (!st) st = get_object(root, "model", model_keys, &model, err);
    if (!st) st = get_object(root, "run", NULL, &run, err);
    if (!st) st = get_object(root, "layers", NULL, &layers, err);
    if (!st) {
        st = get_hex(model, "denoiser_xxh3", calibration->denoiser_xxh3, OCT_XXH128_HEX - 1, err);
    }
    if (!st) st = get_run(calibration, run, err);
    if (!st && cJSON_HasObjectItem(root, "channels_sha256")) {
        st =
            get_hex(root, "channels_sha256", calibration->channels_sha256, OCT_SHA256_HEX - 1, err);
    }
    if (!st) st = get_layers(calibration, layers, err);
    return st;
}

// No mean is above the largest square; a little, for it was rounded.
static oct_status check_means(const oct_calibration_layer *layer, oct_err *err)
{
    const oct_channels *channels = layer->channels;
    const double most = 1.00001 * (double)layer->amax * (double)layer->amax;
    char shown[200];

    for (size_t i = 0; i < channels->n && channels->rows > 0; i++) {
        const double mean = (double)oct_channels_mean(channels, i);
        if (mean <= most) continue;
        return oct_fail(err, OCT_EFORMAT,
                        "layer '%s': channel %zu has mean square %g, but the layer's range is %g",
                        oct_printable(layer->name, shown, sizeof shown), i, mean,
                        (double)layer->amax);
    }
    return OCT_OK;
}

static const char *channels_path(oct_arena *arena, const char *path)
{
    return oct_arena_print(arena, "%s" OCT_CHANNELS_SUFFIX, path);
}

static oct_status load_channels(oct_calibration *calibration, const char *path, oct_err *err)
{
    const size_t n = calibration->n_layers;
    oct_channels *channels = oct_arena_array(&calibration->arena, n, sizeof *channels);

    const char *sidecar = channels_path(&calibration->arena, path);
    for (size_t i = 0; i < n; i++) channels[i].layer = calibration->layers[i].name;
    oct_status st =
        oct_channels_load(sidecar, &calibration->arena, channels, n, calibration->denoiser_xxh3,
                          calibration->channels_sha256, err);
    calibration->channels = channels;
    for (size_t i = 0; i < n && !st; i++) {
        calibration->layers[i].channels = &channels[i];
        st = check_means(&calibration->layers[i], err);
        if (st) oct_wrap(err, st, "'%s'", sidecar);
    }
    return st;
}

static oct_status load(oct_calibration *calibration, const char *path, oct_err *err)
{
    oct_arena scratch = {0};
    cJSON *root = NULL;
    char *text = NULL;
    size_t bytes = 0;

    oct_status st = oct_file_read_text(&scratch, path, OCT_JSON_BYTES_MAX, &text, &bytes, err);
    if (st) goto out;
    oct_sha256_of(text, bytes, calibration->sha256);
    st = oct_json_parse(text, bytes, &root, err);
    if (!st) st = get_all(calibration, root, err);
    if (st) oct_wrap(err, st, "'%s'", path);
    if (!st && *calibration->channels_sha256) st = load_channels(calibration, path, err);

out:
    cJSON_Delete(root);
    oct_arena_deinit(&scratch);
    return st;
}

oct_status oct_calibration_load(oct_calibration *calibration, const char *path, oct_err *err)
{
    *calibration = (oct_calibration){0};
    const oct_status st = load(calibration, path, err);
    if (st) {
        oct_calibration_deinit(calibration);
        return oct_wrap(err, st, "cannot load the calibration");
    }
    return OCT_OK;
}

void oct_calibration_deinit(oct_calibration *calibration)
{
    oct_arena_deinit(&calibration->arena);
    *calibration = (oct_calibration){0};
}

const oct_calibration_layer *oct_calibration_find(const oct_calibration *calibration,
                                                  const char *name)
{
    for (size_t i = 0; i < calibration->n_layers; i++) {
        if (strcmp(calibration->layers[i].name, name) == 0) return &calibration->layers[i];
    }
    return NULL;
}

// ---- Writing.

// The decimal number with the fewest digits that rounds to `value` in binary32.
static cJSON *new_float(float value)
{
    char text[40];

    assert(isfinite(value) && value >= 0);
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if ((float)strtod(text, NULL) == value) break;
    }
    return cJSON_CreateNumber(strtod(text, NULL));
}

static cJSON *new_floats(const float *values, uint64_t n)
{
    cJSON *array = cJSON_CreateArray();

    for (uint64_t i = 0; values && i < n; i++) {
        cJSON_AddItemToArray(array, new_float(values[i]));
    }
    return array;
}

static void add_exponents(cJSON *item, const oct_exponents *exponents)
{
    if (!exponents) return;
    cJSON *array = cJSON_AddArrayToObject(item, "exponents");
    for (int bin = 0; bin < OCT_EXPONENT_BINS; bin++) {
        cJSON_AddItemToArray(array, cJSON_CreateNumber((double)exponents->counts[bin]));
    }
}

static void add_prompts(cJSON *object, const oct_calibration_part *part)
{
    cJSON_AddStringToObject(object, "prompts_sha256", part->prompts_sha256);
    cJSON_AddNumberToObject(object, "prompts", (double)part->prompts);
}

static void add_seed(cJSON *object, const oct_calibration_part *part)
{
    cJSON_AddNumberToObject(object, "seed", (double)part->seed);
}

static void add_parts(cJSON *run, const oct_calibration *calibration)
{
    cJSON *parts = cJSON_AddArrayToObject(run, "parts");

    for (size_t i = 0; i < calibration->n_parts; i++) {
        cJSON *part = cJSON_CreateObject();
        add_prompts(part, &calibration->parts[i]);
        add_seed(part, &calibration->parts[i]);
        cJSON_AddItemToArray(parts, part);
    }
}

static void add_run(cJSON *root, const oct_calibration *calibration)
{
    const bool is_merged = calibration->n_parts > 1;
    cJSON *run = cJSON_AddObjectToObject(root, "run");

    if (is_merged) {
        add_parts(run, calibration);
    } else {
        add_prompts(run, calibration->parts);
    }
    cJSON_AddStringToObject(run, "sampler", calibration->sampler);
    cJSON_AddNumberToObject(run, "steps", (double)calibration->steps);
    cJSON_AddNumberToObject(run, "cfg", calibration->cfg);
    cJSON_AddNumberToObject(run, "width", (double)calibration->width);
    cJSON_AddNumberToObject(run, "height", (double)calibration->height);
    if (!is_merged) add_seed(run, calibration->parts);
}

static cJSON *new_document(const oct_calibration *calibration)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "octavo_calibration", VERSION);
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "denoiser_xxh3", calibration->denoiser_xxh3);
    add_run(root, calibration);
    if (*calibration->channels_sha256) {
        cJSON_AddStringToObject(root, "channels_sha256", calibration->channels_sha256);
    }
    cJSON *layers = cJSON_AddObjectToObject(root, "layers");
    for (size_t i = 0; i < calibration->n_layers; i++) {
        const oct_calibration_layer *layer = &calibration->layers[i];
        cJSON *item = cJSON_AddObjectToObject(layers, layer->name);
        cJSON_AddItemToObject(item, "amax", new_float(layer->amax));
        cJSON_AddItemToObject(item, "cond", new_floats(layer->cond, calibration->steps));
        cJSON_AddItemToObject(item, "uncond", new_floats(layer->uncond, calibration->steps));
        add_exponents(item, layer->exponents);
    }
    return root;
}

static oct_status save_channels(oct_calibration *calibration, const char *path, oct_err *err)
{
    oct_arena scratch = {0};

    const oct_status st = oct_channels_save(channels_path(&scratch, path), calibration->channels,
                                            calibration->n_layers, calibration->denoiser_xxh3,
                                            calibration->channels_sha256, err);
    oct_arena_deinit(&scratch);
    return st;
}

oct_status oct_calibration_save(oct_calibration *calibration, const char *path, oct_err *err)
{
    oct_status st = calibration->channels ? save_channels(calibration, path, err) : OCT_OK;
    if (st) return oct_wrap(err, st, "cannot save the calibration");

    cJSON *root = new_document(calibration);
    char *text = oct_json_print(root);
    const size_t bytes = strlen(text);
    oct_sha256_of(text, bytes, calibration->sha256);
    st = oct_file_write(path, text, bytes, err);
    free(text);
    cJSON_Delete(root);
    return st ? oct_wrap(err, st, "cannot save the calibration") : OCT_OK;
}
