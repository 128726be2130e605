// SPDX-License-Identifier: Apache-2.0
//
// Plans: decisions with their reasons, the bytes of the real models, encoding.
#include <omp.h>
#include <stdlib.h>

#include "common/number.h"
#include "ptq/plan.h"
#include "ptq/scale.h"
#include "tests/ptq/denoiser.h"

static oct_policy load_policy(const char *name)
{
    oct_policy policy;

    CHECK(oct_policy_load(&policy, name, NULL) == OCT_OK);
    return policy;
}

static oct_policy parse_policy(const char *rules)
{
    oct_policy policy;
    char text[1000];

    snprintf(text, sizeof text, "{\"octavo_policy\": 1, \"name\": \"t\", %s}", rules);
    CHECK(oct_policy_parse(&policy, text, strlen(text), NULL) == OCT_OK);
    return policy;
}

// Ranges for every layer but `without`.
static oct_calibration make_ranges(const oct_denoiser *denoiser, const char *without)
{
    oct_calibration calibration = {.steps = 1};

    calibration.layers =
        oct_arena_array(&calibration.arena, denoiser->n_layers, sizeof *calibration.layers);
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        if (without && strcmp(denoiser->layers[i].name, without) == 0) continue;
        calibration.layers[calibration.n_layers++] =
            (oct_calibration_layer){.name = denoiser->layers[i].name, .amax = 1 + (float)i};
    }
    return calibration;
}

// ---- Bytes of the real models, scales taken off.

