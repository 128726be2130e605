// SPDX-License-Identifier: Apache-2.0
//
// Drawing scenes by chance, giving shapes their places, and painting them.
#include "tests/pocket/scene.h"

#include <assert.h>
#include <math.h>

#define MARGIN 4  // between a picture's border and any box
#define GAP 8     // between boxes
#define GRID 4    // boxes begin at multiples of it
#define FREE (POCKET_SIDE - 2 * MARGIN)

const uint8_t pocket_palette[POCKET_COLORS][3] = {
    {205, 30, 40},  {30, 150, 60}, {40, 70, 215},   {250, 220, 60},  {250, 135, 20},
    {140, 50, 170}, {20, 20, 20},  {250, 250, 250}, {160, 160, 160},
};
const int pocket_sides[POCKET_SIZES] = {16, 28, 40};

uint64_t pocket_random(uint64_t *state, uint64_t n)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;  // splitmix64

    assert(n > 0);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % n;
}

// An index, each as often as its weight says.
static int draw_weighted(uint64_t *state, const int *weights, int count)
{
    int total = 0;

    for (int i = 0; i < count; i++) total += weights[i];
    int at = (int)pocket_random(state, (uint64_t)total);
    for (int i = 0; i < count; i++) {
        at -= weights[i];
        if (at < 0) return i;
    }
    return count - 1;
}

// A colour of shapes that is neither of the two; POCKET_COLORS stands for none.
static pocket_color draw_color(uint64_t *state, pocket_color taken, pocket_color taken_too)
{
    for (;;) {
        const pocket_color color = (pocket_color)pocket_random(state, POCKET_GRAY);
        if (color != taken && color != taken_too) return color;
    }
}

static void draw_group(pocket_group *group, uint64_t *state)
{
    static const int count_weights[POCKET_COUNT_MAX] = {4, 3, 2, 2};
    static const int fill_weights[POCKET_FILLS] = {2, 1, 1};

    group->count = 1 + draw_weighted(state, count_weights, POCKET_COUNT_MAX);
    group->size = (pocket_size)pocket_random(state, POCKET_SIZES);
    group->names_size = pocket_random(state, 4) < 3;
    group->fill = POCKET_PLAIN;
    if (group->size != POCKET_SMALL) {
        group->fill = (pocket_fill)draw_weighted(state, fill_weights, POCKET_FILLS);
    }
    group->shape = (pocket_shape)pocket_random(state, POCKET_SHAPES);
}

typedef struct group_block {  // the boxes of one group, from the block's corner
    pocket_box boxes[POCKET_COUNT_MAX];
    int width, height;
} group_block;

static group_block arrange_group(const pocket_group *group, bool is_column)
{
    const int side = pocket_sides[group->size], pitch = side + GAP;
    const bool is_square = group->count == 4 || group->count * pitch - GAP > FREE;
    group_block b = {.width = 0};

    for (int i = 0; i < group->count; i++) {
        const int column = is_square ? i % 2 : is_column ? 0 : i;
        const int row = is_square ? i / 2 : is_column ? i : 0;
        b.boxes[i] = (pocket_box){column * pitch, row * pitch, side};
        if (column * pitch + side > b.width) b.width = column * pitch + side;
        if (row * pitch + side > b.height) b.height = row * pitch + side;
    }
    return b;
}

static int draw_offset(uint64_t *state, int room)
{
    return (int)pocket_random(state, (uint64_t)(room / GRID + 1)) * GRID;
}

// Put a block `along` pixels into the direction of the relation, anywhere across it.
static void put_block(pocket_group *group, const group_block *b, int along, bool is_side_by_side,
                      uint64_t *state)
{
    const int across = draw_offset(state, FREE - (is_side_by_side ? b->height : b->width));
    const int x = MARGIN + (is_side_by_side ? along : across);
    const int y = MARGIN + (is_side_by_side ? across : along);

    for (int i = 0; i < group->count; i++) {
        group->boxes[i] = (pocket_box){x + b->boxes[i].x, y + b->boxes[i].y, b->boxes[i].side};
    }
}

