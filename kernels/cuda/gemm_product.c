// SPDX-License-Identifier: Apache-2.0
//
// A row-major y = x w^T is, read column by column, y^T = w x^T: so w comes first, transposed, and x
// second, as it is. That is the one order that FP8 products know on most GPUs ("TN").
#include <assert.h>
#include <library_types.h>
#include <stdio.h>

#include "kernels/cuda/gemm_finish.h"
#include "kernels/cuda/gemm_internal.h"

#define OUTER_VEC_VERSION 120900

// ---- What a call wants.

// What beside the product the call wants.
static unsigned wanted(const oct_gemm_cuda_call *call)
{
    return (call->w.row_scales ? OCT_GEMM_FUSED_ROW_SCALES : 0) |
           (call->bias.data ? OCT_GEMM_FUSED_BIAS : 0) | (call->has_gelu ? OCT_GEMM_FUSED_GELU : 0);
}

// And how much of that the library may take, by its rules; it must still find a kernel. Scales,
// bias and GELU follow each other, so what comes after something left out is left out too.
static unsigned fusible(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call)
{
    const unsigned all = wanted(call);
    const oct_dtype bias = oct_gemm_cuda_bias_dtype(call->x.dtype, call->y.dtype);
    const bool has_outer_vec = call->x.dtype == OCT_F8_E4M3 && gemm->params.sm == 90 &&
                               gemm->library.version() >= OUTER_VEC_VERSION;

    if (call->w.row_scales && !has_outer_vec) return 0;
    if (call->bias.data && call->bias.dtype != bias) return all & OCT_GEMM_FUSED_ROW_SCALES;
    return all;
}

// Ways to divide a call between the library and our own pass.
unsigned oct_gemm_way(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call, int way)
{
    const unsigned most = fusible(gemm, call);
    return way == 0 ? most : way == 1 ? most & ~OCT_GEMM_FUSED_GELU : 0;
}

void oct_gemm_name(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call,
                   char name[OCT_GEMM_PRODUCT_MAX])
{
    const oct_dtype x = call->x.dtype;

    snprintf(name, OCT_GEMM_PRODUCT_MAX, "%zux%zux%zu %s to %s%s%s%s%s%s%s", call->m, call->n,
             call->k, oct_dtype_name(x), oct_dtype_name(call->y.dtype),
             call->w.row_scales ? " row_scales" : "", call->bias.data ? " bias " : "",
             call->bias.data ? oct_dtype_name(call->bias.dtype) : "", call->has_gelu ? " gelu" : "",
             x == OCT_F32 && gemm->params.is_tf32 ? " tf32" : "",
             x == OCT_F8_E4M3 && gemm->params.is_fast_fp8 ? " fast" : "");
}

// ---- Workspace: the library's, then x's scale once per row, then widened weights.

static size_t round_up(size_t bytes)
{
    return (bytes + OCT_GEMM_WORKSPACE_ALIGNMENT - 1) / OCT_GEMM_WORKSPACE_ALIGNMENT *
           OCT_GEMM_WORKSPACE_ALIGNMENT;
}

static size_t scales_bytes(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call)
{
    const bool is_outer = fusible(gemm, call) & OCT_GEMM_FUSED_ROW_SCALES;
    return is_outer ? round_up(call->m * sizeof(float)) : 0;
}

size_t oct_gemm_cuda_bytes(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call)
{
    const bool is_widened = call->w.dtype != call->x.dtype;
    const size_t widened = call->n * call->k * (oct_dtype_bits(call->x.dtype) / 8);

    return OCT_GEMM_LIBRARY_BYTES + scales_bytes(gemm, call) + (is_widened ? round_up(widened) : 0);
}

static float *scales_of(const oct_gemm_launch *l)
{
    return (float *)(void *)((char *)l->workspace + OCT_GEMM_LIBRARY_BYTES);
}

static void *widened_of(const oct_gemm_cuda *gemm, const oct_gemm_launch *l)
{
    return (char *)l->workspace + OCT_GEMM_LIBRARY_BYTES + scales_bytes(gemm, l->call);
}

