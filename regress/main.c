// SPDX-License-Identifier: Apache-2.0
//
// octavo-regress: what layer policies cost in image quality.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cli.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "kernels/kernels.h"
#include "regress/report.h"
#include "regress/run.h"
#include "runtime/describe.h"

enum { EXIT_FAILS = 1 };

// ---- One pair.

static void print_pair(const oct_metrics *metrics, bool passes, bool as_json)
{
    if (as_json) {
        cJSON *root = cJSON_CreateObject();
        cJSON_AddStringToObject(root, "tool", "regress");
        cJSON_AddBoolToObject(root, "pass", passes);
        oct_report_add_metrics(root, metrics);
        oct_json_finish(root);
        return;
    }
    if (metrics->is_identical)
        printf("identical\n");
    else
        printf("PSNR  %.4f dB\n", metrics->psnr_db);
    printf("SSIM  %.6f\nFLIP  %.6f mean, %.6f max\n", metrics->ssim, metrics->flip_mean,
           metrics->flip_max);
}

static oct_status compare_pair(const oct_texts *paths, const oct_gate *gate, bool as_json,
                               bool *passes, oct_err *err)
{
    oct_image reference = {0}, test = {0};
    oct_metrics metrics;

    oct_status st = oct_image_load_png(&reference, paths->items[0], err);
    if (!st) st = oct_image_load_png(&test, paths->items[1], err);
    if (st) goto out;
    st = oct_metrics_measure(&metrics, NULL, &reference, &test, err);
    if (st) {
        oct_wrap(err, st, "cannot compare '%s' with '%s'", paths->items[0], paths->items[1]);
        goto out;
    }
    *passes = oct_gate_judge(gate, &metrics).n_failures == 0;
    print_pair(&metrics, *passes, as_json);

out:
    oct_image_deinit(&reference);
    oct_image_deinit(&test);
    return st;
}

// ---- A whole run.

static void print_run(const oct_comparison *comparison, double elapsed_s, bool as_json)
{
    if (!as_json) {
        oct_report_table(stdout, comparison);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "tool", "regress");
    cJSON_AddBoolToObject(root, "pass", oct_comparison_passes(comparison));
    oct_json_add_count(root, "prompts", comparison->jobs->count);
    cJSON_AddItemToObject(root, "candidates", oct_report_candidates(comparison));
    oct_json_add_device(root, comparison->device);
    oct_json_add_count(root, "peak_memory_bytes", oct_peak_memory_bytes());
    cJSON_AddNumberToObject(root, "elapsed_s", round(elapsed_s * 1000) / 1000);
    oct_json_finish(root);
}

static oct_status run_all(oct_regress_options *options, bool as_json, bool *passes, oct_err *err)
{
    const double start_s = oct_now_s();
    oct_regression run;

    oct_status st = oct_regression_open(&run, options, err);
    if (st) return st;
    st = oct_regression_run(&run, err);
    if (!st) {
        *passes = oct_comparison_passes(&run.comparison);
        print_run(&run.comparison, oct_now_s() - start_s, as_json);
        oct_note("wrote report.html, report.json and junit.xml to '%s'", options->out);
    }
    oct_regression_close(&run);
    return st;
}

// ---- Options.

static oct_status check_options(oct_regress_options *options, const oct_texts *pair,
                                const oct_general *general, oct_err *err)
{
    oct_status st = oct_gate_check(&options->gate, err);
    if (st) return st;
    if (pair->count > 0) {
        if (pair->count == 2) return OCT_OK;
        return oct_fail(err, OCT_EUSAGE, "option '--compare' needs two pictures, not %zu",
                        pair->count);
    }
    st = oct_option_required("reference", options->paths.model, err);
    if (!st) st = oct_option_required("prompts", options->prompts, err);
    if (!st) st = oct_option_required("out", options->out, err);
    if (!st && !options->policies && options->files.count == 0) {
        st = oct_fail(err, OCT_EUSAGE, "option '--policies' or '--candidates' is missing");
    }
    if (!st) st = oct_sampling_check(&options->sampling, options->paths.model, err);
    if (!st) st = oct_device_options_check(&options->device, general->device, err);
    return st;
}

