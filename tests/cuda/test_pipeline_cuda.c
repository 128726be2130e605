// SPDX-License-Identifier: Apache-2.0
//
// A fabricated model end to end on an emulated GPU, FP16 and FP8, against the CPU.
#include "runtime/pipeline.h"

#include <math.h>
#include <stdlib.h>

#include "tests/cuda/device_check.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

#define WIDTH 32
#define HEIGHT 32
#define LATENT ((size_t)16 * (HEIGHT / 8) * (WIDTH / 8))
#define TOKENS 9
#define STEPS 3

// Relative to the CPU's latents, in mean square.
#define F16_OFF 5e-3
#define BF16_OFF 4e-2
#define RANGE_OFF 2e-2f

static char *folder;
static float contexts[2][TOKENS * 256], pooled[2][192];
static const oct_conditioning conditionings[2] = {
    {contexts[0], pooled[0], TOKENS, 256, 192},
    {contexts[1], pooled[1], TOKENS - 2, 256, 192},
};
static size_t n_layers;
static float *ranges;  // [n_layers], of the layers' inputs, as the CPU observed them

typedef struct way {  // to make a latent
    bool is_fp8, is_static, is_low_vram;
    int sm;  // 0: the CPU
    oct_dtype activation;
    emulated_order order;
    oct_sampler_kind sampler;
    oct_observer *observer;
    bool skips;    // with skip-layer guidance
    size_t steps;  // 0: STEPS
    int only;      // layer that is FP8, counted from 1; 0: all
} way;

// Of the model, or of what lies beside it. Valid until the fourth call from here.
static const char *path_of(const char *suffix)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/model.safetensors%s", folder, suffix);
    return path;
}

// The plan that a calibration with these ranges gives.
static void set_ranges(oct_plan *plan)
{
    for (size_t i = 0; i < plan->n_decisions; i++) {
        oct_decision *decision = &plan->decisions[i];
        if (strcmp(decision->reason, "no calibrated range: weight only") == 0) {
            decision->input_scale = ranges[i] / 448;
            decision->inputs = OCT_INPUTS_STATIC;
        }
    }
}

static void keep_others(oct_plan *plan, int only)
{
    for (size_t i = 0; i < plan->n_decisions; i++) {
        if ((int)i == only - 1) continue;
        plan->decisions[i].weights = OCT_WEIGHTS_KEEP;
        plan->decisions[i].input_scale = 0;
    }
}

static oct_status make_plan(oct_plan *plan, const oct_pipeline *pipeline, const way *w,
                            oct_policy *policy, oct_err *err)
{
    oct_status st = oct_policy_load(policy, "all", err);
    const oct_plan_params how = {.policy = policy, .qmax = 448};
    if (!st) st = oct_plan_init(plan, &pipeline->denoiser, &how, err);
    if (!st && w->is_static) set_ranges(plan);
    if (!st && w->only) keep_others(plan, w->only);
    return st;
}

static oct_sample_params params_of(const way *w)
{
    static const bool skipped[2] = {false, true};

    return (oct_sample_params){
        .positive = &conditionings[0],
        .negative = &conditionings[1],
        .sampler = w->sampler,
        .steps = w->steps ? w->steps : STEPS,
        .cfg = 3,
        .width = WIDTH,
        .height = HEIGHT,
        .seed = 7,
        .slg_blocks = w->skips ? skipped : NULL,
        .slg_scale = 2.5,
        .slg_start = 0.01,
        .slg_stop = 0.6,
        .observer = w->observer,
    };
}

static oct_device *open_device(const way *w)
{
    const oct_device_request request = {
        .name = "cuda", .is_low_vram = w->is_low_vram, .activation = w->activation};

    if (!w->sm) return oct_device_cpu();
    oct_device *gpu = gpu_open(w->sm, &request);
    emulated_set_order(w->order);
    return gpu;
}

static void close_device(oct_device *device)
{
    if (device->is_gpu) gpu_close(device);
}

static oct_status open_model(oct_pipeline *pipeline, oct_device *device, oct_err *err)
{
    const oct_model_paths paths = {.model = path_of(""), .tokenizers = path_of(".tokenizers")};
    const oct_status st = oct_pipeline_open(pipeline, &paths, err);
    pipeline->device = device;
    return st;
}

// What ran, by path.
static oct_executed sample(const way *w, float *latent)
{
    const oct_sample_params params = params_of(w);
    oct_device *device = open_device(w);
    oct_pipeline pipeline = {0};
    oct_policy policy = {0};
    oct_plan plan = {0};
    oct_executed executed = {0};
    oct_err err = {0};

    oct_status st = open_model(&pipeline, device, &err);
    if (!st && w->is_fp8) st = make_plan(&plan, &pipeline, w, &policy, &err);
    if (!st) st = oct_pipeline_load_denoiser(&pipeline, w->is_fp8 ? &plan : NULL, &err);
    if (!st) st = oct_pipeline_sample(&pipeline, &params, latent, &err);
    CHECK_TEXT(err.text, "");
    if (!st) executed = oct_pipeline_executed(&pipeline);
    oct_pipeline_close(&pipeline);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    close_device(device);
    return executed;
}

