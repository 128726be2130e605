// SPDX-License-Identifier: Apache-2.0
//
// FLUX.1, LTX-Video and T5 checkpoints of any size for tests: shapes alone, in BF16. Their names
// are spelled here a second time.
#pragma once

#include "tests/ptq/model.h"

typedef struct flux_spec {
    uint64_t heads;  // of 128
    int doubles, singles;
    bool has_guidance;
    uint64_t channels_in, context, pooled;
} flux_spec;

typedef struct ltx_spec {
    uint64_t hidden, cross, context;
    int depth;
} ltx_spec;

typedef struct t5_spec {
    uint64_t hidden, inner, mlp, heads, vocabulary;
    int depth;
} t5_spec;

extern const flux_spec flux_dev, flux_schnell, flux_fill, flux_tiny;
extern const ltx_spec ltx_2b, ltx_13b, ltx_tiny;
extern const t5_spec t5_xxl, t5_tiny;

void model_add_flux(model_file *file, const flux_spec *spec, const char *prefix);
void model_add_flux_diffusers(model_file *file, const flux_spec *spec);
void model_add_ltx(model_file *file, const ltx_spec *spec, const char *prefix);
void model_add_ltx_diffusers(model_file *file, const ltx_spec *spec);
void model_add_t5(model_file *file, const t5_spec *spec, const char *prefix);
