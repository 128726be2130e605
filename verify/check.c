// SPDX-License-Identifier: Apache-2.0
//
// One verification.
#include "verify/check.h"

#include <stdlib.h>
#include <string.h>

#include "verify/contract.h"

static oct_status open_model(verify_model *m, const char *path, oct_err *err)
{
    oct_status st = oct_source_open(&m->source, &(oct_model_paths){.model = path}, err);
    if (st) return st;
    st = oct_denoiser_init(&m->denoiser, &m->source, err);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

static const char *find_meta(const verify_job *job, const char *key)
{
    return oct_safetensors_find_meta(&job->file.source.checkpoint.files[0], key);
}

static oct_status read_qmax(verify_job *job, oct_err *err)
{
    job->qmax = 448;
    const char *text = find_meta(job, "octavo.qmax");
    if (!text) return OCT_OK;
    char *end;
    job->qmax = strtof(text, &end);
    if (end == text || *end || !(job->qmax > 0 && job->qmax <= 448)) {
        return oct_fail(err, OCT_EFORMAT, "'%s': metadata 'octavo.qmax' is '%s'", job->o.file,
                        text);
    }
    return OCT_OK;
}

// A file of ours records which policy and calibration made it.
static void check_origin(verify_job *job)
{
    const char *calibration = find_meta(job, "octavo.calibration_sha256");
    if (job->o.calibration && calibration && strcmp(calibration, job->calibration.sha256)) {
        oct_findings_add(&job->findings, "made with the calibration of sha256 %s, not '%s' (%s)",
                         calibration, job->o.calibration, job->calibration.sha256);
    }
    const char *policy = find_meta(job, "octavo.policy_sha256");
    if (job->o.policy && policy && strcmp(policy, job->policy.sha256)) {
        oct_findings_add(&job->findings, "made with the policy of sha256 %s, not '%s' (%s)", policy,
                         job->policy.name, job->policy.sha256);
    }
}

static oct_status make_plan(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    if (o->policy && o->source && !o->calibration && find_meta(job, "octavo.calibration_sha256")) {
        return oct_fail(err, OCT_EUSAGE,
                        "'%s' was made with a calibration: give it with --calibration", o->file);
    }
    if (!o->policy || !o->source) return OCT_OK;
    oct_status st = oct_plan_init(&job->plan, &job->source.denoiser,
                                  &(oct_plan_params){
                                      .policy = &job->policy,
                                      .calibration = o->calibration ? &job->calibration : NULL,
                                      .qmax = job->qmax,
                                      .has_unit_scales = job->dialect == OCT_DIALECT_CAST,
                                  },
                                  err);
    job->has_plan = !st;
    return st;
}

static oct_status load_inputs(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    oct_status st = OCT_OK;
    if (o->policy) st = oct_policy_load(&job->policy, o->policy, err);
    if (!st && o->calibration) st = oct_calibration_load(&job->calibration, o->calibration, err);
    if (!st && o->source) st = open_model(&job->source, o->source, err);
    return st;
}

static oct_status measure_drift(verify_job *job, oct_err *err)
{
    return oct_drift_measure(&job->drift,
                             &(oct_drift_params){
                                 .file = &job->file.source,
                                 .source = &job->source.source,
                                 .denoiser = &job->file.denoiser,
                                 .dialect = job->dialect,
                                 .check_scale = job->dialect != OCT_DIALECT_CAST &&
                                                (job->has_plan || find_meta(job, "octavo.qmax")),
                                 .qmax = job->qmax,
                                 .sqnr_db_min = job->o.sqnr_db_min,
                             },
                             &job->findings, err);
}

static void count_layers(verify_job *job)
{
    for (size_t i = 0; i < job->file.denoiser.n_layers; i++) {
        oct_fp8_layer fp8 = {0};
        if (oct_dialect_read(&job->file.source, job->dialect, &job->file.denoiser.layers[i], &fp8,
                             NULL))
            continue;
        job->n_fp8 += fp8.is_fp8;
        job->n_static += fp8.is_fp8 && !fp8.is_full_precision;
    }
}

// A file whose bytes break the format or the architecture does not hold: that is an answer, not a
// failure to answer.
static oct_status open_file(verify_job *job, oct_err *err)
{
    oct_err broken = {{0}};
    oct_status st = open_model(&job->file, job->o.file, &broken);
    job->is_readable = !st;
    if (st == OCT_EFORMAT || st == OCT_EUNSUPPORTED) {
        oct_findings_add(&job->findings, "%s", broken.text);
        return OCT_OK;
    }
    if (st && err) *err = broken;
    return st;
}

oct_status oct_verify_check(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    oct_status st = oct_digests_check(
        &job->digests,
        &(oct_digests_params){.path = o->file, .sha256 = o->sha256, .manifest = o->manifest},
        &job->findings, err);
    if (!st) st = load_inputs(job, err);
    if (!st) st = open_file(job, err);
    if (st || !job->is_readable) return st;

    job->dialect = oct_dialect_detect(&job->file.source);
    st = read_qmax(job, err);
    if (!st) check_origin(job);
    if (!st) st = make_plan(job, err);
    if (st) return st;
    count_layers(job);
    st = oct_contract_check(
        &(oct_contract_params){
            .file = &job->file.source,
            .denoiser = &job->file.denoiser,
            .dialect = job->dialect,
            .source = o->source ? &job->source.source : NULL,
            .plan = job->has_plan ? &job->plan : NULL,
            .policy = o->policy ? &job->policy : NULL,
            .calibration = o->calibration ? &job->calibration : NULL,
            .qmax = job->qmax,
        },
        &job->findings, err);
    if (!st && o->source) st = measure_drift(job, err);
    return st;
}

void oct_verify_deinit(verify_job *job)
{
    oct_plan_deinit(&job->plan);
    oct_drift_deinit(&job->drift);
    oct_findings_deinit(&job->findings);
    oct_calibration_deinit(&job->calibration);
    oct_policy_deinit(&job->policy);
    oct_denoiser_deinit(&job->file.denoiser);
    oct_denoiser_deinit(&job->source.denoiser);
    oct_source_close(&job->file.source);
    oct_source_close(&job->source.source);
}
