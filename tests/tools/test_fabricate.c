// SPDX-License-Identifier: Apache-2.0
//
// Tests of tests/tools/fabricate.c and recipe.c.
#include "tests/tools/fabricate.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/json.h"
#include "common/number.h"
#include "common/safetensors.h"
#include "tests/test.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

static oct_err err;

typedef void add_function(oct_recipes *recipes, const oct_model_size *size);

static void add_denoiser(oct_recipes *r, const oct_model_size *size)
{
    oct_recipes_add_denoiser(r, "", size);
}

static void add_vae(oct_recipes *r, const oct_model_size *size)
{
    oct_recipes_add_vae(r, "", size);
}

static void add_clip_l(oct_recipes *r, const oct_model_size *size)
{
    oct_recipes_add_clip(r, "", &size->clip_l);
}

static void add_clip_g(oct_recipes *r, const oct_model_size *size)
{
    oct_recipes_add_clip(r, "", &size->clip_g);
    oct_recipes_add_projection(r, "", &size->clip_g, OCT_RECIPE_FORMULA);
}

static void add_t5(oct_recipes *r, const oct_model_size *size)
{
    oct_recipes_add_t5(r, "", &size->t5);
}

static void check_counts(add_function *add, oct_model_size size, oct_naming naming, size_t tensors,
                         uint64_t elements)
{
    oct_recipes r = {.naming = naming};
    uint64_t n = 0;

    add(&r, &size);
    for (size_t i = 0; i < r.count; i++) {
        n += oct_recipe_elements(&r.items[i]);
    }
    CHECK(r.count == tensors);
    CHECK(n == elements);
    oct_recipes_deinit(&r);
}

static void full_models_have_the_published_numbers_of_tensors_and_parameters(void)
{
    const oct_model_size large = oct_model_size_large(), medium = oct_model_size_medium();

    check_counts(add_denoiser, large, OCT_NAMING_SAI, 923, 8146280768);
    check_counts(add_denoiser, large, OCT_NAMING_DIFFUSERS, 1227, 8146280768);
    check_counts(add_denoiser, medium, OCT_NAMING_SAI, 665, 2469663936);
    check_counts(add_denoiser, medium, OCT_NAMING_DIFFUSERS, 909, 2469663936);
    check_counts(add_vae, large, OCT_NAMING_SAI, 244, 83819683);
    check_counts(add_vae, large, OCT_NAMING_DIFFUSERS, 244, 83819683);
    check_counts(add_clip_l, large, OCT_NAMING_SAI, 196, 123060480);
    check_counts(add_clip_g, large, OCT_NAMING_SAI, 517, 694659840);
    check_counts(add_t5, large, OCT_NAMING_SAI, 219, 4762310656);
}

static const oct_recipe *find(const oct_recipes *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->items[i].name, name) == 0) return &r->items[i];
    }
    printf("# no tensor %s\n", name);
    abort();
}

static void check_rows(const char *fused, uint64_t row, const char *part, uint64_t part_row,
                       uint64_t rows)
{
    const oct_model_size size = oct_model_size_small(2, 1);
    oct_recipes sai = {0}, diffusers = {.naming = OCT_NAMING_DIFFUSERS};
    static float a[1 << 16], b[1 << 16];

    oct_recipes_add_denoiser(&sai, "", &size);
    oct_recipes_add_denoiser(&diffusers, "", &size);
    const oct_recipe *x = find(&sai, fused), *y = find(&diffusers, part);
    const uint64_t width = x->rank == 2 ? x->shape[1] : 1;
    oct_recipe_fill(x, a, row * width, rows * width);
    oct_recipe_fill(y, b, part_row * width, rows * width);
    CHECK(memcmp(a, b, rows * width * sizeof *a) == 0);
    oct_recipes_deinit(&sai);
    oct_recipes_deinit(&diffusers);
}

static void diffusers_has_q_k_and_v_apart(void)
{
    check_rows("joint_blocks.1.context_block.attn.qkv.weight", 128,
               "transformer_blocks.1.attn.add_k_proj.weight", 0, 128);
    check_rows("joint_blocks.0.x_block.attn2.qkv.bias", 256, "transformer_blocks.0.attn2.to_v.bias",
               0, 128);
    check_rows("joint_blocks.0.x_block.attn.qkv.weight", 127,
               "transformer_blocks.0.attn.to_q.weight", 127, 1);
}

