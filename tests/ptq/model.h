// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints for tests: files written without the library's writer, and SD3.5 denoisers of any
// size in both namings, whose diffusers names are spelled here a second time.
//
// Whoever cannot write ends the test program: these are the tests' own files.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/tensor.h"

typedef struct model_tensor {
    const char *name;
    oct_dtype dtype;
    int rank;
    uint64_t shape[OCT_RANK_MAX];
    const void *data;  // NULL: a hole in the file, which reads as zeros
} model_tensor;

typedef struct model_file {
    oct_arena arena;
    model_tensor *tensors;
    size_t n_tensors, capacity;
    const char *meta;  // JSON object of strings, or NULL
} model_file;

uint64_t model_bytes(const model_tensor *tensor);

// Names are copied, data is borrowed until model_save.
model_tensor *model_add(model_file *file, const char *name, oct_dtype dtype, int rank,
                        const uint64_t *shape, const void *data);
model_tensor *model_find(model_file *file, const char *name);  // NULL when absent
void model_remove(model_file *file, const char *name);
void model_save(const model_file *file, const char *path);
void model_deinit(model_file *file);

typedef struct model_spec {
    int depth, heads, n_dual;
    bool has_norm;
    uint64_t side, context, pooled;
    oct_dtype dtype;  // F16, BF16 or F32
    bool has_data;    // values of the formula; otherwise holes
} model_spec;

extern const model_spec model_tiny;                 // depth 2, dual block 0, with data, F16
extern const model_spec model_large, model_medium;  // shapes alone, BF16

void model_add_sai(model_file *file, const model_spec *spec, const char *prefix);
void model_add_diffusers(model_file *file, const model_spec *spec);

// A folder for one test program, removed when it ends, and a path in it (valid until 8 calls
// later).
const char *model_folder(void);
const char *model_path(const char *name);
void model_write_text(const char *path, const char *text);