static void check_bytes(const opened_denoiser *model, oct_policy policy, size_t n_fp8,
                        uint64_t bytes)
{
    oct_calibration ranges = make_ranges(&model->denoiser, NULL);
    const oct_plan_params params = {
        .policy = &policy, .calibration = &ranges, .qmax = 448, .require_calibration = true};
    oct_plan plan;
    oct_err err = {0};

    CHECK(oct_plan_init(&plan, &model->denoiser, &params, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    const uint64_t scales = 4 * (plan.n_fp8 + plan.n_static);
    CHECK(plan.n_fp8 == n_fp8);
    CHECK(plan.bytes_after - scales == bytes);
    if (plan.bytes_after - scales != bytes) {
        printf("# %s: %llu\n", policy.name, (unsigned long long)(plan.bytes_after - scales));
    }
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    oct_calibration_deinit(&ranges);
}

#define MOD_TOO                                                                                    \
    "\"rules\": [{\"select\": {\"role\": [\"mlp_fc1\", \"mlp_fc2\", \"attn_qkv\", \"attn_proj\", " \
    "\"mod\"]}, \"set\": {\"weights\": \"e4m3\"}}]"

static void large_shrinks_to_the_published_bytes(void)
{
    const uint64_t conv = 2432 * 64;
    opened_denoiser model;

    open_denoiser(&model, &model_large);
    CHECK(model.denoiser.bytes == 16292561536);
    check_bytes(&model, parse_policy("\"rules\": []"), 0, 16292561536);
    check_bytes(&model, load_policy("mlp"), 150, 12743787136);
    check_bytes(&model, load_policy("mlp-attn"), 301, 10951656064);
    check_bytes(&model, parse_policy(MOD_TOO), 378, 8266416768);
    check_bytes(&model, load_policy("all"), 384, 8238711424 + conv);
    check_bytes(&model, load_policy("like-comfy-org"), 384, 8238711424 + conv);
    close_denoiser(&model);
}

static void medium_shrinks_to_the_published_bytes(void)
{
    const uint64_t conv = 1536 * 64;
    opened_denoiser model;

    open_denoiser(&model, &model_medium);
    CHECK(model.denoiser.bytes == 4939327872);
    check_bytes(&model, load_policy("mlp"), 94, 4052232576);
    check_bytes(&model, load_policy("mlp-attn"), 215, 3478923648);
    check_bytes(&model, parse_policy(MOD_TOO), 264, 2712152448);
    check_bytes(&model, load_policy("all"), 270, 2697406848 + conv);
    close_denoiser(&model);
}

// How many layers of a role a policy makes FP8, and how many of those are static.
static void count(const oct_plan *plan, oct_role role, int *n_fp8, int *n_static)
{
    *n_fp8 = *n_static = 0;
    for (size_t i = 0; i < plan->n_decisions; i++) {
        if (plan->decisions[i].layer->role != role) continue;
        *n_fp8 += plan->decisions[i].weights == OCT_WEIGHTS_E4M3;
        *n_static += plan->decisions[i].inputs == OCT_INPUTS_STATIC;
    }
}

static void bundled_policies_quantize_what_they_say(void)
{
    // Large: 76 + 1 modulations, 5 linear embedders and one convolution, 1 final.
    static const struct {
        const char *name;
        int fp8[OCT_ROLE_COUNT], is_static[OCT_ROLE_COUNT];
    } table[] = {
        {"all", {76, 75, 75, 75, 77, 5, 1}, {76, 75, 75, 75, 77, 5, 1}},
        {"mlp", {0, 0, 75, 75, 0, 0, 0}, {0, 0, 75, 75, 0, 0, 0}},
        {"mlp-attn", {76, 75, 75, 75, 0, 0, 0}, {76, 75, 75, 75, 0, 0, 0}},
        {"attention-kept", {0, 0, 75, 75, 77, 5, 1}, {0, 0, 75, 75, 77, 5, 1}},
        {"adaln-weight-only", {76, 75, 75, 75, 77, 5, 1}, {76, 75, 75, 75, 0, 0, 1}},
        {"edges-kept", {68, 68, 68, 68, 68, 0, 0}, {68, 68, 68, 68, 68, 0, 0}},
        {"like-comfy-org", {76, 75, 75, 75, 77, 5, 1}, {0, 0, 0, 0, 0, 0, 0}},
        {"like-modelopt", {76, 75, 75, 75, 76, 0, 1}, {76, 75, 75, 75, 76, 0, 1}},
        {"like-tensorrt", {76, 75, 75, 75, 76, 0, 0}, {76, 75, 75, 75, 76, 0, 0}},
        {"like-diffusers", {76, 75, 75, 75, 0, 5, 0}, {0, 0, 0, 0, 0, 0, 0}},
    };
    opened_denoiser model;

    open_denoiser(&model, &model_large);
    oct_calibration ranges = make_ranges(&model.denoiser, NULL);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        oct_policy policy = load_policy(table[i].name);
        const oct_plan_params params = {
            .policy = &policy, .calibration = &ranges, .qmax = 448, .require_calibration = true};
        oct_plan plan;
        CHECK(oct_plan_init(&plan, &model.denoiser, &params, NULL) == OCT_OK);
        for (int role = 0; role < OCT_ROLE_COUNT; role++) {
            int n_fp8 = 0, n_static = 0;
            count(&plan, (oct_role)role, &n_fp8, &n_static);
            CHECK(n_fp8 == table[i].fp8[role] && n_static == table[i].is_static[role]);
            if (n_fp8 != table[i].fp8[role] || n_static != table[i].is_static[role]) {
                printf("# %s %s: %d, %d\n", table[i].name, oct_role_name((oct_role)role), n_fp8,
                       n_static);
            }
        }
        oct_plan_deinit(&plan);
        oct_policy_deinit(&policy);
    }
    oct_calibration_deinit(&ranges);
    close_denoiser(&model);
}

// ---- Decisions.

static void decisions_carry_scale_rule_and_reason(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("mlp");
    oct_plan plan;

    open_denoiser(&model, &model_tiny);
    oct_calibration ranges = make_ranges(&model.denoiser, NULL);
    const oct_plan_params params = {.policy = &policy, .calibration = &ranges, .qmax = 127};
    CHECK(oct_plan_init(&plan, &model.denoiser, &params, NULL) == OCT_OK);
    const oct_layer *fc1 = oct_denoiser_find(&model.denoiser, "joint_blocks.0.x_block.mlp.fc1");
    const oct_decision *decision = oct_plan_find(&plan, fc1);
    CHECK(decision->layer == fc1 && decision->weights == OCT_WEIGHTS_E4M3);
    CHECK(decision->inputs == OCT_INPUTS_STATIC && decision->rule == 0);
    CHECK(decision->input_scale == (1 + (float)(fc1 - model.denoiser.layers)) / 127.0f);
    CHECK_TEXT(decision->reason, "rule 1");
    CHECK(decision->bytes_before == 2 * 512 * 128 && decision->bytes_after == 512 * 128 + 8);
    decision = &plan.decisions[0];
    CHECK(decision->weights == OCT_WEIGHTS_KEEP && decision->inputs == OCT_INPUTS_NONE);
    CHECK(decision->rule == -1 && decision->input_scale == 0);
    CHECK(decision->bytes_before == decision->bytes_after);
    CHECK_TEXT(decision->reason, "default");
    CHECK(plan.n_fp8 == 6 && plan.n_static == 6);
    CHECK(plan.bytes_before - plan.bytes_after == 6 * (512 * 128 - 8));
    oct_plan_deinit(&plan);
    oct_calibration_deinit(&ranges);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void convolution_is_never_quantized(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("all");
    const oct_plan_params params = {.policy = &policy, .qmax = 448};
    oct_plan plan;

    open_denoiser(&model, &model_tiny);
    CHECK(oct_plan_init(&plan, &model.denoiser, &params, NULL) == OCT_OK);
    CHECK(plan.decisions[0].layer->is_conv && plan.decisions[0].weights == OCT_WEIGHTS_KEEP);
    CHECK_TEXT(plan.decisions[0].reason, "convolution: no loader reads it in FP8");
    CHECK(plan.n_fp8 == model.denoiser.n_layers - 1 && plan.n_static == 0);
    CHECK_TEXT(plan.decisions[1].reason, "no calibrated range: weight only");
    CHECK(plan.decisions[1].inputs == OCT_INPUTS_NONE && plan.decisions[1].input_scale == 0);
    CHECK(plan.decisions[1].bytes_after == 128 * 256 + 4);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void odd_features_are_weight_only(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("all");
    oct_plan plan;

    open_denoiser(&model, &(model_spec){2, 2, 1, true, 8, 60, 48, OCT_F16, false});
    oct_calibration ranges = make_ranges(&model.denoiser, NULL);
    const oct_plan_params params = {
        .policy = &policy, .calibration = &ranges, .qmax = 448, .require_calibration = true};
    CHECK(oct_plan_init(&plan, &model.denoiser, &params, NULL) == OCT_OK);
    const oct_layer *context = oct_denoiser_find(&model.denoiser, "context_embedder");
    const oct_decision *decision = oct_plan_find(&plan, context);
    CHECK(decision->weights == OCT_WEIGHTS_E4M3 && decision->inputs == OCT_INPUTS_NONE);
    CHECK_TEXT(decision->reason, "features are not multiples of 16: weight only");
    oct_plan_deinit(&plan);
    oct_calibration_deinit(&ranges);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void input_scale_has_a_floor(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("all");
    oct_plan plan;

    open_denoiser(&model, &model_tiny);
    oct_calibration ranges = make_ranges(&model.denoiser, NULL);
    ranges.layers[3].amax = 1e-20f;
    ranges.layers[4].amax = 0;
    const oct_plan_params params = {.policy = &policy, .calibration = &ranges, .qmax = 448};
    CHECK(oct_plan_init(&plan, &model.denoiser, &params, NULL) == OCT_OK);
    CHECK(plan.decisions[3].input_scale == OCT_INPUT_SCALE_MIN);
    CHECK(plan.decisions[4].inputs == OCT_INPUTS_NONE);
    CHECK_TEXT(plan.decisions[4].reason, "no calibrated range: weight only");
    oct_plan_deinit(&plan);
    oct_calibration_deinit(&ranges);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

// ---- Refused.

static void check_refused(const opened_denoiser *model, const oct_plan_params *params,
                          oct_status status, const char *sentence)
{
    oct_plan plan;
    oct_err err = {0};

    CHECK(oct_plan_init(&plan, &model->denoiser, params, &err) == status);
    CHECK_TEXT(err.text, sentence);
    CHECK(!plan.decisions && plan.n_decisions == 0);
}

static void missing_ranges_are_refused_on_request(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("mlp");

    open_denoiser(&model, &model_tiny);
    const char *name = "joint_blocks.1.x_block.mlp.fc2";
    oct_calibration ranges = make_ranges(&model.denoiser, name);
    check_refused(
        &model,
        &(oct_plan_params){
            .policy = &policy, .calibration = &ranges, .qmax = 448, .require_calibration = true},
        OCT_EFORMAT, "layer 'joint_blocks.1.x_block.mlp.fc2' has no calibrated range");
    check_refused(&model,
                  &(oct_plan_params){.policy = &policy, .qmax = 448, .require_calibration = true},
                  OCT_EFORMAT, "layer 'joint_blocks.0.x_block.mlp.fc1' has no calibrated range");
    oct_calibration_deinit(&ranges);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void calibration_of_other_layers_is_refused(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("mlp");

    open_denoiser(&model, &model_tiny);
    oct_calibration ranges = make_ranges(&model.denoiser, NULL);
    const oct_plan_params params = {.policy = &policy, .calibration = &ranges, .qmax = 448};
    ranges.layers[2].name = "joint_blocks.2.x_block.mlp.fc1";
    check_refused(&model, &params, OCT_EFORMAT,
                  "the calibration has layer 'joint_blocks.2.x_block.mlp.fc1', the model has not");
    ranges.layers[2].name = "transformer_blocks.0.ff.net.2";
    check_refused(&model, &params, OCT_EFORMAT,
                  "the calibration has layer 'transformer_blocks.0.ff.net.2', the model has not");
    oct_calibration_deinit(&ranges);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void rules_without_layers_are_refused(void)
{
    opened_denoiser model;
    oct_policy policy = parse_policy(
        "\"rules\": [{\"select\": {\"blocks\": [5, 9]}, \"set\": {\"weights\": \"e4m3\"}}]");

    open_denoiser(&model, &model_tiny);
    check_refused(&model, &(oct_plan_params){.policy = &policy, .qmax = 448}, OCT_EFORMAT,
                  "policy 't': rule 1 matches none of the 27 layers");
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void fp8_models_are_refused(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("mlp");
    model_file file = {0};
    model_spec spec = model_tiny;

    spec.has_data = false;
    model_add_sai(&file, &spec, "");
    model_find(&file, "joint_blocks.0.x_block.mlp.fc1.weight")->dtype = OCT_F8_E4M3;
    model_save(&file, model_path("fp8.safetensors"));
    model_deinit(&file);
    open_file(&model, model_path("fp8.safetensors"));
    check_refused(&model, &(oct_plan_params){.policy = &policy, .qmax = 448}, OCT_EUNSUPPORTED,
                  "the model is FP8 already: 'joint_blocks.0.x_block.mlp.fc1.weight' has type "
                  "F8_E4M3");
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void scale_beyond_binary32_is_refused(void)
{
    opened_denoiser model;
    oct_policy policy = load_policy("mlp");

    open_denoiser(&model, &model_tiny);
    oct_calibration ranges = make_ranges(&model.denoiser, NULL);
    for (size_t i = 0; i < ranges.n_layers; i++) {
        ranges.layers[i].amax = 3e38f;
    }
    check_refused(&model,
                  &(oct_plan_params){.policy = &policy, .calibration = &ranges, .qmax = 0.5f},
                  OCT_EFORMAT,
                  "layer 'joint_blocks.0.x_block.mlp.fc1': range 3.00000001e+38 over 0.5 is no "
                  "finite scale");
    oct_calibration_deinit(&ranges);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void calibration_of_another_model_is_refused(void)
{
    oct_calibration calibration = {.denoiser_xxh3 = "00000000000000000000000000000001"};
    oct_plan plan = {.params = {.calibration = &calibration}};
    oct_err err = {0};

    CHECK(oct_plan_check_model(&plan, "00000000000000000000000000000001", &err) == OCT_OK);
    CHECK(oct_plan_check_model(&plan, "00000000000000000000000000000002", &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "the calibration was made with another model: its denoiser is "
                         "00000000000000000000000000000001, this one "
                         "00000000000000000000000000000002");
    plan.params.calibration = NULL;
    CHECK(oct_plan_check_model(&plan, "x", NULL) == OCT_OK);
}

// ---- Encoding.

typedef struct encoding {
    opened_denoiser model;
    oct_policy policy;
    oct_plan_params params;
    oct_plan plan;
    const oct_layer *layer;
    size_t n;
} encoding;

// A layer of three chunks and a bit: 1152 * 128 elements.
static void open_encoding(encoding *e, oct_dtype dtype, float qmax)
{
    model_spec spec = model_tiny;

    spec.dtype = dtype;
    open_denoiser(&e->model, &spec);
    e->policy = load_policy("all");
    e->params = (oct_plan_params){.policy = &e->policy, .qmax = qmax};
    CHECK(oct_plan_init(&e->plan, &e->model.denoiser, &e->params, NULL) == OCT_OK);
    e->layer = oct_denoiser_find(&e->model.denoiser, "joint_blocks.0.x_block.adaLN_modulation.1");
    e->n = 1152 * 128;
}

static void close_encoding(encoding *e)
{
    oct_plan_deinit(&e->plan);
    oct_policy_deinit(&e->policy);
    close_denoiser(&e->model);
}

static float value_of(oct_dtype dtype, const void *x, size_t i)
{
    if (dtype == OCT_F16) return oct_f16_to_f32(((const uint16_t *)x)[i]);
    if (dtype == OCT_BF16) return oct_bf16_to_f32(((const uint16_t *)x)[i]);
    return ((const float *)x)[i];
}

static void codes_follow_the_formula(void)
{
    static const oct_dtype dtypes[] = {OCT_F16, OCT_BF16, OCT_F32};
    static const float qmaxes[] = {448, 127};

    for (int i = 0; i < 6; i++) {
        const oct_dtype dtype = dtypes[i % 3];
        encoding e;
        open_encoding(&e, dtype, qmaxes[i / 3]);
        void *x = malloc(e.layer->weight->bytes);
        uint8_t *codes = malloc(e.n);
        float amax = 0, scale = 0;
        CHECK(oct_source_read(e.layer->weight, x, NULL) == OCT_OK);
        CHECK(oct_plan_encode(&e.plan, e.layer, x, codes, &scale, NULL) == OCT_OK);
        for (size_t j = 0; j < e.n; j++) {
            amax = fmaxf(amax, fabsf(value_of(dtype, x, j)));
        }
        CHECK(amax > 0 && scale == amax / qmaxes[i / 3]);
        size_t n_wrong = 0;
        for (size_t j = 0; j < e.n; j++) {
            n_wrong += codes[j] != oct_f32_to_e4m3(value_of(dtype, x, j) / scale);
        }
        CHECK(n_wrong == 0);
        free(codes);
        free(x);
        close_encoding(&e);
    }
}

static void codes_do_not_depend_on_threads(void)
{
    encoding e;
    float scales[3] = {0};

    open_encoding(&e, OCT_F16, 448);
    void *x = malloc(e.layer->weight->bytes);
    uint8_t *codes = malloc(3 * e.n);
    CHECK(oct_source_read(e.layer->weight, x, NULL) == OCT_OK);
    const int before = omp_get_max_threads();
    for (int i = 0; i < 3; i++) {
        omp_set_num_threads(i + 1);
        CHECK(oct_plan_encode(&e.plan, e.layer, x, codes + (size_t)i * e.n, &scales[i], NULL) ==
              OCT_OK);
    }
    omp_set_num_threads(before);
    CHECK(scales[0] == scales[1] && scales[0] == scales[2]);
    CHECK(memcmp(codes, codes + e.n, e.n) == 0 && memcmp(codes, codes + 2 * e.n, e.n) == 0);
    free(codes);
    free(x);
    close_encoding(&e);
}

static void nonfinite_weights_are_named(void)
{
    static const struct {
        size_t index;
        uint16_t bits;
        const char *sentence;
    } cases[] = {
        {0, 0x7c00, "holds infinity at index 0 (row 0, column 0)"},
        {70000, 0xfc00, "holds infinity at index 70000 (row 546, column 112)"},
        {147455, 0x7e01, "holds NaN at index 147455 (row 1151, column 127)"},
    };
    encoding e;

    open_encoding(&e, OCT_F16, 448);
    uint16_t *x = malloc(e.layer->weight->bytes);
    uint8_t *codes = malloc(e.n);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_err err = {0};
        char want[300];
        float scale = 0;
        CHECK(oct_source_read(e.layer->weight, x, NULL) == OCT_OK);
        x[cases[i].index] = cases[i].bits;
        CHECK(oct_plan_encode(&e.plan, e.layer, x, codes, &scale, &err) == OCT_EFORMAT);
        snprintf(want, sizeof want, "'%s' %s", e.layer->weight->name, cases[i].sentence);
        CHECK_TEXT(err.text, want);
    }
    free(codes);
    free(x);
    close_encoding(&e);
}

static void zeros_have_scale_one_and_keep_their_signs(void)
{
    encoding e;
    float scale = 0;

    open_encoding(&e, OCT_BF16, 448);
    uint16_t *x = calloc(e.n, 2);
    uint8_t *codes = malloc(e.n);
    x[5] = 0x8000;
    CHECK(oct_plan_encode(&e.plan, e.layer, x, codes, &scale, NULL) == OCT_OK);
    CHECK(scale == 1 && codes[4] == 0 && codes[5] == 0x80);
    free(codes);
    free(x);
    close_encoding(&e);
}

int main(void)
{
    RUN(large_shrinks_to_the_published_bytes);
    RUN(medium_shrinks_to_the_published_bytes);
    RUN(bundled_policies_quantize_what_they_say);
    RUN(decisions_carry_scale_rule_and_reason);
    RUN(convolution_is_never_quantized);
    RUN(odd_features_are_weight_only);
    RUN(input_scale_has_a_floor);
    RUN(missing_ranges_are_refused_on_request);
    RUN(calibration_of_other_layers_is_refused);
    RUN(rules_without_layers_are_refused);
    RUN(fp8_models_are_refused);
    RUN(scale_beyond_binary32_is_refused);
    RUN(calibration_of_another_model_is_refused);
    RUN(codes_follow_the_formula);
    RUN(codes_do_not_depend_on_threads);
    RUN(nonfinite_weights_are_named);
    RUN(zeros_have_scale_one_and_keep_their_signs);
    return test_end();
}
