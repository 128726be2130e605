// SPDX-License-Identifier: Apache-2.0
//
// The library behind fake_cublaslt.h. Names and signatures are those that the product looks up.
#include "tests/cuda/fake_cublaslt.h"

#include <library_types.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "kernels/cuda/cublaslt.h"
#include "tests/cuda/emulated_runtime.h"

#define MAGIC 0x6f6374617661UL
#define WORKSPACE_STEP ((size_t)65536)  // algorithm i wants i + 1 of these
#define UNSET (-1)

typedef struct layout {
    int dtype;
    uint64_t rows, cols;
    int64_t stride;
} layout;

typedef struct desc {
    int compute_type, scale_type, trans_a, trans_b, epilogue, bias_dtype, mode_a, mode_b;
    int8_t is_fast;
    const void *bias, *scale_a, *scale_b;
} desc;

typedef struct preference {
    uint64_t workspace_bytes;
    uint32_t reduction_mask, alignment[4];
} preference;

typedef struct operands {
    const layout *a, *b, *c, *d;
} operands;

static fake_cublaslt state;
static char the_handle;

fake_cublaslt *fake_cublaslt_state(void)
{
    return &state;
}

static int sm(void)
{
    return state.sm ? state.sm : 90;
}

// ---- Objects.

size_t cublasLtGetVersion(void)
{
    return state.version ? state.version : 130100;
}

const char *cublasLtGetStatusName(int status)
{
    if (status == OCT_LT_NOT_INITIALIZED) return "CUBLAS_STATUS_NOT_INITIALIZED";
    return status == OCT_LT_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                          : "CUBLAS_STATUS_INVALID_VALUE";
}

int cublasLtCreate(void **handle)
{
    if (state.refuses_handle) return OCT_LT_NOT_INITIALIZED;
    state.handles++;
    *handle = &the_handle;
    return OCT_LT_SUCCESS;
}

int cublasLtDestroy(void *handle)
{
    if (handle != &the_handle) return OCT_LT_INVALID_VALUE;
    state.handles--;
    return OCT_LT_SUCCESS;
}

static int make(void **object, const void *from, size_t bytes)
{
    *object = malloc(bytes);
    if (!*object) abort();
    memcpy(*object, from, bytes);
    state.objects++;
    return OCT_LT_SUCCESS;
}

static int destroy(void *object)
{
    if (!object) return OCT_LT_INVALID_VALUE;
    free(object);
    state.objects--;
    return OCT_LT_SUCCESS;
}

int cublasLtMatrixLayoutCreate(void **object, int dtype, uint64_t rows, uint64_t cols,
                               int64_t stride)
{
    const layout l = {dtype, rows, cols, stride};
    if (stride < (int64_t)rows) return OCT_LT_INVALID_VALUE;
    return make(object, &l, sizeof l);
}

int cublasLtMatrixLayoutDestroy(void *object)
{
    return destroy(object);
}

int cublasLtMatmulDescCreate(void **object, int compute_type, int scale_type)
{
    const desc d = {.compute_type = compute_type,
                    .scale_type = scale_type,
                    .epilogue = OCT_LT_EPILOGUE_DEFAULT,
                    .bias_dtype = UNSET};
    return make(object, &d, sizeof d);
}

int cublasLtMatmulDescDestroy(void *object)
{
    return destroy(object);
}

int cublasLtMatmulPreferenceCreate(void **object)
{
    const preference p = {.reduction_mask = 7, .alignment = {256, 256, 256, 256}};
    return make(object, &p, sizeof p);
}

int cublasLtMatmulPreferenceDestroy(void *object)
{
    return destroy(object);
}

static int assign(void *field, size_t field_bytes, const void *value, size_t bytes)
{
    if (bytes != field_bytes) return OCT_LT_INVALID_VALUE;
    memcpy(field, value, bytes);
    return OCT_LT_SUCCESS;
}

#define ASSIGN(field) assign(&(field), sizeof(field), value, bytes)

