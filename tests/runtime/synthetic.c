// SPDX-License-Identifier: Apache-2.0
//
// Writing small safetensors files.
#include "tests/runtime/synthetic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "common/safetensors.h"
#include "tests/tools/formula.h"

#define NAMES_MAX 256
#define NAME_BYTES 96

static size_t count_elements(const synthetic *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

static void narrow(oct_dtype dtype, const float *values, size_t n, void *out)
{
    uint16_t *halves = out;
    uint8_t *codes = out;

    for (size_t i = 0; i < n; i++) {
        if (dtype == OCT_F16) halves[i] = oct_f32_to_f16(values[i]);
        if (dtype == OCT_BF16) halves[i] = oct_f32_to_bf16(values[i]);
        if (dtype == OCT_F8_E4M3) codes[i] = oct_f32_to_e4m3(values[i]);
    }
    if (dtype == OCT_F32) memcpy(out, values, n * sizeof *values);
}

static oct_status write_one(oct_st_writer *writer, const synthetic *t, oct_err *err)
{
    const oct_st_tensor *tensor = oct_st_writer_find(writer, t->name);
    const size_t n = count_elements(t);
    float *values = malloc((n + 1) * sizeof *values);
    void *data = malloc(tensor->bytes + 1);

    if (t->data) {
        memcpy(data, t->data, tensor->bytes);
    } else {
        oct_formula_fill(values, t->values ? t->values : t->name, t->rank, t->shape);
        narrow(t->dtype, values, n, data);
    }
    const oct_status st = oct_st_writer_write(writer, tensor, 0, data, tensor->bytes, err);
    free(values);
    free(data);
    return st;
}

oct_status synthetic_write(const char *path, const synthetic *tensors, size_t n, oct_err *err)
{
    oct_st_writer writer = {0};

    for (size_t i = 0; i < n; i++)
        oct_st_writer_add(&writer, tensors[i].name, tensors[i].dtype, tensors[i].rank,
                          tensors[i].shape);
    oct_status st = oct_st_writer_begin(&writer, path, err);
    for (size_t i = 0; !st && i < n; i++) st = write_one(&writer, &tensors[i], err);
    if (!st) st = oct_st_writer_commit(&writer, err);
    oct_st_writer_deinit(&writer);
    return st;
}

static char names[NAMES_MAX][NAME_BYTES];

// cols = 0: a vector.
static void add(synthetic *tensors, size_t *n, const char *name, size_t rows, size_t cols)
{
    snprintf(names[*n], NAME_BYTES, "%s", name);
    tensors[*n] = (synthetic){
        .name = names[*n], .dtype = OCT_F32, .rank = cols ? 2 : 1, .shape = {rows, cols}};
    ++*n;
}

static void add_linear(synthetic *tensors, size_t *n, const char *base, const char *name,
                       size_t out, size_t in)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s.%s.weight", base, name);
    add(tensors, n, full, out, in);
    snprintf(full, sizeof full, "%s.%s.bias", base, name);
    add(tensors, n, full, out, 0);
}

static void add_norm(synthetic *tensors, size_t *n, const char *base, const char *name,
                     size_t width)
{
    add_linear(tensors, n, base, name, width, 0);
}

size_t synthetic_clip(synthetic *tensors, size_t layers, size_t width, size_t mlp,
                      size_t vocabulary)
{
    static const char *const attention[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    char base[NAME_BYTES], name[32];
    size_t n = 0;

    add(tensors, &n, "text_model.embeddings.token_embedding.weight", vocabulary, width);
    add(tensors, &n, "text_model.embeddings.position_embedding.weight", 77, width);
    for (size_t i = 0; i < layers; i++) {
        snprintf(base, sizeof base, "text_model.encoder.layers.%zu", i);
        add_norm(tensors, &n, base, "layer_norm1", width);
        add_norm(tensors, &n, base, "layer_norm2", width);
        for (size_t k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "self_attn.%s", attention[k]);
            add_linear(tensors, &n, base, name, width, width);
        }
        add_linear(tensors, &n, base, "mlp.fc1", mlp, width);
        add_linear(tensors, &n, base, "mlp.fc2", width, mlp);
    }
    add_norm(tensors, &n, "text_model", "final_layer_norm", width);
    add(tensors, &n, "text_projection.weight", width, width);
    return n;
}

size_t synthetic_t5(synthetic *tensors, size_t layers, size_t width, size_t heads, size_t head_dim,
                    size_t mlp, size_t vocabulary)
{
    const size_t inner = heads * head_dim;
    const struct {
        const char *name;
        size_t rows, cols;
    } parts[] = {
        {"0.SelfAttention.q", inner, width},
        {"0.SelfAttention.k", inner, width},
        {"0.SelfAttention.v", inner, width},
        {"0.SelfAttention.o", width, inner},
        {"0.layer_norm", width, 0},
        {"1.DenseReluDense.wi_0", mlp, width},
        {"1.DenseReluDense.wi_1", mlp, width},
        {"1.DenseReluDense.wo", width, mlp},
        {"1.layer_norm", width, 0},
    };
    char name[NAME_BYTES];
    size_t n = 0;

    add(tensors, &n, "encoder.embed_tokens.weight", vocabulary, width);
    add(tensors, &n, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 32,
        heads);
    for (size_t i = 0; i < layers; i++)
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
            snprintf(name, sizeof name, "encoder.block.%zu.layer.%s.weight", i, parts[k].name);
            add(tensors, &n, name, parts[k].rows, parts[k].cols);
        }
    add(tensors, &n, "encoder.final_layer_norm.weight", width, 0);
    return n;
}
