// SPDX-License-Identifier: Apache-2.0
//
// What a safetensors file or folder holds.
#include "verify/list.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/checkpoint.h"
#include "common/json.h"
#include "common/log.h"
#include "ptq/layers.h"
#include "ptq/source.h"
#include "verify/stored.h"

typedef struct totals {
    size_t tensors;
    uint64_t bytes, bytes_16;  // as stored; FP8 weights counted in 16 bit
} totals;

typedef struct range {
    size_t count;
    float min, max;
} range;

typedef struct listing {
    oct_checkpoint ckpt;
    totals all, by_dtype[OCT_DTYPE_COUNT], by_component[OCT_COMPONENT_COUNT];
    oct_source source;
    oct_denoiser denoiser;
    bool has_layers;
    oct_err reason;  // why not
    oct_dialects dialects;
    size_t n_fp8, n_static;
    totals by_role[OCT_ROLE_COUNT];
    size_t fp8_by_role[OCT_ROLE_COUNT];
    range weight_scales, input_scales;
} listing;

// ---- Collecting.

static bool is_fp8(oct_dtype dtype)
{
    return dtype == OCT_F8_E4M3 || dtype == OCT_F8_E5M2;
}

static void add(totals *t, const oct_st_tensor *tensor)
{
    t->tensors++;
    t->bytes += tensor->bytes;
    t->bytes_16 += is_fp8(tensor->dtype) ? 2 * tensor->bytes : tensor->bytes;
}

static void add_up(listing *l)
{
    for (size_t i = 0; i < l->ckpt.n_tensors; i++) {
        const oct_st_tensor *tensor = l->ckpt.tensors[i].tensor;
        add(&l->all, tensor);
        add(&l->by_dtype[tensor->dtype], tensor);
        add(&l->by_component[l->ckpt.tensors[i].component], tensor);
    }
}

static void widen(range *r, float value)
{
    if (!r->count++ || value < r->min) r->min = value;
    if (r->count == 1 || value > r->max) r->max = value;
}

static oct_status add_scales(listing *l, const oct_layer *layer, const oct_stored_layer *stored,
                             oct_err *err)
{
    uint64_t run;
    const uint64_t n = oct_stored_layer_scales(stored, layer, &run);
    float *scales = malloc(n * sizeof *scales);
    if (!scales) return oct_fail(err, OCT_ENOMEM, "out of memory for scales");
    const oct_status st = oct_stored_layer_read_scales(stored, layer, scales, NULL);
    for (uint64_t i = 0; i < n && !st; i++) widen(&l->weight_scales, scales[i]);
    free(scales);
    return OCT_OK;  // scales that are out of range are for verifying to say
}

static oct_status add_layer(listing *l, const oct_layer *layer, oct_err *err)
{
    oct_stored_layer stored = {0};
    l->by_role[layer->role].tensors++;
    l->by_role[layer->role].bytes += layer->weight->bytes;
    const bool is_broken = oct_stored_layer_read(&stored, &l->source, &l->dialects, layer, NULL);
    if (!is_fp8(layer->weight->dtype)) return OCT_OK;
    l->n_fp8++;
    l->fp8_by_role[layer->role]++;
    if (is_broken) return OCT_OK;
    l->n_static += !stored.whole.is_full_precision;
    if (stored.whole.input_scale > 0) widen(&l->input_scales, stored.whole.input_scale);
    if (l->dialects.of[layer->component] == OCT_DIALECT_CAST) return OCT_OK;
    return add_scales(l, layer, &stored, err);
}

static oct_status add_layers(listing *l, const char *path, oct_err *err)
{
    oct_status st = oct_source_open(&l->source, &(oct_model_paths){.model = path}, &l->reason);
    if (!st) {
        const bool is_split = l->source.checkpoint.is_diffusers || l->source.is_diffusers_named;
        const oct_denoiser_params params = {.with_t5 = !is_split};
        st = oct_denoiser_init_with(&l->denoiser, &l->source, &params, &l->reason);
    }
    l->has_layers = !st;
    if (st) return OCT_OK;
    oct_dialects_detect(&l->dialects, &l->source);
    for (size_t i = 0; i < l->denoiser.n_layers && !st; i++) {
        st = add_layer(l, &l->denoiser.layers[i], err);
    }
    return st;
}