// Root of the mean square, relative to that of `want`.
static double off_by(const float *got, const float *want, size_t n)
{
    double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        square += (double)want[i] * want[i];
    }
    return sqrt(error / square);
}

static double off(const float *got, const float *want)
{
    return off_by(got, want, LATENT);
}

static bool is_same(const float *a, const float *b)
{
    return memcmp(a, b, LATENT * sizeof *a) == 0;
}

// ---- Cases.

static void fp16_agrees_with_the_cpu_by_every_sampler(void)
{
    static float want[LATENT], got[LATENT];

    for (int kind = 0; kind <= OCT_SAMPLER_DPMPP_2M_DIFFUSERS; kind++) {
        way w = {.sampler = (oct_sampler_kind)kind, .skips = kind == OCT_SAMPLER_EULER};
        sample(&w, want);
        w.sm = 90;
        const oct_executed executed = sample(&w, got);
        printf("# sampler %d: %.2g off\n", kind, off(got, want));
        CHECK(off(got, want) < F16_OFF);
        CHECK(executed.paths[OCT_PATH_16BIT] == executed.f16 && executed.f16 > 0);
    }
}

static void bf16_agrees_with_the_cpu(void)
{
    static float want[LATENT], got[LATENT];
    way w = {0};

    sample(&w, want);
    w.sm = 90;
    w.activation = OCT_BF16;
    sample(&w, got);
    printf("# %.2g off\n", off(got, want));
    CHECK(off(got, want) < BF16_OFF);
}

static void one_gpu_gives_one_result_in_every_order_of_its_streams(void)
{
    static float first[LATENT], got[LATENT];

    for (int order = 0; order < EMULATED_ORDERS; order++) {
        const way w = {.sm = 90, .is_fp8 = true, .is_static = true, .order = (emulated_order)order};
        sample(&w, order == 0 ? first : got);
        CHECK(order == 0 || is_same(first, got));
    }
}

static void streamed_blocks_give_the_same_bits(void)
{
    static float resident[LATENT], streamed[LATENT];

    way w = {.sm = 90, .is_fp8 = true, .is_static = true, .skips = true};

    sample(&w, resident);
    w.is_low_vram = true;
    for (w.order = EMULATED_LAST_STREAM_FIRST; w.order <= EMULATED_LAZY; w.order++) {
        sample(&w, streamed);
        CHECK(is_same(resident, streamed));
    }
}

static void single_layers_in_fp8_agree_with_the_cpu(void)
{
    static float exact[LATENT], want[LATENT], got[LATENT];
    way w = {.steps = 1};

    sample(&w, exact);
    w.is_fp8 = w.is_static = true;
    for (w.only = 1; w.only <= (int)n_layers; w.only += 4) {
        w.sm = 0;
        const oct_executed by_cpu = sample(&w, want);
        w.sm = 90;
        const oct_executed by_gpu = sample(&w, got);
        CHECK(by_gpu.fp8_static == by_cpu.fp8_static);
        CHECK(by_gpu.paths[OCT_PATH_FP8] == by_gpu.fp8_static);
        CHECK(off(got, want) < F16_OFF / 2 + off(want, exact) / 8);
        if (!test_case_failed) continue;
        printf("# layer %d: %.2g off, where FP8 costs %.2g\n", w.only - 1, off(got, want),
               off(want, exact));
        return;
    }
}

// Where all layers round, a difference in the last bits of one moves codes of the next, until two
// results are as far from each other as from the exact one. Their distance from that is the same.
static void all_layers_in_fp8_cost_what_they_cost_on_the_cpu(void)
{
    static float exact[LATENT], want[LATENT], got[LATENT];
    way w = {0};

    sample(&w, exact);
    w.is_fp8 = w.is_static = true;
    sample(&w, want);
    w.sm = 90;
    const oct_executed executed = sample(&w, got);
    printf("# FP8 costs %.3g, on the CPU %.3g\n", off(got, exact), off(want, exact));
    CHECK_NEAR(off(got, exact) / off(want, exact), 1, 0.25);
    CHECK(off(got, want) < 1.5 * off(want, exact));
    CHECK(executed.paths[OCT_PATH_FP8] == executed.fp8_static);
    CHECK(executed.fp8_static > 20 && executed.fp8_weight_only == 0);
}

static void without_fp8_hardware_the_weights_are_widened(void)
{
    static float want[LATENT], got[LATENT];
    way w = {.is_fp8 = true};

    sample(&w, want);  // weights alone are FP8
    w.sm = 80;
    oct_executed executed = sample(&w, got);
    printf("# %.2g off\n", off(got, want));
    CHECK(off(got, want) < F16_OFF);
    CHECK(executed.paths[OCT_PATH_FP8_WIDENED] == executed.fp8_weight_only);
    w.is_static = true;
    executed = sample(&w, got);
    CHECK(off(got, want) < F16_OFF);
    CHECK(executed.paths[OCT_PATH_FP8_WIDENED] == executed.fp8_static + executed.fp8_weight_only);
    CHECK(executed.paths[OCT_PATH_FP8] == 0);
}

