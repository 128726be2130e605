// SPDX-License-Identifier: Apache-2.0
//
// The kernel check: every implementation of every operation against its reference.
//
// An operation's check is called once per level (c, avx2, avx512). It makes inputs from patterns,
// calls `want` and `got` and compares. Level c is held against an integer-only model that shares no
// code with it; the others against level c. Inputs end at a page that cannot be read; outputs lie
// between guard bytes.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

#define CHECK_COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct check {
    const char *operation, *level;
    const oct_kernels *want, *got;
    uint64_t state;  // of the random numbers: seed and operation decide it, not the level
    char what[160];  // the case at hand, for reports
    unsigned cases, mismatches;
    bool is_bench;
} check;

typedef enum check_pattern {
    CHECK_UNIFORM,
    CHECK_OUTLIERS,   // mostly small, some a thousand times larger
    CHECK_ZEROS,      // of both signs
    CHECK_SUBNORMAL,  // in E4M3 at this scale, or in the input's own type
    CHECK_TIES,       // scale times E4M3's values and midpoints, and their neighbours
    CHECK_OVERFLOW,   // around scale * 448 and the input type's largest
    CHECK_NONFINITE,  // NaN and infinities among uniform numbers
    CHECK_ANY_BITS,
    CHECK_PATTERNS
} check_pattern;

extern const char *const check_pattern_name[CHECK_PATTERNS];
extern const size_t check_sizes[];  // ragged around 8, 16, 32, 64 and 128 lanes; ends with SIZE_MAX
extern const oct_kernels check_reference;  // the integer-only model

// Begin a case; the text appears with each of its mismatches.
__attribute__((format(printf, 2, 3))) void check_case(check *t, const char *format, ...);

uint32_t check_random(check *t);
float check_random_scale(check *t);  // finite and > 0: powers of two, likely ones, extremes

// `bytes` of input that end `gap` bytes before an unreadable page. The next call reuses them.
void *check_input(check *t, size_t bytes, size_t gap);

// n numbers of a pattern; `scale` is what they will be divided by.
void check_fill(check *t, check_pattern pattern, oct_dtype dtype, void *x, size_t n, float scale);

typedef struct check_output {
    void *want, *got;
    size_t bytes;
} check_output;

// Two outputs `shift` bytes off alignment. The next call reuses them.
check_output check_outputs(check *t, size_t bytes, size_t shift);

// Compare bytes or floats (the same bits, but for the quiet bit of a NaN), and the guard bytes. `x`
// and its dtype serve the report.
void check_same_bytes(check *t, check_output out, oct_dtype dtype, const void *x);
void check_same_floats(check *t, check_output out, oct_dtype dtype, const void *x);
void check_same_bits(check *t, uint32_t got, uint32_t want);

// With --bench, time `call` in cache and from memory, beside a copy, and print a line. x holds
// numbers of `dtype`; y has room for `output_bytes_each` bytes per number.
typedef void check_call(const oct_kernels *kernels, oct_dtype dtype, void *y, const void *x,
                        size_t n);
void check_bench(check *t, oct_dtype dtype, size_t output_bytes_each, check_call *call);

// The checks, by the type that the operation reads.
void check_absmax(check *t, oct_dtype dtype);
void check_encode(check *t, oct_dtype dtype);
void check_encode_e5m2(check *t, oct_dtype dtype);
void check_encode_mx(check *t, oct_dtype dtype);
void check_decode(check *t, oct_dtype dtype);
void check_widen(check *t, oct_dtype dtype);