// ---- Text.

static void print_bytes(uint64_t bytes)
{
    const double gb = (double)bytes / 1e9;
    if (gb >= 0.1)
        printf("%.2f GB", gb);
    else
        printf("%.2f MB", gb * 1e3);
}

static void print_memory(const listing *l)
{
    printf("memory    ");
    print_bytes(l->all.bytes);
    if (l->all.bytes_16 != l->all.bytes) {
        printf(" (");
        print_bytes(l->all.bytes_16);
        printf(" in 16 bit)");
    }
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        if (!l->by_component[i].tensors) continue;
        printf(", %s ", oct_component_name((oct_component)i));
        print_bytes(l->by_component[i].bytes);
    }
    putchar('\n');
}

static void print_range(const char *what, const range *r)
{
    if (!r->count) return;
    printf("scales    %zu of %s, %.6g to %.6g\n", r->count, what, (double)r->min, (double)r->max);
}

static void print_layers(const listing *l)
{
    const oct_denoiser *d = &l->denoiser;
    char safe[600];
    if (!l->has_layers) {
        printf("model     not known: %s\n", oct_printable(l->reason.text, safe, sizeof safe));
        return;
    }
    printf("model     %s: %d blocks, hidden %" PRIu64 ", %d heads\n", d->variant, d->depth,
           d->hidden, d->heads);
    printf("dialect   %s: %zu of %zu layers in FP8, %zu with a static input scale\n",
           oct_dialect_name(l->dialects.of[l->denoiser.component]), l->n_fp8, d->n_layers,
           l->n_static);
    for (int i = 0; i < OCT_ROLE_COUNT; i++) {
        if (!l->by_role[i].tensors) continue;
        printf("role      %-12s %4zu layers, %4zu in FP8 %15" PRIu64 " bytes\n",
               oct_role_name((oct_role)i), l->by_role[i].tensors, l->fp8_by_role[i],
               l->by_role[i].bytes);
    }
    print_range("weights", &l->weight_scales);
    print_range("inputs", &l->input_scales);
}

static void print_shape(const oct_st_tensor *tensor)
{
    putchar('[');
    for (int i = 0; i < tensor->rank; i++) {
        printf("%s%" PRIu64, i ? ", " : "", tensor->shape[i]);
    }
    putchar(']');
}

static void print_file(const oct_safetensors *file)
{
    char safe[512];
    for (size_t i = 0; i < file->n_meta; i++) {
        printf("metadata  %s", oct_printable(file->meta[i].key, safe, sizeof safe));
        printf(" = %s\n", oct_printable(file->meta[i].value, safe, sizeof safe));
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        const oct_st_tensor *t = &file->tensors[i];
        printf("%-8s %12" PRIu64 "  %s ", oct_dtype_name(t->dtype), t->bytes,
               oct_printable(t->name, safe, sizeof safe));
        print_shape(t);
        putchar('\n');
    }
}

static void print(const listing *l)
{
    char safe[600];
    for (size_t i = 0; i < l->ckpt.n_files; i++) {
        const oct_safetensors *file = &l->ckpt.files[i];
        printf("file      %s, %" PRIu64 " bytes, %zu tensors\n",
               oct_printable(file->file.path, safe, sizeof safe), file->file.bytes,
               file->n_tensors);
    }
    print_layers(l);
    print_memory(l);
    for (int i = 0; i < OCT_DTYPE_COUNT; i++) {
        if (!l->by_dtype[i].tensors) continue;
        printf("total     %-8s %7zu tensors %15" PRIu64 " bytes\n", oct_dtype_name((oct_dtype)i),
               l->by_dtype[i].tensors, l->by_dtype[i].bytes);
    }
    for (size_t i = 0; i < l->ckpt.n_files; i++) print_file(&l->ckpt.files[i]);
}

// ---- JSON.

