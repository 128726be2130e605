// SPDX-License-Identifier: Apache-2.0
//
// ComfyUI's rules, each on a file that breaks it. The expectations of the rows marked "seen" were
// seen in ComfyUI 0.29.0 itself: relative error of the denoiser's output against the 16-bit file.
#include "verify/loader.h"

#include <stdlib.h>

#include "tests/ptq/model.h"
#include "tests/test.h"

#define PREFIX "model.diffusion_model."
#define FC1 "joint_blocks.0.x_block.mlp.fc1"
#define FC2 "joint_blocks.0.x_block.mlp.fc2"
#define PLAIN "{\"format\": \"float8_e4m3fn\"}"
#define FULL "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true}"

#define HEADER(name)                                                                               \
    "{\"_quantization_metadata\":\"{\\\"layers\\\":{\\\"" name                                     \
    "\\\":{\\\"format\\\":\\\"float8_e4m3fn\\\"}}}\"}"

static const float half = 0.5f, one = 1, tiny = 0x1p-16f;

typedef struct checked {
    oct_checkpoint ckpt;
    oct_loader loader;
    oct_findings findings;
} checked;

static void begin(model_file *file, const char *prefix)
{
    *file = (model_file){0};
    model_add_sai(file, &model_tiny, prefix);
}

static const char *join(model_file *file, const char *prefix, const char *layer, const char *ending)
{
    return oct_arena_print(&file->arena, "%s%s%s", prefix, layer, ending);
}

static void add_scalar(model_file *file, const char *name, const float *value)
{
    model_add(file, name, OCT_F32, 0, NULL, value);
}

static void add_marker(model_file *file, const char *name, const char *text)
{
    const uint64_t shape[1] = {strlen(text)};
    model_add(file, name, OCT_U8, 1, shape, text);
}

// Turn a weight into codes, by default with everything that belongs to it.
static model_tensor *to_fp8(model_file *file, const char *prefix, const char *layer)
{
    model_tensor *weight = model_find(file, join(file, prefix, layer, ".weight"));
    weight->dtype = OCT_F8_E4M3;
    return weight;
}

static void quantize(model_file *file, const char *prefix, const char *layer, const char *marker)
{
    to_fp8(file, prefix, layer);
    add_scalar(file, join(file, prefix, layer, ".weight_scale"), &half);
    add_scalar(file, join(file, prefix, layer, ".input_scale"), &half);
    if (marker) add_marker(file, join(file, prefix, layer, ".comfy_quant"), marker);
}

static void quantize_legacy(model_file *file, const char *prefix, const char *layer)
{
    to_fp8(file, prefix, layer);
    add_scalar(file, join(file, prefix, layer, ".scale_weight"), &half);
    add_scalar(file, join(file, prefix, layer, ".scale_input"), &half);
}

static void add_legacy_marker(model_file *file, const char *prefix, uint64_t elements)
{
    model_add(file, join(file, prefix, "scaled_fp8", ""), OCT_F8_E4M3, 1, &elements, "\0\0");
}

