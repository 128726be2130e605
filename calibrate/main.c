// SPDX-License-Identifier: Apache-2.0
//
// octavo-calibrate: how large the inputs of a model's layers become.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "calibrate/collect.h"
#include "calibrate/merge.h"
#include "common/cli.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "kernels/kernels.h"
#include "runtime/describe.h"

static cJSON *new_result(const oct_calibration *calibration, const char *out)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "tool", "calibrate");
    cJSON_AddStringToObject(root, "calibration", out);
    cJSON_AddStringToObject(root, "calibration_sha256", calibration->sha256);
    if (*calibration->channels_sha256)
        cJSON_AddStringToObject(root, "channels_sha256", calibration->channels_sha256);
    cJSON_AddStringToObject(root, "denoiser_xxh3", calibration->denoiser_xxh3);
    oct_json_add_count(root, "layers", calibration->n_layers);
    oct_json_add_count(root, "prompts", oct_calibration_prompts(calibration));
    oct_json_add_count(root, "steps", calibration->steps);
    return root;
}

static void print_json(const oct_collection *collection, double elapsed_s)
{
    cJSON *root = new_result(&collection->calibration, collection->options->out);
    oct_json_add_executed(root, &collection->executed);
    oct_json_add_device(root, collection->device);
    oct_json_add_count(root, "peak_memory_bytes", oct_peak_memory_bytes());
    cJSON_AddNumberToObject(root, "elapsed_s", round(elapsed_s * 1000) / 1000);

    oct_json_finish(root);
}

static oct_status run(const oct_collect_options *options, const oct_ranks *ranks, bool as_json,
                      oct_err *err)
{
    const double start_s = oct_now_s();
    oct_collection collection;
    char layers[128];

    oct_status st = oct_collection_open(&collection, options, ranks, err);
    if (st) return st;
    st = oct_collection_run(&collection, err);
    if (!st && ranks->rank == 0) {
        const double elapsed_s = oct_now_s() - start_s;
        oct_note("wrote ranges of %zu layers over %zu prompts and %zu steps to '%s'",
                 collection.calibration.n_layers, collection.jobs.count,
                 (size_t)collection.calibration.steps, options->out);
        if (options->has_channels) {
            oct_note("and squares of their input channels to '%s%s'", options->out,
                     OCT_CHANNELS_SUFFIX);
        }
        oct_note("peak memory %.2f GB, %.1f s in all", (double)oct_peak_memory_bytes() / 1e9,
                 elapsed_s);
        oct_verbose("%s ran the layers as: %s", collection.device->name,
                    oct_paths_text(&collection.executed, layers, sizeof layers));
        if (as_json) print_json(&collection, elapsed_s);
    }
    oct_collection_close(&collection);
    return st;
}

static void print_merged(const oct_calibration *merged, const char *out)
{
    cJSON *root = new_result(merged, out);
    oct_json_add_count(root, "parts", merged->n_parts);
    oct_json_finish(root);
}

// What a merge would otherwise ignore without a word.
static oct_status check_merge(const oct_collect_options *options, oct_err *err)
{
    const struct {
        const char *name;
        bool is_given;
    } others[] = {
        {"model", options->paths.model != NULL},
        {"prompts", options->prompts != NULL},
        {"limit", options->limit > 0},
        {"channels", options->has_channels},
        {"size", options->sampling.size != NULL},
    };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (others[i].is_given)
            return oct_fail(err, OCT_EUSAGE, "option '--merge' runs no model: leave '--%s' out",
                            others[i].name);
    }
    return oct_option_required("out", options->out, err);
}

static oct_status merge(const oct_collect_options *options, const oct_texts *files, bool as_json,
                        oct_err *err)
{
    oct_calibration merged;

    oct_status st = check_merge(options, err);
    if (!st) st = oct_merge_files(&merged, files, options->out, err);
    if (st) return st;
    oct_note("wrote ranges of %zu layers over %" PRIu64 " prompts of %zu calibrations to '%s'",
             merged.n_layers, oct_calibration_prompts(&merged), files->count, options->out);
    if (as_json) print_merged(&merged, options->out);
    oct_calibration_deinit(&merged);
    return OCT_OK;
}

