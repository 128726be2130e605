// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/prepare.h"

void bench_gpu_prepare(void)
{
}
