// SPDX-License-Identifier: Apache-2.0
//
// Signed distances to outlines, and coverage from them.
#include "tests/pocket/stamp.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define CORNERS_MAX 12
#define OUTLINE 2.0
#define HOLE_RADIUS 2.5
#define CROSS_BAR 0.35  // half a bar's width, of the radius
#define STAR_INNER 0.5  // of the radius
#define PI 3.14159265358979323846

typedef struct point {
    double x, y;
} point;

static int star_corners(point *corners, double r)
{
    for (int k = 0; k < 10; k++) {
        const double angle = (36 * k - 90) * (PI / 180);
        const double reach = k % 2 ? 1 - STAR_INNER : 1;
        corners[k] = (point){cos(angle) * r * reach, sin(angle) * r * reach};
    }
    return 10;
}

static int cross_corners(point *corners, double r)
{
    const double q = CROSS_BAR * r;
    const point bars[CORNERS_MAX] = {{-q, -r}, {q, -r}, {q, -q}, {r, -q}, {r, q},   {q, q},
                                     {q, r},   {-q, r}, {-q, q}, {-r, q}, {-r, -q}, {-q, -q}};
    for (int i = 0; i < CORNERS_MAX; i++) corners[i] = bars[i];
    return CORNERS_MAX;
}

// The polygon around the origin, y down; a circle has no corners.
static int shape_corners(pocket_shape shape, double r, point corners[CORNERS_MAX])
{
    const point square[] = {{-r, -r}, {r, -r}, {r, r}, {-r, r}};
    const point triangle[] = {{0, -r}, {r, r}, {-r, r}};
    const point diamond[] = {{0, -r}, {r, 0}, {0, r}, {-r, 0}};

    if (shape == POCKET_STAR) return star_corners(corners, r);
    if (shape == POCKET_CROSS) return cross_corners(corners, r);
    if (shape == POCKET_CIRCLE) return 0;
    const int count = shape == POCKET_TRIANGLE ? 3 : 4;
    const point *from = shape == POCKET_SQUARE     ? square
                        : shape == POCKET_TRIANGLE ? triangle
                                                   : diamond;
    for (int i = 0; i < count; i++) corners[i] = from[i];
    return count;
}

static double distance_to_edge(point p, point a, point b)
{
    const double ex = b.x - a.x, ey = b.y - a.y;
    const double along = ((p.x - a.x) * ex + (p.y - a.y) * ey) / (ex * ex + ey * ey);
    const double t = fmin(fmax(along, 0), 1);
    return hypot(p.x - a.x - t * ex, p.y - a.y - t * ey);
}

static bool is_left_of_edge(point p, point a, point b)
{
    if ((a.y > p.y) == (b.y > p.y)) return false;
    return p.x < a.x + (p.y - a.y) * (b.x - a.x) / (b.y - a.y);
}

// Negative inside.
static double distance_to_outline(const point *corners, int n_corners, double r, point p)
{
    double nearest = INFINITY;
    bool is_inside = false;

    if (n_corners == 0) return hypot(p.x, p.y) - r;
    for (int i = 0; i < n_corners; i++) {
        const point a = corners[i], b = corners[(i + 1) % n_corners];
        nearest = fmin(nearest, distance_to_edge(p, a, b));
        if (is_left_of_edge(p, a, b)) is_inside = !is_inside;
    }
    return is_inside ? -nearest : nearest;
}

static double clamp(double value)
{
    return fmin(fmax(value, 0), 1);
}

// How much of pixel (x, y) of a period is hole.
static double hole_at(pocket_fill fill, int x, int y)
{
    const double middle = POCKET_PERIOD / 2.0;
    const double dx = x + 0.5 - middle, dy = y + 0.5 - middle;

    if (fill == POCKET_PLAIN) return 0;
    if (fill == POCKET_STRIPED) return dy >= 0;
    return clamp(0.5 + HOLE_RADIUS - hypot(dx, dy));
}

static void note_pixel(pocket_stamp *stamp, int x, int y)
{
    if (x < stamp->left) stamp->left = x;
    if (y < stamp->top) stamp->top = y;
    if (x > stamp->right) stamp->right = x;
    if (y > stamp->bottom) stamp->bottom = y;
}

static void cut_stamp(pocket_stamp *stamp, pocket_shape shape, int side, double *pixels)
{
    const double r = side / 2.0;
    double *cover = pixels, *inner = pixels + side * side;
    point corners[CORNERS_MAX];
    const int n_corners = shape_corners(shape, r, corners);

    *stamp = (pocket_stamp){side, side, -1, -1, cover, inner};
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side; x++) {
            const point p = {x + 0.5 - r, y + 0.5 - r};
            const double d = distance_to_outline(corners, n_corners, r, p);
            cover[y * side + x] = clamp(0.5 - d);
            inner[y * side + x] = clamp(0.5 - (d + OUTLINE));
            if (d <= 0) note_pixel(stamp, x, y);
        }
    }
}

oct_status pocket_stamps_init(pocket_stamps *stamps, int side_min, int side_max, oct_err *err)
{
    const size_t sides = (size_t)(side_max - side_min + 1);
    size_t n_pixels = 0;

    assert(side_min >= 1 && side_min <= side_max);
    for (int side = side_min; side <= side_max; side++) n_pixels += (size_t)(side * side);
    *stamps = (pocket_stamps){.side_min = side_min, .side_max = side_max};
    stamps->stamps = calloc(sides * POCKET_SHAPES, sizeof *stamps->stamps);
    stamps->pixels = calloc(n_pixels * POCKET_SHAPES * 2, sizeof *stamps->pixels);
    if (!stamps->stamps || !stamps->pixels) {
        pocket_stamps_deinit(stamps);
        return oct_fail(err, OCT_ENOMEM, "out of memory for %zu stamps", sides * POCKET_SHAPES);
    }
    for (int i = 0; i < POCKET_FILLS * POCKET_PERIOD * POCKET_PERIOD; i++) {
        const int x = i % POCKET_PERIOD, y = i / POCKET_PERIOD % POCKET_PERIOD;
        const pocket_fill fill = (pocket_fill)(i / (POCKET_PERIOD * POCKET_PERIOD));
        stamps->holes[fill][y][x] = hole_at(fill, x, y);
    }
    pocket_stamp *stamp = stamps->stamps;
    double *pixels = stamps->pixels;
    for (int side = side_min; side <= side_max; side++) {
        for (pocket_shape shape = 0; shape < POCKET_SHAPES; shape++) {
            cut_stamp(stamp++, shape, side, pixels);
            pixels += 2 * side * side;
        }
    }
    return OCT_OK;
}

void pocket_stamps_deinit(pocket_stamps *stamps)
{
    free(stamps->stamps);
    free(stamps->pixels);
    *stamps = (pocket_stamps){0};
}

const pocket_stamp *pocket_stamps_get(const pocket_stamps *stamps, pocket_shape shape, int side)
{
    assert(side >= stamps->side_min && side <= stamps->side_max);
    return &stamps->stamps[(side - stamps->side_min) * POCKET_SHAPES + (int)shape];
}
