// SPDX-License-Identifier: Apache-2.0
//
// Attention against oct_attention() of kernels/ops.h on the same numbers.
//
// Bounds are shares of A = sum_j p_j |v_j|, which oct_attention() gives for |v|: an error of a
// weight p_j moves the answer by no more.
#include <math.h>
#include <string.h>

#include "kernels/cuda/attention.h"
#include "kernels/kernels.h"
#include "kernels/ops.h"
#include "tests/cuda/check_cuda.h"

#define HEAD OCT_HEAD_CUDA

typedef enum score_kind {
    FLAT,    // all keys matter about the same
    PEAKED,  // few keys matter
    RISING,  // each key matters more than the one before: the largest score grows in every tile
    FALLING,
    OUTLIERS,
    ZEROS,
    KINDS
} score_kind;

static const char *const kind_name[KINDS] = {"flat",    "peaked",   "rising",
                                             "falling", "outliers", "zeros"};

typedef struct inputs {  // rows of `width`, rounded to a type
    float *q, *k, *v, *v_magnitude;
    const void *device_q, *device_k, *device_v;
} inputs;

static float *fill(cuda_check *t, score_kind kind, size_t n)
{
    static const float largest[KINDS] = {
        [FLAT] = 0.5f, [PEAKED] = 5, [RISING] = 0.5f, [FALLING] = 0.5f, [OUTLIERS] = 4};
    if (kind == OUTLIERS) return cuda_fill(t, CHECK_OUTLIERS, OCT_F32, n, largest[kind] / 448);
    return cuda_uniform(t, n, largest[kind]);
}

static void add_slope(float *q, float *k, size_t tokens, size_t width, bool is_rising)
{
    for (size_t i = 0; i < tokens * width; i++) {
        const size_t token = i / width;
        q[i] += 0.5f;
        k[i] += 0.01f * (float)(is_rising ? token : tokens - token);
    }
}

static inputs new_inputs(cuda_check *t, score_kind kind, oct_dtype dtype, size_t tokens,
                         size_t width)
{
    const size_t n = tokens * width, bytes = cuda_bytes(dtype, n);
    float *q = fill(t, kind, n), *k = fill(t, kind, n), *v = cuda_uniform(t, n, 3);
    float *magnitude = cuda_host(n * sizeof *magnitude);
    if (kind == RISING || kind == FALLING) add_slope(q, k, tokens, width, kind == RISING);
    const void *stored[] = {cuda_narrowed(dtype, q, n), cuda_narrowed(dtype, k, n),
                            cuda_narrowed(dtype, v, n)};
    v = cuda_widened(dtype, stored[2], n);
    for (size_t i = 0; i < n; i++) magnitude[i] = fabsf(v[i]);
    return (inputs){
        .q = cuda_widened(dtype, stored[0], n),
        .k = cuda_widened(dtype, stored[1], n),
        .v = v,
        .v_magnitude = magnitude,
        .device_q = cuda_copy(stored[0], bytes),
        .device_k = cuda_copy(stored[1], bytes),
        .device_v = cuda_copy(stored[2], bytes),
    };
}

// What binary32 may be off, as a share of a weight: sums of a few hundred terms, and the absolute
// error of a score, which exponentials turn into a relative one.
static float share_of(const inputs *in, size_t n, size_t head_dim, float scale)
{
    float q = 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        q = fmaxf(q, fabsf(in->q[i]));
        k = fmaxf(k, fabsf(in->k[i]));
    }
    return 0x1p-15f + 0x1p-21f * (float)head_dim * q * k * scale;
}

// ---- Joint attention.

typedef struct joint_case {
    size_t heads, image, text;
    bool drops_text;
    oct_dtype dtype, image_dtype, text_dtype;
    score_kind kind;
} joint_case;

static oct_joint_attention_args joint_args(const inputs *in, const joint_case *c, oct_sink image,
                                           oct_sink text)
{
    return (oct_joint_attention_args){
        .q = in->device_q,
        .k = in->device_k,
        .v = in->device_v,
        .dtype = c->dtype,
        .heads = c->heads,
        .joint = c->image + c->text,
        .image_tokens = c->image,
        .image = image,
        .text = c->drops_text ? (oct_sink){0} : text,
    };
}

