// SPDX-License-Identifier: Apache-2.0
//
// A small comparison for the reports: two candidates, two prompts, one of them hostile.
#pragma once

#include <math.h>

#include "regress/comparison.h"

#define SAMPLE_HOSTILE "</h3><script>alert('x')</script> & \"quotes\" \x01 \xff"

static const oct_prompt sample_prompts[] = {
    {.id = "fox", .text = "a red fox in the snow", .category = "animals"},
    {.id = "<b>", .text = SAMPLE_HOSTILE, .negative = "<i>blurry</i>"},
};

static oct_job sample_jobs_items[] = {
    {.prompt = &sample_prompts[0], .name = "fox", .negative = "", .seed = 7},
    {.prompt = &sample_prompts[1],
     .name = "_b_",
     .negative = "<i>blurry</i>",
     .seed = 18446744073709551615u},
};

static const oct_jobs sample_jobs = {.items = sample_jobs_items, .count = 2, .has_guidance = true};

static const oct_sampling_options sample_sampling = {
    .steps = 28, .cfg = 4.5, .negative = "", .t5_tokens = 256, .width = 256, .height = 192};

static const char *sample_images[] = {"images/0-reference/fox-7.png",
                                      "images/0-reference/_b_-8.png"};

static oct_outcome sample_outcomes[2][2] = {
    {{.metrics = {.is_identical = true, .psnr_db = INFINITY, .ssim = 1},
      .image = "images/1-all/fox-7.png",
      .heat = "images/1-all/fox-7.flip.png"},
     {.metrics = {.mse = 23.8, .psnr_db = 34.36, .ssim = 0.85, .flip_mean = 0.051, .flip_max = 0.2},
      .image = "images/1-all/_b_-8.png",
      .heat = "images/1-all/_b_-8.flip.png"}},
    {{.metrics = {.mse = 266, .psnr_db = 23.87, .ssim = 0.916, .flip_mean = 0.1, .flip_max = 0.5},
      .image = "images/2-_evil_/fox-7.png",
      .heat = "images/2-_evil_/fox-7.flip.png",
      .verdict = {1, {"PSNR 23.87 dB is below 30 dB"}}},
     {.metrics = {.mse = 43, .psnr_db = 31.76, .ssim = 0.896, .flip_mean = 0.16, .flip_max = 0.39},
      .image = "images/2-_evil_/_b_-8.png",
      .heat = "images/2-_evil_/_b_-8.flip.png"}},
};

static oct_compared sample_candidates[2];

#define SAMPLE_METRIC "<judge>&\"1\""

static double sample_scores[3][2] = {{1, 0.5}, {1, 0.5}, {0, 0.25}};  // reference first

static oct_score_outcome sample_score_outcomes[2];

static const oct_score_limit sample_limit = {SAMPLE_METRIC, 0.1};

static inline oct_scores sample_scores_of(int owner)
{
    return (oct_scores){.n_metrics = 1, .names = {SAMPLE_METRIC}, .values = {sample_scores[owner]}};
}

static inline oct_comparison sample_comparison(void)
{
    for (int i = 0; i < 2; i++) {
        oct_score_summarize(&sample_score_outcomes[i].summary, sample_scores[i + 1],
                            sample_scores[0], 2, NULL);
    }
    sample_score_outcomes[0].verdict = OCT_SCORE_PASSES;
    sample_score_outcomes[1].verdict = OCT_SCORE_FAILS;
    sample_candidates[0] = (oct_compared){
        .facts = {"all", "aa11", 443, 380, 380, 1000, 990, 8200000000},
        .is_policy = true,
        .outcomes = sample_outcomes[0],
        .summary = oct_summarize(sample_outcomes[0], 2),
        .scores = sample_scores_of(1),
        .score_outcomes = &sample_score_outcomes[0],
    };
    sample_candidates[1] = (oct_compared){
        .facts = {"<evil>&.safetensors", "bb22", 443, 100, 0, 1000, 400, 13000000000},
        .outcomes = sample_outcomes[1],
        .summary = oct_summarize(sample_outcomes[1], 2),
        .scores = sample_scores_of(2),
        .score_outcomes = &sample_score_outcomes[1],
    };
    return (oct_comparison){
        .reference = {"sd3.5_large.safetensors", "0123456789abcdef0123456789abcdef", 443, 0, 0,
                      1000, 0, 16300000000},
        .prompts_name = "prompts.txt",
        .prompts_sha256 = "00112233445566778899aabbccddeeff",
        .device = oct_device_cpu(),
        .sampling = &sample_sampling,
        .seed = 7,
        .jobs = &sample_jobs,
        .reference_images = sample_images,
        .reference_scores = sample_scores_of(0),
        .candidates = sample_candidates,
        .n_candidates = 2,
        .gate = {.psnr_db_min = 30,
                 .flip_max = INFINITY,
                 .score_limits = &sample_limit,
                 .n_score_limits = 1},
    };
}
