// SPDX-License-Identifier: Apache-2.0
//
// Which algorithm won for which matrix product, kept in a small JSON file: one GPU and one version
// of the library a file. A damaged one only costs time, as the library checks each algorithm before
// it is used.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "common/status.h"
#include "kernels/cuda/cublaslt.h"

#define OCT_GEMM_PRODUCT_MAX 128

typedef struct oct_gemm_choice {
    unsigned fused;  // what the library does beside the product, a set of oct_gemm_fused
    oct_lt_algorithm algorithm;
} oct_gemm_choice;

typedef enum oct_gemm_fused {
    OCT_GEMM_FUSED_ROW_SCALES = 1, OCT_GEMM_FUSED_BIAS = 2, OCT_GEMM_FUSED_GELU = 4,
} oct_gemm_fused;

typedef struct oct_gemm_maker {  // whose choices these are; borrowed
    const char *device_name;
    int sm, multiprocessors;
    size_t library;              // its version
} oct_gemm_maker;

typedef struct oct_gemm_choices {  // a zeroed one is valid and empty
    oct_arena arena;
    struct oct_gemm_chosen *entries;
    size_t n, room;
    bool is_new;                   // something was put since load or save
} oct_gemm_choices;

// Make the folder of the file and the one above it, which may be the first that this user keeps
// there, and see whether they can be written.
oct_status oct_gemm_choices_prepare(const char *path, oct_err *err);

// Without a file there is nothing to load, and no error. OCT_EFORMAT when it is damaged;
// OCT_EUNSUPPORTED when another library or GPU made it. `choices` is empty then.
oct_status oct_gemm_choices_load(oct_gemm_choices *choices, const char *path,
                                 const oct_gemm_maker *maker, oct_err *err);
oct_status oct_gemm_choices_save(oct_gemm_choices *choices, const char *path,
                                 const oct_gemm_maker *maker, oct_err *err);
void oct_gemm_choices_deinit(oct_gemm_choices *choices);

// NULL when nothing is known; valid until the next put. `product` is a name, shorter than
// OCT_GEMM_PRODUCT_MAX.
const oct_gemm_choice *oct_gemm_choices_find(const oct_gemm_choices *choices, const char *product);
void oct_gemm_choices_put(oct_gemm_choices *choices, const char *product,
                          const oct_gemm_choice *choice);
