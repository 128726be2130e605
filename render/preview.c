// SPDX-License-Identifier: Apache-2.0
//
// Previews. The factors are those that ComfyUI publishes for SD3.5 latents (latent_formats.py).
#include "render/preview.h"

#include <stdlib.h>

// clang-format off
static const float factors[OCT_PREVIEW_CHANNELS][3] = {
    {-0.0922f, -0.0175f,  0.0749f}, { 0.0311f,  0.0633f,  0.0954f},
    { 0.1994f,  0.0927f,  0.0458f}, { 0.0856f,  0.0339f,  0.0902f},
    { 0.0587f,  0.0272f, -0.0496f}, {-0.0006f,  0.1104f,  0.0309f},
    { 0.0978f,  0.0306f,  0.0427f}, {-0.0042f,  0.1038f,  0.1358f},
    {-0.0194f,  0.0020f,  0.0669f}, {-0.0488f,  0.0130f, -0.0268f},
    { 0.0922f,  0.0988f,  0.0951f}, {-0.0278f,  0.0524f, -0.0542f},
    { 0.0332f,  0.0456f,  0.0895f}, {-0.0069f, -0.0030f, -0.0810f},
    {-0.0596f, -0.0465f, -0.0293f}, {-0.1448f, -0.1463f, -0.1189f},
};
// clang-format on
static const float bias[3] = {0.2394f, 0.2135f, 0.1925f};

oct_status oct_preview(oct_image *image, const float *latent, size_t width, size_t height,
                       oct_err *err)
{
    const size_t pixels = width * height;
    float *planar = malloc(3 * pixels * sizeof *planar);
    if (!planar) return oct_fail(err, OCT_ENOMEM, "out of memory for a preview");

    for (size_t c = 0; c < 3; c++) {
        for (size_t i = 0; i < pixels; i++) {
            float sum = bias[c];
            for (size_t k = 0; k < OCT_PREVIEW_CHANNELS; k++) {
                sum += latent[k * pixels + i] * factors[k][c];
            }
            planar[c * pixels + i] = sum;
        }
    }
    const oct_status st = oct_image_init(image, width, height, err);
    if (!st) oct_image_from_planar(image, planar);
    free(planar);
    return st;
}
