// SPDX-License-Identifier: Apache-2.0
//
// Drift against the source, compared with the formula itself in one loop.
#include "verify/drift.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "common/number.h"
#include "tests/ptq/denoiser.h"
#include "verify/stored.h"

#define MOD "joint_blocks.0.x_block.adaLN_modulation.1"  // more than two chunks of elements
#define SCALE 0.00037f

static const float scale = SCALE;

typedef struct pair {  // a file and its source
    opened_denoiser file, source;
    oct_dialects dialects;
    oct_drift drift;
    oct_findings findings;
} pair;

static uint16_t *values(const oct_layer *layer)
{
    uint16_t *x = malloc(layer->weight->bytes);
    CHECK(oct_source_read(layer->weight, x, NULL) == OCT_OK);
    return x;
}

// The tiny model with one FP8 layer: `dtype` E4M3 with a scale, or E5M2 without. `change` may
// damage the codes.
static void begin(pair *p, oct_dtype dtype, void (*change)(uint8_t *codes))
{
    model_file file = {0};
    const bool is_e4m3 = dtype == OCT_F8_E4M3;
    static const char marker[] = "{\"format\": \"float8_e4m3fn\"}";
    *p = (pair){0};
    open_denoiser(&p->source, &model_tiny);
    const oct_layer *layer = oct_denoiser_find(&p->source.denoiser, MOD);
    uint16_t *x = values(layer);
    uint8_t *codes = malloc(layer->weight->bytes / 2);
    for (uint64_t i = 0; i < layer->weight->bytes / 2; i++) {
        const float value = oct_f16_to_f32(x[i]);
        codes[i] = is_e4m3 ? oct_f32_to_e4m3(value / scale) : oct_f32_to_e5m2(value);
    }
    if (change) change(codes);
    model_add_sai(&file, &model_tiny, "");
    model_tensor *weight = model_find(&file, MOD ".weight");
    weight->dtype = dtype;
    weight->data = codes;
    if (is_e4m3) {
        model_add(&file, MOD ".weight_scale", OCT_F32, 0, NULL, &scale);
        model_add(&file, MOD ".comfy_quant", OCT_U8, 1, &(uint64_t){sizeof marker - 1}, marker);
    }
    const char *path = model_path("fp8.safetensors");
    model_save(&file, path);
    model_deinit(&file);
    free(codes);
    free(x);
    open_file(&p->file, path);
    oct_dialects_detect(&p->dialects, &p->file.source);
}

