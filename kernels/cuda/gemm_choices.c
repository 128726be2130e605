// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_choices.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"

#define VERSION 1
#define WORDS (sizeof((oct_lt_algorithm){0}.data) / sizeof(uint64_t))
#define HEX_DIGITS (WORDS * 16)
#define FUSED_ALL (OCT_GEMM_FUSED_ROW_SCALES | OCT_GEMM_FUSED_BIAS | OCT_GEMM_FUSED_GELU)

typedef struct oct_gemm_chosen {
    char product[OCT_GEMM_PRODUCT_MAX];
    oct_gemm_choice choice;
} oct_gemm_chosen;

static oct_gemm_chosen *find(const oct_gemm_choices *choices, const char *product)
{
    for (size_t i = 0; i < choices->n; i++) {
        if (strcmp(choices->entries[i].product, product) == 0) return &choices->entries[i];
    }
    return NULL;
}

const oct_gemm_choice *oct_gemm_choices_find(const oct_gemm_choices *choices, const char *product)
{
    const oct_gemm_chosen *entry = find(choices, product);
    return entry ? &entry->choice : NULL;
}

static oct_gemm_chosen *append(oct_gemm_choices *choices, const char *product)
{
    choices->entries = oct_arena_grow(&choices->arena, choices->entries, choices->n, &choices->room,
                                      sizeof *choices->entries);
    oct_gemm_chosen *entry = &choices->entries[choices->n++];
    *entry = (oct_gemm_chosen){0};
    assert(strlen(product) < sizeof entry->product);
    strcpy(entry->product, product);
    return entry;
}

void oct_gemm_choices_put(oct_gemm_choices *choices, const char *product,
                          const oct_gemm_choice *choice)
{
    oct_gemm_chosen *entry = find(choices, product);
    if (!entry) entry = append(choices, product);
    entry->choice = *choice;
    choices->is_new = true;
}

void oct_gemm_choices_deinit(oct_gemm_choices *choices)
{
    oct_arena_deinit(&choices->arena);
    *choices = (oct_gemm_choices){0};
}

static oct_status parse_algorithm(const char *hex, oct_lt_algorithm *algorithm, oct_err *err)
{
    if (strlen(hex) != HEX_DIGITS || strspn(hex, "0123456789abcdef") != HEX_DIGITS)
        return oct_fail(err, OCT_EFORMAT, "'algorithm' is not %zu hexadecimal digits", HEX_DIGITS);
    for (size_t i = 0; i < WORDS; i++) {
        char word[17] = {0};
        memcpy(word, hex + 16 * i, 16);
        algorithm->data[i] = strtoull(word, NULL, 16);
    }
    return OCT_OK;
}

static oct_status parse_choice(oct_gemm_choices *choices, const cJSON *item, oct_err *err)
{
    static const char *const known[] = {"product", "fused", "algorithm", NULL};
    const char *product = NULL, *hex = NULL;
    uint64_t fused = 0;
    oct_gemm_choice choice = {0};

    oct_status st = oct_json_only_keys(item, known, err);
    if (!st) st = oct_json_text(item, "product", &product, err);
    if (!st) st = oct_json_count(item, "fused", &fused, err);
    if (!st) st = oct_json_text(item, "algorithm", &hex, err);
    if (!st) st = parse_algorithm(hex, &choice.algorithm, err);
    if (st) return st;
    if (strlen(product) >= OCT_GEMM_PRODUCT_MAX || fused > FUSED_ALL)
        return oct_fail(err, OCT_EFORMAT, "a product or what it fuses is out of range");
    choice.fused = (unsigned)fused;
    oct_gemm_choices_put(choices, product, &choice);
    return OCT_OK;
}

static oct_status check_count(const cJSON *root, const char *key, uint64_t want, oct_err *err)
{
    uint64_t got = 0;
    const oct_status st = oct_json_count(root, key, &got, err);
    if (st || got == want) return st;
    return oct_fail(err, OCT_EUNSUPPORTED, "'%s' is %" PRIu64 ", not %" PRIu64, key, got, want);
}

