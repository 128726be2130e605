// SPDX-License-Identifier: Apache-2.0
//
// How functions fail: a status for programs, a sentence for people.
//
// A function that can fail returns oct_status and takes `oct_err *err` last. Whoever fails writes
// the sentence with oct_fail(); whoever knows more puts its view in front with oct_wrap(). Only
// main() prints. `err` may be NULL where nobody will read it.
#pragma once

typedef enum oct_status {
    OCT_OK = 0,
    OCT_EIO,           // the system refused: read, write, open, rename
    OCT_EFORMAT,       // the bytes of a file break a rule
    OCT_EUNSUPPORTED,  // well-formed, but not something this program does
    OCT_ENOMEM,        // no memory for a size that came from a file
    OCT_EDEVICE,       // the accelerator failed
    OCT_EUSAGE,        // the command line is wrong: exit 2
} oct_status;

typedef struct oct_err {
    char text[2048];  // lower case, no full stop, names in quotes; cut when too long
} oct_err;

// Write the sentence and return `status`, so that it can end a function: return oct_fail(...).
__attribute__((format(printf, 3, 4))) oct_status oct_fail(oct_err *err, oct_status status,
                                                          const char *format, ...);

// Put "<format>: " in front of the sentence that is there and return `status`.
__attribute__((format(printf, 3, 4))) oct_status oct_wrap(oct_err *err, oct_status status,
                                                          const char *format, ...);

// The exit code of a program that ends with `status`: 0, 2 for OCT_EUSAGE, else 3.
int oct_exit_code(oct_status status);
