// SPDX-License-Identifier: Apache-2.0
//
// Before CUDA is called: nothing (prepare_gpu.c), or an emulated GPU is set up
// (prepare_emulated.c).
#pragma once

void bench_gpu_prepare(void);