int cublasLtMatmulDescSetAttribute(void *object, int attribute, const void *value, size_t bytes)
{
    desc *d = object;
    const bool has_modes = cublasLtGetVersion() >= 120900;

    switch (attribute) {
    case OCT_LT_DESC_TRANSA:
        return ASSIGN(d->trans_a);
    case OCT_LT_DESC_TRANSB:
        return ASSIGN(d->trans_b);
    case OCT_LT_DESC_EPILOGUE:
        return ASSIGN(d->epilogue);
    case OCT_LT_DESC_BIAS_POINTER:
        return ASSIGN(d->bias);
    case OCT_LT_DESC_A_SCALE_POINTER:
        return ASSIGN(d->scale_a);
    case OCT_LT_DESC_B_SCALE_POINTER:
        return ASSIGN(d->scale_b);
    case OCT_LT_DESC_FAST_ACCUM:
        return ASSIGN(d->is_fast);
    case OCT_LT_DESC_BIAS_DATA_TYPE:
        return ASSIGN(d->bias_dtype);
    case OCT_LT_DESC_A_SCALE_MODE:
        return has_modes ? ASSIGN(d->mode_a) : OCT_LT_INVALID_VALUE;
    case OCT_LT_DESC_B_SCALE_MODE:
        return has_modes ? ASSIGN(d->mode_b) : OCT_LT_INVALID_VALUE;
    default:
        return OCT_LT_INVALID_VALUE;
    }
}

int cublasLtMatmulPreferenceSetAttribute(void *object, int attribute, const void *value,
                                         size_t bytes)
{
    preference *p = object;
    const int alignment = attribute - OCT_LT_PREF_MIN_ALIGNMENT_A_BYTES;

    if (attribute == OCT_LT_PREF_MAX_WORKSPACE_BYTES) return ASSIGN(p->workspace_bytes);
    if (attribute == OCT_LT_PREF_REDUCTION_SCHEME_MASK) return ASSIGN(p->reduction_mask);
    return alignment >= 0 && alignment < 4 ? ASSIGN(p->alignment[alignment]) : OCT_LT_INVALID_VALUE;
}

// ---- Rules.

static bool has_bias(const desc *d)
{
    return d->epilogue & OCT_LT_EPILOGUE_BIAS;
}

static bool has_gelu(const desc *d)
{
    return d->epilogue & OCT_LT_EPILOGUE_GELU;
}

static size_t bytes_of(int dtype)
{
    return dtype == CUDA_R_32F ? 4 : dtype == CUDA_R_8F_E4M3 ? 1 : 2;
}

// Rows of the documentation's tables of types: A and B, C and D, bias.
static bool is_in_table(const desc *d, const operands *o)
{
    static const int table[][3] = {
        {CUDA_R_32F, CUDA_R_32F, CUDA_R_32F},       {CUDA_R_16F, CUDA_R_16F, CUDA_R_16F},
        {CUDA_R_16F, CUDA_R_32F, CUDA_R_32F},       {CUDA_R_16BF, CUDA_R_16BF, CUDA_R_16BF},
        {CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F},      {CUDA_R_8F_E4M3, CUDA_R_16F, CUDA_R_16F},
        {CUDA_R_8F_E4M3, CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_8F_E4M3, CUDA_R_32F, CUDA_R_16BF},
    };

    if (o->b->dtype != o->a->dtype || o->c->dtype != o->d->dtype) return false;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i][0] == o->a->dtype && table[i][1] == o->d->dtype)
            return !has_bias(d) || d->bias_dtype == table[i][2];
    }
    return false;
}

static bool is_fp8(const operands *o)
{
    return o->a->dtype == CUDA_R_8F_E4M3;
}

static bool fits_fp8(const desc *d, const operands *o)
{
    if (!is_fp8(o)) return !d->scale_a && !d->scale_b && !d->mode_a && !d->mode_b && !d->is_fast;
    const size_t d_bytes = bytes_of(o->d->dtype);
    return sm() >= 89 && d->trans_a == OCT_LT_OP_T && d->trans_b == OCT_LT_OP_N &&
           o->a->rows % 16 == 0 && o->d->rows * d_bytes % 16 == 0 && o->a->stride % 16 == 0 &&
           o->b->stride % 16 == 0 && (size_t)o->d->stride * d_bytes % 16 == 0;
}

static bool fits_scales(const desc *d)
{
    if (d->mode_a != d->mode_b) return false;
    if (d->mode_a == OCT_LT_SCALE_SCALAR_32F) return true;
    return d->mode_a == OCT_LT_SCALE_OUTER_VEC_32F && sm() == 90;
}

static bool fits_shape(const desc *d, const operands *o)
{
    const bool is_a = d->trans_a == OCT_LT_OP_T, is_b = d->trans_b == OCT_LT_OP_T;
    const uint64_t rows = is_a ? o->a->cols : o->a->rows, k = is_a ? o->a->rows : o->a->cols;
    const uint64_t cols = is_b ? o->b->rows : o->b->cols, k_b = is_b ? o->b->cols : o->b->rows;

    return k == k_b && o->d->rows == rows && o->d->cols == cols && o->c->rows == rows &&
           o->c->cols == cols;
}

static bool is_aligned(const void *pointer, size_t to)
{
    return (uintptr_t)pointer % to == 0;
}

