// SPDX-License-Identifier: Apache-2.0
//
// T5 encoder: pre-norm, unscaled attention with one relative bias for all blocks, gated GELU.
#include "runtime/t5.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "kernels/ops.h"
#include "runtime/linear.h"

#define NORM_EPS 1e-6f
#define BUCKETS 32
#define DISTANCE_MAX 128
#define LAYERS_MAX 1024

typedef struct block {
    float *norm1, *norm2;  // [width]
    oct_linear q, k, v, o, wi_0, wi_1, wo;
} block;

typedef struct oct_t5_weights {
    oct_linear tokens;  // [vocabulary][width], a table
    float *distances;   // [BUCKETS][heads]
    block *blocks;
    float *final_norm;  // [width]
} weights;

// --- loading ---

static oct_status load_norm(const oct_source *source, const char *name, size_t width,
                            float **values, oct_err *err)
{
    size_t count = 0;

    const oct_status st = oct_load_f32(source, OCT_T5, name, values, &count, err);
    if (!st && count != width)
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' of t5 has %zu numbers, not %zu", name, count,
                        width);
    return st;
}

// out, in: the shape that it must have; 0: any.
static oct_status load_linear(const oct_source *source, const char *name, oct_linear *linear,
                              size_t out, size_t in, oct_err *err)
{
    const oct_status st = oct_linear_load(linear, source, OCT_T5, name, err);
    if (st) return st;
    if ((out && linear->out != out) || (in && linear->in != in))
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' of t5 is [%zu, %zu], not [%zu, %zu]",
                        linear->name, linear->out, linear->in, out ? out : linear->out,
                        in ? in : linear->in);
    return OCT_OK;
}

static oct_status load_block(const oct_t5 *t5, const oct_source *source, size_t index, block *b,
                             oct_arena *names, oct_err *err)
{
    const size_t width = t5->width, inner = t5->heads * t5->head_dim;
    const char *base = oct_arena_print(names, "encoder.block.%zu.layer", index);
    const struct {
        const char *name;
        oct_linear *linear;
        size_t out, in;
    } linears[] = {
        {"0.SelfAttention.q", &b->q, inner, width},    {"0.SelfAttention.k", &b->k, inner, width},
        {"0.SelfAttention.v", &b->v, inner, width},    {"0.SelfAttention.o", &b->o, width, inner},
        {"1.DenseReluDense.wi_0", &b->wi_0, 0, width},
    };

    oct_status st = load_norm(source, oct_arena_print(names, "%s.0.layer_norm.weight", base), width,
                              &b->norm1, err);
    if (!st)
        st = load_norm(source, oct_arena_print(names, "%s.1.layer_norm.weight", base), width,
                       &b->norm2, err);
    for (size_t i = 0; !st && i < sizeof linears / sizeof *linears; i++)
        st = load_linear(source, oct_arena_print(names, "%s.%s", base, linears[i].name),
                         linears[i].linear, linears[i].out, linears[i].in, err);
    if (!st)
        st = load_linear(source, oct_arena_print(names, "%s.1.DenseReluDense.wi_1", base), &b->wi_1,
                         b->wi_0.out, width, err);
    if (!st)
        st = load_linear(source, oct_arena_print(names, "%s.1.DenseReluDense.wo", base), &b->wo,
                         width, b->wi_0.out, err);
    return st;
}

static oct_status load_tokens(oct_t5 *t5, const oct_source *source, oct_err *err)
{
    const char *name =
        oct_source_find(source, OCT_T5, "shared.weight") ? "shared" : "encoder.embed_tokens";

    const oct_status st = load_linear(source, name, &t5->weights->tokens, 0, 0, err);
    t5->vocabulary = t5->weights->tokens.out;
    t5->width = t5->weights->tokens.in;
    return st;
}

// Heads come from the bias table, their size from the first block's q.
static oct_status load_distances(oct_t5 *t5, const oct_source *source, oct_err *err)
{
    static const char query[] = "encoder.block.0.layer.0.SelfAttention.q.weight";
    size_t count = 0;

    const oct_status st = oct_load_f32(
        source, OCT_T5, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        &t5->weights->distances, &count, err);
    if (st) return st;
    const oct_source_tensor *q = oct_source_find(source, OCT_T5, query);
    if (!q) return oct_fail(err, OCT_EFORMAT, "t5 has no tensor '%s'", query);
    t5->heads = count / BUCKETS;
    if (count % BUCKETS != 0 || q->rank == 0 || q->shape[0] % t5->heads != 0)
        return oct_fail(err, OCT_EFORMAT,
                        "t5 has %zu distance numbers and %" PRIu64
                        " rows in q, which make no heads",
                        count, q->rank == 0 ? 0 : q->shape[0]);
    t5->head_dim = q->shape[0] / t5->heads;
    return OCT_OK;
}

