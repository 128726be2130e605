// SPDX-License-Identifier: Apache-2.0
//
// Calibrating a small fabricated model.
#include <omp.h>
#include <stdlib.h>

#include "calibrate/collect.h"
#include "common/file.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/scratch.h"

static char *scratch;
static oct_arena arena;

static const char *in_scratch(const char *name)
{
    return oct_path_join(&arena, scratch, name);
}

static oct_collect_options options_for(const char *out)
{
    return (oct_collect_options){
        .paths = {.model = in_scratch("model")},
        .prompts = in_scratch("prompts.txt"),
        .out = in_scratch(out),
        .device = {.request = {.name = "cpu"}},
        .sampling = {.steps = 2,
                     .sampler_name = "euler",
                     .cfg = 3,
                     .negative = "",
                     .size = "64x64",
                     .t5_tokens = 16,
                     .width = 64,
                     .height = 64},
        .seed = 5,
    };
}

static void make_inputs(void)
{
    static const char prompts[] = "a fox\na cat\na house by the sea\n";
    const oct_fabric fabric = {.out = in_scratch("model"),
                               .layout = OCT_FABRIC_DIFFUSERS,
                               .size = oct_model_size_small(2, 1),
                               .dtype = OCT_F16,
                               .has_outliers = true};
    oct_err err = {0};

    if (oct_fabricate(&fabric, &err)) printf("# %s\n", err.text);
    oct_file_write(in_scratch("prompts.txt"), prompts, sizeof prompts - 1, NULL);
}

static oct_status collect(const oct_collect_options *options, oct_err *err)
{
    oct_collection collection;
    oct_status st = oct_collection_open(&collection, options, &(oct_ranks){.count = 1}, err);
    if (st) return st;
    st = oct_collection_run(&collection, err);
    oct_collection_close(&collection);
    return st;
}

static const char *read_all(const char *name, size_t *bytes)
{
    char *text = NULL;
    CHECK(oct_file_read_text(&arena, in_scratch(name), 1 << 24, &text, bytes, NULL) == OCT_OK);
    return text;
}