// Give every group its boxes; false when they do not fit.
static bool place_groups(pocket_scene *scene, uint64_t *state)
{
    const bool is_pair = scene->n_groups == 2;
    const bool is_side_by_side =
        is_pair ? scene->relation <= POCKET_RIGHT_OF : pocket_random(state, 2) == 0;
    const bool is_swapped =
        is_pair && (scene->relation == POCKET_RIGHT_OF || scene->relation == POCKET_BELOW);
    group_block blocks[POCKET_GROUPS_MAX];
    int lengths[POCKET_GROUPS_MAX] = {0};

    for (size_t i = 0; i < scene->n_groups; i++) {
        blocks[i] = arrange_group(&scene->groups[i], is_side_by_side);
        lengths[i] = is_side_by_side ? blocks[i].width : blocks[i].height;
    }
    const int slack = FREE - lengths[0] - lengths[1] - (is_pair ? GAP : 0);
    if (slack < 0) return false;

    const size_t first = is_swapped ? 1 : 0;
    const int cut_a = draw_offset(state, slack),
              cut_b = is_pair ? draw_offset(state, slack) : cut_a;
    const int near = cut_a < cut_b ? cut_a : cut_b, far = cut_a < cut_b ? cut_b : cut_a;
    put_block(&scene->groups[first], &blocks[first], near, is_side_by_side, state);
    if (is_pair) {
        put_block(&scene->groups[1 - first], &blocks[1 - first], far + lengths[first] + GAP,
                  is_side_by_side, state);
    }
    return true;
}

void pocket_scene_draw(pocket_scene *scene, uint64_t *state)
{
    do {
        *scene = (pocket_scene){.background = POCKET_GRAY, .n_groups = 1};
        if (pocket_random(state, 5) < 3) {
            scene->background = draw_color(state, POCKET_COLORS, POCKET_COLORS);
        }
        draw_group(&scene->groups[0], state);
        scene->groups[0].color = draw_color(state, scene->background, POCKET_COLORS);
        if (pocket_random(state, 20) < 11) {
            scene->n_groups = 2;
            draw_group(&scene->groups[1], state);
            scene->groups[1].color = draw_color(state, scene->background, scene->groups[0].color);
            scene->relation = (pocket_relation)pocket_random(state, POCKET_RELATIONS);
        }
    } while (!place_groups(scene, state));
}

static void paint_box(const pocket_group *group, const pocket_box *box, const uint8_t *background,
                      const pocket_stamps *stamps, oct_image *image)
{
    const pocket_stamp *stamp = pocket_stamps_get(stamps, group->shape, box->side);
    const uint8_t *color = pocket_palette[group->color];

    for (int y = 0; y < box->side; y++) {
        for (int x = 0; x < box->side; x++) {
            const int at = y * box->side + x, px = box->x + x, py = box->y + y;
            const double hole = stamps->holes[group->fill][py % POCKET_PERIOD][px % POCKET_PERIOD];
            const double cover = stamp->cover[at] * (1 - stamp->inner[at] * hole);
            uint8_t *pixel = &image->rgb[3 * (py * POCKET_SIDE + px)];
            for (int c = 0; c < 3; c++) {
                pixel[c] = (uint8_t)rint(background[c] + cover * (color[c] - background[c]));
            }
        }
    }
}

void pocket_scene_render(const pocket_scene *scene, const pocket_stamps *stamps, oct_image *image)
{
    const uint8_t *background = pocket_palette[scene->background];

    assert(image->width == POCKET_SIDE && image->height == POCKET_SIDE);
    for (size_t i = 0; i < POCKET_SIDE * POCKET_SIDE; i++) {
        for (int c = 0; c < 3; c++) image->rgb[3 * i + (size_t)c] = background[c];
    }
    for (size_t i = 0; i < scene->n_groups; i++) {
        const pocket_group *group = &scene->groups[i];
        for (int k = 0; k < group->count; k++) {
            paint_box(group, &group->boxes[k], background, stamps, image);
        }
    }
}
