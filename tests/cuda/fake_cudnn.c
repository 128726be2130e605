// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/fake_cudnn.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"

#define BAD_PARAM 2000
#define NOT_SUPPORTED 3000
#define VALUES_MAX 64  // bytes of an attribute
#define ATTRIBUTES_MAX 8
#define ENGINES FAKE_CUDNN_ENGINES
#define TENSORS_MAX 5

fake_cudnn_state fake_cudnn = {.version = 91900, .workspace_bytes = 1000};

// Descriptors and types of attributes, as in cudnn_graph.h.
enum { TAPS = 1, ENGINE = 2, ENGINECFG = 3, ENGINEHEUR = 4, PLAN = 5, CONV = 10 };
enum { GRAPH = 15, PACK = 16, TENSOR = 17, SDPA = 41 };
enum { HANDLE = 0, DATA_TYPE = 1, BOOLEAN = 2, INT64 = 3, NUMBER = 4, VOID_PTR = 6 };
enum { CONV_MODE = 7, HEUR_MODE = 8, NOTE = 11, DESC = 15 };
enum { FLOAT = 0, HALF = 2, BFLOAT16 = 9 };

static const struct rule {
    int descriptor, name, type, count, of;  // `of`: which descriptor a DESC must be
} rules[] = {
    // clang-format off
    {TENSOR, 900, INT64, 1, 0},       // byte alignment
    {TENSOR, 901, DATA_TYPE, 1, 0},
    {TENSOR, 902, INT64, 4, 0},       // dimensions
    {TENSOR, 903, INT64, 4, 0},       // strides
    {TENSOR, 906, INT64, 1, 0},       // unique id
    {TENSOR, 908, BOOLEAN, 1, 0},     // by value
    {SDPA, 2800, DESC, 1, TENSOR},    // q
    {SDPA, 2801, DESC, 1, TENSOR},    // k
    {SDPA, 2802, DESC, 1, TENSOR},    // v
    {SDPA, 2803, DESC, 1, TENSOR},    // out
    {SDPA, 2805, DESC, 1, TENSOR},    // scale
    {TAPS, 100, DATA_TYPE, 1, 0},     // of sums
    {TAPS, 101, CONV_MODE, 1, 0},
    {TAPS, 102, INT64, 2, 0},         // dilations
    {TAPS, 103, INT64, 2, 0},         // strides
    {TAPS, 104, INT64, 2, 0},         // zeros behind
    {TAPS, 105, INT64, 2, 0},         // zeros before
    {TAPS, 106, INT64, 1, 0},         // dimensions
    {CONV, 700, NUMBER, 1, 0},        // alpha
    {CONV, 701, NUMBER, 1, 0},        // beta
    {CONV, 702, DESC, 1, TAPS},
    {CONV, 703, DESC, 1, TENSOR},     // weight
    {CONV, 704, DESC, 1, TENSOR},     // x
    {CONV, 705, DESC, 1, TENSOR},     // y
    {GRAPH, 800, HANDLE, 1, 0},
    {GRAPH, 801, DESC, 1, 0},         // an operation
    {ENGINEHEUR, 200, HEUR_MODE, 1, 0},
    {ENGINEHEUR, 201, DESC, 1, GRAPH},
    {PLAN, 400, HANDLE, 1, 0},
    {PLAN, 401, DESC, 1, ENGINECFG},
    {PACK, 1000, INT64, 0, 0},        // unique ids, one of each tensor
    {PACK, 1001, VOID_PTR, 0, 0},     // pointers
    {PACK, 1003, VOID_PTR, 1, 0},     // workspace
    // clang-format on
};
#define RULES (sizeof rules / sizeof *rules)

typedef struct attribute {
    int name;
    int64_t count;
    _Alignas(8) char values[VALUES_MAX];
} attribute;

typedef struct descriptor {
    int type;
    bool is_finalized;
    attribute attributes[ATTRIBUTES_MAX];
    size_t n_attributes;
    const struct descriptor *source;  // of a configuration: its heuristics
    int engine;
} descriptor;

static int handle;