static void check(checked *c, const model_file *file)
{
    const char *path = model_path("loader.safetensors");
    oct_err err = {{0}};
    *c = (checked){0};
    model_save(file, path);
    CHECK(oct_checkpoint_open(&c->ckpt, &(oct_model_paths){.model = path}, &err) == OCT_OK);
    CHECK(oct_loader_check(&c->loader, &c->ckpt, &c->findings, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void end(checked *c, model_file *file)
{
    oct_findings_deinit(&c->findings);
    oct_checkpoint_close(&c->ckpt);
    model_deinit(file);
}

static bool has(const checked *c, bool is_warning, const char *part)
{
    for (size_t i = 0; i < c->findings.count; i++) {
        const oct_finding *f = &c->findings.items[i];
        if (f->is_warning == is_warning && strstr(f->text, part)) return true;
    }
    return false;
}

// The file has exactly this one finding, or none with NULL, and ComfyUI gives this answer.
static void expect(model_file *file, bool is_warning, const char *part, oct_comfy_answer now)
{
    checked c;
    check(&c, file);
    CHECK(c.findings.count == (part != NULL));
    CHECK(!part || has(&c, is_warning, part));
    for (size_t i = 0; i < c.findings.count && !has(&c, is_warning, part ? part : "?"); i++) {
        printf("# %s\n", c.findings.items[i].text);
    }
    CHECK(c.loader.is_known);
    CHECK(c.loader.answers[OCT_COMFY_MARKED] == now);
    end(&c, file);
}

static void expect_eras(model_file *file, oct_comfy_answer first, oct_comfy_answer header,
                        oct_comfy_answer now)
{
    checked c;
    check(&c, file);
    CHECK(c.loader.answers[OCT_COMFY_FIRST] == first);
    CHECK(c.loader.answers[OCT_COMFY_HEADER] == header);
    CHECK(c.loader.answers[OCT_COMFY_MARKED] == now);
    end(&c, file);
}

// ---- What loads.

static void whole_files_have_no_findings(void)  // seen: 0.018
{
    model_file file;
    begin(&file, PREFIX);
    expect(&file, false, NULL, OCT_COMFY_YES);
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    quantize(&file, PREFIX, FC2, FULL);
    expect(&file, false, NULL, OCT_COMFY_YES);
    begin(&file, "");
    quantize(&file, "", FC1, "{\"other\":[1], \"format\":\"float8_e4m3fn\"}   ");
    expect(&file, false, NULL, OCT_COMFY_YES);
    begin(&file, "");
    quantize(&file, "", FC1, NULL);
    file.meta = HEADER(FC1);
    expect(&file, false, NULL, OCT_COMFY_YES);
    begin(&file, PREFIX);
    quantize_legacy(&file, PREFIX, FC1);
    add_legacy_marker(&file, PREFIX, 0);
    expect(&file, false, NULL, OCT_COMFY_YES);
    begin(&file, "");
    to_fp8(&file, "", FC1);
    expect(&file, false, NULL, OCT_COMFY_YES);
}

// All matrices of SD3.5 Large, whose data is a hole in the file.
static void large_passes_in_every_dialect(void)
{
    for (int dialect = 0; dialect < 3; dialect++) {
        model_file file;
        file = (model_file){0};
        model_add_sai(&file, &model_large, PREFIX);
        const size_t n = file.n_tensors;
        size_t n_layers = 0;
        for (size_t i = 0; i < n; i++) {
            const char *name = file.tensors[i].name;
            if (file.tensors[i].rank != 2) continue;
            n_layers++;
            const char *layer = oct_arena_copy_n(&file.arena, name + strlen(PREFIX),
                                                 strlen(name) - strlen(PREFIX) - strlen(".weight"));
            if (dialect == 0) quantize(&file, PREFIX, layer, n_layers % 2 ? PLAIN : FULL);
            if (dialect == 1) quantize_legacy(&file, PREFIX, layer);
            if (dialect == 2) to_fp8(&file, PREFIX, layer);
        }
        if (dialect == 1) add_legacy_marker(&file, PREFIX, 0);
        CHECK(n_layers == 384);  // the patch embedding is a convolution
        expect(&file, false, NULL, OCT_COMFY_YES);
    }
}

static void releases_that_read_a_file_are_told(void)
{
    model_file file;
    begin(&file, "");
    expect_eras(&file, OCT_COMFY_YES, OCT_COMFY_YES, OCT_COMFY_YES);
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    expect_eras(&file, OCT_COMFY_NOISE, OCT_COMFY_NOISE, OCT_COMFY_YES);
    begin(&file, "");
    quantize(&file, "", FC1, PLAIN);
    file.meta = HEADER(FC1);
    expect_eras(&file, OCT_COMFY_NOISE, OCT_COMFY_YES, OCT_COMFY_YES);
    begin(&file, PREFIX);
    quantize_legacy(&file, PREFIX, FC1);
    add_legacy_marker(&file, PREFIX, 0);
    expect_eras(&file, OCT_COMFY_KEPT_CAST, OCT_COMFY_KEPT_CAST, OCT_COMFY_YES);
}

// ---- Markers.

static void a_scale_without_a_marker_is_noise(void)  // seen: 0.97
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, NULL);
    quantize(&file, PREFIX, FC2, PLAIN);
    expect(&file, false, "renders noise: no marker ('" PREFIX FC1 "')", OCT_COMFY_NOISE);
}

static void legacy_scales_without_their_marker_are_noise(void)  // seen: 1.04
{
    model_file file;
    begin(&file, PREFIX);
    quantize_legacy(&file, PREFIX, FC1);
    expect(&file, false, "renders noise: no 'scaled_fp8'", OCT_COMFY_NOISE);
}

static void a_header_switches_legacy_markers_off(void)  // seen: 1.04
{
    model_file file;
    begin(&file, PREFIX);
    quantize_legacy(&file, PREFIX, FC1);
    add_legacy_marker(&file, PREFIX, 0);
    file.meta = "{\"_quantization_metadata\":\"{\\\"layers\\\":{}}\"}";
    expect(&file, false, "switches 'scaled_fp8' off", OCT_COMFY_NOISE);
}

static void header_names_must_have_the_prefix_of_the_file(void)  // seen: 1.04, UNETLoader 0.018
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, NULL);
    file.meta = HEADER(FC1);
    expect(&file, false, "except in UNETLoader: the header's names lack", OCT_COMFY_NOISE);
}

