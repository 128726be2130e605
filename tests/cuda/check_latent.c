// SPDX-License-Identifier: Apache-2.0
//
// What stands at the two ends of a step: embeddings, patches, the sampler. All the same bits.
#include "common/number.h"
#include "tests/cuda/check_cuda.h"

static const oct_latent_shape shapes[] = {
    {1, 2, 2, 2}, {3, 4, 6, 2}, {16, 2, 2, 2}, {4, 6, 9, 3}, {16, 24, 10, 2}, {5, 3, 7, 1},
};

static void check_gather(cuda_check *t, oct_dtype to, oct_latent_shape s)
{
    const size_t n = s.channels * s.height * s.width, p = s.patch;
    cuda_case(t, "to %s, %zux%zux%zu by %zu", oct_dtype_name(to), s.channels, s.height, s.width, p);
    const float *latent = cuda_uniform(t, n, 4);
    float *want = cuda_host(n * sizeof *want), *next = want;
    const cuda_target y = cuda_new_target(t, to, n, 0.01f);

    for (size_t gy = 0; gy < s.height / p; gy++)
        for (size_t gx = 0; gx < s.width / p; gx++)
            for (size_t c = 0; c < s.channels; c++)
                for (size_t i = 0; i < p * p; i++)
                    *next++ = latent[(c * s.height + gy * p + i / p) * s.width + gx * p + i % p];
    oct_patchify_cuda(y.sink, cuda_copy(latent, n * sizeof *latent), s, NULL);
    cuda_check_target(t, &y, want, NULL);
}

void check_cuda_patchify(cuda_check *t)
{
    for (size_t s = 0; s < CHECK_COUNT(cuda_sinks); s++)
        for (size_t i = 0; i < CHECK_COUNT(shapes); i++) check_gather(t, cuda_sinks[s], shapes[i]);
}

static void check_scatter(cuda_check *t, oct_dtype from, oct_latent_shape s)
{
    const size_t n = s.channels * s.height * s.width, p = s.patch;
    cuda_case(t, "%s, %zux%zux%zu by %zu", oct_dtype_name(from), s.channels, s.height, s.width, p);
    const void *patches = cuda_fill(t, CHECK_UNIFORM, from, n, 0.01f);
    const float *next = cuda_widened(from, patches, n);
    float *want = cuda_host(n * sizeof *want);
    const cuda_target latent = cuda_new_target(t, OCT_F32, n, 1);

    for (size_t gy = 0; gy < s.height / p; gy++)
        for (size_t gx = 0; gx < s.width / p; gx++)
            for (size_t i = 0; i < p * p; i++)
                for (size_t c = 0; c < s.channels; c++)
                    want[(c * s.height + gy * p + i / p) * s.width + gx * p + i % p] = *next++;
    oct_unpatchify_cuda(latent.sink.data, from, cuda_copy(patches, cuda_bytes(from, n)), s, NULL);
    cuda_check_floats(t, latent.sink.data, want, NULL, n);
}

void check_cuda_unpatchify(cuda_check *t)
{
    for (size_t f = 0; f < CHECK_COUNT(cuda_floats); f++)
        for (size_t i = 0; i < CHECK_COUNT(shapes); i++)
            check_scatter(t, cuda_floats[f], shapes[i]);
}

static void check_lookup(cuda_check *t, oct_dtype from, size_t tokens, size_t width, bool has_scale,
                         bool has_position)
{
    const size_t rows = 37, n = tokens * width;
    const float scale = has_scale ? 0.0371f : 1;
    cuda_case(t, "%s, %zux%zu%s%s", oct_dtype_name(from), tokens, width, has_scale ? ", scale" : "",
              has_position ? ", position" : "");
    uint8_t *table = cuda_host(cuda_bytes(from, rows * width));
    if (from == OCT_F8_E4M3 || from == OCT_F8_E5M2)
        for (size_t i = 0; i < rows * width; i++)
            table[i] = (uint8_t)(check_random(&t->fill) % 0x7c);
    else
        table = cuda_fill(t, CHECK_UNIFORM, from, rows * width, 0.01f);
    const float *wide = cuda_widened(from, table, rows * width);
    const float *position = has_position ? cuda_uniform(t, n, 2) : NULL;
    int32_t *ids = cuda_host(tokens * sizeof *ids);
    float *want = cuda_host(n * sizeof *want);
    const cuda_target y = cuda_new_target(t, OCT_F32, n, 1);

    for (size_t i = 0; i < tokens; i++)
        ids[i] = (int32_t)(i == 0 ? rows - 1 : check_random(&t->fill) % rows);
    for (size_t i = 0; i < n; i++) {
        want[i] = wide[(size_t)ids[i / width] * width + i % width] * scale;
        if (position) want[i] += position[i];
    }
    oct_embed_cuda(y.sink.data,
                   &(oct_embed_args){
                       .table = cuda_copy(table, cuda_bytes(from, rows * width)),
                       .dtype = from,
                       .scale = has_scale ? cuda_scalar(scale) : NULL,
                       .position = position ? cuda_copy(position, n * sizeof *position) : NULL,
                       .ids = cuda_copy(ids, tokens * sizeof *ids),
                       .tokens = tokens,
                       .width = width,
                   },
                   NULL);
    cuda_check_floats(t, y.sink.data, want, NULL, n);
}

