// SPDX-License-Identifier: Apache-2.0
//
// Golden runs: our pipeline against what huggingface/diffusers did with the same model, which is
// fabricated here, or the trained one of datasets/pocket. Arguments: the files of tests/golden/,
// described in its README.md.
//
// Bounds: both sides compute in FP32 and differ in the order of sums and in transcendental
// functions, which is 1e-6 for CLIP and the latents. T5 does not scale its attention's scores: they
// reach 30 here, and both sides are up to 6e-5 away from FP64. Pictures may differ by one level in
// the few values that lie between two.
#include <stdlib.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/json.h"
#include "common/safetensors.h"
#include "runtime/noise.h"
#include "runtime/pipeline.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/scratch.h"

#define POCKET "datasets/pocket"
#define CLIP_BOUND 1e-5
#define T5_BOUND 2e-4
#define LATENT_BOUND 1e-4
#define DEPTH_MAX 16

static const char *golden_path;
static oct_fabric_layout layout;
static oct_err err;

typedef struct golden {  // one file, read
    oct_safetensors file;
    cJSON *spec;
    float *latents, *context[2], *pooled[2];  // positive, negative
    uint8_t *image;
    size_t n;             // elements of a latent
    double latent_error;  // the largest of all steps
} golden;

static double number(const golden *g, const char *key)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(g->spec, key));
}

static const char *text(const golden *g, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(g->spec, key));
}

static bool is_set(const golden *g, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(g->spec, key));
}

static void *read_tensor(const golden *g, const char *name)
{
    const oct_st_tensor *tensor = oct_safetensors_find(&g->file, name);
    void *data = tensor ? malloc(tensor->bytes) : NULL;

    if (!data || oct_safetensors_read(&g->file, tensor, 0, tensor->bytes, data, &err)) {
        printf("# cannot read %s of %s\n", name, golden_path);
        exit(1);
    }
    return data;
}

static oct_status golden_open(golden *g)
{
    oct_status st = oct_safetensors_open(&g->file, golden_path, &err);
    if (st) return st;
    const char *spec = oct_safetensors_find_meta(&g->file, "case");
    st = oct_json_parse(spec, strlen(spec), &g->spec, &err);
    if (st) return st;
    g->latents = read_tensor(g, "latents");
    g->context[0] = read_tensor(g, "context_positive");
    g->context[1] = read_tensor(g, "context_negative");
    g->pooled[0] = read_tensor(g, "pooled_positive");
    g->pooled[1] = read_tensor(g, "pooled_negative");
    g->image = read_tensor(g, "image");
    g->n = (size_t)(16 * number(g, "width") / 8 * number(g, "height") / 8);
    return OCT_OK;
}

static void golden_close(golden *g)
{
    free(g->latents);
    free(g->image);
    for (int i = 0; i < 2; i++) {
        free(g->context[i]);
        free(g->pooled[i]);
    }
    cJSON_Delete(g->spec);
    oct_safetensors_close(&g->file);
}