static void prefixed_header_names_make_one_loader_complain(void)  // seen: 0.018
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, NULL);
    file.meta = HEADER(PREFIX FC1);
    expect(&file, true, "'unet unexpected'", OCT_COMFY_YES);
}

static void header_names_of_no_layer_are_named(void)
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    file.meta = HEADER("elsewhere");
    expect(&file, false, "ignores what the header says: no such layer in the file ('elsewhere')",
           OCT_COMFY_YES);
}

static void malformed_and_unknown_markers_stop_it(void)  // seen: exceptions
{
    static const char *const broken[] = {"{\"form", "[]", "{\"format\": 1}", "{}"};
    model_file file;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        begin(&file, PREFIX);
        quantize(&file, PREFIX, FC1, broken[i]);
        expect(&file, false, "stops with an error: the marker is not", OCT_COMFY_ERROR);
    }
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, "{\"format\": \"float8_e4m3fn_rowwise\"}");
    expect(&file, false, "stops with an error: an unknown 'format'", OCT_COMFY_ERROR);
    begin(&file, PREFIX);
    file.meta = "{\"_quantization_metadata\":\"{\"}";
    expect(&file, false, "the marker is not a JSON object with a 'format' ('_quantization_metadata",
           OCT_COMFY_ERROR);
}

// ---- Weights and scales.

static void a_marker_without_a_scale_stops_it(void)  // seen: exception
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_remove(&file, PREFIX FC1 ".weight_scale");
    expect(&file, false, "stops with an error at the first step", OCT_COMFY_ERROR);
}

static void a_marker_without_a_weight_is_named(void)
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_remove(&file, PREFIX FC1 ".weight");
    expect(&file, false, "leaves the layer without a weight", OCT_COMFY_ERROR);
}

static void weights_of_another_type_than_the_marker_says_are_noise(void)  // seen: U8 0.33
{
    static const struct {
        oct_dtype dtype;
        const char *part;
    } row[] = {
        {OCT_U8, "reads the bytes as numbers up to 255"},
        {OCT_F16, "casts the weight and then scales it"},
        {OCT_F8_E5M2, "casts the weight and then scales it"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        model_file file;
        begin(&file, PREFIX);
        quantize(&file, PREFIX, FC1, PLAIN);
        model_find(&file, PREFIX FC1 ".weight")->dtype = row[i].dtype;
        expect(&file, false, row[i].part, OCT_COMFY_NOISE);
    }
}

static void e5m2_has_a_format_of_its_own(void)  // seen: 0.027
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, "{\"format\": \"float8_e5m2\"}");
    model_find(&file, PREFIX FC1 ".weight")->dtype = OCT_F8_E5M2;
    expect(&file, false, NULL, OCT_COMFY_YES);
}

static void scales_of_rows_stop_it(void)
{
    const uint64_t rows[1] = {512};
    static const float scales[512];
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_tensor *scale = model_find(&file, PREFIX FC1 ".weight_scale");
    *scale = (model_tensor){scale->name, OCT_F32, 1, {rows[0]}, scales};
    expect(&file, false, "more than one scale for a weight", OCT_COMFY_ERROR);
}