__attribute__((format(printf, 2, 3))) static int refuse(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(fake_cudnn.refusal, sizeof fake_cudnn.refusal, format, args);
    va_end(args);
    return status;
}

static size_t size_of(int type)
{
    switch (type) {
    case BOOLEAN:
        return sizeof(bool);
    case DATA_TYPE:
    case CONV_MODE:
    case HEUR_MODE:
    case NUMBER:
        return sizeof(int);
    default:
        return 8;
    }
}

static const void *find(const descriptor *d, int name)
{
    for (size_t i = 0; i < d->n_attributes; i++)
        if (d->attributes[i].name == name) return d->attributes[i].values;
    return NULL;
}

static int64_t count_of(const descriptor *d, int name)
{
    for (size_t i = 0; i < d->n_attributes; i++)
        if (d->attributes[i].name == name) return d->attributes[i].count;
    return 0;
}

static int64_t number(const descriptor *d, int name, size_t i)
{
    return ((const int64_t *)find(d, name))[i];
}

static const descriptor *linked(const descriptor *d, int name)
{
    const descriptor *other;
    memcpy(&other, find(d, name), sizeof other);
    return other;
}

// ---- The interface.

size_t cudnnGetVersion(void)
{
    return fake_cudnn.version;
}

const char *cudnnGetErrorString(int status)
{
    return status == BAD_PARAM ? "FAKE_BAD_PARAM" : "FAKE_STATUS";
}

int cudnnCreate(void **to)
{
    if (fake_cudnn.handle_status) return fake_cudnn.handle_status;
    fake_cudnn.live_handles++;
    *to = &handle;
    return 0;
}

int cudnnDestroy(void *which)
{
    if (which != &handle) return refuse(BAD_PARAM, "no such handle");
    fake_cudnn.live_handles--;
    return 0;
}

int cudnnSetStream(void *which, void *stream)
{
    if (which != &handle) return refuse(BAD_PARAM, "no such handle");
    fake_cudnn.stream = stream;
    return 0;
}

int cudnnBackendCreateDescriptor(int type, void **to)
{
    bool is_known = type == ENGINECFG || type == ENGINE;
    for (size_t i = 0; i < RULES; i++) is_known |= rules[i].descriptor == type;
    if (!is_known) return refuse(BAD_PARAM, "descriptor type %d", type);
    descriptor *d = calloc(1, sizeof *d);
    if (!d) abort();
    d->type = type;
    fake_cudnn.live_descriptors++;
    *to = d;
    return 0;
}

int cudnnBackendDestroyDescriptor(void *which)
{
    if (!which) return refuse(BAD_PARAM, "no descriptor to destroy");
    fake_cudnn.live_descriptors--;
    free(which);
    return 0;
}

static int check_values(const struct rule *rule, const void *values)
{
    const descriptor *other;
    const void *given;
    memcpy(&given, values, rule->type == HANDLE ? sizeof given : 0);
    if (rule->type == HANDLE && given != &handle) return refuse(BAD_PARAM, "not the handle");
    if (rule->type != DESC) return 0;
    memcpy(&other, values, sizeof other);
    const bool is_operation = other && (other->type == SDPA || other->type == CONV);
    if (!other || !other->is_finalized || (rule->of ? other->type != rule->of : !is_operation))
        return refuse(BAD_PARAM, "attribute %d: not a finalized descriptor of type %d", rule->name,
                      rule->of);
    return 0;
}

int cudnnBackendSetAttribute(void *which, int name, int type, int64_t count, const void *values)
{
    descriptor *d = which;
    const struct rule *rule = NULL;
    for (size_t i = 0; i < RULES; i++)
        if (rules[i].descriptor == d->type && rules[i].name == name) rule = &rules[i];
    const bool is_counted =
        rule && (rule->count ? rule->count == count : count == 3 || count == TENSORS_MAX);
    if (!rule || rule->type != type || !is_counted)
        return refuse(BAD_PARAM, "descriptor %d: attribute %d of type %d, count %d", d->type, name,
                      type, (int)count);
    if (d->is_finalized || find(d, name) || !values)
        return refuse(BAD_PARAM, "attribute %d: set twice, too late or to nothing", name);
    const int status = check_values(rule, values);
    if (status) return status;
    attribute *a = &d->attributes[d->n_attributes++];
    a->name = name;
    a->count = count;
    memcpy(a->values, values, (size_t)count * size_of(type));
    return 0;
}

