// SPDX-License-Identifier: Apache-2.0
//
// One verification: what is asked, what is found.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/cli.h"
#include "common/status.h"
#include "ptq/calibration.h"
#include "ptq/dialect.h"
#include "ptq/layers.h"
#include "ptq/plan.h"
#include "ptq/policy.h"
#include "ptq/source.h"
#include "verify/digests.h"
#include "verify/drift.h"
#include "verify/findings.h"

typedef struct verify_options {
    const char *file, *sha256, *manifest, *source, *policy, *calibration;
    double sqnr_db_min;
    bool list;
    oct_general general;
} verify_options;

typedef struct verify_model {  // a checkpoint and its layer table
    oct_source source;
    oct_denoiser denoiser;
} verify_model;

typedef struct verify_job {
    verify_options o;
    verify_model file, source;
    oct_dialect dialect;
    oct_policy policy;
    oct_calibration calibration;
    oct_plan plan;
    bool is_readable;  // the file is a checkpoint of a known architecture
    bool has_plan;
    float qmax;
    size_t n_fp8, n_static;  // layers of the file
    oct_digests digests;
    oct_drift drift;
    oct_findings findings;
} verify_job;

// Fill in everything below `o`. What is wrong with the file is a finding; what keeps us from
// answering (an input that is missing or malformed) is an error.
oct_status oct_verify_check(verify_job *job, oct_err *err);

void oct_verify_deinit(verify_job *job);
