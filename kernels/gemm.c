// SPDX-License-Identifier: Apache-2.0
#include "kernels/ops.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/scratch.h"

#define PANEL_FLOATS ((size_t)1 << 20)  // 4 MiB: in cache, and enough rows for a full-speed GEMM
#define CHUNK_ROWS ((size_t)8)          // rows of w that one thread widens for a few rows of x
#define FEW_ROWS ((size_t)4)            // up to here packing costs more than it saves

typedef struct weights {
    const char *data;
    oct_dtype dtype;
    size_t k, row_bytes;
} weights;

static void fill_bias(float *y, const float *bias, size_t m, size_t n)
{
#pragma omp parallel for if (m * n > 65536)
    for (size_t i = 0; i < m; i++) memcpy(y + i * n, bias, n * sizeof *y);
}

// Rows [first, first + rows) as binary32: in place where they are that already, else in `scratch`.
static const float *widen_rows(const weights *w, size_t first, size_t rows, float *scratch)
{
    const char *data = w->data + first * w->row_bytes;
    if (w->dtype == OCT_F32) return (const float *)data;
    oct_widen(scratch, w->dtype, data, rows * w->k);
    return scratch;
}

static const float *widen_panel(const weights *w, size_t first, size_t rows, float *scratch)
{
    if (w->dtype == OCT_F32) return widen_rows(w, first, rows, scratch);
#pragma omp parallel for
    for (size_t row = 0; row < rows; row++) {
        widen_rows(w, first + row, 1, scratch + row * w->k);
    }
    return scratch;
}

// A GEMM would pack all of w for little work: go through w once, in threads, row by row of x. BLAS
// is serial inside a parallel region, so the thread count does not change the result.
static void multiply_few_rows(float *y, const float *x, const weights *w, float scale, float beta,
                              size_t m, size_t n)
{
    const size_t k = w->k;

#pragma omp parallel
    {
        float *scratch = w->dtype == OCT_F32 ? NULL : oct_scratch_alloc(CHUNK_ROWS * k);
#pragma omp for
        for (size_t first = 0; first < n; first += CHUNK_ROWS) {
            const size_t rows = n - first < CHUNK_ROWS ? n - first : CHUNK_ROWS;
            const float *chunk = widen_rows(w, first, rows, scratch);
            for (size_t i = 0; i < m; i++) {
                cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)rows, (int)k, scale, chunk, (int)k,
                            x + i * k, 1, beta, y + i * n + first, 1);
            }
        }
        free(scratch);
    }
}

static void multiply_panels(float *y, const float *x, const weights *w, float scale, float beta,
                            size_t m, size_t n)
{
    const size_t k = w->k;
    size_t panel = n;
    float *scratch = NULL;

    if (w->dtype != OCT_F32) {
        if (panel > PANEL_FLOATS / k) panel = PANEL_FLOATS / k;
        if (panel < CHUNK_ROWS) panel = CHUNK_ROWS;
        scratch = oct_scratch_alloc(panel * k);
    }
    for (size_t first = 0; first < n; first += panel) {
        const size_t rows = n - first < panel ? n - first : panel;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)rows, (int)k, scale, x,
                    (int)k, widen_panel(w, first, rows, scratch), (int)k, beta, y + first, (int)n);
    }
    free(scratch);
}

void oct_gemm_weights(float *y, const float *x, oct_dtype dtype, const void *w, const float *bias,
                      float scale, size_t m, size_t n, size_t k)
{
    assert(k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX);
    const weights matrix = {w, dtype, k, k * (oct_dtype_bits(dtype) / 8)};
    const float beta = bias ? 1.0f : 0.0f;

    if (m == 0 || n == 0) return;
    if (bias) fill_bias(y, bias, m, n);
    if (m <= FEW_ROWS)
        multiply_few_rows(y, x, &matrix, scale, beta, m, n);
    else
        multiply_panels(y, x, &matrix, scale, beta, m, n);
}

void oct_gemm(float *y, const float *x, const float *w, const float *bias, float scale, size_t m,
              size_t n, size_t k)
{
    oct_gemm_weights(y, x, OCT_F32, w, bias, scale, m, n, k);
}
