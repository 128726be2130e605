// SPDX-License-Identifier: Apache-2.0
#include "kernels/ops.h"

#include <assert.h>

void oct_patchify(float *y, const float *latent, size_t channels, size_t height, size_t width,
                  size_t patch)
{
    const size_t grid_width = width / patch, tokens = height / patch * grid_width;

    assert(height % patch == 0 && width % patch == 0);
    for (size_t token = 0; token < tokens; token++) {
        const size_t top = token / grid_width * patch, left = token % grid_width * patch;
        for (size_t c = 0; c < channels; c++) {
            for (size_t py = 0; py < patch; py++) {
                const float *from = latent + (c * height + top + py) * width + left;
                for (size_t px = 0; px < patch; px++) *y++ = from[px];
            }
        }
    }
}

void oct_unpatchify(float *latent, const float *patches, size_t channels, size_t height,
                    size_t width, size_t patch)
{
    const size_t grid_width = width / patch, tokens = height / patch * grid_width;

    assert(height % patch == 0 && width % patch == 0);
    for (size_t token = 0; token < tokens; token++) {
        const size_t top = token / grid_width * patch, left = token % grid_width * patch;
        for (size_t py = 0; py < patch; py++) {
            for (size_t px = 0; px < patch; px++) {
                for (size_t c = 0; c < channels; c++) {
                    latent[(c * height + top + py) * width + left + px] = *patches++;
                }
            }
        }
    }
}
