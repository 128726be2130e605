// SPDX-License-Identifier: Apache-2.0
//
// What verify found: sentences, each of one check. No failure among them: the file holds.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"

typedef enum oct_check {  // in the order of the report
    OCT_CHECK_DIGEST,     // bytes are those that were published
    OCT_CHECK_FORMAT,     // a well-formed checkpoint of a known architecture
    OCT_CHECK_METADATA,   // what the header says of the file is true
    OCT_CHECK_CONTRACT,   // tensors, types, scales as policy and calibration say
    OCT_CHECK_LOADER,     // ComfyUI computes what the file means
    OCT_CHECK_DRIFT,      // no further from the source than FP8 must be
    OCT_CHECK_COUNT
} oct_check;

const char *oct_check_name(oct_check check);  // "digest"

typedef struct oct_finding {
    oct_check check;
    bool is_warning;  // worth knowing, but the file holds
    const char *text;
} oct_finding;

typedef struct oct_findings {
    oct_arena arena;
    oct_finding *items;
    size_t count, capacity;
    size_t n_failures;                  // of `items`; the rest are warnings
    oct_check check;                    // what is being checked
    bool was_checked[OCT_CHECK_COUNT];  // with or without findings
} oct_findings;

// What is added from now on belongs to `check`.
void oct_findings_begin(oct_findings *findings, oct_check check);

__attribute__((format(printf, 2, 3))) void oct_findings_add(oct_findings *findings,
                                                            const char *format, ...);
__attribute__((format(printf, 2, 3))) void oct_findings_warn(oct_findings *findings,
                                                             const char *format, ...);

// Order by check; within one, as found.
void oct_findings_sort(oct_findings *findings);

void oct_findings_deinit(oct_findings *findings);
