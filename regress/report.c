// SPDX-License-Identifier: Apache-2.0
//
// The reports as files, and the table for a terminal.
#include "regress/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/json.h"

// Render into memory first: a file is replaced only by a whole one.
static oct_status save_stream(void (*put)(FILE *, const oct_comparison *),
                              const oct_comparison *comparison, const char *path, oct_err *err)
{
    char *text = NULL;
    size_t bytes = 0;

    FILE *out = open_memstream(&text, &bytes);
    if (!out) return oct_fail(err, OCT_ENOMEM, "out of memory for '%s'", path);
    put(out, comparison);
    const oct_status st = fclose(out) ? oct_fail(err, OCT_ENOMEM, "out of memory for '%s'", path)
                                      : oct_file_write(path, text, bytes, err);
    free(text);
    return st;
}

static void put_json(FILE *out, const oct_comparison *comparison)
{
    cJSON *root = oct_report_json(comparison);
    char *text = oct_json_print(root);
    fputs(text, out);
    free(text);
    cJSON_Delete(root);
}

oct_status oct_report_save(const oct_comparison *comparison, const char *folder, oct_err *err)
{
    static const struct {
        const char *name;
        void (*put)(FILE *, const oct_comparison *);
    } files[] = {
        {"report.json", put_json},
        {"report.html", oct_report_html},
        {"junit.xml", oct_report_junit},
    };
    oct_arena arena = {0};
    oct_status st = OCT_OK;

    for (size_t i = 0; i < sizeof files / sizeof *files && !st; i++) {
        const char *path = oct_path_join(&arena, folder, files[i].name);
        st = save_stream(files[i].put, comparison, path, err);
    }
    oct_arena_deinit(&arena);
    return st;
}

static void put_db(FILE *out, double db)
{
    if (isfinite(db))
        fprintf(out, " %8.2f", db);
    else
        fprintf(out, " %8s", "same");
}

static void put_row(FILE *out, const oct_compared *candidate, int width, bool has_result)
{
    const oct_denoiser_facts *facts = &candidate->facts;
    const oct_summary *s = &candidate->summary;

    fprintf(out, "%-*s", width, facts->name);
    put_db(out, s->psnr_db_mean);
    put_db(out, s->psnr_db_worst);
    fprintf(out, " %8.4f %8.4f %8.4f %6zu/%-5zu %12" PRIu64, s->ssim_mean, s->flip_mean,
            s->flip_worst, facts->n_fp8, facts->n_layers, facts->bytes);
    if (has_result) fputs(oct_compared_passes(candidate) ? "  passes" : "  fails", out);
    fputc('\n', out);
}

// Of the column of names.
static int name_width(const oct_comparison *comparison)
{
    int width = (int)strlen("candidate");
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        const int length = (int)strlen(comparison->candidates[i].facts.name);
        if (length > width) width = length;
    }
    return width;
}

static void put_score_rows(FILE *out, const oct_comparison *comparison, size_t metric, int width)
{
    const char *name = comparison->reference_scores.names[metric];

    fprintf(out, "\n%-*s  %s\n%-*s      mean  change   95 %% interval    higher  lower\n", width,
            "", name, width, "candidate");
    fprintf(out, "%-*s  %8.4f\n", width, "reference",
            comparison->candidates[0].score_outcomes[metric].summary.reference_mean);
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        const oct_compared *candidate = &comparison->candidates[i];
        const oct_score_outcome *outcome = &candidate->score_outcomes[metric];
        const oct_score_summary *s = &outcome->summary;
        fprintf(out, "%-*s  %8.4f %+7.4f %+7.4f %+7.4f  %7zu %6zu  %s%s%s\n", width,
                candidate->facts.name, s->mean, s->difference.mean, s->difference.low,
                s->difference.high, s->n_higher, s->n_lower, oct_score_change_word(s->change),
                outcome->verdict == OCT_SCORE_FREE ? "" : ", ",
                oct_score_verdict_word(outcome->verdict));
    }
}

void oct_report_table(FILE *out, const oct_comparison *comparison)
{
    const bool has_result = oct_gate_has_threshold(&comparison->gate);
    const int width = name_width(comparison);

    fprintf(out, "%-*s  PSNR dB    worst     SSIM     FLIP    worst   FP8 layers        bytes%s\n",
            width, "candidate", has_result ? "  result" : "");
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        put_row(out, &comparison->candidates[i], width, has_result);
    }
    for (size_t i = 0; i < comparison->reference_scores.n_metrics; i++) {
        put_score_rows(out, comparison, i, width);
    }
}
