// SPDX-License-Identifier: Apache-2.0
//
// The result of a verification.
#include "verify/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"

#define SHOWN_MAX 10  // sentences of one check, as text

static void print_drift(const oct_drift *drift)
{
    size_t width = strlen("layer");
    for (size_t i = 0; i < drift->n_layers; i++) {
        const size_t n = strlen(drift->layers[i].name);
        if (n > width) width = n;
    }
    printf("\n%-*s %8s %12s %9s %10s %10s\n", (int)width, "layer", "sqnr dB", "max error",
           "of bound", "underflow", "saturated");
    for (size_t i = 0; i < drift->n_layers; i++) {
        const oct_drift_layer *l = &drift->layers[i];
        printf("%-*s %8.2f %12.5g %9.4f %10.3g %10.3g\n", (int)width, l->name, l->sqnr_db,
               l->error_max, l->error_max_of_bound, l->underflow_share, l->saturated_share);
    }
    printf("%zu tensors are byte-identical to the source\n\n", drift->n_copied);
}

static void print_digests(const verify_job *job)
{
    char safe[1200];
    for (size_t i = 0; i < job->digests.n_files; i++) {
        const oct_digest *file = &job->digests.files[i];
        printf("sha256   %s", file->sha256);
        if (job->digests.n_files > 1) {
            printf("  %s", oct_printable(file->path, safe, sizeof safe));
        }
        if (file->expected_by) {
            printf(" (compared with %s)", oct_printable(file->expected_by, safe, sizeof safe));
        } else {
            printf(" (unverified: nothing to compare with)");
        }
        putchar('\n');
        if (!job->o.identify) continue;
        printf("AutoV2   %.10s\n", file->sha256);
        if (file->data_sha256[0]) printf("AutoV3   %.12s\n", file->data_sha256);
    }
    if (job->o.fast) puts("sha256   not computed: --fast compares XXH3 digests");
    if (job->has_table) puts("xxh3     every tensor compared with its digest");
}

static void print_loader(const oct_loader *loader)
{
    if (!loader->is_known) return;
    printf("comfyui  ");
    for (int era = 0; era < OCT_COMFY_ERA_COUNT; era++) {
        printf("%s%s: %s", era ? "; " : "", oct_comfy_era_name((oct_comfy_era)era),
               oct_comfy_answer_name(loader->answers[era]));
    }
    putchar('\n');
}

// A damaged marker concerns every layer: the first sentences of a check tell it.
static void print_findings(const verify_job *job)
{
    char safe[2100];
    size_t shown[OCT_CHECK_COUNT] = {0};
    for (size_t i = 0; i < job->findings.count; i++) {
        const oct_finding *f = &job->findings.items[i];
        if (shown[f->check]++ >= SHOWN_MAX && !job->o.general.verbose) continue;
        printf("%s     %s\n", f->is_warning ? "WARN" : "FAIL",
               oct_printable(f->text, safe, sizeof safe));
    }
    for (int i = 0; i < OCT_CHECK_COUNT; i++) {
        if (shown[i] <= SHOWN_MAX || job->o.general.verbose) continue;
        printf("...      %zu more of the check '%s': see --verbose or --json\n",
               shown[i] - SHOWN_MAX, oct_check_name((oct_check)i));
    }
    printf("verdict  %s\n", oct_verify_holds(job) ? "holds" : "does not hold");
}

void oct_verify_print(const verify_job *job)
{
    print_digests(job);
    if (job->is_readable) {
        printf("dialect  %s, %zu FP8 layers, %zu with a static input scale\n",
               oct_dialect_name(oct_verify_dialect(job)), job->n_fp8, job->n_static);
        print_loader(&job->loader);
        if (job->o.source) print_drift(&job->drift);
    }
    print_findings(job);
}

void oct_verify_print_list(const verify_job *job)
{
    char safe[1200];
    for (size_t i = 0; i < job->digests.n_files; i++) {
        const oct_digest *file = &job->digests.files[i];
        if (file->trouble) continue;
        printf("OK       %s\n", oct_printable(file->path, safe, sizeof safe));
    }
    print_findings(job);
}

static void add_db(cJSON *object, const char *key, double db)
{
    if (isfinite(db))
        cJSON_AddNumberToObject(object, key, db);
    else
        cJSON_AddNullToObject(object, key);  // no error at all
}