static void scales_in_16_bit_are_a_matter_of_the_release(void)  // seen: 0.018 in 0.29.0
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_find(&file, PREFIX FC1 ".weight_scale")->dtype = OCT_BF16;
    expect(&file, true, "releases of January 2026", OCT_COMFY_YES);
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_find(&file, PREFIX FC1 ".input_scale")->dtype = OCT_BF16;
    expect(&file, false, "an input scale that is not one F32", OCT_COMFY_ERROR);
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, FULL);
    model_find(&file, PREFIX FC1 ".weight_scale")->dtype = OCT_I32;
    expect(&file, false, "a scale that is no floating-point number", OCT_COMFY_ERROR);
}

static void a_missing_input_scale_is_one(void)
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_remove(&file, PREFIX FC1 ".input_scale");
    expect(&file, true, "clamps inputs to 448 at scale 1.0", OCT_COMFY_YES);
    begin(&file, PREFIX);  // the legacy spelling drops a scale of 1
    quantize_legacy(&file, PREFIX, FC1);
    add_legacy_marker(&file, PREFIX, 0);
    model_find(&file, PREFIX FC1 ".scale_input")->data = &one;
    expect(&file, true, "clamps inputs to 448 at scale 1.0", OCT_COMFY_YES);
    begin(&file, PREFIX);  // computed in 16 bit, it does not matter
    quantize_legacy(&file, PREFIX, FC1);
    add_legacy_marker(&file, PREFIX, 2);
    model_remove(&file, PREFIX FC1 ".scale_input");
    expect(&file, false, NULL, OCT_COMFY_YES);
}

static void an_input_scale_whose_inverse_overflows_is_named(void)
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_find(&file, PREFIX FC1 ".input_scale")->data = &tiny;
    expect(&file, true, "inverts the input scale to infinity in FP16", OCT_COMFY_YES);
}

static void features_that_no_gemm_takes_are_named(void)
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC1, PLAIN);
    model_find(&file, PREFIX FC1 ".weight")->shape[0] = 500;
    expect(&file, true, "features that are not multiples of 16", OCT_COMFY_YES);
}

static void mx_scales_are_bytes(void)  // seen: 0.017
{
    static const uint8_t scales[512 * 4];
    model_file file;
    begin(&file, "");
    quantize(&file, "", FC1, "{\"format\": \"mxfp8\"}");
    model_remove(&file, FC1 ".input_scale");
    model_tensor *scale = model_find(&file, FC1 ".weight_scale");
    *scale = (model_tensor){scale->name, OCT_U8, 2, {512, 4}, scales};
    expect(&file, true, "older than the format: 'mxfp8'", OCT_COMFY_YES);
    begin(&file, "");
    quantize(&file, "", FC1, "{\"format\": \"mxfp8\"}");
    scale = model_find(&file, FC1 ".weight_scale");
    *scale = (model_tensor){scale->name, OCT_F8_E8M0, 2, {512, 4}, scales};
    checked c;
    check(&c, &file);
    CHECK(has(&c, true, "block scales of type F8_E8M0 instead of U8"));
    end(&c, &file);
}

// ---- Places without quantized layers.

static void convolutions_are_taken_raw(void)  // seen: 0.51
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, "x_embedder.proj", PLAIN);
    expect(&file, false, "takes the codes without their scale: only matrices", OCT_COMFY_NOISE);
}

static void clip_and_vae_are_taken_raw_and_t5_is_not(void)
{
    static const struct {
        const char *prefix, *part;
    } row[] = {
        {"text_encoders.clip_l.transformer.", "CLIP encoders have no quantized layers"},
        {"text_encoders.clip_g.transformer.", "CLIP encoders have no quantized layers"},
        {"first_stage_model.", "the VAE has no quantized layers"},
        {"text_encoders.t5xxl.transformer.", NULL},
    };
    const uint64_t shape[2] = {16, 16};
    static const uint8_t codes[256];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        model_file file;
        begin(&file, PREFIX);
        model_add(&file, join(&file, row[i].prefix, "layer", ".weight"), OCT_F8_E4M3, 2, shape,
                  codes);
        add_scalar(&file, join(&file, row[i].prefix, "layer", ".weight_scale"), &half);
        add_marker(&file, join(&file, row[i].prefix, "layer", ".comfy_quant"), PLAIN);
        expect(&file, false, row[i].part, row[i].part ? OCT_COMFY_NOISE : OCT_COMFY_YES);
    }
}

