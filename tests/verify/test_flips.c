// SPDX-License-Identifier: Apache-2.0
//
// Single flipped bits in a model, its list and its table: every one is noticed. 300 of them, or
// 10,000 with scripts/test --long.
#include <stdlib.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/manifest.h"
#include "common/xxh3_table.h"
#include "tests/ptq/model.h"
#include "tests/test.h"
#include "verify/check.h"
#include "verify/scan.h"

static int n_flips = 300;
static char model[300], list[300], table[300];

// One block of one head: small, so that many flips are soon tried.
static const model_spec smallest = {1, 1, 0, true, 4, 16, 16, OCT_F16, true};

static void write_sidecars(void)
{
    oct_safetensors file = {0};
    oct_scan scan = {0};
    oct_arena arena = {0};
    char hex[OCT_SHA256_HEX];
    CHECK(oct_safetensors_open(&file, model, NULL) == OCT_OK);
    CHECK(oct_sha256_of_file(&file.file, hex, NULL) == OCT_OK);
    CHECK(oct_scan_file(&scan, &file, true, NULL, NULL) == OCT_OK);
    oct_xxh3_entry *entries = oct_arena_array(&arena, file.n_tensors + 1, sizeof *entries);
    entries[0] = (oct_xxh3_entry){OCT_XXH3_HEADER, scan.header};
    for (size_t i = 0; i < file.n_tensors; i++) {
        entries[i + 1] = (oct_xxh3_entry){file.tensors[i].name, scan.tensors[i].digest};
    }
    model_write_text(table, oct_xxh3_table_print(&arena, entries, file.n_tensors + 1));
    model_write_text(list, oct_manifest_line(&arena, hex, oct_path_name(model)));
    oct_arena_deinit(&arena);
    oct_scan_deinit(&scan);
    oct_safetensors_close(&file);
}

static bool holds(bool fast)
{
    verify_job job = {.o = {.file = model, .sqnr_db_min = -INFINITY, .fast = fast}};
    const oct_status st = oct_verify_check(&job, NULL);
    const bool is_held = !st && oct_verify_holds(&job);
    oct_verify_deinit(&job);
    return is_held;
}

static void flip(const char *path, uint64_t bit)
{
    FILE *file = fopen(path, "r+b");
    fseek(file, (long)(bit / 8), SEEK_SET);
    const int byte = fgetc(file);
    fseek(file, (long)(bit / 8), SEEK_SET);
    fputc(byte ^ 1 << bit % 8, file);
    fclose(file);
}

static uint64_t bits_of(const char *path)
{
    struct stat is;
    CHECK(stat(path, &is) == 0);
    return 8 * (uint64_t)is.st_size;
}

static void flip_many(const char *const *paths, size_t n_paths, bool fast)
{
    uint64_t state = 88172645463325252u;
    int missed = 0;
    CHECK(holds(fast));
    for (int i = 0; i < n_flips; i++) {
        const char *path = paths[(size_t)i % n_paths];
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const uint64_t bit = state % bits_of(path);
        flip(path, bit);
        if (holds(fast) && !missed++)
            printf("# missed: %s bit %llu\n", path, (unsigned long long)bit);
        flip(path, bit);
    }
    CHECK(missed == 0);
    CHECK(holds(fast));
}

static void every_flip_is_noticed(void)
{
    flip_many((const char *const[]){model, list, table}, 3, false);
}

static void without_sha256_every_flip_is_noticed_too(void)
{
    flip_many((const char *const[]){model, table}, 2, true);
}

int main(void)
{
    model_file file = {0};
    if (test_is_long()) n_flips = 10000;
    snprintf(model, sizeof model, "%s", model_path("model.safetensors"));
    snprintf(list, sizeof list, "%s", model_path("model.safetensors.sha256"));
    snprintf(table, sizeof table, "%s", model_path("model.safetensors.xxh3"));
    model_add_sai(&file, &smallest, "");
    file.meta = "{\"note\": \"free text\"}";
    model_save(&file, model);
    model_deinit(&file);
    write_sidecars();
    RUN(every_flip_is_noticed);
    RUN(without_sha256_every_flip_is_noticed_too);
    return test_end();
}
