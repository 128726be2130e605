// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: lists of digests, tables of digests, git-LFS pointers and digest texts. The first
// byte says which.
#include <stdlib.h>
#include <string.h>

#include "common/manifest.h"
#include "common/xxh3_table.h"
#include "tests/fuzz/fuzz.h"
#include "verify/pointer.h"

#define A32 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A64 A32 A32

static const char *const texts[] = {
    "l" A64 "  model\n" A64 " *a/b\n\\" A64 "  c\\nd\n# note\nSHA256 (e) = " A64 "\n",
    "toctavo-xxh3 1\n" A32 "  __metadata__\n" A32 "  a.weight\n",
    "pversion https://git-lfs.github.com/spec/v1\noid sha256:" A64 "\nsize 123\n",
    "dW/\"sha256:" A64 "\"",
};

size_t fuzz_seed(size_t index, uint8_t *out, size_t bytes_max)
{
    if (index >= sizeof texts / sizeof *texts) return 0;
    return fuzz_seed_text(texts[index], out, bytes_max);
}

static void read_list(const char *path)
{
    oct_manifest manifest;
    oct_err err = {{0}};
    if (oct_manifest_load(&manifest, path, &err) && !err.text[0]) abort();
    for (size_t i = 0; i < manifest.n_entries; i++) {
        if (!oct_is_sha256_hex(manifest.entries[i].sha256)) abort();
        if (manifest.entries[i].name[0] == '/') abort();
    }
    oct_manifest_deinit(&manifest);
}

static void read_table(const char *path)
{
    oct_xxh3_table table;
    oct_err err = {{0}};
    if (oct_xxh3_table_read(&table, path, &err) && !err.text[0]) abort();
    oct_xxh3_table_deinit(&table);
}

static void read_pointer(const char *path)
{
    oct_expected expected;
    oct_err err = {{0}};
    const oct_status st = oct_lfs_pointer_load(&expected, path, &err);
    if (st ? !err.text[0] : !oct_is_sha256_hex(expected.sha256)) abort();
}

static void read_text(const uint8_t *data, size_t bytes)
{
    char text[200] = "";
    oct_expected expected;
    memcpy(text, data, bytes < sizeof text ? bytes : sizeof text - 1);
    if (oct_digest_text_parse(&expected, text) && !oct_is_sha256_hex(expected.sha256)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0) return 0;
    const uint8_t kind = *data++;
    bytes--;
    if (kind == 'd') {
        read_text(data, bytes);
        return 0;
    }
    const char *path = fuzz_file(data, bytes, ".txt");
    if (kind == 'l') read_list(path);
    if (kind == 't') read_table(path);
    if (kind == 'p') read_pointer(path);
    return 0;
}
