// SPDX-License-Identifier: Apache-2.0
//
// Background, patches, and the stamp that fits each best.
#include "tests/pocket/look.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PIXELS (POCKET_SIDE * POCKET_SIDE)
#define NEAR_COLOR 70          // farther from every colour of the palette, a pixel has none
#define BACKGROUND_SHARE 0.35  // shapes never cover more than the half
#define STRIPE_REACH 5         // rows from a stripe's last to the next one's first
#define PATCH_PIXELS 24        // fewer are a speck
#define STRONGEST 5            // the fifth of a patch that tells its colour
#define WINDOW_EDGE 4          // background around a patch that a stamp must leave bare
#define SOFTNESS_MAX 2         // pixels that a soft edge reaches to either side
#define MOULD_MAX (POCKET_LOOK_SIDE_MAX + 2 * SOFTNESS_MAX)
#define ODD_SIDE_COST 0.02  // likeness that a pixel away from the sides of the world must earn
#define LEAST_LIKENESS 0.83
#define SURE_LIKENESS 0.985  // look no further
#define FINALISTS 6          // stamps that are moved about, of POCKET_SHAPES * POCKET_FILLS

typedef struct rgb {
    double v[3];
} rgb;

typedef struct look_region {  // one patch under way
    int *pixels;              // borrowed from canvas.order
    int count;
    int left, top, right, bottom;
    rgb color;
} look_region;

typedef struct look_canvas {
    const oct_image *image;
    rgb background;
    int order[PIXELS];       // pixels, grouped by region
    int owner[PIXELS];       // region + 1, or 0
    bool is_marked[PIXELS];  // belongs to some shape
    double far[PIXELS];      // scratch
    look_region regions[POCKET_PATCHES_MAX];
    int n_regions;
} look_canvas;

typedef struct look_window {  // how much of each pixel a patch covers, around it
    int x, y, width, height;
    double cover[PIXELS];
    double sum, square_sum;
} look_window;

typedef struct look_guess {
    pocket_shape shape;
    pocket_fill fill;
    int softness;  // reach of the blur in pixels
    pocket_box box;
    double likeness;
} look_guess;

typedef struct look_mould {
    int width;  // and height
    double cover[MOULD_MAX * MOULD_MAX];
} look_mould;

static rgb pixel_at(const oct_image *image, int pixel)
{
    const uint8_t *p = &image->rgb[3 * pixel];
    return (rgb){{p[0], p[1], p[2]}};
}

static rgb palette_color(int color)
{
    const uint8_t *p = pocket_palette[color];
    return (rgb){{p[0], p[1], p[2]}};
}

static double distance_squared(rgb a, rgb b)
{
    double sum = 0;
    for (int c = 0; c < 3; c++) sum += (a.v[c] - b.v[c]) * (a.v[c] - b.v[c]);
    return sum;
}

// The nearest colour of the palette except `excluded`, and how far it is.
static int nearest_color(rgb pixel, int n_colors, int excluded, double *squared)
{
    int best = 0;

    *squared = INFINITY;
    for (int i = 0; i < n_colors; i++) {
        const double d = i == excluded ? INFINITY : distance_squared(pixel, palette_color(i));
        if (d < *squared) {
            *squared = d;
            best = i;
        }
    }
    return best;
}

static bool find_background(look_canvas *canvas, pocket_color *background)
{
    int counts[POCKET_COLORS] = {0}, most = 0;
    rgb sums[POCKET_COLORS] = {0};

    for (int i = 0; i < PIXELS; i++) {
        const rgb pixel = pixel_at(canvas->image, i);
        double squared;
        const int color = nearest_color(pixel, POCKET_COLORS, -1, &squared);
        if (squared > NEAR_COLOR * NEAR_COLOR) continue;
        counts[color]++;
        for (int c = 0; c < 3; c++) sums[color].v[c] += pixel.v[c];
    }
    for (int i = 1; i < POCKET_COLORS; i++) {
        if (counts[i] > counts[most]) most = i;
    }
    if (counts[most] < BACKGROUND_SHARE * PIXELS) return false;
    for (int c = 0; c < 3; c++) canvas->background.v[c] = sums[most].v[c] / counts[most];
    *background = (pocket_color)most;
    return true;
}