// [batch][head][token][64]: keys and values alike, the answers as many as the queries.
static int check_shapes(const descriptor *d)
{
    const descriptor *q = linked(d, 2800), *k = linked(d, 2801), *v = linked(d, 2802);
    const descriptor *out = linked(d, 2803), *scale = linked(d, 2805);
    for (size_t i = 0; i < 4; i++) {
        const int64_t n = number(q, 902, i);
        if (n <= 0 || n != number(out, 902, i) || number(k, 902, i) != number(v, 902, i) ||
            (i != 2 && n != number(k, 902, i)) || number(scale, 902, i) != 1)
            return refuse(NOT_SUPPORTED, "dimension %zu of attention", i);
    }
    if (number(q, 903, 3) != 1 || number(q, 902, 3) % 8 != 0)
        return refuse(NOT_SUPPORTED, "heads are not rows");
    if (!*(const bool *)find(scale, 908) || *(const int *)find(scale, 901) != FLOAT)
        return refuse(NOT_SUPPORTED, "the scale is not a number of the host");
    const int type = *(const int *)find(q, 901);
    if (type != HALF && type != BFLOAT16) return refuse(NOT_SUPPORTED, "data type %d", type);
    for (int name = 2800; name < 2804; name++)
        if (*(const int *)find(linked(d, name), 901) != type)
            return refuse(NOT_SUPPORTED, "data types differ");
    return 0;
}

static int data_type(const descriptor *tensor)
{
    return *(const int *)find(tensor, 901);
}

static float factor(const descriptor *d, int name)
{
    return *(const float *)find(d, name);
}

// [1][channels][height][width], weights [out][in][rows][columns].
static int check_convolution(const descriptor *d)
{
    const descriptor *taps = linked(d, 702), *w = linked(d, 703), *x = linked(d, 704);
    const descriptor *y = linked(d, 705);
    const bool is_linked = number(x, 902, 1) == number(w, 902, 1) &&
                           number(y, 902, 1) == number(w, 902, 0) && number(x, 902, 0) == 1 &&
                           number(y, 902, 0) == 1;
    const bool is_one_type = data_type(w) == data_type(x) && data_type(y) == data_type(x);

    if (factor(d, 700) != 1 || factor(d, 701) != 0) return refuse(NOT_SUPPORTED, "alpha, beta");
    if (!is_linked || !is_one_type) return refuse(NOT_SUPPORTED, "tensors of a convolution");
    if (*(const int *)find(taps, 100) != FLOAT || *(const int *)find(taps, 101) != 1 ||
        number(taps, 106, 0) != 2)
        return refuse(NOT_SUPPORTED, "sums, mode or dimensions of a convolution");
    for (size_t i = 0; i < 2; i++) {
        const int64_t padded = number(x, 902, 2 + i) + number(taps, 104, i) + number(taps, 105, i);
        const int64_t size = (padded - number(w, 902, 2 + i)) / number(taps, 103, i) + 1;
        if (number(taps, 102, i) != 1 || size != number(y, 902, 2 + i))
            return refuse(BAD_PARAM, "size %zu of a convolution", i);
        if (fake_cudnn.refuses_asymmetry && number(taps, 104, i) != number(taps, 105, i))
            return refuse(NOT_SUPPORTED, "asymmetric padding");
    }
    return 0;
}

int cudnnBackendFinalize(void *which)
{
    descriptor *d = which;
    if (d->is_finalized) return refuse(BAD_PARAM, "finalized twice");
    for (size_t i = 0; i < RULES; i++)
        if (rules[i].descriptor == d->type && !find(d, rules[i].name))
            return refuse(BAD_PARAM, "descriptor %d lacks attribute %d", d->type, rules[i].name);
    const int status = d->type == SDPA   ? check_shapes(d)
                       : d->type == CONV ? check_convolution(d)
                                         : 0;
    if (status) return status;
    if (d->type == PLAN && linked(d, 401)->engine < fake_cudnn.refused_engines)
        return refuse(NOT_SUPPORTED, "engine %d", linked(d, 401)->engine);
    d->is_finalized = true;
    return 0;
}

