// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints: one or many safetensors files seen as a list of tensors by component.
//
// Layouts (Stability-AI/sd3.5, huggingface/diffusers, ComfyUI):
//   single file     "model.diffusion_model." (or no prefix) and perhaps "first_stage_model."
//   all-in-one      the above and "text_encoders.{clip_l,clip_g,t5xxl}.transformer."
//   separate files  --clip-l, --clip-g, --t5, --vae, beside a file or folder: unprefixed, or with
//                   the prefixes above; a VAE also with "vae."
//   diffusers       a folder with model_index.json, transformer/, vae/, text_encoder{,_2,_3}/;
//                   shards by an index file (common/shard_index.h); unsuffixed files are preferred
//                   to those of the variant "fp16"; or the transformer's folder on its own
//
// A model file without a prefixed denoiser is one, unless its names are those of a text encoder or
// VAE. Prefixed keys of nothing we know ("model_sampling.", "text_encoders.clip_l.logit_scale") are
// OCT_OTHER. Names are those of the file: diffusers names stay diffusers names.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/safetensors.h"
#include "common/status.h"

typedef enum oct_component {
    OCT_DENOISER, OCT_VAE, OCT_CLIP_L, OCT_CLIP_G, OCT_T5,
    OCT_OTHER,  // in the file, but none of the above: copied, never used
    OCT_COMPONENT_COUNT
} oct_component;

const char *oct_component_name(oct_component component);  // "denoiser", "vae", "clip-l", ...

typedef struct oct_model_paths {  // as given on a command line; NULL: not given
    const char *model;            // file or diffusers folder
    const char *clip_l, *clip_g, *t5, *vae;
    const char *tokenizers;       // folder with clip/ and t5/
} oct_model_paths;

typedef struct oct_ckpt_tensor {
    const char *name;             // without prefix: "joint_blocks.0...", "decoder.conv_in.weight"
    const char *prefix;           // what the file has before it; "" for none
    oct_component component;
    const oct_safetensors *file;
    const oct_st_tensor *tensor;  // with the full name
} oct_ckpt_tensor;

typedef struct oct_checkpoint {
    oct_arena arena;
    oct_safetensors *files;       // all open; files[0] is (the first shard of) the model
    size_t n_files;
    oct_ckpt_tensor *tensors;     // by component, then name
    size_t n_tensors;
    bool is_diffusers;            // `model` is a diffusers folder
    const char *folder;           // that folder, or NULL
    const char *component_folders[OCT_COMPONENT_COUNT];  // of those opened in it, else NULL
} oct_checkpoint;

// Open every file, check every header and index, read no data. A component given twice (a separate
// encoder beside an all-in-one file or folder): the separate file wins, the other is not listed.
// Of a separate file only its own component and OCT_OTHER are listed; one that does not hold its
// component is OCT_EFORMAT. The T5 embedding that old files store twice is kept under both names.
// Components that model_index.json gives as [null, null] are absent; the class says which text
// encoder is T5. On failure `ckpt` is left empty. OCT_EUSAGE when `paths` is empty.
oct_status oct_checkpoint_open(oct_checkpoint *ckpt, const oct_model_paths *paths, oct_err *err);
void oct_checkpoint_close(oct_checkpoint *ckpt);

// By the name without prefix; NULL when absent. Valid until oct_checkpoint_close().
const oct_ckpt_tensor *oct_checkpoint_find(const oct_checkpoint *ckpt, oct_component component,
                                           const char *name);
bool oct_checkpoint_has(const oct_checkpoint *ckpt, oct_component component);

// Path of a component's config.json in a diffusers folder, in the arena; NULL elsewhere or absent.
const char *oct_checkpoint_config(oct_checkpoint *ckpt, oct_component component);