static oct_status check_options(oct_collect_options *options, const oct_general *general,
                                oct_err *err)
{
    oct_status st = oct_option_required("model", options->paths.model, err);
    if (!st) st = oct_option_required("prompts", options->prompts, err);
    if (!st) st = oct_option_required("out", options->out, err);
    if (!st) st = oct_sampling_check(&options->sampling, options->paths.model, err);
    if (!st) st = oct_device_options_check(&options->device, general->device, err);
    return st;
}

int main(int argc, char **argv)
{
    oct_collect_options o = {.sampling = OCT_SAMPLING_DEFAULTS};
    oct_general general = {0};
    oct_texts merged = {0};
    // clang-format off
    const oct_opt opts[] = {
        OPT_GROUP("Input and output"),
        OPT_TEXT("model", "PATH", &o.paths.model, "16-bit model: a file or a diffusers folder"),
        OPT_TEXT("prompts", "FILE", &o.prompts,
                 "prompts (.txt .jsonl .json .tsv .yaml); number i gets seed + i unless it has one"),
        OPT_COUNT("limit", "N", &o.limit, "use only the first N prompts (default: all)"),
        OPT_TEXT("out", "FILE", &o.out,
                 "calibration to write; replaced only when complete. An interrupted run leaves "
                 "FILE.partial, and the same command goes on from it"),
        OPT_FLAG("channels", &o.has_channels,
                 "also record how strong each input channel is, in FILE.channels.safetensors: "
                 "scales by 'mse' and predicted errors then weigh by it"),
        OPT_LIST("merge", "FILE", &merged,
                 "run nothing: make one calibration of several of the same model, sampler, steps, "
                 "guidance and size; their order changes no byte"),
        OPT_SAMPLING(&o.sampling),
        OPT_MODEL_PARTS(&o.paths),
        OPT_DEVICE(&o.device),
        OPT_GENERAL_ON(&general, OCT_DEVICE_WORDS),
        OPT_END,
    };
    // clang-format on
    const oct_cli cli = {
        .tool = "calibrate",
        .summary = "Run a 16-bit SD3.5 model over prompts and record how large each layer's input "
                   "becomes.",
        .usage = "(--model PATH --prompts FILE | --merge FILE...) --out calibration.json [options]",
        .examples = {"octavo-calibrate --model stable-diffusion-3.5-large --prompts prompts.txt "
                     "--limit 64 --out calibration.json",
                     "octavo-calibrate --model sd3.5_medium.safetensors --clip-l "
                     "clip_l.safetensors --clip-g clip_g.safetensors --t5 t5xxl.safetensors "
                     "--tokenizers tokenizers --prompts prompts.jsonl --cfg 5 --steps 40 "
                     "--out calibration.json",
                     "octavo-calibrate --merge day.json night.json --out calibration.json"},
        .opts = opts,
        .checks_device = true,
    };
    oct_err err;
    oct_ranks ranks;
    bool is_done = false;

    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && is_done) return oct_cli_finish(&cli, st, &err);
    if (!st) st = oct_ranks_begin(&ranks, &err);
    if (!st && ranks.rank > 0) {
        general.quiet = !general.verbose;
        general.no_progress = true;
    }
    if (!st) st = oct_general_apply(&cli, &general, &err);
    if (!st) oct_kernels_select(general.cpu);
    if (!st && merged.count > 0) {
        if (ranks.rank == 0) st = merge(&o, &merged, general.json, &err);
    } else if (!st) {
        st = check_options(&o, &general, &err);
        o.seed = general.seed;
        if (!st) st = run(&o, &ranks, general.json, &err);
    }
    const int code = oct_cli_finish(&cli, st, &err);
    oct_texts_deinit(&merged);
    oct_ranks_end(&ranks);
    return code;
}