static int get_engines(const descriptor *d, int64_t room, int64_t *count, void **configs)
{
    *count = room < ENGINES ? room : ENGINES;
    for (int i = 0; i < *count; i++) {
        descriptor *config = configs[i];
        if (!config || config->type != ENGINECFG || config->is_finalized)
            return refuse(BAD_PARAM, "result %d is no new configuration", i);
        config->source = d;
        config->engine = i;
        config->is_finalized = true;
    }
    return 0;
}

int cudnnBackendGetAttribute(void *which, int name, int type, int64_t room, int64_t *count,
                             void *values)
{
    const descriptor *d = which;
    if (!d->is_finalized) return refuse(BAD_PARAM, "attribute %d is asked for too early", name);
    if (d->type == ENGINEHEUR && name == 202 && type == DESC)
        return get_engines(d, room, count, values);
    if (d->type == PLAN && name == 402 && type == INT64 && room == 1) {
        *count = 1;
        *(int64_t *)values = (int64_t)fake_cudnn.workspace_bytes;
        return 0;
    }
    if (d->type == ENGINECFG && name == 300 && type == DESC && room == 1) {
        descriptor *engine = *(void **)values;
        if (engine->type != ENGINE) return refuse(BAD_PARAM, "no descriptor of an engine");
        engine->engine = d->engine;
        engine->is_finalized = true;
        *count = 1;
        return 0;
    }
    if (d->type == ENGINE && name == 1303 && type == NOTE && room > 0) {
        *count = 1;
        *(int *)values = fake_cudnn.notes[d->engine];
        return 0;
    }
    return refuse(BAD_PARAM, "attribute %d of descriptor %d cannot be read", name, d->type);
}

// ---- The computation.

typedef struct view {
    const descriptor *tensor;
    void *data;
} view;

static size_t index_of(const view *t, int64_t head, int64_t token, int64_t column)
{
    return (size_t)(head * number(t->tensor, 903, 1) + token * number(t->tensor, 903, 2) +
                    column * number(t->tensor, 903, 3));
}

static double get(const view *t, int64_t head, int64_t token, int64_t column)
{
    const uint16_t x = ((const uint16_t *)t->data)[index_of(t, head, token, column)];
    return *(const int *)find(t->tensor, 901) == HALF ? oct_f16_to_f32(x) : oct_bf16_to_f32(x);
}

static void put(const view *t, int64_t head, int64_t token, int64_t column, double value)
{
    const bool is_half = *(const int *)find(t->tensor, 901) == HALF;
    const float x = (float)value;
    ((uint16_t *)t->data)[index_of(t, head, token, column)] =
        is_half ? oct_f32_to_f16(x) : oct_f32_to_bf16(x);
}

static void attend(const view *v, double scale, int64_t head, int64_t query, double *weights)
{
    const int64_t keys = number(v[1].tensor, 902, 2), columns = number(v[0].tensor, 902, 3);
    double max = -INFINITY, total = 0;

    for (int64_t j = 0; j < keys; j++) {
        weights[j] = 0;
        for (int64_t c = 0; c < columns; c++)
            weights[j] += scale * get(&v[0], head, query, c) * get(&v[1], head, j, c);
        max = fmax(max, weights[j]);
    }
    for (int64_t j = 0; j < keys; j++) total += weights[j] = exp(weights[j] - max);
    for (int64_t c = 0; c < columns; c++) {
        double sum = 0;
        for (int64_t j = 0; j < keys; j++) sum += weights[j] / total * get(&v[2], head, j, c);
        put(&v[3], head, query, c, sum);
    }
}

