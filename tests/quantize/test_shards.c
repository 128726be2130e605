// SPDX-License-Identifier: Apache-2.0
//
// Which tensor is in which shard, and what the shards are called.
#include "quantize/shards.h"

#include "common/cli.h"
#include "common/shard_index.h"
#include "tests/test.h"

#define MAX 8

// What huggingface_hub 0.36 gave for sizes in this order and at most 10 in a shard.
static void tensors_are_split_as_by_huggingface_hub(void)
{
    static const struct {
        uint64_t bytes[MAX];
        size_t n, shards, shard_of[MAX];
    } cases[] = {
        {{6, 6, 2, 6, 2, 2}, 6, 3, {0, 1, 1, 2, 2, 2}},
        {{3, 11, 4, 3, 1, 12}, 6, 4, {1, 0, 1, 1, 3, 2}},
        {{2, 11, 12, 8, 1}, 5, 4, {2, 0, 1, 2, 3}},
        {{11, 3, 11, 7, 1}, 5, 4, {0, 2, 1, 2, 3}},
        {{0, 0, 10, 0, 5, 5}, 6, 2, {0, 0, 0, 0, 1, 1}},
        {{10, 10}, 2, 2, {0, 1}},
        {{2, 3}, 2, 1, {0, 0}},
        {{11}, 1, 1, {0}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t shard_of[MAX] = {0};
        CHECK(oct_shards_split(cases[i].bytes, cases[i].n, 10, shard_of) == cases[i].shards);
        CHECK(memcmp(shard_of, cases[i].shard_of, sizeof shard_of) == 0);
    }
}

static void sizes_are_decimal_unless_they_say_i(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"500M", 500000000},
        {"5GB", 5000000000},
        {"1k", 1000},
        {"2gib", 2147483648},
        {"3TiB", 3298534883328},
        {"1KiB", 1024},
        {"07mb", 7000000},
        {"18446744T", 18446744000000000000u},
    };
    static const char *const wrong[] = {
        "",
        "5",
        "G",
        "0G",
        "-1G",
        "+1G",
        " 1G",
        "1 G",
        "1G ",
        "1.5G",
        "1e3K",
        "1X",
        "1B",
        "1GBB",
        "1Gi",
        "1GBi",
        "1ii",
        "18446745T",
        "99999999999999999999K",
        "0x1G",
    };
    uint64_t bytes = 0;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(oct_bytes_parse(cases[i].text, &bytes) && bytes == cases[i].bytes);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(!oct_bytes_parse(wrong[i], &bytes));
    }
}

static void shards_are_named_with_their_number(void)
{
    oct_arena arena = {0};

    CHECK_TEXT(oct_shard_path(&arena, "a/x.safetensors", 1, 12), "a/x-00002-of-00012.safetensors");
    CHECK_TEXT(oct_shard_path(&arena, "a/x.oct", 0, 1), "a/x.oct");
    CHECK_TEXT(oct_shard_whole_path(&arena, "a/x-00002-of-00012.safetensors"), "a/x.safetensors");
    CHECK(!oct_shard_whole_path(&arena, "a/x.safetensors"));
    CHECK(!oct_shard_whole_path(&arena, "a/x-0002-of-00012.safetensors"));
    CHECK(!oct_shard_whole_path(&arena, "-00002-of-00012.safetensors"));
    oct_arena_deinit(&arena);
}

static void too_many_shards_are_refused(void)
{
    oct_arena arena = {0};
    oct_shards shards = {0};
    oct_err err = {0};
    oct_out_tensor tensors[OCT_SHARDS_MAX + 1];
    const oct_outputs outputs = {.tensors = tensors, .n_tensors = OCT_SHARDS_MAX + 1};

    for (size_t i = 0; i < outputs.n_tensors; i++) {
        tensors[i] = (oct_out_tensor){.dtype = OCT_F32, .rank = 2, .shape = {25, 10}};
    }
    CHECK(oct_shards_init(&shards, &arena, &outputs, "x.safetensors", 1999, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "257 shards of 1999 bytes are over the limit of 256: choose a larger "
                         "--shard-size");
    CHECK(oct_shards_init(&shards, &arena, &outputs, "x.safetensors", 2000, &err) == OCT_OK);
    CHECK(shards.n == 129 && shards.shard_of[2] == 1);
    CHECK_TEXT(shards.index, "x.safetensors.index.json");
    CHECK(oct_shards_init(&shards, &arena, &outputs, "x.oct", 0, &err) == OCT_OK);
    CHECK(shards.n == 1 && shards.shard_of[256] == 0);
    oct_arena_deinit(&arena);
}

int main(void)
{
    RUN(tensors_are_split_as_by_huggingface_hub);
    RUN(sizes_are_decimal_unless_they_say_i);
    RUN(shards_are_named_with_their_number);
    RUN(too_many_shards_are_refused);
    return test_end();
}
