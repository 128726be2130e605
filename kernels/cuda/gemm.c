// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm.h"

#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "kernels/cuda/gemm_internal.h"

#define FP8_MULTIPLE 16

bool oct_gemm_cuda_has_fp8(const oct_gemm_cuda *gemm, size_t n, size_t k)
{
    return gemm->params.sm >= 89 && n % FP8_MULTIPLE == 0 && k % FP8_MULTIPLE == 0;
}

oct_dtype oct_gemm_cuda_bias_dtype(oct_dtype x, oct_dtype y)
{
    return x == OCT_F8_E4M3 && y == OCT_F32 ? OCT_BF16 : y;
}

static bool find_path(const oct_gemm_cuda_call *call, oct_gemm_path *path)
{
    const oct_dtype x = call->x.dtype, w = call->w.dtype, y = call->y.dtype;
    const bool is_fp8 = w == OCT_F8_E4M3 || w == OCT_F8_E5M2;

    if (x == OCT_F8_E4M3 && w == OCT_F8_E4M3)
        *path = OCT_GEMM_FP8;
    else if (is_fp8)
        *path = OCT_GEMM_FP8_WIDENED;
    else
        *path = x == OCT_F32 ? OCT_GEMM_F32 : OCT_GEMM_16BIT;
    if (x == OCT_F32) return y == OCT_F32 && (w == x || oct_dtype_is_float16(w) || is_fp8);
    if (oct_dtype_is_float16(x)) return (y == x || y == OCT_F32) && (w == x || is_fp8);
    return *path == OCT_GEMM_FP8 && (oct_dtype_is_float16(y) || y == OCT_F32);
}

static oct_status classify(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call,
                           oct_gemm_path *path, oct_err *err)
{
    assert(call->m > 0 && call->n > 0 && call->k > 0);
    assert(call->m <= INT_MAX && call->n <= INT_MAX && call->k <= INT_MAX);
    if (!find_path(call, path))
        return oct_fail(err, OCT_EUNSUPPORTED, "no product of %s and %s into %s",
                        oct_dtype_name(call->x.dtype), oct_dtype_name(call->w.dtype),
                        oct_dtype_name(call->y.dtype));
    if (*path == OCT_GEMM_FP8 && !oct_gemm_cuda_has_fp8(gemm, call->n, call->k))
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "no FP8 product of [%zu][%zu] weights on sm_%d: wants sm_89 and multiples "
                        "of %d",
                        call->n, call->k, gemm->params.sm, FP8_MULTIPLE);
    return OCT_OK;
}

static const oct_gemm_plan *find_plan(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call)
{
    char name[OCT_GEMM_PRODUCT_MAX];

    oct_gemm_name(gemm, call, name);
    for (size_t i = 0; i < gemm->n_plans; i++) {
        if (strcmp(gemm->plans[i].product, name) == 0) return &gemm->plans[i];
    }
    return NULL;
}

static bool is_aligned(const void *pointer, size_t alignment)
{
    return (uintptr_t)pointer % alignment == 0;
}

static void check_pointers(const oct_gemm_launch *l)
{
    const oct_gemm_cuda_call *call = l->call;

    assert(call->x.data && call->w.data && call->y.data);
    assert(is_aligned(call->x.data, OCT_GEMM_POINTER_ALIGNMENT));
    assert(is_aligned(call->w.data, OCT_GEMM_POINTER_ALIGNMENT));
    assert(is_aligned(call->y.data, OCT_GEMM_POINTER_ALIGNMENT));
    assert(is_aligned(call->bias.data, OCT_GEMM_POINTER_ALIGNMENT));
    assert(is_aligned(l->workspace, OCT_GEMM_WORKSPACE_ALIGNMENT));
}

oct_status oct_gemm_cuda_plan(oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call, void *workspace,
                              oct_stream stream, oct_err *err)
{
    oct_gemm_launch l = {.call = call, .workspace = workspace, .stream = stream};
    oct_gemm_choice choice = {0};
    oct_gemm_plan p = {0};

    oct_status st = classify(gemm, call, &l.path, err);
    if (st || find_plan(gemm, call)) return st;
    check_pointers(&l);
    st = oct_gemm_choose(gemm, &l, &choice, err);
    if (!st) st = oct_gemm_plan_init(gemm, &p, call, choice.fused, err);
    if (st) return st;
    p.choice = choice;
    gemm->plans = oct_arena_grow(&gemm->arena, gemm->plans, gemm->n_plans, &gemm->plans_room,
                                 sizeof *gemm->plans);
    gemm->plans[gemm->n_plans++] = p;
    return OCT_OK;
}

oct_status oct_gemm_cuda_run(oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call, void *workspace,
                             oct_stream stream, oct_gemm_path *path, oct_err *err)
{
    oct_gemm_launch l = {.call = call, .workspace = workspace, .stream = stream};

    const oct_status st = classify(gemm, call, &l.path, err);
    if (st) return st;
    check_pointers(&l);
    const oct_gemm_plan *p = find_plan(gemm, call);
    if (!p) {
        char name[OCT_GEMM_PRODUCT_MAX];
        oct_gemm_name(gemm, call, name);
        return oct_fail(err, OCT_EDEVICE, "no plan for the product %s", name);
    }
    if (path) *path = l.path;
    return oct_cublaslt_fail(&gemm->library, oct_gemm_multiply(gemm, p, &l), p->product, err);
}

// ---- The file of plans.