static void diffusers_has_the_halves_of_two_modulations_swapped(void)
{
    check_rows("final_layer.adaLN_modulation.1.weight", 0, "norm_out.linear.weight", 128, 128);
    check_rows("joint_blocks.1.context_block.adaLN_modulation.1.bias", 100,
               "transformer_blocks.1.norm1_context.linear.bias", 228, 28);
    check_rows("joint_blocks.0.context_block.adaLN_modulation.1.weight", 0,
               "transformer_blocks.0.norm1_context.linear.weight", 0, 256);
}

static void a_fill_across_the_swapped_halves_is_seamless(void)
{
    const oct_recipe swapped = {.name = "norm_out.linear.bias",
                                .source = "final_layer.adaLN_modulation.1.bias",
                                .rank = 1,
                                .shape = {256},
                                .kind = OCT_RECIPE_SWAPPED};
    float whole[256], middle[100];

    oct_recipe_fill(&swapped, whole, 0, 256);
    oct_recipe_fill(&swapped, middle, 90, 100);
    CHECK(memcmp(whole + 90, middle, sizeof middle) == 0);
}

static void outliers_are_where_the_header_says(void)
{
    const oct_model_size size = oct_model_size_small(2, 0);
    oct_recipes plain = {0}, loud = {.has_outliers = true};
    float a[768], b[768];

    oct_recipes_add_denoiser(&plain, "", &size);
    oct_recipes_add_denoiser(&loud, "", &size);
    const char *scales = "joint_blocks.0.x_block.adaLN_modulation.1.bias";
    const char *columns = "joint_blocks.1.x_block.attn.qkv.weight";
    oct_recipe_fill(find(&plain, scales), a, 0, 768);
    oct_recipe_fill(find(&loud, scales), b, 0, 768);
    for (int i = 0; i < 768; i++) {
        const bool is_loud = (i / 128 == 1 || i / 128 == 4) && i % 64 == 5;
        CHECK_NEAR(b[i] - a[i], is_loud ? 16 : 0, 1e-5);
    }
    oct_recipe_fill(find(&plain, columns), a, 128, 128);
    oct_recipe_fill(find(&loud, columns), b, 128, 128);
    for (int i = 0; i < 128; i++) {
        CHECK(b[i] == (i % 64 == 9 ? 8 * a[i] : a[i]));
    }
    oct_recipes_deinit(&plain);
    oct_recipes_deinit(&loud);
}

// Files.

static char *folder, path[512];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void check_f16_tensor(const oct_safetensors *st, const char *name, const char *source)
{
    const oct_st_tensor *tensor = oct_safetensors_find(st, name);
    uint16_t *got = NULL;

    CHECK(tensor != NULL);
    if (!tensor) return;
    const uint64_t n = oct_st_elements(tensor);
    got = malloc(n * sizeof *got);
    CHECK(oct_safetensors_read(st, tensor, 0, tensor->bytes, got, &err) == OCT_OK);
    for (uint64_t i = 0; i < n; i++) {
        const float want = oct_formula_value(source, tensor->rank, tensor->shape, i);
        if (got[i] == oct_f32_to_f16(want)) continue;
        CHECK(!"value is the formula's");
        break;
    }
    free(got);
}

static void an_all_in_one_file_opens_and_holds_the_formula(void)
{
    const oct_fabric fabric = {.out = in_folder("all.safetensors"),
                               .layout = OCT_FABRIC_ALL_IN_ONE,
                               .size = oct_model_size_small(3, 0),
                               .dtype = OCT_F16};
    oct_safetensors st = {0};

    CHECK(oct_fabricate(&fabric, &err) == OCT_OK);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    // Denoiser, VAE, CLIP-L, CLIP-G, T5 with its embedding twice.
    CHECK(st.n_tensors == (17 + 2 * 24 + 18) + 244 + (4 + 3 * 16) + (5 + 4 * 16) + (4 + 3 * 9));
    check_f16_tensor(&st, "model.diffusion_model.pos_embed", "pos_embed");
    check_f16_tensor(&st, "model.diffusion_model.joint_blocks.2.x_block.mlp.fc2.weight",
                     "joint_blocks.2.x_block.mlp.fc2.weight");
    check_f16_tensor(&st, "first_stage_model.decoder.norm_out.weight", "decoder.norm_out.weight");
    check_f16_tensor(&st, "text_encoders.t5xxl.transformer.shared.weight",
                     "encoder.embed_tokens.weight");
    oct_safetensors_close(&st);
    CHECK(access(in_folder("all.safetensors.tokenizers/clip/merges.txt"), R_OK) == 0);
    CHECK(access(in_folder("all.safetensors.tokenizers/t5/tokenizer.json"), R_OK) == 0);
}

