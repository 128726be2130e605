// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/vae_tiles.c against huggingface/diffusers (tests/golden/make_vae_tiles.py) and
// against the decoder of whole pictures.
#include "runtime/vae_tiles.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/safetensors.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/formula.h"
#include "tests/tools/scratch.h"

#define GOLDEN "tests/golden/vae-tiles.safetensors"
#define CHANNELS 16
#define DOWNSCALE 8
#define SIDE 8  // latents of a tile of the golden picture
#define PIXELS (SIDE * DOWNSCALE)
#define STRIDE (PIXELS / 4 * 3)

// Both compute in FP32; the picture reaches 3.2. 6e-6 seen.
#define BOUND 3e-5

static oct_vae vae;
static oct_err err;

static float *read_golden(const oct_safetensors *file, const char *name, size_t *shape)
{
    const oct_st_tensor *tensor = oct_safetensors_find(file, name);
    float *data = tensor ? malloc(tensor->bytes) : NULL;

    if (!data || oct_safetensors_read(file, tensor, 0, tensor->bytes, data, &err)) {
        printf("Bail out! cannot read '%s' of %s\n", name, GOLDEN);
        exit(1);
    }
    shape[0] = tensor->shape[1];
    shape[1] = tensor->shape[2];
    return data;
}

static double distance(const float *a, const float *b, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)a[i] - b[i]));
    return largest;
}

static float *latents(size_t height, size_t width)
{
    float *z = malloc(CHANNELS * height * width * sizeof *z);
    oct_formula_fill(z, "input.z", 4, (uint64_t[]){1, CHANNELS, height, width});
    return z;
}

// Numbers that no decoder gives, to see which are written.
static float *blank_picture(size_t height, size_t width)
{
    const size_t n = 3 * height * DOWNSCALE * width * DOWNSCALE;
    float *image = malloc(n * sizeof *image);
    for (size_t i = 0; i < n; i++) image[i] = NAN;
    return image;
}

static void tiles_are_those_of_the_reference(void)
{
    oct_safetensors file = {0};
    size_t z_size[2], size[2];

    CHECK(oct_safetensors_open(&file, GOLDEN, &err) == OCT_OK);
    float *z = read_golden(&file, "z", z_size), *want = read_golden(&file, "image", size);
    const size_t n = 3 * size[0] * size[1];
    float *tiled = blank_picture(z_size[0], z_size[1]),
          *whole = blank_picture(z_size[0], z_size[1]);
    CHECK(size[0] == z_size[0] * DOWNSCALE && size[1] == z_size[1] * DOWNSCALE);
    CHECK(!oct_vae_decode_tiled(&vae, z, z_size[0], z_size[1], SIDE, tiled, NULL));
    CHECK_NEAR(distance(tiled, want, n), 0, BOUND);
    CHECK(!oct_vae_decode(&vae, z, z_size[0], z_size[1], whole, NULL));
    CHECK(distance(whole, want, n) > 100 * BOUND);
    free(z);
    free(want);
    free(tiled);
    free(whole);
    oct_safetensors_close(&file);
}

static void a_picture_that_one_tile_holds_is_decoded_whole(void)
{
    static const size_t sides[] = {8, 24};
    float *z = latents(8, 7), *whole = blank_picture(8, 7), *tiled = blank_picture(8, 7);
    const size_t bytes = 3 * 8 * 7 * DOWNSCALE * DOWNSCALE * sizeof *whole;

    CHECK(!oct_vae_decode(&vae, z, 8, 7, whole, NULL));
    for (size_t i = 0; i < 2; i++) {
        CHECK(!oct_vae_decode_tiled(&vae, z, 8, 7, sides[i], tiled, NULL));
        CHECK(memcmp(tiled, whole, bytes) == 0);
    }
    free(z);
    free(whole);
    free(tiled);
}

// The first tile alone, decoded whole.
static float *first_tile(const float *z, size_t height, size_t width, size_t rows, size_t cols)
{
    float *part = malloc(CHANNELS * rows * cols * sizeof *part), *image = blank_picture(rows, cols);
    for (size_t channel = 0; channel < CHANNELS; channel++) {
        for (size_t row = 0; row < rows; row++) {
            memcpy(part + (channel * rows + row) * cols, z + (channel * height + row) * width,
                   cols * sizeof *part);
        }
    }
    CHECK(!oct_vae_decode(&vae, part, rows, cols, image, NULL));
    free(part);
    return image;
}

static void check_rests(size_t height, size_t width)
{
    const size_t rows = height < SIDE ? height : SIDE, cols = width < SIDE ? width : SIDE;
    const size_t high = height * DOWNSCALE, wide = width * DOWNSCALE;
    float *z = latents(height, width), *image = blank_picture(height, width);
    float *first = first_tile(z, height, width, rows, cols);
    bool is_first = true;
    size_t n_blank = 0;

    CHECK(!oct_vae_decode_tiled(&vae, z, height, width, SIDE, image, NULL));
    for (size_t i = 0; i < 3 * high * wide; i++) n_blank += isnan(image[i]) != 0;
    CHECK(n_blank == 0);
    for (size_t y = 0; y < high && y < STRIDE; y++) {
        for (size_t x = 0; x < wide && x < STRIDE; x++) {
            if (image[y * wide + x] != first[y * cols * DOWNSCALE + x]) is_first = false;
        }
    }
    CHECK(is_first);
    free(z);
    free(image);
    free(first);
}

static void rests_at_the_right_and_at_the_bottom_are_smaller_tiles(void)
{
    check_rests(SIDE, SIDE + 1);
    check_rests(SIDE + 1, SIDE);
    check_rests(2, 17);
    check_rests(13, 1);
    check_rests(9, 11);
}

static void a_tile_begins_as_the_one_before_it(void)
{
    float *z = latents(SIDE, 12), *image = blank_picture(SIDE, 12);
    float *first = first_tile(z, SIDE, 12, SIDE, SIDE);

    CHECK(!oct_vae_decode_tiled(&vae, z, SIDE, 12, SIDE, image, NULL));
    for (size_t y = 0; y < STRIDE; y++) {
        CHECK(image[y * 12 * DOWNSCALE + STRIDE] == first[y * PIXELS + STRIDE]);
    }
    free(z);
    free(image);
    free(first);
}

int main(void)
{
    char *folder = oct_scratch_make();
    oct_arena arena = {0};
    const char *path = oct_path_join(&arena, folder, "model");
    const oct_fabric fabric = {
        .out = path, .size = oct_model_size_small(1, 0), .dtype = OCT_F16, .lacks_t5 = true};
    oct_source source = {0};

    oct_status st = oct_fabricate(&fabric, &err);
    if (!st) st = oct_source_open(&source, &(oct_model_paths){.model = path}, &err);
    if (!st) st = oct_vae_load(&vae, oct_device_cpu(), &source, &err);
    if (st) {
        printf("Bail out! %s\n", err.text);
        return 1;
    }
    RUN(tiles_are_those_of_the_reference);
    RUN(a_picture_that_one_tile_holds_is_decoded_whole);
    RUN(rests_at_the_right_and_at_the_bottom_are_smaller_tiles);
    RUN(a_tile_begins_as_the_one_before_it);
    oct_vae_deinit(&vae);
    oct_source_close(&source);
    oct_arena_deinit(&arena);
    oct_scratch_remove(folder);
    return test_end();
}
