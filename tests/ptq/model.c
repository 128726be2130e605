// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints for tests.
#include "tests/ptq/model.h"

#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/number.h"
#include "tests/tools/formula.h"

const model_spec model_tiny = {2, 2, 1, true, 8, 64, 48, OCT_F16, true};
const model_spec model_large = {38, 38, 0, true, 192, 4096, 2048, OCT_BF16, false};
const model_spec model_medium = {24, 24, 13, true, 384, 4096, 2048, OCT_BF16, false};

static void require(bool condition, const char *what)
{
    if (condition) return;
    perror(what);
    exit(99);
}

// ---- Files.

uint64_t model_bytes(const model_tensor *tensor)
{
    uint64_t bytes = oct_dtype_bits(tensor->dtype) / 8;

    for (int d = 0; d < tensor->rank; d++) {
        bytes *= tensor->shape[d];
    }
    return bytes;
}

model_tensor *model_add(model_file *file, const char *name, oct_dtype dtype, int rank,
                        const uint64_t *shape, const void *data)
{
    if (file->n_tensors == file->capacity) {
        file->capacity = file->capacity ? 2 * file->capacity : 64;
        file->tensors = realloc(file->tensors, file->capacity * sizeof *file->tensors);
        require(file->tensors, "realloc");
    }
    model_tensor *tensor = &file->tensors[file->n_tensors++];
    *tensor = (model_tensor){oct_arena_copy(&file->arena, name), dtype, rank, {0}, data};
    if (rank > 0) memcpy(tensor->shape, shape, (size_t)rank * sizeof *shape);
    return tensor;
}

model_tensor *model_find(model_file *file, const char *name)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    }
    return NULL;
}

void model_remove(model_file *file, const char *name)
{
    model_tensor *tensor = model_find(file, name);

    require(tensor, name);
    *tensor = file->tensors[--file->n_tensors];
}

static char *print_header(const model_file *file, size_t *bytes)
{
    char *text = NULL;
    uint64_t at = 0;
    FILE *out = open_memstream(&text, bytes);

    require(out, "open_memstream");
    fprintf(out, "{");
    if (file->meta) fprintf(out, "\"__metadata__\":%s%s", file->meta, file->n_tensors ? "," : "");
    for (size_t i = 0; i < file->n_tensors; i++) {
        const model_tensor *tensor = &file->tensors[i];
        fprintf(out, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", tensor->name,
                oct_dtype_name(tensor->dtype));
        for (int d = 0; d < tensor->rank; d++) {
            fprintf(out, "%s%" PRIu64, d ? "," : "", tensor->shape[d]);
        }
        fprintf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + model_bytes(tensor));
        at += model_bytes(tensor);
    }
    fprintf(out, "}");
    fclose(out);
    return text;
}

void model_save(const model_file *file, const char *path)
{
    size_t bytes = 0;
    char *header = print_header(file, &bytes);
    const uint64_t length = bytes;

    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    require(fd >= 0, path);
    require(pwrite(fd, &length, 8, 0) == 8, path);
    require(pwrite(fd, header, bytes, 8) == (ssize_t)bytes, path);
    uint64_t at = 8 + bytes;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const model_tensor *tensor = &file->tensors[i];
        const uint64_t size = model_bytes(tensor);
        if (tensor->data && size) {
            require(pwrite(fd, tensor->data, size, (off_t)at) == (ssize_t)size, path);
        }
        at += size;
    }
    require(ftruncate(fd, (off_t)at) == 0, path);
    close(fd);
    free(header);
}

void model_deinit(model_file *file)
{
    oct_arena_deinit(&file->arena);
    free(file->tensors);
    *file = (model_file){0};
}

// ---- Denoisers.

typedef struct builder {
    model_file *file;
    const model_spec *spec;
    const char *prefix;
    bool is_diffusers;
} builder;

static void *make_data(builder *b, const char *name, int rank, const uint64_t *shape)
{
    uint64_t n = 1;

    if (!b->spec->has_data) return NULL;
    for (int d = 0; d < rank; d++) {
        n *= shape[d];
    }
    float *values = malloc(n * sizeof *values);
    require(values, "malloc");
    oct_formula_fill(values, name, rank, shape);
    uint8_t *data = oct_arena_alloc(&b->file->arena, n * oct_dtype_bits(b->spec->dtype) / 8);
    for (uint64_t i = 0; i < n; i++) {
        switch (b->spec->dtype) {
        case OCT_F16:
            ((uint16_t *)data)[i] = oct_f32_to_f16(values[i]);
            break;
        case OCT_BF16:
            ((uint16_t *)data)[i] = oct_f32_to_bf16(values[i]);
            break;
        default:
            ((float *)data)[i] = values[i];
        }
    }
    free(values);
    return data;
}

