// SPDX-License-Identifier: Apache-2.0
//
// The strict safetensors reader.
#include "common/safetensors.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_scan.h"
#include "common/log.h"

#define HEADER_DEPTH_MAX 8  // the format needs 3
#define SHOWN_MAX 256       // bytes of a foreign name in a sentence

typedef struct header_scan {
    oct_json_scan json;
    oct_safetensors *st;
    size_t tensors_capacity, meta_capacity;
    bool has_meta;
} header_scan;

// --- one entry of the header ---

static oct_status check_name(const char *name, size_t bytes, oct_err *err)
{
    if (bytes == 0) return oct_fail(err, OCT_EFORMAT, "a tensor name is empty");
    if (bytes > OCT_ST_NAME_MAX)
        return oct_fail(err, OCT_EFORMAT, "a tensor name of %zu bytes is over the limit of %u",
                        bytes, OCT_ST_NAME_MAX);
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f)
            return oct_fail(err, OCT_EFORMAT, "a tensor name has control character 0x%02x in it",
                            c);
    }
    return OCT_OK;
}

static oct_status scan_dtype(oct_json_scan *json, oct_dtype *dtype, oct_err *err)
{
    char shown[64], known[512] = "";

    oct_status st = oct_json_scan_expect(json, OCT_JSON_STRING, err);
    if (st) return oct_wrap(err, st, "dtype");
    if (strlen(json->value) == json->value_bytes && oct_dtype_parse(json->value, dtype))
        return OCT_OK;
    for (int i = 0; i < OCT_DTYPE_COUNT; i++) {
        strcat(known, i ? ", " : "");
        strcat(known, oct_dtype_name((oct_dtype)i));
    }
    return oct_fail(err, OCT_EFORMAT, "dtype '%s' is unknown (known: %s)",
                    oct_printable(json->value, shown, sizeof shown), known);
}

// The number just read, at most `max`.
static oct_status get_number(const oct_json_scan *json, const char *what, uint64_t max,
                             uint64_t *value, oct_err *err)
{
    if (oct_json_scan_u64(json, value) && *value <= max) return OCT_OK;
    const bool is_long = json->value_bytes > 40;
    return oct_fail(err, OCT_EFORMAT, "%s %.*s%s is not a whole number in 0..%" PRIu64, what,
                    is_long ? 40 : (int)json->value_bytes, json->value, is_long ? "..." : "", max);
}

static oct_status fail_not_number(const char *what, oct_err *err)
{
    return oct_fail(err, OCT_EFORMAT, "%s must be an array of whole numbers", what);
}

static oct_status scan_shape(oct_json_scan *json, oct_st_tensor *tensor, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;

    oct_status st = oct_json_scan_next(json, &token, err);
    if (st) return st;
    if (token != OCT_JSON_ARRAY) return fail_not_number("shape", err);
    for (tensor->rank = 0;; tensor->rank++) {
        st = oct_json_scan_next(json, &token, err);
        if (st || token == OCT_JSON_ARRAY_END) return st;
        if (token != OCT_JSON_NUMBER) return fail_not_number("shape", err);
        if (tensor->rank == OCT_RANK_MAX)
            return oct_fail(err, OCT_EFORMAT, "rank is over the limit of %d", OCT_RANK_MAX);
        st = get_number(json, "dimension", OCT_ST_DIM_MAX, &tensor->shape[tensor->rank], err);
        if (st) return st;
    }
}

// Both are relative to the data's begin; they are judged when all entries are known.
static oct_status scan_offsets(oct_json_scan *json, oct_st_tensor *tensor, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;
    uint64_t range[2] = {0};
    int n = 0;

    oct_status st = oct_json_scan_next(json, &token, err);
    if (st) return st;
    if (token != OCT_JSON_ARRAY) return fail_not_number("data_offsets", err);
    for (;; n++) {
        st = oct_json_scan_next(json, &token, err);
        if (st) return st;
        if (token == OCT_JSON_ARRAY_END) break;
        if (token != OCT_JSON_NUMBER) return fail_not_number("data_offsets", err);
        if (n == 2) return oct_fail(err, OCT_EFORMAT, "data_offsets has more than 2 numbers");
        st = get_number(json, "data_offsets: offset", UINT64_MAX, &range[n], err);
        if (st) return st;
    }
    if (n < 2) return oct_fail(err, OCT_EFORMAT, "data_offsets has %d of 2 numbers", n);
    if (range[0] > range[1])
        return oct_fail(err, OCT_EFORMAT,
                        "data_offsets [%" PRIu64 ", %" PRIu64 "] end before they begin", range[0],
                        range[1]);
    tensor->offset = range[0];
    tensor->bytes = range[1] - range[0];
    return OCT_OK;
}

