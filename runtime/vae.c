// SPDX-License-Identifier: Apache-2.0
//
// The SD3 VAE. Structure and formulas: Stability-AI/sd3.5.
//
// Feature maps of a large picture take a gigabyte, so each lives only as long as it is needed and
// what can be overwritten is.
#include "runtime/vae.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "kernels/ops.h"
#include "runtime/linear.h"

#define EPS 1e-6f
#define LEVELS_MAX 8
#define RESNETS_MAX 16
#define STEM_MAX_BYTES 64
#define NAME_MAX_BYTES 128

#define SCALING_FACTOR 1.5305f
#define SHIFT_FACTOR 0.0609f
#define NORM_GROUPS 32

typedef struct conv {
    oct_dtype dtype;
    void *weight;  // [out][in][kernel][kernel]; NULL: there is none
    float *bias;   // [out]
    size_t out, in, kernel;
} conv;

typedef struct norm {
    float *weight, *bias;  // [channels]
    size_t channels, groups;
} norm;

typedef struct resnet {
    norm norm1, norm2;
    conv conv1, conv2;
    conv skip;  // when the channels change
} resnet;

typedef struct attention {
    norm norm;
    conv q, k, v, proj;  // 1x1
} attention;

typedef struct level {
    resnet resnets[RESNETS_MAX];
    size_t n_resnets;
    conv resample;  // none where the size stays
} level;

typedef struct coder {  // the encoder or the decoder
    conv conv_in, conv_out;
    resnet mid1, mid2;
    attention attn;
    level levels[LEVELS_MAX];
    size_t n_levels;  // 0: absent
    norm norm_out;
} coder;

struct oct_vae_weights {
    coder decoder, encoder;
};

// ---- Loading.

typedef struct origin {  // of the weights
    const oct_source *source;
    size_t norm_groups;
} origin;

static bool has_tensor(const oct_source *source, const char *stem, const char *leaf)
{
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.%s.weight", stem, leaf);
    return oct_source_find(source, OCT_VAE, name) != NULL;
}

static bool is_conv_shape(const oct_source_tensor *tensor, size_t in, size_t kernel)
{
    const uint64_t *shape = tensor->shape;
    if (tensor->rank == 2) return kernel == 1 && shape[1] == in;  // diffusers' attention
    return tensor->rank == 4 && shape[1] == in && shape[2] == kernel && shape[3] == kernel;
}

static oct_status load_vector(float **values, const oct_source *source, const char *stem,
                              const char *leaf, const char *part, size_t count, oct_err *err)
{
    char name[NAME_MAX_BYTES];
    size_t n = 0;
    snprintf(name, sizeof name, "%s.%s.%s", stem, leaf, part);
    const oct_status st = oct_load_f32(source, OCT_VAE, name, values, &n, err);
    if (st || n == count) return st;
    return oct_fail(err, OCT_EFORMAT, "tensor '%s' has %zu elements, not %zu", name, n, count);
}

static oct_status check_conv(const oct_source_tensor *tensor, const char *name, size_t in,
                             size_t kernel, oct_err *err)
{
    if (!tensor) return oct_fail(err, OCT_EFORMAT, "tensor '%s' is missing", name);
    if (!is_conv_shape(tensor, in, kernel) || tensor->shape[0] == 0) {
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' is not of shape [n, %zu, %zu, %zu]", name,
                        in, kernel, kernel);
    }
    if (tensor->dtype != OCT_F32 && !oct_dtype_is_float16(tensor->dtype)) {
        return oct_fail(err, OCT_EUNSUPPORTED, "tensor '%s' has type %s, not F32, F16 or BF16",
                        name, oct_dtype_name(tensor->dtype));
    }
    if (tensor->bytes > INT_MAX) {
        return oct_fail(err, OCT_EUNSUPPORTED, "tensor '%s' has over 2 GiB", name);
    }
    return OCT_OK;
}

