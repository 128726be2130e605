// SPDX-License-Identifier: Apache-2.0
//
// Unit tests: each case is a function whose name is a sentence. Output is TAP.
//
//   static void zero_sized_requests_survive(void) { CHECK(...); }
//   int main(void) { RUN(zero_sized_requests_survive); return test_end(); }
//
// A failed CHECK prints where and goes on; the case fails. SKIP(reason) leaves the case.
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_count, test_failed;
static bool test_case_failed;
static const char *test_skip_reason;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);                               \
            test_case_failed = true;                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(got, want)                                                                      \
    do {                                                                                           \
        const char *got_ = (got), *want_ = (want);                                                 \
        if (!got_ || strcmp(got_, want_) != 0) {                                                   \
            printf("# %s:%d: got \"%s\", want \"%s\"\n", __FILE__, __LINE__, got_, want_);         \
            test_case_failed = true;                                                               \
        }                                                                                          \
    } while (0)

// |got - want| <= bound; NaN fails.
#define CHECK_NEAR(got, want, bound)                                                               \
    do {                                                                                           \
        double got_ = (got), want_ = (want);                                                       \
        if (!(fabs(got_ - want_) <= (bound))) {                                                    \
            printf("# %s:%d: got %.10g, want %.10g within %g\n", __FILE__, __LINE__, got_, want_,  \
                   (double)(bound));                                                               \
            test_case_failed = true;                                                               \
        }                                                                                          \
    } while (0)

#define SKIP(reason)                                                                               \
    do {                                                                                           \
        test_skip_reason = (reason);                                                               \
        return;                                                                                    \
    } while (0)

#define RUN(function) test_run(#function, function)

// Whether scripts/test --long runs this: sweeps that take minutes.
static inline bool test_is_long(void)
{
    const char *set = getenv("OCTAVO_LONG");
    return set && *set == '1';
}

static inline void test_run(const char *name, void (*function)(void))
{
    test_case_failed = false;
    test_skip_reason = NULL;
    function();
    test_count++;
    if (test_case_failed) test_failed++;
    printf("%s %d - %s%s%s\n", test_case_failed ? "not ok" : "ok", test_count, name,
           test_skip_reason ? " # SKIP " : "", test_skip_reason ? test_skip_reason : "");
    fflush(stdout);
}

static inline int test_end(void)
{
    printf("1..%d\n", test_count);
    return test_failed != 0;
}
