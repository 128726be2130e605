// SPDX-License-Identifier: Apache-2.0
//
// Matrix products on a GPU, by cuBLASLt, which is looked for when the program runs:
//
//   y[m][n] = gelu(x.scale * w.scale * w.row_scales[n] * (x[m][k] w[n][k]^T) + bias[n])
//
// Sums are in binary32, and scales apply to the sum. Matrices are row-major and dense, as in a
// checkpoint; nothing is transposed or copied. All pointers but `oct_gemm_cuda_call` itself are to
// device memory, aligned to 16 bytes.
//
//   x            w                    y               path
//   F32          F32                  F32             OCT_GEMM_F32, exact products unless is_tf32
//   F32          F16, BF16            F32             OCT_GEMM_F32, w widened first
//   F16 / BF16   the same             the same, F32   OCT_GEMM_16BIT
//   F8_E4M3      F8_E4M3              F16, BF16, F32  OCT_GEMM_FP8: SM 8.9 and above
//   F32, 16 bit  F8_E4M3, F8_E5M2     as x, F32       OCT_GEMM_FP8_WIDENED: any GPU; codes are
//                                                     widened, exactly, into the workspace
//
// What the library cannot do in one call on this GPU is done by a pass of our own over y behind it
// (oct_gemm_finish_cuda), and the caller need not know:
//
//   row_scales   OCT_GEMM_FP8 on SM 9.0 has them (outer vectors); elsewhere the pass. y holds the
//                product without them before: with a 16-bit y let w.scale be the largest scale of a
//                row and w.row_scales at most 1, and nothing overflows that would not otherwise.
//   bias         of the type that oct_gemm_cuda_bias_dtype() names; another type costs the pass
//   gelu         the tanh form; FP8 on SM 8.9, and F32, cost the pass
//
// A call is planned once, with cudaEvents over the library's candidates, and then launched as often
// as one likes: launches neither allocate nor wait, and may be captured in a graph. Candidates add
// partial sums in binary32 and in a fixed order. Which one wins is a matter of measurement, and it
// decides the last bits of a result: so choices are kept in a file, and where there is none nothing
// is measured and the library's first candidate is taken. One GPU gives one result either way.
//
// One thread at a time uses an oct_gemm_cuda.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "common/tensor.h"
#include "kernels/cuda/cuda_kernels.h"

typedef struct oct_gemm_cuda oct_gemm_cuda;

typedef enum oct_gemm_path {
    OCT_GEMM_F32, OCT_GEMM_16BIT, OCT_GEMM_FP8, OCT_GEMM_FP8_WIDENED,
} oct_gemm_path;

typedef struct oct_gemm_cuda_params {
    const char *device_name;  // "NVIDIA H200"
    int sm;                   // compute capability: 90 for 9.0
    int multiprocessors;      // plans of a part of a GPU are not those of a whole one
    bool is_tf32;             // F32 products may round their factors to TF32; off: they are exact
    bool is_fast_fp8;         // keep FP8 sums in the tensor core's own registers, which hold fewer
                              // bits than binary32: faster on SM 9.0, and off unless one asks,
                              // since accuracy is what we promise
    const char *cache;        // file of plans: oct_gemm_cuda_cache_path(), or NULL: no file
    const char *library;      // path of cuBLASLt; NULL: libcublasLt.so.13, then .12
} oct_gemm_cuda_params;

// The file of plans of this GPU, "$XDG_CACHE_HOME/octavo/gemm-nvidia-h200-sm90-132.json" (without
// that variable under ~/.cache), written to `path`. False where there is no such place, or where
// OCTAVO_PLANS=off.
bool oct_gemm_cuda_cache_path(char *path, size_t bytes, const oct_gemm_cuda_params *params);

// Load the library, make a handle on the current device, read the file of plans. OCT_EUNSUPPORTED
// when there is no library; OCT_EDEVICE when it fails on this device. A file of plans that is
// damaged, or of another library or GPU, is ignored with a note.
oct_status oct_gemm_cuda_open(oct_gemm_cuda **gemm, const oct_gemm_cuda_params *params,
                              oct_err *err);
void oct_gemm_cuda_close(oct_gemm_cuda *gemm);  // saves first; NULL is fine

// Write the file of plans, if there are new ones; a note when that is impossible.
void oct_gemm_cuda_save(oct_gemm_cuda *gemm);

const char *oct_gemm_cuda_library(const oct_gemm_cuda *gemm);  // "cuBLASLt 13.1.0"

// Whether x and w of a layer [n][k] may both be F8_E4M3: on this GPU, and n and k multiples of 16.
bool oct_gemm_cuda_has_fp8(const oct_gemm_cuda *gemm, size_t n, size_t k);

// The type of a bias that costs no pass of its own: y's, but BF16 when x is F8_E4M3 and y is F32.
oct_dtype oct_gemm_cuda_bias_dtype(oct_dtype x, oct_dtype y);

typedef struct oct_gemm_cuda_call {
    size_t m, n, k;               // > 0, m < 2^31
    struct {
        oct_dtype dtype;
        const void *data;         // [m][k]
        const float *scale;       // of F8_E4M3; NULL: 1
    } x;
    struct {
        oct_dtype dtype;
        const void *data;         // [n][k]
        float scale;              // a host's number: 1 where there is none
        const float *row_scales;  // [n] or NULL: 1
    } w;
    struct {
        oct_dtype dtype;          // F32, F16, BF16
        const void *data;         // [n] or NULL: 0
    } bias;
    struct {
        oct_dtype dtype;
        void *data;               // [m][n], overlaps no input
    } y;
    bool has_gelu;
} oct_gemm_cuda_call;

// Bytes of workspace that the call wants; no pointer of it is followed, only NULL or not matters.
size_t oct_gemm_cuda_bytes(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call);

// Plan what has this shape, these types and this set of pointers; nothing happens if that is
// planned already. Runs the product a few times and waits: not in a graph capture. y is garbage
// afterwards. OCT_EUNSUPPORTED when types do not go together or no candidate works.
// workspace: oct_gemm_cuda_bytes(), aligned to 256 bytes; each stream has its own.
oct_status oct_gemm_cuda_plan(oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call, void *workspace,
                              oct_stream stream, oct_err *err);

// Launch a call that is planned. `path` gets what was launched, or is NULL. OCT_EDEVICE when the
// library refuses, or when there is no plan.
oct_status oct_gemm_cuda_run(oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call, void *workspace,
                             oct_stream stream, oct_gemm_path *path, oct_err *err);
