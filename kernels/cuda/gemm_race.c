// SPDX-License-Identifier: Apache-2.0
//
// The choice of an algorithm.
#include <cuda_runtime_api.h>

#include "kernels/cuda/gemm_internal.h"

#define CANDIDATES 8
#define ROUNDS 3
#define LAUNCHES 3  // per round

static bool is_way(const oct_gemm_cuda *gemm, const oct_gemm_cuda_call *call, unsigned fused)
{
    for (int way = 0; way < OCT_GEMM_WAYS; way++) {
        if (oct_gemm_way(gemm, call, way) == fused) return true;
    }
    return false;
}

typedef struct stopwatch {
    cudaEvent_t begin, end;
} stopwatch;

static oct_status device_status(cudaError_t error, const char *product, oct_err *err)
{
    if (!error) return OCT_OK;
    return oct_fail(err, OCT_EDEVICE, "product %s: %s", product, cudaGetErrorString(error));
}

static void stop(stopwatch *watch)
{
    if (watch->begin) cudaEventDestroy(watch->begin);
    if (watch->end) cudaEventDestroy(watch->end);
    *watch = (stopwatch){0};
}

static cudaError_t measure_round(const oct_gemm_cuda *gemm, const oct_gemm_plan *p,
                                 const oct_gemm_launch *l, stopwatch *watch, float *ms)
{
    cudaError_t error = cudaEventRecord(watch->begin, l->stream);
    for (int i = 0; i < LAUNCHES && !error; i++)
        if (oct_gemm_multiply(gemm, p, l)) error = cudaErrorLaunchFailure;
    if (!error) error = cudaEventRecord(watch->end, l->stream);
    if (!error) error = cudaEventSynchronize(watch->end);
    if (!error) error = cudaEventElapsedTime(ms, watch->begin, watch->end);
    return error;
}

// The shortest of a few rounds: what disturbs a round only makes it longer.
static oct_status measure(const oct_gemm_cuda *gemm, const oct_gemm_plan *p,
                          const oct_gemm_launch *l, float *ms, oct_err *err)
{
    stopwatch watch = {0};

    cudaError_t error = cudaEventCreate(&watch.begin);
    if (!error) error = cudaEventCreate(&watch.end);
    for (int round = 0; round < ROUNDS && !error; round++) {
        float now = 0;
        error = measure_round(gemm, p, l, &watch, &now);
        if (round == 0 || now < *ms) *ms = now;
    }
    stop(&watch);
    return device_status(error, p->product, err);
}

// A heuristic's candidate may still be refused when it is launched. A first launch also loads the
// kernel, which a graph capture would not allow.
static oct_status try_plan(const oct_gemm_cuda *gemm, const oct_gemm_plan *p,
                           const oct_gemm_launch *l, bool *works, oct_err *err)
{
    *works = oct_gemm_multiply(gemm, p, l) == 0;
    cudaError_t error = cudaGetLastError();
    if (!error) error = cudaStreamSynchronize(l->stream);
    return device_status(error, p->product, err);
}

typedef struct race {
    bool has_winner;
    float ms;
    oct_gemm_choice winner;
} race;

static oct_status enter(const oct_gemm_cuda *gemm, race *r, const oct_gemm_plan *p,
                        const oct_gemm_launch *l, oct_err *err)
{
    bool works = false;
    float ms = 0;

    oct_status st = try_plan(gemm, p, l, &works, err);
    if (st || !works) return st;
    if (gemm->params.cache) st = measure(gemm, p, l, &ms, err);
    if (st || (r->has_winner && ms >= r->ms)) return st;
    r->has_winner = true;
    r->ms = ms;
    r->winner = p->choice;
    return OCT_OK;
}

static bool is_decided(const oct_gemm_cuda *gemm, const race *r)
{
    return r->has_winner && !gemm->params.cache;
}

