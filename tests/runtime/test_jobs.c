// SPDX-License-Identifier: Apache-2.0
//
// Jobs: seeds, negatives and names.
#include "runtime/jobs.h"

#include "common/file.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/scratch.h"

static oct_prompt items[] = {
    {.id = "0000", .text = "a fox"},
    {.id = "../../etc/passwd", .text = "a path", .negative = "blurry"},
    {.id = "b", .text = "own seed", .has_seed = true, .seed = 12345678901234567890u},
};

static const oct_prompts prompts = {.items = items, .count = 3};

static void a_job_has_the_first_seed_and_its_position_unless_it_has_its_own(void)
{
    const oct_sampling_options sampling = {.negative = "", .cfg = 4.5};
    oct_jobs jobs;

    oct_jobs_init(&jobs, &prompts, &sampling, 100);
    CHECK(jobs.items[0].seed == 100 && jobs.items[1].seed == 101);
    CHECK(jobs.items[2].seed == 12345678901234567890u);
    oct_jobs_deinit(&jobs);
}

static void a_negative_of_its_own_wins(void)
{
    const oct_sampling_options sampling = {.negative = "ugly", .cfg = 4.5};
    oct_jobs jobs;

    oct_jobs_init(&jobs, &prompts, &sampling, 0);
    CHECK_TEXT(jobs.items[0].negative, "ugly");
    CHECK_TEXT(jobs.items[1].negative, "blurry");
    CHECK(jobs.has_guidance);
    oct_jobs_deinit(&jobs);
}

static void guidance_of_one_is_none(void)
{
    const oct_sampling_options sampling = {.negative = "", .cfg = 1};
    oct_jobs jobs;

    oct_jobs_init(&jobs, &prompts, &sampling, 0);
    CHECK(!jobs.has_guidance);
    oct_jobs_deinit(&jobs);
}

static void ids_never_leave_the_folder(void)
{
    oct_arena arena = {0};
    char wide[300];

    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    CHECK_TEXT(oct_file_name_of(&arena, "../../etc/passwd"), "_._.._etc_passwd");
    CHECK_TEXT(oct_file_name_of(&arena, ".."), "_.");
    CHECK_TEXT(oct_file_name_of(&arena, ".hidden"), "_hidden");
    CHECK_TEXT(oct_file_name_of(&arena, "\xc3\xa9 \n"), "____");
    CHECK_TEXT(oct_file_name_of(&arena, "a-b_c.9"), "a-b_c.9");
    CHECK_TEXT(oct_file_name_of(&arena, ""), "_");
    CHECK(strlen(oct_file_name_of(&arena, wide)) == 100);
    oct_arena_deinit(&arena);
}

