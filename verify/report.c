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

void oct_verify_print(const verify_job *job)
{
    char safe[1200];
    printf("sha256   %s", job->digests.sha256);
    if (job->digests.expected_by) printf(" (compared with %s)", job->digests.expected_by);
    putchar('\n');
    if (job->is_readable) {
        printf("dialect  %s, %zu FP8 layers, %zu with a static input scale\n",
               oct_dialect_name(job->dialect), job->n_fp8, job->n_static);
        if (job->o.source) print_drift(&job->drift);
    }
    for (size_t i = 0; i < job->findings.count; i++) {
        printf("FAIL     %s\n", oct_printable(job->findings.texts[i], safe, sizeof safe));
    }
    printf("verdict  %s\n", job->findings.count ? "does not hold" : "holds");
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

void oct_verify_print_json(const verify_job *job)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "tool", "verify");
    cJSON_AddBoolToObject(object, "pass", job->findings.count == 0);
    cJSON_AddStringToObject(object, "file", job->o.file);
    cJSON_AddStringToObject(object, "sha256", job->digests.sha256);
    cJSON_AddBoolToObject(object, "sha256_compared", job->digests.expected_by != NULL);
    cJSON_AddStringToObject(object, "dialect", oct_dialect_name(job->dialect));
    cJSON_AddNumberToObject(object, "layers_fp8", (double)job->n_fp8);
    cJSON_AddNumberToObject(object, "layers_static", (double)job->n_static);
    cJSON *findings = cJSON_AddArrayToObject(object, "findings");
    for (size_t i = 0; i < job->findings.count; i++) {
        cJSON_AddItemToArray(findings, cJSON_CreateString(job->findings.texts[i]));
    }
    if (job->o.source) add_drift(&job->drift, object);
    char *line = oct_json_print_line(object);
    puts(line);
    free(line);
    cJSON_Delete(object);
}
