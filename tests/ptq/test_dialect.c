// SPDX-License-Identifier: Apache-2.0
//
// Dialects: files written by a plan and read back, golden bytes, and damaged files.
#include <stdlib.h>

#include "common/number.h"
#include "common/safetensors.h"
#include "kernels/kernels.h"
#include "ptq/dialect.h"
#include "tests/ptq/denoiser.h"

typedef struct job {  // a source, its plan and the output
    opened_denoiser model;
    oct_policy policy;
    oct_calibration ranges;
    oct_plan_params params;
    oct_plan plan;
    oct_outputs outputs;
    oct_dialect dialect;
} job;

static void begin_job(job *j, const model_file *file, const char *policy, bool is_calibrated,
                      oct_dialect dialect)
{
    const char *path = model_path("source.safetensors");
    oct_err err = {0};

    *j = (job){.dialect = dialect};
    model_save(file, path);
    open_file(&j->model, path);
    const oct_denoiser *denoiser = &j->model.denoiser;
    CHECK(oct_policy_load(&j->policy, policy, &err) == OCT_OK);
    j->ranges.layers =
        oct_arena_array(&j->ranges.arena, denoiser->n_layers, sizeof *j->ranges.layers);
    j->ranges.n_layers = denoiser->n_layers;
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        j->ranges.layers[i].name = denoiser->layers[i].name;
        j->ranges.layers[i].amax = 1 + (float)i;
    }
    j->params = (oct_plan_params){
        .policy = &j->policy,
        .calibration = is_calibrated ? &j->ranges : NULL,
        .qmax = 448,
        .has_unit_scales = dialect == OCT_DIALECT_CAST,
    };
    CHECK(oct_plan_init(&j->plan, denoiser, &j->params, &err) == OCT_OK);
    CHECK(oct_outputs_init(&j->outputs, &j->model.source, &j->plan, dialect, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void end_job(job *j)
{
    oct_outputs_deinit(&j->outputs);
    oct_plan_deinit(&j->plan);
    oct_calibration_deinit(&j->ranges);
    oct_policy_deinit(&j->policy);
    close_denoiser(&j->model);
}

static const oct_out_tensor *find_output(const job *j, const char *name)
{
    for (size_t i = 0; i < j->outputs.n_tensors; i++) {
        if (strcmp(j->outputs.tensors[i].name, name) == 0) return &j->outputs.tensors[i];
    }
    return NULL;
}

static void write_tensor(oct_st_writer *writer, const job *j, const oct_out_tensor *out)
{
    const oct_st_tensor *target = oct_st_writer_find(writer, out->name);
    uint8_t *data = malloc(target->bytes + 1);

    if (out->emit == OCT_EMIT_COPY) {
        CHECK(oct_source_read(out->source, data, NULL) == OCT_OK);
    } else if (out->emit == OCT_EMIT_BYTES) {
        CHECK(out->n_bytes == target->bytes);
        memcpy(data, out->bytes, out->n_bytes);
    } else {
        const oct_layer *layer = out->decision->layer;
        void *x = malloc(layer->weight->bytes);
        uint8_t *codes = malloc(layer->out_features * layer->in_features);
        float scale = 0;
        CHECK(oct_source_read(layer->weight, x, NULL) == OCT_OK);
        CHECK(oct_plan_encode(&j->plan, layer, x, codes, &scale, NULL) == OCT_OK);
        if (out->emit == OCT_EMIT_CODES) {
            memcpy(data, codes, target->bytes);
        } else {
            memcpy(data, &scale, sizeof scale);
        }
        free(codes);
        free(x);
    }
    CHECK(oct_st_writer_write(writer, target, 0, data, target->bytes, NULL) == OCT_OK);
    free(data);
}

// As quantize does it, without its threads. `metadata` may be NULL.
static const char *write_output(const job *j, const char *metadata)
{
    const char *path = model_path("output.safetensors");
    oct_st_writer writer = {0};
    oct_err err = {0};

    for (size_t i = 0; i < j->outputs.n_tensors; i++) {
        const oct_out_tensor *out = &j->outputs.tensors[i];
        oct_st_writer_add(&writer, out->name, out->dtype, out->rank, out->shape);
    }
    if (metadata) oct_st_writer_add_meta(&writer, "_quantization_metadata", metadata);
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    for (size_t i = 0; i < j->outputs.n_tensors; i++) {
        write_tensor(&writer, j, &j->outputs.tensors[i]);
    }
    CHECK(oct_st_writer_commit(&writer, &err) == OCT_OK);
    oct_st_writer_deinit(&writer);
    return path;
}

// ---- Written, and read back.

static void check_values(const oct_layer *before, const oct_layer *after, float scale)
{
    const size_t n = (size_t)(before->out_features * before->in_features);
    uint16_t *x = malloc(2 * n);
    uint8_t *codes = malloc(n);
    size_t n_wrong = 0;

    CHECK(oct_source_read(before->weight, x, NULL) == OCT_OK);
    CHECK(oct_source_read(after->weight, codes, NULL) == OCT_OK);
    for (size_t i = 0; i < n; i++) {
        const float want = oct_f16_to_f32(x[i]), got = oct_e4m3_to_f32(codes[i]) * scale;
        n_wrong += !(fabsf(got - want) <= fmaxf(fabsf(want) / 16, scale * 0x1p-10f) * 1.0001f);
    }
    CHECK(n_wrong == 0);
    free(codes);
    free(x);
}

static void check_read_back(const job *j, const char *path)
{
    const bool all_full =
        j->dialect == OCT_DIALECT_COMFY_LEGACY && j->plan.n_static < j->plan.n_fp8;
    opened_denoiser written;

    open_file(&written, path);
    CHECK(oct_dialect_detect(&written.source) == j->dialect);
    for (size_t i = 0; i < j->plan.n_decisions; i++) {
        const oct_decision *decision = &j->plan.decisions[i];
        const oct_layer *layer = &written.denoiser.layers[i];
        oct_fp8_layer fp8;
        oct_err err = {0};
        CHECK(oct_dialect_read(&written.source, j->dialect, layer, &fp8, &err) == OCT_OK);
        CHECK_TEXT(err.text, "");
        CHECK(fp8.is_fp8 == (decision->weights == OCT_WEIGHTS_E4M3));
        if (!fp8.is_fp8) continue;
        CHECK(fp8.input_scale == decision->input_scale);
        CHECK(fp8.is_full_precision == (all_full || decision->inputs == OCT_INPUTS_NONE));
        check_values(decision->layer, layer, fp8.weight_scale);
    }
    close_denoiser(&written);
}

static model_file make_file(const char *naming)
{
    model_file file = {0};

    if (strcmp(naming, "diffusers") == 0) {
        model_add_diffusers(&file, &model_tiny);
    } else {
        model_add_sai(&file, &model_tiny, naming);
    }
    return file;
}

static void check_naming(const char *naming, const char *policy, bool is_calibrated)
{
    static const oct_dialect dialects[] = {OCT_DIALECT_COMFY, OCT_DIALECT_COMFY_LEGACY,
                                           OCT_DIALECT_CAST};

    for (int i = 0; i < 3; i++) {
        model_file file = make_file(naming);
        job j;
        begin_job(&j, &file, policy, is_calibrated, dialects[i]);
        const char *metadata = j.outputs.metadata;
        check_read_back(&j, write_output(&j, NULL));
        if (metadata) check_read_back(&j, write_output(&j, metadata));
        end_job(&j);
        model_deinit(&file);
    }
}

static void every_naming_reads_back_as_planned(void)
{
    check_naming("", "mlp-attn", true);
    check_naming("model.diffusion_model.", "adaln-weight-only", true);
    check_naming("diffusers", "all", true);
    check_naming("diffusers", "like-comfy-org", false);
}

static void diffusers_and_sai_sources_give_the_same_file(void)
{
    char hex[2][OCT_SHA256_HEX];

    for (int i = 0; i < 2; i++) {
        model_file file = make_file(i ? "diffusers" : "");
        job j;
        oct_file written = {0};
        begin_job(&j, &file, "all", true, OCT_DIALECT_COMFY);
        CHECK(oct_file_open(&written, write_output(&j, NULL), NULL) == OCT_OK);
        CHECK(oct_sha256_of_file(&written, hex[i], NULL) == OCT_OK);
        oct_file_close(&written);
        end_job(&j);
        model_deinit(&file);
    }
    CHECK_TEXT(hex[1], hex[0]);
}

static void everything_else_in_the_file_is_kept(void)
{
    static const uint8_t bytes[6] = {1, 2, 3, 4, 5, 6};
    model_file file = make_file("model.diffusion_model.");
    job j;

    model_add(&file, "first_stage_model.decoder.mid.attn_1.q.weight", OCT_U8, 2, (uint64_t[]){2, 3},
              bytes);
    model_add(&file, "text_encoders.t5xxl.transformer.scaled_fp8", OCT_F8_E4M3, 1, (uint64_t[]){0},
              NULL);
    model_add(&file, "text_encoders.clip_l.logit_scale", OCT_F32, 0, NULL, NULL);
    begin_job(&j, &file, "mlp", true, OCT_DIALECT_COMFY);
    CHECK(j.outputs.n_tensors == file.n_tensors + 3 * 6);
    CHECK(!j.outputs.metadata);
    const oct_out_tensor *out = find_output(&j, "first_stage_model.decoder.mid.attn_1.q.weight");
    CHECK(out && out->emit == OCT_EMIT_COPY && out->rank == 2 && out->shape[1] == 3);
    CHECK(find_output(&j, "text_encoders.t5xxl.transformer.scaled_fp8"));
    CHECK(find_output(&j, "text_encoders.clip_l.logit_scale"));
    for (size_t i = 1; i < j.outputs.n_tensors; i++) {
        CHECK(strcmp(j.outputs.tensors[i - 1].name, j.outputs.tensors[i].name) < 0);
    }
    end_job(&j);
    model_deinit(&file);
}

// ---- Golden bytes.

static void check_marker(const oct_out_tensor *out, const char *want)
{
    CHECK(out && out->emit == OCT_EMIT_BYTES && out->dtype == OCT_U8 && out->rank == 1);
    if (!out) return;
    CHECK(out->n_bytes == strlen(want) && out->shape[0] == out->n_bytes);
    CHECK(out->n_bytes == strlen(want) && memcmp(out->bytes, want, out->n_bytes) == 0);
}

static void comfy_markers_are_these_bytes(void)
{
    model_file file = make_file("model.diffusion_model.");
    job j;

    begin_job(&j, &file, "adaln-weight-only", true, OCT_DIALECT_COMFY);
    check_marker(
        find_output(&j, "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.comfy_quant"),
        "{\"format\": \"float8_e4m3fn\"}     ");
    check_marker(
        find_output(&j, "model.diffusion_model.final_layer.adaLN_modulation.1.comfy_quant"),
        "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true} ");
    const oct_out_tensor *scale =
        find_output(&j, "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.input_scale");
    CHECK(scale && scale->dtype == OCT_F32 && scale->rank == 0 && scale->n_bytes == 4);
    CHECK(scale && memcmp(scale->bytes, &scale->decision->input_scale, 4) == 0);
    scale = find_output(&j, "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight_scale");
    CHECK(scale && scale->dtype == OCT_F32 && scale->rank == 0 &&
          scale->emit == OCT_EMIT_WEIGHT_SCALE);
    CHECK(!find_output(&j, "model.diffusion_model.final_layer.adaLN_modulation.1.input_scale"));
    CHECK(!find_output(&j, "model.diffusion_model.x_embedder.proj.comfy_quant"));
    end_job(&j);
    model_deinit(&file);
}

static void legacy_marker_says_how_to_compute(void)
{
    static const struct {
        const char *policy;
        bool is_calibrated;
        uint64_t elements;
    } cases[] = {{"mlp", true, 0}, {"mlp", false, 2}, {"adaln-weight-only", true, 2}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_file file = make_file("model.diffusion_model.");
        job j;
        begin_job(&j, &file, cases[i].policy, cases[i].is_calibrated, OCT_DIALECT_COMFY_LEGACY);
        const oct_out_tensor *marker = find_output(&j, "model.diffusion_model.scaled_fp8");
        CHECK(marker && marker->dtype == OCT_F8_E4M3 && marker->rank == 1);
        CHECK(marker && marker->shape[0] == cases[i].elements &&
              marker->n_bytes == cases[i].elements);
        CHECK(
            (find_output(&j, "model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.scale_input") !=
             NULL) == cases[i].is_calibrated);
        CHECK(find_output(&j, "model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.scale_weight"));
        end_job(&j);
        model_deinit(&file);
    }
}

static void header_repeats_the_markers(void)
{
    model_file file = make_file("");
    job j;

    begin_job(&j, &file, "edges-kept", true, OCT_DIALECT_COMFY);  // nothing is left at depth 2
    CHECK(j.plan.n_fp8 == 0);
    CHECK(!j.outputs.metadata);
    end_job(&j);
    begin_job(&j, &file, "like-tensorrt", false, OCT_DIALECT_COMFY);
    const char *text = j.outputs.metadata;
    const char *start = "{\"format_version\": \"1.0\", \"layers\": {"
                        "\"joint_blocks.0.context_block.adaLN_modulation.1\": "
                        "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true}, "
                        "\"joint_blocks.0.context_block.attn.proj\": {";
    CHECK(text && strncmp(text, start, strlen(start)) == 0);
    CHECK(text && strcmp(text + strlen(text) - 3, "}}}") == 0);
    end_job(&j);
    begin_job(&j, &file, "like-tensorrt", false, OCT_DIALECT_COMFY_LEGACY);
    CHECK(!j.outputs.metadata);
    end_job(&j);
    model_deinit(&file);
}

static void prefixed_files_have_no_header_form(void)
{
    model_file file = make_file("model.diffusion_model.");
    job j;

    begin_job(&j, &file, "all", true, OCT_DIALECT_COMFY);
    CHECK(!j.outputs.metadata);
    end_job(&j);
    model_deinit(&file);
}

static void names_of_dialects_parse_back(void)
{
    oct_dialect dialect = OCT_DIALECT_NONE;

    CHECK(oct_dialect_parse("comfy", &dialect) && dialect == OCT_DIALECT_COMFY);
    CHECK(oct_dialect_parse("comfy-legacy", &dialect) && dialect == OCT_DIALECT_COMFY_LEGACY);
    CHECK(oct_dialect_parse("cast", &dialect) && dialect == OCT_DIALECT_CAST);
    CHECK(!oct_dialect_parse("casts", &dialect) && !oct_dialect_parse("none", &dialect));
    CHECK_TEXT(oct_dialect_name(OCT_DIALECT_COMFY_LEGACY), "comfy-legacy");
    CHECK_TEXT(oct_dialect_name(OCT_DIALECT_CAST), "cast");
    CHECK_TEXT(oct_dialect_name(OCT_DIALECT_NONE), "none");
}

static void stray_scales_are_refused_when_writing(void)
{
    model_file file = make_file("");
    oct_outputs outputs;
    oct_err err = {0};
    job j;

    model_add(&file, "scaled_fp8", OCT_F8_E4M3, 1, (uint64_t[]){0}, NULL);
    model_save(&file, model_path("stray.safetensors"));
    model_remove(&file, "scaled_fp8");
    begin_job(&j, &file, "mlp", true, OCT_DIALECT_COMFY);
    opened_denoiser stray;
    open_file(&stray, model_path("stray.safetensors"));
    CHECK(oct_outputs_init(&outputs, &stray.source, &j.plan, OCT_DIALECT_COMFY, &err) ==
          OCT_EFORMAT);
    CHECK_TEXT(err.text, "'scaled_fp8' belongs to an FP8 model, but no weight is FP8");
    CHECK(!outputs.tensors);
    close_denoiser(&stray);
    end_job(&j);
    model_deinit(&file);
}

// ---- Damaged files: one FP8 layer, L.

#define L "joint_blocks.0.x_block.mlp.fc1"

static const float scale_value = 0.25f, input_value = 0.5f;

static void add_marker(model_file *file, const char *json)
{
    model_add(file, L ".comfy_quant", OCT_U8, 1, (uint64_t[]){strlen(json)}, json);
}

static model_file make_damaged(oct_dialect dialect)
{
    const bool is_legacy = dialect == OCT_DIALECT_COMFY_LEGACY;
    model_file file = {0};
    model_spec spec = model_tiny;

    spec.has_data = false;
    model_add_sai(&file, &spec, "");
    model_find(&file, L ".weight")->dtype = OCT_F8_E4M3;
    if (dialect == OCT_DIALECT_CAST) return file;
    model_add(&file, is_legacy ? L ".scale_weight" : L ".weight_scale", OCT_F32, 0, NULL,
              &scale_value);
    model_add(&file, is_legacy ? L ".scale_input" : L ".input_scale", OCT_F32, 0, NULL,
              &input_value);
    if (is_legacy) {
        model_add(&file, "scaled_fp8", OCT_F8_E4M3, 1, (uint64_t[]){0}, NULL);
    } else {
        add_marker(&file, "{\"format\":\"float8_e4m3fn\"}");
    }
    return file;
}

// Reads layer L; an empty sentence: it must be good.
static oct_fp8_layer check_layer(model_file *file, oct_dialect dialect, oct_status status,
                                 const char *sentence)
{
    opened_denoiser model;
    oct_fp8_layer fp8;
    oct_err err = {0};
    const char *path = model_path("damaged.safetensors");

    model_save(file, path);
    model_deinit(file);
    open_file(&model, path);
    CHECK(oct_dialect_detect(&model.source) == dialect);
    CHECK(oct_dialect_read(&model.source, dialect, oct_denoiser_find(&model.denoiser, L), &fp8,
                           &err) == status);
    CHECK_TEXT(err.text, sentence);
    close_denoiser(&model);
    return fp8;
}

static void check_damaged(model_file file, oct_dialect dialect, const char *sentence)
{
    check_layer(&file, dialect, OCT_EFORMAT, sentence);
}

static void undamaged_files_are_read(void)
{
    model_file file = make_damaged(OCT_DIALECT_COMFY);
    oct_fp8_layer fp8 = check_layer(&file, OCT_DIALECT_COMFY, OCT_OK, "");
    CHECK(fp8.is_fp8 && !fp8.is_full_precision);
    CHECK(fp8.weight_scale == 0.25f && fp8.input_scale == 0.5f);

    file = make_damaged(OCT_DIALECT_COMFY_LEGACY);
    fp8 = check_layer(&file, OCT_DIALECT_COMFY_LEGACY, OCT_OK, "");
    CHECK(fp8.is_fp8 && !fp8.is_full_precision);
    CHECK(fp8.weight_scale == 0.25f && fp8.input_scale == 0.5f);

    file = make_damaged(OCT_DIALECT_CAST);
    fp8 = check_layer(&file, OCT_DIALECT_CAST, OCT_OK, "");
    CHECK(fp8.is_fp8 && fp8.is_full_precision);
    CHECK(fp8.weight_scale == 1 && fp8.input_scale == 0);
}

static void other_spellings_are_read(void)
{
    static const char *const spellings[] = {
        "{\"format\":\"float8_e4m3fn\",\"full_precision_matrix_mult\":true}",
        "{\"full_precision_matrix_mult\": true, \"format\": \"float8_e4m3fn\"}   \n",
        "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true, \"more\": [1]}",
    };

    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        model_file file = make_damaged(OCT_DIALECT_COMFY);
        model_remove(&file, L ".comfy_quant");
        add_marker(&file, spellings[i]);
        model_find(&file, L ".weight_scale")->rank = 1;
        model_find(&file, L ".weight_scale")->shape[0] = 1;
        const oct_fp8_layer fp8 = check_layer(&file, OCT_DIALECT_COMFY, OCT_OK, "");
        CHECK(fp8.is_full_precision && fp8.input_scale == 0.5f);
    }
    model_file file = make_damaged(OCT_DIALECT_COMFY);
    model_remove(&file, L ".input_scale");
    CHECK(check_layer(&file, OCT_DIALECT_COMFY, OCT_OK, "").is_full_precision);
    file = make_damaged(OCT_DIALECT_COMFY_LEGACY);
    model_find(&file, "scaled_fp8")->shape[0] = 2;
    CHECK(check_layer(&file, OCT_DIALECT_COMFY_LEGACY, OCT_OK, "").is_full_precision);
}

static void header_entry_replaces_marker_tensors(void)
{
    model_file file = make_damaged(OCT_DIALECT_COMFY);
    file.meta = "{\"_quantization_metadata\":\"{\\\"layers\\\": {\\\"" L
                "\\\": {\\\"format\\\": \\\"float8_e4m3fn\\\", "
                "\\\"full_precision_matrix_mult\\\": true}}}\"}";
    CHECK(check_layer(&file, OCT_DIALECT_COMFY, OCT_OK, "").is_full_precision);

    file = make_damaged(OCT_DIALECT_COMFY);
    model_remove(&file, L ".comfy_quant");
    file.meta = "{\"_quantization_metadata\":\"{\\\"layers\\\": {\\\"" L
                "\\\": {\\\"format\\\": \\\"float8_e4m3fn\\\"}}}\"}";
    CHECK(!check_layer(&file, OCT_DIALECT_COMFY, OCT_OK, "").is_full_precision);

    file = make_damaged(OCT_DIALECT_COMFY);
    model_remove(&file, L ".comfy_quant");
    file.meta = "{\"_quantization_metadata\":\"{\\\"layers\\\": {}}\"}";
    check_damaged(file, OCT_DIALECT_COMFY, "'" L ".comfy_quant' is missing: the weight is F8_E4M3");

    file = make_damaged(OCT_DIALECT_COMFY);
    file.meta = "{\"_quantization_metadata\":\"[]\"}";
    check_damaged(file, OCT_DIALECT_COMFY, "'_quantization_metadata' has no object 'layers'");

    file = make_damaged(OCT_DIALECT_COMFY);
    file.meta = "{\"_quantization_metadata\":\"{\\\"layers\\\": {\\\"" L
                "\\\": {\\\"format\\\": \\\"nvfp4\\\"}}}\"}";
    check_damaged(file, OCT_DIALECT_COMFY,
                  "'_quantization_metadata' of '" L
                  "' has format 'nvfp4', not 'float8_e4m3fn', 'float8_e5m2' or 'mxfp8'");
}

static void damaged_scales_are_refused(void)
{
    static const float bad[] = {0, -1, NAN, INFINITY, -0.0f};
    static const char *const shown[] = {"0", "-1", "nan", "inf", "-0"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char want[200];
        model_file file = make_damaged(OCT_DIALECT_COMFY);
        model_find(&file, L ".weight_scale")->data = &bad[i];
        snprintf(want, sizeof want,
                 "'" L ".weight_scale' is %s: a scale must be finite and positive", shown[i]);
        check_damaged(file, OCT_DIALECT_COMFY, want);
        file = make_damaged(OCT_DIALECT_COMFY_LEGACY);
        model_find(&file, L ".scale_input")->data = &bad[i];
        snprintf(want, sizeof want,
                 "'" L ".scale_input' is %s: a scale must be finite and positive", shown[i]);
        check_damaged(file, OCT_DIALECT_COMFY_LEGACY, want);
    }
    model_file file = make_damaged(OCT_DIALECT_COMFY);
    model_remove(&file, L ".weight_scale");
    check_damaged(file, OCT_DIALECT_COMFY,
                  "'" L ".weight_scale' is missing: the weight is F8_E4M3");
    file = make_damaged(OCT_DIALECT_COMFY);
    model_find(&file, L ".input_scale")->dtype = OCT_BF16;
    check_damaged(file, OCT_DIALECT_COMFY, "'" L ".input_scale' has type BF16, not F32");
    file = make_damaged(OCT_DIALECT_COMFY);
    *model_find(&file, L ".weight_scale") =
        (model_tensor){L ".weight_scale", OCT_F32, 2, {512, 1}, NULL};
    check_damaged(file, OCT_DIALECT_COMFY,
                  "'" L ".weight_scale' has 512 elements, not one scale of the tensor");
    file = make_damaged(OCT_DIALECT_COMFY_LEGACY);
    model_remove(&file, L ".scale_weight");
    check_damaged(file, OCT_DIALECT_COMFY_LEGACY,
                  "'" L ".scale_weight' is missing: the weight is F8_E4M3");
}

static void damaged_markers_are_refused(void)
{
    static const char *const bad[][2] = {
        {"", "'" L ".comfy_quant': JSON: "},
        {"{\"format\":", "'" L ".comfy_quant': JSON: "},
        {"{\"format\":\"float8_e4m3fn\",\"format\":\"x\"}",
         "'" L ".comfy_quant': JSON: duplicate key 'format'"},
        {"[]", "'" L ".comfy_quant' is not understood"},
        {"{}", "'" L ".comfy_quant' is not understood"},
        {"{\"format\":1}", "'" L ".comfy_quant' is not understood"},
        {"{\"format\":\"float8_e4m3fn\",\"full_precision_matrix_mult\":1}",
         "'" L ".comfy_quant' is not understood"},
        {"{\"format\":\"float8_e4m3fn_rowwise\"}",
         "'" L ".comfy_quant' has format 'float8_e4m3fn_rowwise', not 'float8_e4m3fn'"},
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        model_file file = make_damaged(OCT_DIALECT_COMFY);
        opened_denoiser model;
        oct_fp8_layer fp8;
        oct_err err = {0};
        model_remove(&file, L ".comfy_quant");
        add_marker(&file, bad[i][0]);
        model_save(&file, model_path("damaged.safetensors"));
        model_deinit(&file);
        open_file(&model, model_path("damaged.safetensors"));
        CHECK(oct_dialect_read(&model.source, OCT_DIALECT_COMFY,
                               oct_denoiser_find(&model.denoiser, L), &fp8, &err) == OCT_EFORMAT);
        err.text[strlen(bad[i][1])] = '\0';
        CHECK_TEXT(err.text, bad[i][1]);
        close_denoiser(&model);
    }
    model_file file = make_damaged(OCT_DIALECT_COMFY);
    model_remove(&file, L ".comfy_quant");
    check_damaged(file, OCT_DIALECT_COMFY, "'" L ".comfy_quant' is missing: the weight is F8_E4M3");
    file = make_damaged(OCT_DIALECT_COMFY);
    model_find(&file, L ".comfy_quant")->dtype = OCT_I8;
    check_damaged(file, OCT_DIALECT_COMFY, "'" L ".comfy_quant' must be a list of at most 4096 U8");
    file = make_damaged(OCT_DIALECT_COMFY);
    *model_find(&file, L ".comfy_quant") =
        (model_tensor){L ".comfy_quant", OCT_U8, 1, {4097}, NULL};
    check_damaged(file, OCT_DIALECT_COMFY, "'" L ".comfy_quant' must be a list of at most 4096 U8");
    file = make_damaged(OCT_DIALECT_COMFY_LEGACY);
    model_remove(&file, "scaled_fp8");
    check_damaged(file, OCT_DIALECT_COMFY_LEGACY,
                  "'scaled_fp8' is missing: '" L ".weight' is F8_E4M3");
    file = make_damaged(OCT_DIALECT_COMFY_LEGACY);
    model_find(&file, "scaled_fp8")->shape[0] = 3;
    check_damaged(file, OCT_DIALECT_COMFY_LEGACY,
                  "'scaled_fp8' must be a list of at most 2 F8_E4M3");
}

static void scales_of_another_type_of_weight_are_refused(void)
{
    model_file file = make_damaged(OCT_DIALECT_COMFY);
    model_find(&file, L ".weight")->dtype = OCT_F16;
    check_damaged(file, OCT_DIALECT_COMFY,
                  "'" L ".weight' has type F16, but '" L ".comfy_quant' says FP8");
    file = make_damaged(OCT_DIALECT_COMFY_LEGACY);
    model_find(&file, L ".weight")->dtype = OCT_F16;
    check_damaged(file, OCT_DIALECT_COMFY_LEGACY,
                  "'" L ".weight' has type F16, but '" L ".scale_weight' says FP8");
    file = make_damaged(OCT_DIALECT_COMFY);
    model_find(&file, L ".weight")->dtype = OCT_F8_E5M2;
    check_damaged(file, OCT_DIALECT_COMFY, "'" L ".weight' has type F8_E5M2, not F8_E4M3");
}

static void fp8_convolutions_are_refused(void)
{
    model_file file = make_damaged(OCT_DIALECT_COMFY);
    opened_denoiser model;
    oct_fp8_layer fp8;
    oct_err err = {0};

    model_find(&file, "x_embedder.proj.weight")->dtype = OCT_F8_E4M3;
    model_save(&file, model_path("conv.safetensors"));
    model_deinit(&file);
    open_file(&model, model_path("conv.safetensors"));
    CHECK(oct_dialect_read(&model.source, OCT_DIALECT_COMFY, &model.denoiser.layers[0], &fp8,
                           &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "'x_embedder.proj.weight' is a convolution: no loader reads it in FP8");
    close_denoiser(&model);
}

static void make_diffusers_fp8(model_file *file, const char *layer, const float *scale)
{
    char name[200];

    snprintf(name, sizeof name, "transformer_blocks.0.%s.weight", layer);
    model_find(file, name)->dtype = OCT_F8_E4M3;
    snprintf(name, sizeof name, "transformer_blocks.0.%s.weight_scale", layer);
    model_add(file, name, OCT_F32, 0, NULL, scale);
    snprintf(name, sizeof name, "transformer_blocks.0.%s.input_scale", layer);
    model_add(file, name, OCT_F32, 0, NULL, &input_value);
}

static void fp8_under_diffusers_names_is_read(void)
{
    static const float scales[2] = {0.25f, 0.5f};
    static const char *const layers[] = {"ff.net.2",       "attn.to_q",       "attn.to_k",
                                         "attn.to_v",      "attn.add_q_proj", "attn.add_k_proj",
                                         "attn.add_v_proj"};
    model_file file = {0};
    opened_denoiser model;
    oct_fp8_layer fp8;
    oct_err err = {0};
    model_spec spec = model_tiny;

    spec.has_data = false;
    model_add_diffusers(&file, &spec);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        make_diffusers_fp8(&file, layers[i], &scales[i == 6]);
    }
    model_save(&file, model_path("d.safetensors"));
    model_deinit(&file);
    open_file(&model, model_path("d.safetensors"));
    CHECK(oct_dialect_detect(&model.source) == OCT_DIALECT_DIFFUSERS);
    const oct_layer *layer = oct_denoiser_find(&model.denoiser, "joint_blocks.0.x_block.mlp.fc2");
    CHECK(oct_dialect_read(&model.source, OCT_DIALECT_DIFFUSERS, layer, &fp8, &err) == OCT_OK);
    CHECK(fp8.is_fp8 && fp8.weight_scale == 0.25f && fp8.input_scale == input_value);
    CHECK(!fp8.is_full_precision);
    layer = oct_denoiser_find(&model.denoiser, "joint_blocks.0.x_block.attn.qkv");
    CHECK(oct_dialect_read(&model.source, OCT_DIALECT_DIFFUSERS, layer, &fp8, &err) == OCT_OK);
    CHECK(fp8.is_fp8 && fp8.weight_scale == 0.25f);
    layer = oct_denoiser_find(&model.denoiser, "joint_blocks.0.context_block.attn.qkv");
    CHECK(oct_dialect_read(&model.source, OCT_DIALECT_DIFFUSERS, layer, &fp8, &err) ==
          OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "'transformer_blocks.0.attn.add_q_proj.weight' and "
                         "'transformer_blocks.0.attn.add_v_proj.weight' have different scales: as "
                         "one layer they need one");
    close_denoiser(&model);
}

static void tiles_hold_every_block_once(void)
{
    // From cuBLAS's picture of a tile: rows 0, 32, 64 and 96 of 4 blocks each, then 1, 33, ...
    static const struct {
        uint64_t row, block, index;
    } known[] = {
        {0, 0, 0},   {0, 3, 3},      {32, 0, 4},
        {96, 3, 15}, {1, 0, 16},     {127, 3, 511},
        {0, 4, 512}, {128, 0, 1024}, {129, 5, 1024 + 512 + 16 + 1},
    };
    enum { ROWS = 200, BLOCKS = 7, PLACES = 256 * 8 };
    bool is_taken[PLACES] = {false};
    size_t n_wrong = 0;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        CHECK(oct_mx_tiled_index(known[i].row, known[i].block, BLOCKS) == known[i].index);
    }
    for (uint64_t r = 0; r < ROWS; r++) {
        for (uint64_t b = 0; b < BLOCKS; b++) {
            const uint64_t index = oct_mx_tiled_index(r, b, BLOCKS);
            n_wrong += index >= PLACES || is_taken[index % PLACES];
            is_taken[index % PLACES] = true;
        }
    }
    CHECK(n_wrong == 0);
}

