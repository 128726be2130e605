// SPDX-License-Identifier: Apache-2.0
//
// What verify found wrong.
#include "verify/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void oct_findings_add(oct_findings *findings, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    if (findings->count == findings->capacity) {
        const size_t capacity = findings->capacity ? 2 * findings->capacity : 16;
        const char **texts = oct_arena_array(&findings->arena, capacity, sizeof *texts);
        if (findings->count) memcpy(texts, findings->texts, findings->count * sizeof *texts);
        findings->texts = texts;
        findings->capacity = capacity;
    }
    findings->texts[findings->count++] = oct_arena_copy(&findings->arena, text);
}

void oct_findings_deinit(oct_findings *findings)
{
    oct_arena_deinit(&findings->arena);
    *findings = (oct_findings){0};
}
