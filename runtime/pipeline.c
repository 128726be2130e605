// SPDX-License-Identifier: Apache-2.0
//
// The three phases of a picture; the second one is in pipeline_sample.c.
#include "runtime/pipeline.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/log.h"
#include "runtime/vae_tiles.h"

#define TILE_SIDE_MIN 16  // latents; less would save little beside the weights

static oct_status check_architecture(const oct_pipeline *pipeline, oct_err *err)
{
    const oct_architecture architecture = pipeline->denoiser.architecture;

    if (architecture == OCT_ARCH_SD3) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "'%s' is a %s model: only SD3 and SD3.5 run here, others can be quantized",
                    pipeline->source.checkpoint.files[0].file.path,
                    oct_architecture_name(architecture));
}

oct_status oct_pipeline_open(oct_pipeline *pipeline, const oct_model_paths *paths, oct_err *err)
{
    *pipeline = (oct_pipeline){.device = oct_device_cpu(), .tokenizers = paths->tokenizers};
    oct_status st = oct_source_open(&pipeline->source, paths, err);
    if (!st) st = oct_denoiser_init(&pipeline->denoiser, &pipeline->source, err);
    if (!st) st = check_architecture(pipeline, err);
    if (st) oct_pipeline_close(pipeline);
    return st;
}

void oct_pipeline_close(oct_pipeline *pipeline)
{
    oct_pipeline_unload_denoiser(pipeline);
    oct_pipeline_unload_vae(pipeline);
    oct_denoiser_deinit(&pipeline->denoiser);
    oct_source_close(&pipeline->source);
    *pipeline = (oct_pipeline){0};
}

static void tell_peak(const oct_device *device)
{
    if (!device->is_gpu) return;
    oct_verbose("peak memory on %s so far: %.2f GB", device->name,
                (double)device->peak_bytes / 1e9);
}

oct_status oct_pipeline_encode(oct_pipeline *pipeline, const char *const *texts, size_t n,
                               size_t t5_tokens, oct_conditioning *out, oct_err *err)
{
    const oct_conditioning_params params = {
        .device = pipeline->device,
        .tokenizers = pipeline->tokenizers,
        .t5_tokens = t5_tokens ? t5_tokens : OCT_T5_TOKENS_DEFAULT,
    };
    const double start = oct_now_s();
    const oct_status st = oct_conditioning_encode(out, texts, n, &pipeline->source,
                                                  &pipeline->denoiser, &params, err);
    if (st) return st;
    oct_verbose("encoded %zu texts in %.1f s", n, oct_now_s() - start);
    tell_peak(pipeline->device);
    return OCT_OK;
}

oct_status oct_pipeline_load_denoiser(oct_pipeline *pipeline, const oct_plan *plan, oct_err *err)
{
    const double start = oct_now_s();
    oct_pipeline_unload_denoiser(pipeline);
    const oct_status st = oct_mmdit_load(&pipeline->mmdit, pipeline->device, &pipeline->source,
                                         &pipeline->denoiser, plan, err);
    if (st) return st;
    pipeline->has_mmdit = true;
    pipeline->plan = plan;
    oct_verbose("loaded the denoiser, %zu layers, in %.1f s", pipeline->denoiser.n_layers,
                oct_now_s() - start);
    tell_peak(pipeline->device);
    return OCT_OK;
}

void oct_pipeline_unload_denoiser(oct_pipeline *pipeline)
{
    if (pipeline->has_mmdit) oct_mmdit_deinit(&pipeline->mmdit);
    pipeline->has_mmdit = false;
    pipeline->is_evicted = false;
}

void oct_pipeline_evict_denoiser(oct_pipeline *pipeline)
{
    oct_pipeline_unload_denoiser(pipeline);
    pipeline->is_evicted = true;
}

oct_status oct_pipeline_restore_denoiser(oct_pipeline *pipeline, oct_err *err)
{
    return pipeline->is_evicted ? oct_pipeline_load_denoiser(pipeline, pipeline->plan, err)
                                : OCT_OK;
}

// ---- Decoding.

void oct_pipeline_unload_vae(oct_pipeline *pipeline)
{
    if (pipeline->has_vae) oct_vae_deinit(&pipeline->vae);
    pipeline->has_vae = false;
}

static oct_status load_vae(oct_pipeline *pipeline, oct_err *err)
{
    if (pipeline->has_vae) return OCT_OK;
    const double start = oct_now_s();
    const oct_status st = oct_vae_load(&pipeline->vae, pipeline->device, &pipeline->source, err);
    if (st) return st;
    pipeline->has_vae = true;
    oct_verbose("loaded the VAE in %.1f s", oct_now_s() - start);
    if (pipeline->vae.latent_channels == pipeline->denoiser.channels &&
        pipeline->vae.downscale == OCT_DOWNSCALE) {
        return OCT_OK;
    }
    oct_pipeline_unload_vae(pipeline);
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "the VAE does not read latents of %zu channels and 1/%d "
                    "of the picture's side",
                    (size_t)pipeline->denoiser.channels, OCT_DOWNSCALE);
}

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

