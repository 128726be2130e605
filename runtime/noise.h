// SPDX-License-Identifier: Apache-2.0
//
// Normal numbers as PyTorch makes them: the same integers, the same order.
//
// torch.manual_seed(seed); torch.randn(n, dtype) on the CPU (MT19937), and torch.randn on a GPU
// (Philox4x32-10). Transcendental functions differ from PyTorch's vectorised ones by at most 5e-7.
// F16 and BF16 have streams of their own up to some PyTorch 1 (1.13 was run); PyTorch 2.13 rounds
// the F32 stream instead: narrow what oct_noise_f32() gives for that.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct oct_noise {  // a CPU generator
    uint32_t state[624];
    int at;
    double cached;          // second normal of a pair, when n < 16
    int has_cached;
} oct_noise;

void oct_noise_init(oct_noise *noise, uint64_t seed);  // only the low 32 bits count
uint32_t oct_noise_u32(oct_noise *noise);
void oct_noise_f32(oct_noise *noise, float *out, size_t n);
void oct_noise_f16(oct_noise *noise, uint16_t *out, size_t n);   // n >= 16
void oct_noise_bf16(oct_noise *noise, uint16_t *out, size_t n);  // n >= 16

// What a GPU with `threads` generator threads in all yields (n <= threads: one normal each).
void oct_noise_philox(uint64_t seed, float *out, size_t n, size_t threads);
