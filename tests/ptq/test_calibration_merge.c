// SPDX-License-Identifier: Apache-2.0
//
// Merging calibrations: what is added, that the order changes nothing, and what must be refused.
#include "common/file.h"
#include "ptq/calibration.h"
#include "tests/ptq/model.h"
#include "tests/test.h"

#define LAYERS 2
#define STEPS 3

// A calibration whose numbers follow from `seed`, as if it came from a file.
static oct_calibration make(unsigned seed)
{
    oct_calibration c = {.sampler = "euler",
                         .steps = STEPS,
                         .width = 64,
                         .height = 32,
                         .cfg = 4.5,
                         .n_parts = 1,
                         .n_layers = LAYERS};
    static const char *const names[LAYERS] = {"a", "b"};

    snprintf(c.denoiser_xxh3, OCT_XXH128_HEX, "%032d", 5);
    c.parts = oct_arena_alloc(&c.arena, sizeof *c.parts);
    *c.parts = (oct_calibration_part){.prompts = seed, .seed = seed};
    snprintf(c.parts->prompts_sha256, OCT_SHA256_HEX, "%064u", seed % 2);
    c.layers = oct_arena_array(&c.arena, LAYERS, sizeof *c.layers);
    c.channels = oct_arena_array(&c.arena, LAYERS, sizeof *c.channels);
    for (unsigned i = 0; i < LAYERS; i++) {
        oct_calibration_layer *layer = &c.layers[i];
        oct_exponents *counts = oct_arena_alloc(&c.arena, sizeof *counts);
        oct_energy *sums = oct_arena_array(&c.arena, 2, sizeof *sums);
        *layer = (oct_calibration_layer){.name = names[i], .amax = 100};
        layer->cond = oct_arena_array(&c.arena, STEPS, sizeof *layer->cond);
        layer->uncond = oct_arena_array(&c.arena, STEPS, sizeof *layer->uncond);
        for (unsigned step = 0; step < STEPS; step++) {
            layer->cond[step] = (float)(seed * (step + 1) % 7 + i);
            layer->uncond[step] = (float)(seed * (step + 2) % 5);
        }
        *counts = (oct_exponents){{[30] = seed, [31] = 10}};
        sums[0] = (oct_energy){UINT64_MAX - seed, 0};
        sums[1] = (oct_energy){seed, 0};
        c.channels[i] = (oct_channels){.layer = names[i], .rows = 1000, .n = 2, .sums = sums};
        layer->exponents = counts;
        layer->channels = &c.channels[i];
    }
    return c;
}