static bool contains(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static void replace(char *text, size_t bytes, const char *from, const char *to)
{
    char *at = strstr(text, from);
    char copy[256];

    if (!at) return;
    snprintf(copy, sizeof copy, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    snprintf(text, bytes, "%s", copy);
}

static void rename_to_diffusers(char *text, size_t bytes)
{
    static const char *const pairs[][2] = {
        {"x_embedder.proj", "pos_embed.proj"},
        {"t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"},
        {"t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"},
        {"y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"},
        {"y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"},
        {"final_layer.adaLN_modulation.1", "norm_out.linear"},
        {"final_layer.linear", "proj_out"},
        {"joint_blocks.", "transformer_blocks."},
        {"x_block.adaLN_modulation.1", "norm1.linear"},
        {"context_block.adaLN_modulation.1", "norm1_context.linear"},
        {"context_block.attn.ln_q", "attn.norm_added_q"},
        {"context_block.attn.ln_k", "attn.norm_added_k"},
        {"context_block.attn.proj", "attn.to_add_out"},
        {"context_block.mlp.fc1", "ff_context.net.0.proj"},
        {"context_block.mlp.fc2", "ff_context.net.2"},
        {"x_block.mlp.fc1", "ff.net.0.proj"},
        {"x_block.mlp.fc2", "ff.net.2"},
        {".ln_q", ".norm_q"},
        {".ln_k", ".norm_k"},
        {"attn.proj", "attn.to_out.0"},
        {"attn2.proj", "attn2.to_out.0"},
        {"x_block.", ""},
    };

    if (strcmp(text, "pos_embed") == 0) snprintf(text, bytes, "pos_embed.pos_embed");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        replace(text, bytes, pairs[i][0], pairs[i][1]);
    }
}

static void add_thirds(builder *b, const char *name, int rank, const uint64_t *shape,
                       const uint8_t *data)
{
    static const char *const image[] = {".to_q.", ".to_k.", ".to_v."};
    static const char *const text[] = {".add_q_proj.", ".add_k_proj.", ".add_v_proj."};
    uint64_t third[OCT_RANK_MAX];

    memcpy(third, shape, (size_t)rank * sizeof *shape);
    third[0] /= 3;
    for (int i = 0; i < 3; i++) {
        char renamed[256];
        snprintf(renamed, sizeof renamed, "%s", name);
        const bool is_text = contains(name, "context_block.");
        replace(renamed, sizeof renamed, "joint_blocks.", "transformer_blocks.");
        replace(renamed, sizeof renamed, is_text ? "context_block." : "x_block.", "");
        replace(renamed, sizeof renamed, ".qkv.", is_text ? text[i] : image[i]);
        model_tensor *tensor = model_add(b->file, renamed, b->spec->dtype, rank, third, NULL);
        if (data) tensor->data = data + (size_t)i * model_bytes(tensor);
    }
}

static void swap_halves(builder *b, model_tensor *tensor)
{
    const size_t half = model_bytes(tensor) / 2;
    const uint8_t *data = tensor->data;

    if (!data) return;
    uint8_t *swapped = oct_arena_alloc(&b->file->arena, 2 * half);
    memcpy(swapped, data + half, half);
    memcpy(swapped + half, data, half);
    tensor->data = swapped;
}

static void add(builder *b, const char *name, int rank, const uint64_t *shape)
{
    char stored[256], last[64];
    void *data = make_data(b, name, rank, shape);

    snprintf(stored, sizeof stored, "%s%s", b->prefix, name);
    if (b->is_diffusers && contains(name, ".qkv.")) {
        add_thirds(b, name, rank, shape, data);
        return;
    }
    if (b->is_diffusers) rename_to_diffusers(stored, sizeof stored);
    model_tensor *tensor = model_add(b->file, stored, b->spec->dtype, rank, shape, data);
    snprintf(last, sizeof last, "joint_blocks.%d.context_block.adaLN", b->spec->depth - 1);
    if (b->is_diffusers && (contains(name, last) || contains(name, "final_layer.adaLN"))) {
        swap_halves(b, tensor);
    }
}

static void add_linear(builder *b, const char *layer, uint64_t out, uint64_t in)
{
    char name[256];

    snprintf(name, sizeof name, "%s.weight", layer);
    add(b, name, 2, (uint64_t[]){out, in});
    snprintf(name, sizeof name, "%s.bias", layer);
    add(b, name, 1, (uint64_t[]){out});
}

static void add_attention(builder *b, const char *stem, bool has_proj)
{
    const uint64_t h = 64 * (uint64_t)b->spec->heads;
    char name[256];

    snprintf(name, sizeof name, "%s.qkv", stem);
    add_linear(b, name, 3 * h, h);
    for (int i = 0; i < 2 && b->spec->has_norm; i++) {
        snprintf(name, sizeof name, "%s.ln_%c.weight", stem, "qk"[i]);
        add(b, name, 1, (uint64_t[]){64});
    }
    snprintf(name, sizeof name, "%s.proj", stem);
    if (has_proj) add_linear(b, name, h, h);
}

static void add_half_block(builder *b, int i, const char *side, uint64_t mods, bool is_pre_only)
{
    const uint64_t h = 64 * (uint64_t)b->spec->heads;
    char name[256];

    snprintf(name, sizeof name, "joint_blocks.%d.%s.adaLN_modulation.1", i, side);
    add_linear(b, name, mods * h, h);
    snprintf(name, sizeof name, "joint_blocks.%d.%s.attn", i, side);
    add_attention(b, name, !is_pre_only);
    if (is_pre_only) return;
    snprintf(name, sizeof name, "joint_blocks.%d.%s.mlp.fc1", i, side);
    add_linear(b, name, 4 * h, h);
    snprintf(name, sizeof name, "joint_blocks.%d.%s.mlp.fc2", i, side);
    add_linear(b, name, h, 4 * h);
}

static void add_denoiser(builder *b)
{
    const model_spec *spec = b->spec;
    const uint64_t h = 64 * (uint64_t)spec->heads;
    char name[256];

    add(b, "pos_embed", 3, (uint64_t[]){1, spec->side * spec->side, h});
    add(b, "x_embedder.proj.weight", 4, (uint64_t[]){h, 16, 2, 2});
    add(b, "x_embedder.proj.bias", 1, (uint64_t[]){h});
    add_linear(b, "t_embedder.mlp.0", h, 256);
    add_linear(b, "t_embedder.mlp.2", h, h);
    add_linear(b, "y_embedder.mlp.0", h, spec->pooled);
    add_linear(b, "y_embedder.mlp.2", h, h);
    add_linear(b, "context_embedder", h, spec->context);
    for (int i = 0; i < spec->depth; i++) {
        const bool is_dual = i < spec->n_dual, is_last = i + 1 == spec->depth;
        add_half_block(b, i, "x_block", is_dual ? 9 : 6, false);
        snprintf(name, sizeof name, "joint_blocks.%d.x_block.attn2", i);
        if (is_dual) add_attention(b, name, true);
        add_half_block(b, i, "context_block", is_last ? 2 : 6, is_last);
    }
    add_linear(b, "final_layer.adaLN_modulation.1", 2 * h, h);
    add_linear(b, "final_layer.linear", 64, h);
}

void model_add_sai(model_file *file, const model_spec *spec, const char *prefix)
{
    add_denoiser(&(builder){file, spec, prefix, false});
}

void model_add_diffusers(model_file *file, const model_spec *spec)
{
    add_denoiser(&(builder){file, spec, "", true});
}

// ---- The folder.

static char folder[256];
static oct_arena paths;

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    oct_arena_deinit(&paths);
}

const char *model_folder(void)
{
    if (folder[0]) return folder;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/octavo-ptq-XXXXXX", base && *base ? base : "/tmp");
    require(mkdtemp(folder), folder);
    atexit(remove_folder);
    return folder;
}

const char *model_path(const char *name)
{
    return oct_arena_print(&paths, "%s/%s", model_folder(), name);
}

void model_write_text(const char *path, const char *text)
{
    FILE *out = fopen(path, "wb");

    require(out, path);
    require(fwrite(text, 1, strlen(text), out) == strlen(text), path);
    fclose(out);
}
