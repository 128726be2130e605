// SPDX-License-Identifier: Apache-2.0
//
// Pictures and PNG, by libpng. Its errors jump: each direction has one function with a setjmp,
// and all state that survives the jump lies in a struct outside of it.
#include "runtime/image.h"

#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "common/file.h"

#define SIDE_MAX 16384u
#define PIXELS_MAX (UINT64_C(1) << 26)  // a small file may otherwise unfold to gigabytes
#define CHUNK_BYTES_MAX (8u << 20)
#define CHUNKS_MAX 1000

oct_status oct_image_init(oct_image *image, size_t width, size_t height, oct_err *err)
{
    size_t bytes = 0;
    assert(width > 0 && height > 0);
    *image = (oct_image){.width = width, .height = height};
    if (!__builtin_mul_overflow(width, height, &bytes) &&
        !__builtin_mul_overflow(bytes, 3, &bytes)) {
        image->rgb = calloc(bytes, 1);
    }
    if (image->rgb) return OCT_OK;
    oct_image_deinit(image);
    return oct_fail(err, OCT_ENOMEM, "out of memory for a picture of %zux%zu", width, height);
}

void oct_image_deinit(oct_image *image)
{
    free(image->rgb);
    *image = (oct_image){0};
}

static uint8_t level(float x)
{
    const float unit = fminf(fmaxf(0.5f * x + 0.5f, 0), 1);  // NaN becomes 0
    return (uint8_t)nearbyintf(255 * unit);
}

void oct_image_from_planar(oct_image *image, const float *planar)
{
    const size_t pixels = image->width * image->height;
    for (size_t i = 0; i < pixels; i++) {
        for (size_t c = 0; c < 3; c++) image->rgb[3 * i + c] = level(planar[c * pixels + i]);
    }
}

// What libpng is in the middle of, and its complaint.
typedef struct job {
    png_structp png;
    png_infop info;
    char message[128];
    const oct_file *file;  // reading
    uint64_t at;
    uint8_t *data;  // writing
    size_t bytes, capacity;
} job;

static void on_error(png_structp png, png_const_charp message)
{
    job *j = png_get_error_ptr(png);
    strncpy(j->message, message, sizeof j->message - 1);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
}

static void on_write(png_structp png, png_bytep bytes, size_t n)
{
    job *j = png_get_io_ptr(png);
    if (n > j->capacity - j->bytes) {
        const size_t capacity = 2 * (j->bytes + n);
        uint8_t *data = realloc(j->data, capacity);
        if (!data) png_error(png, "out of memory");
        j->data = data;
        j->capacity = capacity;
    }
    memcpy(j->data + j->bytes, bytes, n);
    j->bytes += n;
}

static void on_flush(png_structp png)
{
}

static void on_read(png_structp png, png_bytep bytes, size_t n)
{
    job *j = png_get_io_ptr(png);
    oct_err err;
    if (n > j->file->bytes - j->at) png_error(png, "it ends too early");
    if (oct_file_read(j->file, bytes, n, j->at, &err)) png_error(png, err.text);
    j->at += n;
}

static bool is_ascii(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text >= 0x80) return false;
    }
    return true;
}

// tEXt is Latin-1: what is not plain ASCII goes into an iTXt, which is UTF-8.
static void set_texts(job *j, const oct_image_text *texts, size_t n_texts)
{
    for (size_t i = 0; i < n_texts; i++) {
        png_text text = {
            .compression =
                is_ascii(texts[i].value) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE,
            .key = (char *)texts[i].key,
            .text = (char *)texts[i].value,
            .lang = (char *)"",
            .lang_key = (char *)"",
        };
        png_set_text(j->png, j->info, &text, 1);
    }
}

static bool encode(job *j, const oct_image *image, const oct_image_text *texts, size_t n_texts)
{
    j->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_warning);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    if (!j->info) {
        strcpy(j->message, "out of memory");
        return false;
    }
    if (setjmp(png_jmpbuf(j->png))) return false;
    png_set_write_fn(j->png, j, on_write, on_flush);
    png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_compression_level(j->png, 6);
    png_set_IHDR(j->png, j->info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    set_texts(j, texts, n_texts);
    png_write_info(j->png, j->info);
    for (size_t y = 0; y < image->height; y++) {
        png_write_row(j->png, image->rgb + y * image->width * 3);
    }
    png_write_end(j->png, NULL);
    return true;
}

