// SPDX-License-Identifier: Apache-2.0
//
// tables: what datasets/pocket/README.md says of the pocket model, as Markdown and as JSON, from a
// calibration with channels and from a report of regress with the judge's scores.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "ptq/calibration.h"
#include "runtime/options.h"

typedef struct layer_range {
    const char *name;
    double amax, rms;      // over everything
    double channel_ratio;  // RMS of the strongest channel to that of the median one; 0: unknown
    size_t worst_step;     // from 1
} layer_range;

// ---- Ranges.

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static oct_status measure_channels(layer_range *range, const oct_channels *channels, oct_err *err)
{
    double *squares = malloc((channels->n + 1) * sizeof *squares), sum = 0;

    if (!squares) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu channels", channels->n);
    for (size_t i = 0; i < channels->n; i++) {
        squares[i] = (double)oct_channels_mean(channels, i);
        sum += squares[i];
    }
    qsort(squares, channels->n, sizeof *squares, compare_numbers);
    const double median = squares[channels->n / 2];
    range->rms = sqrt(sum / (double)channels->n);
    if (median > 0) range->channel_ratio = sqrt(squares[channels->n - 1] / median);
    free(squares);
    return OCT_OK;
}

static float step_range(const oct_calibration_layer *layer, size_t step)
{
    return fmaxf(layer->cond[step], layer->uncond ? layer->uncond[step] : 0);
}

static oct_status measure_layer(layer_range *range, const oct_calibration *calibration, size_t i,
                                oct_err *err)
{
    const oct_calibration_layer *layer = &calibration->layers[i];
    size_t worst = 0;

    for (size_t step = 1; step < calibration->steps; step++) {
        if (step_range(layer, step) > step_range(layer, worst)) worst = step;
    }
    *range =
        (layer_range){.name = layer->name, .amax = (double)layer->amax, .worst_step = worst + 1};
    return layer->channels ? measure_channels(range, layer->channels, err) : OCT_OK;
}

static void print_range(const layer_range *range)
{
    printf("| `%s` | %.3g | %zu |", range->name, range->amax, range->worst_step);
    if (range->rms > 0)
        printf(" %.3g | %.1f |", range->rms, range->amax / range->rms);
    else
        printf(" | |");
    if (range->channel_ratio > 0)
        printf(" %.1f |\n", range->channel_ratio);
    else
        printf(" |\n");
}

static void add_range(cJSON *array, const layer_range *range)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "layer", range->name);
    cJSON_AddNumberToObject(object, "amax", range->amax);
    oct_json_add_count(object, "worst_step", range->worst_step);
    cJSON_AddNumberToObject(object, "rms", range->rms);
    cJSON_AddNumberToObject(object, "strongest_to_median_channel", range->channel_ratio);
    cJSON_AddItemToArray(array, object);
}

static oct_status tell_ranges(const char *path, cJSON *root, oct_err *err)
{
    oct_calibration calibration = {0};
    cJSON *array = cJSON_AddArrayToObject(root, "ranges");

    oct_status st = oct_calibration_load(&calibration, path, err);
    if (st) return st;
    puts("| input of | largest | in step | RMS | largest / RMS | strongest / median channel |\n"
         "|---|---|---|---|---|---|");
    for (size_t i = 0; i < calibration.n_layers && !st; i++) {
        layer_range range;
        st = measure_layer(&range, &calibration, i, err);
        if (st) break;
        print_range(&range);
        add_range(array, &range);
    }
    oct_calibration_deinit(&calibration);
    return st;
}

// ---- Accuracy.

