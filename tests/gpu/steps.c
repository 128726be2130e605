// SPDX-License-Identifier: Apache-2.0
//
// bench-gpu-steps: how long a denoising step of a model takes, guidance on, by policy and size, and
// how much work is in it. Any device, any model; the conditioning is random. JSON:
//
//   {"device": "NVIDIA H200", "model": "large", "variant": "SD3.5 Large",
//    "steps": [{"policy": "16-bit", "fp8_attention": false, "pixels": 512, "step_ms", "slowest_ms",
//    "load_s",
//               "peak_bytes", "layers": {"f32", "16-bit", "fp8", "fp8 widened"},
//               "flop_16bit", "flop_fp8", "flop_attention", "least_bytes"}]}
//
// "step_ms" is the median. Input scales come from two observed steps of the model itself. "layers"
// are the denoiser's, by how the device ran them; "flop_.." and "least_bytes" are work.h's.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cli.h"
#include "common/file.h"
#include "common/json.h"
#include "common/number.h"
#include "runtime/options.h"
#include "runtime/pipeline.h"
#include "tests/gpu/prepare.h"
#include "tests/gpu/work.h"

#define STEPS_MAX 64
#define WARM_UP 2  // steps that are not counted: plans, graphs, clocks
#define CALIBRATION_STEPS 2
#define CFG 4.5

typedef struct options {
    const char *model, *name, *device, *out;
    oct_texts policies, sizes;
    uint64_t steps, text_tokens;
} options;

typedef struct stopwatch {
    double ends[STEPS_MAX + 1];
    size_t n;
} stopwatch;

typedef struct bench {
    const options *options;
    oct_pipeline pipeline;
    oct_device *device;
    oct_conditioning conditioning[2];
    oct_calibration calibration;
    double load_s;
    bool has_fp8_attention;
    cJSON *rows;
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// ---- One sample.

static oct_status note_end(void *context, size_t step, float sigma, const float *latent,
                           oct_err *err)
{
    stopwatch *watch = context;
    watch->ends[watch->n++] = now();
    return OCT_OK;
}

static oct_status sample(bench *b, size_t pixels, size_t steps, oct_observer *observer,
                         stopwatch *watch, oct_err *err)
{
    const size_t side = pixels / OCT_DOWNSCALE;
    const oct_sample_params params = {
        .positive = &b->conditioning[0],
        .negative = &b->conditioning[1],
        .sampler = OCT_SAMPLER_EULER,
        .steps = steps,
        .cfg = CFG,
        .width = pixels,
        .height = pixels,
        .has_fp8_attention = b->has_fp8_attention,
        .observer = observer,
        .on_step = watch ? note_end : NULL,
        .context = watch,
    };

    oct_status st = oct_sample_check(&b->pipeline, &params, err);
    if (st) return st;
    float *latent = malloc(b->pipeline.denoiser.channels * side * side * sizeof *latent);
    if (!latent) return oct_fail(err, OCT_ENOMEM, "out of memory for a latent");
    st = oct_pipeline_sample(&b->pipeline, &params, latent, err);
    free(latent);
    return st;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Times from end to end of a step, sorted; returns how many.
static size_t sorted_ms(const stopwatch *watch, double *ms)
{
    size_t n = 0;
    for (size_t i = WARM_UP; i < watch->n; i++) {
        ms[n++] = (watch->ends[i] - watch->ends[i - 1]) * 1e3;
    }
    qsort(ms, n, sizeof *ms, by_value);
    return n;
}

// ---- Report.

static void add_layers(const bench *b, cJSON *row)
{
    static const char *const names[OCT_PATHS] = {
        [OCT_PATH_F32] = "f32",
        [OCT_PATH_16BIT] = "16-bit",
        [OCT_PATH_FP8] = "fp8",
        [OCT_PATH_FP8_WIDENED] = "fp8 widened",
    };
    const oct_executed executed = oct_pipeline_executed(&b->pipeline);
    cJSON *layers = cJSON_AddObjectToObject(row, "layers");
    for (int path = 0; path < OCT_PATHS; path++) {
        cJSON_AddNumberToObject(layers, names[path], (double)executed.paths[path]);
    }
}

static void add_row(bench *b, const char *policy, size_t pixels, const stopwatch *watch)
{
    double ms[STEPS_MAX];
    cJSON *row = cJSON_CreateObject();
    const size_t n = sorted_ms(watch, ms);
    const step_work work =
        step_work_of(&b->pipeline, pixels / 16 * (pixels / 16), b->options->text_tokens);

    cJSON_AddItemToArray(b->rows, row);
    cJSON_AddStringToObject(row, "policy", policy);
    cJSON_AddBoolToObject(row, "fp8_attention", b->has_fp8_attention);
    cJSON_AddNumberToObject(row, "pixels", (double)pixels);
    cJSON_AddNumberToObject(row, "step_ms", ms[n / 2]);
    cJSON_AddNumberToObject(row, "slowest_ms", ms[n - 1]);
    cJSON_AddNumberToObject(row, "load_s", b->load_s);
    cJSON_AddNumberToObject(row, "peak_bytes", (double)b->device->peak_bytes);
    add_layers(b, row);
    cJSON_AddNumberToObject(row, "flop_16bit", work.flop_16bit);
    cJSON_AddNumberToObject(row, "flop_fp8", work.flop_fp8);
    cJSON_AddNumberToObject(row, "flop_attention", work.flop_attention);
    cJSON_AddNumberToObject(row, "least_bytes", work.least_bytes);
    fprintf(stderr, "%s, %s, %zu: %.2f ms\n", b->options->name, policy, pixels, ms[n / 2]);
}

// ---- Ranges for static inputs, of the model's own 16-bit steps.

static oct_status calibrate(bench *b, size_t pixels, oct_err *err)
{
    const oct_denoiser *denoiser = &b->pipeline.denoiser;
    oct_calibration *calibration = &b->calibration;
    oct_observer observer = {0};

    oct_observer_init(&observer, denoiser->n_layers, CALIBRATION_STEPS);
    const oct_status st = sample(b, pixels, CALIBRATION_STEPS, &observer, NULL, err);
    if (!st) {
        calibration->layers =
            oct_arena_array(&calibration->arena, denoiser->n_layers, sizeof *calibration->layers);
        calibration->n_layers = denoiser->n_layers;
        for (size_t i = 0; i < denoiser->n_layers; i++) {
            calibration->layers[i] = (oct_calibration_layer){
                .name = oct_arena_copy(&calibration->arena, denoiser->layers[i].name),
                .amax = oct_observer_amax(&observer, i),
            };
        }
    }
    oct_observer_deinit(&observer);
    return st;
}

// ---- One policy: a device and a model of its own, so that the peak is its own too.

static oct_status open_model(bench *b, oct_err *err)
{
    const oct_model_paths paths = {.model = b->options->model};
    const oct_device_request request = {.name = b->options->device, .activation = OCT_F16};

    oct_status st = oct_device_open(&b->device, &request, err);
    if (!st) st = oct_pipeline_open(&b->pipeline, &paths, err);
    if (!st) b->pipeline.device = b->device;
    return st;
}

static void close_model(bench *b)
{
    oct_pipeline_close(&b->pipeline);
    oct_device_close(b->device);
    b->device = NULL;
}

static float uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) / (1 << 23) - 1;
}

