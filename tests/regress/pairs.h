// SPDX-License-Identifier: Apache-2.0
//
// Pictures made from integer formulas, on which the metrics of other programs are known.
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "runtime/image.h"

typedef enum pair_kind {
    PAIR_REFERENCE,
    PAIR_NOISE,
    PAIR_BLUR,
    PAIR_POST,
    PAIR_BRIGHT,
    PAIR_ONE
} pair_kind;

enum { PAIR_WIDTH = 256, PAIR_HEIGHT = 192, PAIR_BYTES = PAIR_WIDTH * PAIR_HEIGHT * 3 };

static const char *const pair_sha256[] = {
    // the first 16 digits
    "7826adac0ef57b82", "3578aa38645438b1", "33bb6bfc44129f66",
    "18ab259438cd513a", "2d200163f7d32976", "0b7889072139125f",
};

static inline uint8_t pair_clamp(int value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static inline void pair_reference(uint8_t *rgb)
{
    for (int y = 0; y < PAIR_HEIGHT; y++) {
        for (int x = 0; x < PAIR_WIDTH; x++) {
            int r = x * 255 / 255, g = y * 255 / 191, b = ((x * x + y * y) / 64) & 255;
            if ((x / 16 + y / 16) & 1) r = 255 - r;
            if ((x - 128) * (x - 128) + (y - 96) * (y - 96) < 2304) {
                r = 200 + x % 7 * 3;
                g = 40 + y % 5 * 6;
                b = 90;
            }
            uint8_t *p = rgb + (y * PAIR_WIDTH + x) * 3;
            p[0] = (uint8_t)r;
            p[1] = (uint8_t)g;
            p[2] = (uint8_t)b;
        }
    }
}

static inline int pair_edge(int at, int size)
{
    return at < 0 ? 0 : at >= size ? size - 1 : at;
}

static inline uint8_t pair_mean9(const uint8_t *rgb, int x, int y, int c)
{
    int sum = 0;
    for (int dy = -1; dy <= 1; dy++) {
        for (int dx = -1; dx <= 1; dx++) {
            const int at_x = pair_edge(x + dx, PAIR_WIDTH), at_y = pair_edge(y + dy, PAIR_HEIGHT);
            sum += rgb[(at_y * PAIR_WIDTH + at_x) * 3 + c];
        }
    }
    return (uint8_t)(sum / 9);
}

static inline uint8_t pair_sample(pair_kind kind, const uint8_t *reference, int i, uint32_t *lcg)
{
    const int pixel = i / 3, value = reference[i];
    switch (kind) {
    case PAIR_NOISE:
        *lcg = *lcg * 1664525u + 1013904223u;
        return pair_clamp(value + (int)((*lcg >> 24) % 17) - 8);
    case PAIR_BLUR:
        return pair_mean9(reference, pixel % PAIR_WIDTH, pixel / PAIR_WIDTH, i % 3);
    case PAIR_POST:
        return (uint8_t)((value & 0xf0) | value >> 4);
    case PAIR_BRIGHT:
        return pair_clamp(value + 10);
    case PAIR_ONE:
        return pixel == 96 * PAIR_WIDTH + 128 ? 255 : (uint8_t)value;
    default:
        return (uint8_t)value;
    }
}

// Free with oct_image_deinit().
static inline oct_image pair_image(pair_kind kind)
{
    oct_image image = {PAIR_WIDTH, PAIR_HEIGHT, malloc(PAIR_BYTES)};
    uint8_t *reference = malloc(PAIR_BYTES);
    uint32_t lcg = 12345;

    pair_reference(reference);
    for (int i = 0; i < PAIR_BYTES; i++) image.rgb[i] = pair_sample(kind, reference, i, &lcg);
    free(reference);
    return image;
}

static inline bool pair_is_as_pinned(const oct_image *image, pair_kind kind)
{
    char hex[OCT_SHA256_HEX];
    oct_sha256_of(image->rgb, PAIR_BYTES, hex);
    return strncmp(hex, pair_sha256[kind], 16) == 0;
}
