// SPDX-License-Identifier: Apache-2.0
//
// junit.xml, in the shape that build servers read: testsuites > testsuite > testcase.
#include <math.h>

#include "common/escape.h"
#include "regress/report.h"

static void put_property(FILE *out, const char *name, double value)
{
    fputs("        <property name=\"", out);
    oct_put_escaped(out, name);
    if (isfinite(value)) {
        fprintf(out, "\" value=\"%.9g\"/>\n", value);
    } else {
        fputs("\" value=\"inf\"/>\n", out);
    }
}

// One element for all: some readers take only the first.
static void put_failures(FILE *out, const oct_verdict *verdict)
{
    if (verdict->n_failures == 0) return;
    fputs("      <failure message=\"", out);
    for (size_t i = 0; i < verdict->n_failures; i++) {
        if (i > 0) fputs("; ", out);
        oct_put_escaped(out, verdict->failures[i]);
    }
    fputs("\"/>\n", out);
}

static void put_case(FILE *out, const oct_compared *candidate, const oct_jobs *jobs, size_t index)
{
    const oct_job *job = &jobs->items[index];
    const oct_outcome *outcome = &candidate->outcomes[index];
    const oct_metrics *metrics = &outcome->metrics;

    fputs("    <testcase classname=\"", out);
    oct_put_escaped(out, candidate->facts.name);
    fputs("\" name=\"", out);
    oct_put_escaped(out, job->prompt->id);
    fputs("\">\n      <properties>\n        <property name=\"prompt\" value=\"", out);
    oct_put_escaped(out, job->prompt->text);
    fputs("\"/>\n", out);
    put_property(out, "psnr_db", metrics->psnr_db);
    put_property(out, "ssim", metrics->ssim);
    put_property(out, "flip_mean", metrics->flip_mean);
    put_property(out, "flip_max", metrics->flip_max);
    for (size_t i = 0; i < candidate->scores.n_metrics; i++) {
        put_property(out, candidate->scores.names[i], candidate->scores.values[i][index]);
    }
    fputs("      </properties>\n", out);
    put_failures(out, &outcome->verdict);
    fputs("    </testcase>\n", out);
}

// The mean of a score over all prompts.
static void put_score_case(FILE *out, const oct_comparison *comparison,
                           const oct_compared *candidate, size_t metric)
{
    const char *name = candidate->scores.names[metric];
    const oct_score_outcome *outcome = &candidate->score_outcomes[metric];
    const oct_score_summary *s = &outcome->summary;

    fputs("    <testcase classname=\"", out);
    oct_put_escaped(out, candidate->facts.name);
    fputs("\" name=\"mean of ", out);
    oct_put_escaped(out, name);
    fputs("\">\n      <properties>\n", out);
    put_property(out, "mean", s->mean);
    put_property(out, "reference_mean", s->reference_mean);
    put_property(out, "difference", s->difference.mean);
    put_property(out, "difference_low", s->difference.low);
    put_property(out, "difference_high", s->difference.high);
    fputs("      </properties>\n", out);
    if (outcome->verdict == OCT_SCORE_FAILS) {
        fprintf(out,
                "      <failure message=\"dropped by %.4g (95 %% interval %.4g to %.4g), which "
                "is more than %g\"/>\n",
                -s->difference.mean, -s->difference.high, -s->difference.low,
                oct_gate_find_limit(&comparison->gate, name)->drop_max);
    }
    fputs("    </testcase>\n", out);
}

static size_t count_failures(const oct_compared *candidate)
{
    return candidate->summary.n_failed + oct_compared_failed_scores(candidate);
}

static void put_suite(FILE *out, const oct_comparison *comparison, const oct_compared *candidate)
{
    fputs("  <testsuite name=\"", out);
    oct_put_escaped(out, candidate->facts.name);
    fprintf(out, "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\">\n",
            comparison->jobs->count + candidate->scores.n_metrics, count_failures(candidate));
    for (size_t i = 0; i < comparison->jobs->count; i++) {
        put_case(out, candidate, comparison->jobs, i);
    }
    for (size_t i = 0; i < candidate->scores.n_metrics; i++) {
        put_score_case(out, comparison, candidate, i);
    }
    fputs("  </testsuite>\n", out);
}

void oct_report_junit(FILE *out, const oct_comparison *comparison)
{
    size_t tests = 0, failures = 0;
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        tests += comparison->jobs->count + comparison->candidates[i].scores.n_metrics;
        failures += count_failures(&comparison->candidates[i]);
    }
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", out);
    fprintf(out, "<testsuites name=\"octavo-regress\" tests=\"%zu\" failures=\"%zu\">\n", tests,
            failures);
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        put_suite(out, comparison, &comparison->candidates[i]);
    }
    fputs("</testsuites>\n", out);
}
