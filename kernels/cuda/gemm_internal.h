// SPDX-License-Identifier: Apache-2.0
//
// What the parts of gemm.h share: gemm_product.c describes and launches one product, gemm_race.c
// chooses how, gemm.c has the rest.
#pragma once

#include "common/arena.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_choices.h"

#define OCT_GEMM_LIBRARY_BYTES ((size_t)32 << 20)  // of workspace; as its other callers give it
#define OCT_GEMM_WORKSPACE_ALIGNMENT 256
#define OCT_GEMM_POINTER_ALIGNMENT 16

typedef struct oct_gemm_plan {  // a zeroed one is valid and empty
    char product[OCT_GEMM_PRODUCT_MAX];
    oct_gemm_choice choice;
    void *desc, *w, *x, *y;     // layouts of the last three
} oct_gemm_plan;

struct oct_gemm_cuda {
    oct_gemm_cuda_params params;  // texts are in the arena
    oct_cublaslt library;
    void *handle, *preference;
    char name[40];
    oct_arena arena;              // holds this struct too
    oct_gemm_plan *plans;
    size_t n_plans, plans_room;
    oct_gemm_choices choices;
};

typedef struct oct_gemm_launch {  // a call, and where it goes
    const oct_gemm_cuda_call *call;
    oct_gemm_path path;
    void *workspace;
    oct_stream stream;
} oct_gemm_launch;

// A name of everything that matters for the choice of an algorithm.
void oct_gemm_name(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call,
                   char name[OCT_GEMM_PRODUCT_MAX]);

// Ways to divide a call between the library and our own pass: sets of oct_gemm_fused, the library
// doing most first. Ways may be alike.
#define OCT_GEMM_WAYS 3
unsigned oct_gemm_way(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call, int way);

// Describe a call that is done in that way; the algorithm is still to be chosen.
oct_status oct_gemm_plan_init(const oct_gemm_cuda *gemm, oct_gemm_plan *plan,
                              const oct_gemm_cuda_call *call, unsigned fused, oct_err *err);
void oct_gemm_plan_deinit(const oct_gemm_cuda *gemm, oct_gemm_plan *plan);

// Name the buffers of a launch in the description, which serves all layers of a shape.
int oct_gemm_set_pointers(const oct_gemm_cuda *gemm, const oct_gemm_plan *plan,
                          const oct_gemm_launch *launch);
int oct_gemm_multiply(const oct_gemm_cuda *gemm, const oct_gemm_plan *plan,
                      const oct_gemm_launch *launch);  // sets them, and launches everything

// How to do a call: as the file of plans says, if the library agrees, else what wins. The algorithm
// has run once: its kernel is loaded.
oct_status oct_gemm_choose(oct_gemm_cuda *gemm, const oct_gemm_launch *launch,
                           oct_gemm_choice *choice, oct_err *err);

// What candidates may want and do: partial sums in binary32 only. Needs no GPU.
int oct_gemm_make_preference(oct_gemm_cuda *gemm);
