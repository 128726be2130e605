// SPDX-License-Identifier: Apache-2.0
//
// Stamps: how much of each pixel a shape of the pocket world covers.
//
// Every shape is drawn in a square box. Coverage is 1 inside, 0 outside, and between them over the
// pixel that the outline crosses. Stripes and dots are holes in the part behind an outline of 2
// pixels; their pattern is anchored at the picture's corner, not at the shape.
#pragma once

#include <stddef.h>

#include "common/status.h"

typedef enum pocket_shape {
    POCKET_CIRCLE, POCKET_SQUARE, POCKET_TRIANGLE, POCKET_DIAMOND, POCKET_STAR, POCKET_CROSS,
    POCKET_SHAPES,
} pocket_shape;

typedef enum pocket_fill {
    POCKET_PLAIN, POCKET_STRIPED, POCKET_DOTTED, POCKET_FILLS,
} pocket_fill;

#define POCKET_PERIOD 8  // of stripes and dots, in pixels

typedef struct pocket_stamp {
    int left, top, right, bottom;  // of the pixels that are covered by half or more, in the box
    const double *cover;           // [side][side], of the whole shape
    const double *inner;           // [side][side], of the part behind the outline
} pocket_stamp;

typedef struct pocket_stamps {
    int side_min, side_max;
    pocket_stamp *stamps;  // owned, [side_max - side_min + 1][POCKET_SHAPES]
    double *pixels;        // owned
    // How much of a pixel is hole: of (x, y) at [y % POCKET_PERIOD][x % POCKET_PERIOD].
    double holes[POCKET_FILLS][POCKET_PERIOD][POCKET_PERIOD];
} pocket_stamps;

// Make the stamps of all shapes for boxes of side_min to side_max pixels, 1 <= side_min <= side_max.
oct_status pocket_stamps_init(pocket_stamps *stamps, int side_min, int side_max, oct_err *err);
void pocket_stamps_deinit(pocket_stamps *stamps);  // fine on a zeroed one

const pocket_stamp *pocket_stamps_get(const pocket_stamps *stamps, pocket_shape shape, int side);
