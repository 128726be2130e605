// SPDX-License-Identifier: Apache-2.0
//
// Sources: one model in several layouts is one model.
#include <stdlib.h>
#include <sys/stat.h>

#include "common/number.h"
#include "ptq/source.h"
#include "tests/ptq/model.h"
#include "tests/test.h"
#include "tests/tools/formula.h"

static oct_status open_model(oct_source *source, const char *path, oct_err *err)
{
    return oct_source_open(source, &(oct_model_paths){.model = path}, err);
}

static const char *save_sai(const model_spec *spec, const char *prefix, const char *name)
{
    model_file file = {0};
    const char *path = model_path(name);

    model_add_sai(&file, spec, prefix);
    model_save(&file, path);
    model_deinit(&file);
    return path;
}

static const char *save_diffusers_file(const model_spec *spec, const char *name)
{
    model_file file = {0};
    const char *path = model_path(name);

    model_add_diffusers(&file, spec);
    model_save(&file, path);
    model_deinit(&file);
    return path;
}

static void save_shards(const model_file *all, const char *folder)
{
    model_file shards[2] = {0};
    char path[200], *index = NULL;
    size_t bytes = 0;
    uint64_t total = 0;

    FILE *out = open_memstream(&index, &bytes);
    for (size_t i = 0; i < all->n_tensors; i++) {
        total += model_bytes(&all->tensors[i]);
    }
    fprintf(out, "{\"metadata\":{\"total_size\":%llu},\"weight_map\":{", (unsigned long long)total);
    for (size_t i = 0; i < all->n_tensors; i++) {
        const model_tensor *tensor = &all->tensors[i];
        model_add(&shards[i % 2], tensor->name, tensor->dtype, tensor->rank, tensor->shape,
                  tensor->data);
        fprintf(out, "%s\"%s\":\"diffusion_pytorch_model-0000%d-of-00002.safetensors\"",
                i ? "," : "", tensor->name, (int)(i % 2) + 1);
    }
    fprintf(out, "}}");
    fclose(out);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.99s/diffusion_pytorch_model-0000%d-of-00002.safetensors",
                 folder, i + 1);
        model_save(&shards[i], model_path(path));
        model_deinit(&shards[i]);
    }
    snprintf(path, sizeof path, "%.99s/diffusion_pytorch_model.safetensors.index.json", folder);
    model_write_text(model_path(path), index);
    free(index);
}

static const char *save_diffusers_folder(const model_spec *spec)
{
    model_file file = {0};

    mkdir(model_path("folder"), 0755);
    mkdir(model_path("folder/transformer"), 0755);
    model_write_text(model_path("folder/model_index.json"),
                     "{\"_class_name\":\"StableDiffusion3Pipeline\","
                     "\"transformer\":[\"diffusers\",\"SD3Transformer2DModel\"]}");
    model_add_diffusers(&file, spec);
    save_shards(&file, "folder/transformer");
    model_deinit(&file);
    return model_path("folder");
}

static void check_values(const oct_source *source, model_file *want)
{
    size_t n_found = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        const model_tensor *expected = model_find(want, tensor->name);
        CHECK(expected);
        if (!expected) continue;
        n_found++;
        CHECK(tensor->component == OCT_DENOISER && tensor->dtype == expected->dtype);
        CHECK(tensor->rank == expected->rank && tensor->bytes == model_bytes(expected));
        CHECK(memcmp(tensor->shape, expected->shape, sizeof tensor->shape) == 0);
        uint8_t *data = malloc(tensor->bytes);
        CHECK(oct_source_read(tensor, data, NULL) == OCT_OK);
        CHECK(memcmp(data, expected->data, tensor->bytes) == 0);
        free(data);
    }
    CHECK(n_found == want->n_tensors);
}

static void every_layout_gives_the_same_canonical_bytes(void)
{
    const char *const paths[] = {
        save_sai(&model_tiny, "", "bare.safetensors"),
        save_sai(&model_tiny, "model.diffusion_model.", "prefixed.safetensors"),
        save_diffusers_file(&model_tiny, "diffusers.safetensors"),
        save_diffusers_folder(&model_tiny),
    };
    model_file want = {0};
    char digests[4][OCT_XXH128_HEX];

    model_add_sai(&want, &model_tiny, "");
    for (int i = 0; i < 4; i++) {
        oct_source source;
        oct_err err = {0};
        CHECK(open_model(&source, paths[i], &err) == OCT_OK);
        CHECK_TEXT(err.text, "");
        CHECK(source.is_diffusers_named == (i >= 2));
        CHECK_TEXT(source.denoiser_prefix, i == 1 ? "model.diffusion_model." : "");
        check_values(&source, &want);
        CHECK(oct_source_read_denoiser_digest(&source, digests[i], &err) == OCT_OK);
        CHECK_TEXT(digests[i], digests[0]);
        oct_source_close(&source);
    }
    model_deinit(&want);
}

