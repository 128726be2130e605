// SPDX-License-Identifier: Apache-2.0
//
// The VAE's weights: from a checkpoint to the device.
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"
#include "runtime/vae_internal.h"

#define STEM_MAX_BYTES 64
#define NAME_MAX_BYTES 128

#define SCALING_FACTOR 1.5305f
#define SHIFT_FACTOR 0.0609f
#define NORM_GROUPS 32
#define SAMPLE_SIDE 1024  // pixels

typedef struct origin {  // of the weights
    oct_device *device;  // where they go
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

// On the host.
static oct_status load_vector(float **values, const oct_source *source, const char *stem,
                              const char *leaf, const char *part, size_t count, oct_err *err)
{
    char name[NAME_MAX_BYTES];
    size_t n = 0;
    snprintf(name, sizeof name, "%s.%s.%s", stem, leaf, part);
    const oct_status st = oct_load_f32(source, OCT_VAE, name, values, &n, err);
    if (st || n == count) return st;
    free(*values);
    *values = NULL;
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

// "<stem>.<leaf>" on the host, with `in` input channels and as many outputs as the tensor has.
static oct_status read_conv(oct_conv *c, const oct_source *source, const char *stem,
                            const char *leaf, size_t in, size_t kernel, oct_err *err)
{
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.%s.weight", stem, leaf);
    const oct_source_tensor *tensor = oct_source_find(source, OCT_VAE, name);

    oct_status st = check_conv(tensor, name, in, kernel, err);
    if (st) return st;
    *c = (oct_conv){.dtype = tensor->dtype, .out = tensor->shape[0], .in = in, .kernel = kernel};
    c->weight = malloc(tensor->bytes);
    if (!c->weight) return oct_fail(err, OCT_ENOMEM, "out of memory for tensor '%s'", name);
    st = oct_source_read(tensor, c->weight, err);
    return st ? st : load_vector(&c->bias, source, stem, leaf, "bias", c->out, err);
}

static oct_status load_conv(oct_conv *c, const origin *from, const char *stem, const char *leaf,
                            size_t in, size_t kernel, oct_err *err)
{
    const oct_status st = read_conv(c, from->source, stem, leaf, in, kernel, err);
    return st ? st : from->device->ops->adopt_conv(from->device, c, err);
}

// A 1x1 convolution as the layer that it is to each pixel, with as many outputs as inputs.
static oct_status load_projection(oct_linear *linear, const origin *from, const char *stem,
                                  const char *leaf, size_t channels, oct_err *err)
{
    oct_conv c = {0};

    oct_status st = read_conv(&c, from->source, stem, leaf, channels, 1, err);
    *linear = (oct_linear){
        .name = "the VAE's attention",
        .dtype = c.dtype,
        .weight = c.weight,
        .bias = c.bias,
        .out = c.out,
        .in = c.in,
        .weight_scale = 1,
        .layer = -1,
    };
    if (!st && c.out != channels) {
        st =
            oct_fail(err, OCT_EFORMAT, "'%s' does not map %zu channels to as many", stem, channels);
    }
    if (st) return st;
    return from->device->ops->adopt(from->device, linear, OCT_PRECISION_AUTO, -1, err);
}

static oct_status load_norm(oct_vae_norm *n, const origin *from, const char *stem, const char *leaf,
                            size_t channels, oct_err *err)
{
    n->channels = channels;
    n->groups = from->norm_groups;
    if (channels % n->groups != 0) {
        return oct_fail(err, OCT_EUNSUPPORTED, "'%s.%s' has %zu channels, not a multiple of %zu",
                        stem, leaf, channels, n->groups);
    }
    const char *what = "the VAE's norms";
    oct_status st = load_vector(&n->weight, from->source, stem, leaf, "weight", channels, err);
    if (!st) st = oct_device_adopt_f32(from->device, &n->weight, channels, what, err);
    if (!st) st = load_vector(&n->bias, from->source, stem, leaf, "bias", channels, err);
    return st ? st : oct_device_adopt_f32(from->device, &n->bias, channels, what, err);
}

// *channels: of the input, then of the output.
static oct_status load_resnet(oct_vae_resnet *r, const origin *from, const char *stem,
                              size_t *channels, oct_err *err)
{
    const size_t in = *channels;
    oct_status st = load_norm(&r->norm1, from, stem, "norm1", in, err);
    if (!st) st = load_conv(&r->conv1, from, stem, "conv1", in, 3, err);
    if (!st) st = load_norm(&r->norm2, from, stem, "norm2", r->conv1.out, err);
    if (!st) st = load_conv(&r->conv2, from, stem, "conv2", r->conv1.out, 3, err);
    if (st) return st;
    *channels = r->conv2.out;
    if (*channels == in) return OCT_OK;
    st = load_conv(&r->skip, from, stem, "nin_shortcut", in, 1, err);
    if (st || r->skip.out == *channels) return st;
    return oct_fail(err, OCT_EFORMAT, "'%s.nin_shortcut' has %zu outputs, not %zu", stem,
                    r->skip.out, *channels);
}

static oct_status load_attention(oct_vae_attention *a, const origin *from, const char *stem,
                                 size_t channels, oct_err *err)
{
    oct_status st = load_norm(&a->norm, from, stem, "norm", channels, err);
    if (!st) st = load_projection(&a->q, from, stem, "q", channels, err);
    if (!st) st = load_projection(&a->k, from, stem, "k", channels, err);
    if (!st) st = load_projection(&a->v, from, stem, "v", channels, err);
    if (!st) st = load_projection(&a->proj, from, stem, "proj_out", channels, err);
    return st;
}

// side: "decoder.up" with "upsample.conv", "encoder.down" with "downsample.conv".
static oct_status load_level(oct_vae_level *l, const origin *from, const char *side,
                             const char *resample, size_t index, size_t *channels, oct_err *err)
{
    char stem[STEM_MAX_BYTES];
    oct_status st = OCT_OK;
    for (size_t i = 0; i < OCT_VAE_RESNETS_MAX && !st; i++) {
        snprintf(stem, sizeof stem, "%s.%zu.block.%zu", side, index, i);
        if (!has_tensor(from->source, stem, "conv1")) break;
        st = load_resnet(&l->resnets[i], from, stem, channels, err);
        l->n_resnets = i + 1;
    }
    if (st || !resample) return st;
    snprintf(stem, sizeof stem, "%s.%zu", side, index);
    st = load_conv(&l->resample, from, stem, resample, *channels, 3, err);
    if (!st) *channels = l->resample.out;
    return st;
}

static size_t count_levels(const oct_source *source, const char *side)
{
    char stem[STEM_MAX_BYTES];
    for (size_t i = 0; i < OCT_VAE_LEVELS_MAX; i++) {
        snprintf(stem, sizeof stem, "%s.%zu.block.0", side, i);
        if (!has_tensor(source, stem, "conv1")) return i;
    }
    return OCT_VAE_LEVELS_MAX;
}

static oct_status load_middle(oct_vae_coder *c, const origin *from, const char *name,
                              size_t *channels, oct_err *err)
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

static oct_status load_ends(oct_vae_coder *c, const origin *from, const char *name, size_t channels,
                            oct_err *err)
{
    const oct_status st = load_norm(&c->norm_out, from, name, "norm_out", channels, err);
    return st ? st : load_conv(&c->conv_out, from, name, "conv_out", channels, 3, err);
}

static oct_status load_decoder(oct_vae_coder *c, const origin *from, size_t latent_channels,
                               oct_err *err)
{
    c->n_levels = count_levels(from->source, "decoder.up");
    oct_status st = load_conv(&c->conv_in, from, "decoder", "conv_in", latent_channels, 3, err);
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

static oct_status load_encoder(oct_vae_coder *c, const origin *from, const oct_vae *vae,
                               oct_err *err)
{
    const size_t n = c->n_levels = count_levels(from->source, "encoder.down");
    oct_status st = load_conv(&c->conv_in, from, "encoder", "conv_in", 3, 3, err);
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

// The picture that the VAE was trained on is a tile.
static oct_status read_tile_side(oct_vae *vae, const cJSON *config, oct_err *err)
{
    uint64_t side = 0;
    if (!cJSON_GetObjectItemCaseSensitive(config, "sample_size")) return OCT_OK;
    const oct_status st = oct_json_count(config, "sample_size", &side, err);
    if (st) return st;
    if (side < 4 * vae->downscale) {
        return oct_fail(err, OCT_EFORMAT, "'sample_size' must be at least %zu", 4 * vae->downscale);
    }
    vae->tile_side = (size_t)side / vae->downscale / 4 * 4;
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
    if (!st) st = read_tile_side(vae, config, err);
    if (!st && !(vae->scaling_factor > 0 && isfinite(vae->scaling_factor))) {
        st = oct_fail(err, OCT_EFORMAT, "'scaling_factor' must be positive");
    }
    cJSON_Delete(config);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

oct_status oct_vae_load(oct_vae *vae, oct_device *device, oct_source *source, oct_err *err)
{
    origin from = {device, source, NORM_GROUPS};

    *vae =
        (oct_vae){.device = device, .scaling_factor = SCALING_FACTOR, .shift_factor = SHIFT_FACTOR};
    oct_status st = check_family(source, err);
    if (st) return st;
    vae->latent_channels = oct_source_find(source, OCT_VAE, "decoder.conv_in.weight")->shape[1];
    vae->downscale = (size_t)1 << (count_levels(source, "decoder.up") - 1);
    vae->tile_side = SAMPLE_SIDE / vae->downscale;
    vae->weights = calloc(1, sizeof *vae->weights);
    if (!vae->weights) return oct_fail(err, OCT_ENOMEM, "out of memory for the VAE");

    const char *config = oct_checkpoint_config(&source->checkpoint, OCT_VAE);
    if (config) st = read_config(vae, &from, config, err);
    if (!st) st = load_decoder(&vae->weights->decoder, &from, vae->latent_channels, err);
    if (!st && count_levels(source, "encoder.down") > 0) {
        st = load_encoder(&vae->weights->encoder, &from, vae, err);
    }
    if (!st) st = device->ops->sync(device, err);
    if (st) oct_vae_deinit(vae);
    return st;
}

static void release_norm(oct_device *device, oct_vae_norm *n)
{
    device->ops->release(device, n->weight);
    device->ops->release(device, n->bias);
}

static void drop_resnet(oct_device *device, oct_vae_resnet *r)
{
    release_norm(device, &r->norm1);
    release_norm(device, &r->norm2);
    device->ops->drop_conv(device, &r->conv1);
    device->ops->drop_conv(device, &r->conv2);
    device->ops->drop_conv(device, &r->skip);
}

static void drop_attention(oct_device *device, oct_vae_attention *a)
{
    oct_linear *const linears[] = {&a->q, &a->k, &a->v, &a->proj};

    release_norm(device, &a->norm);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        device->ops->drop(device, linears[i]);
        oct_linear_deinit(linears[i]);
    }
}

static void drop_coder(oct_device *device, oct_vae_coder *c)
{
    device->ops->drop_conv(device, &c->conv_in);
    device->ops->drop_conv(device, &c->conv_out);
    release_norm(device, &c->norm_out);
    drop_resnet(device, &c->mid1);
    drop_resnet(device, &c->mid2);
    drop_attention(device, &c->attn);
    for (size_t i = 0; i < OCT_VAE_LEVELS_MAX; i++) {
        for (size_t j = 0; j < OCT_VAE_RESNETS_MAX; j++) {
            drop_resnet(device, &c->levels[i].resnets[j]);
        }
        device->ops->drop_conv(device, &c->levels[i].resample);
    }
}

void oct_vae_deinit(oct_vae *vae)
{
    if (vae->weights) {
        drop_coder(vae->device, &vae->weights->decoder);
        drop_coder(vae->device, &vae->weights->encoder);
        free(vae->weights);
    }
    *vae = (oct_vae){0};
}