static oct_status condition(bench *b, uint64_t seed, oct_conditioning *to, oct_err *err)
{
    const oct_denoiser *denoiser = &b->pipeline.denoiser;

    *to = (oct_conditioning){.tokens = b->options->text_tokens,
                             .width = denoiser->context_width,
                             .pooled_width = denoiser->pooled_width};
    to->context = malloc(to->tokens * to->width * sizeof *to->context);
    to->pooled = malloc(to->pooled_width * sizeof *to->pooled);
    if (!to->context || !to->pooled)
        return oct_fail(err, OCT_ENOMEM, "out of memory for the conditioning");
    for (size_t i = 0; i < to->tokens * to->width; i++) to->context[i] = uniform(&seed);
    for (size_t i = 0; i < to->pooled_width; i++) to->pooled[i] = uniform(&seed);
    return OCT_OK;
}

static oct_status condition_both(bench *b, oct_err *err)
{
    if (b->conditioning[0].context) return OCT_OK;
    const oct_status st = condition(b, 1, &b->conditioning[0], err);
    return st ? st : condition(b, 2, &b->conditioning[1], err);
}

static oct_status measure_sizes(bench *b, const char *policy, oct_err *err)
{
    oct_status st = OCT_OK;

    for (size_t i = 0; i < b->options->sizes.count && !st; i++) {
        const size_t pixels = strtoul(b->options->sizes.items[i], NULL, 10);
        stopwatch watch = {0};
        if (pixels == 0 || pixels % 16 != 0)
            return oct_fail(err, OCT_EUSAGE, "size '%s' is not a multiple of 16",
                            b->options->sizes.items[i]);
        if (!b->calibration.layers) st = calibrate(b, pixels, err);
        if (!st) st = sample(b, pixels, b->options->steps, NULL, &watch, err);
        if (!st) add_row(b, policy, pixels, &watch);
    }
    return st;
}

static oct_status make_plan(bench *b, oct_policy *policy, const char *name, oct_plan *plan,
                            oct_err *err)
{
    const oct_status st = oct_policy_load(policy, name, err);
    if (st) return st;
    const oct_plan_params params = {
        .policy = policy, .calibration = &b->calibration, .qmax = OCT_E4M3_MAX};
    return oct_plan_init(plan, &b->pipeline.denoiser, &params, err);
}

