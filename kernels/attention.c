// SPDX-License-Identifier: Apache-2.0
//
// One piece of work is a tile of queries of one head. It goes over tiles of keys and keeps, per
// query, the largest score so far, the sum of exponentials and the weighted sum of values; when the
// largest score grows, the sums are scaled down to match (online softmax). BLAS is serial inside a
// parallel region, so pieces do not depend on the thread count.
#include "kernels/ops.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/exp.h"
#include "kernels/kernels.h"
#include "kernels/scratch.h"

#define TILE_Q ((size_t)64)
#define TILE_K ((size_t)256)

typedef struct tile {  // one piece of work
    const oct_attention_args *args;
    size_t head;
    size_t q0, n_q;       // queries
    size_t k0, n_k;       // the keys at hand
    float *scores;        // [TILE_Q][TILE_K], then the exponentials
    float *sums;          // [TILE_Q][head_dim], of values
    float max[TILE_Q];    // of the scores so far
    float total[TILE_Q];  // of the exponentials so far
} tile;

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void multiply_queries_keys(tile *t)
{
    const oct_attention_args *a = t->args;
    const float *q = a->q + t->q0 * a->q_stride + t->head * a->head_dim;
    const float *k = a->k + t->k0 * a->k_stride + t->head * a->head_dim;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)t->n_q, (int)t->n_k, (int)a->head_dim,
                a->scale, q, (int)a->q_stride, k, (int)a->k_stride, 0.0f, t->scores, (int)TILE_K);
}

static void add_bias(tile *t, size_t row)
{
    const oct_attention_args *a = t->args;
    const float *bias = a->bias + (t->head * a->tokens_q + t->q0 + row) * a->tokens_k + t->k0;
    float *scores = t->scores + row * TILE_K;

    for (size_t j = 0; j < t->n_k; j++) scores[j] += bias[j];
}

// Turn one row of scores into exponentials and bring the row's sums to the new maximum.
static void soften(tile *t, size_t row)
{
    const oct_attention_args *a = t->args;
    float *scores = t->scores + row * TILE_K, *sums = t->sums + row * a->head_dim;
    size_t n_seen = t->n_k;
    float max = t->max[row], total = 0;

    if (a->is_causal) n_seen = smaller(n_seen, t->q0 + row + 1 - smaller(t->k0, t->q0 + row + 1));
#pragma omp simd reduction(max : max)
    for (size_t j = 0; j < n_seen; j++) max = scores[j] > max ? scores[j] : max;
    const float origin = max == -INFINITY ? 0.0f : max;  // a row masked so far by its bias

#pragma omp simd reduction(+ : total)
    for (size_t j = 0; j < n_seen; j++) {
        scores[j] = oct_exp(scores[j] - origin);
        total += scores[j];
    }
    for (size_t j = n_seen; j < t->n_k; j++) scores[j] = 0;

    const float shrink = oct_exp(t->max[row] - origin);
    for (size_t c = 0; c < a->head_dim; c++) sums[c] *= shrink;
    t->total[row] = t->total[row] * shrink + total;
    t->max[row] = max;
}

// What FP8 products make of the weights: 2^-8 keeps all above 2^-18 of the largest one.
static void round_weights(tile *t, size_t row)
{
    float *weights = t->scores + row * TILE_K;
    uint8_t codes[TILE_K];

    oct_kernels_get()->encode_f32(codes, weights, t->n_k, 0x1p-8f);
    oct_kernels_get()->decode_e4m3(weights, codes, t->n_k, 0x1p-8f);
}

static void add_values(tile *t)
{
    const oct_attention_args *a = t->args;
    const float *v = a->v + t->k0 * a->v_stride + t->head * a->head_dim;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)t->n_q, (int)a->head_dim,
                (int)t->n_k, 1.0f, t->scores, (int)TILE_K, v, (int)a->v_stride, 1.0f, t->sums,
                (int)a->head_dim);
}

static void attend(tile *t)
{
    const oct_attention_args *a = t->args;
    const size_t keys = a->is_causal ? smaller(a->tokens_k, t->q0 + t->n_q) : a->tokens_k;

    for (size_t row = 0; row < t->n_q; row++) {
        t->max[row] = -INFINITY;
        t->total[row] = 0;
    }
    for (size_t i = 0; i < t->n_q * a->head_dim; i++) t->sums[i] = 0;

    for (t->k0 = 0; t->k0 < keys; t->k0 += TILE_K) {
        t->n_k = smaller(keys - t->k0, TILE_K);
        multiply_queries_keys(t);
        for (size_t row = 0; row < t->n_q; row++) {
            if (a->bias) add_bias(t, row);
            soften(t, row);
            if (a->has_e4m3_weights) round_weights(t, row);
        }
        add_values(t);
    }

    for (size_t row = 0; row < t->n_q; row++) {
        float *out = a->out + (t->q0 + row) * a->out_stride + t->head * a->head_dim;
        const float *sums = t->sums + row * a->head_dim;
        for (size_t c = 0; c < a->head_dim; c++) out[c] = sums[c] / t->total[row];
    }
}

void oct_attention(const oct_attention_args *args)
{
    const size_t tiles = (args->tokens_q + TILE_Q - 1) / TILE_Q;

    assert(args->tokens_k > 0 && args->head_dim > 0 && args->q_stride <= INT_MAX &&
           args->k_stride <= INT_MAX && args->v_stride <= INT_MAX);
#pragma omp parallel
    {
        tile t = {.args = args};
        t.scores = oct_scratch_alloc(TILE_Q * TILE_K);
        t.sums = oct_scratch_alloc(TILE_Q * args->head_dim);
#pragma omp for schedule(dynamic)
        for (size_t piece = 0; piece < args->heads * tiles; piece++) {
            t.head = piece / tiles;
            t.q0 = piece % tiles * TILE_Q;
            t.n_q = smaller(args->tokens_q - t.q0, TILE_Q);
            attend(&t);
        }
        free(t.sums);
        free(t.scores);
    }
}
