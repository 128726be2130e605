// SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt as we use it: the functions that we call, found at run time, and the numbers that we
// pass. A build needs neither the library nor its header; tests/cuda/test_cublaslt.c compares with
// both where they are. Names after the prefixes are the library's own.
//
// Matrices are column-major there. Functions return an oct_lt_status.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "kernels/cuda/cuda_kernels.h"

typedef enum oct_lt_status {
    OCT_LT_SUCCESS = 0,
    OCT_LT_NOT_INITIALIZED = 1,
    OCT_LT_INVALID_VALUE = 7,
    OCT_LT_NOT_SUPPORTED = 15,
} oct_lt_status;

enum { OCT_LT_COMPUTE_32F = 68, OCT_LT_COMPUTE_32F_FAST_TF32 = 77 };
enum { OCT_LT_OP_N = 0, OCT_LT_OP_T = 1 };
enum { OCT_LT_SCALE_SCALAR_32F = 0, OCT_LT_SCALE_OUTER_VEC_32F = 3 };
enum { OCT_LT_REDUCTION_COMPUTE_TYPE = 2 };
enum {  // GELU is the tanh form
    OCT_LT_EPILOGUE_DEFAULT = 1,
    OCT_LT_EPILOGUE_BIAS = 4,
    OCT_LT_EPILOGUE_GELU = 32,
    OCT_LT_EPILOGUE_GELU_BIAS = 36,
};

typedef enum oct_lt_desc_attribute {  // 4 bytes unless said
    OCT_LT_DESC_TRANSA = 3,
    OCT_LT_DESC_TRANSB = 4,
    OCT_LT_DESC_EPILOGUE = 7,
    OCT_LT_DESC_BIAS_POINTER = 8,      // a pointer
    OCT_LT_DESC_A_SCALE_POINTER = 17,  // a pointer; NULL: 1
    OCT_LT_DESC_B_SCALE_POINTER = 18,  // a pointer; NULL: 1
    OCT_LT_DESC_FAST_ACCUM = 25,       // 1 byte
    OCT_LT_DESC_BIAS_DATA_TYPE = 26,
    OCT_LT_DESC_A_SCALE_MODE = 31,     // since 12.9
    OCT_LT_DESC_B_SCALE_MODE = 32,
} oct_lt_desc_attribute;

typedef enum oct_lt_preference_attribute {  // 4 bytes unless said
    OCT_LT_PREF_MAX_WORKSPACE_BYTES = 1,    // 8 bytes
    OCT_LT_PREF_REDUCTION_SCHEME_MASK = 3,
    OCT_LT_PREF_MIN_ALIGNMENT_A_BYTES = 5,  // and 6, 7, 8 of B, C, D
} oct_lt_preference_attribute;

// Opaque, and may be stored for later use with the same version of the library.
typedef struct oct_lt_algorithm {
    uint64_t data[8];
} oct_lt_algorithm;

typedef struct oct_lt_candidate {
    oct_lt_algorithm algorithm;
    size_t workspace_bytes;
    int status;  // of this candidate
    float waves;
    int reserved[4];
} oct_lt_candidate;


typedef struct oct_cublaslt {
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    size_t (*version)(void);  // 130100 is 13.1.0
    const char *(*status_name)(int status);

    int (*layout_create)(void **layout, int type, uint64_t rows, uint64_t cols, int64_t stride);
    int (*layout_destroy)(void *layout);
    int (*desc_create)(void **desc, int compute_type, int scale_type);
    int (*desc_destroy)(void *desc);
    int (*desc_set)(void *desc, int attribute, const void *value, size_t bytes);
    int (*preference_create)(void **preference);
    int (*preference_destroy)(void *preference);
    int (*preference_set)(void *preference, int attribute, const void *value, size_t bytes);

    // The candidates for a product, the most promising first.
    int (*heuristic)(void *handle, void *desc, void *a, void *b, void *c, void *d,
                     void *preference, int wanted, oct_lt_candidate *candidates, int *found);
    // Whether an algorithm goes with a product on this device, and its workspace.
    int (*check)(void *handle, void *desc, void *a, void *b, void *c, void *d,
                 const oct_lt_algorithm *algorithm, oct_lt_candidate *candidate);
    // d = alpha * op(a) op(b) + beta * c, then the epilogue; alpha and beta are the host's.
    int (*matmul)(void *handle, void *desc, const float *alpha, const void *a, void *a_layout,
                  const void *b, void *b_layout, const float *beta, const void *c, void *c_layout,
                  void *d, void *d_layout, const oct_lt_algorithm *algorithm, void *workspace,
                  size_t workspace_bytes, oct_stream stream);
} oct_cublaslt;

// Load `path`, NULL for libcublasLt.so.13 or .12, and fill the table. OCT_EUNSUPPORTED when the
// library is absent or too old. It stays loaded, as CUDA libraries do not like to be unloaded.
oct_status oct_cublaslt_load(oct_cublaslt *library, const char *path, oct_err *err);

// OCT_OK for status 0, else OCT_EDEVICE and "cuBLASLt: <what>: <its words> (status N)".
oct_status oct_cublaslt_fail(const oct_cublaslt *library, int status, const char *what,
                             oct_err *err);