// [heads][joint][64] to [joint][heads * 64].
static void attend_joint(float *out, const inputs *in, const float *v, const joint_case *c)
{
    const size_t joint = c->image + c->text;
    for (size_t head = 0; head < c->heads; head++) {
        const size_t at = head * joint * HEAD;
        oct_attention(&(oct_attention_args){
            .out = out + head * HEAD,
            .out_stride = c->heads * HEAD,
            .q = in->q + at,
            .k = in->k + at,
            .v = v + at,
            .q_stride = HEAD,
            .k_stride = HEAD,
            .v_stride = HEAD,
            .tokens_q = joint,
            .tokens_k = joint,
            .heads = 1,
            .head_dim = HEAD,
            .scale = 0.125f,
        });
    }
}

// Weights rounded to 16 bits, those below half of F16's smallest number lost; scores, sums and
// exponentials in binary32.
static void joint_bounds(float *bound, const joint_case *c, float share, size_t n)
{
    const float unit = c->dtype == OCT_F16 ? 0x1p-11f : 0x1p-8f;
    const float lost = c->dtype == OCT_F16 ? 0x1p-25f : 0;
    for (size_t i = 0; i < n; i++)
        bound[i] = bound[i] * (unit + share) + (float)(c->image + c->text) * lost * 3;
}

static void check_joint(cuda_check *t, const joint_case *c)
{
    const size_t joint = c->image + c->text, width = c->heads * HEAD, n = joint * width;
    cuda_case(t, "%s to %s and %s, heads %zu, tokens %zu + %zu%s, %s", oct_dtype_name(c->dtype),
              oct_dtype_name(c->image_dtype), oct_dtype_name(c->text_dtype), c->heads, c->image,
              c->text, c->drops_text ? " dropped" : "", kind_name[c->kind]);
    const inputs in = new_inputs(t, c->kind, c->dtype, c->heads * joint, HEAD);
    float *want = cuda_host(n * sizeof *want), *bound = cuda_host(n * sizeof *bound);
    const cuda_target image = cuda_new_target(t, c->image_dtype, c->image * width, 0.00345f);
    const cuda_target text = cuda_new_target(t, c->text_dtype, c->text * width, 0.0123f);

    const oct_joint_attention_args args = joint_args(&in, c, image.sink, text.sink);

    oct_joint_attention_cuda(&args, NULL);
    attend_joint(want, &in, in.v, c);
    attend_joint(bound, &in, in.v_magnitude, c);
    joint_bounds(bound, c, share_of(&in, n, HEAD, 0.125f), n);
    cuda_check_target(t, &image, want, bound);
    if (!c->drops_text) cuda_check_target(t, &text, want + image.n, bound + image.n);
}

// Ragged around a fragment, a warp's rows and a tile; the boundary of the streams within and
// between them. Then SD3.5 at 512 squared.
void check_cuda_joint_attention(cuda_check *t)
{
    static const struct {
        size_t heads, image, text;
    } shape[] = {{1, 1, 0},  {2, 1, 6},   {3, 7, 0},    {1, 63, 1},   {2, 64, 0},
                 {1, 1, 64}, {2, 60, 69}, {1, 128, 64}, {2, 100, 97}, {1, 257, 77}};
    static const oct_dtype type[] = {OCT_F16, OCT_BF16};
    joint_case c = {0};
    size_t count = 0;

    for (size_t i = 0; i < CHECK_COUNT(shape); i++) {
        for (size_t d = 0; d < CHECK_COUNT(type); d++) {
            for (c.kind = (i + d) % 2; c.kind < KINDS; c.kind += 2, count++) {  // half of them
                c.heads = shape[i].heads;
                c.image = shape[i].image;
                c.text = shape[i].text;
                c.dtype = type[d];
                c.image_dtype = cuda_sinks[count % 4];
                c.text_dtype = cuda_sinks[count / 4 % 4];
                c.drops_text = c.text > 0 && count % 3 == 0;
                check_joint(t, &c);
            }
        }
    }
    check_joint(t, &(joint_case){1, 1024, 333, false, OCT_F16, OCT_F8_E4M3, OCT_F16, FLAT});
    check_joint(t, &(joint_case){1, 256, 154, true, OCT_BF16, OCT_BF16, OCT_BF16, RISING});
}