static int judge(const desc *d, const operands *o)
{
    const int compute = d->compute_type;
    const bool is_tf32 = compute == OCT_LT_COMPUTE_32F_FAST_TF32;

    if (!fits_shape(d, o) || d->scale_type != CUDA_R_32F) return OCT_LT_INVALID_VALUE;
    if (compute != OCT_LT_COMPUTE_32F && !(is_tf32 && o->a->dtype == CUDA_R_32F))
        return OCT_LT_NOT_SUPPORTED;
    if (!is_in_table(d, o) || !fits_fp8(d, o) || !fits_scales(d)) return OCT_LT_NOT_SUPPORTED;
    if (has_bias(d) && (!d->bias || !is_aligned(d->bias, 16))) return OCT_LT_INVALID_VALUE;
    if (has_gelu(d) && is_fp8(o) && sm() == 89) return OCT_LT_NOT_SUPPORTED;
    return has_gelu(d) && state.refuses_gelu ? OCT_LT_NOT_SUPPORTED : OCT_LT_SUCCESS;
}

// ---- Algorithms: of one product, and of no other.

static uint64_t identify(const desc *d, const operands *o)
{
    const uint64_t parts[] = {o->a->rows,
                              o->a->cols,
                              o->b->cols,
                              (uint64_t)o->a->dtype,
                              (uint64_t)o->d->dtype,
                              (uint64_t)d->epilogue,
                              (uint64_t)d->mode_a,
                              (uint64_t)d->compute_type};
    uint64_t hash = MAGIC;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        hash = (hash ^ parts[i]) * 0x100000001b3UL;
    return hash;
}

static oct_lt_algorithm make_algorithm(const desc *d, const operands *o, uint64_t i)
{
    return (oct_lt_algorithm){{MAGIC, i, identify(d, o) + i}};
}

static bool is_algorithm(const oct_lt_algorithm *algorithm, const desc *d, const operands *o)
{
    const oct_lt_algorithm want = make_algorithm(d, o, algorithm->data[1]);
    return algorithm->data[1] < FAKE_ALGORITHMS && !memcmp(&want, algorithm, sizeof want);
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *object, void *a, void *b, void *c, void *d,
                                   void *wishes, int wanted, oct_lt_candidate *candidates,
                                   int *found)
{
    const desc *p = object;
    const preference *w = wishes;
    const operands o = {a, b, c, d};

    *found = 0;
    state.heuristics++;
    state.reduction_mask = w->reduction_mask;
    for (int i = 0; i < 4; i++)  // what nobody promised cannot be used
        if (w->alignment[i] != 16) return OCT_LT_INVALID_VALUE;
    const int status = handle == &the_handle ? judge(p, &o) : OCT_LT_INVALID_VALUE;
    if (status) return status;
    if (state.refuses_all) return OCT_LT_NOT_SUPPORTED;
    for (uint64_t i = 0; i < FAKE_ALGORITHMS && (int)i < wanted; i++) {
        if ((i + 1) * WORKSPACE_STEP > w->workspace_bytes) continue;
        candidates[(*found)++] = (oct_lt_candidate){.algorithm = make_algorithm(p, &o, i),
                                                    .workspace_bytes = (i + 1) * WORKSPACE_STEP};
    }
    return OCT_LT_SUCCESS;
}

int cublasLtMatmulAlgoCheck(void *handle, void *object, void *a, void *b, void *c, void *d,
                            const oct_lt_algorithm *algorithm, oct_lt_candidate *candidate)
{
    const operands o = {a, b, c, d};

    state.checks++;
    const int status = handle == &the_handle ? judge(object, &o) : OCT_LT_INVALID_VALUE;
    if (status) return status;
    if (!is_algorithm(algorithm, object, &o)) return OCT_LT_NOT_SUPPORTED;
    *candidate = (oct_lt_candidate){.algorithm = *algorithm,
                                    .workspace_bytes = (algorithm->data[1] + 1) * WORKSPACE_STEP};
    return OCT_LT_SUCCESS;
}

// ---- Products.

typedef struct product {
    desc desc;
    layout a, b, d;
    const void *x, *w;
    void *y, *workspace;
    float alpha;
    uint64_t algorithm;
} product;

static double read_number(const void *from, int dtype, size_t i)
{
    if (dtype == CUDA_R_32F) return ((const float *)from)[i];
    if (dtype == CUDA_R_16F) return oct_f16_to_f32(((const uint16_t *)from)[i]);
    if (dtype == CUDA_R_16BF) return oct_bf16_to_f32(((const uint16_t *)from)[i]);
    return oct_e4m3_to_f32(((const uint8_t *)from)[i]);
}

