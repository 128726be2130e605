// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/vae.c against Stability-AI/sd3.5 in FP64, on a VAE of two levels.
#include "runtime/vae.h"

#include <stdlib.h>

#include "common/file.h"
#include "tests/runtime/tiny.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

#define PREFIX "first_stage_model."

// FP32 against FP64: some dozen sums of up to 576 products, 1.1e-6 seen.
#define BOUND 3e-6

// The same of four levels, against huggingface/diffusers' AutoencoderKL.
#define BOUND_DEEP 1e-5

static char *folder;

static void add(oct_st_writer *writer, const char *stem, const char *leaf, const char *part,
                int rank, const uint64_t *shape)
{
    char name[128];
    snprintf(name, sizeof name, PREFIX "%s.%s.%s", stem, leaf, part);
    oct_st_writer_add(writer, name, OCT_F32, rank, shape);
}

static void add_conv(oct_st_writer *writer, const char *stem, const char *leaf, uint64_t out,
                     uint64_t in, uint64_t kernel)
{
    add(writer, stem, leaf, "weight", 4, (uint64_t[]){out, in, kernel, kernel});
    add(writer, stem, leaf, "bias", 1, (uint64_t[]){out});
}

static void add_norm(oct_st_writer *writer, const char *stem, const char *leaf, uint64_t channels)
{
    add(writer, stem, leaf, "weight", 1, (uint64_t[]){channels});
    add(writer, stem, leaf, "bias", 1, (uint64_t[]){channels});
}

static void add_resnet(oct_st_writer *writer, const char *stem, uint64_t out, uint64_t in)
{
    add_norm(writer, stem, "norm1", in);
    add_conv(writer, stem, "conv1", out, in, 3);
    add_norm(writer, stem, "norm2", out);
    add_conv(writer, stem, "conv2", out, out, 3);
    if (in != out) add_conv(writer, stem, "nin_shortcut", out, in, 1);
}

static void add_middle(oct_st_writer *writer, const char *side)
{
    char stem[64];
    snprintf(stem, sizeof stem, "%s.mid.block_1", side);
    add_resnet(writer, stem, 64, 64);
    snprintf(stem, sizeof stem, "%s.mid.block_2", side);
    add_resnet(writer, stem, 64, 64);
    snprintf(stem, sizeof stem, "%s.mid.attn_1", side);
    add_norm(writer, stem, "norm", 64);
    add_conv(writer, stem, "q", 64, 64, 1);
    add_conv(writer, stem, "k", 64, 64, 1);
    add_conv(writer, stem, "v", 64, 64, 1);
    add_conv(writer, stem, "proj_out", 64, 64, 1);
}

static void add_decoder(oct_st_writer *writer)
{
    add_conv(writer, "decoder", "conv_in", 64, 4, 3);
    add_middle(writer, "decoder");
    add_resnet(writer, "decoder.up.1.block.0", 64, 64);
    add_resnet(writer, "decoder.up.1.block.1", 64, 64);
    add_conv(writer, "decoder.up.1", "upsample.conv", 64, 64, 3);
    add_resnet(writer, "decoder.up.0.block.0", 32, 64);
    add_resnet(writer, "decoder.up.0.block.1", 32, 32);
    add_norm(writer, "decoder", "norm_out", 32);
    add_conv(writer, "decoder", "conv_out", 3, 32, 3);
}

