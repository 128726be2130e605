// SPDX-License-Identifier: Apache-2.0
//
// What a safetensors file holds.
#include "verify/list.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/log.h"

typedef struct totals {
    size_t tensors;
    uint64_t bytes;
} totals;

static void add_up(const oct_safetensors *file, totals by_dtype[OCT_DTYPE_COUNT])
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        totals *t = &by_dtype[file->tensors[i].dtype];
        t->tensors++;
        t->bytes += file->tensors[i].bytes;
    }
}

static void print_shape(const oct_st_tensor *tensor)
{
    putchar('[');
    for (int i = 0; i < tensor->rank; i++) {
        printf("%s%" PRIu64, i ? ", " : "", tensor->shape[i]);
    }
    putchar(']');
}

void oct_list_print(const oct_safetensors *file)
{
    char safe[512];
    for (size_t i = 0; i < file->n_meta; i++) {
        printf("metadata  %s", oct_printable(file->meta[i].key, safe, sizeof safe));
        printf(" = %s\n", oct_printable(file->meta[i].value, safe, sizeof safe));
    }
    totals by_dtype[OCT_DTYPE_COUNT] = {{0}};
    add_up(file, by_dtype);
    for (int i = 0; i < OCT_DTYPE_COUNT; i++) {
        if (!by_dtype[i].tensors) continue;
        printf("total     %-8s %7zu tensors %15" PRIu64 " bytes\n", oct_dtype_name((oct_dtype)i),
               by_dtype[i].tensors, by_dtype[i].bytes);
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        const oct_st_tensor *t = &file->tensors[i];
        printf("%-8s %12" PRIu64 "  %s ", oct_dtype_name(t->dtype), t->bytes,
               oct_printable(t->name, safe, sizeof safe));
        print_shape(t);
        putchar('\n');
    }
}

void oct_list_to_json(const oct_safetensors *file, cJSON *object)
{
    cJSON *meta = cJSON_AddObjectToObject(object, "metadata");
    for (size_t i = 0; i < file->n_meta; i++) {
        cJSON_AddStringToObject(meta, file->meta[i].key, file->meta[i].value);
    }
    totals by_dtype[OCT_DTYPE_COUNT] = {{0}};
    add_up(file, by_dtype);
    cJSON *dtypes = cJSON_AddObjectToObject(object, "dtypes");
    for (int i = 0; i < OCT_DTYPE_COUNT; i++) {
        if (!by_dtype[i].tensors) continue;
        cJSON *item = cJSON_AddObjectToObject(dtypes, oct_dtype_name((oct_dtype)i));
        cJSON_AddNumberToObject(item, "tensors", (double)by_dtype[i].tensors);
        cJSON_AddNumberToObject(item, "bytes", (double)by_dtype[i].bytes);
    }
    cJSON *tensors = cJSON_AddArrayToObject(object, "tensors");
    for (size_t i = 0; i < file->n_tensors; i++) {
        const oct_st_tensor *t = &file->tensors[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", t->name);
        cJSON_AddStringToObject(item, "dtype", oct_dtype_name(t->dtype));
        cJSON *shape = cJSON_AddArrayToObject(item, "shape");
        for (int d = 0; d < t->rank; d++) {
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape[d]));
        }
        cJSON_AddNumberToObject(item, "bytes", (double)t->bytes);
        cJSON_AddItemToArray(tensors, item);
    }
}
