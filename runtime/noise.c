// SPDX-License-Identifier: Apache-2.0
//
// PyTorch's normal numbers: MT19937 with Box-Muller on blocks of 16, and Philox4x32-10.
#include "runtime/noise.h"

#include <assert.h>
#include <math.h>

#include "common/number.h"

#define STATE 624
#define SHIFT 397  // M of MT19937

static const double two_pi = 6.283185307179586476925286766559;

void oct_noise_init(oct_noise *noise, uint64_t seed)
{
    noise->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < STATE; i++) {
        const uint32_t last = noise->state[i - 1];
        noise->state[i] = 1812433253u * (last ^ (last >> 30)) + i;
    }
    noise->at = STATE;
    noise->cached = 0;
    noise->has_cached = 0;
}

static void twist(uint32_t *state)
{
    for (int i = 0; i < STATE; i++) {
        const uint32_t mix = (state[i] & 0x80000000u) | (state[(i + 1) % STATE] & 0x7fffffffu);
        state[i] = state[(i + SHIFT) % STATE] ^ (mix >> 1) ^ (mix & 1 ? 0x9908b0dfu : 0);
    }
}

uint32_t oct_noise_u32(oct_noise *noise)
{
    if (noise->at == STATE) {
        twist(noise->state);
        noise->at = 0;
    }
    uint32_t y = noise->state[noise->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static double uniform_double(oct_noise *noise)
{
    const uint64_t high = oct_noise_u32(noise);
    const uint64_t bits = high << 32 | oct_noise_u32(noise);
    return (double)(bits & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

static double normal_double(oct_noise *noise)
{
    if (noise->has_cached) {
        noise->has_cached = 0;
        return noise->cached;
    }
    const double u1 = uniform_double(noise), u2 = uniform_double(noise);
    const double radius = sqrt(-2 * log1p(-u2)), angle = two_pi * u1;
    noise->cached = radius * sin(angle);
    noise->has_cached = 1;
    return radius * cos(angle);
}

// Box-Muller on 16 uniforms: the first eight are radii, the last eight angles.

static void transform_f32(float *d)
{
    for (int i = 0; i < 8; i++) {
        const float radius = sqrtf(-2 * logf(1 - d[i]));
        const float angle = 2 * (float)M_PI * d[i + 8];
        d[i] = radius * cosf(angle);
        d[i + 8] = radius * sinf(angle);
    }
}

static float round_f16(double x)
{
    return oct_f16_to_f32(oct_f32_to_f16((float)x));
}

static float round_bf16(double x)
{
    return oct_bf16_to_f32(oct_f32_to_bf16((float)x));
}

static void transform_f16(float *d)
{
    for (int i = 0; i < 8; i++) {
        const float radius = round_f16(sqrtf(-2 * logf(round_f16(1 - d[i]))));
        const float angle = round_f16(two_pi * d[i + 8]);
        d[i] = round_f16(radius * cosf(angle));
        d[i + 8] = round_f16(radius * sinf(angle));
    }
}

// Unlike F16, every intermediate is rounded.
static void transform_bf16(float *d)
{
    for (int i = 0; i < 8; i++) {
        const float log_u = round_bf16(logf(round_bf16(1 - d[i])));
        const float radius = round_bf16(sqrtf(round_bf16(-2 * log_u)));
        const float angle = round_bf16(two_pi * d[i + 8]);
        d[i] = round_bf16(radius * round_bf16(cosf(angle)));
        d[i + 8] = round_bf16(radius * round_bf16(sinf(angle)));
    }
}

static void draw_f32(oct_noise *noise, float *d, size_t n)
{
    for (size_t i = 0; i < n; i++) d[i] = (float)(oct_noise_u32(noise) & 0xffffff) * 0x1p-24f;
}

void oct_noise_f32(oct_noise *noise, float *out, size_t n)
{
    if (n < 16) {
        for (size_t i = 0; i < n; i++) out[i] = (float)normal_double(noise);
        return;
    }
    draw_f32(noise, out, n);
    for (size_t at = 0; at + 16 <= n; at += 16) transform_f32(out + at);
    if (n % 16) {  // the last 16 are drawn again, over what was there
        draw_f32(noise, out + n - 16, 16);
        transform_f32(out + n - 16);
    }
}

typedef struct half_kind {
    uint32_t mask;  // bits of a uniform
    float unit;
    void (*transform)(float *d);
    uint16_t (*narrow)(float value);
} half_kind;

// Uniforms stay integers in `out` until their block is transformed.
static void draw_half(oct_noise *noise, const half_kind *kind, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = (uint16_t)(oct_noise_u32(noise) & kind->mask);
}

static void transform_half(const half_kind *kind, uint16_t *out)
{
    float d[16];
    for (int i = 0; i < 16; i++) d[i] = (float)out[i] * kind->unit;
    kind->transform(d);
    for (int i = 0; i < 16; i++) out[i] = kind->narrow(d[i]);
}

static void noise_half(oct_noise *noise, const half_kind *kind, uint16_t *out, size_t n)
{
    assert(n >= 16);
    draw_half(noise, kind, out, n);
    for (size_t at = 0; at + 16 <= n; at += 16) transform_half(kind, out + at);
    if (n % 16) {
        draw_half(noise, kind, out + n - 16, 16);
        transform_half(kind, out + n - 16);
    }
}

void oct_noise_f16(oct_noise *noise, uint16_t *out, size_t n)
{
    noise_half(noise, &(half_kind){0x7ff, 0x1p-11f, transform_f16, oct_f32_to_f16}, out, n);
}

void oct_noise_bf16(oct_noise *noise, uint16_t *out, size_t n)
{
    noise_half(noise, &(half_kind){0xff, 0x1p-8f, transform_bf16, oct_f32_to_bf16}, out, n);
}

static void philox_words(uint64_t seed, uint64_t offset, uint64_t subsequence, uint32_t c[4])
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    c[0] = (uint32_t)offset;
    c[1] = (uint32_t)(offset >> 32);
    c[2] = (uint32_t)subsequence;
    c[3] = (uint32_t)(subsequence >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = UINT64_C(0xd2511f53) * c[0], b = UINT64_C(0xcd9e8d57) * c[2];
        const uint32_t c1 = c[1], c3 = c[3];
        c[0] = (uint32_t)(b >> 32) ^ c1 ^ key0;
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c3 ^ key1;
        c[3] = (uint32_t)a;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
}

static float philox_normal(const uint32_t words[4], unsigned which)
{
    const uint32_t *pair = words + (which & 2);
    const float unit = (float)(two_pi * 0x1p-32);
    const float u = (float)pair[0] * 0x1p-32f + 0x1p-33f;
    const float angle = fmaf((float)pair[1], unit, unit / 2);  // fused on a GPU
    const float radius = sqrtf(-2 * logf(u));
    return radius * (which & 1 ? cosf(angle) : sinf(angle));
}

void oct_noise_philox(uint64_t seed, float *out, size_t n, size_t threads)
{
    assert(threads > 0);
    for (size_t i = 0; i < n; i++) {
        const size_t turn = i / threads;
        uint32_t words[4];
        philox_words(seed, turn / 4, i % threads, words);
        out[i] = philox_normal(words, (unsigned)(turn % 4));
    }
}
