// SPDX-License-Identifier: Apache-2.0
//
// Tests of datasets/prompts: counts, strata, and that nothing is in both sets.
#include "runtime/prompts.h"
#include "tests/test.h"

static const char *const categories[] = {"people", "text", "counting", "texture",
                                         "dark",   "flat", "long",     "abstract"};

static void load(oct_prompts *prompts, const char *path)
{
    oct_err err = {0};

    CHECK(oct_prompts_load(prompts, path, 0, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void check_set(const char *name, size_t per_category)
{
    oct_prompts objects = {0}, texts = {0};
    char path[128];

    snprintf(path, sizeof path, "datasets/prompts/%s.jsonl", name);
    load(&objects, path);
    snprintf(path, sizeof path, "datasets/prompts/%s.txt", name);
    load(&texts, path);
    CHECK(objects.count == 8 * per_category && texts.count == objects.count);
    CHECK_TEXT(objects.sha256, texts.sha256);
    for (size_t i = 0; i < objects.count && !test_case_failed; i++) {
        CHECK_TEXT(objects.items[i].category, categories[i / per_category]);
        CHECK_TEXT(objects.items[i].text, texts.items[i].text);
    }
    oct_prompts_deinit(&objects);
    oct_prompts_deinit(&texts);
}

static void calibration_has_sixteen_prompts_per_stratum(void)
{
    check_set("calibration-128", 16);
}

static void evaluation_has_eight_prompts_per_stratum(void)
{
    check_set("evaluation-64", 8);
}

static void no_prompt_is_in_both_sets(void)
{
    oct_prompts calibration = {0}, evaluation = {0};

    load(&calibration, "datasets/prompts/calibration-128.jsonl");
    load(&evaluation, "datasets/prompts/evaluation-64.jsonl");
    for (size_t i = 0; i < calibration.count; i++) {
        for (size_t k = 0; k < evaluation.count; k++) {
            CHECK(strcmp(calibration.items[i].text, evaluation.items[k].text) != 0);
            CHECK(strcmp(calibration.items[i].id, evaluation.items[k].id) != 0);
        }
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(calibration.items[i].text, calibration.items[k].text) != 0);
    }
    for (size_t i = 0; i < evaluation.count; i++)
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(evaluation.items[i].text, evaluation.items[k].text) != 0);
    oct_prompts_deinit(&calibration);
    oct_prompts_deinit(&evaluation);
}

static void pocket_captions_are_distinct_and_apart(void)
{
    oct_prompts calibration = {0}, held_out = {0};

    load(&calibration, "datasets/prompts/pocket-calibration-32.txt");
    load(&held_out, "datasets/prompts/pocket-held-out-256.txt");
    CHECK(calibration.count == 32 && held_out.count == 256);
    for (size_t i = 0; i < held_out.count; i++) {
        for (size_t k = 0; k < calibration.count; k++) {
            CHECK(strcmp(calibration.items[k].text, held_out.items[i].text) != 0);
        }
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(held_out.items[i].text, held_out.items[k].text) != 0);
    }
    oct_prompts_deinit(&calibration);
    oct_prompts_deinit(&held_out);
}

int main(void)
{
    RUN(calibration_has_sixteen_prompts_per_stratum);
    RUN(evaluation_has_eight_prompts_per_stratum);
    RUN(no_prompt_is_in_both_sets);
    RUN(pocket_captions_are_distinct_and_apart);
    return test_end();
}