static void every_number_is_merged(void)
{
    oct_calibration sum = make(3), other = make(4);
    oct_err err = {0};

    other.layers[1].amax = 200;
    CHECK(oct_calibration_merge(&sum, &other, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(sum.n_parts == 2 && oct_calibration_prompts(&sum) == 7);
    CHECK(sum.parts[0].seed == 4 && sum.parts[1].seed == 3);  // by digest
    CHECK(sum.layers[0].amax == 100 && sum.layers[1].amax == 200);
    for (int step = 0; step < STEPS; step++) {
        const float conds[2] = {(float)(3 * (step + 1) % 7), (float)(4 * (step + 1) % 7)};
        const float unconds[2] = {(float)(3 * (step + 2) % 5), (float)(4 * (step + 2) % 5)};
        CHECK(sum.layers[0].cond[step] == (conds[0] > conds[1] ? conds[0] : conds[1]));
        CHECK(sum.layers[1].uncond[step] == (unconds[0] > unconds[1] ? unconds[0] : unconds[1]));
    }
    CHECK(sum.layers[0].exponents->counts[30] == 7 && sum.layers[0].exponents->counts[31] == 20);
    CHECK(sum.layers[1].channels->rows == 2000);
    CHECK(sum.layers[1].channels->sums[0].high == 1);
    CHECK(sum.layers[1].channels->sums[0].low == UINT64_MAX - 8);
    CHECK(sum.layers[1].channels->sums[1].low == 7);
    oct_calibration_deinit(&other);
    oct_calibration_deinit(&sum);
}

static const char *merge_in_order(const unsigned order[4], oct_arena *arena, const char *name)
{
    oct_calibration sum = make(order[0]);
    oct_err err = {0};
    char *text = NULL;
    size_t bytes = 0;

    for (int i = 1; i < 4; i++) {
        oct_calibration other = make(order[i]);
        CHECK(oct_calibration_merge(&sum, &other, &err) == OCT_OK);
        oct_calibration_deinit(&other);
    }
    CHECK(oct_calibration_save(&sum, model_path(name), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    oct_calibration_deinit(&sum);
    CHECK(oct_file_read_text(arena, model_path(name), 1 << 20, &text, &bytes, &err) == OCT_OK);
    return text ? text : "";
}

// The text names the channels by their digest.
static void no_order_changes_a_byte(void)
{
    static const unsigned orders[][4] = {{1, 2, 3, 4}, {4, 3, 2, 1}, {2, 4, 1, 3}};
    oct_arena arena = {0};
    const char *first = merge_in_order(orders[0], &arena, "first.json");

    CHECK(strstr(first, "\"parts\"") != NULL);
    CHECK_TEXT(merge_in_order(orders[1], &arena, "second.json"), first);
    CHECK_TEXT(merge_in_order(orders[2], &arena, "third.json"), first);
    oct_arena_deinit(&arena);
}

static void merged_ones_merge(void)
{
    oct_calibration left = make(1), right = make(3), two = make(2), four = make(4);
    static const unsigned order[4] = {1, 2, 3, 4};
    oct_arena arena = {0};
    oct_calibration loaded;
    oct_err err = {0};
    char *text = NULL;
    size_t bytes = 0;

    CHECK(oct_calibration_merge(&left, &two, &err) == OCT_OK);
    CHECK(oct_calibration_merge(&right, &four, &err) == OCT_OK);
    CHECK(oct_calibration_save(&right, model_path("right.json"), &err) == OCT_OK);
    CHECK(oct_calibration_load(&loaded, model_path("right.json"), &err) == OCT_OK);
    CHECK(oct_calibration_merge(&left, &loaded, &err) == OCT_OK);
    CHECK(oct_calibration_save(&left, model_path("both.json"), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_file_read_text(&arena, model_path("both.json"), 1 << 20, &text, &bytes, NULL) ==
          OCT_OK);
    CHECK_TEXT(text, merge_in_order(order, &arena, "one-by-one.json"));
    oct_calibration *all[] = {&left, &right, &two, &four, &loaded};
    for (size_t i = 0; i < 5; i++) oct_calibration_deinit(all[i]);
    oct_arena_deinit(&arena);
}

static void check_refused(oct_calibration *other, const char *sentence)
{
    oct_calibration sum = make(1);
    oct_err err = {0};

    CHECK(oct_calibration_merge(&sum, other, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, sentence);
    oct_calibration_deinit(&sum);
    oct_calibration_deinit(other);
}

static void other_runs_are_refused(void)
{
    oct_calibration other = make(1);
    check_refused(&other, "has prompts 000000000000... of seed 1, which are in already");
    other = make(2);
    other.denoiser_xxh3[0] = '1';
    check_refused(&other, "is of another model");
    other = make(2);
    other.sampler = "dpmpp-2m";
    check_refused(&other, "has sampler 'dpmpp-2m', not 'euler'");
    other = make(2);
    other.steps = 2;
    check_refused(&other, "has 2 steps, not 3");
    other = make(2);
    other.cfg = 7;
    check_refused(&other, "has guidance 7, not 4.5");
    other = make(2);
    other.height = 64;
    check_refused(&other, "has size 64x64, not 64x32");
    other = make(2);
    other.n_layers = 1;
    check_refused(&other, "has 1 layers, not 2");
}

static void other_records_are_refused(void)
{
    oct_calibration other = make(2);
    other.layers[1].name = "c";
    check_refused(&other, "has layer 'c' in another place");
    other = make(2);
    other.layers[1].uncond = NULL;
    check_refused(&other, "has not the same records of layer 'b'");
    other = make(2);
    other.layers[0].exponents = NULL;
    check_refused(&other, "has not the same records of layer 'a'");
    other = make(2);
    other.layers[0].channels = NULL;
    check_refused(&other, "has not the same records of layer 'a'");
    other = make(2);
    other.channels[1].n = 1;
    check_refused(&other, "has 1 channels of layer 'b', not 2");
    other = make(2);
    other.channels[0].rows = UINT64_MAX;
    check_refused(&other, "makes more than 2^64 rows of layer 'a'");
    other = make(2);
    const oct_exponents many = {{[30] = (UINT64_C(1) << 53) - 1}};
    other.layers[1].exponents = &many;
    oct_calibration two = make(3);
    two.layers[1].exponents = &many;
    oct_err err = {0};
    CHECK(oct_calibration_merge(&two, &other, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "makes more than 2^53 numbers of layer 'b'");
    oct_calibration_deinit(&two);
    oct_calibration_deinit(&other);
}

#define PART(sha, seed) "{\"prompts_sha256\":\"" sha "\",\"prompts\":2,\"seed\":" seed "}"
#define SHA_1 "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"
#define SHA_2 "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"

static void check_parts(const char *parts, const char *sentence)
{
    oct_calibration calibration;
    oct_err err = {0};
    char text[2000], want[600];

    snprintf(text, sizeof text,
             "{\"octavo_calibration\":1,\"model\":{\"denoiser_xxh3\":"
             "\"0123456789abcdef0123456789abcdef\"},\"run\":{\"parts\":%s,\"sampler\":\"euler\","
             "\"steps\":1,\"cfg\":1,\"width\":64,\"height\":64},"
             "\"layers\":{\"a\":{\"amax\":1,\"cond\":[1],\"uncond\":[]}}}",
             parts);
    model_write_text(model_path("parts.json"), text);
    const oct_status st = oct_calibration_load(&calibration, model_path("parts.json"), &err);
    CHECK(st == (sentence ? OCT_EFORMAT : OCT_OK));
    snprintf(want, sizeof want, "cannot load the calibration: '%s': %s", model_path("parts.json"),
             sentence ? sentence : "");
    CHECK_TEXT(err.text, sentence ? want : "");
    CHECK(sentence || oct_calibration_prompts(&calibration) == 4);
    oct_calibration_deinit(&calibration);
}

static void parts_are_strict(void)
{
    check_parts("[" PART(SHA_1, "3") "," PART(SHA_2, "1") "]", NULL);
    check_parts("[" PART(SHA_1, "3") "," PART(SHA_1, "4") "]", NULL);
    check_parts("[" PART(SHA_1, "3") "," PART(SHA_1, "3") "]",
                "'parts' must be sorted and different");
    check_parts("[" PART(SHA_2, "3") "," PART(SHA_1, "3") "]",
                "'parts' must be sorted and different");
    check_parts("[" PART(SHA_1, "3") "]", "'parts' must be a list of at least two");
    check_parts("{}", "'parts' must be a list of at least two");
    check_parts("[1,2]", "'parts' must hold objects");
    check_parts("[" PART(SHA_1, "3") ",{\"x\":1}]", "'parts': unknown key 'x'");
    check_parts("[" PART(SHA_1, "3") "," PART(SHA_2, "1") "],\"seed\":1",
                "'run': unknown key 'seed'");
    check_parts("[" PART("ABC", "3") "," PART(SHA_2, "1") "]",
                "'parts': 'prompts_sha256' must be 64 lower-case hex digits");
}

int main(void)
{
    RUN(every_number_is_merged);
    RUN(no_order_changes_a_byte);
    RUN(merged_ones_merge);
    RUN(other_runs_are_refused);
    RUN(other_records_are_refused);
    RUN(parts_are_strict);
    return test_end();
}
