// SPDX-License-Identifier: Apache-2.0
//
// One pass over a file's data.
#include "verify/scan.h"

#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/xxh3_table.h"
#include "tests/ptq/model.h"
#include "tests/test.h"

#define BIG (5 * (1 << 19))  // bytes: two and a half chunks

static uint8_t codes[BIG], plain[100];

static void save(const char *path)
{
    model_file file = {.meta = "{\"note\":\"free text, where any letter may stand\"}"};
    model_add(&file, "codes", OCT_F8_E4M3, 1, &(uint64_t){BIG}, codes);
    model_add(&file, "e5m2", OCT_F8_E5M2, 1, &(uint64_t){100}, plain);
    model_add(&file, "empty", OCT_F32, 1, &(uint64_t){0}, NULL);
    model_add(&file, "plain", OCT_U8, 1, &(uint64_t){100}, plain);
    model_save(&file, path);
    model_deinit(&file);
}

static const oct_scan_tensor *at(const oct_scan *scan, const oct_safetensors *file,
                                 const char *name)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (!strcmp(file->tensors[i].name, name)) return &scan->tensors[i];
    }
    return NULL;
}

static void write_table(const oct_safetensors *file, const oct_scan *scan, const char *path)
{
    oct_arena arena = {0};
    oct_xxh3_entry *entries = oct_arena_array(&arena, file->n_tensors + 1, sizeof *entries);
    entries[0] = (oct_xxh3_entry){OCT_XXH3_HEADER, scan->header};
    for (size_t i = 0; i < file->n_tensors; i++) {
        entries[i + 1] = (oct_xxh3_entry){file->tensors[i].name, scan->tensors[i].digest};
    }
    model_write_text(path, oct_xxh3_table_print(&arena, entries, file->n_tensors + 1));
    oct_arena_deinit(&arena);
}

static void digests_are_those_of_the_data_for_any_number_of_threads(void)
{
    const char *path = model_path("scan.safetensors");
    oct_err err = {{0}};
    for (size_t i = 0; i < BIG; i++) codes[i] = (uint8_t)(i * 2654435761u >> 24);
    save(path);
    for (int threads = 1; threads <= 3; threads++) {
        oct_safetensors file = {0};
        oct_scan scan = {0};
        omp_set_num_threads(threads);
        CHECK(oct_safetensors_open(&file, path, &err) == OCT_OK);
        CHECK(oct_scan_file(&scan, &file, true, NULL, &err) == OCT_OK);
        const oct_xxh128 want = oct_digest_of_data(codes, BIG);
        CHECK(!memcmp(&at(&scan, &file, "codes")->digest, &want, sizeof want));
        oct_scan_deinit(&scan);
        oct_safetensors_close(&file);
    }
}

static void the_files_sha256_comes_from_the_same_pass(void)
{
    const char *path = model_path("sha256.safetensors");
    oct_err err = {{0}};
    save(path);
    for (int threads = 1; threads <= 9; threads += 4) {
        for (int needs_digests = 0; needs_digests <= 1; needs_digests++) {
            char want[OCT_SHA256_HEX], got[OCT_SHA256_HEX];
            oct_safetensors file = {0};
            oct_scan scan = {0}, alone = {0};
            omp_set_num_threads(threads);
            CHECK(oct_safetensors_open(&file, path, &err) == OCT_OK);
            CHECK(oct_sha256_of_file(&file.file, want, &err) == OCT_OK);
            CHECK(oct_scan_file(&scan, &file, needs_digests, got, &err) == OCT_OK);
            CHECK_TEXT(got, want);
            CHECK(oct_scan_file(&alone, &file, needs_digests, NULL, &err) == OCT_OK);
            for (size_t i = 0; i < file.n_tensors && needs_digests; i++)
                CHECK(!memcmp(&scan.tensors[i], &alone.tensors[i], sizeof *alone.tensors));
            CHECK(at(&scan, &file, "codes")->n_nan == at(&alone, &file, "codes")->n_nan);
            oct_scan_deinit(&scan);
            oct_scan_deinit(&alone);
            oct_safetensors_close(&file);
        }
    }
}

