// SPDX-License-Identifier: Apache-2.0
//
// CLIP text encoders: pre-norm transformer, causal, learned positions, no padding mask.
#include "runtime/clip.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/log.h"
#include "runtime/linear.h"

#define NORM_EPS 1e-5f
#define HEAD_DIM 64
#define LAYERS_MAX 1024
#define IDENTITY_BOUND 1e-3f

typedef struct norm {
    float *weight, *bias;  // [width]
} norm;

typedef struct layer {
    norm norm1, norm2;
    oct_linear q, k, v, out, fc1, fc2;
} layer;

typedef struct oct_clip_weights {
    oct_linear tokens;  // [vocabulary][width], a table
    float *positions;   // [positions][width]
    layer *layers;
    norm final_norm;
    oct_linear projection;
    bool has_projection;
} weights;

// What one component's tensors are loaded from.
typedef struct loader {
    const oct_source *source;
    oct_component component;
    oct_arena names;  // of tensors, while loading
    size_t width;
} loader;

// --- loading ---

static oct_status load_vector(loader *l, const char *name, float **values, oct_err *err)
{
    size_t count = 0;

    const oct_status st = oct_load_f32(l->source, l->component, name, values, &count, err);
    if (!st && count != l->width)
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' of %s has %zu numbers, not %zu", name,
                        oct_component_name(l->component), count, l->width);
    return st;
}

static oct_status load_norm(loader *l, const char *name, norm *n, oct_err *err)
{
    oct_status st = load_vector(l, oct_arena_print(&l->names, "%s.weight", name), &n->weight, err);
    if (!st) st = load_vector(l, oct_arena_print(&l->names, "%s.bias", name), &n->bias, err);
    return st;
}

// out, in: the shape that it must have; 0: any.
static oct_status load_linear(loader *l, const char *name, oct_linear *linear, size_t out,
                              size_t in, oct_err *err)
{
    const oct_status st = oct_linear_load(linear, l->source, l->component, name, err);
    if (st) return st;
    if ((out && linear->out != out) || (in && linear->in != in))
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' of %s is [%zu, %zu], not [%zu, %zu]",
                        linear->name, oct_component_name(l->component), linear->out, linear->in,
                        out ? out : linear->out, in ? in : linear->in);
    return OCT_OK;
}

static oct_status load_layer(loader *l, size_t index, layer *to, oct_err *err)
{
    const char *base = oct_arena_print(&l->names, "text_model.encoder.layers.%zu", index);
    const size_t w = l->width;
    const struct {
        const char *name;
        oct_linear *linear;
    } attention[] = {
        {"q_proj", &to->q}, {"k_proj", &to->k}, {"v_proj", &to->v}, {"out_proj", &to->out}};

    oct_status st =
        load_norm(l, oct_arena_print(&l->names, "%s.layer_norm1", base), &to->norm1, err);
    for (size_t i = 0; !st && i < 4; i++)
        st = load_linear(l, oct_arena_print(&l->names, "%s.self_attn.%s", base, attention[i].name),
                         attention[i].linear, w, w, err);
    if (!st) st = load_norm(l, oct_arena_print(&l->names, "%s.layer_norm2", base), &to->norm2, err);
    if (!st)
        st = load_linear(l, oct_arena_print(&l->names, "%s.mlp.fc1", base), &to->fc1, 0, w, err);
    if (!st)
        st = load_linear(l, oct_arena_print(&l->names, "%s.mlp.fc2", base), &to->fc2, w,
                         to->fc1.out, err);
    return st;
}

static size_t count_layers(loader *l)
{
    size_t n = 0;

    while (n < LAYERS_MAX &&
           oct_source_find(
               l->source, l->component,
               oct_arena_print(&l->names, "text_model.encoder.layers.%zu.layer_norm1.weight", n)))
        n++;
    return n;
}

