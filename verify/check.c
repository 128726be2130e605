// SPDX-License-Identifier: Apache-2.0
//
// One verification.
#include "verify/check.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/file.h"
#include "common/number.h"
#include "ptq/decoding.h"
#include "verify/contract.h"
#include "verify/scan.h"

static const char *find_meta(const verify_job *job, const char *key)
{
    return oct_safetensors_find_meta(&job->file.source.checkpoint.files[0], key);
}

// How scales were made, by the file's own header.
static void read_scaling(verify_job *job)
{
    const char *qmax = find_meta(job, "octavo.qmax"), *snap = find_meta(job, "octavo.snap_scales");
    char *end = NULL;
    job->qmax = qmax ? strtof(qmax, &end) : OCT_E4M3_MAX;
    if (qmax && (end == qmax || *end || !(job->qmax > 0 && job->qmax <= OCT_E4M3_MAX))) {
        oct_findings_add(&job->findings, "metadata 'octavo.qmax' is '%s'", qmax);
        job->qmax = OCT_E4M3_MAX;
    }
    if (snap && !oct_snap_parse(snap, &job->snap)) {
        oct_findings_add(&job->findings, "metadata 'octavo.snap_scales' is '%s'", snap);
    }
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

static oct_status init_plan(verify_job *job, oct_err *err)
{
    return oct_plan_init(&job->plan, &job->source.denoiser,
                         &(oct_plan_params){
                             .policy = &job->policy,
                             .calibration = job->o.calibration ? &job->calibration : NULL,
                             .qmax = job->qmax,
                             .snap_scales = job->snap,
                             .has_unit_scales = oct_verify_dialect(job) == OCT_DIALECT_CAST,
                         },
                         err);
}

static bool has_fp8(const oct_dialects *dialects)
{
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        if (dialects->of[i] != OCT_DIALECT_NONE) return true;
    }
    return false;
}

// The policy that the file says it was made by, where that is a bundled one.
static bool load_recorded_policy(verify_job *job)
{
    const char *name = find_meta(job, "octavo.policy");
    const char *sha256 = find_meta(job, "octavo.policy_sha256");
    for (size_t i = 0; name && sha256 && oct_policy_bundled(i); i++) {
        if (strcmp(name, oct_policy_bundled(i))) continue;
        return !oct_policy_load(&job->policy, name, NULL) && !strcmp(job->policy.sha256, sha256);
    }
    return false;
}

// Without --policy, a recorded one still tells how weight scales were chosen: drift judges them by
// it. All else that it decides is judged only when it is asked for.
static oct_status make_plan(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    if (!o->source) return OCT_OK;
    if (!o->policy) {
        job->has_scale_plan =
            !has_fp8(&job->source_dialects) && load_recorded_policy(job) && !init_plan(job, NULL);
        return OCT_OK;
    }
    if (!o->calibration && find_meta(job, "octavo.calibration_sha256")) {
        return oct_fail(err, OCT_EUSAGE,
                        "'%s' was made with a calibration: give it with --calibration", o->file);
    }
    const oct_status st = init_plan(job, err);
    job->has_plan = job->has_scale_plan = !st;
    return st;
}

// The layers that quantize sees: a file of ours may be of an architecture that only --generic
// takes, and a T5 beside the denoiser counts where it would be written too.
static oct_denoiser_params table_params(const verify_job *job, const oct_source *source)
{
    return (oct_denoiser_params){
        .is_generic = find_meta(job, "octavo.version") != NULL,
        .with_t5 = !source->checkpoint.is_diffusers && !source->is_diffusers_named,
    };
}

// An FP8 source is seen as what the file was made from: decoded to F32 when a policy quantized it
// again, to the file's own type when the file has no FP8 any more. Else codes were only respelled.
static oct_status decode_source(verify_job *job, oct_err *err)
{
    oct_source *source = &job->source.source;
    size_t n;
    oct_dialects_detect(&job->source_dialects, source);
    if (!has_fp8(&job->source_dialects)) return OCT_OK;
    if (job->o.policy) return oct_source_decode(source, 1u << OCT_DENOISER, OCT_F32, &n, err);
    oct_dialects_detect(&job->dialects, &job->file.source);
    if (has_fp8(&job->dialects) || !job->file.denoiser.n_layers) return OCT_OK;
    const oct_dtype to = job->file.denoiser.layers[0].weight->dtype;
    return oct_source_decode(source, OCT_EVERY_COMPONENT, to, &n, err);
}