static void a_file_that_shrinks_meanwhile_is_an_error(void)
{
    const char *path = model_path("shrinks.safetensors");
    for (int threads = 1; threads <= 9; threads += 4) {
        for (int has_sha256 = 0; has_sha256 <= 1; has_sha256++) {
            char sha256[OCT_SHA256_HEX] = "unset";
            oct_safetensors file = {0};
            oct_scan scan = {0};
            oct_err err = {{0}};
            save(path);
            omp_set_num_threads(threads);
            CHECK(oct_safetensors_open(&file, path, &err) == OCT_OK);
            CHECK(truncate(path, (off_t)file.file.bytes - BIG / 2) == 0);
            CHECK(oct_scan_file(&scan, &file, true, has_sha256 ? sha256 : NULL, &err) == OCT_EIO);
            CHECK(strstr(err.text, path) != NULL);
            CHECK_TEXT(sha256, has_sha256 ? "" : "unset");
            oct_scan_deinit(&scan);
            oct_safetensors_close(&file);
        }
    }
}

static void codes_that_are_no_numbers_are_counted(void)
{
    const char *path = model_path("nan.safetensors");
    oct_safetensors file = {0};
    oct_scan scan = {0};
    oct_findings findings = {0};
    oct_err err = {{0}};
    memset(codes, 0x7e, BIG);
    memset(plain, 0x7b, sizeof plain);
    codes[(1 << 20) + 5] = 0xff;
    codes[BIG - 1] = 0x7f;
    plain[7] = 0xfc;  // infinity in E5M2; the U8 tensor has it too and does not mind
    save(path);
    CHECK(oct_safetensors_open(&file, path, &err) == OCT_OK);
    CHECK(oct_scan_file(&scan, &file, false, NULL, &err) == OCT_OK);
    CHECK(at(&scan, &file, "codes")->n_nan == 2);
    CHECK(at(&scan, &file, "codes")->first_nan == (1 << 20) + 5);
    CHECK(at(&scan, &file, "e5m2")->n_nan == 1 && at(&scan, &file, "e5m2")->first_nan == 7);
    CHECK(at(&scan, &file, "plain")->n_nan == 0);
    oct_scan_check_codes(&scan, &file, &findings);
    CHECK(findings.count == 2);
    CHECK_TEXT(findings.items[0].text,
               "tensor 'codes' has 2 NaN codes, the first at index 1048581");
    oct_findings_deinit(&findings);
    oct_scan_deinit(&scan);
    oct_safetensors_close(&file);
}

// Flip random bits, one at a time, anywhere in the file: the table notices each, or the header no
// longer parses.
static void every_flipped_bit_is_noticed(void)
{
    const char *path = model_path("flip.safetensors"), *table = model_path("flip.xxh3");
    oct_safetensors file = {0};
    oct_scan scan = {0};
    oct_err err = {{0}};
    uint32_t state = 1;
    memset(codes, 0x11, BIG);
    save(path);
    CHECK(oct_safetensors_open(&file, path, &err) == OCT_OK);
    CHECK(oct_scan_file(&scan, &file, true, NULL, &err) == OCT_OK);
    write_table(&file, &scan, table);
    const uint64_t bytes = file.file.bytes;
    oct_scan_deinit(&scan);
    oct_safetensors_close(&file);
    for (int i = 0; i < 200; i++) {
        state = state * 1664525 + 1013904223;
        // Every other one in the header.
        const uint64_t offset = (uint64_t)state * (i % 2 ? bytes : 400) >> 32;
        FILE *out = fopen(path, "r+b");
        fseek(out, (long)offset, SEEK_SET);
        const int byte = fgetc(out);
        fseek(out, (long)offset, SEEK_SET);
        fputc(byte ^ 1 << i % 8, out);
        fclose(out);
        oct_findings findings = {0};
        oct_status st = oct_safetensors_open(&file, path, NULL);
        if (!st) st = oct_scan_file(&scan, &file, true, NULL, &err);
        if (!st) st = oct_scan_check_table(&scan, &file, table, &findings, &err);
        CHECK(st == OCT_EFORMAT || findings.count > 0);
        oct_findings_deinit(&findings);
        oct_scan_deinit(&scan);
        oct_safetensors_close(&file);
        out = fopen(path, "r+b");
        fseek(out, (long)offset, SEEK_SET);
        fputc(byte, out);
        fclose(out);
    }
}

int main(void)
{
    RUN(digests_are_those_of_the_data_for_any_number_of_threads);
    RUN(the_files_sha256_comes_from_the_same_pass);
    RUN(a_file_that_shrinks_meanwhile_is_an_error);
    RUN(codes_that_are_no_numbers_are_counted);
    RUN(every_flipped_bit_is_noticed);
    return test_end();
}
