// SPDX-License-Identifier: Apache-2.0
//
// The safetensors writer. Its header passes the reader's own checks before a file is touched.
#include "common/safetensors.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/utf8.h"

#define SHOWN_MAX 256

void oct_st_writer_add(oct_st_writer *writer, const char *name, oct_dtype dtype, int rank,
                       const uint64_t *shape)
{
    assert(rank >= 0 && !writer->output.is_open);
    writer->tensors = oct_arena_grow(&writer->arena, writer->tensors, writer->n_tensors,
                                     &writer->capacity, sizeof *writer->tensors);
    oct_st_tensor *tensor = &writer->tensors[writer->n_tensors++];
    *tensor =
        (oct_st_tensor){.name = oct_arena_copy(&writer->arena, name), .dtype = dtype, .rank = rank};
    for (int i = 0; i < rank && i < OCT_RANK_MAX; i++) tensor->shape[i] = shape[i];
}

void oct_st_writer_add_meta(oct_st_writer *writer, const char *key, const char *value)
{
    assert(!writer->output.is_open);
    writer->meta = oct_arena_grow(&writer->arena, writer->meta, writer->n_meta,
                                  &writer->meta_capacity, sizeof *writer->meta);
    writer->meta[writer->n_meta++] = (oct_st_meta){.key = oct_arena_copy(&writer->arena, key),
                                                   .value = oct_arena_copy(&writer->arena, value)};
}

// --- checks that the reader's cannot make on our behalf ---

static oct_status check_text(const char *what, const char *text, oct_err *err)
{
    char shown[SHOWN_MAX];

    if (oct_utf8_is_valid(text, strlen(text))) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "%s '%s' is not UTF-8", what,
                    oct_printable(text, shown, sizeof shown));
}

static oct_status check_tensor(oct_st_tensor *tensor, oct_err *err)
{
    char shown[SHOWN_MAX];

    oct_status st = check_text("tensor name", tensor->name, err);
    if (st) return st;
    if (strcmp(tensor->name, "__metadata__") == 0)
        return oct_fail(err, OCT_EFORMAT, "tensor name '__metadata__' is reserved");
    if (tensor->rank > OCT_RANK_MAX)
        st = oct_fail(err, OCT_EFORMAT, "rank is over the limit of %d", OCT_RANK_MAX);
    else
        st = oct_st_size(tensor, err);
    return st ? oct_wrap(err, st, "tensor '%s'", oct_printable(tensor->name, shown, sizeof shown))
              : OCT_OK;
}

static oct_status check_entries(oct_st_writer *writer, oct_err *err)
{
    oct_status st = OCT_OK;

    for (size_t i = 0; i < writer->n_tensors && !st; i++)
        st = check_tensor(&writer->tensors[i], err);
    for (size_t i = 0; i < writer->n_meta && !st; i++) {
        st = check_text("metadata key", writer->meta[i].key, err);
        if (!st) st = check_text("metadata value", writer->meta[i].value, err);
    }
    return st;
}

// --- layout ---

static int compare_layout(const void *a, const void *b)
{
    const oct_st_tensor *left = a, *right = b;

    if (left->dtype != right->dtype) return left->dtype > right->dtype ? -1 : 1;
    return strcmp(left->name, right->name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const oct_st_tensor *const *)a)->name,
                  (*(const oct_st_tensor *const *)b)->name);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const oct_st_meta *)a)->key, ((const oct_st_meta *)b)->key);
}

static void sort_meta(oct_st_writer *writer)
{
    if (writer->n_meta) qsort(writer->meta, writer->n_meta, sizeof *writer->meta, compare_keys);
}

// Offsets from the data's begin; their sum is left in file_bytes.
static oct_status lay_out(oct_st_writer *writer, oct_err *err)
{
    const size_t n = writer->n_tensors;

    writer->file_bytes = 0;
    if (n) qsort(writer->tensors, n, sizeof *writer->tensors, compare_layout);
    for (size_t i = 0; i < n; i++) {
        oct_st_tensor *tensor = &writer->tensors[i];
        tensor->offset = writer->file_bytes;
        if (__builtin_add_overflow(writer->file_bytes, tensor->bytes, &writer->file_bytes) ||
            writer->file_bytes > INT64_MAX / 2)
            return oct_fail(err, OCT_EFORMAT, "overflow: the tensors need more than 2^62 bytes");
    }
    writer->by_name = oct_arena_array(&writer->arena, n, sizeof *writer->by_name);
    for (size_t i = 0; i < n; i++) writer->by_name[i] = &writer->tensors[i];
    if (n) qsort(writer->by_name, n, sizeof *writer->by_name, compare_names);
    return OCT_OK;
}

// --- the header's text ---

static void put_meta(FILE *out, const oct_st_writer *writer)
{
    fputs("\"__metadata__\":{", out);
    for (size_t i = 0; i < writer->n_meta; i++) {
        if (i) fputc(',', out);
        oct_json_put_string(out, writer->meta[i].key);
        fputc(':', out);
        oct_json_put_string(out, writer->meta[i].value);
    }
    fputc('}', out);
}

// `base` is where the data begins, if the offset counts from the file's first byte.
static void put_tensor(FILE *out, const oct_st_tensor *tensor, uint64_t base)
{
    const uint64_t begin = tensor->offset - base;

    oct_json_put_string(out, tensor->name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", oct_dtype_name(tensor->dtype));
    for (int i = 0; i < tensor->rank; i++)
        fprintf(out, "%s%" PRIu64, i ? "," : "", tensor->shape[i]);
    fprintf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, begin + tensor->bytes);
}