static void mark_differing(look_canvas *canvas, pocket_color background)
{
    for (int i = 0; i < PIXELS; i++) {
        const rgb pixel = pixel_at(canvas->image, i);
        double squared;
        nearest_color(pixel, POCKET_COLORS, (int)background, &squared);
        canvas->is_marked[i] = squared < distance_squared(pixel, canvas->background);
    }
}

// Take a marked pixel that belongs to nobody into the region.
static void claim_pixel(look_canvas *canvas, look_region *region, int x, int y)
{
    const int pixel = y * POCKET_SIDE + x;

    if (x < 0 || y < 0 || x >= POCKET_SIDE || y >= POCKET_SIDE) return;
    if (!canvas->is_marked[pixel] || canvas->owner[pixel]) return;
    canvas->owner[pixel] = canvas->n_regions + 1;
    region->pixels[region->count++] = pixel;
    if (x < region->left) region->left = x;
    if (y < region->top) region->top = y;
    if (x > region->right) region->right = x;
    if (y > region->bottom) region->bottom = y;
}

static void flood(look_canvas *canvas, look_region *region, int pixel)
{
    claim_pixel(canvas, region, pixel % POCKET_SIDE, pixel / POCKET_SIDE);
    for (int i = 0; i < region->count; i++) {
        const int x = region->pixels[i] % POCKET_SIDE, y = region->pixels[i] / POCKET_SIDE;
        for (int dy = -1; dy <= 1; dy++) {
            for (int dx = -1; dx <= 1; dx++) claim_pixel(canvas, region, x + dx, y + dy);
        }
        for (int dy = -STRIPE_REACH; dy <= STRIPE_REACH; dy++) {
            claim_pixel(canvas, region, x, y + dy);
        }
    }
}

static void drop_region(look_canvas *canvas, const look_region *region)
{
    for (int i = 0; i < region->count; i++) {
        canvas->owner[region->pixels[i]] = 0;
        canvas->is_marked[region->pixels[i]] = false;
    }
}

static int compare_descending(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left < right) - (left > right);
}

// The mean of the pixels farthest from the background.
static rgb strongest_color(look_canvas *canvas, const look_region *region)
{
    double *far = canvas->far;
    const int enough = (region->count + STRONGEST - 1) / STRONGEST;
    rgb sum = {{0}};
    int count = 0;

    for (int i = 0; i < region->count; i++) {
        far[i] = distance_squared(pixel_at(canvas->image, region->pixels[i]), canvas->background);
    }
    qsort(far, (size_t)region->count, sizeof *far, compare_descending);
    for (int i = 0; i < region->count; i++) {
        const rgb pixel = pixel_at(canvas->image, region->pixels[i]);
        if (distance_squared(pixel, canvas->background) < far[enough - 1]) continue;
        for (int c = 0; c < 3; c++) sum.v[c] += pixel.v[c];
        count++;
    }
    for (int c = 0; c < 3; c++) sum.v[c] /= count;
    return sum;
}

// Gather marked pixels into regions; specks are dropped.
static void find_regions(look_canvas *canvas)
{
    int n_pixels = 0;

    memset(canvas->owner, 0, sizeof canvas->owner);
    canvas->n_regions = 0;
    for (int i = 0; i < PIXELS && canvas->n_regions < POCKET_PATCHES_MAX; i++) {
        if (!canvas->is_marked[i] || canvas->owner[i]) continue;
        look_region *region = &canvas->regions[canvas->n_regions];
        *region = (look_region){
            canvas->order + n_pixels, 0, POCKET_SIDE, POCKET_SIDE, -1, -1, {{0}},
        };
        flood(canvas, region, i);
        if (region->count < PATCH_PIXELS) {
            drop_region(canvas, region);
            continue;
        }
        region->color = strongest_color(canvas, region);
        n_pixels += region->count;
        canvas->n_regions++;
    }
}

