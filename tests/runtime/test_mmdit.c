// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/mmdit.c against Stability-AI/sd3.5 in FP64, on a model of two blocks.
//
// The reference ran a batch of two with two timesteps, one context each. Here they are two branches
// of one run with both timesteps as steps: element b of the batch is branch b at step b.
#include "runtime/mmdit.h"

#include <stdlib.h>

#include "kernels/kernels.h"
#include "runtime/mmdit_internal.h"
#include "tests/runtime/tiny.h"
#include "tests/test.h"
#include "tests/tools/formula.h"
#include "tests/tools/recipe.h"
#include "tests/tools/scratch.h"

#define HIDDEN 128
#define TOKENS 6  // 3 x 2 patches
#define CONTEXT 5
#define LATENT (16 * 6 * 4)

// Timestep features are FP32 in the reference too and differ in their last bits. 1e-5 seen.
#define BOUND 5e-5

static char *folder;
static const float timesteps[2] = {987.5f, 31.25f};
static float latents[2][LATENT], pooled[2][2048], contexts[2][CONTEXT * 4096];

typedef struct model {
    oct_source source;
    oct_denoiser denoiser;
    oct_mmdit mmdit;
    oct_conditioning conditionings[2];
    oct_mmdit_inputs inputs;
} model;

static oct_status write_model(const char *path, bool has_qk_norm)
{
    const oct_model_size size = {
        .hidden = HIDDEN,
        .blocks = 2,
        .dual_blocks = 1,
        .table_side = 8,
        .clip_l = {.width = 768},
        .clip_g = {.width = 1280},
        .t5 = {.width = 4096},
    };
    oct_recipes recipes = {0};
    oct_st_writer writer = {0};
    oct_recipes_add_denoiser(&recipes, "", &size);
    for (size_t i = 0; i < recipes.count; i++) {
        const oct_recipe *r = &recipes.items[i];
        if (!has_qk_norm && (strstr(r->name, ".ln_q.") || strstr(r->name, ".ln_k."))) continue;
        oct_st_writer_add(&writer, r->name, OCT_F32, r->rank, r->shape);
    }
    const oct_status st = tiny_write(&writer, path, "", NULL);
    oct_recipes_deinit(&recipes);
    return st;
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static bool open_model(model *m, const char *name)
{
    oct_err err = {0};
    *m = (model){0};
    oct_status st = oct_source_open(&m->source, &(oct_model_paths){.model = path_of(name)}, &err);
    if (!st) st = oct_denoiser_init(&m->denoiser, &m->source, &err);
    if (!st) st = oct_mmdit_load(&m->mmdit, oct_device_cpu(), &m->source, &m->denoiser, NULL, &err);
    CHECK_TEXT(err.text, "");
    for (size_t b = 0; b < 2; b++) {
        m->conditionings[b] = (oct_conditioning){.context = contexts[b],
                                                 .pooled = pooled[b],
                                                 .tokens = CONTEXT,
                                                 .width = 4096,
                                                 .pooled_width = 2048};
    }
    m->inputs = (oct_mmdit_inputs){.latent_height = 6,
                                   .latent_width = 4,
                                   .timesteps = timesteps,
                                   .steps = 2,
                                   .branches = {&m->conditionings[0], &m->conditionings[1]}};
    return st == OCT_OK;
}

static void close_model(model *m)
{
    oct_mmdit_deinit(&m->mmdit);
    oct_denoiser_deinit(&m->denoiser);
    oct_source_close(&m->source);
}

// What the batch of two gives, stage by stage.
typedef struct stages {
    float c[2][HIDDEN], x0[2][TOKENS * HIDDEN], x1[2][TOKENS * HIDDEN], x2[2][TOKENS * HIDDEN];
    float context0[2][CONTEXT * HIDDEN], context1[2][CONTEXT * HIDDEN];
    float v[2][LATENT];
} stages;

static void run_stages(model *m, stages *s)
{
    for (int b = 0; b < 2; b++) {
        const oct_mmdit_run *run = m->mmdit.run;
        memcpy(s->c[b], run->branches[b].c + b * HIDDEN, sizeof s->c[b]);
        oct_mmdit_select(&m->mmdit, (size_t)b, b);
        oct_mmdit_enter(&m->mmdit, latents[b], b);
        memcpy(s->x0[b], run->image.residual, sizeof s->x0[b]);
        memcpy(s->context0[b], run->text.residual, sizeof s->context0[b]);
        oct_mmdit_block_run(&m->mmdit, 0, b);
        memcpy(s->x1[b], run->image.residual, sizeof s->x1[b]);
        memcpy(s->context1[b], run->text.residual, sizeof s->context1[b]);
        oct_mmdit_block_run(&m->mmdit, 1, b);
        memcpy(s->x2[b], run->image.residual, sizeof s->x2[b]);
        oct_mmdit_leave(&m->mmdit, s->v[b]);
    }
}

// clang-format off
static const tiny_want want_c = {256,
    {0.4713236, 0.4430580, -0.8860221, -0.1223124, -1.1408149, 0.6455866}, -0.4325271, 7.96305, 76.02431};
static const tiny_want want_x0 = {1536,
    {-0.4874836, -0.8695081, 0.2777691, -0.4631816, -1.0736022, -0.6677661}, -0.8362724, -1.575954, 660.449601};
static const tiny_want want_context0 = {1280,
    {0.5491310, 0.4228941, 0.3568392, 0.3508220, -0.3969040, -0.2514181}, 0.5701607, -47.984868, 458.888160};
static const tiny_want want_x1 = {1536,
    {-0.8819284, -0.8613573, -0.8357560, -0.4052205, -1.6461205, -0.9514487}, 0.1426008, 10.560255, 841.708748};
static const tiny_want want_context1 = {1280,
    {0.4695380, 0.3358602, 0.3587510, 0.3718428, -0.1631020, -0.6960844}, 0.7559691, -53.186989, 560.778495};
static const tiny_want want_x2 = {1536,
    {-0.8268776, -1.1611574, -0.6539522, -0.5034965, -1.4193100, -1.0318381}, 0.0040584, 32.259615, 929.205521};
static const tiny_want want_v = {768,
    {-1.8308194, 0.1686762, -0.9130654, -0.2741030, -0.8202074, 1.5661735}, -0.6925182, 34.681455, 977.793152};
// clang-format on

static void every_stage_equals_the_reference(void)
{
    static stages s;
    model m;
    if (!open_model(&m, "model.safetensors")) return;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, NULL) == OCT_OK);
    run_stages(&m, &s);
    CHECK_NEAR(tiny_distance(s.c[0], 256, &want_c), 0, BOUND);
    CHECK_NEAR(tiny_distance(s.x0[0], 1536, &want_x0), 0, 2e-6);  // no timestep in it: FP32 sums
    CHECK_NEAR(tiny_distance(s.context0[0], 1280, &want_context0), 0, 2e-6);
    CHECK_NEAR(tiny_distance(s.x1[0], 1536, &want_x1), 0, BOUND);
    CHECK_NEAR(tiny_distance(s.context1[0], 1280, &want_context1), 0, BOUND);
    CHECK_NEAR(tiny_distance(s.x2[0], 1536, &want_x2), 0, BOUND);
    CHECK_NEAR(tiny_distance(s.v[0], 768, &want_v), 0, BOUND);
    close_model(&m);
}