static oct_status scan_fields(oct_json_scan *json, oct_st_tensor *tensor, oct_err *err)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    bool has[3] = {false};
    oct_json_token token = OCT_JSON_NULL;
    char shown[64];

    oct_status st = oct_json_scan_expect(json, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(json, &token, err);
        if (st) return st;
        if (token == OCT_JSON_OBJECT_END) break;
        size_t field = 0;
        while (field < 3 && strcmp(json->value, fields[field]) != 0) field++;
        if (field == 3 || strlen(json->value) != json->value_bytes)
            return oct_fail(err, OCT_EFORMAT, "unknown field '%s'",
                            oct_printable(json->value, shown, sizeof shown));
        if (has[field]) return oct_fail(err, OCT_EFORMAT, "duplicate field '%s'", fields[field]);
        has[field] = true;
        st = field == 0   ? scan_dtype(json, &tensor->dtype, err)
             : field == 1 ? scan_shape(json, tensor, err)
                          : scan_offsets(json, tensor, err);
    }
    for (size_t i = 0; i < 3 && !st; i++)
        if (!has[i]) st = oct_fail(err, OCT_EFORMAT, "missing field '%s'", fields[i]);
    return st;
}

static oct_status fail_tensor(oct_err *err, oct_status st, const char *name)
{
    char shown[SHOWN_MAX];
    return oct_wrap(err, st, "tensor '%s'", oct_printable(name, shown, sizeof shown));
}

static oct_status scan_tensor(header_scan *scan, const char *name, oct_err *err)
{
    oct_safetensors *st = scan->st;

    if (st->n_tensors == OCT_ST_TENSORS_MAX)
        return oct_fail(err, OCT_EFORMAT, "the number of tensors is over the limit of %u",
                        OCT_ST_TENSORS_MAX);
    st->tensors = oct_arena_grow(&st->arena, st->tensors, st->n_tensors, &scan->tensors_capacity,
                                 sizeof *st->tensors);
    oct_st_tensor *tensor = &st->tensors[st->n_tensors++];
    *tensor = (oct_st_tensor){.name = name};
    const oct_status status = scan_fields(&scan->json, tensor, err);
    return status ? fail_tensor(err, status, name) : OCT_OK;
}

// --- metadata ---

static oct_status scan_meta_entry(header_scan *scan, oct_err *err)
{
    oct_safetensors *st = scan->st;
    oct_json_scan *json = &scan->json;
    char shown[SHOWN_MAX];

    const char *key = json->value;
    bool has_nul = strlen(key) != json->value_bytes;
    const oct_status status = oct_json_scan_expect(json, OCT_JSON_STRING, err);
    if (status)
        return oct_wrap(err, status, "value of '%s'", oct_printable(key, shown, sizeof shown));
    has_nul |= strlen(json->value) != json->value_bytes;
    if (has_nul)
        return oct_fail(err, OCT_EFORMAT, "'%s' has U+0000 in it",
                        oct_printable(key, shown, sizeof shown));
    if (st->n_meta == OCT_ST_META_MAX)
        return oct_fail(err, OCT_EFORMAT, "the number of entries is over the limit of %u",
                        OCT_ST_META_MAX);
    st->meta =
        oct_arena_grow(&st->arena, st->meta, st->n_meta, &scan->meta_capacity, sizeof *st->meta);
    st->meta[st->n_meta++] = (oct_st_meta){.key = key, .value = json->value};
    return OCT_OK;
}

static oct_status scan_meta(header_scan *scan, oct_err *err)
{
    oct_json_token token = OCT_JSON_NULL;

    if (scan->has_meta) return oct_fail(err, OCT_EFORMAT, "duplicate key '__metadata__'");
    scan->has_meta = true;
    oct_status st = oct_json_scan_expect(&scan->json, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(&scan->json, &token, err);
        if (st || token == OCT_JSON_OBJECT_END) break;
        st = scan_meta_entry(scan, err);
    }
    return st ? oct_wrap(err, st, "metadata") : OCT_OK;
}