static oct_status load_embeddings(loader *l, oct_clip *clip, oct_err *err)
{
    weights *w = clip->weights;
    size_t count = 0;

    oct_status st = load_linear(l, "text_model.embeddings.token_embedding", &w->tokens, 0, 0, err);
    if (st) return st;
    clip->vocabulary = w->tokens.out;
    clip->width = l->width = w->tokens.in;
    st = oct_load_f32(l->source, l->component, "text_model.embeddings.position_embedding.weight",
                      &w->positions, &count, err);
    if (st) return st;
    clip->positions = count / clip->width;
    if (clip->positions == 0 || count % clip->width != 0)
        return oct_fail(err, OCT_EFORMAT, "%s has %zu position numbers for a width of %zu",
                        oct_component_name(l->component), count, clip->width);
    return OCT_OK;
}

// Old files hold the projection without ".weight" and transposed.
static oct_status load_transposed(loader *l, oct_linear *linear, oct_err *err)
{
    const oct_source_tensor *tensor = oct_source_find(l->source, l->component, "text_projection");
    float *stored = NULL;
    size_t count = 0;

    const oct_status st =
        oct_load_f32(l->source, l->component, "text_projection", &stored, &count, err);
    if (st) return st;
    const size_t in = tensor->shape[0], out = in ? count / in : 0;
    *linear = (oct_linear){.name = tensor->name, .dtype = OCT_F32, .weight_scale = 1, .layer = -1};
    float *turned = malloc(count * sizeof *turned);
    if (turned && in == l->width && tensor->rank == 2) {
        for (size_t i = 0; i < in; i++)
            for (size_t o = 0; o < out; o++) turned[o * in + i] = stored[i * out + o];
        linear->weight = turned;
        linear->out = out;
        linear->in = in;
        free(stored);
        return OCT_OK;
    }
    free(stored);
    free(turned);
    if (!turned) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu numbers", count);
    return oct_fail(err, OCT_EFORMAT, "tensor 'text_projection' has %zu rows, not %zu", in,
                    l->width);
}

static float distance_from_identity(const oct_linear *linear)
{
    float *row = malloc(linear->in * sizeof *row);
    float distance = linear->out == linear->in && row ? 0 : INFINITY;

    for (size_t i = 0; row && i < linear->out; i++) {
        oct_linear_row(linear, i, row);
        for (size_t k = 0; k < linear->in; k++)
            distance = fmaxf(distance, fabsf(row[k] - (i == k ? 1.0f : 0.0f)));
    }
    free(row);
    return distance;
}

// CLIP-G is always projected. CLIP-L only in a diffusers folder, where it is meant to be the
// identity: Stability's reference and ComfyUI never project it.
static oct_status load_projection(loader *l, weights *w, oct_err *err)
{
    if (l->component == OCT_CLIP_L && !l->source->checkpoint.is_diffusers) return OCT_OK;
    const bool is_old = oct_source_find(l->source, l->component, "text_projection") != NULL;
    const bool is_there =
        oct_source_find(l->source, l->component, "text_projection.weight") != NULL;
    if (l->component == OCT_CLIP_L && !is_old && !is_there) return OCT_OK;

    const oct_status st = is_old && !is_there
                              ? load_transposed(l, &w->projection, err)
                              : load_linear(l, "text_projection", &w->projection, 0, l->width, err);
    if (st) return st;
    w->has_projection = true;
    if (l->component != OCT_CLIP_L) return OCT_OK;
    const float distance = distance_from_identity(&w->projection);
    if (distance > IDENTITY_BOUND)
        oct_warn("the projection of clip-l differs from the identity by %g; it is applied, which "
                 "ComfyUI would not do",
                 (double)distance);
    return OCT_OK;
}