static void digest_notices_one_bit_and_one_name(void)
{
    model_file file = {0};
    char before[OCT_XXH128_HEX], after[OCT_XXH128_HEX];
    oct_source source;

    model_add_sai(&file, &model_tiny, "");
    model_save(&file, model_path("a.safetensors"));
    CHECK(open_model(&source, model_path("a.safetensors"), NULL) == OCT_OK);
    CHECK(oct_source_read_denoiser_digest(&source, before, NULL) == OCT_OK);
    oct_source_close(&source);

    *(uint8_t *)model_find(&file, "final_layer.linear.bias")->data ^= 1;
    model_save(&file, model_path("a.safetensors"));
    CHECK(open_model(&source, model_path("a.safetensors"), NULL) == OCT_OK);
    CHECK(oct_source_read_denoiser_digest(&source, after, NULL) == OCT_OK);
    oct_source_close(&source);
    CHECK(strcmp(before, after) != 0);
    model_deinit(&file);
}

static void digest_of_given_data_digests_is_that_of_reading(void)
{
    oct_source source;
    char read[OCT_XXH128_HEX], given[OCT_XXH128_HEX];

    CHECK(open_model(&source, save_diffusers_file(&model_tiny, "g.safetensors"), NULL) == OCT_OK);
    oct_xxh128 *digests = calloc(source.n_tensors, sizeof *digests);
    for (size_t i = 0; i < source.n_tensors; i++) {
        uint8_t *data = malloc(source.tensors[i].bytes);
        CHECK(oct_source_read(&source.tensors[i], data, NULL) == OCT_OK);
        digests[i] = oct_digest_of_data(data, source.tensors[i].bytes);
        free(data);
    }
    oct_source_denoiser_digest(&source, digests, given);
    CHECK(oct_source_read_denoiser_digest(&source, read, NULL) == OCT_OK);
    CHECK_TEXT(given, read);
    free(digests);
    oct_source_close(&source);
}

static void ranges_cross_the_borders_of_parts(void)
{
    oct_source source;
    uint8_t all[3 * 128 * 2], part[200];

    CHECK(open_model(&source, save_diffusers_file(&model_tiny, "r.safetensors"), NULL) == OCT_OK);
    const oct_source_tensor *bias =
        oct_source_find(&source, OCT_DENOISER, "joint_blocks.1.context_block.attn.qkv.bias");
    CHECK(bias && bias->n_parts == 3 && bias->bytes == sizeof all && !bias->file_name);
    if (!bias) return;
    CHECK(oct_source_read(bias, all, NULL) == OCT_OK);
    for (uint64_t from = 0; from + sizeof part <= sizeof all; from += 31) {
        CHECK(oct_source_read_range(bias, from, sizeof part, part, NULL) == OCT_OK);
        CHECK(memcmp(part, all + from, sizeof part) == 0);
    }
    CHECK(oct_source_read_range(bias, sizeof all, 0, part, NULL) == OCT_OK);
    oct_source_close(&source);
}

static void file_names_are_those_of_the_file(void)
{
    oct_source source;

    const char *path = save_sai(&model_tiny, "model.diffusion_model.", "n.safetensors");
    CHECK(open_model(&source, path, NULL) == OCT_OK);
    const oct_source_tensor *tensor = oct_source_find(&source, OCT_DENOISER, "pos_embed");
    CHECK(tensor);
    if (tensor) CHECK_TEXT(tensor->file_name, "model.diffusion_model.pos_embed");
    CHECK(!oct_source_find(&source, OCT_VAE, "pos_embed"));
    CHECK(!oct_source_find(&source, OCT_DENOISER, "pos_embe"));
    oct_source_close(&source);

    CHECK(open_model(&source, save_diffusers_file(&model_tiny, "n.safetensors"), NULL) == OCT_OK);
    tensor = oct_source_find(&source, OCT_DENOISER, "final_layer.adaLN_modulation.1.weight");
    CHECK(tensor && tensor->n_parts == 2 && !tensor->file_name);
    tensor = oct_source_find(&source, OCT_DENOISER, "final_layer.linear.weight");
    CHECK(tensor && tensor->n_parts == 1);
    if (tensor) CHECK_TEXT(tensor->file_name, "proj_out.weight");
    oct_source_close(&source);
}

static void last_context_modulation_is_swapped_and_the_others_are_not(void)
{
    oct_source source;

    CHECK(open_model(&source, save_diffusers_file(&model_tiny, "m.safetensors"), NULL) == OCT_OK);
    const oct_source_tensor *first = oct_source_find(
        &source, OCT_DENOISER, "joint_blocks.0.context_block.adaLN_modulation.1.bias");
    const oct_source_tensor *last = oct_source_find(
        &source, OCT_DENOISER, "joint_blocks.1.context_block.adaLN_modulation.1.bias");
    CHECK(first && first->n_parts == 1);
    CHECK(last && last->n_parts == 2 && last->parts[0].first_row == 128);
    oct_source_close(&source);
}

