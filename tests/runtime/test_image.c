// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/image.c.
#include "runtime/image.h"

#include <stdlib.h>
#include <unistd.h>

#include <png.h>

#include "common/file.h"
#include "tests/test.h"

static char folder[] = "/tmp/octavo-test-image-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void fill(oct_image *image)
{
    for (size_t i = 0; i < image->width * image->height * 3; i++) {
        image->rgb[i] = (uint8_t)(i * 37 + i / 7);
    }
}

static void check_refused(const char *path, const char *sentence)
{
    oct_image image;
    oct_err err = {0};
    CHECK(oct_image_load_png(&image, path, &err) != OCT_OK);
    CHECK(image.rgb == NULL);
    if (!strstr(err.text, sentence)) CHECK_TEXT(err.text, sentence);
}

// Anything libpng can write, from rows of `row_bytes` zero bytes unless `rows` is given.
static void write_png(const char *path, int width, int height, int depth, int type, int interlace,
                      const uint8_t *rows, size_t row_bytes, bool has_trns)
{
    static const png_color palette[4] = {{0, 0, 0}, {255, 0, 0}, {0, 255, 0}, {1, 2, 3}};
    static const png_byte alpha[1] = {7};
    FILE *f = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, f);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, type, interlace, 0, 0);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 4);
    if (has_trns) png_set_tRNS(png, info, alpha, 1, NULL);
    png_write_info(png, info);
    const int passes = png_set_interlace_handling(png);
    uint8_t *zeros = calloc(row_bytes, 1);
    for (int pass = 0; pass < passes; pass++) {
        for (int y = 0; y < height; y++) {
            png_write_row(png, rows ? rows + (size_t)y * row_bytes : zeros);
        }
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(zeros);
    fclose(f);
}

static void planar_values_are_clamped_and_rounded_to_even(void)
{
    // 255 (x + 1) / 2: 127.5 is a tie and becomes 128; 0.5 becomes 0.
    const float planar[3 * 4] = {-1, 1, 0, -2, 3, NAN, 0.5f, -0.5f, 1.0f / 255 - 1, 0.999f, 0, 0};
    const uint8_t want[3 * 4] = {0, 255, 0, 255, 0, 255, 128, 191, 128, 0, 64, 128};
    oct_image image;
    CHECK(oct_image_init(&image, 2, 2, NULL) == OCT_OK);
    oct_image_from_planar(&image, planar);
    CHECK(memcmp(image.rgb, want, sizeof want) == 0);
    oct_image_deinit(&image);
}

static void a_saved_picture_loads_as_it_was(void)
{
    const oct_image_text texts[] = {{"prompt", "a cat"}, {"who", "na\xc3\xafve \xe7\x8c\xab"}};
    oct_image image, loaded;
    CHECK(oct_image_init(&image, 37, 21, NULL) == OCT_OK);
    fill(&image);
    CHECK(oct_image_save_png(&image, path_of("a.png"), texts, 2, NULL) == OCT_OK);
    CHECK(oct_image_load_png(&loaded, path_of("a.png"), NULL) == OCT_OK);
    CHECK(loaded.width == 37 && loaded.height == 21);
    CHECK(loaded.rgb && memcmp(image.rgb, loaded.rgb, 37 * 21 * 3) == 0);
    oct_image_deinit(&loaded);
    oct_image_deinit(&image);
}

static bool contains(const char *bytes, size_t n, const char *what, size_t length)
{
    return memmem(bytes, n, what, length) != NULL;
}

static void ascii_is_text_and_the_rest_is_international_text(void)
{
    const oct_image_text texts[] = {{"prompt", "a cat"}, {"who", "\xe7\x8c\xab"}};
    oct_image image;
    oct_arena arena = {0};
    char *bytes = NULL;
    size_t n = 0;
    CHECK(oct_image_init(&image, 2, 2, NULL) == OCT_OK);
    CHECK(oct_image_save_png(&image, path_of("t.png"), texts, 2, NULL) == OCT_OK);
    CHECK(oct_file_read_text(&arena, path_of("t.png"), 1 << 20, &bytes, &n, NULL) == OCT_OK);
    CHECK(contains(bytes, n, "tEXtprompt\0a cat", 16));
    CHECK(contains(bytes, n, "iTXtwho\0\0\0\0\0\xe7\x8c\xab", 15));
    CHECK(!contains(bytes, n, "tIME", 4));
    oct_arena_deinit(&arena);
    oct_image_deinit(&image);
}

static void equal_pictures_give_equal_bytes(void)
{
    oct_image image;
    uint8_t *a = NULL, *b = NULL;
    size_t n_a = 0, n_b = 0;
    CHECK(oct_image_init(&image, 64, 48, NULL) == OCT_OK);
    fill(&image);
    CHECK(oct_image_encode_png(&image, &a, &n_a, NULL) == OCT_OK);
    CHECK(oct_image_encode_png(&image, &b, &n_b, NULL) == OCT_OK);
    CHECK(n_a == n_b && n_a > 0 && memcmp(a, b, n_a) == 0);
    free(a);
    free(b);
    oct_image_deinit(&image);
}

