// SPDX-License-Identifier: Apache-2.0
//
// The bundled policies and the examples of docs/policies.md, on every architecture.
#include "common/file.h"
#include "ptq/plan.h"
#include "tests/ptq/families.h"
#include "tests/test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef enum model_kind { SD3, SD3_WITH_T5, FLUX, LTX, T5 } model_kind;

typedef struct opened {
    oct_source source;
    oct_denoiser denoiser;
} opened;

static void open_file(opened *model, model_file *file)
{
    const oct_model_paths paths = {.model = model_path("model.safetensors")};
    oct_err err = {0};

    model_save(file, paths.model);
    model_deinit(file);
    CHECK(oct_source_open(&model->source, &paths, &err) == OCT_OK);
    CHECK(oct_denoiser_init_with(&model->denoiser, &model->source,
                                 &(oct_denoiser_params){.with_t5 = true}, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void open_sd3(opened *model, const model_spec *spec)
{
    model_file file = {0};
    model_spec shapes = *spec;

    shapes.has_data = false;
    model_add_sai(&file, &shapes, "");
    open_file(model, &file);
}

static void open_kind(opened *model, model_kind kind)
{
    model_file file = {0};
    model_spec shapes = model_tiny;

    shapes.has_data = false;
    switch (kind) {
    case SD3_WITH_T5:
        model_add_t5(&file, &t5_tiny, "text_encoders.t5xxl.transformer.");
        // fall through
    case SD3:
        model_add_sai(&file, &shapes, "model.diffusion_model.");
        break;
    case FLUX:
        model_add_flux(&file, &flux_tiny, "");
        break;
    case LTX:
        model_add_ltx(&file, &ltx_tiny, "");
        break;
    case T5:
        model_add_t5(&file, &t5_tiny, "");
        break;
    }
    open_file(model, &file);
}

static void close_model(opened *model)
{
    oct_denoiser_deinit(&model->denoiser);
    oct_source_close(&model->source);
}

// How many layers `name` makes FP8; -1 when a rule of it matches nothing.
static int count_fp8(const opened *model, const char *name)
{
    const oct_denoiser *denoiser = &model->denoiser;
    oct_policy policy;
    oct_err err = {0};
    int n = 0, rule = 0;

    CHECK(oct_policy_load(&policy, name, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    if (oct_policy_check_rules(&policy, denoiser, NULL)) n = -1;
    for (size_t i = 0; i < denoiser->n_layers && n >= 0; i++) {
        const oct_setting set = oct_policy_apply(&policy, denoiser, &denoiser->layers[i], &rule);
        n += set.weights != OCT_WEIGHTS_KEEP;
    }
    oct_policy_deinit(&policy);
    return n;
}

static void sd3_policies_fit_every_depth(void)
{
    static const model_spec specs[] = {
        {1, 1, 0, true, 8, 64, 48, OCT_F16, false},
        {2, 2, 1, true, 8, 64, 48, OCT_F16, false},
        {4, 4, 2, true, 8, 64, 48, OCT_F16, false},
        {24, 24, 0, false, 192, 4096, 2048, OCT_F16, false},
        {24, 24, 13, true, 384, 4096, 2048, OCT_F16, false},
        {38, 38, 0, true, 192, 4096, 2048, OCT_F16, false},
    };

    for (size_t i = 0; i < COUNT(specs); i++) {
        opened model;
        open_sd3(&model, &specs[i]);
        for (size_t n = 0; oct_policy_bundled(n); n++) {
            const char *name = oct_policy_bundled(n);
            // These are for other models.
            const bool is_other = !strcmp(name, "ltx-default") || !strcmp(name, "mlp-attn-t5");
            const bool fits = count_fp8(&model, name) >= 0;
            if (!is_other && !fits) printf("# %s on %d blocks\n", name, specs[i].depth);
            CHECK(is_other || fits);
        }
        close_model(&model);
    }
}

static void edges_kept_leaves_the_middle_of_a_shallow_model(void)
{
    const model_spec spec = {4, 4, 2, true, 8, 64, 48, OCT_F16, false};
    opened model;

    open_sd3(&model, &spec);
    CHECK(count_fp8(&model, "edges-kept") == 12 + 10);  // block 1, with a second attention, and 2
    close_model(&model);
}

// clang-format off
static const struct fit { const char *name; int fp8[5]; } fits[] = {
    //                       SD3  +T5  FLUX LTX  T5      a tiny model's layers: 27, 41, 39, 77, 14
    {"adaln-weight-only",   { 27,  27,  39,  77,  -1}},
    {"all",                 { 27,  27,  39,  77,  14}},
    {"attention-kept",      { 18,  18,  25,  21,   6}},
    {"edges-kept",          {  0,   0,  16,  -1,  -1}},
    {"flux-default",        { 19,  19,  29,  -1,  -1}},
    {"like-comfy-org",      { 27,  27,  39,  77,  14}},
    {"like-diffusers",      { 20,  20,  -1,  -1,  -1}},
    {"like-modelopt",       { 20,  20,  -1,  -1,  -1}},
    {"like-sglang-flux",    {  9,   9,  14,  56,   8}},
    {"like-tensorrt",       { 19,  19,  -1,  -1,  -1}},
    {"like-vllm-omni-flux", { 19,  19,  29,  70,  14}},
    {"ltx-default",         { -1,  -1,  -1,  10,  -1}},
    {"mlp",                 {  6,   6,  14,  14,   6}},
    {"mlp-attn",            { 15,  15,  22,  70,  14}},
    {"mlp-attn-t5",         { -1,  29,  -1,  -1,  14}},
    {"t5-default",          { 27,  27,  39,  77,  14}},
};
// clang-format on

static void every_bundled_policy_fits_what_it_is_for(void)
{
    for (model_kind kind = SD3; kind <= T5; kind++) {
        opened model;
        open_kind(&model, kind);
        for (size_t i = 0; i < COUNT(fits); i++) {
            const int n = count_fp8(&model, fits[i].name);
            if (n != fits[i].fp8[kind]) printf("# %s, model %d: %d\n", fits[i].name, kind, n);
            CHECK(n == fits[i].fp8[kind]);
        }
        close_model(&model);
    }
}

static void every_bundled_policy_is_checked_here(void)
{
    size_t n = 0;

    for (; oct_policy_bundled(n); n++) {
        CHECK(n < COUNT(fits));
        if (n < COUNT(fits)) CHECK_TEXT(oct_policy_bundled(n), fits[n].name);
    }
    CHECK(n == COUNT(fits));
}

static void check_default(model_file *file, const char *name, int n_fp8)
{
    opened model;

    open_file(&model, file);
    CHECK(count_fp8(&model, name) == n_fp8);
    close_model(&model);
}

static void defaults_of_the_real_models_select_as_written(void)
{
    model_file file = {0};

    model_add_flux(&file, &flux_dev, "");
    check_default(&file, "flux-default", 19 * 10 + 38 * 3);
    model_add_flux_diffusers(&file, &flux_schnell);
    check_default(&file, "like-sglang-flux", 19 * 4 + 38 * 2);
    model_add_ltx(&file, &ltx_13b, "");
    check_default(&file, "ltx-default", (48 - 6) * 10);
    model_add_ltx_diffusers(&file, &ltx_2b);
    check_default(&file, "ltx-default", (28 - 6) * 10);
    model_add_t5(&file, &t5_xxl, "");
    check_default(&file, "t5-default", 24 * 7);
}

static void t5_is_weight_only_whatever_the_policy_says(void)
{
    opened model;
    oct_policy policy;
    oct_plan plan;
    oct_err err = {0};

    open_kind(&model, T5);
    CHECK(oct_policy_load(&policy, "all", &err) == OCT_OK);
    const oct_plan_params params = {.policy = &policy, .qmax = 448};
    CHECK(oct_plan_init(&plan, &model.denoiser, &params, &err) == OCT_OK);
    CHECK(plan.n_fp8 == 14 && plan.n_static == 0);
    CHECK_TEXT(plan.decisions[0].reason, "text encoder: weight only");
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    close_model(&model);
}

static void t5_in_fp8_beside_a_denoiser_is_kept_as_it_is(void)
{
    opened model;
    oct_policy policy;
    oct_plan plan;
    oct_err err = {0};
    model_file file = {0};
    model_spec shapes = model_tiny;

    shapes.has_data = false;
    model_add_sai(&file, &shapes, "model.diffusion_model.");
    model_add_t5(&file, &t5_tiny, "text_encoders.t5xxl.transformer.");
    model_find(&file, "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.k."
                      "weight")
        ->dtype = OCT_F8_E4M3;
    open_file(&model, &file);
    CHECK(oct_policy_load(&policy, "mlp-attn-t5", &err) == OCT_OK);
    const oct_plan_params params = {.policy = &policy, .qmax = 448};
    CHECK(oct_plan_init(&plan, &model.denoiser, &params, &err) == OCT_OK);
    CHECK(plan.n_fp8 == 15 + 13);
    CHECK_TEXT(plan.decisions[27 + 1].reason, "FP8 already");
    CHECK(plan.bytes_before == model.denoiser.bytes);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    close_model(&model);
}

// ---- docs/policies.md

static void examples_load_and_are_printed_in_the_manual(void)
{
    static const struct {
        const char *path;
        model_kind kind;
        int fp8;
    } examples[] = {
        {"docs/policies/by-name.json", SD3, 4},
        {"docs/policies/exceptions.json", SD3, 17},
        {"docs/policies/finer-scales.json", SD3, 27},
        {"docs/policies/image-feed-forward.json", FLUX, 4},
        {"docs/policies/with-t5.json", SD3_WITH_T5, 27 + 12},
    };
    oct_arena arena = {0};
    char *manual = NULL;
    size_t bytes = 0;

    CHECK(oct_file_read_text(&arena, "docs/policies.md", 1 << 20, &manual, &bytes, NULL) == OCT_OK);
    for (size_t i = 0; i < COUNT(examples); i++) {
        opened model;
        char *text = NULL;
        open_kind(&model, examples[i].kind);
        const int n = count_fp8(&model, examples[i].path);
        if (n != examples[i].fp8) printf("# %s: %d\n", examples[i].path, n);
        CHECK(n == examples[i].fp8);
        CHECK(oct_file_read_text(&arena, examples[i].path, 1 << 20, &text, &bytes, NULL) == OCT_OK);
        CHECK(manual && text && strstr(manual, text));
        close_model(&model);
    }
    for (size_t i = 0; i < COUNT(fits); i++) {
        CHECK(manual && strstr(manual, oct_arena_print(&arena, "| `%s` |", fits[i].name)));
    }
    oct_arena_deinit(&arena);
}

int main(void)
{
    RUN(sd3_policies_fit_every_depth);
    RUN(edges_kept_leaves_the_middle_of_a_shallow_model);
    RUN(every_bundled_policy_fits_what_it_is_for);
    RUN(every_bundled_policy_is_checked_here);
    RUN(defaults_of_the_real_models_select_as_written);
    RUN(t5_is_weight_only_whatever_the_policy_says);
    RUN(t5_in_fp8_beside_a_denoiser_is_kept_as_it_is);
    RUN(examples_load_and_are_printed_in_the_manual);
    return test_end();
}