static void add_encoder(oct_st_writer *writer)
{
    add_conv(writer, "encoder", "conv_in", 32, 3, 3);
    add_resnet(writer, "encoder.down.0.block.0", 32, 32);
    add_conv(writer, "encoder.down.0", "downsample.conv", 32, 32, 3);
    add_resnet(writer, "encoder.down.1.block.0", 64, 32);
    add_middle(writer, "encoder");
    add_norm(writer, "encoder", "norm_out", 64);
    add_conv(writer, "encoder", "conv_out", 8, 64, 3);
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static oct_status load(oct_vae *vae, const char *path, oct_err *err)
{
    oct_source source = {0};
    oct_status st = oct_source_open(&source, &(oct_model_paths){.model = path}, err);
    if (!st) st = oct_vae_load(vae, oct_device_cpu(), &source, err);
    oct_source_close(&source);
    return st;
}

static void load_whole(oct_vae *vae)
{
    oct_err err = {0};
    CHECK(load(vae, path_of("vae.safetensors"), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void the_decoder_equals_the_reference(void)
{
    static const tiny_want want = {
        180,
        {0.0834989, -1.0477993, -0.1798395, 0.3761299, 0.1806504, -0.2480959},
        -0.0788727,
        -26.805757,
        62.078546};
    float z[4 * 3 * 5], image[3 * 6 * 10];
    oct_vae vae = {0};
    load_whole(&vae);
    if (!vae.weights) return;
    CHECK(vae.latent_channels == 4 && vae.downscale == 2);
    oct_formula_fill(z, "input.z", 4, (uint64_t[]){1, 4, 3, 5});
    CHECK(oct_vae_decode(&vae, z, 3, 5, image, NULL) == OCT_OK);
    CHECK_NEAR(tiny_distance(image, 180, &want), 0, BOUND);
    oct_vae_deinit(&vae);
}

static void the_encoder_equals_the_reference(void)
{
    static const tiny_want want = {
        96,
        {-0.8810591, -0.7800987, -0.1206986, -0.9751357, -0.8838840, -0.0586106},
        -0.0546488,
        -5.876309,
        24.646144};
    float image[3 * 8 * 6], moments[8 * 4 * 3];
    oct_vae vae = {0};
    load_whole(&vae);
    if (!vae.weights) return;
    oct_formula_fill(image, "input.image", 4, (uint64_t[]){1, 3, 8, 6});
    CHECK(oct_vae_encode(&vae, image, 8, 6, moments, NULL) == OCT_OK);
    CHECK_NEAR(tiny_distance(moments, 96, &want), 0, BOUND);
    oct_vae_deinit(&vae);
}

static void a_file_has_the_constants_of_sd3(void)
{
    const float latent[2] = {0, 1.5305f};
    float z[2];
    oct_vae vae = {0};
    load_whole(&vae);
    if (!vae.weights) return;
    oct_latent_to_vae(&vae, z, latent, 2);
    CHECK_NEAR(z[0], 0.0609, 1e-8);
    CHECK_NEAR(z[1], 1.0609, 1e-7);
    oct_vae_deinit(&vae);
}

static oct_status write_config(const char *text)
{
    return oct_file_write(path_of("folder/vae/config.json"), text, strlen(text), NULL);
}

static void a_folder_has_constants_of_its_own(void)
{
    oct_vae vae = {0};
    oct_err err = {0};
    CHECK(write_config("{\"scaling_factor\": 0.3611, \"shift_factor\": 0.1159}") == OCT_OK);
    CHECK(load(&vae, path_of("folder"), &err) == OCT_OK);
    CHECK(vae.scaling_factor == 0.3611f && vae.shift_factor == 0.1159f);
    CHECK(vae.latent_channels == 16 && vae.downscale == 8);
    oct_vae_deinit(&vae);
    CHECK(write_config("{\"scaling_factor\": 0}") == OCT_OK);
    CHECK(load(&vae, path_of("folder"), &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "'scaling_factor' must be positive"));
}

static void check_refused_config(const char *text, const char *sentence)
{
    oct_vae vae = {0};
    oct_err err = {0};
    CHECK(write_config(text) == OCT_OK);
    CHECK(load(&vae, path_of("folder"), &err) != OCT_OK);
    CHECK(strstr(err.text, sentence));
    CHECK(!vae.weights);
}

static void a_folder_says_how_many_groups_its_norms_have(void)
{
    static const tiny_want image_want = {
        1152,
        {-0.3159488, -0.4640731, -0.7295783, -0.5020952, -0.8050645, -0.5194159},
        -0.5589058,
        -309.929268,
        431.190138};
    static const tiny_want moments_want = {
        192,
        {0.0331993, 0.442152, 0.1678876, -0.4024879, -0.920869, -0.6160654},
        -0.1183403,
        10.199419,
        36.594993};
    static float z[16 * 2 * 3], image[3 * 16 * 24], moments[32 * 2 * 3];
    oct_vae vae = {0};
    oct_err err = {0};
    CHECK(write_config("{\"norm_num_groups\": 8}") == OCT_OK);
    CHECK(load(&vae, path_of("folder"), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    if (!vae.weights) return;
    oct_formula_fill(z, "input.z", 4, (uint64_t[]){1, 16, 2, 3});
    CHECK(oct_vae_decode(&vae, z, 2, 3, image, NULL) == OCT_OK);
    CHECK_NEAR(tiny_distance(image, 1152, &image_want), 0, BOUND_DEEP);
    oct_formula_fill(image, "input.image", 4, (uint64_t[]){1, 3, 16, 24});
    CHECK(oct_vae_encode(&vae, image, 16, 24, moments, NULL) == OCT_OK);
    CHECK_NEAR(tiny_distance(moments, 192, &moments_want), 0, BOUND_DEEP);
    oct_vae_deinit(&vae);

    check_refused_config("{\"norm_num_groups\": 0}", "'norm_num_groups' must be at least 1");
    check_refused_config("{\"norm_num_groups\": \"8\"}", "'norm_num_groups' must be a number");
    check_refused_config("{\"norm_num_groups\": 48}", "has 128 channels, not a multiple of 48");
}

static void a_picture_beyond_all_memory_is_refused(void)
{
    const float z[1] = {0};
    float image[1];
    oct_err err = {0};
    oct_vae vae = {0};
    load_whole(&vae);
    if (!vae.weights) return;
    CHECK(oct_vae_decode(&vae, z, 1u << 16, 1u << 16, image, &err) == OCT_ENOMEM);
    CHECK_TEXT(err.text, "out of memory for 4 channels of 65536x65536 in the VAE");
    oct_vae_deinit(&vae);
}

static void a_decoder_alone_decodes_only(void)
{
    float image[3 * 4 * 4] = {0}, moments[8 * 2 * 2];
    oct_st_writer writer = {0};
    oct_vae vae = {0};
    oct_err err = {0};
    add_decoder(&writer);
    CHECK(tiny_write(&writer, path_of("decoder.safetensors"), PREFIX, NULL) == OCT_OK);
    CHECK(load(&vae, path_of("decoder.safetensors"), &err) == OCT_OK);
    CHECK(vae.weights && oct_vae_encode(&vae, image, 4, 4, moments, &err) == OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "the VAE has no encoder");
    oct_vae_deinit(&vae);
}

static void check_refused(oct_st_writer *writer, oct_status want, const char *sentence)
{
    oct_vae vae = {0};
    oct_err err = {0};
    CHECK(tiny_write(writer, path_of("bad.safetensors"), PREFIX, NULL) == OCT_OK);
    CHECK(load(&vae, path_of("bad.safetensors"), &err) == want);
    CHECK_TEXT(err.text, sentence);
    CHECK(!vae.weights);
}

static void no_vae_at_all_is_said(void)
{
    oct_st_writer writer = {0};
    add_norm(&writer, "encoder", "norm_out", 64);
    check_refused(&writer, OCT_EUNSUPPORTED,
                  "there is no VAE decoder in the model; name one with '--vae'");
}

static void the_vae_of_an_older_model_is_refused(void)
{
    oct_st_writer writer = {0};
    add_decoder(&writer);
    oct_st_writer_add(&writer, PREFIX "post_quant_conv.weight", OCT_F32, 4,
                      (uint64_t[]){4, 4, 1, 1});
    check_refused(&writer, OCT_EUNSUPPORTED,
                  "the VAE is not SD3's: it has 'post_quant_conv.weight'");
}

static void a_missing_tensor_is_named(void)
{
    oct_st_writer writer = {0};
    add_conv(&writer, "decoder", "conv_in", 64, 4, 3);
    add_resnet(&writer, "decoder.up.0.block.0", 64, 64);
    add_norm(&writer, "decoder.mid.block_1", "norm1", 64);
    check_refused(&writer, OCT_EFORMAT, "tensor 'decoder.mid.block_1.conv1.weight' is missing");
}

static void a_misshapen_tensor_is_named(void)
{
    oct_st_writer writer = {0};
    add_conv(&writer, "decoder", "conv_in", 64, 4, 3);
    add_resnet(&writer, "decoder.up.0.block.0", 64, 64);
    add_norm(&writer, "decoder.mid.block_1", "norm1", 64);
    add_conv(&writer, "decoder.mid.block_1", "conv1", 64, 32, 3);
    check_refused(&writer, OCT_EFORMAT,
                  "tensor 'decoder.mid.block_1.conv1.weight' is not of shape [n, 64, 3, 3]");
}

static void groups_must_divide_the_channels(void)
{
    oct_st_writer writer = {0};
    add_conv(&writer, "decoder", "conv_in", 48, 4, 3);
    add_resnet(&writer, "decoder.up.0.block.0", 48, 48);
    check_refused(&writer, OCT_EUNSUPPORTED,
                  "'decoder.mid.block_1.norm1' has 48 channels, not a multiple of 32");
}

int main(void)
{
    oct_st_writer writer = {0};
    folder = oct_scratch_make();
    add_decoder(&writer);
    add_encoder(&writer);
    if (tiny_write(&writer, path_of("vae.safetensors"), PREFIX, NULL)) return 1;
    const oct_fabric fabric = {
        .out = path_of("folder"), .size = oct_model_size_small(1, 0), .dtype = OCT_BF16};
    if (oct_fabricate(&fabric, NULL)) return 1;
    RUN(the_decoder_equals_the_reference);
    RUN(the_encoder_equals_the_reference);
    RUN(a_file_has_the_constants_of_sd3);
    RUN(a_folder_has_constants_of_its_own);
    RUN(a_folder_says_how_many_groups_its_norms_have);
    RUN(a_picture_beyond_all_memory_is_refused);
    RUN(a_decoder_alone_decodes_only);
    RUN(no_vae_at_all_is_said);
    RUN(the_vae_of_an_older_model_is_refused);
    RUN(a_missing_tensor_is_named);
    RUN(a_misshapen_tensor_is_named);
    RUN(groups_must_divide_the_channels);
    oct_scratch_remove(folder);
    return test_end();
}
