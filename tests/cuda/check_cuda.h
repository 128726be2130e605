// SPDX-License-Identifier: Apache-2.0
//
// The check of our CUDA kernels, emulated or on a GPU, against the operations of the CPU.
//
// A check is a function that begins cases, fills inputs with the patterns of tests/kernels,
// launches and compares. What a case allocates, here or there, goes with the next one.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/cuda_kernels.h"
#include "tests/kernels/check.h"

typedef struct cuda_check {
    const char *operation;
    check fill;      // only its random numbers are used
    char what[160];  // the case at hand, for reports
    unsigned mismatches;
} cuda_check;

extern const oct_dtype cuda_floats[3];  // F32, F16, BF16
extern const oct_dtype cuda_sinks[4];   // and F8_E4M3
extern const size_t cuda_sizes[];  // ragged around a piece, a warp, a block; ends with SIZE_MAX

__attribute__((format(printf, 2, 3))) void cuda_case(cuda_check *t, const char *format, ...);
__attribute__((format(printf, 2, 3))) void cuda_report(cuda_check *t, const char *format, ...);

void *cuda_host(size_t bytes);                    // zeroed
void *cuda_copy(const void *host, size_t bytes);  // on the device
const float *cuda_scalar(float value);            // on the device
void cuda_read(cuda_check *t, void *host, const void *device, size_t bytes);

// n numbers of a pattern, on the host; the scale is what they will be divided by.
void *cuda_fill(cuda_check *t, check_pattern pattern, oct_dtype dtype, size_t n, float scale);

// The same as binary32, uniform in -1..1 times `largest`.
float *cuda_uniform(cuda_check *t, size_t n, float largest);

size_t cuda_bytes(oct_dtype dtype, size_t n);
float *cuda_widened(oct_dtype dtype, const void *host, size_t n);  // on the host
void *cuda_narrowed(oct_dtype dtype, const float *x, size_t n);    // F32, F16 or BF16

// A sink for n numbers, with a peak that starts at 0.
typedef struct cuda_target {
    oct_sink sink;
    float scale;
    size_t n;
} cuda_target;
cuda_target cuda_new_target(cuda_check *t, oct_dtype dtype, size_t n, float scale);

// Hold what a sink received against binary32 numbers. bound[i] is how far number i may be off
// before it is divided and rounded; a NULL bound means the same bits. NaN is NaN, of any sign.
void cuda_check_target(cuda_check *t, const cuda_target *target, const float *want,
                       const float *bound);

// Plain floats on the device against wanted ones, likewise.
void cuda_check_floats(cuda_check *t, const float *device, const float *want, const float *bound,
                       size_t n);

void check_cuda_observe(cuda_check *t);
void check_cuda_count_exponents(cuda_check *t);
void check_cuda_square_sums(cuda_check *t);
void check_cuda_convert(cuda_check *t);
void check_cuda_decode(cuda_check *t);
void check_cuda_layer_norm_modulate(cuda_check *t);
void check_cuda_layer_norm(cuda_check *t);
void check_cuda_rms_norm(cuda_check *t);
void check_cuda_activate(cuda_check *t);
void check_cuda_activate_gated(cuda_check *t);
void check_cuda_add_gated(cuda_check *t);
void check_cuda_add(cuda_check *t);
void check_cuda_transpose(cuda_check *t);
void check_cuda_upsample2(cuda_check *t);
void check_cuda_split_heads(cuda_check *t);
void check_cuda_joint_attention(cuda_check *t);
void check_cuda_encoded_attention(cuda_check *t);
void check_cuda_plain_attention(cuda_check *t);
void check_cuda_patchify(cuda_check *t);
void check_cuda_unpatchify(cuda_check *t);
void check_cuda_group_norm(cuda_check *t);
void check_cuda_embed(cuda_check *t);
void check_cuda_sampler_step(cuda_check *t);
void check_cuda_conv_direct(cuda_check *t);
void check_cuda_conv_bias(cuda_check *t);
void check_cuda_gemm_finish(cuda_check *t);
void check_cuda_fill(cuda_check *t);