// "<stem>.<leaf>", with `in` input channels and as many outputs as the tensor has.
static oct_status load_conv(conv *c, const oct_source *source, const char *stem, const char *leaf,
                            size_t in, size_t kernel, oct_err *err)
{
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.%s.weight", stem, leaf);
    const oct_source_tensor *tensor = oct_source_find(source, OCT_VAE, name);

    oct_status st = check_conv(tensor, name, in, kernel, err);
    if (st) return st;
    *c = (conv){.dtype = tensor->dtype, .out = tensor->shape[0], .in = in, .kernel = kernel};
    c->weight = malloc(tensor->bytes);
    if (!c->weight) return oct_fail(err, OCT_ENOMEM, "out of memory for tensor '%s'", name);
    st = oct_source_read(tensor, c->weight, err);
    return st ? st : load_vector(&c->bias, source, stem, leaf, "bias", c->out, err);
}

static oct_status load_norm(norm *n, const origin *from, const char *stem, const char *leaf,
                            size_t channels, oct_err *err)
{
    n->channels = channels;
    n->groups = from->norm_groups;
    if (channels % n->groups != 0) {
        return oct_fail(err, OCT_EUNSUPPORTED, "'%s.%s' has %zu channels, not a multiple of %zu",
                        stem, leaf, channels, n->groups);
    }
    const oct_status st =
        load_vector(&n->weight, from->source, stem, leaf, "weight", channels, err);
    return st ? st : load_vector(&n->bias, from->source, stem, leaf, "bias", channels, err);
}

// *channels: of the input, then of the output.
static oct_status load_resnet(resnet *r, const origin *from, const char *stem, size_t *channels,
                              oct_err *err)
{
    const size_t in = *channels;
    oct_status st = load_norm(&r->norm1, from, stem, "norm1", in, err);
    if (!st) st = load_conv(&r->conv1, from->source, stem, "conv1", in, 3, err);
    if (!st) st = load_norm(&r->norm2, from, stem, "norm2", r->conv1.out, err);
    if (!st) st = load_conv(&r->conv2, from->source, stem, "conv2", r->conv1.out, 3, err);
    if (st) return st;
    *channels = r->conv2.out;
    if (*channels == in) return OCT_OK;
    st = load_conv(&r->skip, from->source, stem, "nin_shortcut", in, 1, err);
    if (st || r->skip.out == *channels) return st;
    return oct_fail(err, OCT_EFORMAT, "'%s.nin_shortcut' has %zu outputs, not %zu", stem,
                    r->skip.out, *channels);
}

static oct_status load_attention(attention *a, const origin *from, const char *stem,
                                 size_t channels, oct_err *err)
{
    oct_status st = load_norm(&a->norm, from, stem, "norm", channels, err);
    if (!st) st = load_conv(&a->q, from->source, stem, "q", channels, 1, err);
    if (!st) st = load_conv(&a->k, from->source, stem, "k", channels, 1, err);
    if (!st) st = load_conv(&a->v, from->source, stem, "v", channels, 1, err);
    if (!st) st = load_conv(&a->proj, from->source, stem, "proj_out", channels, 1, err);
    if (st) return st;
    if (a->q.out == channels && a->k.out == channels && a->v.out == channels &&
        a->proj.out == channels) {
        return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "'%s' does not map %zu channels to as many", stem, channels);
}

// side: "decoder.up" with "upsample.conv", "encoder.down" with "downsample.conv".
static oct_status load_level(level *l, const origin *from, const char *side, const char *resample,
                             size_t index, size_t *channels, oct_err *err)
{
    char stem[STEM_MAX_BYTES];
    oct_status st = OCT_OK;
    for (size_t i = 0; i < RESNETS_MAX && !st; i++) {
        snprintf(stem, sizeof stem, "%s.%zu.block.%zu", side, index, i);
        if (!has_tensor(from->source, stem, "conv1")) break;
        st = load_resnet(&l->resnets[i], from, stem, channels, err);
        l->n_resnets = i + 1;
    }
    if (st || !resample) return st;
    snprintf(stem, sizeof stem, "%s.%zu", side, index);
    st = load_conv(&l->resample, from->source, stem, resample, *channels, 3, err);
    if (!st) *channels = l->resample.out;
    return st;
}

