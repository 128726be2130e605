// SPDX-License-Identifier: Apache-2.0
//
// Predicted errors of a plan: against encoding the whole weight, and on hostile ones.
#include "ptq/predict.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "common/number.h"
#include "kernels/kernels.h"
#include "tests/ptq/denoiser.h"

typedef struct planned {
    opened_denoiser model;
    oct_policy policy;
    oct_plan plan;
    oct_prediction *predictions;
} planned;

static void plan_file(planned *p, const char *policy, const char *path)
{
    oct_err err = {0};

    open_file(&p->model, path);
    CHECK(oct_policy_parse(&p->policy, policy, strlen(policy), &err) == OCT_OK);
    const oct_plan_params params = {.policy = &p->policy, .qmax = 448};
    CHECK(oct_plan_init(&p->plan, &p->model.denoiser, &params, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    p->predictions = calloc(p->plan.n_decisions, sizeof *p->predictions);
}

static const char *tiny_path(void)
{
    model_file file = {0};
    const char *path = model_path("tiny.safetensors");

    model_add_sai(&file, &model_tiny, "");
    model_save(&file, path);
    model_deinit(&file);
    return path;
}

static void close_plan(planned *p)
{
    free(p->predictions);
    oct_plan_deinit(&p->plan);
    oct_policy_deinit(&p->policy);
    close_denoiser(&p->model);
}

static size_t index_of(const planned *p, const char *name)
{
    const oct_layer *layer = oct_denoiser_find(&p->model.denoiser, name);

    CHECK(layer);
    return layer ? (size_t)(layer - p->model.denoiser.layers) : 0;
}

#define ALL "{\"octavo_policy\": 1, \"name\": \"t\", \"default\": {\"weights\": \"e4m3\"}}"

// Of a whole weight, one scale, by the functions of common/number.h alone.
static double whole_sqnr_db(const oct_layer *layer)
{
    const size_t n = (size_t)(layer->out_features * layer->in_features);
    uint16_t *x = malloc(2 * n);
    double signal = 0, noise = 0;
    float amax = 0;

    CHECK(oct_source_read(layer->weight, x, NULL) == OCT_OK);
    for (size_t i = 0; i < n; i++) {
        if (fabsf(oct_f16_to_f32(x[i])) > amax) amax = fabsf(oct_f16_to_f32(x[i]));
    }
    for (size_t i = 0; i < n; i++) {
        const float value = oct_f16_to_f32(x[i]), scale = amax / 448;
        const double error =
            (double)value - (double)oct_e4m3_to_f32(oct_f32_to_e4m3(value / scale)) * (double)scale;
        signal += (double)value * (double)value;
        noise += error * error;
    }
    free(x);
    return 10 * log10(signal / noise);
}

static void small_weights_are_predicted_exactly(void)
{
    planned p;

    plan_file(&p, ALL, tiny_path());
    CHECK(oct_plan_predict(&p.plan, p.predictions, NULL) == OCT_OK);
    const size_t i = index_of(&p, "final_layer.linear");  // 64 rows
    CHECK(p.predictions[i].rows == 64);
    CHECK(fabs(p.predictions[i].sqnr_db - whole_sqnr_db(p.plan.decisions[i].layer)) < 1e-6);
    close_plan(&p);
}

static void large_weights_are_predicted_from_some_rows(void)
{
    planned p;

    plan_file(&p, ALL, tiny_path());
    CHECK(oct_plan_predict(&p.plan, p.predictions, NULL) == OCT_OK);
    for (size_t i = 0; i < p.plan.n_decisions; i++) {
        const oct_decision *d = &p.plan.decisions[i];
        if (d->weights == OCT_WEIGHTS_KEEP) {
            CHECK(isnan(p.predictions[i].sqnr_db) && p.predictions[i].rows == 0);
            continue;
        }
        CHECK(p.predictions[i].rows == OCT_PREDICT_ROWS);
        CHECK(fabs(p.predictions[i].sqnr_db - whole_sqnr_db(d->layer)) < 0.5);
    }
    close_plan(&p);
}

static void threads_change_nothing(void)
{
    const int threads = omp_get_max_threads();
    planned p;

    plan_file(&p, ALL, tiny_path());
    oct_prediction *again = calloc(p.plan.n_decisions, sizeof *again);
    omp_set_num_threads(1);
    CHECK(oct_plan_predict(&p.plan, p.predictions, NULL) == OCT_OK);
    omp_set_num_threads(3);
    CHECK(oct_plan_predict(&p.plan, again, NULL) == OCT_OK);
    omp_set_num_threads(threads);
    for (size_t i = 0; i < p.plan.n_decisions; i++) {
        const bool are_kept = isnan(again[i].sqnr_db) && isnan(p.predictions[i].sqnr_db);
        CHECK(are_kept || again[i].sqnr_db == p.predictions[i].sqnr_db);
    }
    free(again);
    close_plan(&p);
}

#define FINER(setting)                                                                             \
    "{\"octavo_policy\": 1, \"name\": \"t\", \"default\": {\"weights\": \"e4m3\", " setting "}}"

// A row a thousand times as large as the others makes one scale for all a bad one.
static void finer_scales_are_predicted_better(void)
{
    static const char *const policies[] = {ALL, FINER("\"granularity\": \"channel\""),
                                           FINER("\"granularity\": \"mx\"")};
    static uint16_t data[64 * 128];
    model_file file = {0};
    double sqnr_db[3] = {0};
    const char *path = model_path("row.safetensors");

    for (size_t i = 0; i < 64 * 128; i++) {
        const float value = (float)((int)(i * 2654435761u >> 20) - 2048) * 0x1p-19f;
        data[i] = oct_f32_to_f16(i / 128 == 7 ? 1024 * value : value);
    }
    model_add_sai(&file, &model_tiny, "");
    model_find(&file, "final_layer.linear.weight")->data = data;
    model_save(&file, path);
    model_deinit(&file);
    for (int i = 0; i < 3; i++) {
        planned p;
        plan_file(&p, policies[i], path);
        CHECK(oct_plan_predict(&p.plan, p.predictions, NULL) == OCT_OK);
        const size_t layer = index_of(&p, "final_layer.linear");
        sqnr_db[i] = p.predictions[layer].sqnr_db;
        close_plan(&p);
    }
    CHECK(sqnr_db[1] >= sqnr_db[0]);
    CHECK(sqnr_db[2] > 20);
}

// One input channel carries everything: the outputs' ratio is that of its column alone.
static void outputs_are_predicted_by_the_energy_of_channels(void)
{
    const oct_model_paths paths = {.model = tiny_path()};
    planned p = {0};
    oct_energy sums[128] = {{0}};
    oct_channels channels = {.layer = "final_layer.linear", .rows = 3, .n = 128, .sums = sums};
    oct_calibration_layer range = {.name = channels.layer, .amax = 9, .channels = &channels};
    const oct_calibration calibration = {
        .layers = &range, .n_layers = 1, .channels = &channels, .steps = 1};
    uint16_t x[64 * 128];
    double signal = 0, noise = 0;
    float amax = 0;
    oct_err err = {0};

    open_file(&p.model, paths.model);
    CHECK(oct_policy_parse(&p.policy, ALL, strlen(ALL), NULL) == OCT_OK);
    const oct_plan_params params = {.policy = &p.policy, .calibration = &calibration, .qmax = 448};
    oct_energy_add(&sums[17], 3 * 0.01);
    CHECK(oct_plan_init(&p.plan, &p.model.denoiser, &params, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    p.predictions = calloc(p.plan.n_decisions, sizeof *p.predictions);
    CHECK(oct_plan_predict(&p.plan, p.predictions, NULL) == OCT_OK);
    const size_t index = index_of(&p, channels.layer);
    for (size_t i = 0; i < p.plan.n_decisions; i++) {
        CHECK(isnan(p.predictions[i].output_sqnr_db) == (i != index));
    }
    CHECK(oct_source_read(p.plan.decisions[index].layer->weight, x, NULL) == OCT_OK);
    for (size_t i = 0; i < 64 * 128; i++) amax = fmaxf(amax, fabsf(oct_f16_to_f32(x[i])));
    for (size_t row = 0; row < 64; row++) {
        const float value = oct_f16_to_f32(x[row * 128 + 17]), scale = amax / 448;
        const float code = oct_e4m3_to_f32(oct_f32_to_e4m3(value / scale));
        signal += (double)value * (double)value;
        noise +=
            ((double)value - (double)(code * scale)) * ((double)value - (double)(code * scale));
    }
    CHECK_NEAR(p.predictions[index].output_sqnr_db, 10 * log10(signal / noise), 1e-6);

    channels.n = 64;
    oct_plan plan;
    CHECK(oct_plan_init(&plan, &p.model.denoiser, &params, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text,
               "layer 'final_layer.linear': the calibration has 64 channels, the model 128");
    close_plan(&p);
}

static void zeros_are_exact(void)
{
    model_file file = {0};
    const char *path = model_path("zeros.safetensors");
    planned p;

    model_add_sai(&file, &model_tiny, "");
    model_find(&file, "joint_blocks.0.x_block.attn.qkv.weight")->data = NULL;
    model_save(&file, path);
    model_deinit(&file);
    plan_file(&p, ALL, path);
    CHECK(oct_plan_predict(&p.plan, p.predictions, NULL) == OCT_OK);
    CHECK(isinf(p.predictions[index_of(&p, "joint_blocks.0.x_block.attn.qkv")].sqnr_db));
    close_plan(&p);
}

static void a_nan_is_named_at_its_true_place(void)
{
    static uint16_t data[384 * 128];
    model_file file = {0};
    const char *path = model_path("nan.safetensors");
    oct_err err = {0};
    planned p;

    data[378 * 128 + 5] = 0xfe01;  // the last sampled row of 384
    model_add_sai(&file, &model_tiny, "");
    model_find(&file, "joint_blocks.0.x_block.attn.qkv.weight")->data = data;
    model_save(&file, path);
    model_deinit(&file);
    plan_file(&p, ALL, path);
    CHECK(oct_plan_predict(&p.plan, p.predictions, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "'joint_blocks.0.x_block.attn.qkv.weight' holds NaN at row 378, column 5");
    close_plan(&p);
}

int main(void)
{
    oct_kernels_select(NULL);
    RUN(small_weights_are_predicted_exactly);
    RUN(large_weights_are_predicted_from_some_rows);
    RUN(threads_change_nothing);
    RUN(finer_scales_are_predicted_better);
    RUN(outputs_are_predicted_by_the_energy_of_channels);
    RUN(zeros_are_exact);
    RUN(a_nan_is_named_at_its_true_place);
    return test_end();
}
