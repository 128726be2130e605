// SPDX-License-Identifier: Apache-2.0
//
// What can be seen of NVIDIA's own libraries without a GPU, where they are installed: that our
// numbers are those of the header, and that each attribute that we set is taken.
#include <library_types.h>

#include "kernels/cuda/conv.h"
#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/gemm_internal.h"
#include "tests/test.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)

SAME(OCT_LT_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED);
SAME(OCT_LT_INVALID_VALUE, CUBLAS_STATUS_INVALID_VALUE);
SAME(OCT_LT_NOT_INITIALIZED, CUBLAS_STATUS_NOT_INITIALIZED);
SAME(OCT_LT_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(OCT_LT_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_32F_FAST_TF32);
SAME(OCT_LT_OP_N, CUBLAS_OP_N);
SAME(OCT_LT_OP_T, CUBLAS_OP_T);
SAME(OCT_LT_REDUCTION_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
SAME(OCT_LT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_DEFAULT);
SAME(OCT_LT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS);
SAME(OCT_LT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU);
SAME(OCT_LT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_BIAS);
SAME(OCT_LT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(OCT_LT_DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(OCT_LT_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(OCT_LT_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(OCT_LT_DESC_A_SCALE_POINTER, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
SAME(OCT_LT_DESC_B_SCALE_POINTER, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
SAME(OCT_LT_DESC_FAST_ACCUM, CUBLASLT_MATMUL_DESC_FAST_ACCUM);
SAME(OCT_LT_DESC_BIAS_DATA_TYPE, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
SAME(OCT_LT_PREF_MAX_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(OCT_LT_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME(OCT_LT_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(OCT_LT_PREF_MIN_ALIGNMENT_A_BYTES + 3, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(sizeof(oct_lt_algorithm), sizeof(cublasLtMatmulAlgo_t));
SAME(sizeof(oct_lt_candidate), sizeof(cublasLtMatmulHeuristicResult_t));
SAME(offsetof(oct_lt_candidate, workspace_bytes),
     offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
SAME(offsetof(oct_lt_candidate, status), offsetof(cublasLtMatmulHeuristicResult_t, state));
#if CUBLAS_VERSION >= 120900
SAME(OCT_LT_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_A_SCALE_MODE);
SAME(OCT_LT_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
SAME(OCT_LT_SCALE_SCALAR_32F, CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
SAME(OCT_LT_SCALE_OUTER_VEC_32F, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
#endif
#endif

// Every description that a call can lead to, with pointers that nobody follows.
static void cublaslt_takes_every_attribute(void)
{
    static const struct {
        oct_dtype x, y;
    } types[] = {{OCT_F32, OCT_F32},    {OCT_F16, OCT_F16},     {OCT_BF16, OCT_BF16},
                 {OCT_F16, OCT_F32},    {OCT_F8_E4M3, OCT_F16}, {OCT_F8_E4M3, OCT_BF16},
                 {OCT_F8_E4M3, OCT_F32}};
    oct_gemm_cuda gemm = {.params = {.sm = 90, .is_tf32 = true, .is_fast_fp8 = true}};
    static _Alignas(256) char buffer[256];
    const void *data = buffer;
    oct_err err = {0};

    if (oct_cublaslt_load(&gemm.library, NULL, &err)) SKIP("no cuBLASLt here");
    printf("# cuBLASLt %zu\n", gemm.library.version());
    CHECK(!oct_gemm_make_preference(&gemm));
    for (size_t i = 0; i < sizeof types / sizeof *types * 4; i++) {
        const oct_dtype x = types[i / 4].x, y = types[i / 4].y;
        const oct_gemm_cuda_call call = {.m = 3,
                                         .n = 32,
                                         .k = 64,
                                         .x = {x, data, data},
                                         .w = {x, data, 1, i & 1 && x == OCT_F8_E4M3 ? data : NULL},
                                         .bias = {oct_gemm_cuda_bias_dtype(x, y), data},
                                         .y = {y, buffer},
                                         .has_gelu = i & 2};
        const oct_gemm_launch launch = {.call = &call,
                                        .workspace = buffer,
                                        .path = x == OCT_F8_E4M3 ? OCT_GEMM_FP8 : OCT_GEMM_16BIT};
        oct_gemm_plan plan = {0};

        CHECK(!oct_gemm_plan_init(&gemm, &plan, &call, oct_gemm_way(&gemm, &call, 0), &err));
        CHECK(!oct_gemm_set_pointers(&gemm, &plan, &launch));
        CHECK_TEXT(err.text, "");
        oct_gemm_plan_deinit(&gemm, &plan);
    }
    gemm.library.preference_destroy(gemm.preference);
}

// cuDNN loads its engines when an operation is finalized, and these want the driver.
static void cudnn_takes_our_convolutions(void)
{
    static const oct_conv_cuda_call calls[] = {
        {.dtype = OCT_F16, .in = 16, .out = 512, .height = 64, .width = 64, .kernel = 3},
        {.dtype = OCT_BF16, .in = 512, .out = 16, .height = 64, .width = 64, .kernel = 1},
        {.dtype = OCT_F16,
         .in = 128,
         .out = 128,
         .height = 64,
         .width = 64,
         .kernel = 3,
         .is_down2 = true},
    };
    oct_cudnn cudnn = {0};
    oct_err err = {0};

    if (oct_cudnn_load(&cudnn, NULL, &err)) SKIP("no cuDNN here");
    printf("# cuDNN %zu\n", cudnn.version);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const oct_status st = oct_conv_cuda_describe(&cudnn, &calls[i], &err);
        if (st && strstr(err.text, "SUBLIBRARY_LOADING_FAILED")) SKIP("cuDNN wants the driver");
        CHECK(!st);
        if (st) printf("# %s\n", err.text);
    }
    oct_cudnn_close(&cudnn);
}

int main(void)
{
    RUN(cublaslt_takes_every_attribute);
    RUN(cudnn_takes_our_convolutions);
    return test_end();
}
