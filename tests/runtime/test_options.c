// SPDX-License-Identifier: Apache-2.0
//
// Sampling options, as wrong command lines give them.
#include "runtime/options.h"

#include "common/file.h"
#include "tests/test.h"
#include "tests/tools/scratch.h"

static const char *complaint(oct_sampling_options sampling)
{
    static oct_err err;
    err.text[0] = '\0';
    const oct_status st = oct_sampling_check(&sampling, "model", &err);
    CHECK(st == OCT_OK || st == OCT_EUSAGE);
    return st ? err.text : "";
}

static void the_defaults_are_right(void)
{
    oct_sampling_options sampling = OCT_SAMPLING_DEFAULTS;
    CHECK(oct_sampling_check(&sampling, "no-such-folder", NULL) == OCT_OK);
    CHECK(sampling.width == 1024 && sampling.height == 1024);
    CHECK(sampling.sampler == OCT_SAMPLER_EULER);
}

static oct_status check_with_config(const char *config, oct_sampling_options *sampling,
                                    oct_err *err)
{
    oct_arena arena = {0};
    char *model = oct_scratch_make();
    char *folder = oct_path_join(&arena, model, "transformer");

    *sampling = (oct_sampling_options)OCT_SAMPLING_DEFAULTS;
    CHECK(oct_folder_make(folder, NULL) == OCT_OK);
    CHECK(oct_file_write(oct_path_join(&arena, folder, "config.json"), config, strlen(config),
                         NULL) == OCT_OK);
    const oct_status st = oct_sampling_check(sampling, model, err);
    oct_scratch_remove(model);
    oct_arena_deinit(&arena);
    return st;
}

static void the_default_size_is_the_models(void)
{
    static const struct {
        const char *config;
        size_t side;
    } cases[] = {
        {"{\"sample_size\": 16}", 128},
        {"{\"sample_size\": 128, \"x\": 1}", 1024},
        {"{}", 1024},
        {"{\"sample_size\": 17}", 1024},
        {"{\"sample_size\": [64, 64]}", 1024},
        {"{\"sample_size\": 0}", 1024},
        {"{\"sample_size\": -16}", 1024},
        {"{\"sample_size\": 1e300}", 1024},
        {"{\"sample_size\": 8194}", 1024},
        {"[]", 1024},
    };
    oct_sampling_options sampling;
    oct_err err = {0};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(check_with_config(cases[i].config, &sampling, &err) == OCT_OK);
        CHECK(sampling.width == cases[i].side && sampling.height == cases[i].side);
    }
    CHECK(check_with_config("{\"sample_size\": 16", &sampling, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "transformer/config.json"));
}

static void wrong_options_are_named_with_what_they_need(void)
{
    oct_sampling_options o = OCT_SAMPLING_DEFAULTS;
    o.steps = 0;
    CHECK_TEXT(complaint(o), "option '--steps' needs a count from 1 to 1000, not 0");
    o = (oct_sampling_options)OCT_SAMPLING_DEFAULTS;
    o.t5_tokens = 513;
    CHECK_TEXT(complaint(o), "option '--t5-tokens' needs a count from 1 to 512, not 513");
    o = (oct_sampling_options)OCT_SAMPLING_DEFAULTS;
    o.cfg = -1;
    CHECK_TEXT(complaint(o), "option '--cfg' needs a number from 0 to 100, not -1");
    o = (oct_sampling_options)OCT_SAMPLING_DEFAULTS;
    o.sampler_name = "heun";
    CHECK_TEXT(complaint(o),
               "option '--sampler' needs euler, dpmpp-2m or dpmpp-2m-diffusers, not 'heun'");
    o = (oct_sampling_options)OCT_SAMPLING_DEFAULTS;
    o.size = "big";
    CHECK_TEXT(complaint(o), "size 'big' is not WIDTHxHEIGHT");
}

static void skipped_blocks_are_read_from_a_list(void)
{
    oct_slg_options slg = OCT_SLG_DEFAULTS;
    oct_arena arena = {0};

    CHECK(oct_slg_resolve(&slg, 4, &arena, NULL) == OCT_OK);
    CHECK(slg.blocks == NULL);
    slg.layers = "3,0";
    CHECK(oct_slg_resolve(&slg, 4, &arena, NULL) == OCT_OK);
    CHECK(slg.blocks && slg.blocks[0] && !slg.blocks[1] && !slg.blocks[2] && slg.blocks[3]);
    oct_arena_deinit(&arena);
}

static void broken_lists_of_blocks_are_refused(void)
{
    static const char *const broken[] = {"", ",", "1,", ",1", "a", "1 2", "-1", "9999999999999"};
    oct_arena arena = {0};
    oct_err err;

    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        oct_slg_options slg = {.layers = broken[i]};
        CHECK(oct_slg_resolve(&slg, 4, &arena, &err) == OCT_EUSAGE);
    }
    CHECK_TEXT(err.text, "option '--slg-layers' needs blocks such as 7,8,9, not '9999999999999'");
    oct_slg_options slg = {.layers = "7,40"};
    CHECK(oct_slg_resolve(&slg, 24, &arena, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "option '--slg-layers' names block 40 of a model with 24");
    oct_arena_deinit(&arena);
}

int main(void)
{
    RUN(the_defaults_are_right);
    RUN(the_default_size_is_the_models);
    RUN(wrong_options_are_named_with_what_they_need);
    RUN(skipped_blocks_are_read_from_a_list);
    RUN(broken_lists_of_blocks_are_refused);
    return test_end();
}