static oct_status open_source(verify_job *job, oct_err *err)
{
    const char *path = job->o.source;
    oct_status st = oct_source_open(&job->source.source, &(oct_model_paths){.model = path}, err);
    if (st) return st;
    const oct_denoiser_params params = table_params(job, &job->source.source);
    st = decode_source(job, err);
    if (!st) st = oct_denoiser_init_with(&job->source.denoiser, &job->source.source, &params, err);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

static oct_status load_inputs(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    oct_status st = OCT_OK;
    if (o->policy) st = oct_policy_load(&job->policy, o->policy, err);
    if (!st && o->calibration) st = oct_calibration_load(&job->calibration, o->calibration, err);
    if (!st && o->source && job->is_open) st = open_source(job, err);
    return st;
}

static oct_status measure_drift(verify_job *job, oct_err *err)
{
    oct_findings_begin(&job->findings, OCT_CHECK_DRIFT);
    return oct_drift_measure(&job->drift,
                             &(oct_drift_params){
                                 .file = &job->file.source,
                                 .source = &job->source.source,
                                 .denoiser = &job->file.denoiser,
                                 .source_denoiser = &job->source.denoiser,
                                 .dialects = &job->dialects,
                                 .source_dialects = &job->source_dialects,
                                 .plan = job->has_scale_plan ? &job->plan : NULL,
                                 .sqnr_db_min = job->o.sqnr_db_min,
                             },
                             &job->findings, err);
}

static void count_layers(verify_job *job)
{
    for (size_t i = 0; i < job->file.denoiser.n_layers; i++) {
        oct_stored_layer stored = {0};
        if (oct_stored_layer_read(&stored, &job->file.source, &job->dialects,
                                  &job->file.denoiser.layers[i], NULL))
            continue;
        job->n_fp8 += stored.whole.is_fp8;
        job->n_static += stored.whole.is_fp8 && !stored.whole.is_full_precision;
    }
}

static bool is_about_the_file(oct_status st)
{
    return st == OCT_EFORMAT || st == OCT_EUNSUPPORTED;
}

// A file whose bytes break the format or the architecture does not hold: that is an answer, not a
// failure to answer. A CLIP encoder or VAE alone has no layers to look at, which is fine.
static oct_status open_file(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    oct_err broken = {{0}};
    oct_findings_begin(&job->findings, OCT_CHECK_FORMAT);
    oct_status st =
        oct_source_open(&job->file.source, &(oct_model_paths){.model = o->file}, &broken);
    job->is_open = !st;
    const bool has_layers =
        o->source || o->policy || o->calibration ||
        (!st && (!job->file.source.n_tensors ||
                 oct_checkpoint_has(&job->file.source.checkpoint, OCT_DENOISER) ||
                 oct_checkpoint_has(&job->file.source.checkpoint, OCT_T5)));
    if (!st && has_layers) {
        const oct_denoiser_params params = table_params(job, &job->file.source);
        st = oct_denoiser_init_with(&job->file.denoiser, &job->file.source, &params, &broken);
        job->is_readable = !st;
        if (st) oct_wrap(&broken, st, "'%s'", o->file);
    }
    if (is_about_the_file(st)) {
        oct_findings_add(&job->findings, "%s", broken.text);
        return OCT_OK;
    }
    if (st && err) *err = broken;
    return st;
}

// ---- Digests.

static oct_status begin_digests(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    const oct_checkpoint *ckpt = &job->file.source.checkpoint;
    for (size_t i = 0; i < ckpt->n_files; i++) {
        oct_digests_add(&job->digests, ckpt->files[i].file.path, ckpt->files[i].header_bytes);
    }
    if (!job->is_open && !oct_path_is_folder(o->file)) oct_digests_add(&job->digests, o->file, 0);
    const bool needs_data =
        o->identify || (job->is_open && (find_meta(job, "modelspec.hash_sha256") ||
                                         find_meta(job, "sshs_model_hash")));
    // What else reads the file can do so beside a digest of its own, or out of the page cache.
    job->scans_sha256 = job->is_open && ckpt->n_files == 1 && !needs_data && !o->source;
    return oct_digests_begin(&job->digests,
                             &(oct_digests_params){
                                 .sha256 = o->sha256,
                                 .hf_etag = o->hf_etag,
                                 .lfs_pointer = o->lfs_pointer,
                                 .manifest = o->manifest,
                                 .needs_data = needs_data,
                                 .has_sha256 = job->scans_sha256,
                             },
                             err);
}

// Digests of the data that other tools wrote into the header. sshs_model_hash is that of the file
// as its writer would lay it out, which may differ from this one's order.
static void check_data_digests(verify_job *job)
{
    const char *is = job->digests.files[0].data_sha256;
    const char *modelspec = find_meta(job, "modelspec.hash_sha256");
    const char *sshs = find_meta(job, "sshs_model_hash");
    oct_findings_begin(&job->findings, OCT_CHECK_METADATA);
    if (modelspec && strcasecmp(!strncasecmp(modelspec, "0x", 2) ? modelspec + 2 : modelspec, is)) {
        oct_findings_add(&job->findings,
                         "metadata 'modelspec.hash_sha256' is stale: it says %s, but the data's "
                         "sha256 is 0x%s",
                         modelspec, is);
    }
    if (sshs && strcasecmp(sshs, is)) {
        oct_findings_warn(&job->findings,
                          "metadata 'sshs_model_hash' is not the data's sha256: %s, not %s", sshs,
                          is);
    }
}

static oct_status end_digests(verify_job *job, oct_err *err)
{
    oct_status st = oct_digests_end(&job->digests, &job->findings, err);
    for (size_t i = 0; i < job->digests.n_files && !st && job->o.require_sha256; i++) {
        if (job->digests.files[i].expected_by) continue;
        oct_findings_add(&job->findings, "'%s' is unverified: there is no sha256 to compare with",
                         job->digests.files[i].path);
    }
    if (!st && job->is_open && job->digests.files[0].data_sha256[0]) check_data_digests(job);
    return st;
}

// The data of every file: codes that are no numbers, and FILE.xxh3 where it is.
static oct_status scan(verify_job *job, oct_err *err)
{
    oct_findings *findings = &job->findings;
    const oct_checkpoint *ckpt = &job->file.source.checkpoint;
    oct_status st = OCT_OK;
    job->has_table = ckpt->n_files > 0;
    for (size_t i = 0; i < ckpt->n_files && !st; i++) {
        oct_safetensors *file = &ckpt->files[i];
        const char *table = oct_arena_print(&findings->arena, "%s.xxh3", file->file.path);
        const bool has_table = oct_path_exists(table);
        oct_scan result = {0};
        if (job->o.fast && !has_table) {
            return oct_fail(err, OCT_EFORMAT, "'%s' does not exist: '--fast' compares with it",
                            table);
        }
        job->has_table &= has_table;
        char *sha256 = job->scans_sha256 ? job->digests.files[i].sha256 : NULL;
        if (job->o.fast || sha256)
            oct_file_read_directly(&file->file);  // nothing else reads it all
        st = oct_scan_file(&result, file, has_table, sha256, err);
        if (!st && sha256) st = oct_file_check_unchanged(&file->file, err);
        oct_findings_begin(findings, OCT_CHECK_DIGEST);
        if (!st && has_table) st = oct_scan_check_table(&result, file, table, findings, err);
        oct_findings_begin(findings, OCT_CHECK_CONTRACT);
        if (!st) oct_scan_check_codes(&result, file, findings);
        oct_scan_deinit(&result);
    }
    return st;
}

// ---- The whole.

static oct_status check_layers(verify_job *job, oct_err *err)
{
    const verify_options *o = &job->o;
    oct_dialects_detect(&job->dialects, &job->file.source);
    oct_findings_begin(&job->findings, OCT_CHECK_METADATA);
    read_scaling(job);
    check_origin(job);
    oct_status st = make_plan(job, err);
    if (st) return st;
    count_layers(job);
    oct_findings_begin(&job->findings, OCT_CHECK_CONTRACT);
    st = oct_contract_check(
        &(oct_contract_params){
            .file = &job->file.source,
            .denoiser = &job->file.denoiser,
            .dialects = &job->dialects,
            .source = o->source ? &job->source.source : NULL,
            .plan = job->has_plan ? &job->plan : NULL,
            .policy = o->policy ? &job->policy : NULL,
            .calibration = o->calibration ? &job->calibration : NULL,
            .qmax = job->qmax,
            .snap = job->snap,
        },
        &job->findings, err);
    if (!st && o->source) st = measure_drift(job, err);
    return st;
}

oct_status oct_verify_check(verify_job *job, oct_err *err)
{
    oct_status st = open_file(job, err);
    if (!st && !job->o.fast) st = begin_digests(job, err);
    if (!st) st = load_inputs(job, err);
    if (!st && job->is_open) {
        st = oct_loader_check(&job->loader, &job->file.source.checkpoint, &job->findings, err);
    }
    if (!st && job->is_open) st = scan(job, err);
    if (!st && job->is_readable) st = check_layers(job, err);
    if (!st && !job->o.fast) st = end_digests(job, err);
    oct_findings_sort(&job->findings);
    return st;
}

oct_status oct_verify_check_list(verify_job *job, oct_err *err)
{
    oct_status st = oct_digests_add_list(&job->digests, job->o.manifest, err);
    if (!st) st = oct_digests_begin(&job->digests, NULL, err);
    return st ? st : oct_digests_end(&job->digests, &job->findings, err);
}

oct_dialect oct_verify_dialect(const verify_job *job)
{
    return job->dialects.of[job->file.denoiser.component];
}

bool oct_verify_holds(const verify_job *job)
{
    return job->o.strict ? job->findings.count == 0 : job->findings.n_failures == 0;
}

void oct_verify_deinit(verify_job *job)
{
    oct_digests_deinit(&job->digests);
    oct_plan_deinit(&job->plan);
    oct_drift_deinit(&job->drift);
    oct_findings_deinit(&job->findings);
    oct_calibration_deinit(&job->calibration);
    oct_policy_deinit(&job->policy);
    oct_denoiser_deinit(&job->file.denoiser);
    oct_denoiser_deinit(&job->source.denoiser);
    oct_source_close(&job->file.source);
    oct_source_close(&job->source.source);
    oct_texts_deinit(&job->o.files);
}