// All candidates for one way to divide the work between the library and our own pass. That it knows
// none is no error.
static oct_status enter_candidates(const oct_gemm_cuda *gemm, race *r, unsigned fused,
                                   const oct_gemm_launch *l, oct_err *err)
{
    oct_lt_candidate candidates[CANDIDATES] = {0};
    oct_gemm_plan p = {0};
    int n = 0;

    oct_status st = oct_gemm_plan_init(gemm, &p, l->call, fused, err);
    if (st) return st;
    st = oct_cublaslt_fail(&gemm->library, oct_gemm_set_pointers(gemm, &p, l), p.product, err);
    if (!st && gemm->library.heuristic(gemm->handle, p.desc, p.w, p.x, p.y, p.y, gemm->preference,
                                       CANDIDATES, candidates, &n))
        n = 0;
    for (int i = 0; i < n && !st && !is_decided(gemm, r); i++) {
        if (candidates[i].status || candidates[i].workspace_bytes > OCT_GEMM_LIBRARY_BYTES)
            continue;
        p.choice.algorithm = candidates[i].algorithm;
        st = enter(gemm, r, &p, l, err);
    }
    oct_gemm_plan_deinit(gemm, &p);
    return st;
}

// GELU in the epilogue is not always worth it, so it races against our own; otherwise what the
// library can do it does faster.
static oct_status choose(const oct_gemm_cuda *gemm, const oct_gemm_launch *l,
                         oct_gemm_choice *choice, oct_err *err)
{
    race r = {0};
    oct_status st = OCT_OK;

    for (int way = 0; way < OCT_GEMM_WAYS && !st; way++) {
        if (r.has_winner && (way == OCT_GEMM_WAYS - 1 || is_decided(gemm, &r))) break;
        if (way > 0 && oct_gemm_way(gemm, l->call, way) == oct_gemm_way(gemm, l->call, way - 1))
            continue;
        st = enter_candidates(gemm, &r, oct_gemm_way(gemm, l->call, way), l, err);
    }
    if (st) return st;
    if (!r.has_winner) {
        char name[OCT_GEMM_PRODUCT_MAX];
        oct_gemm_name(gemm, l->call, name);
        return oct_fail(err, OCT_EUNSUPPORTED, "%s has no algorithm for the product %s on '%s'",
                        gemm->name, name, gemm->params.device_name);
    }
    *choice = r.winner;
    return OCT_OK;
}

// An algorithm from the file, if the library still takes it.
static oct_status recall(const oct_gemm_cuda *gemm, const oct_gemm_launch *l,
                         oct_gemm_choice *choice, bool *works, oct_err *err)
{
    char name[OCT_GEMM_PRODUCT_MAX];
    oct_lt_candidate checked = {0};
    oct_gemm_plan p = {0};

    *works = false;
    oct_gemm_name(gemm, l->call, name);
    const oct_gemm_choice *kept = oct_gemm_choices_find(&gemm->choices, name);
    if (!kept || !is_way(gemm, l->call, kept->fused)) return OCT_OK;
    oct_status st = oct_gemm_plan_init(gemm, &p, l->call, kept->fused, err);
    if (st) return st;
    p.choice = *choice = *kept;
    int status = oct_gemm_set_pointers(gemm, &p, l);
    if (!status)
        status = gemm->library.check(gemm->handle, p.desc, p.w, p.x, p.y, p.y, &p.choice.algorithm,
                                     &checked);
    if (!status && checked.workspace_bytes <= OCT_GEMM_LIBRARY_BYTES)
        st = try_plan(gemm, &p, l, works, err);
    oct_gemm_plan_deinit(gemm, &p);
    return st;
}

oct_status oct_gemm_choose(oct_gemm_cuda *gemm, const oct_gemm_launch *l, oct_gemm_choice *choice,
                           oct_err *err)
{
    char name[OCT_GEMM_PRODUCT_MAX];
    bool is_known = false;

    oct_status st = recall(gemm, l, choice, &is_known, err);
    if (st || is_known) return st;
    st = choose(gemm, l, choice, err);
    oct_gemm_name(gemm, l->call, name);
    if (!st && gemm->params.cache) oct_gemm_choices_put(&gemm->choices, name, choice);
    return st;
}
