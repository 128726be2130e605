// SPDX-License-Identifier: Apache-2.0
//
// The VAE's decoder, tile by tile. Order and blending: huggingface/diffusers, AutoencoderKL.
#include "runtime/vae_tiles.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define COLORS 3

typedef struct picture {
    oct_vae *vae;
    const float *z;        // [latent_channels][height / downscale][width / downscale]
    float *image;          // [COLORS][height][width]
    size_t height, width;  // pixels
    size_t side, stride;   // pixels of a tile, and from one to the next
} picture;

typedef struct tile {
    size_t top, left, height, width;  // pixels
    float *z;                         // of its latents
    float *pixels;                    // [COLORS][height][width]
    float *above;  // [COLORS][side - stride][side]: the end of the tile above, then of this one
} tile;

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t tiles_along(const picture *p, size_t length)
{
    return (length + p->stride - 1) / p->stride;
}

static oct_status decode_tile(const picture *p, const tile *t, oct_err *err)
{
    const size_t downscale = p->vae->downscale, wide = p->width / downscale;
    const size_t rows = t->height / downscale, cols = t->width / downscale;
    const float *z = p->z + t->top / downscale * wide + t->left / downscale;

    for (size_t channel = 0; channel < p->vae->latent_channels; channel++) {
        for (size_t row = 0; row < rows; row++) {
            memcpy(t->z + (channel * rows + row) * cols,
                   z + (channel * (p->height / downscale) + row) * wide, cols * sizeof *z);
        }
    }
    return oct_vae_decode(p->vae, t->z, rows, cols, t->pixels, err);
}

static float mix(float from, float to, size_t at, size_t count)
{
    const float share = (float)at / (float)count;
    return from * (1 - share) + to * share;
}

static void blend_with_above(const picture *p, const tile *t)
{
    const size_t overlap = p->side - p->stride, rows = min(overlap, t->height);

    for (size_t color = 0; color < COLORS; color++) {
        for (size_t row = 0; row < rows; row++) {
            const float *from = t->above + (color * overlap + row) * p->side;
            float *to = t->pixels + (color * t->height + row) * t->width;
            for (size_t col = 0; col < t->width; col++) {
                to[col] = mix(from[col], to[col], row, rows);
            }
        }
    }
}

static float *row_in_image(const picture *p, const tile *t, size_t color, size_t row)
{
    return p->image + (color * p->height + t->top + row) * p->width + t->left;
}

// The tile on the left still stands in the picture as far as it reaches.
static void blend_with_left(const picture *p, const tile *t)
{
    const size_t cols = min(p->side - p->stride, t->width);

    for (size_t color = 0; color < COLORS; color++) {
        for (size_t row = 0; row < t->height; row++) {
            const float *from = row_in_image(p, t, color, row);
            float *to = t->pixels + (color * t->height + row) * t->width;
            for (size_t col = 0; col < cols; col++) {
                to[col] = mix(from[col], to[col], col, cols);
            }
        }
    }
}

static void keep_end(const picture *p, const tile *t)
{
    const size_t overlap = p->side - p->stride;

    for (size_t color = 0; color < COLORS; color++) {
        for (size_t row = p->stride; row < t->height; row++) {
            memcpy(t->above + (color * overlap + row - p->stride) * p->side,
                   t->pixels + (color * t->height + row) * t->width, t->width * sizeof *t->pixels);
        }
    }
}

static void put(const picture *p, const tile *t)
{
    for (size_t color = 0; color < COLORS; color++) {
        for (size_t row = 0; row < t->height; row++) {
            memcpy(row_in_image(p, t, color, row), t->pixels + (color * t->height + row) * t->width,
                   t->width * sizeof *t->pixels);
        }
    }
}

// z, pixels: room for one tile. ends: [tiles_along(width)][COLORS][side - stride][side].
static oct_status decode_all(const picture *p, float *z, float *pixels, float *ends, oct_err *err)
{
    const size_t end_floats = COLORS * (p->side - p->stride) * p->side;
    oct_status st = OCT_OK;

    for (size_t top = 0; top < p->height && !st; top += p->stride) {
        for (size_t left = 0; left < p->width && !st; left += p->stride) {
            const tile t = {
                .top = top,
                .left = left,
                .height = min(p->side, p->height - top),
                .width = min(p->side, p->width - left),
                .z = z,
                .pixels = pixels,
                .above = ends + left / p->stride * end_floats,
            };
            st = decode_tile(p, &t, err);
            if (st) break;
            if (top > 0) blend_with_above(p, &t);
            if (left > 0) blend_with_left(p, &t);
            keep_end(p, &t);
            put(p, &t);
        }
    }
    return st;
}

oct_status oct_vae_decode_tiled(oct_vae *vae, const float *z, size_t height, size_t width,
                                size_t side, float *image, oct_err *err)
{
    assert(side > 0 && side % 4 == 0);
    if (height <= side && width <= side) return oct_vae_decode(vae, z, height, width, image, err);

    const picture p = {
        .vae = vae,
        .z = z,
        .image = image,
        .height = height * vae->downscale,
        .width = width * vae->downscale,
        .side = side * vae->downscale,
        .stride = side / 4 * 3 * vae->downscale,
    };
    const size_t end_floats = COLORS * (p.side - p.stride) * p.side;
    oct_status st = OCT_OK;
    float *latents = malloc(vae->latent_channels * side * side * sizeof *latents);
    float *pixels = malloc(COLORS * p.side * p.side * sizeof *pixels);
    float *ends = malloc(tiles_along(&p, p.width) * end_floats * sizeof *ends);

    if (latents && pixels && ends)
        st = decode_all(&p, latents, pixels, ends, err);
    else
        st = oct_fail(err, OCT_ENOMEM, "out of memory for tiles of %zux%zu pixels", p.side, p.side);
    free(latents);
    free(pixels);
    free(ends);
    return st;
}