static void equal_names_are_refused_with_their_positions(void)
{
    static oct_prompt twins[] = {{.id = "a b"}, {.id = "c"}, {.id = "a_b"}};
    const oct_prompts set = {.items = twins, .count = 3};
    const oct_sampling_options sampling = {.negative = ""};
    oct_jobs jobs;
    oct_err err = {0};

    oct_jobs_init(&jobs, &prompts, &sampling, 0);
    CHECK(oct_jobs_check_names(&jobs, &err) == OCT_OK);
    oct_jobs_deinit(&jobs);
    oct_jobs_init(&jobs, &set, &sampling, 0);
    CHECK(oct_jobs_check_names(&jobs, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "prompts 1 and 3 both have the id 'a_b' as a file name");
    oct_jobs_deinit(&jobs);
}

static void a_model_is_called_by_the_end_of_its_path(void)
{
    oct_arena arena = {0};
    CHECK_TEXT(oct_model_name(&arena, "models/sd3.5.safetensors"), "sd3.5.safetensors");
    CHECK_TEXT(oct_model_name(&arena, "models/sd3.5//"), "sd3.5");
    CHECK_TEXT(oct_model_name(&arena, "sd3.5"), "sd3.5");
    oct_arena_deinit(&arena);
}

static bool is_same(const oct_conditioning *a, const oct_conditioning *b)
{
    const size_t bytes = a->tokens * a->width * sizeof *a->context;
    return a->tokens == b->tokens && memcmp(a->context, b->context, bytes) == 0;
}

static void every_job_gets_its_own_texts(void)
{
    static oct_prompt texts[] = {
        {.id = "0", .text = "a fox"},
        {.id = "1", .text = "a cat", .negative = "a dog"},
        {.id = "2", .text = "a dog"},
        {.id = "3", .text = "", .negative = ""},
    };
    const oct_prompts set = {.items = texts, .count = 4};
    const oct_sampling_options sampling = {.negative = "", .cfg = 2};
    char *folder = oct_scratch_make();
    oct_arena arena = {0};
    const char *path = oct_path_join(&arena, folder, "model");
    const oct_fabric fabric = {
        .out = path, .size = oct_model_size_small(1, 0), .dtype = OCT_F16, .lacks_t5 = true};
    oct_pipeline pipeline = {0};
    oct_jobs jobs;

    CHECK(oct_fabricate(&fabric, NULL) == OCT_OK);
    CHECK(oct_pipeline_open(&pipeline, &(oct_model_paths){.model = path}, NULL) == OCT_OK);
    oct_jobs_init(&jobs, &set, &sampling, 0);
    CHECK(oct_jobs_encode(&jobs, &pipeline, 4, NULL) == OCT_OK);
    const oct_job *job = jobs.items;
    CHECK(!is_same(job[0].conditional, job[1].conditional));
    CHECK(is_same(job[1].unconditional, job[2].conditional));
    CHECK(is_same(job[0].unconditional, job[3].conditional));
    CHECK(is_same(job[0].unconditional, job[2].unconditional));
    CHECK(is_same(job[0].unconditional, job[3].unconditional));
    oct_jobs_deinit(&jobs);
    oct_pipeline_close(&pipeline);
    oct_arena_deinit(&arena);
    oct_scratch_remove(folder);
}

// ---- A device that has no room for the VAE while the denoiser is there.

static const oct_pipeline *tight_pipeline;
static size_t tight_refusals;

static oct_status tight_alloc(oct_device *device, void **p, size_t bytes, const char *what,
                              oct_err *err)
{
    if (strstr(what, "VAE") && tight_pipeline->has_mmdit) {
        tight_refusals++;
        return oct_fail(err, OCT_ENOMEM, "out of memory for %s", what);
    }
    return oct_device_cpu()->ops->alloc(device, p, bytes, what, err);
}

static void render_two(oct_pipeline *pipeline, const oct_jobs *jobs, oct_image images[2])
{
    oct_sampling_options sampling = {.steps = 2, .cfg = 2, .width = 32, .height = 32};
    oct_executed executed;

    CHECK(oct_pipeline_load_denoiser(pipeline, NULL, NULL) == OCT_OK);
    for (size_t i = 0; i < 2; i++) {
        const oct_sample_params params = oct_job_params(&jobs->items[i], &sampling, NULL);
        CHECK(oct_render(pipeline, pipeline, &params, &executed, &images[i], NULL) == OCT_OK);
        CHECK(executed.f16 > 0 && executed.paths[OCT_PATH_F32] == executed.f16);
    }
}

static void the_vae_and_the_denoiser_take_turns_where_room_is_tight(void)
{
    static oct_prompt texts[] = {{.id = "0", .text = "a fox"}, {.id = "1", .text = "a cat"}};
    const oct_prompts set = {.items = texts, .count = 2};
    const oct_sampling_options sampling = {.negative = "", .cfg = 2};
    oct_device_ops ops = *oct_device_cpu()->ops;
    oct_device tight = *oct_device_cpu();
    char *folder = oct_scratch_make();
    oct_arena arena = {0};
    const char *path = oct_path_join(&arena, folder, "model");
    const oct_fabric fabric = {
        .out = path, .size = oct_model_size_small(1, 0), .dtype = OCT_F16, .lacks_t5 = true};
    oct_image want[2] = {{0}}, got[2] = {{0}};
    oct_pipeline pipeline = {0};
    oct_jobs jobs;

    CHECK(oct_fabricate(&fabric, NULL) == OCT_OK);
    CHECK(oct_pipeline_open(&pipeline, &(oct_model_paths){.model = path}, NULL) == OCT_OK);
    oct_jobs_init(&jobs, &set, &sampling, 0);
    CHECK(oct_jobs_encode(&jobs, &pipeline, 4, NULL) == OCT_OK);
    render_two(&pipeline, &jobs, want);
    CHECK(pipeline.has_mmdit && pipeline.has_vae);

    oct_pipeline_unload_denoiser(&pipeline);
    oct_pipeline_unload_vae(&pipeline);
    ops.alloc = tight_alloc;
    tight.ops = &ops;
    tight.is_gpu = true;
    pipeline.device = &tight;
    tight_pipeline = &pipeline;
    render_two(&pipeline, &jobs, got);
    CHECK(tight_refusals == 2 && pipeline.is_evicted && !pipeline.has_vae);
    for (size_t i = 0; i < 2; i++) {
        CHECK(memcmp(got[i].rgb, want[i].rgb, 3 * 32 * 32) == 0);
        oct_image_deinit(&got[i]);
        oct_image_deinit(&want[i]);
    }
    oct_jobs_deinit(&jobs);
    oct_pipeline_close(&pipeline);
    oct_arena_deinit(&arena);
    oct_scratch_remove(folder);
}

int main(void)
{
    RUN(a_job_has_the_first_seed_and_its_position_unless_it_has_its_own);
    RUN(a_negative_of_its_own_wins);
    RUN(guidance_of_one_is_none);
    RUN(ids_never_leave_the_folder);
    RUN(equal_names_are_refused_with_their_positions);
    RUN(every_job_gets_its_own_texts);
    RUN(the_vae_and_the_denoiser_take_turns_where_room_is_tight);
    RUN(a_model_is_called_by_the_end_of_its_path);
    return test_end();
}
