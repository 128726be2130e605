// SPDX-License-Identifier: Apache-2.0
//
// A denoiser of any size, opened, for tests of what is built on it.
#pragma once

#include "ptq/layers.h"
#include "tests/ptq/model.h"
#include "tests/test.h"

typedef struct opened_denoiser {
    oct_source source;
    oct_denoiser denoiser;
} opened_denoiser;

static inline void open_file(opened_denoiser *model, const char *path)
{
    oct_err err = {0};
    const oct_model_paths paths = {.model = path};

    CHECK(oct_source_open(&model->source, &paths, &err) == OCT_OK);
    CHECK(oct_denoiser_init(&model->denoiser, &model->source, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static inline void open_denoiser(opened_denoiser *model, const model_spec *spec)
{
    model_file file = {0};
    const char *path = model_path("denoiser.safetensors");

    model_add_sai(&file, spec, "");
    model_save(&file, path);
    model_deinit(&file);
    open_file(model, path);
}

static inline void close_denoiser(opened_denoiser *model)
{
    oct_denoiser_deinit(&model->denoiser);
    oct_source_close(&model->source);
}
