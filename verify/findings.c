// SPDX-License-Identifier: Apache-2.0
//
// What verify found.
#include "verify/findings.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const check_names[OCT_CHECK_COUNT] = {
    "digest", "format", "metadata", "contract", "loader", "drift",
};

const char *oct_check_name(oct_check check)
{
    assert(check < OCT_CHECK_COUNT);
    return check_names[check];
}

void oct_findings_begin(oct_findings *findings, oct_check check)
{
    findings->check = check;
    findings->was_checked[check] = true;
}

__attribute__((format(printf, 3, 0))) static void add(oct_findings *findings, bool is_warning,
                                                      const char *format, va_list args)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    findings->items = oct_arena_grow(&findings->arena, findings->items, findings->count,
                                     &findings->capacity, sizeof *findings->items);
    findings->items[findings->count++] = (oct_finding){
        .check = findings->check,
        .is_warning = is_warning,
        .text = oct_arena_copy(&findings->arena, text),
    };
    findings->n_failures += !is_warning;
}

void oct_findings_add(oct_findings *findings, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(findings, false, format, args);
    va_end(args);
}

void oct_findings_warn(oct_findings *findings, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(findings, true, format, args);
    va_end(args);
}

void oct_findings_sort(oct_findings *findings)
{
    oct_finding *sorted = oct_arena_array(&findings->arena, findings->count + 1, sizeof *sorted);
    size_t n = 0;
    for (int check = 0; check < OCT_CHECK_COUNT; check++) {
        for (size_t i = 0; i < findings->count; i++) {
            if ((int)findings->items[i].check == check) sorted[n++] = findings->items[i];
        }
    }
    findings->items = sorted;
    findings->capacity = findings->count + 1;
}

void oct_findings_deinit(oct_findings *findings)
{
    oct_arena_deinit(&findings->arena);
    *findings = (oct_findings){0};
}