// ---- Plans.

static int library_dtype(oct_dtype dtype)
{
    assert(dtype == OCT_F32 || oct_dtype_is_float16(dtype) || dtype == OCT_F8_E4M3);
    if (dtype == OCT_F32) return CUDA_R_32F;
    if (dtype == OCT_F8_E4M3) return CUDA_R_8F_E4M3;
    return dtype == OCT_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

void oct_gemm_plan_deinit(const oct_gemm_cuda *gemm, oct_gemm_plan *p)
{
    if (p->desc) gemm->library.desc_destroy(p->desc);
    if (p->w) gemm->library.layout_destroy(p->w);
    if (p->x) gemm->library.layout_destroy(p->x);
    if (p->y) gemm->library.layout_destroy(p->y);
    *p = (oct_gemm_plan){0};
}

static int set_int(const oct_gemm_cuda *gemm, void *desc, int attribute, int32_t value)
{
    return gemm->library.desc_set(desc, attribute, &value, sizeof value);
}

static int set_pointer(const oct_gemm_cuda *gemm, void *desc, int attribute, const void *value)
{
    return gemm->library.desc_set(desc, attribute, &value, sizeof value);
}

static int32_t epilogue(unsigned fused)
{
    const bool has_bias = fused & OCT_GEMM_FUSED_BIAS;
    if (fused & OCT_GEMM_FUSED_GELU)
        return has_bias ? OCT_LT_EPILOGUE_GELU_BIAS : OCT_LT_EPILOGUE_GELU;
    return has_bias ? OCT_LT_EPILOGUE_BIAS : OCT_LT_EPILOGUE_DEFAULT;
}

static int describe_product(const oct_gemm_cuda *gemm, void *desc, const oct_gemm_cuda_call *call,
                            unsigned fused)
{
    int status = set_int(gemm, desc, OCT_LT_DESC_TRANSA, OCT_LT_OP_T);
    if (!status) status = set_int(gemm, desc, OCT_LT_DESC_TRANSB, OCT_LT_OP_N);
    if (!status) status = set_int(gemm, desc, OCT_LT_DESC_EPILOGUE, epilogue(fused));
    if (!status && fused & OCT_GEMM_FUSED_BIAS)
        status = set_int(gemm, desc, OCT_LT_DESC_BIAS_DATA_TYPE, library_dtype(call->bias.dtype));
    if (!status && fused & OCT_GEMM_FUSED_ROW_SCALES) {
        status = set_int(gemm, desc, OCT_LT_DESC_A_SCALE_MODE, OCT_LT_SCALE_OUTER_VEC_32F);
        if (!status)
            status = set_int(gemm, desc, OCT_LT_DESC_B_SCALE_MODE, OCT_LT_SCALE_OUTER_VEC_32F);
    }
    if (!status && call->x.dtype == OCT_F8_E4M3 && gemm->params.is_fast_fp8) {
        const int8_t is_fast = 1;
        status = gemm->library.desc_set(desc, OCT_LT_DESC_FAST_ACCUM, &is_fast, sizeof is_fast);
    }
    return status;
}

// The algorithm is still to be chosen.
oct_status oct_gemm_plan_init(const oct_gemm_cuda *gemm, oct_gemm_plan *p,
                              const oct_gemm_cuda_call *call, unsigned fused, oct_err *err)
{
    const oct_cublaslt *library = &gemm->library;
    const int x_dtype = library_dtype(call->x.dtype), y_dtype = library_dtype(call->y.dtype);
    const bool is_tf32 = call->x.dtype == OCT_F32 && gemm->params.is_tf32;
    const size_t m = call->m, n = call->n, k = call->k;

    *p = (oct_gemm_plan){.choice.fused = fused};
    oct_gemm_name(gemm, call, p->product);
    int status = library->desc_create(
        &p->desc, is_tf32 ? OCT_LT_COMPUTE_32F_FAST_TF32 : OCT_LT_COMPUTE_32F, CUDA_R_32F);
    if (!status) status = library->layout_create(&p->w, x_dtype, k, n, (int64_t)k);
    if (!status) status = library->layout_create(&p->x, x_dtype, k, m, (int64_t)k);
    if (!status) status = library->layout_create(&p->y, y_dtype, n, m, (int64_t)n);
    if (!status) status = describe_product(gemm, p->desc, call, fused);
    if (!status) return OCT_OK;
    oct_gemm_plan_deinit(gemm, p);
    return oct_cublaslt_fail(library, status, "a description", err);
}

// ---- Launches.

// One description serves all layers of a shape: pointers are set before each launch.
int oct_gemm_set_pointers(const oct_gemm_cuda *gemm, const oct_gemm_plan *p,
                          const oct_gemm_launch *l)
{
    const oct_gemm_cuda_call *call = l->call;
    const unsigned fused = p->choice.fused;
    const bool is_outer = fused & OCT_GEMM_FUSED_ROW_SCALES;
    int status = 0;

    if (fused & OCT_GEMM_FUSED_BIAS)
        status = set_pointer(gemm, p->desc, OCT_LT_DESC_BIAS_POINTER, call->bias.data);
    if (status || l->path != OCT_GEMM_FP8) return status;
    if (is_outer)
        status = set_pointer(gemm, p->desc, OCT_LT_DESC_A_SCALE_POINTER, call->w.row_scales);
    if (status) return status;
    return set_pointer(gemm, p->desc, OCT_LT_DESC_B_SCALE_POINTER,
                       is_outer ? scales_of(l) : call->x.scale);
}

static const void *widen_weights(const oct_gemm_cuda *gemm, const oct_gemm_launch *l)
{
    const oct_gemm_cuda_call *call = l->call;
    const oct_dtype x = call->x.dtype, w = call->w.dtype;
    const size_t count = call->n * call->k;
    const oct_codes codes = {.q = call->w.data, .dtype = w, .n = count};

    if (w == x) return call->w.data;
    void *wide = widened_of(gemm, l);
    if (oct_dtype_bits(w) == 8)
        oct_decode_cuda(wide, x, &codes, l->stream);
    else
        oct_convert_cuda((oct_sink){.data = wide, .dtype = x}, w, call->w.data, count, l->stream);
    return wide;
}

static void finish(const oct_gemm_plan *p, const oct_gemm_launch *l)
{
    const oct_gemm_cuda_call *call = l->call;
    const unsigned left = wanted(call) & ~p->choice.fused;

    if (!left) return;
    const oct_gemm_finish_args args = {
        .y = call->y.data,
        .dtype = call->y.dtype,
        .row_scales = left & OCT_GEMM_FUSED_ROW_SCALES ? call->w.row_scales : NULL,
        .bias = left & OCT_GEMM_FUSED_BIAS ? call->bias.data : NULL,
        .bias_dtype = call->bias.dtype,
        .has_gelu = left & OCT_GEMM_FUSED_GELU,
        .rows = call->m,
        .cols = call->n,
    };
    oct_gemm_finish_cuda(&args, l->stream);
}

int oct_gemm_multiply(const oct_gemm_cuda *gemm, const oct_gemm_plan *p, const oct_gemm_launch *l)
{
    const oct_gemm_cuda_call *call = l->call;
    const float zero = 0;

    if (p->choice.fused & OCT_GEMM_FUSED_ROW_SCALES)
        oct_fill_cuda(scales_of(l), call->x.scale, call->m, l->stream);
    const void *w = widen_weights(gemm, l);
    int status = oct_gemm_set_pointers(gemm, p, l);
    if (!status)
        status = gemm->library.matmul(gemm->handle, p->desc, &call->w.scale, w, p->w, call->x.data,
                                      p->x, &zero, call->y.data, p->y, call->y.data, p->y,
                                      &p->choice.algorithm, l->workspace, OCT_GEMM_LIBRARY_BYTES,
                                      l->stream);
    if (!status) finish(p, l);
    return status;
}