// 0 at the background's colour, 1 at the region's.
static double cover_at(const look_canvas *canvas, const look_region *region, int pixel)
{
    const rgb p = pixel_at(canvas->image, pixel), b = canvas->background;
    double along = 0, length = 0;

    for (int c = 0; c < 3; c++) {
        const double step = region->color.v[c] - b.v[c];
        along += (p.v[c] - b.v[c]) * step;
        length += step * step;
    }
    return length > 0 ? fmin(fmax(along / length, 0), 1) : 0;
}

// Keep the pixels that are covered by half or more.
static void unmark_edges(look_canvas *canvas)
{
    for (int i = 0; i < PIXELS; i++) {
        if (!canvas->owner[i]) {
            canvas->is_marked[i] = false;
        } else if (cover_at(canvas, &canvas->regions[canvas->owner[i] - 1], i) < 0.5) {
            canvas->is_marked[i] = false;
        }
    }
}

static void open_window(look_window *window, const look_canvas *canvas, int index)
{
    const look_region *region = &canvas->regions[index];
    const int left = region->left - WINDOW_EDGE, top = region->top - WINDOW_EDGE;
    const int right = region->right + WINDOW_EDGE, bottom = region->bottom + WINDOW_EDGE;

    window->x = left > 0 ? left : 0;
    window->y = top > 0 ? top : 0;
    window->width = (right < POCKET_SIDE ? right + 1 : POCKET_SIDE) - window->x;
    window->height = (bottom < POCKET_SIDE ? bottom + 1 : POCKET_SIDE) - window->y;
    window->sum = window->square_sum = 0;
    for (int i = 0; i < window->width * window->height; i++) {
        const int x = window->x + i % window->width, y = window->y + i / window->width;
        const int pixel = y * POCKET_SIDE + x, owner = canvas->owner[pixel];
        const double cover = owner && owner != index + 1 ? 0 : cover_at(canvas, region, pixel);
        window->cover[i] = cover;
        window->sum += cover;
        window->square_sum += cover * cover;
    }
}

// What the guess would look like: the stamp with its holes, and a border into which it is blurred.
static void make_mould(look_mould *mould, const pocket_stamps *stamps, const look_guess *guess)
{
    const pocket_box *box = &guess->box;
    const pocket_stamp *stamp = pocket_stamps_get(stamps, guess->shape, box->side);
    const int width = box->side + 2 * guess->softness;

    mould->width = width;
    memset(mould->cover, 0, (size_t)(width * width) * sizeof *mould->cover);
    for (int y = 0; y < box->side; y++) {
        const double *holes = stamps->holes[guess->fill][(box->y + y) % POCKET_PERIOD];
        for (int x = 0; x < box->side; x++) {
            const double hole = holes[(box->x + x) % POCKET_PERIOD];
            const int from = y * box->side + x;
            const int to = (y + guess->softness) * width + x + guess->softness;
            mould->cover[to] = stamp->cover[from] * (1 - stamp->inner[from] * hole);
        }
    }
}

// The mean over 2 reach + 1 values of a row or column, in place.
static void blur_line(double *values, int count, int stride, int reach)
{
    double old[MOULD_MAX], sum = 0;

    for (int i = 0; i < count; i++) old[i] = values[i * stride];
    for (int i = 0; i < reach; i++) sum += old[i];
    for (int i = 0; i < count; i++) {
        if (i + reach < count) sum += old[i + reach];
        values[i * stride] = sum / (2 * reach + 1);
        if (i >= reach) sum -= old[i - reach];
    }
}

static void blur_mould(look_mould *mould, int reach)
{
    const int width = mould->width;

    if (reach == 0) return;
    for (int i = 0; i < width; i++) blur_line(mould->cover + i * width, width, 1, reach);
    for (int i = 0; i < width; i++) blur_line(mould->cover + i, width, width, reach);
}

