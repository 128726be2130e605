// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/pipeline.c on a fabricated model of two blocks. Texts are encoded elsewhere: the
// conditionings here are made up.
#include "runtime/pipeline.h"

#include <omp.h>
#include <stdlib.h>

#include "runtime/noise.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

#define WIDTH 48
#define HEIGHT 32
#define LATENT (16 * (HEIGHT / 8) * (WIDTH / 8))
#define TOKENS 9
#define STEPS 6

static char *folder;
static float contexts[2][TOKENS * 256], pooled[2][192];
static const oct_conditioning conditionings[2] = {
    {contexts[0], pooled[0], TOKENS, 256, 192},
    {contexts[1], pooled[1], TOKENS - 2, 256, 192},
};

static const char *model_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return path;
}

static bool open_pipeline(oct_pipeline *pipeline)
{
    oct_err err = {0};
    oct_status st = oct_pipeline_open(pipeline, &(oct_model_paths){.model = model_path()}, &err);
    if (!st) st = oct_pipeline_load_denoiser(pipeline, NULL, &err);
    CHECK_TEXT(err.text, "");
    return st == OCT_OK;
}

static oct_sample_params defaults(void)
{
    return (oct_sample_params){.positive = &conditionings[0],
                               .negative = &conditionings[1],
                               .steps = STEPS,
                               .cfg = 1,
                               .width = WIDTH,
                               .height = HEIGHT,
                               .seed = 7,
                               .slg_scale = 2.5,
                               .slg_start = 0.01,
                               .slg_stop = 0.4};
}

