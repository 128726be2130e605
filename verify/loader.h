// SPDX-License-Identifier: Apache-2.0
//
// What ComfyUI does with a file, by its own rules, without ComfyUI.
//
// ComfyUI logs what it does not understand and renders noise. This check reads names, types, shapes
// and markers as its loaders do (CheckpointLoaderSimple and UNETLoader, 0.29 to 0.38) and says
// where the result is not what the file means (failures) or depends on hardware, launch flags or
// release (warnings). Each sentence counts the layers that it concerns and names the first.
#pragma once

#include "common/checkpoint.h"
#include "common/status.h"
#include "verify/findings.h"

typedef enum oct_comfy_era {
    OCT_COMFY_FIRST,   // up to 0.3.66
    OCT_COMFY_HEADER,  // 0.3.67 to 0.3.75: markers only in the header
    OCT_COMFY_MARKED,  // after 0.3.76, since December 2025: markers as tensors
    OCT_COMFY_ERA_COUNT
} oct_comfy_era;

typedef enum oct_comfy_answer {
    OCT_COMFY_YES,
    OCT_COMFY_KEPT_CAST,  // loads, but layers kept in 16 bit are cast to FP8
    OCT_COMFY_NOISE,      // loads without an error, wrongly
    OCT_COMFY_ERROR,      // stops
} oct_comfy_answer;

const char *oct_comfy_era_name(oct_comfy_era era);           // "up to 0.3.66"
const char *oct_comfy_answer_name(oct_comfy_answer answer);  // "yes"

typedef struct oct_loader {
    bool is_known;  // a single file with a denoiser: the answers hold
    oct_comfy_answer answers[OCT_COMFY_ERA_COUNT];
} oct_loader;

// Check an open checkpoint. A folder gets one warning, since no loader of ComfyUI reads one; so does
// a file that says itself that its dialect is diffusers.
oct_status oct_loader_check(oct_loader *loader, const oct_checkpoint *ckpt, oct_findings *findings,
                            oct_err *err);