static void observers_see_the_ranges_of_the_cpu(void)
{
    static float latent[LATENT];
    oct_observer want, got;
    oct_pipeline pipeline = {0};

    CHECK(!open_model(&pipeline, oct_device_cpu(), NULL));
    n_layers = pipeline.denoiser.n_layers;
    oct_pipeline_close(&pipeline);
    oct_observer_init(&want, n_layers, STEPS);
    oct_observer_init(&got, n_layers, STEPS);
    way w = {.observer = &want};
    sample(&w, latent);
    w.sm = 90;
    w.observer = &got;
    sample(&w, latent);
    for (size_t i = 0; i < n_layers * 2 * STEPS; i++)
        CHECK(fabsf(got.amax[i] - want.amax[i]) <= RANGE_OFF * want.amax[i]);
    ranges = malloc(n_layers * sizeof *ranges);
    for (size_t i = 0; i < n_layers; i++) ranges[i] = oct_observer_amax(&want, i);
    oct_observer_deinit(&want);
    oct_observer_deinit(&got);
}

static void encode(const way *w, oct_conditioning *out)
{
    static const char *const text = "a red cube on a table";
    oct_device *device = open_device(w);
    oct_pipeline pipeline = {0};
    oct_err err = {0};

    oct_status st = open_model(&pipeline, device, &err);
    if (!st) st = oct_pipeline_encode(&pipeline, &text, 1, 16, out, &err);
    CHECK_TEXT(err.text, "");
    oct_pipeline_close(&pipeline);
    close_device(device);
}

static void texts_are_encoded_as_on_the_cpu(void)
{
    oct_conditioning want = {0}, got = {0};

    encode(&(way){0}, &want);
    for (int i = 0; i < 2; i++) {
        encode(&(way){.sm = 90, .order = EMULATED_LAST_STREAM_FIRST, .is_low_vram = i == 1}, &got);
        CHECK(got.tokens == want.tokens && got.width == want.width);
        const double context = off_by(got.context, want.context, want.tokens * want.width);
        const double sum = off_by(got.pooled, want.pooled, want.pooled_width);
        printf("# %.2g off, the pooled %.2g\n", context, sum);
        CHECK(context < F16_OFF && sum < F16_OFF);
        oct_conditioning_deinit(&got);
    }
    oct_conditioning_deinit(&want);
}

static void decode(const way *w, const float *latent, oct_image *image)
{
    oct_device *device = open_device(w);
    oct_pipeline pipeline = {0};
    oct_err err = {0};

    oct_status st = open_model(&pipeline, device, &err);
    if (!st) st = oct_pipeline_decode(&pipeline, latent, WIDTH, HEIGHT, false, image, &err);
    CHECK_TEXT(err.text, "");
    oct_pipeline_close(&pipeline);
    close_device(device);
}

static void pictures_are_decoded_as_on_the_cpu(void)
{
    oct_image want = {0}, got = {0};
    int most = 0;

    const float *latent = numbers(3, LATENT, 2);
    decode(&(way){0}, latent, &want);
    decode(&(way){.sm = 90, .order = EMULATED_LAST_STREAM_FIRST}, latent, &got);
    for (size_t i = 0; want.rgb && got.rgb && i < 3 * WIDTH * HEIGHT; i++) {
        const int difference = abs(got.rgb[i] - want.rgb[i]);
        if (difference > most) most = difference;
    }
    printf("# at most %d levels off\n", most);
    CHECK(got.rgb && want.rgb && most <= 2);
    oct_image_deinit(&want);
    oct_image_deinit(&got);
}

int main(int argc, char **argv)
{
    gpu_init(argc, argv);
    folder = oct_scratch_make();
    const oct_fabric fabric = {.out = path_of(""),
                               .layout = OCT_FABRIC_ALL_IN_ONE,
                               .size = oct_model_size_small(2, 1),
                               .dtype = OCT_F16};
    if (oct_fabricate(&fabric, NULL)) return 1;
    for (size_t b = 0; b < 2; b++) {
        const uint64_t shape[2] = {TOKENS, 256}, width[1] = {192};
        oct_formula_fill(contexts[b], b ? "input.negative" : "input.positive", 2, shape);
        oct_formula_fill(pooled[b], b ? "input.pooled.1" : "input.pooled.0", 1, width);
    }
    RUN(observers_see_the_ranges_of_the_cpu);  // first: FP8 takes its scales from there
    RUN(fp16_agrees_with_the_cpu_by_every_sampler);
    RUN(bf16_agrees_with_the_cpu);
    RUN(one_gpu_gives_one_result_in_every_order_of_its_streams);
    RUN(streamed_blocks_give_the_same_bits);
    RUN(single_layers_in_fp8_agree_with_the_cpu);
    RUN(all_layers_in_fp8_cost_what_they_cost_on_the_cpu);
    RUN(without_fp8_hardware_the_weights_are_widened);
    RUN(texts_are_encoded_as_on_the_cpu);
    RUN(pictures_are_decoded_as_on_the_cpu);
    free(ranges);
    oct_scratch_remove(folder);
    return test_end();
}