static void every_layer_has_a_range_per_step_and_branch(void)
{
    const oct_collect_options options = options_for("calibration.json");
    oct_calibration calibration = {0};
    oct_err err = {0};

    CHECK(collect(&options, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_calibration_load(&calibration, options.out, &err) == OCT_OK);
    CHECK(calibration.n_parts == 1 && calibration.steps == 2);
    CHECK(calibration.parts[0].prompts == 3 && calibration.parts[0].seed == 5);
    CHECK(calibration.width == 64 && calibration.height == 64 && calibration.cfg == 3);
    CHECK_TEXT(calibration.sampler, "euler");
    CHECK(calibration.n_layers > 20);
    for (size_t i = 0; i < calibration.n_layers; i++) {
        const oct_calibration_layer *layer = &calibration.layers[i];
        float amax = 0;
        CHECK(layer->amax > 0 && isfinite(layer->amax) && layer->exponents);
        for (size_t step = 0; step < 2; step++) {
            CHECK(layer->cond[step] > 0 && layer->uncond[step] > 0);
            amax = fmaxf(amax, fmaxf(layer->cond[step], layer->uncond[step]));
        }
        CHECK(amax == layer->amax);
    }
    oct_calibration_deinit(&calibration);
}

static void the_same_run_gives_the_same_bytes_on_any_number_of_threads(void)
{
    const oct_collect_options options = options_for("again.json");
    const int threads = omp_get_max_threads();
    size_t first_bytes = 0, second_bytes = 0;

    omp_set_num_threads(1);
    CHECK(collect(&options, NULL) == OCT_OK);
    omp_set_num_threads(threads);
    const char *first = read_all("calibration.json", &first_bytes);
    const char *second = read_all("again.json", &second_bytes);
    CHECK(first_bytes == second_bytes && memcmp(first, second, first_bytes) == 0);
}

// Of layers that see every token of every step in both branches.
static void channels_are_recorded_when_asked_for(void)
{
    oct_collect_options options = options_for("channels.json");
    const int threads = omp_get_max_threads();
    oct_calibration calibration = {0};
    size_t first_bytes = 0, second_bytes = 0, n_image = 0;
    oct_err err = {0};

    options.has_channels = true;
    CHECK(collect(&options, &err) == OCT_OK);
    CHECK(oct_calibration_load(&calibration, options.out, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    for (size_t i = 0; i < calibration.n_layers; i++) {
        const oct_calibration_layer *layer = &calibration.layers[i];
        double largest = 0;
        CHECK(layer->channels && layer->channels->rows > 0);
        CHECK(layer->exponents && oct_exponents_total(layer->exponents) ==
                                      layer->channels->rows * layer->channels->n);
        for (size_t c = 0; c < layer->channels->n; c++) {
            largest = fmax(largest, (double)oct_channels_mean(layer->channels, c));
        }
        CHECK(largest > 0 && largest <= (double)layer->amax * (double)layer->amax);
        if (!strstr(layer->name, "x_block.attn.qkv")) continue;
        n_image++;
        CHECK(layer->channels->rows == 3 * 2 * 2 * (64 / 16) * (64 / 16));
    }
    CHECK(n_image == 2);
    oct_calibration_deinit(&calibration);

    omp_set_num_threads(1);
    options.out = in_scratch("channels1.json");
    CHECK(collect(&options, NULL) == OCT_OK);
    omp_set_num_threads(threads);
    const char *first = read_all("channels.json" OCT_CHANNELS_SUFFIX, &first_bytes);
    const char *second = read_all("channels1.json" OCT_CHANNELS_SUFFIX, &second_bytes);
    CHECK(first_bytes == second_bytes && memcmp(first, second, first_bytes) == 0);
    CHECK(!oct_path_exists(in_scratch("calibration.json" OCT_CHANNELS_SUFFIX)));
}

static void more_prompts_never_lower_a_range(void)
{
    oct_collect_options options = options_for("one.json");
    oct_calibration one = {0}, all = {0};

    options.limit = 1;
    CHECK(collect(&options, NULL) == OCT_OK);
    CHECK(oct_calibration_load(&one, options.out, NULL) == OCT_OK);
    CHECK(oct_calibration_load(&all, in_scratch("calibration.json"), NULL) == OCT_OK);
    CHECK(one.n_layers == all.n_layers);
    for (size_t i = 0; i < one.n_layers && i < all.n_layers; i++) {
        CHECK(one.layers[i].amax <= all.layers[i].amax);
    }
    oct_calibration_deinit(&one);
    oct_calibration_deinit(&all);
}

static void without_guidance_there_is_one_branch(void)
{
    oct_collect_options options = options_for("plain.json");
    oct_calibration calibration = {0};

    options.limit = 1;
    options.sampling.cfg = 1;
    CHECK(collect(&options, NULL) == OCT_OK);
    CHECK(oct_calibration_load(&calibration, options.out, NULL) == OCT_OK);
    CHECK(calibration.layers[0].cond && !calibration.layers[0].uncond);
    oct_calibration_deinit(&calibration);
}

static void an_infinite_input_names_its_layer(void)
{
    oct_layer layers[] = {{.name = "x_embedder"}, {.name = "context_embedder"}};
    const oct_denoiser denoiser = {.layers = layers, .n_layers = 2};
    float amax[2 * 2 * 1] = {1, 2, 3, INFINITY};
    const oct_observer observer = {.n_layers = 2, .n_steps = 1, .amax = amax};
    oct_calibration calibration = {0};
    oct_err err = {0};

    CHECK(oct_calibration_collect(&calibration, &denoiser, &observer, true, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "the input of layer 'context_embedder' became infinite or NaN");
    oct_calibration_deinit(&calibration);
}

static void wrong_inputs_leave_no_file(void)
{
    oct_collect_options options = options_for("nothing.json");
    oct_err err = {0};

    options.sampling.height = 60;
    CHECK(collect(&options, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "size 64x60 is not a multiple of 16");
    options = options_for("nothing.json");
    options.seed = UINT64_MAX;
    CHECK(collect(&options, &err) == OCT_EUSAGE);
    options = options_for("no/such/folder/nothing.json");
    CHECK(collect(&options, &err) == OCT_EIO);
    CHECK(!oct_path_exists(in_scratch("nothing.json")));
}

int main(void)
{
    scratch = oct_scratch_make();
    make_inputs();
    RUN(every_layer_has_a_range_per_step_and_branch);
    RUN(the_same_run_gives_the_same_bytes_on_any_number_of_threads);
    RUN(channels_are_recorded_when_asked_for);
    RUN(more_prompts_never_lower_a_range);
    RUN(without_guidance_there_is_one_branch);
    RUN(an_infinite_input_names_its_layer);
    RUN(wrong_inputs_leave_no_file);
    oct_arena_deinit(&arena);
    oct_scratch_remove(scratch);
    return test_end();
}
