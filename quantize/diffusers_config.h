// SPDX-License-Identifier: Apache-2.0
//
// The config.json of a transformer folder in dialect diffusers.
#pragma once

#include "common/status.h"
#include "ptq/source.h"

#define OCT_DIFFUSERS_WEIGHTS "diffusion_pytorch_model.safetensors"

// The "quant_algo" of weights that no algorithm of ModelOpt describes: one scale per tensor and no
// input scale, or an input scale with finer ones. Without "FP8" in it, which some look for.
#define OCT_QUANT_ALGO_OWN "OCTAVO"

// Write FOLDER/config.json for the weights that are there, a file or a folder with an index: the
// source's config.json, or one by shapes where it has none, and a "quantization_config" as
// ModelOpt's exporter spells it, which lists what is FP8 and what is not by what the file holds. Its
// "quant_algo" is ModelOpt's name for all FP8 layers, "MIXED_PRECISION" where there are several
// names, or OCT_QUANT_ALGO_OWN, which is said.
oct_status oct_diffusers_config_write(const char *folder, const char *weights, oct_source *source,
                                      oct_err *err);