static oct_status check_heads(oct_clip *clip, const oct_clip_config *config,
                              oct_component component, oct_err *err)
{
    clip->heads = config->heads ? config->heads : clip->width / HEAD_DIM;
    clip->activation = config->activation;
    if (clip->heads == 0 || clip->width % clip->heads != 0)
        return oct_fail(err, OCT_EFORMAT, "%s has a width of %zu, which %zu heads cannot share",
                        oct_component_name(component), clip->width, clip->heads);
    return OCT_OK;
}

static oct_status load_all(loader *l, oct_clip *clip, const oct_clip_config *config, oct_err *err)
{
    weights *w = clip->weights;

    oct_status st = load_embeddings(l, clip, err);
    if (!st) st = check_heads(clip, config, l->component, err);
    if (st) return st;
    clip->layers = count_layers(l);
    if (clip->layers == 0)
        return oct_fail(err, OCT_EFORMAT, "%s has no layers", oct_component_name(l->component));
    w->layers = calloc(clip->layers, sizeof *w->layers);
    if (!w->layers) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu layers", clip->layers);
    for (size_t i = 0; !st && i < clip->layers; i++) st = load_layer(l, i, &w->layers[i], err);
    if (!st) st = load_norm(l, "text_model.final_layer_norm", &w->final_norm, err);
    if (!st) st = load_projection(l, w, err);
    clip->projected_width = w->has_projection ? w->projection.out : clip->width;
    return st;
}

oct_status oct_clip_load(oct_clip *clip, const oct_source *source, oct_component component,
                         const oct_clip_config *config, oct_err *err)
{
    loader l = {.source = source, .component = component};

    *clip = (oct_clip){0};
    clip->weights = calloc(1, sizeof *clip->weights);
    oct_status st = clip->weights ? load_all(&l, clip, config, err)
                                  : oct_fail(err, OCT_ENOMEM, "out of memory");
    oct_arena_deinit(&l.names);
    if (st) {
        oct_clip_deinit(clip);
        return oct_wrap(err, st, "cannot load %s", oct_component_name(component));
    }
    return OCT_OK;
}

static void free_norm(norm *n)
{
    free(n->weight);
    free(n->bias);
}

static void free_layer(layer *l)
{
    oct_linear *const linears[] = {&l->q, &l->k, &l->v, &l->out, &l->fc1, &l->fc2};

    free_norm(&l->norm1);
    free_norm(&l->norm2);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) oct_linear_deinit(linears[i]);
}

void oct_clip_deinit(oct_clip *clip)
{
    weights *w = clip->weights;

    if (w) {
        oct_linear_deinit(&w->tokens);
        oct_linear_deinit(&w->projection);
        free(w->positions);
        free_norm(&w->final_norm);
        for (size_t i = 0; w->layers && i < clip->layers; i++) free_layer(&w->layers[i]);
        free(w->layers);
        free(w);
    }
    *clip = (oct_clip){0};
}

// --- running ---

typedef struct workspace {
    float *x, *normed, *q, *k, *v;  // [positions][width]
    float *inner;                   // [positions][widest MLP]
} workspace;

static size_t widest_mlp(const oct_clip *clip)
{
    size_t widest = 0;
    for (size_t i = 0; i < clip->layers; i++)
        if (clip->weights->layers[i].fc1.out > widest) widest = clip->weights->layers[i].fc1.out;
    return widest;
}

static oct_status make_workspace(const oct_clip *clip, workspace *ws, oct_err *err)
{
    const size_t n = clip->positions * clip->width, inner = clip->positions * widest_mlp(clip);

    ws->x = malloc((5 * n + inner) * sizeof *ws->x);
    if (!ws->x)
        return oct_fail(err, OCT_ENOMEM, "out of memory for %zu activations", 5 * n + inner);
    ws->normed = ws->x + n;
    ws->q = ws->normed + n;
    ws->k = ws->q + n;
    ws->v = ws->k + n;
    ws->inner = ws->v + n;
    return OCT_OK;
}

