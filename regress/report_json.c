// SPDX-License-Identifier: Apache-2.0
//
// report.json, and the same numbers on a command line.
#include <math.h>

#include "common/json.h"
#include "common/version.h"
#include "regress/report.h"
#include "runtime/describe.h"

// NULL becomes null, as infinities do.
static void add_text(cJSON *object, const char *key, const char *text)
{
    if (text)
        cJSON_AddStringToObject(object, key, text);
    else
        cJSON_AddNullToObject(object, key);
}

static void add_facts(cJSON *object, const oct_denoiser_facts *facts)
{
    oct_json_add_count(object, "denoiser_bytes", facts->bytes);
    oct_json_add_count(object, "layers", facts->n_layers);
    oct_json_add_count(object, "fp8_layers", facts->n_fp8);
    oct_json_add_count(object, "fp8_static_layers", facts->n_fp8_static);
    cJSON_AddNumberToObject(object, "fp8_weight_share",
                            facts->weights ? (double)facts->fp8_weights / (double)facts->weights
                                           : 0);
}

static cJSON *reference_json(const oct_denoiser_facts *facts)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", facts->name);
    cJSON_AddStringToObject(object, "denoiser_xxh3", facts->digest);
    add_facts(object, facts);
    return object;
}

static cJSON *run_json(const oct_comparison *comparison)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "prompts", comparison->prompts_name);
    cJSON_AddStringToObject(object, "prompts_sha256", comparison->prompts_sha256);
    oct_json_add_count(object, "prompt_count", comparison->jobs->count);
    oct_json_add_device(object, comparison->device);
    oct_json_add_sampling(object, comparison->sampling, comparison->slg);
    oct_json_add_count(object, "seed", comparison->seed);
    cJSON_AddStringToObject(object, "negative", comparison->sampling->negative);
    add_text(object, "calibration_sha256", comparison->calibration_sha256);
    return object;
}

static cJSON *gate_json(const oct_gate *gate)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "psnr_db_min", gate->psnr_db_min);
    cJSON_AddNumberToObject(object, "flip_max", gate->flip_max);
    cJSON *drops = cJSON_AddObjectToObject(object, "score_drop_max");
    for (size_t i = 0; i < gate->n_score_limits; i++) {
        cJSON_AddNumberToObject(drops, gate->score_limits[i].metric,
                                gate->score_limits[i].drop_max);
    }
    return object;
}

// One prompt's scores.
static void add_scores(cJSON *object, const oct_scores *scores, size_t job)
{
    if (scores->n_metrics == 0) return;
    cJSON *values = cJSON_AddObjectToObject(object, "scores");
    for (size_t i = 0; i < scores->n_metrics; i++) {
        cJSON_AddNumberToObject(values, scores->names[i], scores->values[i][job]);
    }
}

static void add_score_outcome(cJSON *array, const char *name, const oct_score_outcome *outcome)
{
    const oct_score_summary *s = &outcome->summary;
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "metric", name);
    cJSON_AddNumberToObject(object, "mean", s->mean);
    cJSON_AddNumberToObject(object, "reference_mean", s->reference_mean);
    cJSON_AddNumberToObject(object, "difference", s->difference.mean);
    cJSON_AddNumberToObject(object, "difference_low", s->difference.low);
    cJSON_AddNumberToObject(object, "difference_high", s->difference.high);
    oct_json_add_count(object, "prompts_higher", s->n_higher);
    oct_json_add_count(object, "prompts_lower", s->n_lower);
    cJSON_AddStringToObject(object, "change", oct_score_change_word(s->change));
    add_text(object, "verdict",
             outcome->verdict == OCT_SCORE_FREE ? NULL : oct_score_verdict_word(outcome->verdict));
    cJSON_AddItemToArray(array, object);
}

static cJSON *metrics_json(void)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "psnr", "one MSE over all 8-bit RGB samples");
    cJSON_AddStringToObject(object, "ssim", "ssim-wang");
    cJSON_AddStringToObject(object, "flip", "LDR-FLIP");
    cJSON_AddNumberToObject(object, "flip_pixels_per_degree", OCT_FLIP_PIXELS_PER_DEGREE);
    cJSON *interval = cJSON_AddObjectToObject(object, "score_interval");
    cJSON_AddStringToObject(interval, "kind", "paired bootstrap of the mean, BCa");
    cJSON_AddNumberToObject(interval, "confidence", OCT_INTERVAL_CONFIDENCE);
    oct_json_add_count(interval, "resamples", OCT_INTERVAL_RESAMPLES);
    oct_json_add_count(interval, "percentile_below_prompts", OCT_INTERVAL_BCA_MIN);
    return object;
}

static cJSON *prompts_json(const oct_comparison *comparison)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < comparison->jobs->count; i++) {
        const oct_job *job = &comparison->jobs->items[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "id", job->prompt->id);
        add_text(object, "category", job->prompt->category);
        cJSON_AddStringToObject(object, "prompt", job->prompt->text);
        cJSON_AddStringToObject(object, "negative", job->negative);
        oct_json_add_count(object, "seed", job->seed);
        cJSON_AddStringToObject(object, "image", comparison->reference_images[i]);
        add_scores(object, &comparison->reference_scores, i);
        cJSON_AddItemToArray(array, object);
    }
    return array;
}