static void add_totals(cJSON *object, const char *name, const totals *t)
{
    cJSON *item = cJSON_AddObjectToObject(object, name);
    cJSON_AddNumberToObject(item, "tensors", (double)t->tensors);
    cJSON_AddNumberToObject(item, "bytes", (double)t->bytes);
}

static void add_range(cJSON *object, const char *name, const range *r)
{
    if (!r->count) return;
    cJSON *item = cJSON_AddObjectToObject(object, name);
    cJSON_AddNumberToObject(item, "count", (double)r->count);
    cJSON_AddNumberToObject(item, "min", (double)r->min);
    cJSON_AddNumberToObject(item, "max", (double)r->max);
}

static void layers_to_json(const listing *l, cJSON *object)
{
    if (!l->has_layers) {
        cJSON_AddStringToObject(object, "unknown", l->reason.text);
        return;
    }
    cJSON_AddStringToObject(object, "model", l->denoiser.variant);
    cJSON_AddStringToObject(object, "dialect",
                            oct_dialect_name(l->dialects.of[l->denoiser.component]));
    cJSON_AddNumberToObject(object, "layers", (double)l->denoiser.n_layers);
    cJSON_AddNumberToObject(object, "layers_fp8", (double)l->n_fp8);
    cJSON_AddNumberToObject(object, "layers_static", (double)l->n_static);
    cJSON *roles = cJSON_AddObjectToObject(object, "roles");
    for (int i = 0; i < OCT_ROLE_COUNT; i++) {
        if (!l->by_role[i].tensors) continue;
        cJSON *item = cJSON_AddObjectToObject(roles, oct_role_name((oct_role)i));
        cJSON_AddNumberToObject(item, "layers", (double)l->by_role[i].tensors);
        cJSON_AddNumberToObject(item, "layers_fp8", (double)l->fp8_by_role[i]);
        cJSON_AddNumberToObject(item, "bytes", (double)l->by_role[i].bytes);
    }
    add_range(object, "weight_scales", &l->weight_scales);
    add_range(object, "input_scales", &l->input_scales);
}

static void file_to_json(const oct_safetensors *file, cJSON *files)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(files, object);
    cJSON_AddStringToObject(object, "file", file->file.path);
    cJSON_AddNumberToObject(object, "bytes", (double)file->file.bytes);
    cJSON *meta = cJSON_AddObjectToObject(object, "metadata");
    for (size_t i = 0; i < file->n_meta; i++) {
        cJSON_AddStringToObject(meta, file->meta[i].key, file->meta[i].value);
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

static void print_json(const listing *l)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "tool", "verify");
    layers_to_json(l, object);
    cJSON_AddNumberToObject(object, "weights_bytes", (double)l->all.bytes);
    cJSON_AddNumberToObject(object, "weights_bytes_16_bit", (double)l->all.bytes_16);
    cJSON *components = cJSON_AddObjectToObject(object, "components");
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        if (!l->by_component[i].tensors) continue;
        add_totals(components, oct_component_name((oct_component)i), &l->by_component[i]);
    }
    cJSON *dtypes = cJSON_AddObjectToObject(object, "dtypes");
    for (int i = 0; i < OCT_DTYPE_COUNT; i++) {
        if (!l->by_dtype[i].tensors) continue;
        add_totals(dtypes, oct_dtype_name((oct_dtype)i), &l->by_dtype[i]);
    }
    cJSON *files = cJSON_AddArrayToObject(object, "files");
    for (size_t i = 0; i < l->ckpt.n_files; i++) file_to_json(&l->ckpt.files[i], files);
    oct_json_finish(object);
}

oct_status oct_list(const char *path, bool json, oct_err *err)
{
    listing l = {0};
    oct_status st = oct_checkpoint_open(&l.ckpt, &(oct_model_paths){.model = path}, err);
    if (st) return st;
    add_up(&l);
    st = add_layers(&l, path, err);
    if (!st && json) print_json(&l);
    if (!st && !json) print(&l);
    oct_denoiser_deinit(&l.denoiser);
    oct_source_close(&l.source);
    oct_checkpoint_close(&l.ckpt);
    return st;
}