// ---- Joint attention in E4M3.

// The numbers that codes with a scale per head stand for. x: [heads][n].
static float *through_e4m3(const float *x, size_t heads, size_t n)
{
    float *y = cuda_host(heads * n * sizeof *y);
    uint8_t *codes = cuda_host(n);
    for (size_t head = 0; head < heads; head++) {
        int is_finite;
        const float peak = oct_absmax(OCT_F32, x + head * n, n, &is_finite);
        const float scale = peak > 0 ? peak / 448 : 1;
        oct_encode_e4m3(codes, OCT_F32, x + head * n, n, scale);
        oct_kernels_get()->decode_e4m3(y + head * n, codes, n, scale);
    }
    return y;
}

// One query with the kernel's own roundings of weights, 64 keys at a time, in binary64.
static void attend_in_tiles(float *out, const float *q, const float *k, const float *v, size_t keys)
{
    double sums[HEAD] = {0}, total = 0, max = -INFINITY;
    for (size_t first = 0; first < keys; first += 64) {
        const size_t n = keys - first < 64 ? keys - first : 64;
        double score[64] = {0}, before = max;
        for (size_t j = 0; j < n; j++) {
            for (size_t c = 0; c < HEAD; c++) score[j] += (double)q[c] * k[(first + j) * HEAD + c];
            max = fmax(max, score[j] / 8);
        }
        total *= exp(before - max);
        for (size_t c = 0; c < HEAD; c++) sums[c] *= exp(before - max);
        for (size_t j = 0; j < n; j++) {
            const float weight = (float)exp(score[j] / 8 - max);
            uint8_t code;
            float rounded;
            oct_encode_e4m3(&code, OCT_F32, &weight, 1, 0x1p-8f);
            oct_kernels_get()->decode_e4m3(&rounded, &code, 1, 0x1p-8f);
            total += weight;
            for (size_t c = 0; c < HEAD; c++)
                sums[c] += (double)rounded * v[(first + j) * HEAD + c];
        }
    }
    for (size_t c = 0; c < HEAD; c++) out[c] = (float)(sums[c] / total);
}

// A weight whose exponential is off by a bit may be rounded to the code beside the right one, an
// eighth away; few are. So each number may be off by an eighth of A, and all of them together, of
// sum |got - want| / sum A, by 2^-9: what one weight in 64 would do.
static void check_encoded_target(cuda_check *t, const cuda_target *y, const float *want,
                                 float *bound)
{
    float *got = cuda_host(y->n * sizeof *got);
    double error = 0, magnitude = 0;
    cuda_read(t, got, y->sink.data, y->n * sizeof *got);
    for (size_t i = 0; i < y->n; i++) {
        error += fabs((double)got[i] - want[i]);
        magnitude += bound[i];
        bound[i] = bound[i] * 0.125f + 0x1p-30f;
    }
    if (!(error <= magnitude * 0x1p-9)) cuda_report(t, "mean error %g", error / magnitude);
    cuda_check_target(t, y, want, bound);
}

