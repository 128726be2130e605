// SPDX-License-Identifier: Apache-2.0
//
// FP8 weights seen in a wider type.
#include "ptq/decoding.h"

#include <stdlib.h>

#include "common/number.h"
#include "kernels/kernels.h"
#include "ptq/dialect.h"
#include "tests/ptq/denoiser.h"

#define LAYER "joint_blocks.0.x_block.mlp.fc2"

static uint8_t *all_codes;  // every code but NaN, repeated; as many as the largest weight needs
static const float scale_value = 0.3f;

static uint8_t code_at(size_t i)
{
    const uint8_t code = (uint8_t)(i * 7);
    return (code & 0x7f) == 0x7f ? 0 : code;
}

// A file in which one weight, of a component, is FP8.
static const char *save_fp8(const char *prefix, const char *layer, const char *scale_ending,
                            oct_dtype dtype)
{
    const char *path = model_path("fp8.safetensors");
    model_file file = {0};
    model_spec spec = model_tiny;
    char name[200];

    spec.has_data = false;
    if (strstr(layer, "transformer_blocks")) {
        model_add_diffusers(&file, &spec);
    } else {
        model_add_sai(&file, &spec, prefix);
    }
    snprintf(name, sizeof name, "%s%s.weight", prefix, layer);
    model_tensor *weight = model_find(&file, name);
    weight->dtype = dtype;
    weight->data = all_codes;
    if (scale_ending) {
        snprintf(name, sizeof name, "%s%s.%s", prefix, layer, scale_ending);
        model_add(&file, name, OCT_F32, 0, NULL, &scale_value);
    }
    if (scale_ending && strcmp(scale_ending, "scale_weight") == 0) {
        snprintf(name, sizeof name, "%sscaled_fp8", prefix);
        model_add(&file, name, OCT_F8_E4M3, 1, (uint64_t[]){0}, NULL);
    }
    model_save(&file, path);
    model_deinit(&file);
    return path;
}

static oct_status open_decoded(oct_source *source, const char *path, oct_dtype to, oct_err *err)
{
    size_t n_decoded = 0;

    CHECK(oct_source_open(source, &(oct_model_paths){.model = path}, err) == OCT_OK);
    const oct_status st = oct_source_decode(source, OCT_EVERY_COMPONENT, to, &n_decoded, err);
    CHECK(n_decoded == 1);
    return st;
}

static uint32_t want_bits(oct_dtype stored, oct_dtype to, uint8_t code, float scale)
{
    const float value =
        (stored == OCT_F8_E5M2 ? oct_e5m2_to_f32(code) : oct_e4m3_to_f32(code)) * scale;
    if (to == OCT_F16) return oct_f32_to_f16(value);
    return to == OCT_BF16 ? oct_f32_to_bf16(value) : oct_f32_bits(value);
}

static void check_decoded(const char *path, oct_dtype stored, oct_dtype to, float scale)
{
    const size_t element = oct_dtype_bits(to) / 8;
    oct_source source = {0};
    oct_err err = {0};
    size_t n_wrong = 0;

    CHECK(open_decoded(&source, path, to, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_dialect_detect(&source) == OCT_DIALECT_NONE);
    const oct_source_tensor *weight = oct_source_find(&source, OCT_DENOISER, LAYER ".weight");
    CHECK(weight && weight->dtype == to);
    const size_t n = weight->bytes / element;
    CHECK(n == weight->shape[0] * weight->shape[1]);
    uint8_t *values = malloc(weight->bytes);
    CHECK(oct_source_read(weight, values, &err) == OCT_OK);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, values + i * element, element);
        n_wrong += bits != want_bits(stored, to, all_codes[i], scale);
    }
    CHECK(n_wrong == 0);
    uint8_t some[8];
    CHECK(oct_source_read_range(weight, 12, sizeof some, some, &err) == OCT_OK);
    CHECK(memcmp(some, values + 12, sizeof some) == 0);
    free(values);
    oct_source_close(&source);
}

static void every_dialect_is_decoded(void)
{
    static const oct_dtype types[] = {OCT_F16, OCT_BF16, OCT_F32};

    for (int i = 0; i < 3; i++) {
        check_decoded(save_fp8("model.diffusion_model.", LAYER, "scale_weight", OCT_F8_E4M3),
                      OCT_F8_E4M3, types[i], scale_value);
        check_decoded(save_fp8("", "transformer_blocks.0.ff.net.2", "weight_scale", OCT_F8_E4M3),
                      OCT_F8_E4M3, types[i], scale_value);
        check_decoded(save_fp8("", LAYER, NULL, OCT_F8_E4M3), OCT_F8_E4M3, types[i], 1);
    }
}

