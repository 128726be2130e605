// SPDX-License-Identifier: Apache-2.0
//
// Fabricated pipelines: files, folders and their configuration.
#include "tests/tools/fabricate.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/number.h"
#include "common/safetensors.h"
#include "tests/tools/vocabulary.h"

#define WEIGHTS "diffusion_pytorch_model.safetensors"
#define CHUNK ((uint64_t)1 << 18)  // elements per piece of work

static void encode(void *out, const float *values, uint64_t count, oct_dtype dtype)
{
    uint16_t *half = out;

    switch (dtype) {
    case OCT_F16:
        for (uint64_t i = 0; i < count; i++) half[i] = oct_f32_to_f16(values[i]);
        break;
    case OCT_BF16:
        for (uint64_t i = 0; i < count; i++) half[i] = oct_f32_to_bf16(values[i]);
        break;
    default:
        memcpy(out, values, count * sizeof *values);
    }
}

static oct_status write_chunk(oct_st_writer *writer, const oct_recipe *recipe, uint64_t from,
                              uint64_t count, oct_dtype dtype, oct_err *err)
{
    const uint64_t item = oct_dtype_bits(dtype) / 8;
    float *values = malloc(count * (sizeof *values + item));

    if (!values) return oct_fail(err, OCT_ENOMEM, "out of memory for %" PRIu64 " values", count);
    oct_recipe_fill(recipe, values, from, count);
    encode(values + count, values, count, dtype);
    const oct_status st = oct_st_writer_write(writer, oct_st_writer_find(writer, recipe->name),
                                              from * item, values + count, count * item, err);
    free(values);
    return st;
}

static oct_status write_tensor(oct_st_writer *writer, const oct_recipe *recipe, oct_dtype dtype,
                               oct_err *err)
{
    const uint64_t n = oct_recipe_elements(recipe);
    oct_status st = OCT_OK;

#pragma omp parallel for schedule(dynamic) if (n > CHUNK)
    for (uint64_t from = 0; from < n; from += CHUNK) {
        const uint64_t count = n - from < CHUNK ? n - from : CHUNK;
        oct_err own = {{0}};
        const oct_status one = write_chunk(writer, recipe, from, count, dtype, &own);
        if (one) {
#pragma omp critical
            st = oct_fail(err, one, "%s", own.text);
        }
    }
    return st;
}

static oct_status write_tensors(const char *path, const oct_recipe *recipes, size_t count,
                                oct_dtype dtype, oct_err *err)
{
    oct_st_writer writer = {0};

    for (size_t i = 0; i < count; i++) {
        oct_st_writer_add(&writer, recipes[i].name, dtype, recipes[i].rank, recipes[i].shape);
    }
    oct_st_writer_add_meta(&writer, "format", "pt");
    oct_status st = oct_st_writer_begin(&writer, path, err);
    for (size_t i = 0; i < count && !st; i++) {
        st = write_tensor(&writer, &recipes[i], dtype, err);
    }
    if (!st) st = oct_st_writer_commit(&writer, err);
    oct_st_writer_deinit(&writer);
    return st;
}

static oct_recipes begin_recipes(const oct_fabric *f)
{
    return (oct_recipes){
        .naming = f->layout == OCT_FABRIC_DIFFUSERS ? OCT_NAMING_DIFFUSERS : OCT_NAMING_SAI,
        .seed = f->seed,
        .has_outliers = f->has_outliers,
    };
}

static oct_status make_folder(oct_arena *arena, const char *folder, const char *name, char **path,
                              oct_err *err)
{
    *path = oct_path_join(arena, folder, name);
    return oct_folder_make(*path, err);
}

// Single files.

static void add_encoders(oct_recipes *r, const oct_fabric *f)
{
    const oct_model_size *size = &f->size;

    oct_recipes_add_clip(r, "text_encoders.clip_l.transformer.", &size->clip_l);
    if (!f->lacks_clip_g) {
        const char *prefix = "text_encoders.clip_g.transformer.";
        oct_recipes_add_clip(r, prefix, &size->clip_g);
        oct_recipes_add_projection(r, prefix, &size->clip_g, OCT_RECIPE_FORMULA);
    }
    if (!f->lacks_t5) {
        const char *prefix = "text_encoders.t5xxl.transformer.";
        oct_recipes_add_t5(r, prefix, &size->t5);
        oct_recipes_add_embed_tokens(r, prefix, &size->t5);
    }
}