// 8 bytes of length and the padded JSON, malloc'ed.
static char *print_header(const oct_st_writer *writer, uint64_t base, size_t *bytes)
{
    char *text = NULL;

    FILE *out = open_memstream(&text, bytes);
    if (!out) abort();
    fwrite("\0\0\0\0\0\0\0", 1, 8, out);
    fputc('{', out);
    if (writer->n_meta) put_meta(out, writer);
    for (size_t i = 0; i < writer->n_tensors; i++) {
        if (i || writer->n_meta) fputc(',', out);
        put_tensor(out, &writer->tensors[i], base);
    }
    fputc('}', out);
    while (ftell(out) % 8 != 0) fputc(' ', out);
    if (fclose(out)) abort();  // only memory can fail here, and these sizes are ours
    const uint64_t length = *bytes - 8;
    for (int i = 0; i < 8; i++) text[i] = (char)(length >> (8 * i));
    return text;
}

static oct_status check_header(const char *header, size_t bytes, uint64_t data_bytes, oct_err *err)
{
    oct_safetensors parsed = {0};

    if (bytes - 8 > OCT_ST_HEADER_MAX)
        return oct_fail(err, OCT_EFORMAT,
                        "header of %zu bytes is over the header limit of %u bytes", bytes - 8,
                        OCT_ST_HEADER_MAX);
    const oct_status st = oct_st_header_parse(&parsed, header + 8, bytes - 8, data_bytes, err);
    oct_safetensors_close(&parsed);
    return st;
}

// --- the file ---

static oct_status begin_file(oct_st_writer *writer, const char *path, const char *header,
                             oct_err *err)
{
    oct_status st = oct_output_begin(&writer->output, path, err);
    if (!st) st = oct_output_reserve(&writer->output, writer->file_bytes, err);
    if (!st) st = oct_output_write_at(&writer->output, header, writer->header_bytes, 0, err);
    if (st) oct_output_abort(&writer->output);
    return st;
}

oct_status oct_st_writer_begin(oct_st_writer *writer, const char *path, oct_err *err)
{
    char *header = NULL, shown[SHOWN_MAX];
    size_t header_bytes = 0;

    oct_status st = check_entries(writer, err);
    if (!st) st = lay_out(writer, err);
    if (!st) {
        sort_meta(writer);
        header = print_header(writer, 0, &header_bytes);
        st = check_header(header, header_bytes, writer->file_bytes, err);
    }
    if (st) {
        oct_wrap(err, st, "cannot write '%s'", oct_printable(path, shown, sizeof shown));
        goto out;
    }
    for (size_t i = 0; i < writer->n_tensors; i++) writer->tensors[i].offset += header_bytes;
    writer->header_bytes = header_bytes;
    writer->file_bytes += header_bytes;
    st = begin_file(writer, path, header, err);

out:
    free(header);
    return st;
}

static int compare_to_name(const void *name, const void *tensor)
{
    return strcmp(name, (*(const oct_st_tensor *const *)tensor)->name);
}

const oct_st_tensor *oct_st_writer_find(const oct_st_writer *writer, const char *name)
{
    if (writer->n_tensors == 0) return NULL;
    assert(writer->by_name);
    oct_st_tensor *const *found =
        bsearch(name, writer->by_name, writer->n_tensors, sizeof *writer->by_name, compare_to_name);
    return found ? *found : NULL;
}

oct_status oct_st_writer_write(oct_st_writer *writer, const oct_st_tensor *tensor, uint64_t from,
                               const void *data, uint64_t bytes, oct_err *err)
{
    assert(from <= tensor->bytes && bytes <= tensor->bytes - from);
    return oct_output_write_at(&writer->output, data, bytes, tensor->offset + from, err);
}

oct_status oct_st_writer_commit(oct_st_writer *writer, oct_err *err)
{
    return oct_output_commit(&writer->output, err);
}

// A value's length when escaped counts too, so the whole header is printed again and compared.
oct_status oct_st_writer_patch_meta(oct_st_writer *writer, const char *key, const char *value,
                                    oct_err *err)
{
    oct_st_meta *meta = writer->meta, *end = writer->meta + writer->n_meta;
    size_t bytes = 0;

    while (meta < end && strcmp(meta->key, key) != 0) meta++;
    if (meta == end) return oct_fail(err, OCT_EFORMAT, "there is no metadata key '%s'", key);
    oct_status st = check_text("metadata value", value, err);
    if (st) return st;
    const char *before = meta->value;
    meta->value = oct_arena_copy(&writer->arena, value);
    char *header = print_header(writer, writer->header_bytes, &bytes);
    if (strlen(before) != strlen(value) || bytes != writer->header_bytes)
        st = oct_fail(err, OCT_EFORMAT, "metadata value of '%s' must keep its length of %zu bytes",
                      key, strlen(before));
    else
        st = oct_output_write_at(&writer->output, header, bytes, 0, err);
    if (st) meta->value = before;
    free(header);
    return st;
}

void oct_st_writer_deinit(oct_st_writer *writer)
{
    oct_output_abort(&writer->output);
    oct_arena_deinit(&writer->arena);
    *writer = (oct_st_writer){0};
}