static oct_status embed(const oct_clip *clip, const int32_t *ids, float *x, oct_err *err)
{
    for (size_t t = 0; t < clip->positions; t++) {
        if (ids[t] < 0 || (size_t)ids[t] >= clip->vocabulary)
            return oct_fail(err, OCT_EFORMAT,
                            "token id %" PRId32
                            " is not one of the encoder's %zu: the tokenizer is "
                            "another model's",
                            ids[t], clip->vocabulary);
        float *row = x + t * clip->width;
        oct_linear_row(&clip->weights->tokens, (size_t)ids[t], row);
        oct_add_gated(row, clip->weights->positions + t * clip->width, NULL, 1, clip->width);
    }
    return OCT_OK;
}

static void run_layer(const oct_clip *clip, layer *l, workspace *ws, size_t tokens)
{
    const size_t width = clip->width, head_dim = width / clip->heads;

    oct_layer_norm(ws->normed, ws->x, l->norm1.weight, l->norm1.bias, NORM_EPS, tokens, width);
    oct_linear_run(&l->q, ws->q, ws->normed, tokens, NULL);
    oct_linear_run(&l->k, ws->k, ws->normed, tokens, NULL);
    oct_linear_run(&l->v, ws->v, ws->normed, tokens, NULL);
    oct_attention(&(oct_attention_args){.out = ws->normed,
                                        .q = ws->q,
                                        .k = ws->k,
                                        .v = ws->v,
                                        .out_stride = width,
                                        .q_stride = width,
                                        .k_stride = width,
                                        .v_stride = width,
                                        .tokens_q = tokens,
                                        .tokens_k = tokens,
                                        .heads = clip->heads,
                                        .head_dim = head_dim,
                                        .scale = 1 / sqrtf((float)head_dim),
                                        .is_causal = true});
    oct_linear_run(&l->out, ws->q, ws->normed, tokens, NULL);
    oct_add_gated(ws->x, ws->q, NULL, tokens, width);

    oct_layer_norm(ws->normed, ws->x, l->norm2.weight, l->norm2.bias, NORM_EPS, tokens, width);
    oct_linear_run(&l->fc1, ws->inner, ws->normed, tokens, NULL);
    oct_activate(ws->inner, clip->activation, tokens * l->fc1.out);
    oct_linear_run(&l->fc2, ws->q, ws->inner, tokens, NULL);
    oct_add_gated(ws->x, ws->q, NULL, tokens, width);
}

static void pool(const oct_clip *clip, const float *row, float *normed, float *pooled)
{
    weights *w = clip->weights;

    oct_layer_norm(normed, row, w->final_norm.weight, w->final_norm.bias, NORM_EPS, 1, clip->width);
    if (w->has_projection)
        oct_linear_run(&w->projection, pooled, normed, 1, NULL);
    else
        memcpy(pooled, normed, clip->width * sizeof *pooled);
}

oct_status oct_clip_encode(oct_clip *clip, const int32_t *ids, int32_t end_id, float *hidden,
                           float *pooled, oct_err *err)
{
    workspace ws = {0};
    size_t end = 0;

    while (end < clip->positions && ids[end] != end_id) end++;
    if (end == clip->positions)
        return oct_fail(err, OCT_EFORMAT, "no end token %" PRId32 " among %zu ids", end_id, end);
    oct_status st = make_workspace(clip, &ws, err);
    if (!st) st = embed(clip, ids, ws.x, err);
    if (st) goto out;

    for (size_t i = 0; i + 1 < clip->layers; i++)
        run_layer(clip, &clip->weights->layers[i], &ws, clip->positions);
    memcpy(hidden, ws.x, clip->positions * clip->width * sizeof *hidden);

    // Only the end token's row is read behind the last layer, and it sees nothing behind itself.
    run_layer(clip, &clip->weights->layers[clip->layers - 1], &ws, end + 1);
    pool(clip, ws.x + end * clip->width, ws.normed, pooled);

out:
    free(ws.x);
    return st;
}
