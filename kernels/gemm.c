// SPDX-License-Identifier: Apache-2.0
//
// The product is cut into tiles whose size depends on the shape alone; each is one thread's, which
// widens its rows of w and calls BLAS. BLAS is serial inside a parallel region, so the thread count
// does not change the result, which OpenBLAS's own threads do.
#include "kernels/ops.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/scratch.h"

#define TILE_M ((size_t)256)       // rows of x: enough to make up for widening rows of w
#define TILE_N ((size_t)128)       // rows of w
#define TILE_N_SMALL ((size_t)64)  // where there would be too few tiles for the threads
#define TILE_N_FEW ((size_t)8)     // for few rows of x
#define FEW_ROWS ((size_t)4)       // up to here packing costs more than it saves
#define SCRATCH_FLOATS ((size_t)1 << 20)

typedef struct product {
    float *y;
    const float *x, *bias;
    oct_gemm_weight w;
    size_t m, n, k;
} product;

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t tile_rows_of_w(const product *p)
{
    size_t rows = p->n < 8 * TILE_N ? TILE_N_SMALL : TILE_N;
    if (p->m <= FEW_ROWS) rows = TILE_N_FEW;
    rows = smaller(rows, SCRATCH_FLOATS / p->k);
    return rows > 0 ? rows : 1;
}

// Rows of w as binary32: in place where they are that already, else in `scratch`.
static const float *widen_rows(const product *p, size_t first, size_t rows, float *scratch)
{
    const oct_gemm_weight *w = &p->w;
    const uint8_t *data = (const uint8_t *)w->data + first * p->k * (oct_dtype_bits(w->dtype) / 8);

    if (w->dtype == OCT_F32) return (const float *)(const void *)data;
    if (w->block_scales) {
        const size_t blocks = p->k / OCT_MX_BLOCK;
        oct_decode_mx(scratch, data, w->block_scales + first * blocks, rows * blocks);
    } else {
        oct_widen(scratch, w->dtype, data, rows * p->k);
    }
    return scratch;
}

static void scale_rows(const product *p, float *y, size_t tile_m, size_t j, size_t tile_n)
{
    for (size_t row = 0; row < tile_m; row++) {
        for (size_t i = 0; i < tile_n; i++) {
            const float scaled = y[row * p->n + i] * (p->w.scale * p->w.row_scales[j + i]);
            y[row * p->n + i] = p->bias ? scaled + p->bias[j + i] : scaled;
        }
    }
}

static void multiply_tile(const product *p, size_t i, size_t tile_m, size_t j, size_t tile_n,
                          float *scratch)
{
    const int k = (int)p->k, n = (int)p->n;
    const float *x = p->x + i * p->k, *w = widen_rows(p, j, tile_n, scratch);
    const bool is_biased = p->bias && !p->w.row_scales;
    const float beta = is_biased ? 1.0f : 0.0f, scale = p->w.row_scales ? 1.0f : p->w.scale;
    float *y = p->y + i * p->n + j;

    for (size_t row = 0; is_biased && row < tile_m; row++)
        memcpy(y + row * p->n, p->bias + j, tile_n * sizeof *y);
    if (p->m > FEW_ROWS) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tile_m, (int)tile_n, k, scale, x,
                    k, w, k, beta, y, n);
    } else {
        for (size_t row = 0; row < tile_m; row++)
            cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)tile_n, k, scale, w, k, x + row * p->k, 1,
                        beta, y + row * p->n, 1);
    }
    if (p->w.row_scales) scale_rows(p, y, tile_m, j, tile_n);
}

static void multiply(const product *p)
{
    const size_t rows = tile_rows_of_w(p);
    const size_t tiles_m = (p->m + TILE_M - 1) / TILE_M, tiles_n = (p->n + rows - 1) / rows;

#pragma omp parallel
    {
        float *scratch = p->w.dtype == OCT_F32 ? NULL : oct_scratch_alloc(rows * p->k);
#pragma omp for schedule(dynamic)
        for (size_t tile = 0; tile < tiles_m * tiles_n; tile++) {
            const size_t i = tile % tiles_m * TILE_M, j = tile / tiles_m * rows;
            multiply_tile(p, i, smaller(p->m - i, TILE_M), j, smaller(p->n - j, rows), scratch);
        }
        free(scratch);
    }
}

void oct_gemm_scaled(float *y, const float *x, const oct_gemm_weight *w, const float *bias,
                     size_t m, size_t n, size_t k)
{
    assert(k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX);
    assert(!w->block_scales || (w->dtype == OCT_F8_E4M3 && k % OCT_MX_BLOCK == 0));
    multiply(&(product){.y = y, .x = x, .bias = bias, .w = *w, .m = m, .n = n, .k = k});
}

void oct_gemm_weights(float *y, const float *x, oct_dtype dtype, const void *w, const float *bias,
                      float scale, size_t m, size_t n, size_t k)
{
    oct_gemm_scaled(y, x, &(oct_gemm_weight){.dtype = dtype, .data = w, .scale = scale}, bias, m, n,
                    k);
}

void oct_gemm(float *y, const float *x, const float *w, const float *bias, float scale, size_t m,
              size_t n, size_t k)
{
    oct_gemm_weights(y, x, OCT_F32, w, bias, scale, m, n, k);
}
