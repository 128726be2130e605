// SPDX-License-Identifier: Apache-2.0
//
// junit.xml, in the shape that build servers read: testsuites > testsuite > testcase.
#include <math.h>

#include "common/escape.h"
#include "regress/report.h"

static void put_property(FILE *out, const char *name, double value)
{
    if (isfinite(value)) {
        fprintf(out, "        <property name=\"%s\" value=\"%.9g\"/>\n", name, value);
    } else {
        fprintf(out, "        <property name=\"%s\" value=\"inf\"/>\n", name);
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

static void put_case(FILE *out, const oct_compared *candidate, const oct_job *job,
                     const oct_outcome *outcome)
{
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
    fputs("      </properties>\n", out);
    put_failures(out, &outcome->verdict);
    fputs("    </testcase>\n", out);
}

static void put_suite(FILE *out, const oct_comparison *comparison, const oct_compared *candidate)
{
    fputs("  <testsuite name=\"", out);
    oct_put_escaped(out, candidate->facts.name);
    fprintf(out, "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\">\n", comparison->jobs->count,
            candidate->summary.n_failed);
    for (size_t i = 0; i < comparison->jobs->count; i++) {
        put_case(out, candidate, &comparison->jobs->items[i], &candidate->outcomes[i]);
    }
    fputs("  </testsuite>\n", out);
}

void oct_report_junit(FILE *out, const oct_comparison *comparison)
{
    size_t failures = 0;
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        failures += comparison->candidates[i].summary.n_failed;
    }
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", out);
    fprintf(out, "<testsuites name=\"octavo-regress\" tests=\"%zu\" failures=\"%zu\">\n",
            comparison->n_candidates * comparison->jobs->count, failures);
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        put_suite(out, comparison, &comparison->candidates[i]);
    }
    fputs("</testsuites>\n", out);
}