static double relative_error(const float *got, const float *want, size_t n)
{
    double difference = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

// Whether the model is not fabricated.
static bool has_own_model(const golden *g)
{
    return cJSON_GetObjectItemCaseSensitive(g->spec, "model") != NULL;
}

static oct_status make_model(const golden *g, const char *out)
{
    const char *dtype = text(g, "dtype");

    return oct_fabricate(
        &(oct_fabric){
            .out = out,
            .layout = layout,
            .size = oct_model_size_small((uint64_t)number(g, "depth"),
                                         (uint64_t)number(g, "dual_blocks")),
            .dtype = strcmp(dtype, "f32") == 0    ? OCT_F32
                     : strcmp(dtype, "bf16") == 0 ? OCT_BF16
                                                  : OCT_F16,
            .seed = (uint64_t)number(g, "weights_seed"),
            .has_outliers = is_set(g, "has_outliers"),
            .lacks_t5 = is_set(g, "lacks_t5"),
        },
        &err);
}

static void check_conditioning(const golden *g, const oct_conditioning *got, int branch)
{
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(g->spec, "context_rows"), *row;
    const char *name = branch ? "negative" : "positive";
    const float *want = g->context[branch];

    cJSON_ArrayForEach(row, rows)
    {
        const size_t at = (size_t)row->valueint;
        CHECK(at < got->tokens);
        const double e = relative_error(got->context + at * got->width, want, got->width);
        const size_t clip_rows = got->tokens - (size_t)number(g, "t5_tokens");
        const double bound = at < clip_rows ? CLIP_BOUND : T5_BOUND;
        if (!(e <= bound)) printf("# %s context, row %zu: off by %.2g\n", name, at, e);
        CHECK(e <= bound);
        want += got->width;
    }
    const double e = relative_error(got->pooled, g->pooled[branch], got->pooled_width);
    if (!(e <= CLIP_BOUND)) printf("# %s pooled: off by %.2g\n", name, e);
    CHECK(e <= CLIP_BOUND);
}

static void check_noise(const golden *g)
{
    oct_noise noise;
    float *got = malloc(g->n * sizeof *got);

    oct_noise_init(&noise, (uint64_t)number(g, "seed"));
    oct_noise_f32(&noise, got, g->n);
    for (size_t i = 0; i < g->n; i++) {
        if (fabsf(got[i] - g->latents[i]) <= 1e-6f) continue;
        CHECK(!"noise is PyTorch's");
        break;
    }
    free(got);
}

// The stored latent of a step, counted from 0, the noise; NULL when it was not kept.
static const float *find_latent(const golden *g, size_t step)
{
    const cJSON *steps = cJSON_GetObjectItemCaseSensitive(g->spec, "latent_steps");
    if (!steps) return g->latents + step * g->n;
    for (int i = 0; i < cJSON_GetArraySize(steps); i++) {
        if ((size_t)cJSON_GetArrayItem(steps, i)->valueint == step) {
            return g->latents + (size_t)i * g->n;
        }
    }
    return NULL;
}

static oct_status check_step(void *context, size_t step, float sigma, const float *latent,
                             oct_err *unused)
{
    golden *g = context;
    const float *want = find_latent(g, step + 1);

    (void)sigma, (void)unused;
    if (!want) return OCT_OK;
    const double e = relative_error(latent, want, g->n);
    if (!(e <= LATENT_BOUND)) printf("# latent after step %zu: off by %.2g\n", step, e);
    CHECK(e <= LATENT_BOUND);
    if (!(e <= g->latent_error)) g->latent_error = e;
    return OCT_OK;
}

static oct_status sample(golden *g, oct_pipeline *pipeline, const oct_conditioning *branches,
                         float *latent)
{
    const cJSON *slg = cJSON_GetObjectItemCaseSensitive(g->spec, "slg"), *layer;
    bool skipped[DEPTH_MAX] = {false};
    oct_sample_params params = {
        .positive = &branches[0],
        .negative = &branches[1],
        .steps = (size_t)number(g, "steps"),
        .cfg = number(g, "cfg"),
        .width = (size_t)number(g, "width"),
        .height = (size_t)number(g, "height"),
        .seed = (uint64_t)number(g, "seed"),
        .is_last = true,
        .on_step = check_step,
        .context = g,
    };

    if (!oct_sampler_parse(text(g, "sampler"), &params.sampler)) {
        return oct_fail(&err, OCT_EUSAGE, "unknown sampler '%s'", text(g, "sampler"));
    }
    if (slg) {
        cJSON_ArrayForEach(layer, cJSON_GetObjectItemCaseSensitive(slg, "layers"))
        {
            skipped[layer->valueint] = true;
        }
        params.slg_blocks = skipped;
        params.slg_scale = cJSON_GetObjectItemCaseSensitive(slg, "scale")->valuedouble;
        params.slg_start = cJSON_GetObjectItemCaseSensitive(slg, "start")->valuedouble;
        params.slg_stop = cJSON_GetObjectItemCaseSensitive(slg, "stop")->valuedouble;
    }
    oct_status st = oct_sample_check(pipeline, &params, &err);
    if (!st) st = oct_pipeline_sample(pipeline, &params, latent, &err);
    return st;
}

static void check_image(const golden *g, const oct_image *image)
{
    const size_t bytes = image->width * image->height * 3;
    size_t differing = 0;
    int worst = 0;

    CHECK(image->width == (size_t)number(g, "width"));
    CHECK(image->height == (size_t)number(g, "height"));
    for (size_t i = 0; i < bytes; i++) {
        const int difference = abs(image->rgb[i] - g->image[i]);
        differing += difference != 0;
        if (difference > worst) worst = difference;
    }
    printf("# latents off by at most %.2g; %zu of %zu image values differ, by at most %d\n",
           g->latent_error, differing, bytes, worst);
    CHECK(worst <= 1 && differing <= bytes / 200);
}

static oct_status run(golden *g, const oct_model_paths *paths)
{
    const char *texts[2] = {text(g, "prompt"), text(g, "negative")};
    oct_pipeline pipeline = {0};
    oct_conditioning branches[2] = {{0}};
    oct_image image = {0};
    float *latent = malloc(g->n * sizeof *latent);

    oct_status st = has_own_model(g) ? OCT_OK : make_model(g, paths->model);
    if (st) goto out;
    st = oct_pipeline_open(&pipeline, paths, &err);
    if (st) goto out;
    st = oct_pipeline_encode(&pipeline, texts, 2, (size_t)number(g, "t5_tokens"), branches, &err);
    if (st) goto out;
    check_noise(g);
    check_conditioning(g, &branches[0], 0);
    check_conditioning(g, &branches[1], 1);
    st = oct_pipeline_load_denoiser(&pipeline, NULL, &err);
    if (st) goto out;
    st = sample(g, &pipeline, branches, latent);
    if (st) goto out;
    st = oct_pipeline_decode(&pipeline, latent, (size_t)number(g, "width"),
                             (size_t)number(g, "height"), false, &image, &err);
    if (st) goto out;
    check_image(g, &image);

out:
    free(latent);
    oct_image_deinit(&image);
    oct_conditioning_deinit(&branches[0]);
    oct_conditioning_deinit(&branches[1]);
    oct_pipeline_close(&pipeline);
    return st;
}

static void run_agrees_with_diffusers(void)
{
    const bool is_folder = layout == OCT_FABRIC_DIFFUSERS;
    oct_arena arena = {0};
    char *folder = oct_scratch_make();
    golden g = {0};
    oct_model_paths paths = {
        .model = oct_path_join(&arena, folder, "model"),
        .tokenizers = is_folder ? NULL : oct_path_join(&arena, folder, "model.tokenizers"),
    };

    oct_status st = golden_open(&g);
    if (!st && has_own_model(&g)) paths = (oct_model_paths){.model = POCKET};
    if (!st) st = run(&g, &paths);
    if (st) printf("# %s\n", err.text);
    CHECK(st == OCT_OK);
    golden_close(&g);
    oct_scratch_remove(folder);
    oct_arena_deinit(&arena);
}

int main(int argc, char **argv)
{
    static const struct {
        oct_fabric_layout layout;
        const char *words;
    } models[] = {
        {OCT_FABRIC_DIFFUSERS, "a folder"},
        {OCT_FABRIC_ALL_IN_ONE, "one file"},
    };

    for (int i = 1; i < argc; i++) {
        const bool is_pocket = strncmp(oct_path_name(argv[i]), "pocket-", 7) == 0;
        for (int j = 0; j < (is_pocket ? 1 : 2); j++) {
            char name[128];
            golden_path = argv[i];
            layout = models[j].layout;
            snprintf(name, sizeof name, "%s from %s agrees with diffusers",
                     oct_path_name(golden_path), models[j].words);
            test_run(name, run_agrees_with_diffusers);
        }
    }
    return test_end();
}