static void check_encoded(cuda_check *t, const joint_case *c)
{
    const size_t joint = c->image + c->text, width = c->heads * HEAD, n = joint * width;
    cuda_case(t, "%s in E4M3, heads %zu, tokens %zu + %zu%s, %s", oct_dtype_name(c->dtype),
              c->heads, c->image, c->text, c->drops_text ? " dropped" : "", kind_name[c->kind]);
    inputs in = new_inputs(t, c->kind, c->dtype, c->heads * joint, HEAD);
    const cuda_target image = cuda_new_target(t, OCT_F32, c->image * width, 1);
    const cuda_target text = cuda_new_target(t, OCT_F32, c->text * width, 1);
    const oct_joint_attention_args args = joint_args(&in, c, image.sink, text.sink);
    const size_t bytes = oct_encode_heads_cuda_bytes(&args);
    void *garbage = cuda_host(bytes);
    memset(garbage, 0x7f, bytes);  // NaN

    const oct_joint_attention_args encoded =
        oct_encode_heads_cuda(&args, cuda_copy(garbage, bytes), NULL);
    oct_joint_attention_cuda(&encoded, NULL);
    in.q = through_e4m3(in.q, c->heads, joint * HEAD);
    in.k = through_e4m3(in.k, c->heads, joint * HEAD);
    in.v = through_e4m3(in.v, c->heads, joint * HEAD);
    float *want = cuda_host(n * sizeof *want), *bound = cuda_host(n * sizeof *bound);
    for (size_t token = 0; token < joint; token++) {
        for (size_t head = 0; head < c->heads; head++) {
            const size_t at = head * joint * HEAD;
            attend_in_tiles(want + token * width + head * HEAD, in.q + at + token * HEAD, in.k + at,
                            in.v + at, joint);
        }
    }
    attend_joint(bound, &in, in.v_magnitude, c);
    check_encoded_target(t, &image, want, bound);
    if (!c->drops_text) check_encoded_target(t, &text, want + image.n, bound + image.n);
}

// One number of one head that is none: no answer of that head is a number, all of the other are.
static void check_encoded_nan(cuda_check *t, int part, float value)
{
    const joint_case c = {.heads = 2, .image = 9, .dtype = OCT_F16};
    const size_t n = c.heads * c.image * HEAD;
    cuda_case(t, "E4M3, %f in part %d", (double)value, part);
    inputs in = new_inputs(t, PEAKED, c.dtype, c.heads * c.image, HEAD);
    float *const parts[] = {in.q, in.k, in.v};
    const void **const on_device[] = {&in.device_q, &in.device_k, &in.device_v};
    const cuda_target image = cuda_new_target(t, OCT_F32, n, 1);
    parts[part][5 * HEAD + 3] = value;
    *on_device[part] = cuda_copy(cuda_narrowed(c.dtype, parts[part], n), cuda_bytes(c.dtype, n));

    const oct_joint_attention_args args = joint_args(&in, &c, image.sink, (oct_sink){0});
    void *codes = cuda_copy(cuda_host(oct_encode_heads_cuda_bytes(&args)),
                            oct_encode_heads_cuda_bytes(&args));
    const oct_joint_attention_args encoded = oct_encode_heads_cuda(&args, codes, NULL);
    oct_joint_attention_cuda(&encoded, NULL);
    float *got = cuda_host(n * sizeof *got);
    cuda_read(t, got, image.sink.data, n * sizeof *got);
    for (size_t i = 0; i < n; i++) {
        const size_t head = i / HEAD % c.heads;
        if (isnan(got[i]) != (head == 0)) cuda_report(t, "number %zu is %f", i, (double)got[i]);
    }
}

void check_cuda_encoded_attention(cuda_check *t)
{
    static const struct {
        size_t heads, image, text;
    } shape[] = {{1, 1, 0},  {2, 1, 6},   {3, 7, 0},    {1, 63, 1},
                 {1, 1, 64}, {2, 60, 69}, {2, 100, 97}, {1, 257, 77}};
    joint_case c = {0};
    size_t count = 0;

    for (size_t i = 0; i < CHECK_COUNT(shape); i++) {
        for (c.kind = 0; c.kind < KINDS; c.kind++, count++) {
            c.heads = shape[i].heads;
            c.image = shape[i].image;
            c.text = shape[i].text;
            c.dtype = count % 2 ? OCT_F16 : OCT_BF16;
            c.drops_text = c.text > 0 && count % 5 == 0;
            check_encoded(t, &c);
        }
    }
    for (int part = 0; part < 3; part++) {
        check_encoded_nan(t, part, NAN);
        check_encoded_nan(t, part, -INFINITY);
    }
    check_encoded(t, &(joint_case){.heads = 1, .image = 1024, .text = 333, .dtype = OCT_F16});
}

// ---- Plain attention.

typedef struct plain_case {
    size_t tokens, heads, head_dim;
    bool is_causal;
    bool has_bias;
    oct_dtype dtype, to;
    score_kind kind;
} plain_case;

