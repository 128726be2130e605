// SPDX-License-Identifier: Apache-2.0
//
// Keeping what each step leaves.
#include "render/steps.h"

#include <stdio.h>

#include "common/arena.h"
#include "common/safetensors.h"
#include "render/preview.h"

static oct_status save_latent(const oct_step_saver *saver, const char *path, size_t step,
                              float sigma, const float *latent, oct_err *err)
{
    const uint64_t shape[] = {saver->channels, saver->height, saver->width};
    const uint64_t bytes = shape[0] * shape[1] * shape[2] * sizeof *latent;
    oct_st_writer writer = {0};
    char text[32];

    oct_st_writer_add(&writer, "latent", OCT_F32, 3, shape);
    snprintf(text, sizeof text, "%zu", step + 1);
    oct_st_writer_add_meta(&writer, "step", text);
    snprintf(text, sizeof text, "%.9g", sigma);
    oct_st_writer_add_meta(&writer, "sigma", text);

    oct_status st = oct_st_writer_begin(&writer, path, err);
    if (!st) {
        st = oct_st_writer_write(&writer, oct_st_writer_find(&writer, "latent"), 0, latent, bytes,
                                 err);
    }
    if (!st) st = oct_st_writer_commit(&writer, err);
    oct_st_writer_deinit(&writer);
    return st;
}

static oct_status save_preview(const oct_step_saver *saver, const char *path, const float *latent,
                               oct_err *err)
{
    oct_image image = {0};
    oct_status st = oct_preview(&image, latent, saver->width, saver->height, err);
    if (!st) st = oct_image_save_png(&image, path, NULL, 0, err);
    oct_image_deinit(&image);
    return st;
}

oct_status oct_step_save(const oct_step_saver *saver, size_t step, float sigma, const float *latent,
                         oct_err *err)
{
    oct_arena arena = {0};
    const char *stem = oct_arena_print(&arena, "%s/%04zu", saver->folder, step + 1);

    oct_status st = save_latent(saver, oct_arena_print(&arena, "%s.safetensors", stem), step, sigma,
                                latent, err);
    if (!st && saver->channels == OCT_PREVIEW_CHANNELS) {
        st = save_preview(saver, oct_arena_print(&arena, "%s.png", stem), latent, err);
    }
    oct_arena_deinit(&arena);
    return st;
}