static void sources_in_16_bit_have_no_dialect(void)
{
    opened_denoiser model;

    open_denoiser(&model, &model_tiny);
    CHECK(oct_dialect_detect(&model.source) == OCT_DIALECT_NONE);
    close_denoiser(&model);
}

int main(void)
{
    RUN(every_naming_reads_back_as_planned);
    RUN(diffusers_and_sai_sources_give_the_same_file);
    RUN(everything_else_in_the_file_is_kept);
    RUN(comfy_markers_are_these_bytes);
    RUN(legacy_marker_says_how_to_compute);
    RUN(header_repeats_the_markers);
    RUN(prefixed_files_have_no_header_form);
    RUN(names_of_dialects_parse_back);
    RUN(stray_scales_are_refused_when_writing);
    RUN(undamaged_files_are_read);
    RUN(other_spellings_are_read);
    RUN(header_entry_replaces_marker_tensors);
    RUN(damaged_scales_are_refused);
    RUN(damaged_markers_are_refused);
    RUN(scales_of_another_type_of_weight_are_refused);
    RUN(fp8_convolutions_are_refused);
    RUN(fp8_under_diffusers_names_is_read);
    RUN(tiles_hold_every_block_once);
    RUN(sources_in_16_bit_have_no_dialect);
    return test_end();
}
