// SPDX-License-Identifier: Apache-2.0
//
// bench-gpu-rates: what this GPU does in a second, by the very calls that the product makes. JSON:
//
//   {"gpu": "NVIDIA H200", "sm": 90, "multiprocessors": 132, "driver": 13000, "runtime": 13000,
//    "cublaslt": "cuBLASLt 13.1.0", "copy_gb_per_s": 4300,
//    "gemm": [{"model", "layer", "pixels", "m", "n", "k", "type", "path", "us", "tflop_per_s"}],
//    "attention": [{"model", "pixels", "heads", "tokens", "type", "library", "us", "tflop_per_s"}],
//    "kernels": [{"name", "shape", "us", "gb_per_s", "of_copy"}]}
//
// "type": f16, fp8, or fp8_fast (sums kept in the tensor core). A GPU without FP8 has no fp8 rows.
// Operands are random, normally distributed: zeros would draw less power and run faster.
#pragma once

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/json.h"
#include "common/status.h"

typedef struct rates_model {
    const char *name;
    size_t hidden, heads, text_tokens;
    size_t pixels[2];  // sides of pictures
} rates_model;

typedef struct rates {
    cJSON *root;
    bool is_tiny;  // small shapes, each measured once: to try the program
    const rates_model *models;
    size_t n_models;
    struct cudaDeviceProp gpu;
    int sm;
    double copy_bytes_per_s;

    cudaStream_t stream;
    cudaEvent_t begin, end;
    size_t n;          // numbers in each pool
    uint16_t *halves;  // F16, normal
    uint8_t *codes;    // E4M3, the same numbers divided by *scale
    float *floats;     // F32, the first n / 4 of them
    float *scale;      // on the device
    void *out;         // room for n / 2 binary32 numbers
    void *workspace;   // rates_workspace()
    size_t workspace_bytes;
} rates;

// The end of the program: what CUDA says, where it is not success.
void rates_must(cudaError_t error, const char *what);

// At least `bytes`, aligned to 256; what was there before is gone.
void *rates_workspace(rates *r, size_t bytes);

// Seconds of one launch: the median of five times a few hundredths of a second's worth of launches.
// `round` counts launches, so that operands can move and do not stay in the cache.
typedef void rates_work(rates *r, void *context, size_t round);
double rates_seconds(rates *r, rates_work *work, void *context);

// Image and text tokens of a picture.
size_t rates_image_tokens(size_t pixels);

void rates_copy(rates *r);
oct_status rates_gemm(rates *r, oct_err *err);
oct_status rates_attention(rates *r, oct_err *err);
void rates_kernels(rates *r);
