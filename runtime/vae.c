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
#include <stdio.h>

#include "runtime/vae_internal.h"

#define EPS 1e-6f

typedef struct map {  // a feature map, activation [channels][height][width], owned
    oct_device *device;
    void *data;
    size_t channels, height, width;
} map;

static size_t pixels_of(const map *m)
{
    return m->height * m->width;
}

static oct_map_shape shape_of(const map *m)
{
    return (oct_map_shape){m->channels, m->height, m->width};
}

static void map_deinit(map *m)
{
    if (m->data) m->device->ops->release(m->device, m->data);
    *m = (map){0};
}

static oct_status map_init(map *m, oct_device *device, size_t channels, size_t height, size_t width,
                           oct_err *err)
{
    const size_t element_bytes = oct_dtype_bits(device->activation) / 8;
    size_t pixels = 0, bytes = 0;
    char what[96];

    snprintf(what, sizeof what, "%zu channels of %zux%zu in the VAE", channels, width, height);
    *m = (map){.device = device, .channels = channels, .height = height, .width = width};
    if (!__builtin_mul_overflow(height, width, &pixels) && pixels <= INT_MAX &&
        !__builtin_mul_overflow(pixels, channels * element_bytes, &bytes)) {
        return device->ops->alloc(device, &m->data, bytes, what, err);
    }
    return oct_fail(err, OCT_ENOMEM, "out of memory for %s", what);
}

static void swap(map *a, map *b)
{
    const map kept = *a;
    *a = *b;
    *b = kept;
}

static bool is_there(const oct_conv *c)
{
    return c->out > 0;
}

static void convolve(const oct_conv *c, void *y, const map *x)
{
    assert(x->channels == c->in);
    x->device->ops->conv2d(x->device, y, x->data, c, x->height, x->width);
}

static void normalize(const oct_vae_norm *n, void *y, const map *x, bool silu)
{
    assert(x->channels == n->channels);
    x->device->ops->group_norm(x->device, y, x->data, n->weight, n->bias, EPS, n->groups,
                               shape_of(x), silu);
}

// x becomes conv(x).
static oct_status apply_conv(const oct_conv *c, map *x, oct_err *err)
{
    map y = {0};
    const oct_status st = map_init(&y, x->device, c->out, x->height, x->width, err);
    if (!st) {
        convolve(c, y.data, x);
        swap(x, &y);
    }
    map_deinit(&y);
    return st;
}

// x becomes x + h, or skip(x) + h; then x itself may be overwritten by the norm.
static oct_status apply_resnet(const oct_vae_resnet *r, map *x, oct_err *err)
{
    map t = {0}, u = {0};
    const size_t height = x->height, width = x->width;

    oct_status st = map_init(&t, x->device, r->conv2.out, height, width, err);
    if (st) goto out;
    if (is_there(&r->skip)) {
        convolve(&r->skip, t.data, x);
        swap(&t, x);
        normalize(&r->norm1, t.data, &t, true);
    } else {
        normalize(&r->norm1, t.data, x, true);
    }
    st = map_init(&u, x->device, r->conv1.out, height, width, err);
    if (st) goto out;
    convolve(&r->conv1, u.data, &t);
    normalize(&r->norm2, u.data, &u, true);
    if (is_there(&r->skip)) {
        map_deinit(&t);
        st = map_init(&t, x->device, r->conv2.out, height, width, err);
        if (st) goto out;
    }
    convolve(&r->conv2, t.data, &u);
    x->device->ops->add(x->device, x->data, t.data, x->channels * pixels_of(x));

out:
    map_deinit(&t);
    map_deinit(&u);
    return st;
}

typedef struct tokens {  // activations [pixels][channels]; views into `block`
    void *block;
    void *x, *q, *k, *v;
    void *attended;  // operand
} tokens;

// Returns how many bytes the block must have.
static size_t lay_out(tokens *t, const map *x)
{
    const size_t n = x->channels * pixels_of(x);
    oct_carver carver = {.device = x->device, .block = t->block};

    t->x = oct_carve_activation(&carver, n);
    t->q = oct_carve_activation(&carver, n);
    t->k = oct_carve_activation(&carver, n);
    t->v = oct_carve_activation(&carver, n);
    t->attended = oct_carve_f32(&carver, n);
    return carver.used;
}

// One head over all channels; every pixel is a token.
static oct_status apply_attention(oct_vae_attention *a, map *x, oct_err *err)
{
    oct_device *device = x->device;
    const size_t c = x->channels, n = pixels_of(x);
    tokens t = {0};

    const oct_status st =
        device->ops->alloc(device, &t.block, lay_out(&t, x), "the attention of the VAE", err);
    if (st) return st;
    lay_out(&t, x);
    normalize(&a->norm, t.q, x, false);
    device->ops->transpose(device, t.x, t.q, c, n);
    const oct_operand input = device->ops->plain(device, t.x);
    const oct_operand attended = device->ops->operand(device, &a->proj, t.attended);
    device->ops->linear(device, &a->q, t.q, false, input, n);
    device->ops->linear(device, &a->k, t.k, false, input, n);
    device->ops->linear(device, &a->v, t.v, false, input, n);
    device->ops->plain_attention(device, &(oct_plain_attention){
                                             .out = attended,
                                             .q = t.q,
                                             .k = t.k,
                                             .v = t.v,
                                             .tokens = n,
                                             .heads = 1,
                                             .head_dim = c,
                                             .scale = 1 / sqrtf((float)c),
                                         });
    device->ops->linear(device, &a->proj, t.q, false, attended, n);
    device->ops->transpose(device, t.k, t.q, n, c);
    device->ops->add(device, x->data, t.k, n * c);
    device->ops->release(device, t.block);
    return OCT_OK;
}

