// SPDX-License-Identifier: Apache-2.0
//
// A cuBLASLt of our own for tests: a library with the functions that kernels/cuda/cublaslt.h names,
// over the emulated CUDA runtime. It knows what the documentation allows and answers everything
// else with an error, so that a wrong description fails here and not only on a GPU:
//
//   descriptions    unknown attributes, wrong sizes, FP8 that is not TN, types that do not go
//                   together, strides below a column or not of 16 bytes for FP8, scale modes that
//                   the architecture lacks, a bias of another type than the table's
//   launches        misaligned pointers, scale pointers where there is no FP8, a workspace that is
//                   too small, algorithms that are not those of this product, beta that is not 0
//
// Products are computed in binary64 when their turn on the stream comes, and rounded once, in y.
// Every product has FAKE_ALGORITHMS candidates; the numbers of all are the same.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_ALGORITHMS 4

typedef struct fake_cublaslt {
    int sm;                 // of the device: 90 when zero
    size_t version;         // 130100 when zero
    bool refuses_handle;
    bool refuses_gelu;      // no candidates with GELU
    bool refuses_all;       // no candidates
    unsigned refused_runs;  // set of algorithms that are refused when they are launched
    float ms[FAKE_ALGORITHMS];  // what a launch takes on the emulated clock
    float gelu_ms;              // and GELU in the epilogue more

    // What was seen.
    size_t handles, objects;  // that are not destroyed
    size_t heuristics, launches, checks;
    unsigned algorithm;       // of the last launch
    int epilogue, compute_type;
    uint32_t reduction_mask;  // of the last heuristic
    bool was_fast;
} fake_cublaslt;

// The function of this name in the library gives the state, which tests change and read.
typedef fake_cublaslt *fake_cublaslt_state_fn(void);
#define FAKE_CUBLASLT_STATE "fake_cublaslt_state"
