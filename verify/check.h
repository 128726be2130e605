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
#include "verify/loader.h"
#include "verify/stored.h"

typedef struct verify_options {
    oct_texts files;
    const char *file;  // the only one of `files`, where one is verified
    const char *sha256, *hf_etag, *lfs_pointer, *manifest, *source, *policy, *calibration;
    const char *write_manifest, *junit;
    double sqnr_db_min;
    bool list, fast, identify, require_sha256, strict;
    oct_general general;
} verify_options;

typedef struct verify_model {  // a checkpoint and its layer table
    oct_source source;
    oct_denoiser denoiser;
} verify_model;

typedef struct verify_job {
    verify_options o;
    verify_model file, source;
    oct_dialects dialects, source_dialects;  // of the file; of its source
    oct_policy policy;
    oct_calibration calibration;
    oct_plan plan;
    bool is_open;      // the file is a checkpoint
    bool scans_sha256; // in the one pass over its data
    bool is_readable;  // and its denoiser is of a known architecture
    bool has_plan;        // by --policy
    bool has_scale_plan;  // that, or one by the recorded policy, for weight scales alone
    float qmax;
    oct_snap snap;
    size_t n_fp8, n_static;  // layers of the file
    bool has_table;          // FILE.xxh3 was there for every file
    oct_digests digests;     // no files with --fast
    oct_loader loader;
    oct_drift drift;
    oct_findings findings;
} verify_job;

// Fill in everything below `o`. What is wrong with the file is a finding; what keeps us from
// answering (an input that is missing or malformed) is an error.
oct_status oct_verify_check(verify_job *job, oct_err *err);

// The same for every file that o.manifest names, and their digests alone.
oct_status oct_verify_check_list(verify_job *job, oct_err *err);

// Of the file's denoiser, or of its T5 where that is all it holds.
oct_dialect oct_verify_dialect(const verify_job *job);

// Whether the answer is yes.
bool oct_verify_holds(const verify_job *job);

void oct_verify_deinit(verify_job *job);