// The correlation of the window with a mould at (left, top); -1 when it sticks out.
static double correlate(const look_window *window, const look_mould *mould, int left, int top)
{
    const double n = window->width * window->height;
    double sum = 0, square_sum = 0, product_sum = 0;

    for (int y = 0; y < mould->width; y++) {
        const double *row = mould->cover + y * mould->width;
        const int wy = top + y - window->y;
        for (int x = 0; x < mould->width; x++) {
            const int wx = left + x - window->x;
            if (row[x] <= 0) continue;
            if (wx < 0 || wy < 0 || wx >= window->width || wy >= window->height) return -1;
            sum += row[x];
            square_sum += row[x] * row[x];
            product_sum += row[x] * window->cover[wy * window->width + wx];
        }
    }
    const double spread = square_sum - sum * sum / n;
    const double window_spread = window->square_sum - window->sum * window->sum / n;
    if (spread <= 0 || window_spread <= 0) return -1;
    return (product_sum - sum * window->sum / n) / sqrt(spread * window_spread);
}

static bool is_small(int side)
{
    return 2 * side < pocket_sides[POCKET_SMALL] + pocket_sides[POCKET_MEDIUM];
}

// How far a side is from the nearest of the world, one pixel not counted.
static int pixels_off(int side)
{
    int least = POCKET_SIDE;

    for (int size = 0; size < POCKET_SIZES; size++) {
        const int off = abs(side - pocket_sides[size]) - 1;
        if (off < least) least = off;
    }
    return least > 0 ? least : 0;
}

// Take the next guess when its box is allowed and it fits better.
static void try_guess(look_guess *best, look_guess next, const look_window *window,
                      const pocket_stamps *stamps)
{
    const pocket_box *box = &next.box;
    look_mould mould;

    if (box->side < stamps->side_min || box->side > stamps->side_max) return;
    if (next.fill != POCKET_PLAIN && is_small(box->side)) return;
    if (box->x < 0 || box->y < 0) return;
    make_mould(&mould, stamps, &next);
    blur_mould(&mould, next.softness);
    next.likeness = correlate(window, &mould, box->x - next.softness, box->y - next.softness) -
                    ODD_SIDE_COST * pixels_off(box->side);
    if (next.likeness > best->likeness) *best = next;
}

// Try a kind of shape in a few sides, centred on the region. Soft edges shrink pointed shapes, so
// sides go from a little smaller than the region to rather larger.
static look_guess guess_side(look_guess best, const look_region *region, const look_window *window,
                             const pocket_stamps *stamps)
{
    const int width = region->right - region->left + 1, height = region->bottom - region->top + 1;
    const int extent = width > height ? width : height;

    best.likeness = -1;
    for (int side = extent; side <= extent + 8; side += 2) {
        if (side < stamps->side_min || side > stamps->side_max) continue;
        const pocket_stamp *stamp = pocket_stamps_get(stamps, best.shape, side);
        look_guess next = best;
        next.box.x = (region->left + region->right - stamp->left - stamp->right) / 2;
        next.box.y = (region->top + region->bottom - stamp->top - stamp->bottom) / 2;
        next.box.side = side;
        try_guess(&best, next, window, stamps);
    }
    return best;
}

// Move and resize a stamp for as long as it fits better.
static void improve_guess(look_guess *best, const look_window *window, const pocket_stamps *stamps)
{
    static const pocket_box moves[] = {
        {-1, 0, 0}, {1, 0, 0},  {0, -1, 0},  {0, 1, 0},  {0, 0, -1}, {0, 0, 1},
        {-1, 0, 1}, {0, -1, 1}, {-1, -1, 1}, {1, 0, -1}, {0, 1, -1}, {1, 1, -1},
    };
    double before = -1;

    while (best->likeness > before) {
        const look_guess from = *best;
        before = from.likeness;
        for (size_t i = 0; i < sizeof moves / sizeof *moves; i++) {
            look_guess next = from;
            next.box.x += moves[i].x;
            next.box.y += moves[i].y;
            next.box.side += moves[i].side;
            try_guess(best, next, window, stamps);
        }
    }
}

