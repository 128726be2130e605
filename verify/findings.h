// SPDX-License-Identifier: Apache-2.0
//
// What verify found wrong: sentences in the order found. No finding: the file holds.
#pragma once

#include <stddef.h>

#include "common/arena.h"

typedef struct oct_findings {
    oct_arena arena;
    const char **texts;
    size_t count, capacity;
} oct_findings;

__attribute__((format(printf, 2, 3))) void oct_findings_add(oct_findings *findings,
                                                            const char *format, ...);
void oct_findings_deinit(oct_findings *findings);