static int compare_meta(const void *a, const void *b)
{
    return strcmp((*(const oct_st_meta *const *)a)->key, (*(const oct_st_meta *const *)b)->key);
}

static oct_status check_meta(oct_safetensors *st, oct_err *err)
{
    char shown[SHOWN_MAX];

    const oct_st_meta **by_key = oct_arena_array(&st->arena, st->n_meta, sizeof *by_key);
    for (size_t i = 0; i < st->n_meta; i++) by_key[i] = &st->meta[i];
    qsort(by_key, st->n_meta, sizeof *by_key, compare_meta);
    for (size_t i = 1; i < st->n_meta; i++)
        if (strcmp(by_key[i - 1]->key, by_key[i]->key) == 0)
            return oct_fail(err, OCT_EFORMAT, "metadata: duplicate key '%s'",
                            oct_printable(by_key[i]->key, shown, sizeof shown));
    return OCT_OK;
}

// --- the whole header ---

static oct_status scan_header(header_scan *scan, oct_err *err)
{
    oct_json_scan *json = &scan->json;
    oct_json_token token = OCT_JSON_NULL;

    oct_status st = oct_json_scan_expect(json, OCT_JSON_OBJECT, err);
    while (!st) {
        st = oct_json_scan_next(json, &token, err);
        if (st || token == OCT_JSON_OBJECT_END) break;
        st = check_name(json->value, json->value_bytes, err);
        if (st) break;
        const bool is_meta = strcmp(json->value, "__metadata__") == 0;
        st = is_meta ? scan_meta(scan, err) : scan_tensor(scan, json->value, err);
    }
    if (!st) st = oct_json_scan_expect(json, OCT_JSON_END, err);
    return st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const oct_st_tensor *const *)a)->name,
                  (*(const oct_st_tensor *const *)b)->name);
}

// Empty tensors may share an offset with the tensor behind them, so the end decides then.
static int compare_ranges(const void *a, const void *b)
{
    const oct_st_tensor *left = a, *right = b;

    if (left->offset != right->offset) return left->offset < right->offset ? -1 : 1;
    if (left->bytes != right->bytes) return left->bytes < right->bytes ? -1 : 1;
    return strcmp(left->name, right->name);
}

static void index_names(oct_safetensors *st)
{
    if (!st->by_name) st->by_name = oct_arena_array(&st->arena, st->n_tensors, sizeof *st->by_name);
    for (size_t i = 0; i < st->n_tensors; i++) st->by_name[i] = &st->tensors[i];
    qsort(st->by_name, st->n_tensors, sizeof *st->by_name, compare_names);
}

static oct_status check_names(const oct_safetensors *st, oct_err *err)
{
    char shown[SHOWN_MAX];

    for (size_t i = 1; i < st->n_tensors; i++)
        if (strcmp(st->by_name[i - 1]->name, st->by_name[i]->name) == 0)
            return oct_fail(err, OCT_EFORMAT, "duplicate tensor name '%s'",
                            oct_printable(st->by_name[i]->name, shown, sizeof shown));
    return OCT_OK;
}

static oct_status check_range(const oct_st_tensor *tensor, uint64_t data_bytes, oct_err *err)
{
    const uint64_t begin = tensor->offset, end = begin + tensor->bytes;
    oct_st_tensor sized = *tensor;

    if (end > data_bytes)
        return oct_fail(err, OCT_EFORMAT,
                        "data_offsets [%" PRIu64 ", %" PRIu64 "] run past the end of the %" PRIu64
                        " bytes of data (truncated file)",
                        begin, end, data_bytes);
    const oct_status st = oct_st_size(&sized, err);
    if (st) return st;
    if (sized.bytes != tensor->bytes)
        return oct_fail(err, OCT_EFORMAT,
                        "shape and dtype need a size of %" PRIu64 " bytes, data_offsets [%" PRIu64
                        ", %" PRIu64 "] have %" PRIu64,
                        sized.bytes, begin, end, tensor->bytes);
    return OCT_OK;
}

