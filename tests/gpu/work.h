// SPDX-License-Identifier: Apache-2.0
//
// How much work is in a denoising step, guidance on: what no implementation can leave out.
#pragma once

#include "runtime/pipeline.h"

typedef struct step_work {
    double flop_16bit, flop_fp8;  // of the blocks' matrix products, by the type of both factors
    double flop_attention;
    double least_bytes;  // of everything between the products, each pass of a block fused
                         // into the fewest: 12 numbers of 16 bits per token and channel
} step_work;

// Of a loaded denoiser, on its device. Modulation is computed before the loop and does not count.
step_work step_work_of(const oct_pipeline *pipeline, size_t image_tokens, size_t text_tokens);