// "NVIDIA H200" is "nvidia-h200" in the name of a file.
static void name_device(char *slug, size_t bytes, const char *device)
{
    size_t n = 0;
    for (; *device && n + 1 < bytes; device++) {
        const bool is_plain = isascii(*device) && isalnum((unsigned char)*device);
        if (!is_plain && (n == 0 || slug[n - 1] == '-')) continue;
        slug[n++] = is_plain ? (char)tolower((unsigned char)*device) : '-';
    }
    if (n > 0 && slug[n - 1] == '-') n--;
    slug[n] = '\0';
}

bool oct_gemm_cuda_cache_path(char *path, size_t bytes, const oct_gemm_cuda_params *params)
{
    const char *plans = getenv("OCTAVO_PLANS"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME"), *folder = "";
    char slug[64];

    if (plans && strcmp(plans, "off") == 0) return false;
    if (!cache || cache[0] != '/') {  // a relative one must be ignored, says its specification
        cache = home;
        folder = "/.cache";
    }
    if (!cache || cache[0] != '/') return false;
    name_device(slug, sizeof slug, params->device_name);
    const int length = snprintf(path, bytes, "%s%s/octavo/gemm-%s-sm%d-%d.json", cache, folder,
                                slug, params->sm, params->multiprocessors);
    return length > 0 && (size_t)length < bytes;
}

static oct_gemm_maker maker_of(const oct_gemm_cuda *gemm)
{
    return (oct_gemm_maker){.device_name = gemm->params.device_name,
                            .sm = gemm->params.sm,
                            .multiprocessors = gemm->params.multiprocessors,
                            .library = gemm->library.version()};
}

// What cannot be written is not measured either.
static void open_cache(oct_gemm_cuda *gemm)
{
    oct_err err = {0};
    const oct_gemm_maker maker = maker_of(gemm);

    if (!gemm->params.cache) return;
    if (oct_gemm_choices_prepare(gemm->params.cache, &err)) {
        oct_note("plans of matrix products are not kept: %s", err.text);
        gemm->params.cache = NULL;
        return;
    }
    if (oct_gemm_choices_load(&gemm->choices, gemm->params.cache, &maker, &err))
        oct_note("plans of matrix products are made anew: %s", err.text);
}

void oct_gemm_cuda_save(oct_gemm_cuda *gemm)
{
    oct_err err = {0};
    const oct_gemm_maker maker = maker_of(gemm);

    if (!gemm->params.cache || !gemm->choices.is_new) return;
    if (oct_gemm_choices_save(&gemm->choices, gemm->params.cache, &maker, &err))
        oct_note("plans of matrix products are not kept: %s", err.text);
}

// ---- Life.

int oct_gemm_make_preference(oct_gemm_cuda *gemm)
{
    const oct_cublaslt *library = &gemm->library;
    const uint64_t bytes = OCT_GEMM_LIBRARY_BYTES;
    const uint32_t reduction = OCT_LT_REDUCTION_COMPUTE_TYPE,
                   alignment = OCT_GEMM_POINTER_ALIGNMENT;

    int status = library->preference_create(&gemm->preference);
    if (!status)
        status = library->preference_set(gemm->preference, OCT_LT_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                         sizeof bytes);
    if (!status)
        status = library->preference_set(gemm->preference, OCT_LT_PREF_REDUCTION_SCHEME_MASK,
                                         &reduction, sizeof reduction);
    for (int i = 0; i < 4 && !status; i++)
        status = library->preference_set(gemm->preference, OCT_LT_PREF_MIN_ALIGNMENT_A_BYTES + i,
                                         &alignment, sizeof alignment);
    return status;
}

static void name_library(oct_gemm_cuda *gemm)
{
    const size_t version = gemm->library.version();
    snprintf(gemm->name, sizeof gemm->name, "cuBLASLt %zu.%zu.%zu", version / 10000,
             version / 100 % 100, version % 100);
}

oct_status oct_gemm_cuda_open(oct_gemm_cuda **gemm, const oct_gemm_cuda_params *params,
                              oct_err *err)
{
    oct_arena arena = {0};
    oct_gemm_cuda *made = oct_arena_alloc(&arena, sizeof *made);

    *gemm = NULL;
    made->params = *params;
    made->params.device_name = oct_arena_copy(&arena, params->device_name);
    made->params.cache = params->cache ? oct_arena_copy(&arena, params->cache) : NULL;
    made->arena = arena;
    oct_status st = oct_cublaslt_load(&made->library, params->library, err);
    if (st) goto out;
    name_library(made);
    st = oct_cublaslt_fail(&made->library, made->library.create(&made->handle), "a handle", err);
    if (st) {
        made->handle = NULL;
        goto out;
    }
    st = oct_cublaslt_fail(&made->library, oct_gemm_make_preference(made), "a preference", err);
    if (st) goto out;
    open_cache(made);

out:
    if (st)
        oct_gemm_cuda_close(made);
    else
        *gemm = made;
    return st;
}

const char *oct_gemm_cuda_library(const oct_gemm_cuda *gemm)
{
    return gemm->name;
}

void oct_gemm_cuda_close(oct_gemm_cuda *gemm)
{
    if (!gemm) return;
    if (gemm->handle) oct_gemm_cuda_save(gemm);
    for (size_t i = 0; i < gemm->n_plans; i++) oct_gemm_plan_deinit(gemm, &gemm->plans[i]);
    oct_gemm_choices_deinit(&gemm->choices);
    if (gemm->preference) gemm->library.preference_destroy(gemm->preference);
    if (gemm->handle) gemm->library.destroy(gemm->handle);
    oct_arena arena = gemm->arena;  // holds gemm itself
    oct_arena_deinit(&arena);
}
