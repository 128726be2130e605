// SPDX-License-Identifier: Apache-2.0
//
// What tests of device_cuda need: an emulated GPU, buffers on any device, layers that are made up,
// and one piece of work run on the CPU and on the GPU in every order, and compared.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "runtime/device_cuda.h"
#include "tests/cuda/emulated_runtime.h"

extern oct_cuda_libraries gpu_libraries;  // of tests: cuBLASLt is argv[1], there is no cuDNN

// To be called first.
void gpu_init(int argc, char **argv);

#define GPU_BYTES ((size_t)256 << 20)

// An emulated GPU of this compute capability: 90 for 9.0. NULL, and the case fails, when it does
// not open.
oct_device *gpu_open(int sm, const oct_device_request *request);

// Close it; the case fails when memory is left or bytes beyond a buffer were written.
void gpu_close(oct_device *device);

// ---- Buffers, of all devices, until release_all().

// n numbers in -largest..largest that F16 holds exactly; the same for the same seed. On the host,
// until the process ends.
const float *numbers(unsigned seed, size_t n, float largest);

void *room(oct_device *device, size_t n);  // for n of F32
float *put_f32(oct_device *device, const float *x, size_t n);
void *put_activation(oct_device *device, const float *x, size_t n);
void release_all(oct_device *device);

void get_f32(oct_device *device, float *to, const float *from, size_t n);
void get_activation(oct_device *device, float *to, const void *from, size_t n);
void get_operand(oct_device *device, float *to, oct_operand from, size_t n);  // times its scale

// ---- Layers.

typedef enum layer_kind {
    LAYER_F32,
    LAYER_F16,
    LAYER_BF16,
    LAYER_E4M3,
    LAYER_E4M3_STATIC,
    LAYER_E4M3_ROWS,
    LAYER_E4M3_ROWS_STATIC,
    LAYER_E5M2,
    LAYER_MX,
    LAYER_KINDS,
} layer_kind;

// With a bias; not adopted. in: a multiple of 32.
oct_linear new_layer(layer_kind kind, unsigned seed, size_t out, size_t in);
void drop_layer(oct_device *device, oct_linear *linear);  // and deinit

// ---- Work, in two places.

// Does something on the device and leaves `n` numbers in `out`.
typedef void work_fn(oct_device *device, float *out);

// The work gives the CPU's numbers on the GPU, within `bound` of the largest of them, and in mean
// square within an eighth of that; the same bits in every order of the streams.
#define CHECK_WORK(gpu, work, n, bound) CHECK(is_same_work(gpu, work, n, bound, #work))
bool is_same_work(oct_device *gpu, work_fn *work, size_t n, double bound, const char *name);

// Relative to the largest wanted number; infinite when one is not finite.
double distance(const float *got, const float *want, size_t n);