static void mixed_plain_cast_loses_what_was_kept(void)  // seen: 0.042
{
    model_file file;
    begin(&file, PREFIX);
    for (size_t i = 0; i < file.n_tensors; i++) {
        const model_tensor *t = &file.tensors[i];
        if (t->rank == 2 && !strstr(t->name, "final_layer")) file.tensors[i].dtype = OCT_F8_E4M3;
    }
    expect(&file, true, "casts kept weights to FP8 too", OCT_COMFY_KEPT_CAST);
    begin(&file, PREFIX);  // one marker is enough to keep them
    for (size_t i = 0; i < file.n_tensors; i++) {
        const model_tensor *t = &file.tensors[i];
        if (t->rank == 2 && !strstr(t->name, "final_layer")) file.tensors[i].dtype = OCT_F8_E4M3;
    }
    quantize(&file, PREFIX, FC1, PLAIN);
    expect(&file, false, NULL, OCT_COMFY_YES);
}

static void diffusers_names_lose_scales(void)
{
    model_file file = {0};
    checked c;
    model_add_diffusers(&file, &model_tiny);
    quantize(&file, "", "transformer_blocks.0.attn.to_q", PLAIN);
    check(&c, &file);
    CHECK(has(&c, false, "merges q, k and v but not their scales"));
    end(&c, &file);
    file = (model_file){0};  // LTX-Video keeps q, k and v apart in its own naming, too
    static const uint8_t codes[256];
    model_add(&file, "transformer_blocks.0.attn1.to_q.weight", OCT_F8_E4M3, 2, (uint64_t[]){16, 16},
              codes);
    add_scalar(&file, "transformer_blocks.0.attn1.to_q.weight_scale", &half);
    add_marker(&file, "transformer_blocks.0.attn1.to_q.comfy_quant", FULL);
    expect(&file, false, NULL, OCT_COMFY_YES);
}

static void findings_count_the_layers_that_they_concern(void)
{
    model_file file;
    begin(&file, PREFIX);
    quantize(&file, PREFIX, FC2, NULL);
    quantize(&file, PREFIX, FC1, NULL);
    checked c;
    check(&c, &file);
    CHECK(has(&c, false, "no marker (2 layers, the first '" PREFIX FC1 "')"));
    end(&c, &file);
}

int main(void)
{
    RUN(whole_files_have_no_findings);
    RUN(large_passes_in_every_dialect);
    RUN(releases_that_read_a_file_are_told);
    RUN(a_scale_without_a_marker_is_noise);
    RUN(legacy_scales_without_their_marker_are_noise);
    RUN(a_header_switches_legacy_markers_off);
    RUN(header_names_must_have_the_prefix_of_the_file);
    RUN(prefixed_header_names_make_one_loader_complain);
    RUN(header_names_of_no_layer_are_named);
    RUN(malformed_and_unknown_markers_stop_it);
    RUN(a_marker_without_a_scale_stops_it);
    RUN(a_marker_without_a_weight_is_named);
    RUN(weights_of_another_type_than_the_marker_says_are_noise);
    RUN(e5m2_has_a_format_of_its_own);
    RUN(scales_of_rows_stop_it);
    RUN(scales_in_16_bit_are_a_matter_of_the_release);
    RUN(a_missing_input_scale_is_one);
    RUN(an_input_scale_whose_inverse_overflows_is_named);
    RUN(features_that_no_gemm_takes_are_named);
    RUN(mx_scales_are_bytes);
    RUN(convolutions_are_taken_raw);
    RUN(clip_and_vae_are_taken_raw_and_t5_is_not);
    RUN(mixed_plain_cast_loses_what_was_kept);
    RUN(diffusers_names_lose_scales);
    RUN(findings_count_the_layers_that_they_concern);
    return test_end();
}