static oct_status apply_middle(oct_vae_coder *c, map *x, oct_err *err)
{
    oct_status st = apply_resnet(&c->mid1, x, err);
    if (!st) st = apply_attention(&c->attn, x, err);
    if (!st) st = apply_resnet(&c->mid2, x, err);
    return st;
}

static oct_status upsample(const oct_conv *c, map *x, oct_err *err)
{
    map y = {0};
    oct_status st = map_init(&y, x->device, x->channels, 2 * x->height, 2 * x->width, err);
    if (!st) {
        x->device->ops->upsample2(x->device, y.data, x->data, shape_of(x));
        swap(x, &y);
        map_deinit(&y);
        st = apply_conv(c, x, err);
    }
    return st;
}

static oct_status downsample(const oct_conv *c, map *x, oct_err *err)
{
    map y = {0};
    const oct_status st = map_init(&y, x->device, c->out, x->height / 2, x->width / 2, err);
    if (!st) {
        x->device->ops->conv2d_down2(x->device, y.data, x->data, c, x->height, x->width);
        swap(x, &y);
    }
    map_deinit(&y);
    return st;
}

static oct_status apply_resnets(const oct_vae_level *l, map *x, oct_err *err)
{
    oct_status st = OCT_OK;
    for (size_t i = 0; i < l->n_resnets && !st; i++) st = apply_resnet(&l->resnets[i], x, err);
    return st;
}

// numbers: F32 on the host, as many as `m` has.
static oct_status write_map(map *m, const float *numbers, oct_err *err)
{
    oct_device *device = m->device;
    const size_t n = m->channels * pixels_of(m);
    void *moved = NULL;

    const oct_status st =
        device->ops->alloc(device, &moved, n * sizeof *numbers, "what enters the VAE", err);
    if (st) return st;
    device->ops->write(device, moved, numbers, n * sizeof *numbers);
    device->ops->to_map(device, m->data, moved, n);
    device->ops->release(device, moved);
    return OCT_OK;
}

static oct_status read_map(const map *m, float *numbers, oct_err *err)
{
    oct_device *device = m->device;
    const size_t n = m->channels * pixels_of(m);
    void *moved = NULL;

    oct_status st =
        device->ops->alloc(device, &moved, n * sizeof *numbers, "what leaves the VAE", err);
    if (st) return st;
    device->ops->from_map(device, moved, m->data, n);
    st = device->ops->read(device, numbers, moved, n * sizeof *numbers, err);
    device->ops->release(device, moved);
    return st;
}

static oct_status start(const oct_vae_coder *c, map *x, const float *numbers, oct_err *err)
{
    const oct_status st = write_map(x, numbers, err);
    return st ? st : apply_conv(&c->conv_in, x, err);
}

static oct_status finish(const oct_vae_coder *c, map *x, float *numbers, oct_err *err)
{
    normalize(&c->norm_out, x->data, x, true);
    const oct_status st = apply_conv(&c->conv_out, x, err);
    return st ? st : read_map(x, numbers, err);
}

oct_status oct_vae_decode(oct_vae *vae, const float *z, size_t height, size_t width, float *image,
                          oct_err *err)
{
    oct_vae_coder *c = &vae->weights->decoder;
    map x = {0};

    oct_status st = map_init(&x, vae->device, c->conv_in.in, height, width, err);
    if (st) goto out;
    st = start(c, &x, z, err);
    if (!st) st = apply_middle(c, &x, err);
    for (size_t i = c->n_levels; i-- > 0 && !st;) {
        st = apply_resnets(&c->levels[i], &x, err);
        if (!st && is_there(&c->levels[i].resample)) st = upsample(&c->levels[i].resample, &x, err);
    }
    if (!st) st = finish(c, &x, image, err);

out:
    map_deinit(&x);
    return st;
}

oct_status oct_vae_encode(oct_vae *vae, const float *image, size_t height, size_t width,
                          float *moments, oct_err *err)
{
    oct_vae_coder *c = &vae->weights->encoder;
    map x = {0};

    if (c->n_levels == 0) return oct_fail(err, OCT_EUNSUPPORTED, "the VAE has no encoder");
    assert(height % vae->downscale == 0 && width % vae->downscale == 0);
    oct_status st = map_init(&x, vae->device, c->conv_in.in, height, width, err);
    if (st) goto out;
    st = start(c, &x, image, err);
    for (size_t i = 0; i < c->n_levels && !st; i++) {
        st = apply_resnets(&c->levels[i], &x, err);
        if (!st && is_there(&c->levels[i].resample))
            st = downsample(&c->levels[i].resample, &x, err);
    }
    if (!st) st = apply_middle(c, &x, err);
    if (!st) st = finish(c, &x, moments, err);

out:
    map_deinit(&x);
    return st;
}

void oct_latent_to_vae(const oct_vae *vae, float *z, const float *latent, size_t n)
{
    for (size_t i = 0; i < n; i++) z[i] = latent[i] / vae->scaling_factor + vae->shift_factor;
}
