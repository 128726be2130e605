// SPDX-License-Identifier: Apache-2.0
//
// Reading scores, and comparing a candidate's with the reference's.
#include "regress/scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"

#define FILE_BYTES_MAX (64u << 20)

typedef struct loader {
    oct_scores *scores;
    const oct_jobs *jobs;
    oct_arena *arena;
} loader;

static oct_status find_job(const loader *l, const char *id, size_t *job, oct_err *err)
{
    for (*job = 0; *job < l->jobs->count; (*job)++) {
        if (strcmp(l->jobs->items[*job].prompt->id, id) == 0) return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "there is no prompt '%s'", id);
}

static bool is_metric_name(const char *name)
{
    const size_t bytes = strlen(name);
    for (size_t i = 0; i < bytes; i++) {
        if (name[i] <= ' ' || name[i] > '~') return false;
    }
    return bytes > 0 && bytes <= OCT_SCORE_NAME_MAX;
}

static oct_status find_metric(loader *l, const char *name, double **values, oct_err *err)
{
    oct_scores *scores = l->scores;

    *values = (double *)oct_scores_find(scores, name);
    if (*values) return OCT_OK;
    if (!is_metric_name(name)) {
        return oct_fail(err, OCT_EFORMAT, "'metric' must have 1 to %d printable ASCII characters",
                        OCT_SCORE_NAME_MAX);
    }
    if (scores->n_metrics == OCT_SCORE_METRICS_MAX) {
        return oct_fail(err, OCT_EFORMAT, "there are more than %d metrics", OCT_SCORE_METRICS_MAX);
    }
    *values = oct_arena_array(l->arena, l->jobs->count, sizeof **values);
    for (size_t i = 0; i < l->jobs->count; i++) (*values)[i] = NAN;
    scores->names[scores->n_metrics] = oct_arena_copy(l->arena, name);
    scores->values[scores->n_metrics++] = *values;
    return OCT_OK;
}

static oct_status add_object(loader *l, const cJSON *object, oct_err *err)
{
    static const char *const keys[] = {"id", "metric", "value", NULL};
    const char *id = NULL, *metric = NULL;
    double value = 0, *values = NULL;
    size_t job = 0;

    if (!cJSON_IsObject(object)) return oct_fail(err, OCT_EFORMAT, "it is not an object");
    oct_status st = oct_json_only_keys(object, keys, err);
    if (!st) st = oct_json_text(object, "id", &id, err);
    if (!st) st = oct_json_text(object, "metric", &metric, err);
    if (!st) st = oct_json_number(object, "value", &value, err);
    if (!st) st = find_job(l, id, &job, err);
    if (!st) st = find_metric(l, metric, &values, err);
    if (st) return st;
    if (!isnan(values[job])) {
        return oct_fail(err, OCT_EFORMAT, "'%s' of prompt '%s' is given twice", metric, id);
    }
    values[job] = value;
    return OCT_OK;
}

static oct_status add_line(loader *l, const char *line, size_t bytes, oct_err *err)
{
    cJSON *object = NULL;

    if (strspn(line, " \t\r") >= bytes) return OCT_OK;
    oct_status st = oct_json_parse(line, bytes, &object, err);
    if (!st) st = add_object(l, object, err);
    cJSON_Delete(object);
    return st;
}

static oct_status add_lines(loader *l, const char *text, size_t bytes, oct_err *err)
{
    const char *end = text + bytes;

    for (size_t number = 1; text < end; number++) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        if (!line_end) line_end = end;
        const oct_status st = add_line(l, text, (size_t)(line_end - text), err);
        if (st) return oct_wrap(err, st, "line %zu", number);
        text = line_end + 1;
    }
    return OCT_OK;
}

static oct_status check_complete(const loader *l, oct_err *err)
{
    const oct_scores *scores = l->scores;

    if (scores->n_metrics == 0) return oct_fail(err, OCT_EFORMAT, "there is no score in it");
    for (size_t m = 0; m < scores->n_metrics; m++) {
        for (size_t i = 0; i < l->jobs->count; i++) {
            if (!isnan(scores->values[m][i])) continue;
            return oct_fail(err, OCT_EFORMAT, "'%s' of prompt '%s' is missing", scores->names[m],
                            l->jobs->items[i].prompt->id);
        }
    }
    return OCT_OK;
}

oct_status oct_scores_load(oct_scores *scores, const char *path, const oct_jobs *jobs,
                           oct_arena *arena, oct_err *err)
{
    loader l = {scores, jobs, arena};
    char *text = NULL;
    size_t bytes = 0;

    *scores = (oct_scores){0};
    oct_status st = oct_file_read_text(arena, path, FILE_BYTES_MAX, &text, &bytes, err);
    if (st) return st;
    st = add_lines(&l, text, bytes, err);
    if (!st) st = check_complete(&l, err);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

const double *oct_scores_find(const oct_scores *scores, const char *name)
{
    for (size_t i = 0; i < scores->n_metrics; i++) {
        if (strcmp(scores->names[i], name) == 0) return scores->values[i];
    }
    return NULL;
}

oct_status oct_score_summarize(oct_score_summary *summary, const double *candidate,
                               const double *reference, size_t n, oct_err *err)
{
    double *differences = malloc(n * sizeof *differences), sum = 0, reference_sum = 0;

    *summary = (oct_score_summary){0};
    if (!differences) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu scores", n);
    for (size_t i = 0; i < n; i++) {
        sum += candidate[i];
        reference_sum += reference[i];
        differences[i] = candidate[i] - reference[i];
        summary->n_higher += differences[i] > 0;
        summary->n_lower += differences[i] < 0;
    }
    summary->mean = sum / (double)n;
    summary->reference_mean = reference_sum / (double)n;
    const oct_status st = oct_interval_of_mean(&summary->difference, differences, n, err);
    if (summary->difference.low > 0) summary->change = OCT_SCORE_HIGHER;
    if (summary->difference.high < 0) summary->change = OCT_SCORE_LOWER;
    free(differences);
    return st;
}

const char *oct_score_change_word(oct_score_change change)
{
    static const char *const words[] = {"no change seen", "higher", "lower"};
    return words[change];
}
