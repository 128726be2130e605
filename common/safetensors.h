// SPDX-License-Identifier: Apache-2.0
//
// Safetensors files: a strict reader and a writer.
//
// The reader accepts what the format's README allows and refuses everything on which readers
// disagree: duplicate names or keys (compared decoded), holes, overlap, trailing bytes, unknown
// fields, dimensions beyond 2^48 - 1, rank over 8, names that are empty, over 4096 bytes or contain
// control characters, metadata with U+0000. All checks precede any allocation that a number in the
// file could size. White space around the header's object is accepted, data at any alignment too.
// Format: https://github.com/huggingface/safetensors (README, "Format").
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/status.h"
#include "common/tensor.h"

#define OCT_ST_HEADER_MAX 100000000u
#define OCT_ST_TENSORS_MAX 200000u
#define OCT_ST_META_MAX 200000u
#define OCT_ST_NAME_MAX 4096u
#define OCT_ST_DIM_MAX 281474976710655u  // 2^48 - 1, the limit of the format's JSON schema

typedef struct oct_st_tensor {
    const char *name;
    oct_dtype dtype;
    int rank;                       // 0: a scalar
    uint64_t shape[OCT_RANK_MAX];
    uint64_t offset, bytes;         // in the file, from its first byte
} oct_st_tensor;

typedef struct oct_st_meta {
    const char *key, *value;
} oct_st_meta;

typedef struct oct_safetensors {
    oct_arena arena;
    oct_file file;                  // stays open for oct_safetensors_read()
    oct_st_tensor *tensors;         // in file order of their data
    size_t n_tensors;
    oct_st_meta *meta;              // in header order
    size_t n_meta;
    uint64_t header_bytes;          // 8 + N: where data begins
    oct_st_tensor **by_name;        // sorted
} oct_safetensors;

// On failure `st` is left empty. Sentences name the file, the tensor (printable) and the rule. Well
// known other kinds are recognised: "is a git-LFS pointer", "is a pickle", "is a GGUF file". A file
// without tensors is accepted.
oct_status oct_safetensors_open(oct_safetensors *st, const char *path, oct_err *err);
void oct_safetensors_close(oct_safetensors *st);

// NULL when absent. Valid until oct_safetensors_close().
const oct_st_tensor *oct_safetensors_find(const oct_safetensors *st, const char *name);
const char *oct_safetensors_find_meta(const oct_safetensors *st, const char *key);

// Read bytes [from, from + bytes) of a tensor's data. Safe from several threads.
oct_status oct_safetensors_read(const oct_safetensors *st, const oct_st_tensor *tensor,
                                uint64_t from, uint64_t bytes, void *buffer, oct_err *err);

// Of a tensor that passed the checks.
uint64_t oct_st_elements(const oct_st_tensor *tensor);

// Set tensor->bytes from dtype, rank and shape. OCT_EFORMAT when a dimension is over
// OCT_ST_DIM_MAX, the product overflows or is not a whole number of bytes.
oct_status oct_st_size(oct_st_tensor *tensor, oct_err *err);

// All that oct_safetensors_open() checks, for a header already in memory: its JSON without the
// length, and the bytes of data behind it. Fills everything but `file`; on failure `st` is left
// empty.
oct_status oct_st_header_parse(oct_safetensors *st, const char *json, size_t bytes,
                               uint64_t data_bytes, oct_err *err);

// Writing: add every tensor and metadata entry, begin, write the data in any order, commit. The
// layout is fixed by content alone: tensors by descending dtype (oct_dtype order), then name;
// metadata by key; the header padded with spaces to a multiple of 8. No holes.
typedef struct oct_st_writer {
    oct_arena arena;
    oct_output output;
    oct_st_tensor *tensors;         // after begin: sorted, with offsets
    size_t n_tensors, capacity;
    oct_st_meta *meta;
    size_t n_meta, meta_capacity;
    oct_st_tensor **by_name;        // after begin: sorted
    uint64_t header_bytes;          // after begin: where data begins
    uint64_t file_bytes;            // after begin
} oct_st_writer;

// Names and values are copied. Breaking a rule of the reader above (name, rank, duplicate, UTF-8,
// the reserved name "__metadata__", header over its limit) fails in oct_st_writer_begin with
// OCT_EFORMAT, before any file is touched.
void oct_st_writer_add(oct_st_writer *writer, const char *name, oct_dtype dtype, int rank,
                       const uint64_t *shape);
void oct_st_writer_add_meta(oct_st_writer *writer, const char *key, const char *value);

oct_status oct_st_writer_begin(oct_st_writer *writer, const char *path, oct_err *err);

// NULL when no tensor has that name. After begin only.
const oct_st_tensor *oct_st_writer_find(const oct_st_writer *writer, const char *name);

// Write bytes [from, from + bytes) of a tensor. Safe from several threads. Every byte of every
// tensor must be written once before commit; that is the caller's promise.
oct_status oct_st_writer_write(oct_st_writer *writer, const oct_st_tensor *tensor, uint64_t from,
                               const void *data, uint64_t bytes, oct_err *err);
oct_status oct_st_writer_commit(oct_st_writer *writer, oct_err *err);

// Replace a metadata value of the same length after begin (a digest that is known only at the
// end). OCT_EFORMAT when the key is absent, the length differs or escapes change the header's
// length; nothing changes then.
oct_status oct_st_writer_patch_meta(oct_st_writer *writer, const char *key, const char *value,
                                    oct_err *err);

void oct_st_writer_deinit(oct_st_writer *writer);  // aborts an uncommitted file; fine when zeroed