// Every byte of the data belongs to exactly one tensor; `tensors` is sorted by compare_ranges.
static oct_status check_coverage(const oct_safetensors *st, uint64_t data_bytes, oct_err *err)
{
    uint64_t end = 0;

    for (size_t i = 0; i < st->n_tensors; i++) {
        const oct_st_tensor *tensor = &st->tensors[i];
        oct_status status = OCT_OK;
        if (tensor->offset < end)
            status = oct_fail(err, OCT_EFORMAT,
                              "data_offsets [%" PRIu64 ", %" PRIu64
                              "] overlap another tensor, which ends at %" PRIu64,
                              tensor->offset, tensor->offset + tensor->bytes, end);
        else if (tensor->offset > end)
            status = oct_fail(err, OCT_EFORMAT,
                              "data_offsets [%" PRIu64 ", %" PRIu64 "] leave a hole from %" PRIu64,
                              tensor->offset, tensor->offset + tensor->bytes, end);
        if (status) return fail_tensor(err, status, tensor->name);
        end += tensor->bytes;
    }
    if (end != data_bytes)
        return oct_fail(err, OCT_EFORMAT, "%" PRIu64 " trailing bytes behind the last tensor",
                        data_bytes - end);
    return OCT_OK;
}

static oct_status check_header(oct_safetensors *st, uint64_t data_bytes, oct_err *err)
{
    index_names(st);
    oct_status status = check_names(st, err);
    if (!status) status = check_meta(st, err);
    for (size_t i = 0; i < st->n_tensors && !status; i++) {
        status = check_range(&st->tensors[i], data_bytes, err);
        if (status) fail_tensor(err, status, st->tensors[i].name);
    }
    if (status) return status;
    if (st->n_tensors) qsort(st->tensors, st->n_tensors, sizeof *st->tensors, compare_ranges);
    index_names(st);  // the elements have moved
    return check_coverage(st, data_bytes, err);
}

oct_status oct_st_header_parse(oct_safetensors *st, const char *json, size_t bytes,
                               uint64_t data_bytes, oct_err *err)
{
    header_scan scan = {.st = st};

    *st = (oct_safetensors){.header_bytes = 8 + (uint64_t)bytes};
    oct_json_scan_init(&scan.json, json, bytes, HEADER_DEPTH_MAX, &st->arena);
    oct_status status = scan_header(&scan, err);
    if (!status) status = check_header(st, data_bytes, err);
    for (size_t i = 0; i < st->n_tensors; i++) st->tensors[i].offset += st->header_bytes;
    if (status) oct_safetensors_close(st);
    return status;
}

// --- the file ---

static uint64_t load_u64(const unsigned char bytes[8])
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