// ---- Refused.

static void check_refused(model_file *file, const char *sentence)
{
    oct_source source;
    oct_err err = {0};
    char want[700];
    const char *path = model_path("refused.safetensors");

    model_save(file, path);
    CHECK(open_model(&source, path, &err) == OCT_EFORMAT);
    snprintf(want, sizeof want, "'%s': %s", path, sentence);
    CHECK_TEXT(err.text, want);
    CHECK(source.n_tensors == 0);
    model_deinit(file);
}

static void q_of_another_type_is_refused(void)
{
    model_file file = {0};

    model_add_diffusers(&file, &model_tiny);
    model_find(&file, "transformer_blocks.0.attn.to_k.weight")->dtype = OCT_BF16;
    check_refused(&file, "'transformer_blocks.0.attn.to_q.weight' and "
                         "'transformer_blocks.0.attn.to_k.weight' differ in type or shape");
}

static void q_of_another_shape_is_refused(void)
{
    model_file file = {0};

    model_add_diffusers(&file, &model_tiny);
    model_find(&file, "transformer_blocks.0.attn.to_v.bias")->shape[0] = 127;
    check_refused(&file, "'transformer_blocks.0.attn.to_q.bias' and "
                         "'transformer_blocks.0.attn.to_v.bias' differ in type or shape");
}

static void missing_v_is_refused(void)
{
    model_file file = {0};

    model_add_diffusers(&file, &model_tiny);
    model_remove(&file, "transformer_blocks.1.attn.add_v_proj.weight");
    check_refused(&file, "'transformer_blocks.1.attn.add_q_proj.weight' is there, but not all of "
                         "q, k and v");
}

static void odd_halves_are_refused(void)
{
    model_file file = {0};

    model_add_diffusers(&file, &model_tiny);
    model_find(&file, "norm_out.linear.bias")->shape[0] = 255;
    check_refused(&file, "'norm_out.linear.bias' cannot be cut into two halves of rows");
}

static void both_namings_at_once_are_refused(void)
{
    model_file file = {0};

    model_add_diffusers(&file, &model_tiny);
    model_add(&file, "final_layer.linear.bias", OCT_F16, 1, (uint64_t[]){64}, NULL);
    check_refused(&file, "'final_layer.linear.bias' and 'proj_out.bias' are the same tensor in "
                         "two namings");
    model_add_diffusers(&file, &model_tiny);
    model_add(&file, "joint_blocks.0.x_block.attn.qkv.bias", OCT_F16, 1, (uint64_t[]){384}, NULL);
    check_refused(&file, "'joint_blocks.0.x_block.attn.qkv.bias' and "
                         "'transformer_blocks.0.attn.to_v.bias' are the same tensor in two "
                         "namings");
}

// ---- The VAE.

typedef struct vae_name {
    const char *diffusers, *sai;
} vae_name;

// Two levels, as in the small VAE of the test vectors: up_blocks.0 is up.1.
static const vae_name vae_names[] = {
    {"decoder.conv_in.weight", "decoder.conv_in.weight"},
    {"decoder.conv_norm_out.bias", "decoder.norm_out.bias"},
    {"encoder.conv_norm_out.weight", "encoder.norm_out.weight"},
    {"decoder.conv_out.weight", "decoder.conv_out.weight"},
    {"decoder.mid_block.resnets.0.conv1.weight", "decoder.mid.block_1.conv1.weight"},
    {"encoder.mid_block.resnets.1.norm2.bias", "encoder.mid.block_2.norm2.bias"},
    {"decoder.mid_block.attentions.0.group_norm.weight", "decoder.mid.attn_1.norm.weight"},
    {"decoder.mid_block.attentions.0.to_q.bias", "decoder.mid.attn_1.q.bias"},
    {"decoder.mid_block.attentions.0.to_out.0.bias", "decoder.mid.attn_1.proj_out.bias"},
    {"encoder.mid_block.attentions.0.query.bias", "encoder.mid.attn_1.q.bias"},
    {"encoder.mid_block.attentions.0.key.bias", "encoder.mid.attn_1.k.bias"},
    {"encoder.mid_block.attentions.0.value.bias", "encoder.mid.attn_1.v.bias"},
    {"encoder.mid_block.attentions.0.proj_attn.bias", "encoder.mid.attn_1.proj_out.bias"},
    {"decoder.up_blocks.0.resnets.2.conv2.bias", "decoder.up.1.block.2.conv2.bias"},
    {"decoder.up_blocks.0.upsamplers.0.conv.weight", "decoder.up.1.upsample.conv.weight"},
    {"decoder.up_blocks.1.resnets.0.conv_shortcut.weight",
     "decoder.up.0.block.0.nin_shortcut.weight"},
    {"encoder.down_blocks.0.downsamplers.0.conv.bias", "encoder.down.0.downsample.conv.bias"},
    {"encoder.down_blocks.1.resnets.0.conv_shortcut.bias",
     "encoder.down.1.block.0.nin_shortcut.bias"},
    {"encoder.down_blocks.1.resnets.1.norm1.bias", "encoder.down.1.block.1.norm1.bias"},
    {"quant_conv.weight", "quant_conv.weight"},
};

