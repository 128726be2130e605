// SPDX-License-Identifier: Apache-2.0
//
// The pocket world: scenes of coloured shapes, their captions, and the pictures that satisfy them.
//
// datasets/pocket/train/README.md, "The world", is the specification; this is its second
// implementation, for tests. Pictures are the same bytes as those of the generator there.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "runtime/image.h"
#include "tests/pocket/stamp.h"

#define POCKET_SIDE        128  // of a picture, in pixels
#define POCKET_GROUPS_MAX  2
#define POCKET_COUNT_MAX   4
#define POCKET_CAPTION_MAX 160  // bytes, the final NUL included

typedef enum pocket_color {
    POCKET_RED, POCKET_GREEN, POCKET_BLUE, POCKET_YELLOW, POCKET_ORANGE, POCKET_PURPLE,
    POCKET_BLACK, POCKET_WHITE,
    POCKET_GRAY,  // of backgrounds only
    POCKET_COLORS,
} pocket_color;

typedef enum pocket_size {
    POCKET_SMALL, POCKET_MEDIUM, POCKET_LARGE, POCKET_SIZES,
} pocket_size;

typedef enum pocket_relation {
    POCKET_LEFT_OF, POCKET_RIGHT_OF, POCKET_ABOVE, POCKET_BELOW, POCKET_RELATIONS,
} pocket_relation;

typedef struct pocket_box {
    int x, y, side;
} pocket_box;

typedef struct pocket_group {
    int count;  // 1..POCKET_COUNT_MAX
    pocket_size size;
    bool names_size;  // otherwise the caption leaves it open
    pocket_fill fill;
    pocket_color color;
    pocket_shape shape;
    pocket_box boxes[POCKET_COUNT_MAX];
} pocket_group;

typedef struct pocket_scene {
    pocket_color background;
    size_t n_groups;           // 1..POCKET_GROUPS_MAX
    pocket_relation relation;  // of the first group to the second
    pocket_group groups[POCKET_GROUPS_MAX];
} pocket_scene;

extern const uint8_t pocket_palette[POCKET_COLORS][3];
extern const int pocket_sides[POCKET_SIZES];  // of a shape's box, in pixels
extern const char *const pocket_color_names[POCKET_COLORS];
extern const char *const pocket_size_names[POCKET_SIZES];
extern const char *const pocket_shape_names[POCKET_SHAPES];
extern const char *const pocket_fill_names[POCKET_FILLS];
extern const char *const pocket_relation_names[POCKET_RELATIONS];

// Read a caption; boxes, and sizes that it leaves open, stay 0. OCT_EFORMAT when it is not of the
// grammar in every letter: "'pink' is not a color".
oct_status pocket_caption_parse(pocket_scene *scene, const char *caption, oct_err *err);

// Write the caption of a scene.
void pocket_caption_print(const pocket_scene *scene, char caption[POCKET_CAPTION_MAX]);

// A scene with places, as often of each kind as the README says. `state` is any number; it moves
// on, so that the next call gives another scene.
void pocket_scene_draw(pocket_scene *scene, uint64_t *state);

// A number from 0 to n - 1, n > 0.
uint64_t pocket_random(uint64_t *state, uint64_t n);

// Paint a scene that has places into a picture of POCKET_SIDE squared. The stamps must reach 40.
void pocket_scene_render(const pocket_scene *scene, const pocket_stamps *stamps, oct_image *image);