static size_t count_levels(const oct_source *source, const char *side)
{
    char stem[STEM_MAX_BYTES];
    for (size_t i = 0; i < LEVELS_MAX; i++) {
        snprintf(stem, sizeof stem, "%s.%zu.block.0", side, i);
        if (!has_tensor(source, stem, "conv1")) return i;
    }
    return LEVELS_MAX;
}

static oct_status load_middle(coder *c, const origin *from, const char *name, size_t *channels,
                              oct_err *err)
{
    char stem[STEM_MAX_BYTES];
    snprintf(stem, sizeof stem, "%s.mid.block_1", name);
    oct_status st = load_resnet(&c->mid1, from, stem, channels, err);
    if (st) return st;
    snprintf(stem, sizeof stem, "%s.mid.attn_1", name);
    st = load_attention(&c->attn, from, stem, *channels, err);
    if (st) return st;
    snprintf(stem, sizeof stem, "%s.mid.block_2", name);
    return load_resnet(&c->mid2, from, stem, channels, err);
}

static oct_status load_ends(coder *c, const origin *from, const char *name, size_t channels,
                            oct_err *err)
{
    const oct_status st = load_norm(&c->norm_out, from, name, "norm_out", channels, err);
    return st ? st : load_conv(&c->conv_out, from->source, name, "conv_out", channels, 3, err);
}

static oct_status load_decoder(coder *c, const origin *from, size_t latent_channels, oct_err *err)
{
    c->n_levels = count_levels(from->source, "decoder.up");
    oct_status st =
        load_conv(&c->conv_in, from->source, "decoder", "conv_in", latent_channels, 3, err);
    size_t channels = c->conv_in.out;
    if (!st) st = load_middle(c, from, "decoder", &channels, err);
    for (size_t i = c->n_levels; i-- > 0 && !st;) {
        st = load_level(&c->levels[i], from, "decoder.up", i > 0 ? "upsample.conv" : NULL, i,
                        &channels, err);
    }
    if (!st) st = load_ends(c, from, "decoder", channels, err);
    if (st || c->conv_out.out == 3) return st;
    return oct_fail(err, OCT_EUNSUPPORTED, "the VAE's decoder has %zu outputs, not 3",
                    c->conv_out.out);
}

static oct_status load_encoder(coder *c, const origin *from, const oct_vae *vae, oct_err *err)
{
    const size_t n = c->n_levels = count_levels(from->source, "encoder.down");
    oct_status st = load_conv(&c->conv_in, from->source, "encoder", "conv_in", 3, 3, err);
    size_t channels = c->conv_in.out;
    for (size_t i = 0; i < n && !st; i++) {
        st = load_level(&c->levels[i], from, "encoder.down", i + 1 < n ? "downsample.conv" : NULL,
                        i, &channels, err);
    }
    if (!st) st = load_middle(c, from, "encoder", &channels, err);
    if (!st) st = load_ends(c, from, "encoder", channels, err);
    if (st) return st;
    if (c->conv_out.out == 2 * vae->latent_channels && (size_t)1 << (n - 1) == vae->downscale) {
        return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "the VAE's encoder and decoder do not fit together");
}

// What does not have this structure must not be decoded as if it had.
static oct_status check_family(const oct_source *source, oct_err *err)
{
    static const char *const foreign[] = {"quant_conv", "post_quant_conv"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        char name[NAME_MAX_BYTES];
        snprintf(name, sizeof name, "%s.weight", foreign[i]);
        if (oct_source_find(source, OCT_VAE, name)) {
            return oct_fail(err, OCT_EUNSUPPORTED, "the VAE is not SD3's: it has '%s'", name);
        }
    }
    const oct_source_tensor *in = oct_source_find(source, OCT_VAE, "decoder.conv_in.weight");
    if (!in || count_levels(source, "decoder.up") == 0) {
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "there is no VAE decoder in the model; name one "
                        "with '--vae'");
    }
    if (in->rank == 4 && in->shape[1] > 0) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "tensor 'decoder.conv_in.weight' has %d dimensions, not 4",
                    in->rank);
}

