// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/prepare.h"

#include "tests/cuda/emulated_runtime.h"

void bench_gpu_prepare(void)
{
    emulated_reset(
        (emulated_device){.n_devices = 1, .major = 9, .minor = 0, .bytes = (size_t)256 << 20});
}
