// SPDX-License-Identifier: Apache-2.0
//
// An album: a folder with the pictures of the reference or of one candidate, and pictures.json,
// which records from what they were made. A later run that would make them from the same can keep
// them; a run that was interrupted goes on where it stopped.
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "common/digest.h"
#include "common/status.h"
#include "runtime/jobs.h"
#include "runtime/pipeline.h"

typedef struct oct_album {
    oct_arena arena;
    const char *folder, *record_path;
    cJSON *record;   // this run's
    cJSON *earlier;  // pictures of an earlier run that may be kept, or NULL
} oct_album;

// Make the folder. `made_from` states what all pictures depend on: weights, policy, sampling; it is
// taken over. With `reuses`, pictures that were made from the same can be kept. OCT_EFORMAT when
// their record is malformed.
oct_status oct_album_open(oct_album *album, const char *folder, cJSON *made_from, bool reuses,
                          oct_err *err);
void oct_album_close(oct_album *album);  // fine on a zeroed one

// Whether the earlier picture `name` was made from the same conditioning and is undamaged. It then
// belongs to this run's record.
bool oct_album_keep(oct_album *album, const char *name, const oct_job *job);

// Record a picture that has been written, and how the denoiser's layers ran.
oct_status oct_album_add(oct_album *album, const char *name, const oct_job *job,
                         const oct_executed *executed, oct_err *err);

// How they ran, when every picture is kept.
oct_status oct_album_get_executed(const oct_album *album, oct_executed *executed, oct_err *err);

// XXH3-128 over the VAE's tensors, for made_from.
oct_status oct_vae_digest(const oct_source *source, char hex[OCT_XXH128_HEX], oct_err *err);
