// SPDX-License-Identifier: Apache-2.0
//
// A verification as JUnit XML.
#include "verify/junit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/escape.h"
#include "common/file.h"

static bool is_failure(const verify_job *job, const oct_finding *finding)
{
    return !finding->is_warning || job->o.strict;
}

// One element for all sentences of a kind: some readers take only the first.
static void put_findings(FILE *out, const verify_job *job, oct_check check, bool failures)
{
    size_t n = 0;
    for (size_t i = 0; i < job->findings.count; i++) {
        const oct_finding *f = &job->findings.items[i];
        if (f->check != check || is_failure(job, f) != failures) continue;
        if (!n++) fputs(failures ? "      <failure message=\"" : "      <system-out>", out);
        if (n > 1) fputs("; ", out);
        oct_put_escaped(out, f->text);
    }
    if (n) fputs(failures ? "\"/>\n" : "</system-out>\n", out);
}

static size_t count_failed(const verify_job *job)
{
    bool has_failed[OCT_CHECK_COUNT] = {false};
    size_t n = 0;
    for (size_t i = 0; i < job->findings.count; i++) {
        const oct_finding *f = &job->findings.items[i];
        has_failed[f->check] |= is_failure(job, f);
    }
    for (int i = 0; i < OCT_CHECK_COUNT; i++) n += has_failed[i];
    return n;
}

static size_t count_checks(const verify_job *job)
{
    size_t n = 0;
    for (int i = 0; i < OCT_CHECK_COUNT; i++) n += job->findings.was_checked[i];
    return n;
}

static void begin_suite(FILE *out, const char *name, size_t tests, size_t failures)
{
    fputs("  <testsuite name=\"", out);
    oct_put_escaped(out, name);
    fprintf(out, "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\">\n", tests, failures);
}

static void begin_case(FILE *out, const char *suite, const char *check)
{
    fputs("    <testcase classname=\"", out);
    oct_put_escaped(out, suite);
    fprintf(out, "\" name=\"%s\">\n", check);
}

static void put_file(FILE *out, const verify_job *job)
{
    begin_suite(out, job->o.file, count_checks(job), count_failed(job));
    for (int check = 0; check < OCT_CHECK_COUNT; check++) {
        if (!job->findings.was_checked[check]) continue;
        begin_case(out, job->o.file, oct_check_name((oct_check)check));
        put_findings(out, job, (oct_check)check, true);
        put_findings(out, job, (oct_check)check, false);
        fputs("    </testcase>\n", out);
    }
    fputs("  </testsuite>\n", out);
}

static void put_list(FILE *out, const verify_job *job)
{
    for (size_t i = 0; i < job->digests.n_files; i++) {
        const oct_digest *file = &job->digests.files[i];
        begin_suite(out, file->path, 1, file->trouble != NULL);
        begin_case(out, file->path, oct_check_name(OCT_CHECK_DIGEST));
        if (file->trouble) {
            fputs("      <failure message=\"", out);
            oct_put_escaped(out, file->trouble);
            fputs("\"/>\n", out);
        }
        fputs("    </testcase>\n  </testsuite>\n", out);
    }
}

oct_status oct_verify_save_junit(const verify_job *job, const char *path, oct_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return oct_fail(err, OCT_ENOMEM, "out of memory for '%s'", path);
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", out);
    fprintf(out, "<testsuites name=\"octavo-verify\" tests=\"%zu\" failures=\"%zu\">\n",
            job->o.file ? count_checks(job) : job->digests.n_files,
            job->o.file ? count_failed(job) : job->findings.n_failures);
    if (job->o.file)
        put_file(out, job);
    else
        put_list(out, job);
    fputs("</testsuites>\n", out);
    const oct_status st = fclose(out) ? oct_fail(err, OCT_ENOMEM, "out of memory for '%s'", path)
                                      : oct_file_write(path, text, bytes, err);
    free(text);
    return st;
}
