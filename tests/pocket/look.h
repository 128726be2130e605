// SPDX-License-Identifier: Apache-2.0
//
// Looking: what a picture of the pocket world shows, without knowing its caption.
//
// The background is the colour of most pixels. What differs from it falls into patches: pixels that
// touch, or lie one above the other across at most a stripe's gap. A patch has the colour of its
// pixels farthest from the background, so that soft edges, which may look like a third colour, do
// not vote. Its coverage is compared with stamps of every shape, fill and side near its place: the
// one that correlates best says what it is, unless none correlates well. Stamps are sharp or blurred
// by up to 2 pixels, and those of a side that the world does not have must correlate better to win.
//
// Made for pictures as a trained model paints them: soft, a little noisy, colours a little off.
#pragma once

#include "tests/pocket/scene.h"

#define POCKET_PATCHES_MAX 64

typedef struct pocket_patch {
    pocket_color color;
    bool is_clear;      // it looks like a shape; otherwise shape, fill, size and box mean nothing
    double likeness;    // correlation with the best stamp, at most 1, less what its side costs
    pocket_shape shape;
    pocket_fill fill;   // plain for small shapes, as in the world
    pocket_size size;   // the class whose side is nearest
    pocket_box box;
    int left, top, right, bottom;  // its outermost pixels
} pocket_patch;

typedef struct pocket_view {
    bool has_background;      // most pixels have one colour of the palette
    pocket_color background;
    size_t n_patches;         // 0 without a background; more than the maximum are not listed
    pocket_patch patches[POCKET_PATCHES_MAX];
} pocket_view;

// The stamps that looking needs: pocket_stamps_init(&stamps, POCKET_LOOK_SIDE_MIN, ..._MAX, err).
#define POCKET_LOOK_SIDE_MIN 8
#define POCKET_LOOK_SIDE_MAX 64

// OCT_EUNSUPPORTED when the picture is not of POCKET_SIDE squared.
oct_status pocket_look(pocket_view *view, const pocket_stamps *stamps, const oct_image *image,
                       oct_err *err);