static size_t count_blocks(const oct_source *source, oct_arena *names)
{
    size_t n = 0;

    while (
        n < LAYERS_MAX &&
        oct_source_find(source, OCT_T5,
                        oct_arena_print(names, "encoder.block.%zu.layer.0.layer_norm.weight", n)))
        n++;
    return n;
}

static oct_status load_all(oct_t5 *t5, const oct_source *source, oct_arena *names, oct_err *err)
{
    weights *w = t5->weights;

    oct_status st = load_tokens(t5, source, err);
    if (!st) st = load_distances(t5, source, err);
    if (st) return st;
    t5->layers = count_blocks(source, names);
    if (t5->layers == 0) return oct_fail(err, OCT_EFORMAT, "t5 has no blocks");
    w->blocks = calloc(t5->layers, sizeof *w->blocks);
    if (!w->blocks) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu blocks", t5->layers);
    for (size_t i = 0; !st && i < t5->layers; i++)
        st = load_block(t5, source, i, &w->blocks[i], names, err);
    if (!st)
        st = load_norm(source, "encoder.final_layer_norm.weight", t5->width, &w->final_norm, err);
    return st;
}

oct_status oct_t5_load(oct_t5 *t5, const oct_source *source, oct_err *err)
{
    oct_arena names = {0};

    *t5 = (oct_t5){0};
    t5->weights = calloc(1, sizeof *t5->weights);
    oct_status st = t5->weights ? load_all(t5, source, &names, err)
                                : oct_fail(err, OCT_ENOMEM, "out of memory");
    oct_arena_deinit(&names);
    if (st) {
        oct_t5_deinit(t5);
        return oct_wrap(err, st, "cannot load t5");
    }
    return OCT_OK;
}

static void free_block(block *b)
{
    oct_linear *const linears[] = {&b->q, &b->k, &b->v, &b->o, &b->wi_0, &b->wi_1, &b->wo};

    free(b->norm1);
    free(b->norm2);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) oct_linear_deinit(linears[i]);
}

void oct_t5_deinit(oct_t5 *t5)
{
    weights *w = t5->weights;

    if (w) {
        oct_linear_deinit(&w->tokens);
        free(w->distances);
        free(w->final_norm);
        for (size_t i = 0; w->blocks && i < t5->layers; i++) free_block(&w->blocks[i]);
        free(w->blocks);
        free(w);
    }
    *t5 = (oct_t5){0};
}

// --- running ---

typedef struct workspace {
    float *x, *normed;            // [length][width]
    float *q, *k, *v, *attended;  // [length][heads * head_dim]
    float *gate, *up;             // [length][widest MLP]
    float *bias;                  // [heads][length][length]
} workspace;

static size_t widest_mlp(const oct_t5 *t5)
{
    size_t widest = 0;
    for (size_t i = 0; i < t5->layers; i++)
        if (t5->weights->blocks[i].wi_0.out > widest) widest = t5->weights->blocks[i].wi_0.out;
    return widest;
}

static oct_status make_workspace(const oct_t5 *t5, size_t length, workspace *ws, oct_err *err)
{
    const size_t wide = length * t5->width, inner = length * t5->heads * t5->head_dim;
    const size_t mlp = length * widest_mlp(t5), bias = t5->heads * length * length;
    const size_t all = 2 * wide + 4 * inner + 2 * mlp + bias;

    ws->x = malloc(all * sizeof *ws->x);
    if (!ws->x) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu activations", all);
    ws->normed = ws->x + wide;
    ws->q = ws->normed + wide;
    ws->k = ws->q + inner;
    ws->v = ws->k + inner;
    ws->attended = ws->v + inner;
    ws->gate = ws->attended + inner;
    ws->up = ws->gate + mlp;
    ws->bias = ws->up + mlp;
    return OCT_OK;
}