static const cJSON *find_score(const cJSON *candidate, const char *metric)
{
    const cJSON *scores = cJSON_GetObjectItemCaseSensitive(candidate, "scores"), *score;

    cJSON_ArrayForEach(score, scores)
    {
        const char *name = NULL;
        if (oct_json_text(score, "metric", &name, NULL) == OCT_OK && strcmp(name, metric) == 0) {
            return score;
        }
    }
    return NULL;
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static void print_rate(const cJSON *score, const char *key)
{
    printf(" %.1f %% |", 100 * number(score, key));
}

static oct_status print_candidate(const cJSON *candidate, bool is_first, oct_err *err)
{
    const cJSON *captions = find_score(candidate, "pocket_caption");
    const cJSON *clauses = find_score(candidate, "pocket_clauses");
    const cJSON *summary = cJSON_GetObjectItemCaseSensitive(candidate, "summary");
    const char *name = NULL;

    oct_status st = oct_json_text(candidate, "name", &name, err);
    if (st) return st;
    if (!captions || !clauses) {
        return oct_fail(err, OCT_EFORMAT, "'%s' has no scores of the judge", name);
    }
    if (is_first) {
        printf("| reference |");
        print_rate(captions, "reference_mean");
        printf(" |");
        print_rate(clauses, "reference_mean");
        puts(" | | |");
    }
    printf("| `%s` |", name);
    print_rate(captions, "mean");
    printf(" %+.1f (%+.1f to %+.1f) |", 100 * number(captions, "difference"),
           100 * number(captions, "difference_low"), 100 * number(captions, "difference_high"));
    print_rate(clauses, "mean");
    printf(" %+.2f (%+.2f to %+.2f) |", 100 * number(clauses, "difference"),
           100 * number(clauses, "difference_low"), 100 * number(clauses, "difference_high"));
    printf(" %.2f | %.0f of %.0f |\n", number(summary, "psnr_db_mean"),
           number(candidate, "fp8_layers"), number(candidate, "layers"));
    return OCT_OK;
}

static oct_status tell_accuracy(const char *path, cJSON *root, oct_err *err)
{
    cJSON *report = NULL, *array = cJSON_AddArrayToObject(root, "candidates");
    const cJSON *candidate;
    bool is_first = true;

    oct_status st = oct_json_load(path, &report, err);
    if (st) return st;
    puts(
        "\n| denoiser | captions | change (95 %) | clauses | change (95 %) | PSNR, dB | FP8 layers "
        "|\n|---|---|---|---|---|---|---|");
    cJSON_ArrayForEach(candidate, cJSON_GetObjectItemCaseSensitive(report, "candidates"))
    {
        st = print_candidate(candidate, is_first, err);
        if (st) break;
        cJSON *copy = cJSON_Duplicate(candidate, true);
        cJSON_DeleteItemFromObjectCaseSensitive(copy, "outcomes");
        cJSON_AddItemToArray(array, copy);
        is_first = false;
    }
    cJSON_Delete(report);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

static oct_status run(const char *calibration, const char *report, const char *out, oct_err *err)
{
    cJSON *root = cJSON_CreateObject();

    oct_status st = tell_ranges(calibration, root, err);
    if (!st) st = tell_accuracy(report, root, err);
    if (!st && out) {
        char *text = oct_json_print(root);
        st = oct_file_write(out, text, strlen(text), err);
        free(text);
    }
    cJSON_Delete(root);
    return st;
}

int main(int argc, char **argv)
{
    const char *calibration = NULL, *report = NULL, *out = NULL;
    const oct_opt opts[] = {
        OPT_GROUP("Input and output"),
        OPT_TEXT("calibration", "FILE", &calibration, "calibration of the pocket model"),
        OPT_TEXT("report", "FILE", &report, "report.json of regress, with the judge's scores"),
        OPT_TEXT("out", "FILE", &out, "the same as JSON"),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "tables",
        .summary = "Print the measurements of the pocket model as Markdown tables.",
        .usage = "--calibration FILE --report FILE [--out FILE]",
        .examples = {"tables --calibration calibration.json --report report/report.json",
                     "tables --calibration calibration.json --report report/report.json "
                     "--out measured.json"},
        .opts = opts,
    };
    oct_err err = {{0}};
    bool is_done = false;

    oct_log_init("tables", OCT_LOG_NORMAL);
    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && is_done) return oct_cli_finish(&cli, st, &err);
    if (!st) st = oct_option_required("calibration", calibration, &err);
    if (!st) st = oct_option_required("report", report, &err);
    if (!st) st = run(calibration, report, out, &err);
    return oct_cli_finish(&cli, st, &err);
}