void oct_report_add_metrics(cJSON *object, const oct_metrics *metrics)
{
    cJSON_AddBoolToObject(object, "identical", metrics->is_identical);
    cJSON_AddNumberToObject(object, "psnr_db", metrics->psnr_db);
    cJSON_AddNumberToObject(object, "mse", metrics->mse);
    cJSON_AddNumberToObject(object, "ssim", metrics->ssim);
    cJSON_AddNumberToObject(object, "flip_mean", metrics->flip_mean);
    cJSON_AddNumberToObject(object, "flip_max", metrics->flip_max);
}

static cJSON *outcome_json(const oct_outcome *outcome, const oct_job *job)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "id", job->prompt->id);
    cJSON_AddBoolToObject(object, "pass", outcome->verdict.n_failures == 0);
    oct_report_add_metrics(object, &outcome->metrics);
    cJSON_AddStringToObject(object, "image", outcome->image);
    cJSON_AddStringToObject(object, "flip_map", outcome->heat);

    cJSON *failures = cJSON_AddArrayToObject(object, "failures");
    for (size_t i = 0; i < outcome->verdict.n_failures; i++) {
        cJSON_AddItemToArray(failures, cJSON_CreateString(outcome->verdict.failures[i]));
    }
    return object;
}

static cJSON *summary_json(const oct_summary *summary)
{
    cJSON *object = cJSON_CreateObject();
    oct_json_add_count(object, "identical", summary->n_identical);
    oct_json_add_count(object, "failed", summary->n_failed);
    cJSON_AddNumberToObject(object, "psnr_db_mean", summary->psnr_db_mean);
    cJSON_AddNumberToObject(object, "psnr_db_worst", summary->psnr_db_worst);
    cJSON_AddNumberToObject(object, "psnr_db_pooled", summary->psnr_db_pooled);
    cJSON_AddNumberToObject(object, "ssim_mean", summary->ssim_mean);
    cJSON_AddNumberToObject(object, "ssim_worst", summary->ssim_worst);
    cJSON_AddNumberToObject(object, "flip_mean", summary->flip_mean);
    cJSON_AddNumberToObject(object, "flip_worst", summary->flip_worst);
    return object;
}

static cJSON *candidate_json(const oct_compared *candidate)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", candidate->facts.name);
    cJSON_AddBoolToObject(object, "pass", oct_compared_passes(candidate));
    if (candidate->has_fp8_attention) cJSON_AddTrueToObject(object, "fp8_attention");
    cJSON_AddStringToObject(object, candidate->is_policy ? "policy_sha256" : "denoiser_xxh3",
                            candidate->facts.digest);
    add_facts(object, &candidate->facts);
    oct_json_add_executed(object, &candidate->executed);
    cJSON_AddItemToObject(object, "summary", summary_json(&candidate->summary));
    if (candidate->scores.n_metrics == 0) return object;
    cJSON *scores = cJSON_AddArrayToObject(object, "scores");
    for (size_t i = 0; i < candidate->scores.n_metrics; i++) {
        add_score_outcome(scores, candidate->scores.names[i], &candidate->score_outcomes[i]);
    }
    return object;
}

cJSON *oct_report_candidates(const oct_comparison *comparison)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        cJSON_AddItemToArray(array, candidate_json(&comparison->candidates[i]));
    }
    return array;
}

static void add_outcomes(cJSON *object, const oct_comparison *comparison, size_t candidate)
{
    cJSON *outcomes = cJSON_AddArrayToObject(object, "outcomes");
    for (size_t i = 0; i < comparison->jobs->count; i++) {
        const oct_compared *compared = &comparison->candidates[candidate];
        cJSON *outcome = outcome_json(&compared->outcomes[i], &comparison->jobs->items[i]);
        add_scores(outcome, &compared->scores, i);
        cJSON_AddItemToArray(outcomes, outcome);
    }
}

cJSON *oct_report_json(const oct_comparison *comparison)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "octavo_regress", 1);
    cJSON_AddStringToObject(root, "tool_version", oct_version());
    cJSON_AddBoolToObject(root, "pass", oct_comparison_passes(comparison));
    cJSON_AddItemToObject(root, "reference", reference_json(&comparison->reference));
    cJSON_AddItemToObject(root, "run", run_json(comparison));
    cJSON_AddItemToObject(root, "gate", gate_json(&comparison->gate));
    cJSON_AddItemToObject(root, "metrics", metrics_json());
    cJSON_AddItemToObject(root, "prompts", prompts_json(comparison));

    cJSON *candidates = oct_report_candidates(comparison);
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        add_outcomes(cJSON_GetArrayItem(candidates, (int)i), comparison, i);
    }
    cJSON_AddItemToObject(root, "candidates", candidates);
    return root;
}
