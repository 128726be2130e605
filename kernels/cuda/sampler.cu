// SPDX-License-Identifier: Apache-2.0
//
// Guidance and the sampler's update in one pass over the latent.
#include "kernels/cuda/device.cuh"

__device__ static inline piece guided(const oct_sampler_args &a, const oct_step_factors &f,
                                      place at)
{
    const piece cond = load_piece(a.cond + at.first, at.count);
    piece v = cond;
    if (a.uncond) {
        v = load_piece(a.uncond + at.first, at.count);
        for (unsigned i = 0; i < PIECE; i++) v.x[i] += f.cfg * (cond.x[i] - v.x[i]);
    }
    if (a.skipped) {
        const piece skipped = load_piece(a.skipped + at.first, at.count);
        for (unsigned i = 0; i < PIECE; i++) v.x[i] += f.slg * (cond.x[i] - skipped.x[i]);
    }
    return v;
}

__global__ void sampler_step(oct_sampler_args a)
{
    const place at = flat_place(a.n);
    const oct_step_factors f = *a.factors;
    const piece v = guided(a, f, at);
    piece x = load_piece(a.x + at.first, at.count);

    if (a.denoised) {
        const piece previous = load_piece(a.previous + at.first, at.count);
        piece d;
        for (unsigned i = 0; i < PIECE; i++) {
            d.x[i] = x.x[i] - f.sigma * v.x[i];
            const float target = d.x[i] + f.extra * (d.x[i] - previous.x[i]);
            x.x[i] = f.keep * x.x[i] + (1 - f.keep) * target;
        }
        store(a.denoised + at.first, d.x, at.count);
    } else {
        for (unsigned i = 0; i < PIECE; i++) x.x[i] += f.dt * v.x[i];
    }
    store(a.x + at.first, x.x, at.count);
}

void oct_sampler_step_cuda(const oct_sampler_args *args, oct_stream stream)
{
    assert(!args->denoised || (args->previous && args->previous != args->denoised));
    launch(sampler_step, flat_grid(args->n), THREADS, stream, *args);
}
