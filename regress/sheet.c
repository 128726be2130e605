// SPDX-License-Identifier: Apache-2.0
//
// Contact sheets.
#include "regress/sheet.h"

#include <string.h>

#include "common/arena.h"
#include "common/file.h"

typedef struct sheet {
    oct_image image;
    size_t columns, rows, factor;  // pixels of a picture that become one, per side
    size_t cell_width, cell_height;
} sheet;

static sheet plan_sheet(const oct_comparison *comparison)
{
    const size_t width = comparison->sampling->width, height = comparison->sampling->height;
    const size_t side = width > height ? width : height, n = comparison->jobs->count;
    sheet s = {.columns = n < OCT_SHEET_COLUMNS ? n : OCT_SHEET_COLUMNS,
               .rows = comparison->n_candidates + 1,
               .factor = (side + OCT_SHEET_CELL - 1) / OCT_SHEET_CELL};

    s.cell_width = width / s.factor;
    s.cell_height = height / s.factor;
    return s;
}

// The mean over a square of the picture.
static uint8_t mean_at(const oct_image *picture, size_t factor, size_t x, size_t y, size_t channel)
{
    size_t sum = 0;
    for (size_t dy = 0; dy < factor; dy++) {
        for (size_t dx = 0; dx < factor; dx++) {
            const size_t at = (y * factor + dy) * picture->width + x * factor + dx;
            sum += picture->rgb[3 * at + channel];
        }
    }
    return (uint8_t)((sum + factor * factor / 2) / (factor * factor));
}

static void put_picture(sheet *s, const oct_image *picture, size_t row, size_t column)
{
    const size_t left = OCT_SHEET_GAP + column * (s->cell_width + OCT_SHEET_GAP);
    const size_t top = OCT_SHEET_GAP + row * (s->cell_height + OCT_SHEET_GAP);

    for (size_t y = 0; y < s->cell_height; y++) {
        uint8_t *to = s->image.rgb + 3 * ((top + y) * s->image.width + left);
        for (size_t i = 0; i < 3 * s->cell_width; i++) {
            to[i] = mean_at(picture, s->factor, i / 3, y, i % 3);
        }
    }
}

static oct_status put_file(sheet *s, const char *path, size_t row, size_t column, oct_err *err)
{
    oct_image picture = {0};

    oct_status st = oct_image_load_png(&picture, path, err);
    if (st) return st;
    if (picture.width / s->factor == s->cell_width && picture.height / s->factor == s->cell_height)
        put_picture(s, &picture, row, column);
    else
        st = oct_fail(err, OCT_EFORMAT, "'%s' has another size", path);
    oct_image_deinit(&picture);
    return st;
}

static oct_status fill_sheet(sheet *s, const oct_comparison *comparison, const char *folder,
                             oct_err *err)
{
    oct_arena arena = {0};
    oct_status st = OCT_OK;

    for (size_t i = 0; i < s->rows * s->columns && !st; i++) {
        const size_t row = i / s->columns, job = i % s->columns;
        const char *name = row == 0 ? comparison->reference_images[job]
                                    : comparison->candidates[row - 1].outcomes[job].image;
        st = put_file(s, oct_path_join(&arena, folder, name), row, job, err);
    }
    oct_arena_deinit(&arena);
    return st;
}

oct_status oct_sheet_save(const oct_comparison *comparison, const char *folder, const char *path,
                          oct_err *err)
{
    sheet s = plan_sheet(comparison);

    oct_status st =
        oct_image_init(&s.image, OCT_SHEET_GAP + s.columns * (s.cell_width + OCT_SHEET_GAP),
                       OCT_SHEET_GAP + s.rows * (s.cell_height + OCT_SHEET_GAP), err);
    if (st) return st;
    memset(s.image.rgb, 255, 3 * s.image.width * s.image.height);
    st = fill_sheet(&s, comparison, folder, err);
    if (!st) st = oct_image_save_png(&s.image, path, NULL, 0, err);
    oct_image_deinit(&s.image);
    return st;
}
