// SPDX-License-Identifier: Apache-2.0
//
// Options of the tools that run a model.
#include "runtime/options.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "runtime/pipeline.h"

#define SIDE_DEFAULT 1024  // pixels
#define SIDE_MAX 65536

oct_status oct_option_required(const char *name, const char *value, oct_err *err)
{
    if (value && *value) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "option '--%s' is missing", name);
}

const char *oct_fp8_attention_split(const char *name, bool *has_fp8_attention, oct_arena *arena)
{
    static const char suffix[] = "+fp8-attention";
    const size_t bytes = strlen(name), end = strlen(suffix);

    *has_fp8_attention = bytes > end && strcmp(name + bytes - end, suffix) == 0;
    return *has_fp8_attention ? oct_arena_copy_n(arena, name, bytes - end) : name;
}

static oct_status check_count(const char *name, uint64_t value, uint64_t max, oct_err *err)
{
    if (value >= 1 && value <= max) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "option '--%s' needs a count from 1 to %llu, not %llu", name,
                    (unsigned long long)max, (unsigned long long)value);
}

static oct_status check_number(const char *name, double value, double max, oct_err *err)
{
    if (value >= 0 && value <= max) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "option '--%s' needs a number from 0 to %g, not %g", name, max,
                    value);
}

static oct_status read_side(const char *path, size_t *side, oct_err *err)
{
    cJSON *root = NULL;
    uint64_t latents = 0;

    const oct_status st = oct_json_load(path, &root, err);
    const bool is_there =
        !st && oct_json_is_count(cJSON_GetObjectItemCaseSensitive(root, "sample_size"), &latents);
    if (is_there && latents > 0 && latents <= SIDE_MAX / OCT_DOWNSCALE && latents % 2 == 0)
        *side = (size_t)latents * OCT_DOWNSCALE;
    cJSON_Delete(root);
    return st;
}

static oct_status find_size(oct_sampling_options *sampling, const char *model, oct_err *err)
{
    oct_arena arena = {0};
    oct_status st = OCT_OK;
    size_t side = SIDE_DEFAULT;

    const char *path = oct_path_join(&arena, model, "transformer/config.json");
    if (oct_path_exists(path)) st = read_side(path, &side, err);
    sampling->width = sampling->height = side;
    oct_arena_deinit(&arena);
    return st;
}

oct_status oct_sampling_check(oct_sampling_options *sampling, const char *model, oct_err *err)
{
    oct_status st = check_count("steps", sampling->steps, OCT_STEPS_MAX, err);
    if (st) return st;
    st = check_count("t5-tokens", sampling->t5_tokens, 512, err);
    if (st) return st;
    st = check_number("cfg", sampling->cfg, OCT_CFG_MAX, err);
    if (st) return st;
    if (!oct_sampler_parse(sampling->sampler_name, &sampling->sampler)) {
        return oct_fail(err, OCT_EUSAGE,
                        "option '--sampler' needs euler, dpmpp-2m or dpmpp-2m-diffusers, not '%s'",
                        sampling->sampler_name);
    }
    if (!sampling->size) return find_size(sampling, model, err);
    return oct_size_parse(sampling->size, &sampling->width, &sampling->height, err);
}

static oct_status check_slg_numbers(const oct_slg_options *slg, oct_err *err)
{
    oct_status st = check_number("slg-scale", slg->scale, OCT_CFG_MAX, err);
    if (st) return st;
    st = check_number("slg-start", slg->start, 1, err);
    if (st) return st;
    return check_number("slg-stop", slg->stop, 1, err);
}

oct_status oct_slg_resolve(oct_slg_options *slg, size_t depth, oct_arena *arena, oct_err *err)
{
    if (!slg->layers) return OCT_OK;
    bool *blocks = oct_arena_array(arena, depth, sizeof *blocks);

    for (const char *at = slg->layers;; at++) {
        const size_t digits = strspn(at, "0123456789");
        if (digits == 0 || digits > 6 || (at[digits] != ',' && at[digits] != '\0')) {
            return oct_fail(err, OCT_EUSAGE,
                            "option '--slg-layers' needs blocks such as 7,8,9, not '%s'",
                            slg->layers);
        }
        const size_t block = strtoul(at, NULL, 10);
        if (block >= depth) {
            return oct_fail(err, OCT_EUSAGE,
                            "option '--slg-layers' names block %zu of a model with %zu", block,
                            depth);
        }
        blocks[block] = true;
        at += digits;
        if (*at == '\0') break;
    }
    slg->blocks = blocks;
    return check_slg_numbers(slg, err);
}

static bool is_device_name(const char *name)
{
    static const char cuda[] = "cuda:";
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0 || strcmp(name, "cuda") == 0)
        return true;
    if (strncmp(name, cuda, strlen(cuda)) != 0) return false;
    const char *number = name + strlen(cuda);
    const size_t digits = strspn(number, "0123456789");
    return digits >= 1 && digits <= 3 && number[digits] == '\0';
}

static bool parse_requirements(const char *list, oct_device_request *request)
{
    for (const char *at = list;; at++) {
        const size_t bytes = strcspn(at, ",");
        if (bytes == 3 && strncmp(at, "gpu", bytes) == 0)
            request->needs_gpu = true;
        else if (bytes == 3 && strncmp(at, "fp8", bytes) == 0)
            request->needs_fp8 = true;
        else
            return false;
        at += bytes;
        if (*at == '\0') return true;
    }
}

oct_status oct_device_options_check(oct_device_options *options, const char *name, oct_err *err)
{
    oct_device_request *request = &options->request;

    *request =
        (oct_device_request){.name = name ? name : "auto", .is_low_vram = options->is_low_vram};
    if (!is_device_name(request->name)) {
        return oct_fail(err, OCT_EUSAGE,
                        "option '--device' needs auto, cpu, cuda or cuda:N, not '%s'",
                        request->name);
    }
    if (options->require && !parse_requirements(options->require, request)) {
        return oct_fail(err, OCT_EUSAGE, "option '--require' needs gpu, fp8 or gpu,fp8, not '%s'",
                        options->require);
    }
    if (options->vram && !oct_bytes_parse(options->vram, &request->budget)) {
        return oct_fail(err, OCT_EUSAGE,
                        "option '--vram' needs a whole number with K, M, G or T, as 8G or 7500M, "
                        "not '%s'",
                        options->vram);
    }
    return OCT_OK;
}

// Of the first layer that is stored in 16 bits: an FP8 model keeps some.
static oct_dtype denoiser_dtype(const oct_denoiser *denoiser)
{
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        const oct_layer *layer = &denoiser->layers[i];
        if (oct_dtype_is_float16(layer->weight->dtype)) return layer->weight->dtype;
    }
    return OCT_F16;
}

oct_status oct_device_options_open(oct_device **device, const oct_device_options *options,
                                   const oct_denoiser *denoiser, oct_err *err)
{
    oct_device_request request = options->request;

    request.activation = denoiser_dtype(denoiser);
    return oct_device_open(device, &request, err);
}
