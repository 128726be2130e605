// SPDX-License-Identifier: Apache-2.0
//
// Pictures: 8-bit sRGB, [height][width][3], and PNG files.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef struct oct_image {
    size_t width, height;
    uint8_t *rgb;  // owned
} oct_image;

typedef struct oct_image_text {  // a PNG tEXt / iTXt entry
    const char *key, *value;     // value: UTF-8
} oct_image_text;

oct_status oct_image_init(oct_image *image, size_t width, size_t height, oct_err *err);
void oct_image_deinit(oct_image *image);

// planar: [3][height][width], -1..1: clamp, round to nearest (even) of 255 (x + 1) / 2.
void oct_image_from_planar(oct_image *image, const float *planar);

// Written atomically. Deterministic bytes for equal pictures and texts.
oct_status oct_image_save_png(const oct_image *image, const char *path,
                              const oct_image_text *texts, size_t n_texts, oct_err *err);

// The same into memory (malloc'ed), for reports.
oct_status oct_image_encode_png(const oct_image *image, uint8_t **data, size_t *bytes,
                                oct_err *err);

// Any PNG becomes 8-bit RGB: palettes and grey are widened, alpha and 16 bits refused.
oct_status oct_image_load_png(oct_image *image, const char *path, oct_err *err);
