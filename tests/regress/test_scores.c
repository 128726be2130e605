// SPDX-License-Identifier: Apache-2.0
//
// Scores from outside: reading, comparing, judging.
#include "regress/scores.h"

#include <math.h>

#include "common/file.h"
#include "regress/gate.h"
#include "tests/test.h"
#include "tests/tools/scratch.h"

static char *folder;
static oct_arena arena;

static const oct_prompt prompts[] = {{.id = "fox", .text = "a fox"},
                                     {.id = "cat", .text = "a cat"}};
static oct_job items[] = {{.prompt = &prompts[0]}, {.prompt = &prompts[1]}};
static const oct_jobs jobs = {.items = items, .count = 2};

static oct_status load(oct_scores *scores, const char *text, oct_err *err)
{
    const char *path = oct_path_join(&arena, folder, "s.jsonl");
    CHECK(oct_file_write(path, text, strlen(text), NULL) == OCT_OK);
    return oct_scores_load(scores, path, &jobs, &arena, err);
}

#define FOX(value) "{\"id\": \"fox\", \"metric\": \"m\", \"value\": " value "}\n"
#define CAT(value) "{\"id\": \"cat\", \"metric\": \"m\", \"value\": " value "}\n"

static void values_go_to_their_prompts(void)
{
    oct_scores scores;
    oct_err err = {0};
    CHECK(load(&scores,
               CAT("0.5") "\n" FOX("-2") "{\"id\":\"fox\",\"metric\":\"n\",\"value\":1}\r\n"
                                         "{\"id\":\"cat\",\"metric\":\"n\",\"value\":1e3}",
               &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(scores.n_metrics == 2);
    CHECK_TEXT(scores.names[0], "m");
    CHECK(scores.values[0][0] == -2 && scores.values[0][1] == 0.5);
    CHECK(oct_scores_find(&scores, "n")[1] == 1000);
    CHECK(!oct_scores_find(&scores, "other"));
}

static void bad_lines_are_refused_in_one_sentence(void)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"", "there is no score in it"},
        {FOX("1"), "'m' of prompt 'cat' is missing"},
        {FOX("1") CAT("1") FOX("1"), "line 3: 'm' of prompt 'fox' is given twice"},
        {FOX("1") "{\"id\": \"dog\", \"metric\": \"m\", \"value\": 1}",
         "line 2: there is no prompt 'dog'"},
        {FOX("\"1\""), "line 1: 'value' must be a number"},
        {FOX("null"), "line 1: 'value' must be a number"},
        {"{\"id\": \"fox\", \"value\": 1}", "line 1: 'metric' is missing"},
        {"{\"id\": 7, \"metric\": \"m\", \"value\": 1}", "line 1: 'id' must be a string"},
        {"{\"id\": \"fox\", \"metric\": \"m\", \"value\": 1, \"note\": 2}",
         "line 1: unknown key 'note'"},
        {"{\"id\": \"fox\", \"metric\": \"a b\", \"value\": 1}",
         "line 1: 'metric' must have 1 to 64 printable ASCII characters"},
        {"[1]", "line 1: it is not an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_scores scores;
        oct_err err = {0};
        CHECK(load(&scores, cases[i].text, &err) == OCT_EFORMAT);
        const char *sentence = strstr(err.text, "s.jsonl'");
        CHECK(sentence);
        if (sentence) CHECK_TEXT(sentence + strcspn(sentence, " ") + 1, cases[i].sentence);
    }
    oct_scores scores;
    oct_err err = {0};
    CHECK(load(&scores, "{\"id\": \"fox\"", &err) == OCT_EFORMAT);
    CHECK(load(&scores, FOX("1e999"), &err) == OCT_EFORMAT);
    CHECK(oct_scores_load(&scores, "/nowhere.jsonl", &jobs, &arena, &err) == OCT_EIO);
}

// 60 prompts of which the first `lower` drop from 1 to 0 and the next `higher` rise from 0 to 1.
static oct_score_summary summarize(int lower, int higher)
{
    double candidate[60], reference[60];
    oct_score_summary summary;
    for (int i = 0; i < 60; i++) {
        candidate[i] = i >= lower;
        reference[i] = i < lower || i >= lower + higher;
    }
    CHECK(oct_score_summarize(&summary, candidate, reference, 60, NULL) == OCT_OK);
    return summary;
}

static void differences_are_paired(void)
{
    const oct_score_summary same = summarize(0, 0), even = summarize(5, 5),
                            worse = summarize(20, 0);

    CHECK(same.difference.low == 0 && same.difference.high == 0 && same.change == OCT_SCORE_SAME);
    CHECK(even.n_higher == 5 && even.n_lower == 5 && even.change == OCT_SCORE_SAME);
    CHECK_NEAR(even.difference.mean, 0, 1e-12);
    CHECK(worse.change == OCT_SCORE_LOWER && summarize(0, 20).change == OCT_SCORE_HIGHER);
    CHECK_NEAR(worse.mean, 40 / 60.0, 1e-12);
    CHECK_NEAR(worse.reference_mean, 1, 0);
    CHECK(worse.difference.high < -0.15 && worse.difference.low > -0.55);
}

static void a_drop_fails_when_it_is_large_and_no_chance(void)
{
    const oct_score_limit limit = {"m", 0.05};
    const oct_gate gate = {.psnr_db_min = -INFINITY,
                           .flip_max = INFINITY,
                           .score_limits = &limit,
                           .n_score_limits = 1};
    const oct_score_summary small = summarize(3, 0), large = summarize(20, 0),
                            unsure = summarize(14, 10), better = summarize(0, 20);

    CHECK(oct_gate_has_threshold(&gate));
    CHECK(oct_gate_judge_score(&gate, "m", &small) == OCT_SCORE_PASSES);
    CHECK(oct_gate_judge_score(&gate, "m", &large) == OCT_SCORE_FAILS);
    CHECK(oct_gate_judge_score(&gate, "m", &unsure) == OCT_SCORE_INCONCLUSIVE);
    CHECK(oct_gate_judge_score(&gate, "m", &better) == OCT_SCORE_PASSES);
    CHECK(oct_gate_judge_score(&gate, "other", &large) == OCT_SCORE_FREE);
}

int main(void)
{
    folder = oct_scratch_make();
    RUN(values_go_to_their_prompts);
    RUN(bad_lines_are_refused_in_one_sentence);
    RUN(differences_are_paired);
    RUN(a_drop_fails_when_it_is_large_and_no_chance);
    oct_arena_deinit(&arena);
    oct_scratch_remove(folder);
    return test_end();
}