static void open_vae(oct_source *source, const model_file *file)
{
    oct_err err = {0};

    model_save(file, model_path("vae.safetensors"));
    const oct_model_paths paths = {.vae = model_path("vae.safetensors")};
    CHECK(oct_source_open(source, &paths, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void vae_names_become_sai_names_and_stay_so(void)
{
    for (int naming = 0; naming < 2; naming++) {
        model_file file = {0};
        oct_source source;
        for (size_t i = 0; i < sizeof vae_names / sizeof *vae_names; i++) {
            const char *name = naming ? vae_names[i].sai : vae_names[i].diffusers;
            model_add(&file, name, OCT_F16, 1, (uint64_t[]){8}, NULL);
        }
        open_vae(&source, &file);
        for (size_t i = 0; i < sizeof vae_names / sizeof *vae_names; i++) {
            const oct_source_tensor *tensor = oct_source_find(&source, OCT_VAE, vae_names[i].sai);
            CHECK(tensor);
            if (!tensor) printf("# no %s\n", vae_names[i].sai);
            if (tensor) {
                CHECK_TEXT(tensor->file_name, naming ? vae_names[i].sai : vae_names[i].diffusers);
            }
        }
        oct_source_close(&source);
        model_deinit(&file);
    }
}

static void vae_attention_becomes_a_convolution(void)
{
    model_file file = {0};
    oct_source source;

    model_add(&file, "decoder.up_blocks.0.resnets.0.norm1.weight", OCT_F16, 1, (uint64_t[]){8},
              NULL);
    model_add(&file, "decoder.mid_block.attentions.0.to_k.weight", OCT_F16, 2, (uint64_t[]){8, 8},
              NULL);
    open_vae(&source, &file);
    const oct_source_tensor *key = oct_source_find(&source, OCT_VAE, "decoder.mid.attn_1.k.weight");
    CHECK(key && key->rank == 4 && key->shape[1] == 8 && key->shape[2] == 1 && key->shape[3] == 1);
    oct_source_close(&source);
    model_deinit(&file);
}

static void hostile_vae_indices_keep_their_names(void)
{
    static const char *const names[] = {
        "decoder.conv_in.bias",
        "encoder.up_blocks.7.resnets.0.norm1.weight",
        "decoder.up_blocks.007.resnets.0.norm1.weight",
        "decoder.up_blocks.99999999999999999999.resnets.0.norm1.weight",
        "decoder.up_blocks.-1.resnets.0.norm1.weight",
        "decoder.up_blocks.",
        "decoder.",
    };
    model_file file = {0};
    oct_source source;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        model_add(&file, names[i], OCT_F16, 1, (uint64_t[]){8}, NULL);
    }
    open_vae(&source, &file);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK(oct_source_find(&source, OCT_VAE, names[i]));
    }
    oct_source_close(&source);
    model_deinit(&file);
}

static void missing_file_is_the_checkpoints_error(void)
{
    oct_source source;
    oct_err err = {0};

    CHECK(open_model(&source, model_path("absent.safetensors"), &err) == OCT_EIO);
    CHECK(strstr(err.text, "absent.safetensors"));
    oct_source_close(&source);
}

int main(void)
{
    RUN(every_layout_gives_the_same_canonical_bytes);
    RUN(digest_notices_one_bit_and_one_name);
    RUN(digest_of_given_data_digests_is_that_of_reading);
    RUN(ranges_cross_the_borders_of_parts);
    RUN(file_names_are_those_of_the_file);
    RUN(last_context_modulation_is_swapped_and_the_others_are_not);
    RUN(q_of_another_type_is_refused);
    RUN(q_of_another_shape_is_refused);
    RUN(missing_v_is_refused);
    RUN(odd_halves_are_refused);
    RUN(both_namings_at_once_are_refused);
    RUN(vae_names_become_sai_names_and_stay_so);
    RUN(vae_attention_becomes_a_convolution);
    RUN(hostile_vae_indices_keep_their_names);
    RUN(missing_file_is_the_checkpoints_error);
    return test_end();
}
