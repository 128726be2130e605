// SPDX-License-Identifier: Apache-2.0
//
// One line on a terminal that shows how far long work is:
//
//   calibrating  [=========>            ]  412/1024 prompts  3.1/s  eta 3:17
//
// Shown only when stderr is a terminal, after half a second, at most six times a second, fitted to
// the width, erased at the end. A NULL progress is silent, so callers need not ask. Safe from
// several threads.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct oct_progress {
    const char *label, *unit;  // borrowed until end; unit "B" shows sizes and rates in GB
    uint64_t total, done;
    double started_s, drawn_s;
    bool is_shown;             // a line stands on the terminal
    bool is_enabled;
    int width;                 // 0: ask the terminal
} oct_progress;

// Whether any progress is shown in this process: false with --no-progress, --quiet, and whatever is
// asked for, where stderr is no terminal or a dumb one.
void oct_progress_enable(bool enabled);

void oct_progress_begin(oct_progress *progress, const char *label, uint64_t total,
                        const char *unit);
void oct_progress_add(oct_progress *progress, uint64_t done);
void oct_progress_end(oct_progress *progress);

// Erase the line that stands, if any, before something else is printed; the next add draws it
// again. Async-signal-safe.
void oct_progress_hide(void);

// The line itself, for tests: time is passed in. Returns the length written.
int oct_progress_line(const oct_progress *progress, double now_s, int width, char *out,
                      unsigned long bytes);
