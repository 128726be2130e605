// SPDX-License-Identifier: Apache-2.0
//
// The layer table: every size and role of the real models, and what is refused.
#include "ptq/layers.h"
#include "tests/ptq/model.h"
#include "tests/test.h"

typedef struct opened {
    oct_source source;
    oct_denoiser denoiser;
} opened;

static void open_spec(opened *model, const model_spec *spec, bool is_diffusers)
{
    model_file file = {0};
    oct_err err = {0};

    if (is_diffusers) {
        model_add_diffusers(&file, spec);
    } else {
        model_add_sai(&file, spec, "model.diffusion_model.");
    }
    const oct_model_paths paths = {.model = model_path("model.safetensors")};
    model_save(&file, paths.model);
    model_deinit(&file);
    CHECK(oct_source_open(&model->source, &paths, &err) == OCT_OK);
    CHECK(oct_denoiser_init(&model->denoiser, &model->source, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void close_model(opened *model)
{
    oct_denoiser_deinit(&model->denoiser);
    oct_source_close(&model->source);
}

static void count_roles(const oct_denoiser *denoiser, int counts[OCT_ROLE_COUNT])
{
    memset(counts, 0, OCT_ROLE_COUNT * sizeof *counts);
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        counts[denoiser->layers[i].role]++;
    }
}

typedef struct expected {
    const model_spec *spec;
    const char *variant;
    size_t sai_tensors, diffusers_tensors;
    int mlp, attention, mod, others;

} expected;

static void check_variant(const expected *want)
{
    for (int naming = 0; naming < 2; naming++) {
        opened model;
        int counts[OCT_ROLE_COUNT];
        open_spec(&model, want->spec, naming == 1);
        CHECK(model.source.checkpoint.n_tensors ==
              (naming ? want->diffusers_tensors : want->sai_tensors));
        CHECK(model.source.n_tensors == want->sai_tensors);
        CHECK_TEXT(model.denoiser.variant, want->variant);
        CHECK(model.denoiser.depth == want->spec->depth);
        CHECK(model.denoiser.heads == want->spec->heads);
        CHECK(model.denoiser.table_side == want->spec->side);
        CHECK(model.denoiser.channels == 16 && model.denoiser.patch == 2);
        CHECK(model.denoiser.context_width == 4096 && model.denoiser.pooled_width == 2048);
        count_roles(&model.denoiser, counts);
        CHECK(counts[OCT_ROLE_MLP_FC1] + counts[OCT_ROLE_MLP_FC2] == want->mlp);
        CHECK(counts[OCT_ROLE_ATTN_QKV] + counts[OCT_ROLE_ATTN_PROJ] == want->attention);
        CHECK(counts[OCT_ROLE_MOD] == want->mod);
        CHECK(counts[OCT_ROLE_EMBED] + counts[OCT_ROLE_FINAL] == want->others);
        close_model(&model);
    }
}

static void large_has_the_published_tensors_and_layers(void)
{
    check_variant(&(expected){&model_large, "SD3.5 Large", 923, 1227, 150, 151, 77, 7});
}

static void medium_has_the_published_tensors_and_layers(void)
{
    check_variant(&(expected){&model_medium, "SD3.5 Medium", 665, 909, 94, 121, 49, 7});
}

static void older_medium_is_recognised(void)
{
    opened model;

    open_spec(&model, &(model_spec){24, 24, 0, false, 192, 4096, 2048, OCT_F16, false}, false);
    CHECK_TEXT(model.denoiser.variant, "SD3 Medium");
    CHECK(!model.denoiser.has_qk_norm);
    close_model(&model);
}

static void every_layer_of_a_tiny_model_is_described(void)
{
    opened model;

    open_spec(&model, &model_tiny, true);
    const oct_denoiser *denoiser = &model.denoiser;
    CHECK_TEXT(denoiser->variant, "custom");
    CHECK(denoiser->n_layers == 6 + 12 + 7 + 2);
    CHECK(denoiser->is_dual[0] && !denoiser->is_dual[1] && denoiser->has_qk_norm);
    CHECK_TEXT(denoiser->layers[0].name, "x_embedder.proj");
    CHECK(denoiser->layers[0].is_conv && denoiser->layers[0].in_features == 64);
    CHECK_TEXT(denoiser->layers[denoiser->n_layers - 1].name, "final_layer.linear");

    const oct_layer *layer = oct_denoiser_find(denoiser, "joint_blocks.0.x_block.attn2.qkv");
    CHECK(layer && layer->role == OCT_ROLE_ATTN_QKV && layer->stream == OCT_STREAM_IMAGE);
    CHECK(layer && layer->block == 0 && layer->out_features == 384 && layer->in_features == 128);
    CHECK(layer && layer == oct_denoiser_find(denoiser, "transformer_blocks.0.attn2.to_k"));
    if (layer) CHECK_TEXT(layer->diffusers_names[2], "transformer_blocks.0.attn2.to_v");

    layer = oct_denoiser_find(denoiser, "joint_blocks.0.x_block.adaLN_modulation.1");
    CHECK(layer && layer->out_features == 9 * 128 && layer->role == OCT_ROLE_MOD);
    layer = oct_denoiser_find(denoiser, "transformer_blocks.1.norm1_context.linear");
    CHECK(layer && layer->out_features == 2 * 128 && layer->stream == OCT_STREAM_TEXT);
    layer = oct_denoiser_find(denoiser, "context_embedder");
    CHECK(layer && layer->in_features == 64 && layer->block == -1 && !layer->diffusers_names[1]);
    CHECK(!oct_denoiser_find(denoiser, "joint_blocks.1.context_block.attn.proj"));
    CHECK(!oct_denoiser_find(denoiser, ""));
    close_model(&model);
}

static void every_layer_has_its_diffusers_names(void)
{
    opened model;

    open_spec(&model, &model_tiny, false);
    for (size_t i = 0; i < model.denoiser.n_layers; i++) {
        const oct_layer *layer = &model.denoiser.layers[i];
        const bool is_fused = layer->role == OCT_ROLE_ATTN_QKV;
        CHECK(layer->diffusers_names[0]);
        CHECK((layer->diffusers_names[2] != NULL) == is_fused);
        CHECK(layer->weight->bytes == 2 * layer->out_features * layer->in_features);
        CHECK(layer->bias->bytes == 2 * layer->out_features);
    }
    close_model(&model);
}

static void names_of_roles_and_streams_parse_back(void)
{
    oct_role role;
    oct_stream_kind stream;

    for (int i = 0; i < OCT_ROLE_COUNT; i++) {
        CHECK(oct_role_parse(oct_role_name((oct_role)i), &role) && role == (oct_role)i);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(oct_stream_parse(oct_stream_name((oct_stream_kind)i), &stream) &&
              stream == (oct_stream_kind)i);
    }
    CHECK(!oct_role_parse("MOD", &role) && !oct_stream_parse("", &stream));
}

// ---- Refused.

static void check_file(model_file *file, oct_status status, const char *sentence)
{
    oct_source source;
    oct_denoiser denoiser;
    oct_err err = {0};
    const oct_model_paths paths = {.model = model_path("model.safetensors")};

    model_save(file, paths.model);
    model_deinit(file);
    CHECK(oct_source_open(&source, &paths, &err) == OCT_OK);
    CHECK(oct_denoiser_init(&denoiser, &source, &err) == status);
    const size_t n = strlen(paths.model);
    const bool has_path = err.text[0] == '\'' && strncmp(err.text + 1, paths.model, n) == 0;
    CHECK_TEXT(err.text + (has_path ? n + 3 : 0), sentence);
    oct_denoiser_deinit(&denoiser);
    oct_source_close(&source);
}

static model_file tiny_file(void)
{
    model_file file = {0};
    model_spec spec = model_tiny;

    spec.has_data = false;
    model_add_sai(&file, &spec, "");
    return file;
}

static void missing_tensors_are_named(void)
{
    static const char *const names[] = {
        "pos_embed",
        "x_embedder.proj.weight",
        "x_embedder.proj.bias",
        "context_embedder.weight",
        "y_embedder.mlp.0.weight",
        "joint_blocks.0.x_block.attn.qkv.bias",
        "joint_blocks.0.context_block.attn.proj.weight",
        "joint_blocks.1.x_block.attn.ln_k.weight",
        "joint_blocks.0.x_block.attn2.ln_q.weight",
        "final_layer.adaLN_modulation.1.weight",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char want[200];
        model_file file = tiny_file();
        model_remove(&file, names[i]);
        snprintf(want, sizeof want, "'%s' is missing", names[i]);
        check_file(&file, OCT_EFORMAT, want);
    }
}

static void misshapen_tensors_are_named(void)
{
    model_file file = tiny_file();
    model_find(&file, "joint_blocks.1.x_block.mlp.fc1.weight")->shape[0] = 511;
    check_file(&file, OCT_EFORMAT,
               "'joint_blocks.1.x_block.mlp.fc1.weight' has shape [511,128], not [512,128]");

    file = tiny_file();
    model_find(&file, "joint_blocks.1.x_block.attn.ln_q.weight")->shape[0] = 128;
    check_file(&file, OCT_EFORMAT,
               "'joint_blocks.1.x_block.attn.ln_q.weight' has shape [128], not [64]");

    file = tiny_file();
    model_find(&file, "final_layer.linear.bias")->rank = 0;
    check_file(&file, OCT_EFORMAT, "'final_layer.linear.bias' has shape [], not [64]");

    file = tiny_file();
    model_find(&file, "pos_embed")->shape[1] = 63;
    check_file(&file, OCT_EFORMAT, "'pos_embed' has shape [1,63,128], not [1,P*P,128]");

    file = tiny_file();
    model_find(&file, "pos_embed")->rank = 2;
    check_file(&file, OCT_EFORMAT, "'pos_embed' has 2 dimensions, not 3");

    file = tiny_file();
    model_find(&file, "x_embedder.proj.weight")->shape[0] = 96;
    check_file(&file, OCT_EFORMAT,
               "'x_embedder.proj.weight' has 96 rows: not a multiple of 64 in 1..2^20");

    file = tiny_file();
    model_find(&file, "x_embedder.proj.weight")->shape[3] = 3;
    check_file(&file, OCT_EFORMAT,
               "'x_embedder.proj.weight' has shape [128,16,2,3]: no patch embedding");
}

static void unknown_tensors_are_named(void)
{
    model_file file = tiny_file();
    model_add(&file, "joint_blocks.0.x_block.attn.extra", OCT_F16, 1, (uint64_t[]){4}, NULL);
    model_add(&file, "zzz", OCT_F16, 1, (uint64_t[]){4}, NULL);
    check_file(&file, OCT_EFORMAT,
               "'joint_blocks.0.x_block.attn.extra' is no tensor of an SD3.5 denoiser (2 unknown)");

    file = tiny_file();
    model_add(&file, "pos_embed.weight_scale", OCT_F32, 0, NULL, NULL);
    check_file(&file, OCT_EFORMAT,
               "'pos_embed.weight_scale' is no tensor of an SD3.5 denoiser (1 unknown)");
}

static void unusable_types_are_named(void)
{
    model_file file = tiny_file();
    model_find(&file, "final_layer.linear.weight")->dtype = OCT_U8;
    check_file(&file, OCT_EUNSUPPORTED,
               "'final_layer.linear.weight' has type U8: F16, BF16, F32, F8_E4M3 or F8_E5M2 is "
               "needed");
}

static void scales_and_markers_are_known(void)
{
    static const char *const endings[] = {"weight_scale", "input_scale", "comfy_quant",
                                          "scale_weight", "scale_input"};
    model_file file = tiny_file();

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char name[200];
        snprintf(name, sizeof name, "joint_blocks.1.context_block.attn.qkv.%s", endings[i]);
        model_add(&file, name, OCT_F32, 0, NULL, NULL);
    }
    model_add(&file, "scaled_fp8", OCT_F8_E4M3, 1, (uint64_t[]){0}, NULL);
    check_file(&file, OCT_OK, "");
}

static void far_block_costs_nothing(void)
{
    model_file file = tiny_file();

    model_add(&file, "joint_blocks.99999.x_block.attn.qkv.weight", OCT_F16, 1, (uint64_t[]){4},
              NULL);
    check_file(&file, OCT_EFORMAT,
               "'joint_blocks.99999.x_block.attn.qkv.weight' is of block 99999, but there are "
               "only 66 tensors");
}

static void other_families_are_told_apart(void)
{
    static const struct {
        const char *name, *family;
    } others[] = {
        {"double_stream_modulation_img.lin.weight", "FLUX.2"},
        {"model.diffusion_model.audio_patchify_proj.weight", "LTX-2"},
        {"model.diffusion_model.distilled_guidance_layer.norms.0.scale", "Chroma"},
        {"adaln_single.linear.weight", "PixArt"},
        {"text_model.encoder.layers.0.mlp.fc1.weight", "a CLIP text encoder"},
        {"decoder.conv_in.weight", "a VAE"},
        {"model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion 1, 2 or XL"},
    };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char want[200];
        model_file file = {0};
        model_add(&file, others[i].name, OCT_F16, 1, (uint64_t[]){4}, NULL);
        snprintf(want, sizeof want, "is no SD3, FLUX.1, LTX-Video or T5 model: it looks like %s",
                 others[i].family);
        check_file(&file, OCT_EUNSUPPORTED, want);
    }
    model_file file = {0};
    model_add(&file, "weight", OCT_F16, 1, (uint64_t[]){4}, NULL);
    check_file(&file, OCT_EUNSUPPORTED,
               "is no SD3, FLUX.1, LTX-Video or T5 model by the names of its tensors");
}

int main(void)
{
    RUN(large_has_the_published_tensors_and_layers);
    RUN(medium_has_the_published_tensors_and_layers);
    RUN(older_medium_is_recognised);
    RUN(every_layer_of_a_tiny_model_is_described);
    RUN(every_layer_has_its_diffusers_names);
    RUN(names_of_roles_and_streams_parse_back);
    RUN(missing_tensors_are_named);
    RUN(misshapen_tensors_are_named);
    RUN(unknown_tensors_are_named);
    RUN(unusable_types_are_named);
    RUN(scales_and_markers_are_known);
    RUN(far_block_costs_nothing);
    RUN(other_families_are_told_apart);
    return test_end();
}