int main(int argc, char **argv)
{
    oct_regress_options o = {
        .sampling = OCT_SAMPLING_DEFAULTS, .slg = OCT_SLG_DEFAULTS, .gate = OCT_GATE_OPEN};
    oct_general general = {0};
    oct_texts pair = {0};
    // clang-format off
    const oct_opt opts[] = {
        OPT_GROUP("Input and output"),
        OPT_TEXT("reference", "PATH", &o.paths.model, "16-bit model: a file or a diffusers folder"),
        OPT_TEXT("policies", "A,B,...", &o.policies,
                 "policies to apply to it: bundled names or JSON files; as mlp+fp8-attention also "
                 "with attention in FP8"),
        OPT_LIST("candidates", "FILE", &o.files, "FP8 checkpoints to compare with it"),
        OPT_TEXT("prompts", "FILE", &o.prompts,
                 "prompts (.txt .jsonl .json .tsv .yaml); number i gets seed + i unless it has one"),
        OPT_COUNT("limit", "N", &o.limit, "use only the first N prompts (default: all)"),
        OPT_TEXT("calibration", "FILE", &o.calibration,
                 "ranges for static inputs (default: none, FP8 weights alone)"),
        OPT_TEXT("out", "DIR", &o.out, "folder for report.html, report.json, junit.xml, images/"),
        OPT_TEXT("sheet", "FILE", &o.sheet,
                 "also a PNG with a row for the reference and each candidate, up to 16 prompts"),
        OPT_FLAG("reuse", &o.reuses,
                 "keep pictures of an earlier run into DIR that were made from the same"),
        OPT_LIST("compare", "PNG", &pair, "print the metrics of two pictures instead"),
        OPT_LIST("scores", "NAME=FILE", &o.scores,
                 "scores from outside of the pictures of a candidate, or of 'reference' (.jsonl)"),
        OPT_GROUP("Thresholds for every picture"),
        OPT_NUMBER("min-psnr-db", "X", &o.gate.psnr_db_min,
                   "fail when a PSNR is lower (default: no threshold)"),
        OPT_NUMBER("max-flip", "X", &o.gate.flip_max,
                   "fail when a mean FLIP is higher, 0 to 1 (default: no threshold)"),
        OPT_GROUP("Thresholds for means over prompts"),
        OPT_LIST("max-score-drop", "METRIC=X", &o.score_drops,
                 "fail when a score is lower than the reference's by more, and not by chance"),
        OPT_SAMPLING(&o.sampling),
        OPT_SLG(&o.slg),
        OPT_MODEL_PARTS(&o.paths),
        OPT_DEVICE(&o.device),
        OPT_VAE_TILES(&o.device),
        OPT_GENERAL_ON(&general, OCT_DEVICE_WORDS),
        OPT_END,
    };
    // clang-format on
    const oct_cli cli = {
        .tool = "regress",
        .summary = "Render the same prompts with a reference and with candidates, and report how "
                   "far the pictures are apart.",
        .usage = "--reference PATH --policies A,B --prompts FILE --out DIR [options]",
        .exit_1 = "a picture or a mean score breaks a threshold",
        .examples = {"octavo-regress --reference sd3.5_large.safetensors --policies mlp,mlp-attn "
                     "--calibration calibration.json --prompts prompts.txt --out report "
                     "--min-psnr-db 25",
                     "octavo-regress --compare reference.png candidate.png --json"},
        .opts = opts,
        .checks_device = true,
    };
    oct_err err;
    bool is_done = false, passes = true;

    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && is_done) goto out;
    if (!st) st = oct_general_apply(&cli, &general, &err);
    if (!st) oct_kernels_select(general.cpu);
    if (!st) st = check_options(&o, &pair, &general, &err);
    if (st) goto out;
    o.seed = general.seed;
    st = pair.count ? compare_pair(&pair, &o.gate, general.json, &passes, &err)
                    : run_all(&o, general.json, &passes, &err);

out:
    oct_texts_deinit(&o.files);
    oct_texts_deinit(&o.scores);
    oct_texts_deinit(&o.score_drops);
    oct_texts_deinit(&pair);
    const int code = oct_cli_finish(&cli, st, &err);
    return code ? code : passes ? 0 : EXIT_FAILS;
}
