// SPDX-License-Identifier: Apache-2.0
//
// What a latent looks like before it is decoded: one pixel per position, colours by a linear map.
#pragma once

#include <stddef.h>

#include "common/status.h"
#include "runtime/image.h"

#define OCT_PREVIEW_CHANNELS 16

// latent: [16][height][width]. `image` is zeroed by the caller and owned by it.
oct_status oct_preview(oct_image *image, const float *latent, size_t width, size_t height,
                       oct_err *err);