static void sample(oct_pipeline *pipeline, const oct_sample_params *params, float *latent)
{
    oct_err err = {0};
    CHECK(oct_pipeline_sample(pipeline, params, latent, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

// Euler's method as the headers define it: v = u + cfg (c - u) + slg (c - s).
static void sample_by_hand(oct_pipeline *pipeline, const oct_sample_params *params, float *x)
{
    static float c[LATENT], u[LATENT], s[LATENT];
    float timesteps[STEPS], sigmas[STEPS + 1];
    oct_noise noise;
    oct_noise_init(&noise, params->seed);
    oct_noise_f32(&noise, x, LATENT);
    oct_schedule(OCT_SCHEDULE_DIFFUSERS, 3, STEPS, sigmas);
    for (size_t i = 0; i < STEPS; i++) timesteps[i] = 1000 * sigmas[i];
    const oct_mmdit_inputs inputs = {.latent_height = HEIGHT / 8,
                                     .latent_width = WIDTH / 8,
                                     .timesteps = timesteps,
                                     .steps = STEPS,
                                     .branches = {params->positive, params->negative}};
    CHECK(oct_mmdit_begin(&pipeline->mmdit, &inputs, NULL) == OCT_OK);
    for (size_t step = 0; step < STEPS; step++) {
        const bool skips = params->slg_blocks && (step == 1 || step == 2);
        oct_mmdit_forward(&pipeline->mmdit, c, x, step, 0, NULL);
        oct_mmdit_forward(&pipeline->mmdit, u, x, step, 1, NULL);
        if (skips) oct_mmdit_forward(&pipeline->mmdit, s, x, step, 0, params->slg_blocks);
        for (size_t i = 0; i < LATENT; i++) {
            double v = params->cfg > 1 ? u[i] + params->cfg * ((double)c[i] - u[i]) : c[i];
            if (skips) v += params->slg_scale * ((double)c[i] - s[i]);
            x[i] += (float)((sigmas[step + 1] - sigmas[step]) * v);
        }
    }
    oct_mmdit_end(&pipeline->mmdit);
}

static double distance(const float *a, const float *b)
{
    double most = 0;
    for (size_t i = 0; i < LATENT; i++) most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

static void check_by_hand(const oct_sample_params *params)
{
    static float got[LATENT], want[LATENT];
    oct_pipeline pipeline = {0};
    if (!open_pipeline(&pipeline)) return;
    sample(&pipeline, params, got);
    sample_by_hand(&pipeline, params, want);
    // Guidance in binary32 against binary64, six steps of numbers around 3: 1e-5 at most.
    CHECK_NEAR(distance(got, want), 0, 1e-5);
    oct_pipeline_close(&pipeline);
}

static void without_guidance_the_conditional_branch_counts_alone(void)
{
    oct_sample_params params = defaults();
    check_by_hand(&params);
}

static void guidance_leads_away_from_the_negative(void)
{
    oct_sample_params params = defaults();
    params.cfg = 4.5;
    check_by_hand(&params);
}

static void skip_layer_guidance_is_added_in_its_window(void)
{
    const bool blocks[2] = {false, true};
    oct_sample_params params = defaults();
    params.slg_blocks = blocks;
    check_by_hand(&params);
    params.cfg = 3;
    check_by_hand(&params);
}

static void every_sampler_gives_the_same_bits_on_any_number_of_threads(void)
{
    static float a[LATENT], b[LATENT], c[LATENT];
    const int threads = omp_get_max_threads();
    for (int kind = 0; kind <= OCT_SAMPLER_DPMPP_2M_DIFFUSERS; kind++) {
        oct_pipeline pipeline = {0};
        oct_sample_params params = defaults();
        params.sampler = (oct_sampler_kind)kind;
        params.cfg = 2;
        if (!open_pipeline(&pipeline)) return;
        sample(&pipeline, &params, a);
        params.is_last = true;
        omp_set_num_threads(threads == 1 ? 3 : 1);
        sample(&pipeline, &params, b);
        omp_set_num_threads(threads);
        CHECK(memcmp(a, b, sizeof a) == 0);
        oct_pipeline_close(&pipeline);
        if (!open_pipeline(&pipeline)) return;
        params.seed = 8;
        sample(&pipeline, &params, c);
        CHECK(distance(a, c) > 0.1);
        oct_pipeline_close(&pipeline);
    }
}

typedef struct trace {
    size_t calls, stop_at;
    float sigmas[STEPS], latent[LATENT];
} trace;

static oct_status on_step(void *context, size_t step, float sigma, const float *latent,
                          oct_err *err)
{
    trace *t = context;
    CHECK(step == t->calls);
    t->sigmas[t->calls++] = sigma;
    memcpy(t->latent, latent, sizeof t->latent);
    return step == t->stop_at ? oct_fail(err, OCT_EIO, "the disk is full") : OCT_OK;
}

static void each_step_is_reported_with_the_sigma_it_reached(void)
{
    static float latent[LATENT];
    float sigmas[STEPS + 1];
    trace t = {.stop_at = STEPS};
    oct_pipeline pipeline = {0};
    oct_sample_params params = defaults();
    params.on_step = on_step;
    params.context = &t;
    if (!open_pipeline(&pipeline)) return;
    sample(&pipeline, &params, latent);
    oct_schedule(OCT_SCHEDULE_DIFFUSERS, 3, STEPS, sigmas);
    CHECK(t.calls == STEPS);
    CHECK(memcmp(t.sigmas, sigmas + 1, sizeof t.sigmas) == 0);
    CHECK(memcmp(t.latent, latent, sizeof latent) == 0);
    oct_pipeline_close(&pipeline);
}

static void a_failing_report_ends_the_run(void)
{
    static float latent[LATENT];
    trace t = {.stop_at = 2};
    oct_err err = {0};
    oct_pipeline pipeline = {0};
    oct_sample_params params = defaults();
    params.on_step = on_step;
    params.context = &t;
    if (!open_pipeline(&pipeline)) return;
    CHECK(oct_pipeline_sample(&pipeline, &params, latent, &err) == OCT_EIO);
    CHECK_TEXT(err.text, "the disk is full");
    CHECK(t.calls == 3);
    t = (trace){.stop_at = STEPS};
    sample(&pipeline, &params, latent);
    oct_pipeline_close(&pipeline);
}

static void numbers_that_are_none_end_the_run(void)
{
    static float latent[LATENT];
    float broken[192] = {NAN};
    const oct_conditioning conditioning = {contexts[0], broken, TOKENS, 256, 192};
    oct_err err = {0};
    oct_pipeline pipeline = {0};
    oct_sample_params params = defaults();
    params.positive = &conditioning;
    if (!open_pipeline(&pipeline)) return;
    CHECK(oct_pipeline_sample(&pipeline, &params, latent, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "the latent is no longer finite after step 1");
    oct_pipeline_close(&pipeline);
}

static void what_ran_is_counted_by_type(void)
{
    static float latent[LATENT];
    oct_pipeline pipeline = {0};
    oct_sample_params params = defaults();
    params.is_last = true;
    if (!open_pipeline(&pipeline)) return;
    oct_executed e = oct_pipeline_executed(&pipeline);
    CHECK(e.f32 + e.f16 + e.bf16 + e.fp8_static + e.fp8_weight_only == 0);
    sample(&pipeline, &params, latent);
    e = oct_pipeline_executed(&pipeline);
    CHECK(e.f16 == pipeline.denoiser.n_layers);
    CHECK(e.f32 + e.bf16 + e.fp8_static + e.fp8_weight_only == 0);
    oct_pipeline_unload_denoiser(&pipeline);
    CHECK(oct_pipeline_executed(&pipeline).f16 == 0);
    oct_pipeline_close(&pipeline);
}

static void a_plan_quantizes_while_loading(void)
{
    static float exact[LATENT], latent[LATENT];
    oct_policy policy = {0};
    oct_plan plan = {0};
    oct_pipeline pipeline = {0};
    const oct_sample_params params = defaults();
    if (!open_pipeline(&pipeline)) return;
    sample(&pipeline, &params, exact);
    CHECK(oct_policy_load(&policy, "all", NULL) == OCT_OK);
    const oct_plan_params how = {.policy = &policy, .qmax = 448};
    CHECK(oct_plan_init(&plan, &pipeline.denoiser, &how, NULL) == OCT_OK);
    CHECK(oct_pipeline_load_denoiser(&pipeline, &plan, NULL) == OCT_OK);
    sample(&pipeline, &params, latent);
    const oct_executed e = oct_pipeline_executed(&pipeline);
    CHECK(plan.n_fp8 > 0 && e.fp8_weight_only == plan.n_fp8 && e.fp8_static == 0);
    CHECK(e.f16 == pipeline.denoiser.n_layers - plan.n_fp8);
    CHECK(distance(exact, latent) > 1e-3 && distance(exact, latent) < 1);
    oct_pipeline_close(&pipeline);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
}

static void a_latent_becomes_a_picture(void)
{
    static float latent[LATENT], z[LATENT], planar[3 * WIDTH * HEIGHT];
    oct_image image = {0}, want = {0};
    const int threads = omp_get_max_threads();
    oct_pipeline pipeline = {0};
    if (!open_pipeline(&pipeline)) return;
    oct_formula_fill(latent, "input.latent", 1, (uint64_t[]){LATENT});
    omp_set_num_threads(threads == 1 ? 3 : 1);
    CHECK(oct_pipeline_decode(&pipeline, latent, WIDTH, HEIGHT, false, &image, NULL) == OCT_OK);
    omp_set_num_threads(threads);
    CHECK(image.width == WIDTH && image.height == HEIGHT);
    for (size_t i = 0; i < LATENT; i++) z[i] = latent[i] / 1.5305f + 0.0609f;
    CHECK(!oct_vae_decode(&pipeline.vae, z, HEIGHT / 8, WIDTH / 8, planar, NULL));
    CHECK(!oct_image_init(&want, WIDTH, HEIGHT, NULL));
    oct_image_from_planar(&want, planar);
    CHECK(image.rgb && memcmp(image.rgb, want.rgb, 3 * WIDTH * HEIGHT) == 0);
    oct_image_deinit(&want);
    oct_image_deinit(&image);
    oct_pipeline_close(&pipeline);
}

// ---- A GPU that has no room for a whole picture.

#define TILED_WIDTH 256
#define TILED_HEIGHT 160

static size_t refused_width;  // of feature maps, and wider ones

static oct_status narrow_alloc(oct_device *device, void **p, size_t bytes, const char *what,
                               oct_err *err)
{
    size_t channels, width, height;

    if (sscanf(what, "%zu channels of %zux%zu", &channels, &width, &height) == 3 &&
        width >= refused_width) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for %s", what);
    }
    return oct_device_cpu()->ops->alloc(device, p, bytes, what, err);
}

static oct_status decode_wide(oct_pipeline *pipeline, bool may_tile, uint8_t *rgb, oct_err *err)
{
    static float latent[16 * TILED_WIDTH / 8 * TILED_HEIGHT / 8];
    oct_image image = {0};

    oct_formula_fill(latent, "input.latent", 1, (uint64_t[]){sizeof latent / sizeof *latent});
    const oct_status st =
        oct_pipeline_decode(pipeline, latent, TILED_WIDTH, TILED_HEIGHT, may_tile, &image, err);
    if (!st) memcpy(rgb, image.rgb, 3 * TILED_WIDTH * TILED_HEIGHT);
    oct_image_deinit(&image);
    return st;
}

static void what_has_no_room_is_decoded_in_the_largest_tiles_that_have(void)
{
    static uint8_t whole[3 * TILED_WIDTH * TILED_HEIGHT], want[sizeof whole], got[sizeof whole];
    oct_device_ops ops = *oct_device_cpu()->ops;
    oct_device narrow = *oct_device_cpu();
    oct_pipeline pipeline = {0};
    oct_err err = {0};
    if (!open_pipeline(&pipeline)) return;
    CHECK(!decode_wide(&pipeline, true, whole, &err) && pipeline.vae.tile_side == 128);
    pipeline.uses_tiles = true;
    CHECK(!decode_wide(&pipeline, true, got, &err));
    CHECK(memcmp(got, whole, sizeof whole) == 0);  // smaller than one tile
    pipeline.vae.tile_side = 16;
    CHECK(!decode_wide(&pipeline, true, want, &err) && !pipeline.has_noted_tiles);
    CHECK(memcmp(want, whole, sizeof whole) != 0);

    ops.alloc = narrow_alloc;
    narrow.ops = &ops;
    narrow.is_gpu = true;
    pipeline.uses_tiles = false;
    pipeline.vae.tile_side = 128;
    pipeline.vae.device = pipeline.device = &narrow;
    refused_width = 8 * 16 + 1;
    CHECK(decode_wide(&pipeline, false, got, &err) == OCT_ENOMEM);
    CHECK(!decode_wide(&pipeline, true, got, &err) && pipeline.has_noted_tiles);
    CHECK(memcmp(got, want, sizeof want) == 0);
    refused_width = 8 * 8;
    CHECK(decode_wide(&pipeline, true, got, &err) == OCT_ENOMEM);
    CHECK(strstr(err.text, "out of memory for "));
    refused_width = 8 * 16 + 1;
    narrow.is_gpu = false;
    CHECK(decode_wide(&pipeline, true, got, &err) == OCT_ENOMEM);
    pipeline.vae.device = pipeline.device = oct_device_cpu();
    oct_pipeline_close(&pipeline);
}

static void check_usage(const oct_pipeline *pipeline, const oct_sample_params *params,
                        const char *sentence)
{
    oct_err err = {0};
    CHECK(oct_sample_check(pipeline, params, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, sentence);
}

static void sizes_that_the_model_has_not_are_refused(void)
{
    oct_pipeline pipeline = {0};
    oct_sample_params params = defaults();
    if (!open_pipeline(&pipeline)) return;
    CHECK(oct_sample_check(&pipeline, &params, NULL) == OCT_OK);
    params.width = 100;
    check_usage(&pipeline, &params, "size 100x32 is not a multiple of 16");
    params.width = 0;
    check_usage(&pipeline, &params, "size 0x32 is not a multiple of 16");
    params.width = 528;
    check_usage(&pipeline, &params, "size 528x32 is larger than the model's 512x512");
    params.width = 512;
    CHECK(oct_sample_check(&pipeline, &params, NULL) == OCT_OK);
    params.steps = 0;
    check_usage(&pipeline, &params, "0 steps are not in 1..1000");
    oct_pipeline_close(&pipeline);
}

static void sizes_are_two_numbers_with_an_x(void)
{
    static const char *const bad[] = {"",      "x",     "512",      "512x",      "x512",  "512X512",
                                      "5 1x2", "-1x16", "512x512x", "100000x16", "16x16 "};
    size_t width = 0, height = 0;
    oct_err err = {0};
    CHECK(oct_size_parse("512x768", &width, &height, NULL) == OCT_OK);
    CHECK(width == 512 && height == 768);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(oct_size_parse(bad[i], &width, &height, &err) == OCT_EUSAGE);
    }
    CHECK(oct_size_parse("big", &width, &height, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "size 'big' is not WIDTHxHEIGHT");
}

static void memory_has_a_peak(void)
{
    const uint64_t before = oct_peak_memory_bytes();
    const size_t bytes = before + (32u << 20);
    char *more = malloc(bytes);
    memset(more, 1, bytes);
    CHECK(more[bytes / 2] == 1 && oct_peak_memory_bytes() >= bytes);
    free(more);
}

int main(void)
{
    folder = oct_scratch_make();
    const oct_fabric fabric = {.out = model_path(),
                               .layout = OCT_FABRIC_SINGLE,
                               .size = oct_model_size_small(2, 1),
                               .dtype = OCT_F16};
    if (oct_fabricate(&fabric, NULL)) return 1;
    for (size_t b = 0; b < 2; b++) {
        const uint64_t shape[2] = {TOKENS, 256}, width[1] = {192};
        oct_formula_fill(contexts[b], b ? "input.negative" : "input.positive", 2, shape);
        oct_formula_fill(pooled[b], b ? "input.pooled.1" : "input.pooled.0", 1, width);
    }
    RUN(without_guidance_the_conditional_branch_counts_alone);
    RUN(guidance_leads_away_from_the_negative);
    RUN(skip_layer_guidance_is_added_in_its_window);
    RUN(every_sampler_gives_the_same_bits_on_any_number_of_threads);
    RUN(each_step_is_reported_with_the_sigma_it_reached);
    RUN(a_failing_report_ends_the_run);
    RUN(numbers_that_are_none_end_the_run);
    RUN(what_ran_is_counted_by_type);
    RUN(a_plan_quantizes_while_loading);
    RUN(a_latent_becomes_a_picture);
    RUN(what_has_no_room_is_decoded_in_the_largest_tiles_that_have);
    RUN(sizes_that_the_model_has_not_are_refused);
    RUN(sizes_are_two_numbers_with_an_x);
    RUN(memory_has_a_peak);
    oct_scratch_remove(folder);
    return test_end();
}