static oct_status check_maker(const cJSON *root, const oct_gemm_maker *maker, oct_err *err)
{
    static const char *const known[] = {"version",         "library", "device", "sm",
                                        "multiprocessors", "plans",   NULL};
    const char *device = NULL;

    oct_status st = oct_json_only_keys(root, known, err);
    if (!st) st = check_count(root, "version", VERSION, err);
    if (!st) st = check_count(root, "library", maker->library, err);
    if (!st) st = check_count(root, "sm", (uint64_t)maker->sm, err);
    if (!st) st = check_count(root, "multiprocessors", (uint64_t)maker->multiprocessors, err);
    if (!st) st = oct_json_text(root, "device", &device, err);
    if (st || strcmp(device, maker->device_name) == 0) return st;
    return oct_fail(err, OCT_EUNSUPPORTED, "'device' is '%s', not '%s'", device,
                    maker->device_name);
}

static oct_status parse_choices(oct_gemm_choices *choices, const cJSON *root, oct_err *err)
{
    const cJSON *plans = cJSON_GetObjectItemCaseSensitive(root, "plans"), *item = NULL;

    if (!cJSON_IsArray(plans)) return oct_fail(err, OCT_EFORMAT, "'plans' must be an array");
    cJSON_ArrayForEach(item, plans)
    {
        const oct_status st = parse_choice(choices, item, err);
        if (st) return st;
    }
    choices->is_new = false;
    return OCT_OK;
}

oct_status oct_gemm_choices_load(oct_gemm_choices *choices, const char *path,
                                 const oct_gemm_maker *maker, oct_err *err)
{
    cJSON *root = NULL;

    *choices = (oct_gemm_choices){0};
    if (!oct_path_exists(path)) return OCT_OK;
    oct_status st = oct_json_load(path, &root, err);
    if (st) return st;
    st = check_maker(root, maker, err);
    if (!st) st = parse_choices(choices, root, err);
    cJSON_Delete(root);
    if (!st) return OCT_OK;
    oct_gemm_choices_deinit(choices);
    return oct_wrap(err, st, "'%s'", path);
}

static cJSON *choice_to_json(const oct_gemm_chosen *entry)
{
    char hex[HEX_DIGITS + 1];
    cJSON *item = cJSON_CreateObject();

    for (size_t i = 0; i < WORDS; i++)
        snprintf(hex + 16 * i, 17, "%016" PRIx64, entry->choice.algorithm.data[i]);
    cJSON_AddStringToObject(item, "product", entry->product);
    cJSON_AddNumberToObject(item, "fused", entry->choice.fused);
    cJSON_AddStringToObject(item, "algorithm", hex);
    return item;
}

oct_status oct_gemm_choices_save(oct_gemm_choices *choices, const char *path,
                                 const oct_gemm_maker *maker, oct_err *err)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "version", VERSION);
    cJSON_AddNumberToObject(root, "library", (double)maker->library);
    cJSON_AddStringToObject(root, "device", maker->device_name);
    cJSON_AddNumberToObject(root, "sm", maker->sm);
    cJSON_AddNumberToObject(root, "multiprocessors", maker->multiprocessors);
    cJSON *plans = cJSON_AddArrayToObject(root, "plans");
    for (size_t i = 0; i < choices->n; i++)
        cJSON_AddItemToArray(plans, choice_to_json(&choices->entries[i]));

    char *text = oct_json_print(root);
    const oct_status st = oct_file_write(path, text, strlen(text), err);
    if (!st) choices->is_new = false;
    free(text);
    cJSON_Delete(root);
    return st;
}

oct_status oct_gemm_choices_prepare(const char *path, oct_err *err)
{
    oct_arena arena = {0};
    char *folder = oct_arena_copy(&arena, path), *slash = strrchr(folder, '/');
    oct_status st = OCT_OK;

    if (slash) {
        *slash = '\0';
        char *outer = strrchr(folder, '/');
        if (outer && outer > folder && !oct_path_exists(folder)) {
            *outer = '\0';
            st = oct_folder_make(folder, err);
            *outer = '/';
        }
        if (!st) st = oct_folder_make(folder, err);
        if (!st) st = oct_folder_check(folder, err);
    }
    oct_arena_deinit(&arena);
    return st;
}