static void check_loads(const char *path, const uint8_t *want, size_t width, size_t height)
{
    oct_image image;
    oct_err err = {0};
    CHECK(oct_image_load_png(&image, path, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(image.width == width && image.height == height);
    CHECK(image.rgb && memcmp(image.rgb, want, width * height * 3) == 0);
    oct_image_deinit(&image);
}

static void palettes_and_grey_become_rgb(void)
{
    const uint8_t two_bits[2] = {0x1b, 0x00};  // 0 1 2 3 / 0 0 0 0
    const uint8_t colours[24] = {0, 0, 0, 255, 0, 0, 0, 255, 0, 1, 2, 3};
    const uint8_t greys[24] = {0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255};
    write_png(path_of("p.png"), 4, 2, 2, PNG_COLOR_TYPE_PALETTE, 0, two_bits, 1, false);
    check_loads(path_of("p.png"), colours, 4, 2);
    write_png(path_of("g.png"), 4, 2, 2, PNG_COLOR_TYPE_GRAY, 0, two_bits, 1, false);
    check_loads(path_of("g.png"), greys, 4, 2);
}

static void interlaced_pictures_load(void)
{
    uint8_t rows[11 * 9 * 3];
    for (size_t i = 0; i < sizeof rows; i++) rows[i] = (uint8_t)(i * 11);
    write_png(path_of("i.png"), 9, 11, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_ADAM7, rows, 27, false);
    check_loads(path_of("i.png"), rows, 9, 11);
}

static void alpha_and_16_bits_are_refused(void)
{
    write_png(path_of("x.png"), 4, 2, 8, PNG_COLOR_TYPE_RGB_ALPHA, 0, NULL, 16, false);
    check_refused(path_of("x.png"), "is transparent");
    write_png(path_of("x.png"), 4, 2, 8, PNG_COLOR_TYPE_PALETTE, 0, NULL, 4, true);
    check_refused(path_of("x.png"), "is transparent");
    write_png(path_of("x.png"), 4, 2, 16, PNG_COLOR_TYPE_RGB, 0, NULL, 24, false);
    check_refused(path_of("x.png"), "has 16 bits per channel, not 8");
}

static void enormous_pictures_are_refused_unread(void)
{
    write_png(path_of("x.png"), 16385, 1, 1, PNG_COLOR_TYPE_GRAY, 0, NULL, 2049, false);
    check_refused(path_of("x.png"), "is not a readable PNG: ");
    write_png(path_of("x.png"), 16384, 4097, 1, PNG_COLOR_TYPE_GRAY, 0, NULL, 2048, false);
    check_refused(path_of("x.png"), "has more than 2^26 pixels");
}

static void a_picture_cut_anywhere_is_refused(void)
{
    oct_image image;
    uint8_t *png = NULL;
    size_t n = 0;
    CHECK(oct_image_init(&image, 5, 4, NULL) == OCT_OK);
    fill(&image);
    CHECK(oct_image_encode_png(&image, &png, &n, NULL) == OCT_OK);
    for (size_t cut = 0; cut < n; cut++) {
        CHECK(oct_file_write(path_of("cut.png"), png, cut, NULL) == OCT_OK);
        check_refused(path_of("cut.png"), cut < 8 ? "is not a PNG file" : "is not a readable PNG");
    }
    free(png);
    oct_image_deinit(&image);
}

static void a_flipped_bit_never_crashes(void)
{
    oct_image image, loaded;
    uint8_t *png = NULL;
    size_t n = 0;
    CHECK(oct_image_init(&image, 5, 4, NULL) == OCT_OK);
    fill(&image);
    CHECK(oct_image_encode_png(&image, &png, &n, NULL) == OCT_OK);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        png[bit / 8] ^= (uint8_t)(1 << bit % 8);
        FILE *f = fopen(path_of("flip.png"), "wb");
        fwrite(png, 1, n, f);
        fclose(f);
        (void)oct_image_load_png(&loaded, path_of("flip.png"), NULL);
        oct_image_deinit(&loaded);
        png[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(png);
    oct_image_deinit(&image);
}

static void what_is_no_picture_is_named(void)
{
    CHECK(oct_file_write(path_of("n.txt"), "no picture at all", 17, NULL) == OCT_OK);
    check_refused(path_of("n.txt"), "is not a PNG file");
    check_refused(path_of("absent.png"), "does not exist");
    check_refused(folder, "is a folder");
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    RUN(planar_values_are_clamped_and_rounded_to_even);
    RUN(a_saved_picture_loads_as_it_was);
    RUN(ascii_is_text_and_the_rest_is_international_text);
    RUN(equal_pictures_give_equal_bytes);
    RUN(palettes_and_grey_become_rgb);
    RUN(interlaced_pictures_load);
    RUN(alpha_and_16_bits_are_refused);
    RUN(enormous_pictures_are_refused_unread);
    RUN(a_picture_cut_anywhere_is_refused);
    RUN(a_flipped_bit_never_crashes);
    RUN(what_is_no_picture_is_named);
    static const char *const names[] = {"a.png", "t.png",   "p.png",    "g.png", "i.png",
                                        "x.png", "cut.png", "flip.png", "n.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(path_of(names[i]));
    rmdir(folder);
    return test_end();
}