void check_cuda_embed(cuda_check *t)
{
    static const struct {
        size_t tokens, width;
    } shape[] = {{1, 8}, {3, 24}, {77, 768}, {5, 4096}};

    static const oct_dtype stored[] = {OCT_F32, OCT_F16, OCT_BF16, OCT_F8_E4M3, OCT_F8_E5M2};

    for (size_t s = 0; s < CHECK_COUNT(stored); s++)
        for (size_t i = 0; i < CHECK_COUNT(shape); i++)
            for (int parts = 0; parts < 4; parts++)
                check_lookup(t, stored[s], shape[i].tokens, shape[i].width, parts & 1, parts & 2);
}

// The formulas of runtime/pipeline.c and runtime/sampler.c.
static float guided(const oct_step_factors *f, float cond, const float *uncond,
                    const float *skipped)
{
    float v = uncond ? *uncond + f->cfg * (cond - *uncond) : cond;
    if (skipped) v += f->slg * (cond - *skipped);
    return v;
}

static void step(const oct_step_factors *f, float *x, float v, float *denoised, float previous)
{
    if (!denoised) {
        *x += f->dt * v;
        return;
    }
    *denoised = *x - f->sigma * v;
    const float target = *denoised + f->extra * (*denoised - previous);
    *x = f->keep * *x + (1 - f->keep) * target;
}

static void check_step(cuda_check *t, size_t n, bool has_uncond, bool has_skipped, bool is_euler)
{
    cuda_case(t, "n %zu%s%s%s", n, has_uncond ? ", uncond" : "", has_skipped ? ", skipped" : "",
              is_euler ? ", Euler" : "");
    const size_t bytes = n * sizeof(float);
    const oct_step_factors f = {4.5f, 2.8f, -0.0371f, 0.731f, 0.9492f, 0.4871f};
    float *x = cuda_uniform(t, n, 5), *denoised = cuda_host(bytes);
    const float *cond = cuda_uniform(t, n, 2), *uncond = cuda_uniform(t, n, 2);
    const float *skipped = cuda_uniform(t, n, 2), *previous = cuda_uniform(t, n, 2);
    const oct_sampler_args a = {
        .x = cuda_copy(x, bytes),
        .cond = cuda_copy(cond, bytes),
        .uncond = has_uncond ? cuda_copy(uncond, bytes) : NULL,
        .skipped = has_skipped ? cuda_copy(skipped, bytes) : NULL,
        .denoised = is_euler ? NULL : cuda_copy(denoised, bytes),
        .previous = is_euler ? NULL : cuda_copy(previous, bytes),
        .factors = cuda_copy(&f, sizeof f),
        .n = n,
    };

    oct_sampler_step_cuda(&a, NULL);
    for (size_t i = 0; i < n; i++) {
        const float v =
            guided(&f, cond[i], has_uncond ? &uncond[i] : NULL, has_skipped ? &skipped[i] : NULL);
        step(&f, &x[i], v, is_euler ? NULL : &denoised[i], previous[i]);
    }
    cuda_check_floats(t, a.x, x, NULL, n);
    if (!is_euler) cuda_check_floats(t, a.denoised, denoised, NULL, n);
}

void check_cuda_sampler_step(cuda_check *t)
{
    for (const size_t *n = cuda_sizes; *n != SIZE_MAX; n++)
        for (int parts = 0; parts < 8; parts++) check_step(t, *n, parts & 1, parts & 2, parts & 4);
}