static oct_status read_constant(float *value, const cJSON *config, const char *key, oct_err *err)
{
    double number = 0;
    if (!cJSON_GetObjectItemCaseSensitive(config, key)) return OCT_OK;
    const oct_status st = oct_json_number(config, key, &number, err);
    if (!st) *value = (float)number;
    return st;
}

static oct_status read_norm_groups(size_t *groups, const cJSON *config, oct_err *err)
{
    uint64_t count = 0;
    if (!cJSON_GetObjectItemCaseSensitive(config, "norm_num_groups")) return OCT_OK;
    const oct_status st = oct_json_count(config, "norm_num_groups", &count, err);
    if (st) return st;
    if (count == 0) return oct_fail(err, OCT_EFORMAT, "'norm_num_groups' must be at least 1");
    *groups = (size_t)count;
    return OCT_OK;
}

static oct_status read_config(oct_vae *vae, origin *from, const char *path, oct_err *err)
{
    cJSON *config = NULL;
    oct_status st = oct_json_load(path, &config, err);
    if (st) return st;
    st = read_constant(&vae->scaling_factor, config, "scaling_factor", err);
    if (!st) st = read_constant(&vae->shift_factor, config, "shift_factor", err);
    if (!st) st = read_norm_groups(&from->norm_groups, config, err);
    if (!st && !(vae->scaling_factor > 0 && isfinite(vae->scaling_factor))) {
        st = oct_fail(err, OCT_EFORMAT, "'scaling_factor' must be positive");
    }
    cJSON_Delete(config);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

oct_status oct_vae_load(oct_vae *vae, oct_source *source, oct_err *err)
{
    origin from = {source, NORM_GROUPS};

    *vae = (oct_vae){.scaling_factor = SCALING_FACTOR, .shift_factor = SHIFT_FACTOR};
    oct_status st = check_family(source, err);
    if (st) return st;
    vae->latent_channels = oct_source_find(source, OCT_VAE, "decoder.conv_in.weight")->shape[1];
    vae->downscale = (size_t)1 << (count_levels(source, "decoder.up") - 1);
    vae->weights = calloc(1, sizeof *vae->weights);
    if (!vae->weights) return oct_fail(err, OCT_ENOMEM, "out of memory for the VAE");

    const char *config = oct_checkpoint_config(&source->checkpoint, OCT_VAE);
    if (config) st = read_config(vae, &from, config, err);
    if (!st) st = load_decoder(&vae->weights->decoder, &from, vae->latent_channels, err);
    if (!st && count_levels(source, "encoder.down") > 0) {
        st = load_encoder(&vae->weights->encoder, &from, vae, err);
    }
    if (st) oct_vae_deinit(vae);
    return st;
}

static void free_conv(conv *c)
{
    free(c->weight);
    free(c->bias);
}

static void free_norm(norm *n)
{
    free(n->weight);
    free(n->bias);
}

static void free_resnet(resnet *r)
{
    free_norm(&r->norm1);
    free_norm(&r->norm2);
    free_conv(&r->conv1);
    free_conv(&r->conv2);
    free_conv(&r->skip);
}

static void free_coder(coder *c)
{
    free_conv(&c->conv_in);
    free_conv(&c->conv_out);
    free_norm(&c->norm_out);
    free_resnet(&c->mid1);
    free_resnet(&c->mid2);
    free_norm(&c->attn.norm);
    free_conv(&c->attn.q);
    free_conv(&c->attn.k);
    free_conv(&c->attn.v);
    free_conv(&c->attn.proj);
    for (size_t i = 0; i < LEVELS_MAX; i++) {
        for (size_t j = 0; j < RESNETS_MAX; j++) free_resnet(&c->levels[i].resnets[j]);
        free_conv(&c->levels[i].resample);
    }
}

void oct_vae_deinit(oct_vae *vae)
{
    if (vae->weights) {
        free_coder(&vae->weights->decoder);
        free_coder(&vae->weights->encoder);
        free(vae->weights);
    }
    *vae = (oct_vae){0};
}

// ---- Running.

typedef struct map {  // a feature map, [channels][height][width], owned
    float *data;
    size_t channels, height, width;
} map;

static size_t pixels_of(const map *m)
{
    return m->height * m->width;
}

static void map_deinit(map *m)
{
    free(m->data);
    *m = (map){0};
}

static oct_status map_init(map *m, size_t channels, size_t height, size_t width, oct_err *err)
{
    size_t pixels = 0, bytes = 0;
    *m = (map){.channels = channels, .height = height, .width = width};
    if (!__builtin_mul_overflow(height, width, &pixels) && pixels <= INT_MAX &&
        !__builtin_mul_overflow(pixels, channels * sizeof *m->data, &bytes)) {
        m->data = malloc(bytes);
    }
    if (m->data) return OCT_OK;
    return oct_fail(err, OCT_ENOMEM, "out of memory for %zu channels of %zux%zu in the VAE",
                    channels, width, height);
}

static void swap(map *a, map *b)
{
    const map kept = *a;
    *a = *b;
    *b = kept;
}

static void convolve(const conv *c, float *y, const map *x)
{
    assert(x->channels == c->in);
    oct_conv2d(y, x->data, c->dtype, c->weight, c->bias, c->in, c->out, x->height, x->width,
               c->kernel);
}

static void normalize(const norm *n, map *y, const map *x, bool silu)
{
    assert(x->channels == n->channels);
    oct_group_norm(y->data, x->data, n->weight, n->bias, EPS, n->groups, n->channels, pixels_of(x),
                   silu);
}

// x becomes conv(x).
static oct_status apply_conv(const conv *c, map *x, oct_err *err)
{
    map y = {0};
    const oct_status st = map_init(&y, c->out, x->height, x->width, err);
    if (!st) {
        convolve(c, y.data, x);
        swap(x, &y);
    }
    map_deinit(&y);
    return st;
}

// x becomes x + h, or skip(x) + h; then x itself may be overwritten by the norm.
static oct_status apply_resnet(const resnet *r, map *x, oct_err *err)
{
    map t = {0}, u = {0};
    const size_t height = x->height, width = x->width;

    oct_status st = map_init(&t, r->conv2.out, height, width, err);
    if (st) goto out;
    if (r->skip.weight) {
        convolve(&r->skip, t.data, x);
        swap(&t, x);
        normalize(&r->norm1, &t, &t, true);
    } else {
        normalize(&r->norm1, &t, x, true);
    }
    st = map_init(&u, r->conv1.out, height, width, err);
    if (st) goto out;
    convolve(&r->conv1, u.data, &t);
    normalize(&r->norm2, &u, &u, true);
    if (r->skip.weight) {
        map_deinit(&t);
        st = map_init(&t, r->conv2.out, height, width, err);
        if (st) goto out;
    }
    convolve(&r->conv2, t.data, &u);
    oct_add_gated(x->data, t.data, NULL, x->channels, pixels_of(x));

out:
    map_deinit(&t);
    map_deinit(&u);
    return st;
}

// y[c][r] = x[r][c], or added to it.
static void transpose(float *y, const float *x, size_t rows, size_t cols, bool adds)
{
#pragma omp parallel for
    for (size_t c = 0; c < cols; c++) {
        float *to = y + c * rows;
        for (size_t r = 0; r < rows; r++) to[r] = (adds ? to[r] : 0) + x[r * cols + c];
    }
}

static void project(const conv *c, float *y, const float *x, size_t tokens)
{
    oct_gemm_weights(y, x, c->dtype, c->weight, c->bias, 1, tokens, c->out, c->in);
}

// One head over all channels; every pixel is a token.
static oct_status apply_attention(const attention *a, map *x, oct_err *err)
{
    const size_t c = x->channels, n = pixels_of(x);
    map work = {0};

    const oct_status st = map_init(&work, 4 * c, x->height, x->width, err);
    if (st) goto out;
    float *tokens = work.data, *q = tokens + n * c, *k = q + n * c, *v = k + n * c;  // [n][c]
    map normed = {q, c, x->height, x->width};
    normalize(&a->norm, &normed, x, false);
    transpose(tokens, normed.data, c, n, false);
    project(&a->q, q, tokens, n);
    project(&a->k, k, tokens, n);
    project(&a->v, v, tokens, n);
    oct_attention(&(oct_attention_args){
        .out = tokens,
        .out_stride = c,
        .q = q,
        .k = k,
        .v = v,
        .q_stride = c,
        .k_stride = c,
        .v_stride = c,
        .tokens_q = n,
        .tokens_k = n,
        .heads = 1,
        .head_dim = c,
        .scale = 1 / sqrtf((float)c),
    });
    project(&a->proj, q, tokens, n);
    transpose(x->data, q, n, c, true);

out:
    map_deinit(&work);
    return st;
}

static oct_status apply_middle(const coder *c, map *x, oct_err *err)
{
    oct_status st = apply_resnet(&c->mid1, x, err);
    if (!st) st = apply_attention(&c->attn, x, err);
    if (!st) st = apply_resnet(&c->mid2, x, err);
    return st;
}

static oct_status upsample(const conv *c, map *x, oct_err *err)
{
    map y = {0};
    oct_status st = map_init(&y, x->channels, 2 * x->height, 2 * x->width, err);
    if (!st) {
        oct_upsample2(y.data, x->data, x->channels, x->height, x->width);
        swap(x, &y);
        map_deinit(&y);
        st = apply_conv(c, x, err);
    }
    return st;
}

static oct_status downsample(const conv *c, map *x, oct_err *err)
{
    map y = {0};
    const oct_status st = map_init(&y, c->out, x->height / 2, x->width / 2, err);
    if (!st) {
        oct_conv2d_down2(y.data, x->data, c->dtype, c->weight, c->bias, c->in, c->out, x->height,
                         x->width);
        swap(x, &y);
    }
    map_deinit(&y);
    return st;
}

static oct_status apply_resnets(const level *l, map *x, oct_err *err)
{
    oct_status st = OCT_OK;
    for (size_t i = 0; i < l->n_resnets && !st; i++) st = apply_resnet(&l->resnets[i], x, err);
    return st;
}

static void finish(const coder *c, float *out, map *x)
{
    normalize(&c->norm_out, x, x, true);
    convolve(&c->conv_out, out, x);
}

oct_status oct_vae_decode(oct_vae *vae, const float *z, size_t height, size_t width, float *image,
                          oct_err *err)
{
    const coder *c = &vae->weights->decoder;
    map x = {0};

    oct_status st = map_init(&x, c->conv_in.in, height, width, err);
    if (st) goto out;
    memcpy(x.data, z, x.channels * pixels_of(&x) * sizeof *z);
    st = apply_conv(&c->conv_in, &x, err);
    if (!st) st = apply_middle(c, &x, err);
    for (size_t i = c->n_levels; i-- > 0 && !st;) {
        st = apply_resnets(&c->levels[i], &x, err);
        if (!st && c->levels[i].resample.weight) st = upsample(&c->levels[i].resample, &x, err);
    }
    if (!st) finish(c, image, &x);

out:
    map_deinit(&x);
    return st;
}

oct_status oct_vae_encode(oct_vae *vae, const float *image, size_t height, size_t width,
                          float *moments, oct_err *err)
{
    const coder *c = &vae->weights->encoder;
    map x = {0};

    if (c->n_levels == 0) return oct_fail(err, OCT_EUNSUPPORTED, "the VAE has no encoder");
    assert(height % vae->downscale == 0 && width % vae->downscale == 0);
    oct_status st = map_init(&x, c->conv_in.in, height, width, err);
    if (st) goto out;
    memcpy(x.data, image, x.channels * pixels_of(&x) * sizeof *image);
    st = apply_conv(&c->conv_in, &x, err);
    for (size_t i = 0; i < c->n_levels && !st; i++) {
        st = apply_resnets(&c->levels[i], &x, err);
        if (!st && c->levels[i].resample.weight) st = downsample(&c->levels[i].resample, &x, err);
    }
    if (!st) st = apply_middle(c, &x, err);
    if (!st) finish(c, moments, &x);

out:
    map_deinit(&x);
    return st;
}

void oct_latent_to_vae(const oct_vae *vae, float *z, const float *latent, size_t n)
{
    for (size_t i = 0; i < n; i++) z[i] = latent[i] / vae->scaling_factor + vae->shift_factor;
}