static void measure(pair *p, double sqnr_db_min)
{
    oct_err err = {{0}};
    CHECK(oct_drift_measure(&p->drift,
                            &(oct_drift_params){
                                .file = &p->file.source,
                                .source = &p->source.source,
                                .denoiser = &p->file.denoiser,
                                .dialects = &p->dialects,
                                .sqnr_db_min = sqnr_db_min,
                            },
                            &p->findings, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void end(pair *p)
{
    oct_drift_deinit(&p->drift);
    oct_findings_deinit(&p->findings);
    close_denoiser(&p->file);
    close_denoiser(&p->source);
}

static void check_numbers(oct_dtype dtype)
{
    pair p;
    begin(&p, dtype, NULL);
    measure(&p, -INFINITY);
    CHECK(p.findings.count == 0);
    CHECK(p.drift.n_layers == 1);
    const oct_drift_layer *got = &p.drift.layers[0];
    const oct_layer *layer = oct_denoiser_find(&p.source.denoiser, MOD);
    uint16_t *x = values(layer);
    double signal = 0, noise = 0, worst = 0;
    for (uint64_t i = 0; i < layer->weight->bytes / 2; i++) {
        const double value = (double)oct_f16_to_f32(x[i]);
        const double is =
            dtype == OCT_F8_E4M3
                ? (double)oct_e4m3_to_f32(oct_f32_to_e4m3((float)value / scale)) * (double)scale
                : (double)oct_e5m2_to_f32(oct_f32_to_e5m2((float)value));
        signal += value * value;
        noise += (value - is) * (value - is);
        worst = fmax(worst, fabs(value - is));
    }
    CHECK_NEAR(got->sqnr_db, 10 * log10(signal / noise), 1e-9);
    CHECK_NEAR(got->error_max, worst, 1e-15);
    CHECK(got->error_max_of_bound > 0.98 && got->error_max_of_bound < 1 + 0x1p-18);
    free(x);
    end(&p);
}

static void numbers_are_those_of_the_formula(void)
{
    check_numbers(OCT_F8_E4M3);
    check_numbers(OCT_F8_E5M2);
}

static void numbers_do_not_depend_on_threads(void)
{
    oct_drift_layer first = {0};
    for (int threads = 1; threads <= 4; threads++) {
        pair p;
        begin(&p, OCT_F8_E4M3, NULL);
        omp_set_num_threads(threads);
        measure(&p, -INFINITY);
        oct_drift_layer got = p.drift.layers[0];
        got.name = NULL;
        if (threads == 1) first = got;
        CHECK(!memcmp(&first, &got, sizeof got));
        end(&p);
    }
}

// In three different chunks, two in the first; the lowest index is the one that is told.
static void change_four(uint8_t *codes)
{
    codes[140000] ^= 1;
    codes[70000] ^= 0x80;
    codes[3] ^= 0x40;
    codes[9] ^= 1;
}

static void wrong_codes_are_counted_and_the_first_is_named(void)
{
    pair p;
    begin(&p, OCT_F8_E4M3, change_four);
    measure(&p, 60);
    CHECK(p.findings.count == 3);
    CHECK(strstr(p.findings.items[0].text,
                 MOD "': 4 codes are not the source's, the first at index 3 "));
    CHECK(strstr(p.findings.items[1].text, "times half a step of FP8"));
    CHECK(strstr(p.findings.items[2].text, "is below 60.00 dB"));
    end(&p);
}

// Diffusers keeps q, k and v apart and may give each its own scale.
static void split_layer(pair *p, const float scales[3], float told)
{
    static const char *const names[] = {"q", "k", "v"};
    model_file file = {0};
    uint8_t *codes[3];
    *p = (pair){0};
    model_add_diffusers(&file, &model_tiny);
    model_save(&file, model_path("source.safetensors"));
    open_file(&p->source, model_path("source.safetensors"));
    for (int i = 0; i < 3; i++) {
        const char *layer =
            oct_arena_print(&file.arena, "transformer_blocks.0.attn.to_%s", names[i]);
        model_tensor *weight = model_find(&file, oct_arena_print(&file.arena, "%s.weight", layer));
        const uint16_t *x = weight->data;
        const uint64_t n = weight->shape[0] * weight->shape[1];
        codes[i] = malloc(n);
        for (uint64_t j = 0; j < n; j++) {
            codes[i][j] = oct_f32_to_e4m3(oct_f16_to_f32(x[j]) / scales[i]);
        }
        weight->dtype = OCT_F8_E4M3;
        weight->data = codes[i];
        model_add(&file, oct_arena_print(&file.arena, "%s.weight_scale", layer), OCT_F32, 0, NULL,
                  i == 2 ? &told : &scales[i]);
    }
    model_save(&file, model_path("split.safetensors"));
    model_deinit(&file);
    for (int i = 0; i < 3; i++) free(codes[i]);
    open_file(&p->file, model_path("split.safetensors"));
    oct_dialects_detect(&p->dialects, &p->file.source);
}

static void parts_have_scales_of_their_own(void)
{
    const float scales[3] = {0.0004f, 0.0005f, 0.0007f};
    pair p;
    split_layer(&p, scales, scales[2]);
    CHECK(p.dialects.of[OCT_DENOISER] == OCT_DIALECT_DIFFUSERS);
    oct_stored_layer stored;
    uint64_t run;
    const oct_layer *qkv = oct_denoiser_find(&p.file.denoiser, "joint_blocks.0.x_block.attn.qkv");
    CHECK(oct_stored_layer_read(&stored, &p.file.source, &p.dialects, qkv, NULL) == OCT_OK);
    CHECK(stored.n_parts == 3 && stored.whole.is_fp8);
    const uint64_t n = oct_stored_layer_scales(&stored, qkv, &run);
    CHECK(n == qkv->out_features && run == qkv->in_features);
    float *rows = malloc(n * sizeof *rows);
    CHECK(oct_stored_layer_read_scales(&stored, qkv, rows, NULL) == OCT_OK);
    for (uint64_t i = 0; i < n; i++) CHECK(rows[i] == scales[i / (n / 3)]);
    free(rows);
    measure(&p, 25);
    CHECK(p.findings.count == 0);
    CHECK(p.drift.n_layers == 1);
    end(&p);
    split_layer(&p, scales, 0.0008f);  // v's codes are of another scale than the file says
    measure(&p, -INFINITY);
    CHECK(p.findings.count == 2);
    CHECK(strstr(p.findings.items[0].text, "codes are not the source's"));
    end(&p);
}

int main(void)
{
    RUN(numbers_are_those_of_the_formula);
    RUN(numbers_do_not_depend_on_threads);
    RUN(wrong_codes_are_counted_and_the_first_is_named);
    RUN(parts_have_scales_of_their_own);
    return test_end();
}