static void a_single_file_has_denoiser_and_vae_alone(void)
{
    const oct_fabric fabric = {.out = in_folder("single.safetensors"),
                               .layout = OCT_FABRIC_SINGLE,
                               .size = oct_model_size_small(2, 2),
                               .dtype = OCT_BF16,
                               .seed = 3};
    oct_safetensors st = {0};

    CHECK(oct_fabricate(&fabric, &err) == OCT_OK);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    CHECK(st.n_tensors == (17 + 24 + 18 + 2 * 6) + 244);
    CHECK(st.n_tensors && st.tensors[0].dtype == OCT_BF16);
    oct_safetensors_close(&st);
}

static void the_index_of_a_sharded_folder_names_every_tensor_where_it_is(void)
{
    const oct_fabric fabric = {.out = in_folder("folder"),
                               .layout = OCT_FABRIC_DIFFUSERS,
                               .size = oct_model_size_small(2, 1),
                               .dtype = OCT_F16,
                               .shards = 3};
    oct_safetensors shards[3] = {0};
    cJSON *index = NULL;

    CHECK(oct_fabricate(&fabric, &err) == OCT_OK);
    in_folder("folder/transformer/diffusion_pytorch_model.safetensors.index.json");
    CHECK(oct_json_load(path, &index, &err) == OCT_OK);
    for (int i = 0; i < 3; i++) {
        char name[96];
        snprintf(name, sizeof name,
                 "folder/transformer/diffusion_pytorch_model-%05d-of-00003.safetensors", i + 1);
        CHECK(oct_safetensors_open(&shards[i], in_folder(name), &err) == OCT_OK);
    }
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map"), *entry;
    cJSON_ArrayForEach(entry, map)
    {
        const int shard = entry->valuestring[strlen("diffusion_pytorch_model-0000")] - '1';
        CHECK(oct_safetensors_find(&shards[shard], entry->string) != NULL);
    }
    CHECK(cJSON_GetArraySize(map) ==
          (int)(shards[0].n_tensors + shards[1].n_tensors + shards[2].n_tensors));
    CHECK(shards[2].n_tensors > 0);
    for (int i = 0; i < 3; i++) oct_safetensors_close(&shards[i]);
    cJSON_Delete(index);
}

static void leaving_t5_out_leaves_no_trace_but_null(void)
{
    const oct_fabric fabric = {.out = in_folder("no-t5"),
                               .layout = OCT_FABRIC_DIFFUSERS,
                               .size = oct_model_size_small(2, 0),
                               .dtype = OCT_F32,
                               .lacks_t5 = true};
    cJSON *index = NULL;

    CHECK(oct_fabricate(&fabric, &err) == OCT_OK);
    CHECK(oct_json_load(in_folder("no-t5/model_index.json"), &index, &err) == OCT_OK);
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(index, "text_encoder_3");
    CHECK(entry && cJSON_IsNull(cJSON_GetArrayItem(entry, 1)));
    CHECK(access(in_folder("no-t5/text_encoder_3"), F_OK) != 0);
    cJSON_Delete(index);
}

static void a_folder_that_cannot_be_made_is_named(void)
{
    const oct_fabric fabric = {.out = in_folder("missing/folder"),
                               .layout = OCT_FABRIC_DIFFUSERS,
                               .size = oct_model_size_small(1, 0),
                               .dtype = OCT_F16};

    CHECK(oct_fabricate(&fabric, &err) == OCT_EIO);
    CHECK(strstr(err.text, "cannot fabricate") && strstr(err.text, "missing/folder"));
}

int main(void)
{
    folder = oct_scratch_make();
    RUN(full_models_have_the_published_numbers_of_tensors_and_parameters);
    RUN(diffusers_has_q_k_and_v_apart);
    RUN(diffusers_has_the_halves_of_two_modulations_swapped);
    RUN(a_fill_across_the_swapped_halves_is_seamless);
    RUN(outliers_are_where_the_header_says);
    RUN(an_all_in_one_file_opens_and_holds_the_formula);
    RUN(a_single_file_has_denoiser_and_vae_alone);
    RUN(the_index_of_a_sharded_folder_names_every_tensor_where_it_is);
    RUN(leaving_t5_out_leaves_no_trace_but_null);
    RUN(a_folder_that_cannot_be_made_is_named);
    oct_scratch_remove(folder);
    return test_end();
}
