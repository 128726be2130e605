// SPDX-License-Identifier: Apache-2.0
//
// Architectures beside SD3: recognised in each naming, every published count, and what is refused.
#include "ptq/layers.h"

#include <stdlib.h>

#include "ptq/dialect.h"
#include "tests/ptq/families.h"
#include "tests/test.h"

typedef struct opened {
    oct_source source;
    oct_denoiser denoiser;
} opened;

static void open_with(opened *model, model_file *file, const oct_denoiser_params *params)
{
    const oct_model_paths paths = {.model = model_path("model.safetensors")};
    oct_err err = {0};

    model_save(file, paths.model);
    model_deinit(file);
    CHECK(oct_source_open(&model->source, &paths, &err) == OCT_OK);
    CHECK(oct_denoiser_init_with(&model->denoiser, &model->source, params, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void open_saved(opened *model, model_file *file)
{
    open_with(model, file, &(oct_denoiser_params){0});
}

static void close_model(opened *model)
{
    oct_denoiser_deinit(&model->denoiser);
    oct_source_close(&model->source);
}

static uint64_t weights_of_role(const oct_denoiser *denoiser, const char *start, oct_role role)
{
    uint64_t n = 0;

    for (size_t i = 0; i < denoiser->n_layers; i++) {
        const oct_layer *layer = &denoiser->layers[i];
        if (layer->role != role || strncmp(layer->name, start, strlen(start))) continue;
        n += layer->out_features * layer->in_features;
    }
    return n;
}

// Rounded to a tenth of a million, as they are published.
static bool is_about(uint64_t weights, double millions)
{
    return weights > (millions - 0.06) * 1e6 && weights < (millions + 0.06) * 1e6;
}

static void check_dev(const opened *model)
{
    const oct_denoiser *denoiser = &model->denoiser;

    CHECK(denoiser->architecture == OCT_ARCH_FLUX && denoiser->component == OCT_DENOISER);
    CHECK_TEXT(denoiser->variant, "FLUX.1 dev");
    CHECK(model->source.n_tensors == 780);
    CHECK(denoiser->bytes == 23802816640);
    CHECK(denoiser->depth == 57 && denoiser->heads == 24 && denoiser->hidden == 3072);
    CHECK(denoiser->n_layers == 8 + 19 * 10 + 38 * 3 + 2);
    CHECK(is_about(weights_of_role(denoiser, "double", OCT_ROLE_ATTN_QKV), 1075.8));
    CHECK(is_about(weights_of_role(denoiser, "double", OCT_ROLE_ATTN_PROJ), 358.6));
    CHECK(is_about(weights_of_role(denoiser, "double", OCT_ROLE_MLP_FC1) +
                       weights_of_role(denoiser, "double", OCT_ROLE_MLP_FC2),
                   2868.9));
    CHECK(is_about(weights_of_role(denoiser, "double", OCT_ROLE_MOD), 2151.7));
    CHECK(is_about(weights_of_role(denoiser, "single", OCT_ROLE_MLP_FC1), 2510.3));
    CHECK(is_about(weights_of_role(denoiser, "single", OCT_ROLE_MLP_FC2), 1793.1));
    CHECK(is_about(weights_of_role(denoiser, "single", OCT_ROLE_MOD), 1075.8));
}

static void flux_dev_has_the_published_counts_in_both_namings(void)
{
    opened model;
    model_file file = {0};

    model_add_flux(&file, &flux_dev, "model.diffusion_model.");
    open_saved(&model, &file);
    CHECK(model.source.checkpoint.n_tensors == 780 && !model.source.is_diffusers_named);
    check_dev(&model);
    close_model(&model);

    model_add_flux_diffusers(&file, &flux_dev);
    open_saved(&model, &file);
    CHECK(model.source.checkpoint.n_tensors == 1160 && model.source.is_diffusers_named);
    check_dev(&model);
    close_model(&model);
}

static void flux_variants_are_told_apart(void)
{
    opened model;
    model_file file = {0};

    model_add_flux(&file, &flux_schnell, "");
    open_saved(&model, &file);
    CHECK_TEXT(model.denoiser.variant, "FLUX.1 schnell");
    CHECK(model.denoiser.bytes == 2 * 11891178560);
    close_model(&model);

    model_add_flux(&file, &flux_fill, "");
    open_saved(&model, &file);
    CHECK_TEXT(model.denoiser.variant, "FLUX.1 Fill");
    CHECK(model.denoiser.channels_in == 384 && model.denoiser.channels == 64);
    close_model(&model);

    model_add_flux(&file, &flux_tiny, "");
    open_saved(&model, &file);
    CHECK_TEXT(model.denoiser.variant, "custom");
    close_model(&model);
}

static void fused_layers_of_flux_have_two_roles_and_four_names(void)
{
    opened model;
    model_file file = {0};

    model_add_flux_diffusers(&file, &flux_tiny);
    open_saved(&model, &file);
    const oct_layer *layer = oct_denoiser_find(&model.denoiser, "single_blocks.2.linear1");
    CHECK(layer && layer->role == OCT_ROLE_MLP_FC1 && layer->second_role == OCT_ROLE_ATTN_QKV);
    CHECK(layer && layer->block == 4 && layer->stream == OCT_STREAM_NONE);
    CHECK(layer && layer->out_features == 7 * 256 && layer->weight->n_parts == 4);
    CHECK(layer && layer->weight->parts[3].rows == 4 * 256 && layer->bias->n_parts == 4);
    if (layer) CHECK_TEXT(layer->diffusers_names[3], "single_transformer_blocks.2.proj_mlp");
    CHECK(layer == oct_denoiser_find(&model.denoiser, "single_transformer_blocks.2.attn.to_v"));

    layer = oct_denoiser_find(&model.denoiser, "single_transformer_blocks.0.proj_out");
    CHECK(layer && layer->role == OCT_ROLE_MLP_FC2 && layer->second_role == OCT_ROLE_ATTN_PROJ);
    if (layer) CHECK_TEXT(layer->name, "single_blocks.0.linear2");

    layer = oct_denoiser_find(&model.denoiser, "norm_out.linear");
    CHECK(layer && layer->weight->n_parts == 2 && layer->weight->parts[0].first_row == 256);
    layer = oct_denoiser_find(&model.denoiser, "double_blocks.1.txt_attn.qkv");
    CHECK(layer && layer->role == OCT_ROLE_ATTN_QKV && layer->second_role == OCT_ROLE_ATTN_QKV);
    CHECK(layer && layer->stream == OCT_STREAM_TEXT && !layer->diffusers_names[3]);
    CHECK(oct_source_find(&model.source, OCT_DENOISER, "single_blocks.0.norm.key_norm.scale"));
    close_model(&model);
}

static void parts_of_unequal_rows_are_joined_in_order(void)
{
    const uint64_t rows = 256, columns = 256, bytes = 7 * rows * columns * 2;
    static const char *const names[] = {"attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"};
    opened model;
    model_file file = {0};
    uint8_t *data = malloc(bytes), *got = malloc(bytes);

    for (uint64_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    model_add_flux_diffusers(&file, &flux_tiny);
    for (size_t i = 0; i < 4; i++) {
        char name[100];
        snprintf(name, sizeof name, "single_transformer_blocks.1.%s.weight", names[i]);
        model_find(&file, name)->data = data + i * rows * columns * 2;
    }
    open_saved(&model, &file);
    const oct_source_tensor *tensor =
        oct_source_find(&model.source, OCT_DENOISER, "single_blocks.1.linear1.weight");
    oct_err err = {0};
    CHECK(tensor && oct_source_read(tensor, got, &err) == OCT_OK);
    CHECK(memcmp(got, data, bytes) == 0);
    const uint64_t from = 2 * rows * columns * 2 + 77;  // within v, into the feed-forward part
    CHECK(tensor && oct_source_read_range(tensor, from, 200000, got, &err) == OCT_OK);
    CHECK(memcmp(got, data + from, 200000) == 0);
    close_model(&model);
    free(data);
    free(got);
}

typedef struct written {
    opened model;
    oct_policy policy;
    oct_plan plan;
    oct_outputs outputs;
} written;

static void plan_outputs(written *w, model_file *file)
{
    oct_err err = {0};

    open_saved(&w->model, file);
    CHECK(oct_policy_load(&w->policy, "flux-default", &err) == OCT_OK);
    const oct_plan_params params = {.policy = &w->policy, .qmax = 448};
    CHECK(oct_plan_init(&w->plan, &w->model.denoiser, &params, &err) == OCT_OK);
    CHECK(oct_outputs_init(&w->outputs, &w->model.source, &w->plan, OCT_DIALECT_COMFY, &err) ==
          OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void both_namings_of_flux_are_written_alike(void)
{
    written w[2];

    for (int naming = 0; naming < 2; naming++) {
        model_file file = {0};
        if (naming) {
            model_add_flux_diffusers(&file, &flux_tiny);
        } else {
            model_add_flux(&file, &flux_tiny, "");
        }
        plan_outputs(&w[naming], &file);
    }
    CHECK(w[0].outputs.n_tensors == w[1].outputs.n_tensors);
    for (size_t i = 0; i < w[0].outputs.n_tensors; i++) {
        const oct_out_tensor *a = &w[0].outputs.tensors[i], *b = &w[1].outputs.tensors[i];
        CHECK_TEXT(a->name, b->name);
        CHECK(a->dtype == b->dtype && a->rank == b->rank && a->emit == b->emit);
        CHECK(memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0);
    }
    for (int i = 0; i < 2; i++) {
        oct_outputs_deinit(&w[i].outputs);
        oct_plan_deinit(&w[i].plan);
        oct_policy_deinit(&w[i].policy);
        close_model(&w[i].model);
    }
}

static void check_ltx(const ltx_spec *spec, const char *variant, uint64_t parameters)
{
    for (int naming = 0; naming < 2; naming++) {
        opened model;
        model_file file = {0};
        if (naming) {
            model_add_ltx_diffusers(&file, spec);
        } else {
            model_add_ltx(&file, spec, "model.diffusion_model.");
        }
        open_saved(&model, &file);
        const oct_denoiser *denoiser = &model.denoiser;
        CHECK(denoiser->architecture == OCT_ARCH_LTX);
        CHECK(model.source.is_diffusers_named == (naming == 1));
        CHECK_TEXT(denoiser->variant, variant);
        CHECK(denoiser->depth == spec->depth && denoiser->cross_width == spec->cross);
        if (parameters) CHECK(denoiser->bytes == 2 * parameters);
        CHECK(denoiser->n_layers == 7 + 10 * (size_t)spec->depth);
        const oct_layer *layer = oct_denoiser_find(denoiser, "transformer_blocks.3.attn2.to_k");
        CHECK(layer && layer->in_features == spec->cross && layer->stream == OCT_STREAM_TEXT);
        layer = oct_denoiser_find(denoiser, "time_embed.linear");
        CHECK(layer && layer->role == OCT_ROLE_MOD);
        if (layer) CHECK_TEXT(layer->name, "adaln_single.linear");
        close_model(&model);
    }
}

static void ltx_has_the_published_counts_in_both_namings(void)
{
    check_ltx(&ltx_2b, "LTX-Video 2B", 1923385472);
    check_ltx(&ltx_13b, "LTX-Video 13B", 13042569344);
    check_ltx(&ltx_tiny, "custom", 0);
}

static void t5_has_the_published_counts(void)
{
    opened model;
    model_file file = {0};

    model_add_t5(&file, &t5_xxl, "");
    open_saved(&model, &file);
    const oct_denoiser *t5 = &model.denoiser;
    CHECK(t5->architecture == OCT_ARCH_T5 && t5->component == OCT_T5);
    CHECK_TEXT(t5->variant, "T5-XXL");
    CHECK(t5->bytes == 9524621312);
    CHECK(t5->depth == 24 && t5->heads == 64 && t5->n_layers == 24 * 7);
    CHECK(is_about(weights_of_role(t5, "", OCT_ROLE_ATTN_QKV) +
                       weights_of_role(t5, "", OCT_ROLE_ATTN_PROJ),
                   1610.61));
    CHECK(is_about(weights_of_role(t5, "", OCT_ROLE_MLP_FC1), 2013.27));
    CHECK(is_about(weights_of_role(t5, "", OCT_ROLE_MLP_FC2), 1006.63));
    CHECK(!t5->layers[0].bias && t5->layers[0].component == OCT_T5);
    close_model(&model);
}

static void t5_with_two_embeddings_and_a_vocabulary_is_fine(void)
{
    opened model;
    model_file file = {0};

    model_add_t5(&file, &t5_tiny, "");
    model_add(&file, "encoder.embed_tokens.weight", OCT_BF16, 2, (uint64_t[]){99, 64}, NULL);
    model_add(&file, "spiece_model", OCT_U8, 1, (uint64_t[]){12}, NULL);
    open_saved(&model, &file);
    CHECK_TEXT(model.denoiser.variant, "custom");
    close_model(&model);
}

static void t5_beside_a_denoiser_is_in_the_table_where_asked_for(void)
{
    opened model;
    model_spec spec = model_tiny;
    spec.has_data = false;

    for (int with_t5 = 0; with_t5 < 2; with_t5++) {
        model_file file = {0};
        model_add_sai(&file, &spec, "model.diffusion_model.");
        model_add_t5(&file, &t5_tiny, "text_encoders.t5xxl.transformer.");
        open_with(&model, &file, &(oct_denoiser_params){.with_t5 = with_t5});
        const oct_denoiser *denoiser = &model.denoiser;
        CHECK(denoiser->architecture == OCT_ARCH_SD3 && denoiser->component == OCT_DENOISER);
        CHECK(denoiser->n_layers == 27 + (with_t5 ? 14 : 0));
        CHECK(denoiser->depth == 2 && denoiser->t5_depth == (with_t5 ? 2 : 0));
        const oct_layer *wo =
            oct_denoiser_find(denoiser, "encoder.block.1.layer.1.DenseReluDense.wo");
        CHECK((wo != NULL) == (with_t5 == 1));
        CHECK(!wo || (wo->component == OCT_T5 && wo->in_features == 160 && wo->block == 1));
        close_model(&model);
    }
}

// ---- By shape.

static void add_unknown(model_file *file)
{
    static const struct {
        const char *name;
        int rank;
        uint64_t shape[4];
    } tensors[] = {
        {"net.blocks.11.q.weight", 2, {512, 256}},      // a layer
        {"net.blocks.0.q.weight", 2, {256, 272}},       // a layer
        {"head.weight", 2, {256, 256}},                 // a layer outside the blocks
        {"net.blocks.0.q.bias", 1, {256}},              // not a matrix
        {"net.blocks.0.narrow.weight", 2, {240, 256}},  // small
        {"net.blocks.0.odd.weight", 2, {264, 256}},     // no multiple of 16
        {"net.blocks.0.conv.weight", 4, {256, 256, 3, 3}},
        {"net.token_embedding.weight", 2, {1024, 256}},
        {"net.table", 2, {256, 256}},  // no weight
    };

    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        model_add(file, tensors[i].name, OCT_F16, tensors[i].rank, tensors[i].shape, NULL);
    }
    model_add(file, "net.whole.weight", OCT_I64, 2, (uint64_t[]){256, 256}, NULL);
}

static void unknown_models_get_layers_by_shape_on_demand(void)
{
    opened model;
    model_file file = {0};

    add_unknown(&file);
    open_with(&model, &file, &(oct_denoiser_params){.is_generic = true});
    const oct_denoiser *denoiser = &model.denoiser;
    CHECK(denoiser->architecture == OCT_ARCH_GENERIC && denoiser->n_layers == 3);
    CHECK(denoiser->depth == 12);
    const oct_layer *layer = oct_denoiser_find(denoiser, "net.blocks.11.q");
    CHECK(layer && layer->block == 11 && layer->role == OCT_ROLE_OTHER && !layer->bias);
    CHECK(oct_denoiser_find(denoiser, "net.blocks.0.q"));
    layer = oct_denoiser_find(denoiser, "head");
    CHECK(layer && layer->block == -1);
    close_model(&model);
}

static void known_models_keep_their_table_where_generic_is_allowed(void)
{
    opened model;
    model_file file = {0};

    model_add_flux(&file, &flux_tiny, "");
    open_with(&model, &file, &(oct_denoiser_params){.is_generic = true});
    CHECK(model.denoiser.architecture == OCT_ARCH_FLUX);
    close_model(&model);
}

// ---- Refused.

static void check_refused(model_file *file, const char *sentence)
{
    const oct_model_paths paths = {.model = model_path("model.safetensors")};
    oct_source source;
    oct_denoiser denoiser;
    oct_err err = {0};

    model_save(file, paths.model);
    model_deinit(file);
    oct_status st = oct_source_open(&source, &paths, &err);
    if (!st) {
        st = oct_denoiser_init(&denoiser, &source, &err);
        CHECK(denoiser.n_layers == 0);
        oct_source_close(&source);
    }
    CHECK(st == OCT_EFORMAT);
    const size_t n = strlen(paths.model) + 4;  // quotes, colon and space
    CHECK_TEXT(err.text + (strncmp(err.text + 1, paths.model, n - 4) ? 0 : n), sentence);
}

static void missing_tensors_are_named(void)
{
    static const char *const flux[] = {
        "img_in.weight",
        "img_in.bias",
        "guidance_in.out_layer.bias",
        "vector_in.in_layer.weight",
        "double_blocks.1.txt_attn.qkv.weight",
        "double_blocks.0.img_attn.norm.query_norm.scale",
        "single_blocks.2.linear2.bias",
        "final_layer.linear.weight",
    };
    static const char *const ltx[] = {
        "scale_shift_table",
        "adaln_single.linear.weight",
        "transformer_blocks.6.scale_shift_table",
        "transformer_blocks.2.attn2.k_norm.weight",
        "proj_out.bias",
    };
    static const char *const t5[] = {
        "shared.weight",
        "encoder.final_layer_norm.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.1.layer.1.DenseReluDense.wo.weight",
    };
    char want[200];

    for (size_t i = 0; i < sizeof flux / sizeof *flux; i++) {
        model_file file = {0};
        model_add_flux(&file, &flux_tiny, "");
        model_remove(&file, flux[i]);
        snprintf(want, sizeof want, "'%s' is missing", flux[i]);
        check_refused(&file, want);
    }
    for (size_t i = 0; i < sizeof ltx / sizeof *ltx; i++) {
        model_file file = {0};
        model_add_ltx(&file, &ltx_tiny, "");
        model_remove(&file, ltx[i]);
        snprintf(want, sizeof want, "'%s' is missing", ltx[i]);
        check_refused(&file, want);
    }
    for (size_t i = 0; i < sizeof t5 / sizeof *t5; i++) {
        model_file file = {0};
        model_add_t5(&file, &t5_tiny, "");
        model_remove(&file, t5[i]);
        snprintf(want, sizeof want, "'%s' is missing", t5[i]);
        check_refused(&file, want);
    }
}

static void misshapen_tensors_are_named(void)
{
    model_file file = {0};

    model_add_flux(&file, &flux_tiny, "");
    model_find(&file, "single_blocks.0.linear1.weight")->shape[0] = 6 * 256;
    check_refused(&file, "'single_blocks.0.linear1.weight' has shape [1536,256], not [1792,256]");

    model_add_flux(&file, &flux_tiny, "");
    model_find(&file, "img_in.weight")->shape[0] = 200;
    check_refused(&file, "'img_in.weight' has 200 rows: not a multiple of 128");

    model_add_ltx(&file, &ltx_tiny, "");
    model_find(&file, "transformer_blocks.0.attn2.to_v.weight")->shape[1] = 128;
    check_refused(&file,
                  "'transformer_blocks.0.attn2.to_v.weight' has shape [128,128], not [128,96]");

    model_add_t5(&file, &t5_tiny, "");
    model_find(&file, "encoder.block.0.layer.0.SelfAttention.q.weight")->shape[0] = 0;
    check_refused(&file,
                  "'encoder.block.0.layer.0.SelfAttention.q.weight' has 0 rows, not 1..2^24");
}

static void unknown_tensors_are_named(void)
{
    model_file file = {0};

    model_add_flux(&file, &flux_tiny, "");
    model_add(&file, "double_blocks.0.extra", OCT_F16, 1, (uint64_t[]){4}, NULL);
    check_refused(&file, "'double_blocks.0.extra' is no tensor of a FLUX.1 denoiser (1 unknown)");

    model_add_ltx(&file, &ltx_tiny, "");
    model_add(&file, "extra", OCT_F16, 1, (uint64_t[]){4}, NULL);
    check_refused(&file, "'extra' is no tensor of an LTX-Video denoiser (1 unknown)");

    model_add_t5(&file, &t5_tiny, "");
    model_add(&file, "lm_head.weight", OCT_F16, 1, (uint64_t[]){4}, NULL);
    check_refused(&file, "'lm_head.weight' is no tensor of a T5 encoder (1 unknown)");
}

static void far_blocks_cost_nothing(void)
{
    model_file file = {0};

    model_add_flux(&file, &flux_tiny, "");
    model_add(&file, "single_blocks.99999.linear1.weight", OCT_F16, 1, (uint64_t[]){4}, NULL);
    check_refused(&file, "'single_blocks.99999.linear1.weight' is of block 99999, but there are "
                         "only 93 tensors");
}

static void incomplete_fusions_are_named(void)
{
    model_file file = {0};

    model_add_flux_diffusers(&file, &flux_tiny);
    model_remove(&file, "single_transformer_blocks.1.attn.to_k.bias");
    check_refused(&file, "'single_transformer_blocks.1.attn.to_q.bias' is there, but not all of q, "
                         "k and v");

    model_add_flux_diffusers(&file, &flux_tiny);
    model_remove(&file, "single_transformer_blocks.1.proj_mlp.weight");
    check_refused(&file, "'single_blocks.1.linear1.weight' has shape [768,256], not [1792,256]");

    model_add_flux_diffusers(&file, &flux_tiny);
    model_find(&file, "single_transformer_blocks.1.proj_mlp.weight")->shape[1] = 128;
    check_refused(&file, "'single_transformer_blocks.1.attn.to_q.weight' and "
                         "'single_transformer_blocks.1.proj_mlp.weight' differ in type or shape");
}

int main(void)
{
    RUN(flux_dev_has_the_published_counts_in_both_namings);
    RUN(flux_variants_are_told_apart);
    RUN(fused_layers_of_flux_have_two_roles_and_four_names);
    RUN(parts_of_unequal_rows_are_joined_in_order);
    RUN(both_namings_of_flux_are_written_alike);
    RUN(ltx_has_the_published_counts_in_both_namings);
    RUN(t5_has_the_published_counts);
    RUN(t5_with_two_embeddings_and_a_vocabulary_is_fine);
    RUN(t5_beside_a_denoiser_is_in_the_table_where_asked_for);
    RUN(unknown_models_get_layers_by_shape_on_demand);
    RUN(known_models_keep_their_table_where_generic_is_allowed);
    RUN(missing_tensors_are_named);
    RUN(misshapen_tensors_are_named);
    RUN(unknown_tensors_are_named);
    RUN(far_blocks_cost_nothing);
    RUN(incomplete_fusions_are_named);
    return test_end();
}