// One number of y: channel `head`, row `token`.
static void convolve(const descriptor *op, const view *v, int64_t out, int64_t row, int64_t col)
{
    const descriptor *taps = linked(op, 702), *w = v[0].tensor, *x = v[1].tensor;
    const int64_t first_row = row * number(taps, 103, 0) - number(taps, 105, 0);
    const int64_t first_col = col * number(taps, 103, 1) - number(taps, 105, 1);
    double sum = 0;

    for (int64_t c = 0; c < number(x, 902, 1); c++) {
        for (int64_t tap = 0; tap < number(w, 902, 2) * number(w, 902, 3); tap++) {
            const int64_t i = tap / number(w, 902, 3), j = tap % number(w, 902, 3);
            const int64_t at_row = first_row + i, at_col = first_col + j;
            if (at_row < 0 || at_row >= number(x, 902, 2)) continue;
            if (at_col < 0 || at_col >= number(x, 902, 3)) continue;
            const view filter = {w, (uint16_t *)v[0].data + out * number(w, 903, 0)};
            sum += get(&filter, c, i, j) * get(&v[1], c, at_row, at_col);
        }
    }
    put(&v[2], out, row, col, sum);
}

static void convolve_all(const descriptor *op, const view *v)
{
    const descriptor *y = v[2].tensor;
    for (int64_t out = 0; out < number(y, 902, 1); out++)
        for (int64_t row = 0; row < number(y, 902, 2); row++)
            for (int64_t col = 0; col < number(y, 902, 3); col++) convolve(op, v, out, row, col);
}

static void attend_all(const view *v)
{
    const int64_t heads = number(v[0].tensor, 902, 1), queries = number(v[0].tensor, 902, 2);
    double *weights = malloc((size_t)number(v[1].tensor, 902, 2) * sizeof *weights);

    if (!weights) abort();
    for (int64_t i = 0; i < heads * queries; i++)
        attend(v, *(const float *)v[4].data, i / queries, i % queries, weights);
    free(weights);
}

static void *bound(const descriptor *pack, const descriptor *tensor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (number(pack, 1000, i) == number(tensor, 906, 0))
            return ((void *const *)find(pack, 1001))[i];
    return NULL;
}

int cudnnBackendExecute(void *which, void *plan, void *pack)
{
    static const int names_sdpa[TENSORS_MAX] = {2800, 2801, 2802, 2803, 2805};
    static const int names_conv[TENSORS_MAX] = {703, 704, 705};
    const descriptor *p = plan, *given = pack;
    view views[TENSORS_MAX];

    if (which != &handle || p->type != PLAN || !p->is_finalized || given->type != PACK ||
        !given->is_finalized)
        return refuse(BAD_PARAM, "nothing that can be executed");
    if (fake_cudnn.execute_status) return fake_cudnn.execute_status;
    const descriptor *op = linked(linked(linked(p, 401)->source, 201), 801);
    const bool is_conv = op->type == CONV;
    const size_t n = is_conv ? 3 : TENSORS_MAX;
    if (count_of(given, 1000) != (int64_t)n || count_of(given, 1001) != (int64_t)n)
        return refuse(BAD_PARAM, "not %zu tensors", n);
    for (size_t i = 0; i < n; i++) {
        const descriptor *tensor = linked(op, (is_conv ? names_conv : names_sdpa)[i]);
        views[i] = (view){tensor, bound(given, tensor, n)};
        const int64_t alignment = i < 4 ? number(tensor, 900, 0) : 4;
        if (!views[i].data || (uintptr_t)views[i].data % (uintptr_t)alignment != 0)
            return refuse(BAD_PARAM, "tensor %zu has no aligned data", i);
    }
    void *workspace = *(void *const *)find(given, 1003);
    if (fake_cudnn.workspace_bytes > 0) {
        if ((uintptr_t)workspace % 256 != 0) return refuse(BAD_PARAM, "no workspace");
        memset(workspace, 0xff, fake_cudnn.workspace_bytes);
    }
    if (is_conv)
        convolve_all(op, views);
    else
        attend_all(views);
    fake_cudnn.engine = linked(p, 401)->engine;
    fake_cudnn.executions++;
    return 0;
}