// `name` NULL: as stored; "mlp+fp8-attention" as in regress.
static oct_status measure_policy(bench *b, const char *name, oct_err *err)
{
    oct_policy policy = {0};
    oct_plan plan = {0};
    oct_arena arena = {0};

    const double begin = now();
    const char *bare = oct_fp8_attention_split(name ? name : "", &b->has_fp8_attention, &arena);
    oct_status st = open_model(b, err);
    if (!st) st = condition_both(b, err);
    if (!st && name) st = make_plan(b, &policy, bare, &plan, err);
    if (!st && b->has_fp8_attention) st = oct_device_check_fp8_attention(b->device, err);
    if (!st) st = oct_pipeline_load_denoiser(&b->pipeline, name ? &plan : NULL, err);
    b->load_s = now() - begin;
    if (!st) st = measure_sizes(b, name ? name : "16-bit", err);
    close_model(b);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    oct_arena_deinit(&arena);
    return st ? oct_wrap(err, st, "%s, %s", b->options->name, name ? name : "16-bit") : OCT_OK;
}

static oct_status measure(const options *o, oct_err *err)
{
    bench b = {.options = o};

    bench_gpu_prepare();
    cJSON *root = cJSON_CreateObject();
    cJSON *device = cJSON_AddStringToObject(root, "device", "");
    cJSON *variant;

    cJSON_AddStringToObject(root, "model", o->name);
    oct_status st = open_model(&b, err);
    if (!st) {
        cJSON_SetValuestring(device, b.device->name);
        variant = cJSON_CreateString(b.pipeline.denoiser.variant);
        cJSON_AddItemToObject(root, "variant", variant);
    }
    close_model(&b);
    b.rows = cJSON_AddArrayToObject(root, "steps");
    if (!st) st = measure_policy(&b, NULL, err);
    for (size_t i = 0; i < o->policies.count && !st; i++)
        st = measure_policy(&b, o->policies.items[i], err);
    char *text = oct_json_print(root);
    if (!st) st = oct_file_write(o->out, text, strlen(text), err);
    free(text);
    cJSON_Delete(root);
    for (int i = 0; i < 2; i++) oct_conditioning_deinit(&b.conditioning[i]);
    oct_calibration_deinit(&b.calibration);
    return st;
}

static oct_status check(const options *o, oct_err *err)
{
    if (!o->model || !o->out)
        return oct_fail(err, OCT_EUSAGE, "option '--%s' is missing", o->model ? "out" : "model");
    if (o->sizes.count == 0) return oct_fail(err, OCT_EUSAGE, "option '--sizes' is missing");
    if (o->steps <= WARM_UP || o->steps > STEPS_MAX)
        return oct_fail(err, OCT_EUSAGE, "steps %llu is not in %d..%d",
                        (unsigned long long)o->steps, WARM_UP + 1, STEPS_MAX);
    if (o->text_tokens == 0 || o->text_tokens > 589)
        return oct_fail(err, OCT_EUSAGE, "text tokens %llu is not in 1..589",
                        (unsigned long long)o->text_tokens);
    return OCT_OK;
}

int main(int argc, char **argv)
{
    options o = {.name = "model", .device = "auto", .steps = 12, .text_tokens = 333};
    const oct_opt opts[] = {
        OPT_GROUP("Model"),
        OPT_TEXT("model", "PATH", &o.model, "16-bit model: file or diffusers folder"),
        OPT_TEXT("name", "NAME", &o.name, "what it is called in the result (default: model)"),
        OPT_LIST("policies", "NAME", &o.policies, "policies beside the model as stored"),
        OPT_GROUP("Measuring"),
        OPT_LIST("sizes", "PIXELS", &o.sizes, "sides of pictures"),
        OPT_COUNT("steps", "N", &o.steps, "steps, of which 2 are not counted (default: 12)"),
        OPT_COUNT("text-tokens", "N", &o.text_tokens, "tokens of a text (default: 333)"),
        OPT_TEXT("device", "NAME", &o.device, "auto, cpu, cuda or cuda:N (default: auto)"),
        OPT_TEXT("out", "FILE", &o.out, "result to write (JSON)"),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "bench-gpu-steps",
        .summary = "Measure denoising steps of a model by policy and size.",
        .usage = "--model PATH --sizes PIXELS.. --out FILE [options]",
        .examples = {"bench-gpu-steps --model large.safetensors --name large --policies all "
                     "mlp-attn --sizes 512 1024 --out large.json",
                     "bench-gpu-steps --model tiny --sizes 64 --device cpu --out tiny.json"},
        .opts = opts,
    };
    oct_err err = {{0}};
    bool is_done = false;

    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && !is_done) st = check(&o, &err);
    if (!st && !is_done) st = measure(&o, &err);
    oct_texts_deinit(&o.policies);
    oct_texts_deinit(&o.sizes);
    return oct_cli_finish(&cli, st, &err);
}
