// SPDX-License-Identifier: Apache-2.0
//
// Numeric kernels with several implementations, and the table that picks one.
//
// An operation is a contract that every implementation keeps to the bit. Kernels do not allocate,
// cannot fail and start no threads: callers check shapes and split the work. Pointers need no
// alignment beyond their element's.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/tensor.h"

// Largest magnitude, as the element type's own bits with the sign cleared: an integer maximum, so
// order and threads cannot change it. 0 for n = 0. A result >= 0x7c00 (F16), 0x7f80 (BF16) or
// 0x7f800000 (F32) means that a NaN or an infinity is there.
typedef uint32_t oct_absmax_f16_fn(const uint16_t *x, size_t n);
typedef uint32_t oct_absmax_bf16_fn(const uint16_t *x, size_t n);
typedef uint32_t oct_absmax_f32_fn(const float *x, size_t n);

// Encode to E4M3 with one scale:
//
//   q[i] = e4m3(x[i] / scale)
//
// x is widened exactly to binary32, divided by IEEE division (never multiplied by a reciprocal) and
// rounded once, to nearest, ties to even, saturating at 448; NaN gives 0x7f with x's sign.
// scale: finite, > 0. q may not overlap x.
typedef void oct_encode_f16_fn(uint8_t *q, const uint16_t *x, size_t n, float scale);
typedef void oct_encode_bf16_fn(uint8_t *q, const uint16_t *x, size_t n, float scale);
typedef void oct_encode_f32_fn(uint8_t *q, const float *x, size_t n, float scale);

// The same to E5M2: saturates at 57344.
typedef void oct_encode_e5m2_fn(uint8_t *q, const float *x, size_t n, float scale);

#define OCT_MX_BLOCK 32  // elements of a row that share a scale

// Encode to MXFP8 E4M3 by OCP Microscaling Formats 1.0, section 6.3: a block of 32 has the scale
//
//   s = 2^(floor(log2(amax)) - 8), at least 2^-127, as E8M0;  q[i] = e4m3(x[i] / s)
//
// Magnitudes from 448 s to 512 s saturate; an all-zero block has the scale 2^-127. x: finite,
// [blocks][32]; scales: [blocks]. q may not overlap x.
typedef void oct_encode_mx_f16_fn(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks);
typedef void oct_encode_mx_bf16_fn(uint8_t *q, uint8_t *scales, const uint16_t *x, size_t blocks);
typedef void oct_encode_mx_f32_fn(uint8_t *q, uint8_t *scales, const float *x, size_t blocks);

// Decode: x[i] = e4m3(q[i]) * scale, one binary32 multiplication. NaN codes give NaN.
typedef void oct_decode_e4m3_fn(float *x, const uint8_t *q, size_t n, float scale);

// Widen 16-bit numbers exactly to binary32. A signalling NaN may become quiet.
typedef void oct_widen_f16_fn(float *y, const uint16_t *x, size_t n);
typedef void oct_widen_bf16_fn(float *y, const uint16_t *x, size_t n);

typedef struct oct_kernels {
    oct_absmax_f16_fn     *absmax_f16;
    oct_absmax_bf16_fn    *absmax_bf16;
    oct_absmax_f32_fn     *absmax_f32;
    oct_encode_f16_fn     *encode_f16;
    oct_encode_bf16_fn    *encode_bf16;
    oct_encode_f32_fn     *encode_f32;
    oct_encode_e5m2_fn    *encode_e5m2;
    oct_encode_mx_f16_fn  *encode_mx_f16;
    oct_encode_mx_bf16_fn *encode_mx_bf16;
    oct_encode_mx_f32_fn  *encode_mx_f32;
    oct_decode_e4m3_fn    *decode_e4m3;
    oct_widen_f16_fn      *widen_f16;
    oct_widen_bf16_fn     *widen_bf16;
} oct_kernels;

enum {  // processor features, as bits
    OCT_CPU_AVX2   = 1 << 0,  // AVX2, FMA and F16C
    OCT_CPU_AVX512 = 1 << 1,  // AVX-512 F, BW, DQ and VL; implies OCT_CPU_AVX2
};

unsigned oct_cpu_features(void);                     // what this processor has
unsigned oct_cpu_features_at_most(const char *cpu);  // "c", "avx2", "avx512"; NULL: everything

// The best implementation of each operation for `features`.
void oct_kernels_init(oct_kernels *kernels, unsigned features);

// The table that the whole program uses. Starts with everything the processor has;
// oct_kernels_select() is called once by main() for --cpu, before any thread runs.
const oct_kernels *oct_kernels_get(void);
void oct_kernels_select(const char *cpu);

// The same by element type (F16, BF16, F32), for callers that hold untyped data.
// amax is returned as binary32; *is_finite is false when a NaN or infinity is there.
float oct_absmax(oct_dtype dtype, const void *x, size_t n, int *is_finite);
void oct_encode_e4m3(uint8_t *q, oct_dtype dtype, const void *x, size_t n, float scale);
void oct_encode_e5m2(uint8_t *q, oct_dtype dtype, const void *x, size_t n, float scale);
void oct_encode_mx(uint8_t *q, uint8_t *scales, oct_dtype dtype, const void *x, size_t blocks);

// Widen or decode to binary32: F32 (copied), F16, BF16, F8_E4M3 (times 1), F8_E5M2.
void oct_widen(float *y, oct_dtype dtype, const void *x, size_t n);

// Decode MXFP8 E4M3: exact unless it overflows. y: [blocks][32].
void oct_decode_mx(float *y, const uint8_t *q, const uint8_t *scales, size_t blocks);
