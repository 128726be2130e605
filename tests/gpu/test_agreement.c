// SPDX-License-Identifier: Apache-2.0
//
// A fabricated model on this GPU, through the libraries that are here, against the CPU.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "runtime/pipeline.h"
#include "tests/gpu/prepare.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/scratch.h"

#define PIXELS 64
#define LATENT ((size_t)16 * (PIXELS / 8) * (PIXELS / 8))
#define TOKENS 9
#define STEPS 3
#define F16_OFF 5e-3  // relative to the CPU's latents, in mean square

static char *folder;
static oct_calibration calibration;
static bool has_fp8_attention;
static oct_device *gpu;

static void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(seed >> 40) / (1 << 23) - 1;
    }
}

static oct_status load(oct_pipeline *pipeline, const char *name, oct_err *err)
{
    oct_policy policy = {0};
    oct_plan plan = {0};
    const oct_plan_params params = {
        .policy = &policy, .calibration = &calibration, .qmax = OCT_E4M3_MAX};

    if (!name) return oct_pipeline_load_denoiser(pipeline, NULL, err);
    oct_status st = oct_policy_load(&policy, name, err);
    if (!st) st = oct_plan_init(&plan, &pipeline->denoiser, &params, err);
    if (!st) st = oct_pipeline_load_denoiser(pipeline, &plan, err);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    return st;
}

static oct_status sample(oct_pipeline *pipeline, oct_observer *observer, float *latent,
                         oct_err *err)
{
    const size_t width = pipeline->denoiser.context_width;
    const size_t pooled = pipeline->denoiser.pooled_width;
    float *x = malloc(2 * (TOKENS * width + pooled) * sizeof *x);
    if (!x) return oct_fail(err, OCT_ENOMEM, "out of memory");
    fill(x, 2 * (TOKENS * width + pooled), 1);
    const oct_conditioning both[2] = {
        {x, x + 2 * TOKENS * width, TOKENS, width, pooled},
        {x + TOKENS * width, x + 2 * TOKENS * width + pooled, TOKENS, width, pooled}};
    const oct_sample_params params = {.positive = &both[0],
                                      .negative = &both[1],
                                      .sampler = OCT_SAMPLER_EULER,
                                      .steps = STEPS,
                                      .cfg = 4.5,
                                      .width = PIXELS,
                                      .height = PIXELS,
                                      .has_fp8_attention = has_fp8_attention,
                                      .observer = observer};
    const oct_status st = oct_pipeline_sample(pipeline, &params, latent, err);
    free(x);
    return st;
}

static void note_ranges(const oct_denoiser *denoiser, const oct_observer *observer)
{
    calibration.n_layers = denoiser->n_layers;
    calibration.layers =
        oct_arena_array(&calibration.arena, calibration.n_layers, sizeof *calibration.layers);
    for (size_t i = 0; i < calibration.n_layers; i++) {
        calibration.layers[i].name = oct_arena_copy(&calibration.arena, denoiser->layers[i].name);
        calibration.layers[i].amax = oct_observer_amax(observer, i);
    }
}

// The latent of a model on a device; the first one made also gives the ranges of its inputs.
static oct_executed make(oct_device *device, const char *policy, float *latent)
{
    const oct_model_paths paths = {.model = folder};
    oct_pipeline pipeline = {0};
    oct_observer observer = {0};
    oct_err err = {{0}};

    oct_status st = oct_pipeline_open(&pipeline, &paths, &err);
    if (!st) pipeline.device = device;
    if (!st) st = load(&pipeline, policy, &err);
    if (!st) oct_observer_init(&observer, pipeline.denoiser.n_layers, STEPS);
    if (!st) st = sample(&pipeline, calibration.layers ? NULL : &observer, latent, &err);
    CHECK_TEXT(err.text, "");
    const oct_executed executed = oct_pipeline_executed(&pipeline);
    if (!st && !calibration.layers) note_ranges(&pipeline.denoiser, &observer);
    if (observer.amax) oct_observer_deinit(&observer);
    oct_pipeline_close(&pipeline);
    return executed;
}

static double off(const float *got, const float *want)
{
    double error = 0, sum = 0;
    for (size_t i = 0; i < LATENT; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        sum += (double)want[i] * want[i];
    }
    return sqrt(error / sum);
}

static void a_16_bit_model_gives_the_latents_of_the_cpu(void)
{
    float got[LATENT], want[LATENT];
    if (!gpu) SKIP("no GPU");

    make(oct_device_cpu(), NULL, want);
    make(gpu, NULL, got);
    CHECK(off(got, want) < F16_OFF);
}

static void an_fp8_model_is_as_near_to_the_16_bit_one_as_on_the_cpu(void)
{
    float got[LATENT], want[LATENT], exact[LATENT];
    if (!gpu) SKIP("no GPU");

    make(oct_device_cpu(), NULL, exact);
    make(oct_device_cpu(), "all", want);
    const oct_executed executed = make(gpu, "all", got);
    CHECK(executed.paths[gpu->has_fp8 ? OCT_PATH_FP8 : OCT_PATH_FP8_WIDENED] > 0);
    CHECK(off(got, exact) < 1.25 * off(want, exact) + F16_OFF);
    CHECK(off(got, want) < off(want, exact) + F16_OFF);
}

static void fp8_attention_is_as_near_to_the_16_bit_one_as_on_the_cpu(void)
{
    float got[LATENT], want[LATENT], exact[LATENT];
    if (!gpu) SKIP("no GPU");
    if (!gpu->has_fp8_attention) SKIP("no FP8 attention on this GPU");

    make(oct_device_cpu(), NULL, exact);
    has_fp8_attention = true;
    make(oct_device_cpu(), NULL, want);
    make(gpu, NULL, got);
    has_fp8_attention = false;
    CHECK(off(want, exact) > 0);
    CHECK(off(got, exact) < 1.25 * off(want, exact) + F16_OFF);
    CHECK(off(got, want) < off(want, exact) + F16_OFF);
}

static void open_gpu(void)
{
    const oct_device_request request = {.name = "cuda", .activation = OCT_F16};
    oct_err err = {{0}};

    bench_gpu_prepare();
    const oct_status st = oct_device_open(&gpu, &request, &err);
    if (st) printf("# %s\n", err.text);
    if (st && st != OCT_EUNSUPPORTED) exit(3);
}

int main(void)
{
    folder = oct_scratch_make();
    const oct_fabric fabric = {.out = folder, .size = oct_model_size_small(2, 1), .dtype = OCT_F16};
    if (oct_fabricate(&fabric, NULL)) return 1;
    open_gpu();
    RUN(a_16_bit_model_gives_the_latents_of_the_cpu);
    RUN(an_fp8_model_is_as_near_to_the_16_bit_one_as_on_the_cpu);
    RUN(fp8_attention_is_as_near_to_the_16_bit_one_as_on_the_cpu);
    oct_device_close(gpu);
    oct_arena_deinit(&calibration.arena);
    oct_scratch_remove(folder);
    return test_end();
}
