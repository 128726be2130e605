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

#define POSITIONS "text_model.embeddings.position_embedding.weight"
#define NORM_EPS 1e-5f
#define HEAD_DIM 64
#define LAYERS_MAX 1024
#define IDENTITY_BOUND 1e-3f

typedef struct norm {
    float *weight, *bias;  // [width] on the device, as all vectors
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
    oct_device *device;
    const oct_source *source;
    oct_component component;
    oct_arena names;  // of tensors, while loading
    size_t width;
} loader;

// --- loading ---

static oct_status load_vector(loader *l, const char *name, float **values, oct_err *err)
{
    float *loaded = NULL;
    size_t count = 0;

    oct_status st = oct_load_f32(l->source, l->component, name, &loaded, &count, err);
    if (!st && count != l->width)
        st = oct_fail(err, OCT_EFORMAT, "tensor '%s' of %s has %zu numbers, not %zu", name,
                      oct_component_name(l->component), count, l->width);
    if (st) {
        free(loaded);
        return st;
    }
    *values = loaded;
    return oct_device_adopt_f32(l->device, values, count, "the vectors of a text encoder", err);
}

static oct_status adopt(loader *l, oct_linear *linear, int group, oct_err *err)
{
    return l->device->ops->adopt(l->device, linear, OCT_PRECISION_AUTO, group, err);
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
    for (size_t i = 0; !st && i < 4; i++) st = adopt(l, attention[i].linear, (int)index, err);
    if (!st) st = adopt(l, &to->fc1, (int)index, err);
    return st ? st : adopt(l, &to->fc2, (int)index, err);
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

static oct_status load_positions(loader *l, oct_clip *clip, oct_err *err)
{
    float *loaded = NULL;
    size_t count = 0;

    oct_status st = oct_load_f32(l->source, l->component, POSITIONS, &loaded, &count, err);
    if (st) return st;
    clip->positions = count / clip->width;
    if (clip->positions == 0 || count % clip->width != 0) {
        free(loaded);
        return oct_fail(err, OCT_EFORMAT, "%s has %zu position numbers for a width of %zu",
                        oct_component_name(l->component), count, clip->width);
    }
    clip->weights->positions = loaded;
    return oct_device_adopt_f32(l->device, &clip->weights->positions, count, "positions", err);
}

static oct_status load_embeddings(loader *l, oct_clip *clip, oct_err *err)
{
    weights *w = clip->weights;

    oct_status st = load_linear(l, "text_model.embeddings.token_embedding", &w->tokens, 0, 0, err);
    if (st) return st;
    clip->vocabulary = w->tokens.out;
    clip->width = l->width = w->tokens.in;
    st = adopt(l, &w->tokens, -1, err);
    return st ? st : load_positions(l, clip, err);
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
    const float distance = l->component == OCT_CLIP_L ? distance_from_identity(&w->projection) : 0;
    if (distance > IDENTITY_BOUND)
        oct_warn("the projection of clip-l differs from the identity by %g; it is applied, which "
                 "ComfyUI would not do",
                 (double)distance);
    return adopt(l, &w->projection, -1, err);
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

oct_status oct_clip_load(oct_clip *clip, oct_device *device, const oct_source *source,
                         oct_component component, const oct_clip_config *config, oct_err *err)
{
    loader l = {.device = device, .source = source, .component = component};

    *clip = (oct_clip){.device = device};
    clip->weights = calloc(1, sizeof *clip->weights);
    oct_status st = clip->weights ? load_all(&l, clip, config, err)
                                  : oct_fail(err, OCT_ENOMEM, "out of memory");
    if (!st) st = device->ops->sync(device, err);
    oct_arena_deinit(&l.names);
    if (st) {
        oct_clip_deinit(clip);
        return oct_wrap(err, st, "cannot load %s", oct_component_name(component));
    }
    return OCT_OK;
}

static void release_norm(oct_device *device, norm *n)
{
    device->ops->release(device, n->weight);
    device->ops->release(device, n->bias);
}

static void drop_linear(oct_device *device, oct_linear *linear)
{
    device->ops->drop(device, linear);
    oct_linear_deinit(linear);
}

static void free_layer(oct_device *device, layer *l)
{
    oct_linear *const linears[] = {&l->q, &l->k, &l->v, &l->out, &l->fc1, &l->fc2};

    release_norm(device, &l->norm1);
    release_norm(device, &l->norm2);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) drop_linear(device, linears[i]);
}

void oct_clip_deinit(oct_clip *clip)
{
    oct_device *device = clip->device;
    weights *w = clip->weights;

    if (w) {
        drop_linear(device, &w->tokens);
        drop_linear(device, &w->projection);
        device->ops->release(device, w->positions);
        release_norm(device, &w->final_norm);
        for (size_t i = 0; w->layers && i < clip->layers; i++) free_layer(device, &w->layers[i]);
        free(w->layers);
        free(w);
    }
    *clip = (oct_clip){0};
}

oct_status oct_clip_positions(const oct_source *source, oct_component component, size_t *positions,
                              oct_err *err)
{
    const oct_source_tensor *tensor = oct_source_find(source, component, POSITIONS);
    if (!tensor) return oct_fail(err, OCT_EFORMAT, "tensor '" POSITIONS "' is missing");
    if (tensor->rank != 2 || tensor->shape[0] == 0) {
        return oct_fail(err, OCT_EFORMAT, "tensor '" POSITIONS "' is not of shape [n, width]");
    }
    *positions = tensor->shape[0];
    return OCT_OK;
}

// --- running ---

typedef struct workspace {  // views into `block`
    void *block;
    float *x;         // F32 [positions][width], the residual stream
    float *y;         // F32 [positions][width], what is added to it
    void *normed;     // operand [positions][width]
    void *q, *k, *v;  // activation [positions][width]
    void *hidden;     // operand [positions][widest MLP]
    void *scratch;    // activation of the same shape, or NULL
    float *pooled;    // F32 [projected width]
} workspace;

static size_t widest_mlp(const oct_clip *clip)
{
    size_t widest = 0;
    for (size_t i = 0; i < clip->layers; i++)
        if (clip->weights->layers[i].fc1.out > widest) widest = clip->weights->layers[i].fc1.out;
    return widest;
}

// Returns how many bytes the block must have.
static size_t lay_out(const oct_clip *clip, workspace *ws)
{
    const size_t n = clip->positions * clip->width, mlp = clip->positions * widest_mlp(clip);
    oct_carver carver = {.device = clip->device, .block = ws->block};

    ws->x = oct_carve_f32(&carver, n);
    ws->y = oct_carve_f32(&carver, n);
    ws->normed = oct_carve_f32(&carver, n);
    ws->q = oct_carve_activation(&carver, n);
    ws->k = oct_carve_activation(&carver, n);
    ws->v = oct_carve_activation(&carver, n);
    ws->hidden = oct_carve_f32(&carver, mlp);
    ws->scratch = oct_carve_scratch(&carver, mlp);
    ws->pooled = oct_carve_f32(&carver, clip->projected_width);
    return carver.used;
}

static oct_status make_workspace(const oct_clip *clip, workspace *ws, oct_err *err)
{
    const oct_status st = clip->device->ops->alloc(clip->device, &ws->block, lay_out(clip, ws),
                                                   "the activations of a text encoder", err);
    if (!st) lay_out(clip, ws);
    return st;
}

static oct_status check_ids(const oct_clip *clip, const int32_t *ids, oct_err *err)
{
    for (size_t t = 0; t < clip->positions; t++) {
        if (ids[t] < 0 || (size_t)ids[t] >= clip->vocabulary)
            return oct_fail(err, OCT_EFORMAT,
                            "token id %" PRId32
                            " is not one of the encoder's %zu: the tokenizer is "
                            "another model's",
                            ids[t], clip->vocabulary);
    }
    return OCT_OK;
}

// q, k and v read one input: encoders have no input scales.
static void attend(const oct_clip *clip, layer *l, const workspace *ws, size_t tokens)
{
    oct_device *device = clip->device;
    const size_t width = clip->width, head_dim = width / clip->heads;
    const oct_operand normed = device->ops->operand(device, &l->q, ws->normed);
    const oct_operand attended = device->ops->operand(device, &l->out, ws->normed);

    device->ops->layer_norm(device, normed, ws->x, l->norm1.weight, l->norm1.bias, NORM_EPS, tokens,
                            width);
    device->ops->linear(device, &l->q, ws->q, false, normed, tokens);
    device->ops->linear(device, &l->k, ws->k, false, normed, tokens);
    device->ops->linear(device, &l->v, ws->v, false, normed, tokens);
    device->ops->plain_attention(device, &(oct_plain_attention){.out = attended,
                                                                .q = ws->q,
                                                                .k = ws->k,
                                                                .v = ws->v,
                                                                .tokens = tokens,
                                                                .heads = clip->heads,
                                                                .head_dim = head_dim,
                                                                .scale = 1 / sqrtf((float)head_dim),
                                                                .is_causal = true});
    device->ops->linear(device, &l->out, ws->y, true, attended, tokens);
    device->ops->add_gated(device, ws->x, ws->y, true, NULL, tokens, width);
}

static void feed_forward(const oct_clip *clip, layer *l, const workspace *ws, size_t tokens)
{
    oct_device *device = clip->device;
    const oct_operand normed = device->ops->operand(device, &l->fc1, ws->normed);
    const oct_operand hidden = device->ops->operand(device, &l->fc2, ws->hidden);

    device->ops->layer_norm(device, normed, ws->x, l->norm2.weight, l->norm2.bias, NORM_EPS, tokens,
                            clip->width);
    device->ops->linear_activate(device, &l->fc1, hidden, clip->activation, ws->scratch, normed,
                                 tokens);
    device->ops->linear(device, &l->fc2, ws->y, true, hidden, tokens);
    device->ops->add_gated(device, ws->x, ws->y, true, NULL, tokens, clip->width);
}

static void run_layer(const oct_clip *clip, size_t index, const workspace *ws, size_t tokens)
{
    layer *l = &clip->weights->layers[index];

    clip->device->ops->enter_group(clip->device, (int)index);
    attend(clip, l, ws, tokens);
    feed_forward(clip, l, ws, tokens);
}

static void pool(const oct_clip *clip, const float *row, const workspace *ws)
{
    oct_device *device = clip->device;
    weights *w = clip->weights;
    const oct_operand normed = w->has_projection
                                   ? device->ops->operand(device, &w->projection, ws->normed)
                                   : oct_operand_f32(ws->pooled);

    device->ops->enter_group(device, -1);
    device->ops->layer_norm(device, normed, row, w->final_norm.weight, w->final_norm.bias, NORM_EPS,
                            1, clip->width);
    if (w->has_projection) device->ops->linear(device, &w->projection, ws->pooled, true, normed, 1);
}

oct_status oct_clip_encode(oct_clip *clip, const int32_t *ids, int32_t end_id, float *hidden,
                           float *pooled, oct_err *err)
{
    oct_device *device = clip->device;
    const size_t n = clip->positions * clip->width;
    workspace ws = {0};
    size_t end = 0;

    while (end < clip->positions && ids[end] != end_id) end++;
    if (end == clip->positions)
        return oct_fail(err, OCT_EFORMAT, "no end token %" PRId32 " among %zu ids", end_id, end);
    oct_status st = check_ids(clip, ids, err);
    if (!st) st = make_workspace(clip, &ws, err);
    if (st) goto out;

    device->ops->embed(device, ws.x, &clip->weights->tokens, clip->weights->positions, ids,
                       clip->positions);
    for (size_t i = 0; i + 1 < clip->layers; i++) run_layer(clip, i, &ws, clip->positions);
    st = device->ops->read(device, hidden, ws.x, n * sizeof *hidden, err);
    if (st) goto out;

    // Only the end token's row is read behind the last layer, and it sees nothing behind itself.
    run_layer(clip, clip->layers - 1, &ws, end + 1);
    pool(clip, ws.x + end * clip->width, &ws);
    st = device->ops->read(device, pooled, ws.pooled, clip->projected_width * sizeof *pooled, err);

out:
    device->ops->release(device, ws.block);
    return st;
}
