// SPDX-License-Identifier: Apache-2.0
//
// octavo-render: prompts to pictures.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cli.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "kernels/kernels.h"
#include "render/draw.h"
#include "runtime/describe.h"

#define BATCH_MAX 10000

static void print_json(const oct_drawing *drawing, double elapsed_s)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "tool", "render");
    cJSON *pictures = cJSON_AddArrayToObject(root, "pictures");
    for (size_t i = 0; i < drawing->n_pictures; i++) {
        cJSON *picture = cJSON_CreateObject();
        cJSON_AddStringToObject(picture, "path", drawing->pictures[i].path);
        cJSON_AddStringToObject(picture, "id", drawing->pictures[i].job->prompt->id);
        oct_json_add_count(picture, "seed", drawing->pictures[i].seed);
        cJSON_AddItemToArray(pictures, picture);
    }
    cJSON_AddStringToObject(root, "denoiser_xxh3", drawing->denoiser_xxh3);
    oct_json_add_executed(root, &drawing->executed);
    oct_json_add_device(root, drawing->device);
    cJSON_AddNumberToObject(root, "load_s", round(drawing->load_s * 1000) / 1000);
    oct_json_add_count(root, "peak_memory_bytes", oct_peak_memory_bytes());
    cJSON_AddNumberToObject(root, "elapsed_s", round(elapsed_s * 1000) / 1000);

    oct_json_finish(root);
}

static void print_result(const oct_drawing *drawing, double elapsed_s, bool as_json)
{
    char layers[128];

    oct_note("layers that ran: %s", oct_executed_text(&drawing->executed, layers, sizeof layers));
    oct_verbose("%s ran them as: %s", drawing->device->name,
                oct_paths_text(&drawing->executed, layers, sizeof layers));
    oct_note("denoiser loaded in %.1f s, peak memory %.2f GB, %.1f s in all", drawing->load_s,
             (double)oct_peak_memory_bytes() / 1e9, elapsed_s);
    if (as_json) {
        print_json(drawing, elapsed_s);
        return;
    }
    for (size_t i = 0; i < drawing->n_pictures; i++) puts(drawing->pictures[i].path);
}

static oct_status run(oct_draw_options *options, bool as_json, oct_err *err)
{
    const double start_s = oct_now_s();
    oct_drawing drawing;

    oct_status st = oct_drawing_open(&drawing, options, err);
    if (st) return st;
    st = oct_drawing_run(&drawing, err);
    if (!st) print_result(&drawing, oct_now_s() - start_s, as_json);
    oct_drawing_close(&drawing);
    return st;
}

static oct_status check_options(oct_draw_options *options, const oct_general *general, oct_err *err)
{
    oct_status st = oct_option_required("model", options->paths.model, err);
    if (!st && !options->prompt && !options->prompts) {
        st = oct_fail(err, OCT_EUSAGE, "option '--prompt' or '--prompts' is missing");
    }
    if (!st && options->prompt && options->prompts) {
        st = oct_fail(err, OCT_EUSAGE, "options '--prompt' and '--prompts' exclude each other");
    }
    if (!st) st = oct_option_required("out", options->out, err);
    if (!st && (options->batch < 1 || options->batch > BATCH_MAX)) {
        st = oct_fail(err, OCT_EUSAGE, "option '--batch' needs a count from 1 to %d, not %llu",
                      BATCH_MAX, (unsigned long long)options->batch);
    }
    if (!st) st = oct_sampling_check(&options->sampling, options->paths.model, err);
    if (!st) st = oct_device_options_check(&options->device, general->device, err);
    return st;
}

int main(int argc, char **argv)
{
    oct_draw_options o = {.batch = 1, .sampling = OCT_SAMPLING_DEFAULTS, .slg = OCT_SLG_DEFAULTS};
    oct_general general = {0};
    // clang-format off
    const oct_opt opts[] = {
        OPT_GROUP("Input and output"),
        OPT_TEXT("model", "PATH", &o.paths.model,
                 "model, 16-bit or FP8: a file or a diffusers folder"),
        OPT_TEXT("prompt", "TEXT", &o.prompt, "what to draw"),
        OPT_TEXT("prompts", "FILE", &o.prompts,
                 "prompts (.txt .jsonl .json .tsv .yaml); number i gets seed + i unless it has one"),
        OPT_COUNT("limit", "N", &o.limit, "use only the first N prompts (default: all)"),
        OPT_TEXT("out", "DIR", &o.out, "folder for the pictures, ID-SEED.png"),
        OPT_COUNT("batch", "N", &o.batch,
                  "pictures per prompt, with seeds one apart (default: 1)"),
        OPT_FLAG("save-steps", &o.saves_steps,
                 "keep each step's latent and a preview in ID-SEED.steps/"),
        OPT_SAMPLING(&o.sampling),
        OPT_SLG(&o.slg),
        OPT_MODEL_PARTS(&o.paths),
        OPT_DEVICE(&o.device),
        OPT_FLAG("fp8-attention", &o.has_fp8_attention,
                 "multiply queries, keys and values in FP8 as well; a CPU rounds to the same "
                 "numbers, at no gain"),
        OPT_VAE_TILES(&o.device),
        OPT_GENERAL_ON(&general, OCT_DEVICE_WORDS),
        OPT_END,
    };
    // clang-format on
    const oct_cli cli = {
        .tool = "render",
        .summary = "Draw pictures from prompts with an SD3.5 model, 16-bit or FP8.",
        .usage = "--model PATH (--prompt TEXT | --prompts FILE) --out DIR [options]",
        .examples = {"octavo-render --model sd3.5_large.safetensors --clip-l clip_l.safetensors "
                     "--clip-g clip_g.safetensors --t5 t5xxl.safetensors --tokenizers tokenizers "
                     "--prompt 'a red fox in the snow' --out pictures",
                     "octavo-render --model stable-diffusion-3.5-medium --prompts prompts.jsonl "
                     "--steps 40 --slg-layers 7,8,9 --out pictures --json"},
        .opts = opts,
        .checks_device = true,
    };
    oct_err err;
    bool is_done = false;

    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && is_done) return oct_cli_finish(&cli, st, &err);
    if (!st) st = oct_general_apply(&cli, &general, &err);
    if (!st) oct_kernels_select(general.cpu);
    if (!st) st = check_options(&o, &general, &err);
    if (!st) {
        o.seed = general.seed;
        st = run(&o, general.json, &err);
    }
    return oct_cli_finish(&cli, st, &err);
}
