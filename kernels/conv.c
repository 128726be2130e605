// SPDX-License-Identifier: Apache-2.0
//
// Convolution as GEMM: a tile of pixels with their neighbourhoods is laid out as a matrix (im2col)
// and multiplied by the weights. Tiles have a fixed size and each is one thread's, with serial
// BLAS, so the thread count does not change the result.
#include "kernels/ops.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/scratch.h"

#define TILE ((size_t)256)  // pixels; 4.5 MiB of neighbourhoods at 512 channels

typedef struct image {
    const float *data;
    size_t channels, height, width;
} image;

// Pixels [first, first + pixels) of one channel as seen through one tap of a 3x3 kernel: dy and dx
// are -1, 0 or 1. Outside the image is zero.
static void gather_tap(float *out, const float *plane, const image *x, ptrdiff_t dy, ptrdiff_t dx,
                       size_t first, size_t pixels)
{
    const ptrdiff_t height = (ptrdiff_t)x->height, width = (ptrdiff_t)x->width;
    ptrdiff_t row = (ptrdiff_t)first / width, col = (ptrdiff_t)first % width;

    while (pixels > 0) {  // one image row at a time
        const ptrdiff_t n = (size_t)(width - col) < pixels ? width - col : (ptrdiff_t)pixels;
        if (row + dy < 0 || row + dy >= height) {
            memset(out, 0, (size_t)n * sizeof *out);
        } else {
            const ptrdiff_t left = col + dx < 0;  // pixels outside the image
            const ptrdiff_t right = col + n + dx > width;
            const float *from = plane + (row + dy) * width + col + dx;
            if (left) out[0] = 0;
            if (right) out[n - 1] = 0;
            memcpy(out + left, from + left, (size_t)(n - left - right) * sizeof *out);
        }
        out += n;
        pixels -= (size_t)n;
        row++;
        col = 0;
    }
}

// [channels * 9][TILE]
static void gather_3x3(float *out, const image *x, size_t first, size_t pixels)
{
    for (size_t c = 0; c < x->channels; c++) {
        const float *plane = x->data + c * x->height * x->width;
        for (ptrdiff_t tap = 0; tap < 9; tap++, out += TILE) {
            gather_tap(out, plane, x, tap / 3 - 1, tap % 3 - 1, first, pixels);
        }
    }
}

// The same for every second pixel, its neighbourhood to the right and below: tap (dy, dx) of output
// pixel (row, col) is x[2 row + dy][2 col + dx].
static void gather_down2(float *out, const image *x, size_t first, size_t pixels)
{
    const size_t width = x->width / 2;

    for (size_t c = 0; c < x->channels; c++) {
        const float *plane = x->data + c * x->height * x->width;
        for (size_t tap = 0; tap < 9; tap++, out += TILE) {
            for (size_t i = 0; i < pixels; i++) {
                const size_t row = (first + i) / width * 2 + tap / 3;
                const size_t col = (first + i) % width * 2 + tap % 3;
                out[i] = row < x->height && col < x->width ? plane[row * x->width + col] : 0;
            }
        }
    }
}

typedef void gather_fn(float *out, const image *x, size_t first, size_t pixels);

// `gather` lays out nine taps of a channel; NULL: there is one, the pixel itself.
static void convolve(float *y, size_t pixels, const image *x, gather_fn *gather,
                     const float *weight, const float *bias, size_t out)
{
    const size_t taps = x->channels * (gather ? 9 : 1);

#pragma omp parallel
    {
        float *columns = gather ? oct_scratch_alloc(taps * TILE) : NULL;
#pragma omp for schedule(dynamic)
        for (size_t first = 0; first < pixels; first += TILE) {
            const size_t now = pixels - first < TILE ? pixels - first : TILE;
            if (columns) gather(columns, x, first, now);
            for (size_t o = 0; bias && o < out; o++) {
                for (size_t i = 0; i < now; i++) y[o * pixels + first + i] = bias[o];
            }
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)out, (int)now, (int)taps,
                        1.0f, weight, (int)taps, columns ? columns : x->data + first,
                        columns ? (int)TILE : (int)pixels, bias ? 1.0f : 0.0f, y + first,
                        (int)pixels);
        }
        free(columns);
    }
}

static void convolve_widened(float *y, size_t pixels, const image *x, gather_fn *gather,
                             oct_dtype dtype, const void *weight, const float *bias, size_t out)
{
    const size_t weights = out * x->channels * (gather ? 9 : 1);
    float *wide = NULL;

    assert(x->height * x->width <= INT_MAX && weights <= INT_MAX);
    if (dtype != OCT_F32) {
        wide = oct_scratch_alloc(weights);
        oct_widen(wide, dtype, weight, weights);
    }
    convolve(y, pixels, x, gather, wide ? wide : weight, bias, out);
    free(wide);
}

void oct_conv2d(float *y, const float *x, oct_dtype dtype, const void *weight, const float *bias,
                size_t in, size_t out, size_t height, size_t width, size_t kernel)
{
    const image from = {x, in, height, width};

    assert(kernel == 1 || kernel == 3);
    convolve_widened(y, height * width, &from, kernel == 3 ? gather_3x3 : NULL, dtype, weight, bias,
                     out);
}

void oct_conv2d_down2(float *y, const float *x, oct_dtype dtype, const void *weight,
                      const float *bias, size_t in, size_t out, size_t height, size_t width)
{
    const image from = {x, in, height, width};

    convolve_widened(y, height / 2 * (width / 2), &from, gather_down2, dtype, weight, bias, out);
}