static oct_status write_tokenizers(const char *out, oct_err *err)
{
    oct_arena arena = {0};
    const char *folder = oct_arena_print(&arena, "%s.tokenizers", out);
    char *clip, *t5;

    oct_status st = oct_folder_make(folder, err);
    if (!st) st = make_folder(&arena, folder, "clip", &clip, err);
    if (!st) st = oct_vocabulary_write_clip(clip, "<|endoftext|>", err);
    if (!st) st = make_folder(&arena, folder, "t5", &t5, err);
    if (!st) st = oct_vocabulary_write_t5(t5, err);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_single(const oct_fabric *f, oct_err *err)
{
    oct_recipes r = begin_recipes(f);
    oct_status st = OCT_OK;

    oct_recipes_add_denoiser(&r, "model.diffusion_model.", &f->size);
    oct_recipes_add_vae(&r, "first_stage_model.", &f->size);
    if (f->layout == OCT_FABRIC_ALL_IN_ONE) {
        add_encoders(&r, f);
        st = write_tokenizers(f->out, err);
    }
    if (!st) st = write_tensors(f->out, r.items, r.count, f->dtype, err);
    oct_recipes_deinit(&r);
    return st;
}

// Diffusers folders.

static const char *dtype_word(oct_dtype dtype)
{
    return dtype == OCT_F16 ? "float16" : dtype == OCT_BF16 ? "bfloat16" : "float32";
}

static oct_status write_document(const char *folder, const char *name, const char *text,
                                 oct_err *err)
{
    oct_arena arena = {0};
    cJSON *root = NULL;
    char *printed = NULL;

    oct_status st = oct_json_parse(text, strlen(text), &root, err);
    if (st) goto out;
    printed = oct_json_print(root);
    st = oct_file_write(oct_path_join(&arena, folder, name), printed, strlen(printed), err);

out:
    free(printed);
    cJSON_Delete(root);
    oct_arena_deinit(&arena);
    return st;
}

// A component of one file.
static oct_status write_part(const oct_fabric *f, const char *folder, const char *config,
                             const char *name, const oct_recipes *r, oct_err *err)
{
    oct_arena arena = {0};

    oct_status st = write_document(folder, "config.json", config, err);
    if (!st)
        st = write_tensors(oct_path_join(&arena, folder, name), r->items, r->count, f->dtype, err);
    oct_arena_deinit(&arena);
    return st;
}

static const char *print_dual_blocks(oct_arena *arena, uint64_t dual_blocks)
{
    const char *list = "";

    if (dual_blocks == 0) return "";
    for (uint64_t i = 0; i < dual_blocks; i++) {
        list = oct_arena_print(arena, "%s%s%" PRIu64, list, i ? ", " : "", i);
    }
    return oct_arena_print(arena, "\"dual_attention_layers\": [%s],", list);
}

static const char *print_transformer_config(oct_arena *arena, const oct_model_size *size)
{
    return oct_arena_print(
        arena,
        "{\"_class_name\": \"SD3Transformer2DModel\", \"_diffusers_version\": \"0.31.0\","
        "\"attention_head_dim\": 64, \"caption_projection_dim\": %" PRIu64 ", %s"
        "\"in_channels\": 16, \"joint_attention_dim\": %" PRIu64
        ", \"num_attention_heads\": %" PRIu64 ", \"num_layers\": %" PRIu64
        ", \"out_channels\": 16, \"patch_size\": 2,"
        "\"pooled_projection_dim\": %" PRIu64 ", \"pos_embed_max_size\": %" PRIu64
        ", \"qk_norm\": \"rms_norm\", \"sample_size\": %" PRIu64 "}",
        size->hidden, print_dual_blocks(arena, size->dual_blocks), size->t5.width,
        size->hidden / 64, size->blocks, size->clip_l.width + size->clip_g.width, size->table_side,
        size->table_side);
}

// Index file of a sharded folder: which tensor is where.
static oct_status write_index(const char *folder, const oct_recipes *r, const char *const *files,
                              const oct_fabric *f, oct_err *err)
{
    oct_arena arena = {0};
    cJSON *root = cJSON_CreateObject();
    cJSON *meta = cJSON_AddObjectToObject(root, "metadata");
    cJSON *map = NULL;
    uint64_t elements = 0;

    for (size_t i = 0; i < r->count; i++) {
        elements += oct_recipe_elements(&r->items[i]);
    }
    cJSON_AddNumberToObject(meta, "total_size", (double)(elements * oct_dtype_bits(f->dtype) / 8));
    map = cJSON_AddObjectToObject(root, "weight_map");
    for (size_t i = 0; i < r->count; i++) {
        cJSON_AddStringToObject(map, r->items[i].name, files[i * f->shards / r->count]);
    }
    char *text = oct_json_print(root);
    const oct_status st = oct_file_write(oct_path_join(&arena, folder, WEIGHTS ".index.json"), text,
                                         strlen(text), err);
    free(text);
    cJSON_Delete(root);
    oct_arena_deinit(&arena);
    return st;
}

// The recipes of shard s are those whose number times `shards` divided by the count is s.
static oct_status write_shards(const char *folder, const oct_recipes *r, const oct_fabric *f,
                               oct_err *err)
{
    oct_arena arena = {0};
    const char **files = oct_arena_array(&arena, f->shards, sizeof *files);
    oct_status st = OCT_OK;

    for (size_t s = 0, from = 0, to; s < f->shards && !st; s++, from = to) {
        for (to = from; to < r->count && to * f->shards / r->count == s;) to++;
        files[s] = oct_arena_print(&arena, "diffusion_pytorch_model-%05zu-of-%05zu.safetensors",
                                   s + 1, f->shards);
        st = write_tensors(oct_path_join(&arena, folder, files[s]), r->items + from, to - from,
                           f->dtype, err);
    }
    if (!st) st = write_index(folder, r, files, f, err);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_transformer(const oct_fabric *f, const char *folder, oct_err *err)
{
    oct_arena arena = {0};
    oct_recipes r = begin_recipes(f);
    const char *config = print_transformer_config(&arena, &f->size);
    oct_status st = OCT_OK;

    oct_recipes_add_denoiser(&r, "", &f->size);
    if (f->shards > 1) {
        st = write_document(folder, "config.json", config, err);
        if (!st) st = write_shards(folder, &r, f, err);
    } else {
        st = write_part(f, folder, config, WEIGHTS, &r, err);
    }
    oct_recipes_deinit(&r);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_vae(const oct_fabric *f, const char *folder, oct_err *err)
{
    oct_arena arena = {0};
    oct_recipes r = begin_recipes(f);
    const uint64_t *c = f->size.vae_channels;
    const char *text = oct_arena_print(
        &arena,
        "{\"_class_name\": \"AutoencoderKL\", \"_diffusers_version\": \"0.31.0\","
        "\"act_fn\": \"silu\", \"block_out_channels\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64
        ", %" PRIu64 "], \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\","
        "\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], \"force_upcast\": true,"
        "\"in_channels\": 3, \"latent_channels\": 16, \"latents_mean\": null,"
        "\"latents_std\": null, \"layers_per_block\": 2, \"mid_block_add_attention\": true,"
        "\"norm_num_groups\": 32, \"out_channels\": 3, \"sample_size\": 1024,"
        "\"scaling_factor\": 1.5305, \"shift_factor\": 0.0609,"
        "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\","
        "\"UpDecoderBlock2D\"], \"use_post_quant_conv\": false, \"use_quant_conv\": false}",
        c[0], c[1], c[2], c[3]);

    oct_recipes_add_vae(&r, "", &f->size);
    const oct_status st = write_part(f, folder, text, WEIGHTS, &r, err);
    oct_recipes_deinit(&r);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_clip(const oct_fabric *f, const oct_encoder_size *size,
                             const char *activation, const char *folder, oct_err *err)
{
    const bool is_clip_l = size == &f->size.clip_l;
    oct_arena arena = {0};
    oct_recipes r = begin_recipes(f);
    const char *text = oct_arena_print(
        &arena,
        "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"attention_dropout\": 0.0,"
        "\"bos_token_id\": 0, \"dropout\": 0.0, \"eos_token_id\": 2, \"hidden_act\": \"%s\","
        "\"hidden_size\": %" PRIu64 ", \"initializer_factor\": 1.0, \"initializer_range\": 0.02,"
        "\"intermediate_size\": %" PRIu64 ", \"layer_norm_eps\": 1e-05,"
        "\"max_position_embeddings\": %" PRIu64 ", \"model_type\": \"clip_text_model\","
        "\"num_attention_heads\": %" PRIu64 ", \"num_hidden_layers\": %" PRIu64
        ", \"pad_token_id\": 1, \"projection_dim\": %" PRIu64
        ", \"torch_dtype\": \"%s\", \"vocab_size\": %" PRIu64 "}",
        activation, size->width, size->mlp, size->positions, size->width / 64, size->layers,
        size->width, dtype_word(f->dtype), size->vocabulary);

    oct_recipes_add_clip(&r, "", size);
    oct_recipes_add_projection(&r, "", size, is_clip_l ? OCT_RECIPE_IDENTITY : OCT_RECIPE_FORMULA);
    const oct_status st = write_part(f, folder, text, "model.safetensors", &r, err);
    oct_recipes_deinit(&r);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_t5(const oct_fabric *f, const char *folder, oct_err *err)
{
    oct_arena arena = {0};
    oct_recipes r = begin_recipes(f);
    const oct_encoder_size *size = &f->size.t5;
    const char *text = oct_arena_print(
        &arena,
        "{\"architectures\": [\"T5EncoderModel\"], \"d_ff\": %" PRIu64 ", \"d_kv\": 64,"
        "\"d_model\": %" PRIu64 ", \"decoder_start_token_id\": 0,"
        "\"dense_act_fn\": \"gelu_new\", \"dropout_rate\": 0.0, \"eos_token_id\": 1,"
        "\"feed_forward_proj\": \"gated-gelu\", \"initializer_factor\": 1.0,"
        "\"is_encoder_decoder\": true, \"is_gated_act\": true, \"layer_norm_epsilon\": 1e-06,"
        "\"model_type\": \"t5\", \"num_decoder_layers\": %" PRIu64 ", \"num_heads\": %" PRIu64
        ", \"num_layers\": %" PRIu64 ", \"output_past\": true, \"pad_token_id\": 0,"
        "\"relative_attention_max_distance\": 128, \"relative_attention_num_buckets\": 32,"
        "\"tie_word_embeddings\": false, \"torch_dtype\": \"%s\", \"use_cache\": true,"
        "\"vocab_size\": %" PRIu64 "}",
        size->mlp, size->width, size->layers, size->width / 64, size->layers, dtype_word(f->dtype),
        size->vocabulary);

    oct_recipes_add_t5(&r, "", size);
    const oct_status st = write_part(f, folder, text, "model.safetensors", &r, err);
    oct_recipes_deinit(&r);
    oct_arena_deinit(&arena);
    return st;
}

static const char *component(oct_arena *arena, bool is_absent, const char *name,
                             const char *library, const char *class)
{
    return is_absent ? oct_arena_print(arena, ", \"%s\": [null, null]", name)
                     : oct_arena_print(arena, ", \"%s\": [\"%s\", \"%s\"]", name, library, class);
}

static oct_status write_model_index(const oct_fabric *f, oct_err *err)
{
    oct_arena a = {0};
    const bool no_g = f->lacks_clip_g, no_t5 = f->lacks_t5;
    const char *clip = "CLIPTextModelWithProjection";
    const char *text = oct_arena_print(
        &a,
        "{\"_class_name\": \"StableDiffusion3Pipeline\", \"_diffusers_version\": \"0.31.0\""
        "%s%s%s%s%s%s%s%s%s%s%s}",
        component(&a, true, "feature_extractor", NULL, NULL),
        component(&a, true, "image_encoder", NULL, NULL),
        component(&a, false, "scheduler", "diffusers", "FlowMatchEulerDiscreteScheduler"),
        component(&a, false, "text_encoder", "transformers", clip),
        component(&a, no_g, "text_encoder_2", "transformers", clip),
        component(&a, no_t5, "text_encoder_3", "transformers", "T5EncoderModel"),
        component(&a, false, "tokenizer", "transformers", "CLIPTokenizer"),
        component(&a, no_g, "tokenizer_2", "transformers", "CLIPTokenizer"),
        component(&a, no_t5, "tokenizer_3", "transformers", "T5TokenizerFast"),
        component(&a, false, "transformer", "diffusers", "SD3Transformer2DModel"),
        component(&a, false, "vae", "diffusers", "AutoencoderKL"));
    const oct_status st = write_document(f->out, "model_index.json", text, err);

    oct_arena_deinit(&a);
    return st;
}

static oct_status write_scheduler(const char *folder, oct_err *err)
{
    return write_document(folder, "scheduler_config.json",
                          "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\","
                          "\"_diffusers_version\": \"0.31.0\", \"num_train_timesteps\": 1000,"
                          "\"shift\": 3.0}",
                          err);
}

static oct_status write_folder_encoders(const oct_fabric *f, oct_arena *arena, oct_err *err)
{
    char *folder;

    oct_status st = make_folder(arena, f->out, "text_encoder", &folder, err);
    if (!st) st = write_clip(f, &f->size.clip_l, "quick_gelu", folder, err);
    if (!st) st = make_folder(arena, f->out, "tokenizer", &folder, err);
    if (!st) st = oct_vocabulary_write_clip(folder, "<|endoftext|>", err);
    if (!f->lacks_clip_g) {
        if (!st) st = make_folder(arena, f->out, "text_encoder_2", &folder, err);
        if (!st) st = write_clip(f, &f->size.clip_g, "gelu", folder, err);
        if (!st) st = make_folder(arena, f->out, "tokenizer_2", &folder, err);
        if (!st) st = oct_vocabulary_write_clip(folder, "!", err);
    }
    if (!f->lacks_t5) {
        if (!st) st = make_folder(arena, f->out, "text_encoder_3", &folder, err);
        if (!st) st = write_t5(f, folder, err);
        if (!st) st = make_folder(arena, f->out, "tokenizer_3", &folder, err);
        if (!st) st = oct_vocabulary_write_t5(folder, err);
    }
    return st;
}

static oct_status write_folder(const oct_fabric *f, oct_err *err)
{
    oct_arena arena = {0};
    char *folder;

    oct_status st = oct_folder_make(f->out, err);
    if (!st) st = make_folder(&arena, f->out, "transformer", &folder, err);
    if (!st) st = write_transformer(f, folder, err);
    if (!st) st = make_folder(&arena, f->out, "vae", &folder, err);
    if (!st) st = write_vae(f, folder, err);
    if (!st) st = make_folder(&arena, f->out, "scheduler", &folder, err);
    if (!st) st = write_scheduler(folder, err);
    if (!st) st = write_folder_encoders(f, &arena, err);
    if (!st) st = write_model_index(f, err);
    oct_arena_deinit(&arena);
    return st;
}

oct_status oct_fabricate(const oct_fabric *fabric, oct_err *err)
{
    assert(fabric->out && fabric->size.blocks > 0);
    assert(fabric->dtype == OCT_F16 || fabric->dtype == OCT_BF16 || fabric->dtype == OCT_F32);
    const oct_status st = fabric->layout == OCT_FABRIC_DIFFUSERS ? write_folder(fabric, err)
                                                                 : write_single(fabric, err);
    return st ? oct_wrap(err, st, "cannot fabricate '%s'", fabric->out) : OCT_OK;
}