static void e5m2_is_decoded(void)
{
    for (size_t i = 0; i < 512 * 512; i++) {
        if ((all_codes[i] & 0x7f) >= 0x7c) all_codes[i] = 0;  // infinities and NaN
    }
    check_decoded(save_fp8("", LAYER, NULL, OCT_F8_E5M2), OCT_F8_E5M2, OCT_BF16, 1);
}

static void each_part_has_its_scale(void)
{
    static const float scales[3] = {0.5f, 0.25f, 2};
    static const char *const parts[3] = {"to_q", "to_k", "to_v"};
    const char *path = model_path("parts.safetensors");
    model_file file = {0};
    model_spec spec = model_tiny;
    oct_source source = {0};
    oct_err err = {0};
    size_t n_decoded = 0, n_wrong = 0;
    char name[200];

    spec.has_data = false;
    model_add_diffusers(&file, &spec);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "transformer_blocks.0.attn.%s.weight", parts[i]);
        model_tensor *weight = model_find(&file, name);
        weight->dtype = OCT_F8_E4M3;
        weight->data = all_codes;
        snprintf(name, sizeof name, "transformer_blocks.0.attn.%s.weight_scale", parts[i]);
        model_add(&file, name, OCT_F32, 0, NULL, &scales[i]);
    }
    model_save(&file, path);
    model_deinit(&file);
    CHECK(oct_source_open(&source, &(oct_model_paths){.model = path}, &err) == OCT_OK);
    CHECK(oct_source_decode(&source, 1u << OCT_DENOISER, OCT_F32, &n_decoded, &err) == OCT_OK);
    const oct_source_tensor *qkv =
        oct_source_find(&source, OCT_DENOISER, "joint_blocks.0.x_block.attn.qkv.weight");
    const size_t n = qkv->bytes / 12;
    float *values = malloc(qkv->bytes);
    CHECK(oct_source_read(qkv, values, &err) == OCT_OK);
    for (size_t i = 0; i < 3 * n; i++) {
        n_wrong += values[i] != oct_e4m3_to_f32(all_codes[i % n]) * scales[i / n];
    }
    CHECK(n_wrong == 0);
    free(values);
    oct_source_close(&source);
}

static void check_refused(oct_dtype to, const char *sentence)
{
    oct_source source = {0};
    oct_err err = {0};
    uint8_t buffer[64];

    CHECK(open_decoded(&source, save_fp8("", LAYER, NULL, OCT_F8_E5M2), to, &err) == OCT_OK);
    const oct_source_tensor *weight = oct_source_find(&source, OCT_DENOISER, LAYER ".weight");
    CHECK(oct_source_read_range(weight, 0, sizeof buffer, buffer, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, sentence);
    oct_source_close(&source);
}

static void what_has_no_value_is_refused(void)
{
    const uint8_t before = all_codes[5];

    all_codes[5] = 0x7e;
    check_refused(OCT_BF16, "'" LAYER ".weight' holds NaN at index 5");
    all_codes[5] = 0x7c;
    check_refused(OCT_BF16, "'" LAYER ".weight' holds inf at index 5, which BF16 cannot hold");
    all_codes[5] = before;
}

static void missing_scale_is_refused(void)
{
    oct_source source = {0};
    oct_err err = {0};
    size_t n_decoded = 0;
    model_file file = {0};
    model_spec spec = model_tiny;

    spec.has_data = false;
    model_add_sai(&file, &spec, "");
    model_find(&file, LAYER ".weight")->dtype = OCT_F8_E4M3;
    model_add(&file, "scaled_fp8", OCT_F8_E4M3, 1, (uint64_t[]){0}, NULL);
    model_save(&file, model_path("no-scale.safetensors"));
    model_deinit(&file);
    CHECK(oct_source_open(&source, &(oct_model_paths){.model = model_path("no-scale.safetensors")},
                          &err) == OCT_OK);
    CHECK(oct_source_decode(&source, OCT_EVERY_COMPONENT, OCT_F16, &n_decoded, &err) ==
          OCT_EFORMAT);
    CHECK_TEXT(err.text, "'" LAYER ".scale_weight' is missing: the weight is F8_E4M3");
    oct_source_close(&source);
}

int main(void)
{
    all_codes = malloc(512 * 512);
    for (size_t i = 0; i < 512 * 512; i++) all_codes[i] = code_at(i);
    RUN(every_dialect_is_decoded);
    RUN(each_part_has_its_scale);
    RUN(missing_scale_is_refused);
    RUN(e5m2_is_decoded);
    RUN(what_has_no_value_is_refused);
    free(all_codes);
    return test_end();
}