static int compare_guesses(const void *a, const void *b)
{
    const look_guess *left = a, *right = b;
    return (left->likeness < right->likeness) - (left->likeness > right->likeness);
}

// The best guess if the patch's edges are as soft as said.
static look_guess recognise_soft(const look_region *region, const look_window *window,
                                 const pocket_stamps *stamps, int softness)
{
    look_guess guesses[POCKET_SHAPES * POCKET_FILLS];
    int count = 0;

    for (int shape = 0; shape < POCKET_SHAPES; shape++) {
        for (int fill = 0; fill < POCKET_FILLS; fill++) {
            const look_guess kind = {(pocket_shape)shape, (pocket_fill)fill, softness, {0}, -1};
            guesses[count++] = guess_side(kind, region, window, stamps);
        }
    }
    qsort(guesses, (size_t)count, sizeof *guesses, compare_guesses);
    look_guess best = guesses[0];
    for (int i = 0; i < FINALISTS && best.likeness < SURE_LIKENESS; i++) {
        improve_guess(&guesses[i], window, stamps);
        if (guesses[i].likeness > best.likeness) best = guesses[i];
    }
    return best;
}

static look_guess recognise(const look_region *region, const look_window *window,
                            const pocket_stamps *stamps)
{
    look_guess best = recognise_soft(region, window, stamps, 0);

    for (int softness = 1; softness <= SOFTNESS_MAX; softness++) {
        if (best.likeness >= SURE_LIKENESS) break;
        const look_guess next = recognise_soft(region, window, stamps, softness);
        if (next.likeness > best.likeness) best = next;
    }
    return best;
}

static pocket_size size_of(int side)
{
    if (is_small(side)) return POCKET_SMALL;
    const int limit = pocket_sides[POCKET_MEDIUM] + pocket_sides[POCKET_LARGE];
    return 2 * side < limit ? POCKET_MEDIUM : POCKET_LARGE;
}

static void describe_region(pocket_patch *patch, const look_region *region, const look_guess *guess,
                            pocket_color background)
{
    double squared;

    *patch = (pocket_patch){
        .color =
            (pocket_color)nearest_color(region->color, POCKET_COLORS, (int)background, &squared),
        .is_clear = guess->likeness >= LEAST_LIKENESS,
        .likeness = guess->likeness,
        .shape = guess->shape,
        .fill = guess->fill,
        .size = size_of(guess->box.side),
        .box = guess->box,
        .left = region->left,
        .top = region->top,
        .right = region->right,
        .bottom = region->bottom,
    };
}

oct_status pocket_look(pocket_view *view, const pocket_stamps *stamps, const oct_image *image,
                       oct_err *err)
{
    look_canvas *canvas = NULL;
    look_window *window = NULL;
    oct_status st = OCT_OK;

    memset(view, 0, sizeof *view);
    if (image->width != POCKET_SIDE || image->height != POCKET_SIDE) {
        return oct_fail(err, OCT_EUNSUPPORTED, "the picture is %zux%zu pixels, not %dx%d",
                        image->width, image->height, POCKET_SIDE, POCKET_SIDE);
    }
    canvas = calloc(1, sizeof *canvas);
    window = calloc(1, sizeof *window);
    if (!canvas || !window) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for a picture's patches");
        goto out;
    }
    canvas->image = image;
    view->has_background = find_background(canvas, &view->background);
    if (!view->has_background) goto out;
    mark_differing(canvas, view->background);
    find_regions(canvas);
    unmark_edges(canvas);
    find_regions(canvas);
    for (int i = 0; i < canvas->n_regions; i++) {
        open_window(window, canvas, i);
        const look_guess guess = recognise(&canvas->regions[i], window, stamps);
        describe_region(&view->patches[view->n_patches++], &canvas->regions[i], &guess,
                        view->background);
    }

out:
    free(window);
    free(canvas);
    return st;
}
