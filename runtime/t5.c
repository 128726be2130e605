// SPDX-License-Identifier: Apache-2.0
//
// T5 encoder: pre-norm, unscaled attention with one relative bias for all blocks, gated GELU.
#include "runtime/t5.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "runtime/linear.h"

#define NORM_EPS 1e-6f
#define BUCKETS 32
#define DISTANCE_MAX 128
#define LAYERS_MAX 1024

typedef struct block {
    float *norm1, *norm2;  // [width] on the device, as all norms
    oct_linear q, k, v, o, wi_0, wi_1, wo;
} block;

typedef struct oct_t5_weights {
    oct_linear tokens;  // [vocabulary][width], a table
    float *distances;   // [BUCKETS][heads] on the host
    block *blocks;
    float *final_norm;  // [width]
} weights;

// --- loading ---

static oct_status load_norm(const oct_t5 *t5, const oct_source *source, const char *name,
                            float **values, oct_err *err)
{
    float *loaded = NULL;
    size_t count = 0;

    oct_status st = oct_load_f32(source, OCT_T5, name, &loaded, &count, err);
    if (!st && count != t5->width)
        st = oct_fail(err, OCT_EFORMAT, "tensor '%s' of t5 has %zu numbers, not %zu", name, count,
                      t5->width);
    if (st) {
        free(loaded);
        return st;
    }
    *values = loaded;
    return oct_device_adopt_f32(t5->device, values, count, "the norms of t5", err);
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

// What enters wo overflows F16.
static oct_status adopt_block(oct_device *device, block *b, int group, oct_err *err)
{
    oct_linear *const linears[] = {&b->q, &b->k, &b->v, &b->o, &b->wi_0, &b->wi_1};
    oct_status st = OCT_OK;

    for (size_t i = 0; !st && i < sizeof linears / sizeof *linears; i++)
        st = device->ops->adopt(device, linears[i], OCT_PRECISION_AUTO, group, err);
    return st ? st : device->ops->adopt(device, &b->wo, OCT_PRECISION_F32, group, err);
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

    oct_status st = load_norm(t5, source, oct_arena_print(names, "%s.0.layer_norm.weight", base),
                              &b->norm1, err);
    if (!st)
        st = load_norm(t5, source, oct_arena_print(names, "%s.1.layer_norm.weight", base),
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
    return st ? st : adopt_block(t5->device, b, (int)index, err);
}

static oct_status load_tokens(oct_t5 *t5, const oct_source *source, oct_err *err)
{
    const char *name =
        oct_source_find(source, OCT_T5, "shared.weight") ? "shared" : "encoder.embed_tokens";

    const oct_status st = load_linear(source, name, &t5->weights->tokens, 0, 0, err);
    if (st) return st;
    t5->vocabulary = t5->weights->tokens.out;
    t5->width = t5->weights->tokens.in;
    return t5->device->ops->adopt(t5->device, &t5->weights->tokens, OCT_PRECISION_AUTO, -1, err);
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
    if (!st) st = load_norm(t5, source, "encoder.final_layer_norm.weight", &w->final_norm, err);
    return st;
}

oct_status oct_t5_load(oct_t5 *t5, oct_device *device, const oct_source *source, oct_err *err)
{
    oct_arena names = {0};

    *t5 = (oct_t5){.device = device};
    t5->weights = calloc(1, sizeof *t5->weights);
    oct_status st = t5->weights ? load_all(t5, source, &names, err)
                                : oct_fail(err, OCT_ENOMEM, "out of memory");
    if (!st) st = device->ops->sync(device, err);
    oct_arena_deinit(&names);
    if (st) {
        oct_t5_deinit(t5);
        return oct_wrap(err, st, "cannot load t5");
    }
    return OCT_OK;
}

static void drop_linear(oct_device *device, oct_linear *linear)
{
    device->ops->drop(device, linear);
    oct_linear_deinit(linear);
}

static void free_block(oct_device *device, block *b)
{
    oct_linear *const linears[] = {&b->q, &b->k, &b->v, &b->o, &b->wi_0, &b->wi_1, &b->wo};

    device->ops->release(device, b->norm1);
    device->ops->release(device, b->norm2);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) drop_linear(device, linears[i]);
}

void oct_t5_deinit(oct_t5 *t5)
{
    weights *w = t5->weights;

    if (w) {
        drop_linear(t5->device, &w->tokens);
        free(w->distances);
        t5->device->ops->release(t5->device, w->final_norm);
        for (size_t i = 0; w->blocks && i < t5->layers; i++) free_block(t5->device, &w->blocks[i]);
        free(w->blocks);
        free(w);
    }
    *t5 = (oct_t5){0};
}

// --- running ---

typedef struct workspace {  // views into `block`, but for the bias
    void *block;
    float *x;         // F32 [length][width], the residual stream
    float *y;         // F32 [length][width], what is added to it
    void *normed;     // operand [length][width]
    void *q, *k, *v;  // activation [length][heads * head_dim]
    void *attended;   // operand of the same shape
    void *gate, *up;  // activation [length][widest MLP]
    void *hidden;     // operand of the same shape
    float *bias;      // F32 [heads][length][length]
} workspace;

static size_t widest_mlp(const oct_t5 *t5)
{
    size_t widest = 0;
    for (size_t i = 0; i < t5->layers; i++)
        if (t5->weights->blocks[i].wi_0.out > widest) widest = t5->weights->blocks[i].wi_0.out;
    return widest;
}

// Returns how many bytes the block must have.
static size_t lay_out(const oct_t5 *t5, size_t length, workspace *ws)
{
    const size_t wide = length * t5->width, inner = length * t5->heads * t5->head_dim;
    const size_t mlp = length * widest_mlp(t5);
    oct_carver carver = {.device = t5->device, .block = ws->block};

    ws->x = oct_carve_f32(&carver, wide);
    ws->y = oct_carve_f32(&carver, wide);
    ws->normed = oct_carve_f32(&carver, wide);
    ws->q = oct_carve_activation(&carver, inner);
    ws->k = oct_carve_activation(&carver, inner);
    ws->v = oct_carve_activation(&carver, inner);
    ws->attended = oct_carve_f32(&carver, inner);
    ws->gate = oct_carve_activation(&carver, mlp);
    ws->up = oct_carve_activation(&carver, mlp);
    ws->hidden = oct_carve_f32(&carver, mlp);
    return carver.used;
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

static oct_status make_bias(const oct_t5 *t5, size_t length, workspace *ws, oct_err *err)
{
    const size_t n = t5->heads * length * length;
    float *bias = malloc(n * sizeof *bias);
    if (!bias) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu distances", n);

    fill_bias(t5, length, bias);
    ws->bias = bias;
    return oct_device_adopt_f32(t5->device, &ws->bias, n, "the distances of tokens", err);
}

static oct_status make_workspace(const oct_t5 *t5, size_t length, workspace *ws, oct_err *err)
{
    oct_status st = t5->device->ops->alloc(t5->device, &ws->block, lay_out(t5, length, ws),
                                           "the activations of t5", err);
    if (st) return st;
    lay_out(t5, length, ws);
    return make_bias(t5, length, ws, err);
}

// q, k and v read one input: encoders have no input scales.
static void attend(const oct_t5 *t5, block *b, const workspace *ws, size_t length)
{
    oct_device *device = t5->device;
    const oct_operand normed = device->ops->operand(device, &b->q, ws->normed);
    const oct_operand attended = device->ops->operand(device, &b->o, ws->attended);

    device->ops->rms_norm(device, normed, ws->x, b->norm1, NORM_EPS, length, t5->width);
    device->ops->linear(device, &b->q, ws->q, false, normed, length);
    device->ops->linear(device, &b->k, ws->k, false, normed, length);
    device->ops->linear(device, &b->v, ws->v, false, normed, length);
    device->ops->plain_attention(device, &(oct_plain_attention){.out = attended,
                                                                .q = ws->q,
                                                                .k = ws->k,
                                                                .v = ws->v,
                                                                .tokens = length,
                                                                .heads = t5->heads,
                                                                .head_dim = t5->head_dim,
                                                                .scale = 1,
                                                                .bias = ws->bias});
    device->ops->linear(device, &b->o, ws->y, true, attended, length);
    device->ops->add_gated(device, ws->x, ws->y, true, NULL, length, t5->width);
}

static void feed_forward(const oct_t5 *t5, block *b, const workspace *ws, size_t length)
{
    oct_device *device = t5->device;
    const oct_operand normed = device->ops->operand(device, &b->wi_0, ws->normed);
    const oct_operand hidden = device->ops->operand(device, &b->wo, ws->hidden);

    device->ops->rms_norm(device, normed, ws->x, b->norm2, NORM_EPS, length, t5->width);
    device->ops->linear(device, &b->wi_0, ws->gate, false, normed, length);
    device->ops->linear(device, &b->wi_1, ws->up, false, normed, length);
    device->ops->activate_gated(device, hidden, OCT_GELU_TANH, ws->gate, ws->up,
                                length * b->wi_0.out);
    device->ops->linear(device, &b->wo, ws->y, true, hidden, length);
    device->ops->add_gated(device, ws->x, ws->y, true, NULL, length, t5->width);
}

static oct_status check_ids(const oct_t5 *t5, const int32_t *ids, size_t length, oct_err *err)
{
    for (size_t t = 0; t < length; t++) {
        if (ids[t] < 0 || (size_t)ids[t] >= t5->vocabulary)
            return oct_fail(err, OCT_EFORMAT,
                            "token id %" PRId32
                            " is not one of the encoder's %zu: the tokenizer is "
                            "another model's",
                            ids[t], t5->vocabulary);
    }
    return OCT_OK;
}

oct_status oct_t5_encode(oct_t5 *t5, const int32_t *ids, size_t length, float *out, oct_err *err)
{
    oct_device *device = t5->device;
    workspace ws = {0};

    oct_status st = check_ids(t5, ids, length, err);
    if (!st) st = make_workspace(t5, length, &ws, err);
    if (st) goto out;
    device->ops->embed(device, ws.x, &t5->weights->tokens, NULL, ids, length);
    for (size_t i = 0; i < t5->layers; i++) {
        device->ops->enter_group(device, (int)i);
        attend(t5, &t5->weights->blocks[i], &ws, length);
        feed_forward(t5, &t5->weights->blocks[i], &ws, length);
    }
    device->ops->enter_group(device, -1);
    device->ops->rms_norm(device, oct_operand_f32(ws.y), ws.x, t5->weights->final_norm, NORM_EPS,
                          length, t5->width);
    st = device->ops->read(device, out, ws.y, length * t5->width * sizeof *out, err);

out:
    device->ops->release(device, ws.block);
    device->ops->release(device, ws.bias);
    return st;
}