static void a_forward_pass_is_all_stages(void)
{
    static stages s;
    float v[LATENT];
    model m;
    if (!open_model(&m, "model.safetensors")) return;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, NULL) == OCT_OK);
    run_stages(&m, &s);
    for (int b = 0; b < 2; b++) {
        oct_mmdit_forward(&m.mmdit, v, latents[b], (size_t)b, b, NULL);
        CHECK(memcmp(v, s.v[b], sizeof v) == 0);
    }
    close_model(&m);
}

// The reference's own rounding order; a once-rounded f_2 is 0.865964353.
static void timestep_features_follow_the_rounding_order(void)
{
    static const struct {
        int j;
        double f;
    } frequencies[] = {{0, 1},           {1, 0.930572033},    {2, 0.865964293},
                       {3, 0.805842161}, {64, 0.00999999978}, {127, 1.07460757e-4}};
    const float small = 0x1p-12f;  // sin a = a - a^3 / 6 is a to within 1e-8 of it
    float row[256];
    oct_mmdit_time_features(row, &small, 1, 128);
    for (size_t i = 0; i < sizeof frequencies / sizeof *frequencies; i++) {
        const double f = row[128 + frequencies[i].j] / (double)small;
        CHECK_NEAR(f / frequencies[i].f, 1, 7e-8);  // one ulp
    }
}