// After a refusal of memory: in the largest tiles that there is room for. `err` says what the
// last of them lacked, and stays as it is where the picture is smaller than any.
static oct_status decode_in_less(oct_pipeline *pipeline, const float *z, size_t height,
                                 size_t width, float *planar, oct_err *err)
{
    oct_vae *vae = &pipeline->vae;
    const size_t longest = max(height, width);
    oct_status st = OCT_ENOMEM;
    size_t side = vae->tile_side;

    while (side >= longest || (pipeline->uses_tiles && side == vae->tile_side)) side = side / 8 * 4;
    for (; side >= TILE_SIDE_MIN && st == OCT_ENOMEM; side = side / 8 * 4) {
        // What the refusal left behind is not the tiles'.
        st = pipeline->device->ops->sync(pipeline->device, err);
        if (st == OCT_OK || st == OCT_ENOMEM)
            st = oct_vae_decode_tiled(vae, z, height, width, side, planar, err);
        if (st || pipeline->has_noted_tiles) continue;
        pipeline->has_noted_tiles = true;
        oct_note(
            "pictures are decoded in tiles of %zux%zu pixels, since %s has no room for more at "
            "once; they differ slightly from those decoded whole",
            side * vae->downscale, side * vae->downscale, pipeline->device->name);
    }
    return st;
}

static oct_status decode_planar(oct_pipeline *pipeline, const float *z, size_t height, size_t width,
                                bool may_tile, float *planar, oct_err *err)
{
    oct_vae *vae = &pipeline->vae;
    const oct_status st = pipeline->uses_tiles ? oct_vae_decode_tiled(vae, z, height, width,
                                                                      vae->tile_side, planar, err)
                                               : oct_vae_decode(vae, z, height, width, planar, err);

    if (st != OCT_ENOMEM || !may_tile || !pipeline->device->is_gpu) return st;
    return decode_in_less(pipeline, z, height, width, planar, err);
}

oct_status oct_pipeline_decode(oct_pipeline *pipeline, const float *latent, size_t width,
                               size_t height, bool may_tile, oct_image *image, oct_err *err)
{
    const size_t pixels = width * height;
    const size_t n = pipeline->denoiser.channels * pixels / (OCT_DOWNSCALE * OCT_DOWNSCALE);

    oct_status st = load_vae(pipeline, err);
    if (st) return st;
    const double start = oct_now_s();
    float *z = malloc(n * sizeof *z), *planar = malloc(3 * pixels * sizeof *planar);
    if (!z || !planar) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for a picture of %zux%zu", width, height);
        goto out;
    }
    oct_latent_to_vae(&pipeline->vae, z, latent, n);
    st = decode_planar(pipeline, z, height / OCT_DOWNSCALE, width / OCT_DOWNSCALE, may_tile, planar,
                       err);
    if (!st) st = oct_image_init(image, width, height, err);
    if (st) goto out;
    oct_image_from_planar(image, planar);
    oct_verbose("decoded %zux%zu pixels in %.1f s", width, height, oct_now_s() - start);
    tell_peak(pipeline->device);

out:
    free(z);
    free(planar);
    return st;
}

// ---- What tools report and read.

static size_t *executed_kind(oct_executed *executed, const oct_linear *linear)
{
    switch (linear->dtype) {
    case OCT_F32:
        return &executed->f32;
    case OCT_F16:
        return &executed->f16;
    case OCT_BF16:
        return &executed->bf16;
    default:
        return linear->input_scale > 0 ? &executed->fp8_static : &executed->fp8_weight_only;
    }
}

oct_executed oct_pipeline_executed(const oct_pipeline *pipeline)
{
    oct_executed executed = {0};
    if (!pipeline->has_mmdit) return executed;
    for (size_t i = 0; i < pipeline->denoiser.n_layers; i++) {
        const oct_linear *linear = &pipeline->mmdit.linears[i];
        if (linear->runs == 0) continue;
        ++*executed_kind(&executed, linear);
        executed.paths[linear->path]++;
    }
    return executed;
}

// Up to five digits, so that nothing overflows before it is checked against the model.
static const char *parse_side(const char *text, size_t *side)
{
    const size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 5) return NULL;
    *side = 0;
    for (size_t i = 0; i < digits; i++) *side = 10 * *side + (size_t)(text[i] - '0');
    return text + digits;
}

oct_status oct_size_parse(const char *text, size_t *width, size_t *height, oct_err *err)
{
    const char *rest = parse_side(text, width);
    if (rest && *rest == 'x') {
        rest = parse_side(rest + 1, height);
        if (rest && *rest == '\0') return OCT_OK;
    }
    return oct_fail(err, OCT_EUSAGE, "size '%s' is not WIDTHxHEIGHT", text);
}

uint64_t oct_peak_memory_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}