// What a file without a possible header length is, or NULL.
static const char *find_kind(const unsigned char start[8])
{
    static const struct {
        const char *magic, *kind;
    } kinds[] = {
        {"version ", "a git-LFS pointer"},
        {"PK\x03\x04", "a pickle in a ZIP archive (PyTorch)"},
        {"\x80\x02", "a pickle"},
        {"\x80\x04", "a pickle"},
        {"GGUF", "a GGUF file"},
        {"<!DOCTYP", "an HTML page"},
        {"<!doctyp", "an HTML page"},
        {"<html", "an HTML page"},
        {"{\"", "a JSON file"},
        {"{\n", "a JSON file"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (memcmp(start, kinds[i].magic, strlen(kinds[i].magic)) == 0) return kinds[i].kind;
    return NULL;
}

static oct_status check_header_length(const unsigned char start[8], uint64_t file_bytes,
                                      oct_err *err)
{
    const uint64_t length = load_u64(start);

    if (length > OCT_ST_HEADER_MAX) {
        const char *kind = find_kind(start);
        if (kind) return oct_fail(err, OCT_EFORMAT, "is %s, not a safetensors file", kind);
        return oct_fail(err, OCT_EFORMAT,
                        "header length %" PRIu64 " is over the header limit of %u bytes", length,
                        OCT_ST_HEADER_MAX);
    }
    if (length > file_bytes - 8)
        return oct_fail(err, OCT_EFORMAT,
                        "truncated: the header has %" PRIu64 " bytes, %" PRIu64 " are there",
                        length, file_bytes - 8);
    return OCT_OK;
}

static oct_status read_header(const oct_file *file, char **json, size_t *bytes, oct_err *err)
{
    unsigned char start[8];

    if (file->bytes < sizeof start)
        return oct_fail(err, OCT_EFORMAT, "truncated: %" PRIu64 " bytes hold no header",
                        file->bytes);
    oct_status st = oct_file_read(file, start, sizeof start, 0, err);
    if (!st) st = check_header_length(start, file->bytes, err);
    if (st) return st;
    *bytes = (size_t)load_u64(start);
    *json = malloc(*bytes + 1);
    if (!*json) return oct_fail(err, OCT_ENOMEM, "out of memory for a header of %zu bytes", *bytes);
    return oct_file_read(file, *json, *bytes, sizeof start, err);
}

oct_status oct_safetensors_open(oct_safetensors *st, const char *path, oct_err *err)
{
    oct_file file = {0};
    char *json = NULL, shown[SHOWN_MAX];
    size_t bytes = 0;

    *st = (oct_safetensors){0};
    oct_status status = oct_file_open(&file, path, err);
    if (status) return status;  // that sentence has the path
    status = read_header(&file, &json, &bytes, err);
    if (!status) status = oct_st_header_parse(st, json, bytes, file.bytes - 8 - bytes, err);
    free(json);
    if (status) {
        oct_file_close(&file);
        return oct_wrap(err, status, "'%s'", oct_printable(path, shown, sizeof shown));
    }
    st->file = file;
    return OCT_OK;
}

void oct_safetensors_close(oct_safetensors *st)
{
    oct_file_close(&st->file);
    oct_arena_deinit(&st->arena);
    *st = (oct_safetensors){0};
}

static int compare_to_name(const void *name, const void *tensor)
{
    return strcmp(name, (*(const oct_st_tensor *const *)tensor)->name);
}

const oct_st_tensor *oct_safetensors_find(const oct_safetensors *st, const char *name)
{
    if (st->n_tensors == 0) return NULL;
    oct_st_tensor *const *found =
        bsearch(name, st->by_name, st->n_tensors, sizeof *st->by_name, compare_to_name);
    return found ? *found : NULL;
}

const char *oct_safetensors_find_meta(const oct_safetensors *st, const char *key)
{
    for (size_t i = 0; i < st->n_meta; i++)
        if (strcmp(st->meta[i].key, key) == 0) return st->meta[i].value;
    return NULL;
}

oct_status oct_safetensors_read(const oct_safetensors *st, const oct_st_tensor *tensor,
                                uint64_t from, uint64_t bytes, void *buffer, oct_err *err)
{
    assert(from <= tensor->bytes && bytes <= tensor->bytes - from);
    const oct_status status = oct_file_read(&st->file, buffer, bytes, tensor->offset + from, err);
    return status ? fail_tensor(err, status, tensor->name) : OCT_OK;
}

uint64_t oct_st_elements(const oct_st_tensor *tensor)
{
    uint64_t elements = 1;

    for (int i = 0; i < tensor->rank; i++) elements *= tensor->shape[i];
    return elements;
}

oct_status oct_st_size(oct_st_tensor *tensor, oct_err *err)
{
    bool is_zero = false;
    uint64_t bits = oct_dtype_bits(tensor->dtype);

    for (int i = 0; i < tensor->rank; i++) {
        const uint64_t dim = tensor->shape[i];
        if (dim > OCT_ST_DIM_MAX)
            return oct_fail(err, OCT_EFORMAT,
                            "dimension %" PRIu64 " is not a whole number in 0..%" PRIu64, dim,
                            (uint64_t)OCT_ST_DIM_MAX);
        is_zero |= dim == 0;
        // A zero hides no overflow: otherwise the order of the dimensions would matter.
        if (dim > 0 && __builtin_mul_overflow(bits, dim, &bits))
            return oct_fail(err, OCT_EFORMAT, "overflow: the shape's product exceeds 64 bits");
    }
    if (is_zero) bits = 0;
    if (bits % 8 != 0)
        return oct_fail(err, OCT_EFORMAT,
                        "sub-byte elements of %" PRIu64 " bits do not fill whole bytes", bits);
    tensor->bytes = bits / 8;
    return OCT_OK;
}