// The first keys are masked for some queries altogether, others for single ones.
static float *new_bias(cuda_check *t, const plain_case *c)
{
    const size_t n = c->heads * c->tokens * c->tokens;
    float *bias = cuda_uniform(t, n, 3);
    for (size_t i = 0; i < n; i++) {
        const size_t key = i % c->tokens, query = i / c->tokens % c->tokens;
        if (query % 5 == 3 && key < 70 && key != query) bias[i] = -INFINITY;
        if (query % 7 == 2 && key % 3 == 1 && key != query) bias[i] = -INFINITY;
    }
    return bias;
}

static void check_plain(cuda_check *t, const plain_case *c)
{
    const size_t width = c->heads * c->head_dim, n = c->tokens * width;
    cuda_case(t, "%s to %s, tokens %zu, heads %zu of %zu%s%s, %s", oct_dtype_name(c->dtype),
              oct_dtype_name(c->to), c->tokens, c->heads, c->head_dim,
              c->is_causal ? ", causal" : "", c->has_bias ? ", bias" : "", kind_name[c->kind]);
    const inputs in = new_inputs(t, c->kind, c->dtype, c->tokens, width);
    const float *bias = c->has_bias ? new_bias(t, c) : NULL;
    float *want = cuda_host(n * sizeof *want), *bound = cuda_host(n * sizeof *bound);
    const cuda_target y = cuda_new_target(t, c->to, n, 0.00345f);
    const float scale = c->has_bias ? 1.0f : 0.125f;

    oct_plain_attention_cuda(
        y.sink,
        &(oct_plain_attention_args){
            .q = in.device_q,
            .k = in.device_k,
            .v = in.device_v,
            .dtype = c->dtype,
            .tokens = c->tokens,
            .heads = c->heads,
            .head_dim = c->head_dim,
            .scale = scale,
            .is_causal = c->is_causal,
            .bias = bias ? cuda_copy(bias, c->heads * c->tokens * c->tokens * sizeof *bias) : NULL,
        },
        NULL);
    oct_attention_args args = {
        .out = want,
        .out_stride = width,
        .q = in.q,
        .k = in.k,
        .v = in.v,
        .q_stride = width,
        .k_stride = width,
        .v_stride = width,
        .tokens_q = c->tokens,
        .tokens_k = c->tokens,
        .heads = c->heads,
        .head_dim = c->head_dim,
        .scale = scale,
        .is_causal = c->is_causal,
        .bias = bias,
    };
    oct_attention(&args);
    args.out = bound;
    args.v = in.v_magnitude;
    oct_attention(&args);
    const float share = share_of(&in, n, c->head_dim, scale);
    for (size_t i = 0; i < n; i++) bound[i] = bound[i] * share + 0x1p-40f;
    cuda_check_target(t, &y, want, bound);
}

// Ragged around a tile of tokens and of columns; then the shapes of CLIP, T5 and the VAE.
void check_cuda_plain_attention(cuda_check *t)
{
    static const struct {
        size_t tokens, heads, head_dim;
    } shape[] = {{1, 1, 8}, {7, 3, 24}, {63, 2, 64}, {64, 1, 72}, {65, 2, 128}, {130, 1, 264}};
    plain_case c = {0};
    size_t count = 0;

    for (size_t i = 0; i < CHECK_COUNT(shape); i++) {
        for (size_t d = 0; d < CHECK_COUNT(cuda_floats); d++) {
            for (unsigned options = 0; options < 4; options++, count++) {
                c.tokens = shape[i].tokens;
                c.heads = shape[i].heads;
                c.head_dim = shape[i].head_dim;
                c.dtype = cuda_floats[d];
                c.to = cuda_sinks[count % 4];
                c.is_causal = options & 1;
                c.has_bias = options & 2;
                c.kind = count % KINDS;
                check_plain(t, &c);
            }
        }
    }
    check_plain(t, &(plain_case){77, 12, 64, true, false, OCT_F16, OCT_F16, FLAT});
    check_plain(t, &(plain_case){154, 4, 64, false, true, OCT_F32, OCT_F32, PEAKED});
    check_plain(t, &(plain_case){256, 1, 512, false, false, OCT_BF16, OCT_BF16, RISING});
}