static oct_status encode_with_texts(const oct_image *image, const oct_image_text *texts,
                                    size_t n_texts, uint8_t **data, size_t *bytes, oct_err *err)
{
    job j = {0};
    oct_status st = OCT_OK;

    *data = NULL;
    *bytes = 0;
    if (encode(&j, image, texts, n_texts)) {
        *data = j.data;
        *bytes = j.bytes;
    } else {
        free(j.data);
        st = oct_fail(err, OCT_ENOMEM, "cannot encode a PNG of %zux%zu: %s", image->width,
                      image->height, j.message);
    }
    png_destroy_write_struct(&j.png, &j.info);
    return st;
}

oct_status oct_image_encode_png(const oct_image *image, uint8_t **data, size_t *bytes, oct_err *err)
{
    return encode_with_texts(image, NULL, 0, data, bytes, err);
}

oct_status oct_image_save_png(const oct_image *image, const char *path, const oct_image_text *texts,
                              size_t n_texts, oct_err *err)
{
    uint8_t *data = NULL;
    size_t bytes = 0;
    oct_status st = encode_with_texts(image, texts, n_texts, &data, &bytes, err);
    if (!st) st = oct_file_write(path, data, bytes, err);
    free(data);
    return st;
}

// Header and limits. *complaint: what is refused, or NULL. False after a jump.
static bool read_header(job *j, const char **complaint)
{
    *complaint = NULL;
    if (setjmp(png_jmpbuf(j->png))) return false;
    png_set_read_fn(j->png, j, on_read);
    png_set_user_limits(j->png, SIDE_MAX, SIDE_MAX);
    png_set_chunk_malloc_max(j->png, CHUNK_BYTES_MAX);
    png_set_chunk_cache_max(j->png, CHUNKS_MAX);
    png_read_info(j->png, j->info);

    const uint64_t width = png_get_image_width(j->png, j->info);
    if (width * png_get_image_height(j->png, j->info) > PIXELS_MAX) {
        *complaint = "has more than 2^26 pixels";
    } else if (png_get_bit_depth(j->png, j->info) == 16) {
        *complaint = "has 16 bits per channel, not 8";
    } else if ((png_get_color_type(j->png, j->info) & PNG_COLOR_MASK_ALPHA) ||
               png_get_valid(j->png, j->info, PNG_INFO_tRNS)) {
        *complaint = "is transparent";
    }
    return true;
}

static bool read_pixels(job *j, oct_image *image)
{
    if (setjmp(png_jmpbuf(j->png))) return false;
    png_set_expand(j->png);
    png_set_gray_to_rgb(j->png);
    const int passes = png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    assert(png_get_rowbytes(j->png, j->info) == 3 * image->width);
    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < image->height; y++) {
            png_read_row(j->png, image->rgb + y * image->width * 3, NULL);
        }
    }
    png_read_end(j->png, NULL);
    return true;
}

static oct_status decode(job *j, oct_image *image, const char *path, oct_err *err)
{
    const char *complaint;

    j->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_warning);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    if (!j->info) return oct_fail(err, OCT_ENOMEM, "out of memory for '%s'", path);
    if (!read_header(j, &complaint)) goto unreadable;
    if (complaint) return oct_fail(err, OCT_EUNSUPPORTED, "'%s' %s", path, complaint);
    const oct_status st = oct_image_init(image, png_get_image_width(j->png, j->info),
                                         png_get_image_height(j->png, j->info), err);
    if (st) return st;
    if (read_pixels(j, image)) return OCT_OK;

unreadable:
    return oct_fail(err, OCT_EFORMAT, "'%s' is not a readable PNG: %s", path, j->message);
}

static oct_status check_signature(const oct_file *file, oct_err *err)
{
    uint8_t head[8];
    if (file->bytes >= sizeof head) {
        const oct_status st = oct_file_read(file, head, sizeof head, 0, err);
        if (st) return st;
        if (png_sig_cmp(head, 0, sizeof head) == 0) return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "'%s' is not a PNG file", file->path);
}

oct_status oct_image_load_png(oct_image *image, const char *path, oct_err *err)
{
    oct_file file = {0};
    job j = {.file = &file};

    *image = (oct_image){0};
    oct_status st = oct_file_open(&file, path, err);
    if (!st) st = check_signature(&file, err);
    if (!st) st = decode(&j, image, path, err);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    oct_file_close(&file);
    if (st) oct_image_deinit(image);
    return st;
}
