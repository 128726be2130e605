// SPDX-License-Identifier: Apache-2.0
//
// A run of calibrate: render prompts with the 16-bit model, without decoding, and keep how large
// the input of each layer became per step and guidance branch.
#pragma once

#include <stdint.h>

#include "calibrate/ranks.h"
#include "common/arena.h"
#include "common/status.h"
#include "ptq/calibration.h"
#include "runtime/jobs.h"
#include "runtime/observe.h"
#include "runtime/options.h"
#include "runtime/pipeline.h"
#include "runtime/prompts.h"

typedef struct oct_collect_options {  // as given
    oct_model_paths paths;
    const char *prompts;
    uint64_t limit;
    const char *out;
    oct_sampling_options sampling;
    oct_device_options device;
    uint64_t seed;
    bool has_channels;  // record squares per input channel as well
} oct_collect_options;

typedef struct oct_collection {  // a run and all that it owns
    const oct_collect_options *options;
    oct_ranks ranks;  // this process among those that share the run
    oct_prompts prompts;
    oct_device *device;
    oct_pipeline pipeline;
    oct_jobs jobs;
    char denoiser_xxh3[OCT_XXH128_HEX];  // after run begins, like
    oct_xxh128 run;                      // digest of all that enters it: calibrate/partial.h
    oct_observer observer;
    oct_executed executed;  // after run
    oct_calibration calibration;  // after run; points into the observer
} oct_collection;

// Everything that can be known before anything is computed; writes nothing. OCT_EUNSUPPORTED: the
// model is FP8, whose ranges would be those of the quantized model.
oct_status oct_collection_open(oct_collection *collection, const oct_collect_options *options,
                               const oct_ranks *ranks, oct_err *err);

// Sample this rank's prompts, going on where an interrupted run was (calibrate/partial.h); the first
// rank writes the calibration file. OCT_EFORMAT naming the layer whose input became infinite or NaN.
oct_status oct_collection_run(oct_collection *collection, oct_err *err);
void oct_collection_close(oct_collection *collection);  // fine on a zeroed one

// The calibration that an observer's numbers make: layers of `denoiser` in their order. Layers that
// nothing entered have range 0. Fails as oct_collection_run() does. Arrays stay the observer's.
oct_status oct_calibration_collect(oct_calibration *calibration, const oct_denoiser *denoiser,
                                   const oct_observer *observer, bool has_guidance, oct_err *err);