static void add_drift(const oct_drift *drift, cJSON *object)
{
    if (drift->n_layers) add_db(object, "sqnr_db_min", drift->layers[drift->worst].sqnr_db);
    cJSON_AddNumberToObject(object, "tensors_identical", (double)drift->n_copied);
    cJSON *layers = cJSON_AddArrayToObject(object, "drift");
    for (size_t i = 0; i < drift->n_layers; i++) {
        const oct_drift_layer *l = &drift->layers[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "layer", l->name);
        add_db(item, "sqnr_db", l->sqnr_db);
        cJSON_AddNumberToObject(item, "error_max", l->error_max);
        cJSON_AddNumberToObject(item, "error_max_of_bound", l->error_max_of_bound);
        cJSON_AddNumberToObject(item, "underflow_share", l->underflow_share);
        cJSON_AddNumberToObject(item, "saturated_share", l->saturated_share);
        cJSON_AddItemToArray(layers, item);
    }
}

static void add_findings(const verify_job *job, cJSON *object)
{
    cJSON *failures = cJSON_AddArrayToObject(object, "findings");
    cJSON *warnings = cJSON_AddArrayToObject(object, "warnings");
    for (size_t i = 0; i < job->findings.count; i++) {
        const oct_finding *f = &job->findings.items[i];
        cJSON_AddItemToArray(f->is_warning ? warnings : failures, cJSON_CreateString(f->text));
    }
}

static void add_digests(const verify_job *job, cJSON *object)
{
    const oct_digest *file = job->digests.files;
    if (job->digests.n_files == 1) {
        cJSON_AddStringToObject(object, "sha256", file->sha256);
        cJSON_AddBoolToObject(object, "sha256_compared", file->expected_by != NULL);
        char autov2[11];
        snprintf(autov2, sizeof autov2, "%.10s", file->sha256);
        cJSON_AddStringToObject(object, "autov2", autov2);
        if (file->data_sha256[0]) {
            char autov3[13];
            snprintf(autov3, sizeof autov3, "%.12s", file->data_sha256);
            cJSON_AddStringToObject(object, "data_sha256", file->data_sha256);
            cJSON_AddStringToObject(object, "autov3", autov3);
        }
        return;
    }
    cJSON *files = cJSON_AddArrayToObject(object, "files");
    for (size_t i = 0; i < job->digests.n_files; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "file", job->digests.files[i].path);
        cJSON_AddStringToObject(item, "sha256", job->digests.files[i].sha256);
        cJSON_AddBoolToObject(item, "sha256_compared", job->digests.files[i].expected_by != NULL);
        cJSON_AddItemToArray(files, item);
    }
}

static void add_loader(const oct_loader *loader, cJSON *object)
{
    if (!loader->is_known) return;
    cJSON *item = cJSON_AddObjectToObject(object, "comfyui");
    for (int era = 0; era < OCT_COMFY_ERA_COUNT; era++) {
        cJSON_AddStringToObject(item, oct_comfy_era_name((oct_comfy_era)era),
                                oct_comfy_answer_name(loader->answers[era]));
    }
}

static void print_object(cJSON *object)
{
    oct_json_finish(object);
}

void oct_verify_print_json(const verify_job *job)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "tool", "verify");
    cJSON_AddBoolToObject(object, "pass", oct_verify_holds(job));
    cJSON_AddStringToObject(object, "file", job->o.file);
    add_digests(job, object);
    cJSON_AddBoolToObject(object, "xxh3_compared", job->has_table);
    if (job->is_readable) {
        cJSON_AddStringToObject(object, "dialect", oct_dialect_name(oct_verify_dialect(job)));
        cJSON_AddNumberToObject(object, "layers_fp8", (double)job->n_fp8);
        cJSON_AddNumberToObject(object, "layers_static", (double)job->n_static);
        add_loader(&job->loader, object);
    }
    add_findings(job, object);
    if (job->is_readable && job->o.source) add_drift(&job->drift, object);
    print_object(object);
}

void oct_verify_print_list_json(const verify_job *job)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "tool", "verify");
    cJSON_AddBoolToObject(object, "pass", oct_verify_holds(job));
    cJSON_AddStringToObject(object, "manifest", job->o.manifest);
    cJSON *files = cJSON_AddArrayToObject(object, "files");
    for (size_t i = 0; i < job->digests.n_files; i++) {
        const oct_digest *file = &job->digests.files[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "file", file->path);
        cJSON_AddBoolToObject(item, "pass", !file->trouble);
        if (file->sha256[0]) cJSON_AddStringToObject(item, "sha256", file->sha256);
        cJSON_AddItemToArray(files, item);
    }
    add_findings(job, object);
    print_object(object);
}
