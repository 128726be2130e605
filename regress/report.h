// SPDX-License-Identifier: Apache-2.0
//
// What a comparison becomes: JSON for programs, HTML for people, JUnit XML for build servers. Equal
// comparisons give equal bytes: no times, no absolute paths.
#pragma once

#include <cjson/cJSON.h>
#include <stdio.h>

#include "common/status.h"
#include "regress/comparison.h"

// report.json. "pass", "reference", "run", "gate", "prompts" and "candidates", each with a
// "summary" and its "outcomes". An infinite PSNR is null beside "identical": true. The caller
// frees.
cJSON *oct_report_json(const oct_comparison *comparison);

// Names, sizes, summary and verdict of each candidate: the array that --json shows.
cJSON *oct_report_candidates(const oct_comparison *comparison);

// Members of one pair's metrics.
void oct_report_add_metrics(cJSON *object, const oct_metrics *metrics);

// report.html: one file without network use; pictures are relative files.
void oct_report_html(FILE *out, const oct_comparison *comparison);

// junit.xml: a suite per candidate; a case per prompt with a property per metric, and one per score
// from outside for its mean.
void oct_report_junit(FILE *out, const oct_comparison *comparison);

// report.json, report.html and junit.xml in `folder`, each written atomically.
oct_status oct_report_save(const oct_comparison *comparison, const char *folder, oct_err *err);

// The summary as a table for a terminal.
void oct_report_table(FILE *out, const oct_comparison *comparison);