static void write_number(void *to, int dtype, size_t i, double value)
{
    if (dtype == CUDA_R_32F)
        ((float *)to)[i] = (float)value;
    else
        ((uint16_t *)to)[i] =
            dtype == CUDA_R_16F ? oct_f32_to_f16((float)value) : oct_f32_to_bf16((float)value);
}

static double scale_at(const product *p, uint64_t row, uint64_t col)
{
    const float *a = p->desc.scale_a, *b = p->desc.scale_b;
    const bool is_outer = p->desc.mode_a == OCT_LT_SCALE_OUTER_VEC_32F;
    return (a ? (double)a[is_outer ? row : 0] : 1) * (b ? (double)b[is_outer ? col : 0] : 1);
}

static double at(const layout *l, bool is_transposed, const void *data, uint64_t row, uint64_t col)
{
    const uint64_t i =
        is_transposed ? col + row * (uint64_t)l->stride : row + col * (uint64_t)l->stride;
    return read_number(data, l->dtype, i);
}

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static void multiply(void *context)
{
    const product *p = context;
    const bool is_a = p->desc.trans_a == OCT_LT_OP_T, is_b = p->desc.trans_b == OCT_LT_OP_T;
    const uint64_t depth = is_a ? p->a.rows : p->a.cols;

    memset(p->workspace, 0xff, (p->algorithm + 1) * WORKSPACE_STEP);
    for (uint64_t col = 0; col < p->d.cols; col++) {
        for (uint64_t row = 0; row < p->d.rows; row++) {
            double sum = 0;
            for (uint64_t k = 0; k < depth; k++)
                sum += at(&p->a, is_a, p->w, row, k) * at(&p->b, is_b, p->x, k, col);
            sum *= (double)p->alpha * scale_at(p, row, col);
            if (has_bias(&p->desc)) sum += read_number(p->desc.bias, p->desc.bias_dtype, row);
            if (has_gelu(&p->desc)) sum = gelu(sum);
            write_number(p->y, p->d.dtype, row + col * (uint64_t)p->d.stride, sum);
        }
    }
    emulated_spend((double)state.ms[p->algorithm] + (has_gelu(&p->desc) ? state.gelu_ms : 0));
}

static int judge_launch(const product *p, const operands *o, const oct_lt_algorithm *algorithm,
                        size_t workspace_bytes)
{
    const int status = judge(&p->desc, o);
    const bool is_outer = p->desc.mode_a == OCT_LT_SCALE_OUTER_VEC_32F;

    if (status) return status;
    if (!is_algorithm(algorithm, &p->desc, o)) return OCT_LT_INVALID_VALUE;
    if ((p->algorithm + 1) * WORKSPACE_STEP > workspace_bytes || !is_aligned(p->workspace, 256))
        return OCT_LT_INVALID_VALUE;
    if (is_outer && (!p->desc.scale_a || !p->desc.scale_b)) return OCT_LT_INVALID_VALUE;
    if (!is_aligned(p->desc.scale_a, 4) || !is_aligned(p->desc.scale_b, 4))
        return OCT_LT_INVALID_VALUE;
    if (!is_aligned(p->w, 16) || !is_aligned(p->x, 16) || !is_aligned(p->y, 16))
        return OCT_LT_INVALID_VALUE;
    return state.refused_runs >> p->algorithm & 1 ? OCT_LT_NOT_SUPPORTED : OCT_LT_SUCCESS;
}

int cublasLtMatmul(void *handle, void *object, const float *alpha, const void *a, void *a_layout,
                   const void *b, void *b_layout, const float *beta, const void *c, void *c_layout,
                   void *d, void *d_layout, const oct_lt_algorithm *algorithm, void *workspace,
                   size_t workspace_bytes, cudaStream_t stream)
{
    const operands o = {a_layout, b_layout, c_layout, d_layout};
    const product p = {.desc = *(const desc *)object,
                       .a = *o.a,
                       .b = *o.b,
                       .d = *o.d,
                       .w = a,
                       .x = b,
                       .y = d,
                       .workspace = workspace,
                       .alpha = *alpha,
                       .algorithm = algorithm->data[1]};

    if (handle != &the_handle || *beta != 0 || c != d) return OCT_LT_INVALID_VALUE;
    const int status = judge_launch(&p, &o, algorithm, workspace_bytes);
    if (status) return status;
    state.launches++;
    state.algorithm = (unsigned)p.algorithm;
    state.epilogue = p.desc.epilogue;
    state.compute_type = p.desc.compute_type;
    state.was_fast = p.desc.is_fast;
    emulated_enqueue(stream, multiply, &p, sizeof p);
    return OCT_LT_SUCCESS;
}