static void timestep_features_equal_the_reference(void)
{
    static const struct {
        float t;
        double cos[4], cos_last, sin[4], sin_last;
    } rows[] = {
        {1000,
         {0.562379, 0.789627, 0.439928, -0.023645},
         0.99423164,
         {0.826880, 0.613588, -0.898033, 0.999720},
         0.10725406},
        {857.6923f,
         {-0.999296, 0.983855, 0.252987, 0.999899},
         0.99575549,
         {-0.037519, 0.178967, 0.967470, 0.014228},
         0.09203783},
        {8.928571f,
         {-0.879395, -0.439190, 0.121855, 0.612297},
         0.99999952,
         {0.476094, 0.898394, 0.992548, 0.790628},
         0.00095947},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float got[256];
        oct_mmdit_time_features(got, &rows[i].t, 1, 128);
        for (size_t j = 0; j < 4; j++) {
            CHECK_NEAR(got[j], rows[i].cos[j], 1.5e-6);  // six digits are printed
            CHECK_NEAR(got[128 + j], rows[i].sin[j], 1.5e-6);
        }
        CHECK_NEAR(got[127], rows[i].cos_last, 7e-8);
        CHECK_NEAR(got[255], rows[i].sin_last, 7e-8);
    }
}

static void a_skipped_block_leaves_both_streams_alone(void)
{
    const bool first[2] = {true, false};
    float v[LATENT], want[LATENT];
    model m;
    if (!open_model(&m, "model.safetensors")) return;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, NULL) == OCT_OK);
    oct_mmdit_select(&m.mmdit, 0, 0);
    oct_mmdit_enter(&m.mmdit, latents[0], 0);
    oct_mmdit_block_run(&m.mmdit, 1, 0);
    oct_mmdit_leave(&m.mmdit, want);
    oct_mmdit_forward(&m.mmdit, v, latents[0], 0, 0, first);
    CHECK(memcmp(v, want, sizeof v) == 0);
    close_model(&m);
}

static void modulation_weights_go_when_no_run_follows(void)
{
    float v[LATENT], want[LATENT];
    model m;
    if (!open_model(&m, "model.safetensors")) return;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, NULL) == OCT_OK);
    oct_mmdit_forward(&m.mmdit, want, latents[0], 0, 0, NULL);
    oct_mmdit_end(&m.mmdit);
    m.inputs.is_last = true;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, NULL) == OCT_OK);
    CHECK(!m.mmdit.parts->blocks[0].x.modulation->weight);
    CHECK(m.mmdit.parts->blocks[0].x.modulation->runs == 4);
    oct_mmdit_forward(&m.mmdit, v, latents[0], 0, 0, NULL);
    CHECK(memcmp(v, want, sizeof v) == 0);
    close_model(&m);
}

static void a_model_without_qk_norm_runs(void)
{
    static stages s;
    model m;
    if (!open_model(&m, "plain.safetensors")) return;
    CHECK(!m.denoiser.has_qk_norm);
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, NULL) == OCT_OK);
    run_stages(&m, &s);
    CHECK_NEAR(tiny_distance(s.x0[0], 1536, &want_x0), 0, 2e-6);
    CHECK(tiny_distance(s.v[0], 768, &want_v) > 1e-3);
    close_model(&m);
}

