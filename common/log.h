// SPDX-License-Identifier: Apache-2.0
//
// What tools tell people on stderr besides the error that ends them. Nothing goes to stdout. Each
// call prints one line, made safe for terminals by oct_printable().
#pragma once

typedef enum oct_log_level { OCT_LOG_QUIET, OCT_LOG_NORMAL, OCT_LOG_VERBOSE } oct_log_level;

// "name" appears as "name: text". Set once by main(); libraries only call the functions below.
void oct_log_init(const char *tool, oct_log_level level);

__attribute__((format(printf, 1, 2))) void oct_note(const char *format, ...);     // not when quiet
__attribute__((format(printf, 1, 2))) void oct_verbose(const char *format, ...);  // with --verbose
__attribute__((format(printf, 1, 2))) void oct_warn(const char *format, ...);     // always

// Copy `text` for a terminal into `out`: control characters, DEL, invalid UTF-8 and bidirectional
// overrides become \xNN or \u{NNNN}; cut with "..." when it does not fit. Returns `out`.
const char *oct_printable(const char *text, char *out, unsigned long bytes);