// The bucket of a distance key - query: exact up to 7, then by logarithm up to DISTANCE_MAX; keys
// behind the query have the upper half.
static size_t bucket(ptrdiff_t distance)
{
    const size_t half = BUCKETS / 2, exact = half / 2;
    const size_t base = distance > 0 ? half : 0;
    const size_t a = (size_t)(distance < 0 ? -distance : distance);

    if (a < exact) return base + a;
    const double step = log((double)a / (double)exact) / log((double)DISTANCE_MAX / (double)exact);
    const size_t at = exact + (size_t)(step * (double)(half - exact));
    return base + (at < half - 1 ? at : half - 1);
}

static void fill_bias(const oct_t5 *t5, size_t length, float *bias)
{
    for (size_t query = 0; query < length; query++)
        for (size_t key = 0; key < length; key++) {
            const float *row =
                t5->weights->distances + bucket((ptrdiff_t)key - (ptrdiff_t)query) * t5->heads;
            for (size_t head = 0; head < t5->heads; head++)
                bias[(head * length + query) * length + key] = row[head];
        }
}

static void normalize(const oct_t5 *t5, const float *weight, const workspace *ws, size_t length)
{
    memcpy(ws->normed, ws->x, length * t5->width * sizeof *ws->x);
    oct_rms_norm(ws->normed, weight, NORM_EPS, length, t5->width, t5->width);
}

static void attend(const oct_t5 *t5, block *b, workspace *ws, size_t length)
{
    const size_t inner = t5->heads * t5->head_dim;

    normalize(t5, b->norm1, ws, length);
    oct_linear_run(&b->q, ws->q, ws->normed, length, NULL);
    oct_linear_run(&b->k, ws->k, ws->normed, length, NULL);
    oct_linear_run(&b->v, ws->v, ws->normed, length, NULL);
    oct_attention(&(oct_attention_args){.out = ws->attended,
                                        .q = ws->q,
                                        .k = ws->k,
                                        .v = ws->v,
                                        .out_stride = inner,
                                        .q_stride = inner,
                                        .k_stride = inner,
                                        .v_stride = inner,
                                        .tokens_q = length,
                                        .tokens_k = length,
                                        .heads = t5->heads,
                                        .head_dim = t5->head_dim,
                                        .scale = 1,
                                        .bias = ws->bias});
    oct_linear_run(&b->o, ws->normed, ws->attended, length, NULL);
    oct_add_gated(ws->x, ws->normed, NULL, length, t5->width);
}

static void feed_forward(const oct_t5 *t5, block *b, workspace *ws, size_t length)
{
    const size_t n = length * b->wi_0.out;

    normalize(t5, b->norm2, ws, length);
    oct_linear_run(&b->wi_0, ws->gate, ws->normed, length, NULL);
    oct_linear_run(&b->wi_1, ws->up, ws->normed, length, NULL);
    oct_activate(ws->gate, OCT_GELU_TANH, n);
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) ws->gate[i] *= ws->up[i];
    oct_linear_run(&b->wo, ws->normed, ws->gate, length, NULL);
    oct_add_gated(ws->x, ws->normed, NULL, length, t5->width);
}

static oct_status embed(const oct_t5 *t5, const int32_t *ids, size_t length, float *x, oct_err *err)
{
    for (size_t t = 0; t < length; t++) {
        if (ids[t] < 0 || (size_t)ids[t] >= t5->vocabulary)
            return oct_fail(err, OCT_EFORMAT,
                            "token id %" PRId32
                            " is not one of the encoder's %zu: the tokenizer is "
                            "another model's",
                            ids[t], t5->vocabulary);
        oct_linear_row(&t5->weights->tokens, (size_t)ids[t], x + t * t5->width);
    }
    return OCT_OK;
}

oct_status oct_t5_encode(oct_t5 *t5, const int32_t *ids, size_t length, float *out, oct_err *err)
{
    workspace ws = {0};

    oct_status st = make_workspace(t5, length, &ws, err);
    if (!st) st = embed(t5, ids, length, ws.x, err);
    if (st) goto out;
    fill_bias(t5, length, ws.bias);
    for (size_t i = 0; i < t5->layers; i++) {
        attend(t5, &t5->weights->blocks[i], &ws, length);
        feed_forward(t5, &t5->weights->blocks[i], &ws, length);
    }
    normalize(t5, t5->weights->final_norm, &ws, length);
    memcpy(out, ws.normed, length * t5->width * sizeof *out);

out:
    free(ws.x);
    return st;
}