static void a_picture_larger_than_the_table_is_refused(void)
{
    oct_err err = {0};
    model m;
    if (!open_model(&m, "model.safetensors")) return;
    m.inputs.latent_width = 18;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, &err) == OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "a picture of 9x3 patches is larger than the model's position table, 8x8");
    m.inputs.latent_width = 16;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, &err) == OCT_OK);
    close_model(&m);
}

static float amax_of(const oct_observer *o, const model *m, const char *name, int branch, int step)
{
    const oct_layer *layer = oct_denoiser_find(&m->denoiser, name);
    const size_t index = (size_t)(layer - m->denoiser.layers);
    return o->amax[(index * 2 + (size_t)branch) * o->n_steps + (size_t)step];
}

static float peak(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

static void inputs_are_observed_by_branch_and_step(void)
{
    float v[LATENT];
    oct_observer observer = {0};
    model m;
    if (!open_model(&m, "model.safetensors")) return;
    oct_observer_init(&observer, m.denoiser.n_layers, 2);
    m.inputs.observer = &observer;
    CHECK(oct_mmdit_begin(&m.mmdit, &m.inputs, NULL) == OCT_OK);
    for (int b = 0; b < 2; b++) {
        const float text = peak(contexts[b], CONTEXT * 4096);
        CHECK(amax_of(&observer, &m, "context_embedder", b, 0) == text);
        CHECK(amax_of(&observer, &m, "context_embedder", b, 1) == text);
        CHECK(amax_of(&observer, &m, "y_embedder.mlp.0", b, 1) == peak(pooled[b], 2048));
        CHECK(amax_of(&observer, &m, "joint_blocks.1.x_block.adaLN_modulation.1", b, 1) ==
                  peak(m.mmdit.run->modulated + HIDDEN, HIDDEN) ||
              b == 0);
    }
    CHECK(amax_of(&observer, &m, "final_layer.adaLN_modulation.1", 0, 0) !=
          amax_of(&observer, &m, "final_layer.adaLN_modulation.1", 0, 1));
    oct_mmdit_forward(&m.mmdit, v, latents[1], 1, 0, NULL);
    CHECK(amax_of(&observer, &m, "x_embedder.proj", 0, 1) == peak(latents[1], LATENT));
    CHECK(amax_of(&observer, &m, "x_embedder.proj", 0, 0) == 0);
    CHECK(amax_of(&observer, &m, "x_embedder.proj", 1, 1) == 0);
    CHECK(amax_of(&observer, &m, "joint_blocks.0.context_block.mlp.fc2", 0, 1) > 0);
    oct_observer_deinit(&observer);
    close_model(&m);
}

int main(void)
{
    folder = oct_scratch_make();
    if (write_model(path_of("model.safetensors"), true)) return 1;
    if (write_model(path_of("plain.safetensors"), false)) return 1;
    oct_formula_fill(latents[0], "input.x", 4, (uint64_t[]){2, 16, 6, 4});
    oct_formula_fill(pooled[0], "input.y", 2, (uint64_t[]){2, 2048});
    oct_formula_fill(contexts[0], "input.context", 3, (uint64_t[]){2, CONTEXT, 4096});
    RUN(every_stage_equals_the_reference);
    RUN(a_forward_pass_is_all_stages);
    RUN(timestep_features_follow_the_rounding_order);
    RUN(timestep_features_equal_the_reference);
    RUN(a_skipped_block_leaves_both_streams_alone);
    RUN(modulation_weights_go_when_no_run_follows);
    RUN(a_model_without_qk_norm_runs);
    RUN(a_picture_larger_than_the_table_is_refused);
    RUN(inputs_are_observed_by_branch_and_step);
    oct_scratch_remove(folder);
    return test_end();
}
