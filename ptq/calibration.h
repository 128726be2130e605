// SPDX-License-Identifier: Apache-2.0
//
// Calibration files: how large the input of each layer became, over which prompts and steps. JSON,
// versioned, deterministic: the same run gives the same bytes.
//
//   {"octavo_calibration": 1,
//    "model": {"denoiser_xxh3": "..."},
//    "run": {"prompts_sha256": "...", "prompts": 32, "sampler": "euler", "steps": 28, "cfg": 4.5,
//            "width": 1024, "height": 1024, "seed": 0},
//    "channels_sha256": "...",
//    "layers": {"joint_blocks.0.x_block.attn.qkv":
//        {"amax": 7.25, "cond": [..per step..], "uncond": [..per step..], "exponents": [..48..]}}}
//
// Of merged calibrations "run" has "parts" in place of "prompts_sha256", "prompts" and "seed": these
// three of each command, [{"prompts_sha256": "...", "prompts": 32, "seed": 0}, ...], sorted.
//
// "channels_sha256" is there when the file beside it, of the same path and OCT_CHANNELS_SUFFIX, has
// statistics per channel: see ptq/channels.h. It is then read too, and must be the one that is named.
// "uncond" is empty without guidance. Ranges are binary32 values, printed with the fewest digits
// that read back to the same bits. A seed above 2^53 does not fit a JSON number. "amax" is at least
// the largest of the steps; 0 means that the layer saw nothing but zeros, and a plan treats it like
// a layer without a range. "exponents" may be missing; it counts the numbers that entered the layer
// by their magnitude, over all prompts, steps and branches, in the bins of kernels/exponents.h.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"
#include "ptq/channels.h"
#include "ptq/exponents.h"

typedef struct oct_calibration_layer {
    const char *name;          // SAI layer name
    float amax;                // over everything
    float *cond, *uncond;      // [n_steps] each; uncond NULL without guidance
    const oct_exponents *exponents;  // of its input; NULL: not recorded
    const oct_channels *channels;    // likewise
} oct_calibration_layer;

typedef struct oct_calibration_part {  // what one command ran
    char prompts_sha256[OCT_SHA256_HEX];
    uint64_t prompts, seed;
} oct_calibration_part;

typedef struct oct_calibration {
    oct_arena arena;
    char denoiser_xxh3[OCT_XXH128_HEX];
    oct_calibration_part *parts;  // sorted by oct_calibration_compare_parts(), all different
    size_t n_parts;               // at least 1
    const char *sampler;
    uint64_t steps, width, height;
    double cfg;
    oct_calibration_layer *layers;  // in layer order
    size_t n_layers;
    oct_channels *channels;         // [n_layers], theirs; NULL: not recorded
    char channels_sha256[OCT_SHA256_HEX];  // after load or save; "" without
    char sha256[OCT_SHA256_HEX];    // of the file's bytes, after load or save
} oct_calibration;

// Strict: unknown keys, duplicate layers, negative, zero-length or non-finite values are
// OCT_EFORMAT naming file and layer, and so is a channel whose mean square is beyond the layer's
// range or a number counted beyond it; another version is OCT_EUNSUPPORTED. On failure `calibration` is left empty.
oct_status oct_calibration_load(oct_calibration *calibration, const char *path, oct_err *err);

// The channels go first, so that a file that is there never names one that is not.
oct_status oct_calibration_save(oct_calibration *calibration, const char *path, oct_err *err);
void oct_calibration_deinit(oct_calibration *calibration);

// Add what another calibration of the same model saw with other prompts or seeds: the larger of
// each range, the sum of each count. What is made is the same in any order. OCT_EFORMAT: they do
// not belong together, in a sentence that continues the name of `other`'s file; `sum` is then of no
// use but to deinit.
oct_status oct_calibration_merge(oct_calibration *sum, const oct_calibration *other, oct_err *err);

// For qsort(): by prompts, then by seed; 0 where both are alike.
int oct_calibration_compare_parts(const void *a, const void *b);

uint64_t oct_calibration_prompts(const oct_calibration *calibration);  // of all parts

const oct_calibration_layer *oct_calibration_find(const oct_calibration *calibration,
                                                  const char *name);
