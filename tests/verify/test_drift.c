// SPDX-License-Identifier: Apache-2.0
//
// Drift against the source, compared with the formula itself in one loop.
#include "verify/drift.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "common/number.h"
#include "tests/ptq/denoiser.h"

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

int main(void)
{
    RUN(numbers_are_those_of_the_formula);
    RUN(numbers_do_not_depend_on_threads);
    RUN(wrong_codes_are_counted_and_the_first_is_named);
    return test_end();
}
