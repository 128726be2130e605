// SPDX-License-Identifier: Apache-2.0
//
// Previews of latents.
#include "render/preview.h"
#include "tests/test.h"

static void an_empty_latent_has_the_colour_of_the_bias(void)
{
    const float latent[OCT_PREVIEW_CHANNELS * 2] = {0};
    oct_image image = {0};

    CHECK(oct_preview(&image, latent, 2, 1, NULL) == OCT_OK);
    CHECK(image.width == 2 && image.height == 1);
    // 127.5 (1 + bias), rounded
    CHECK(memcmp(image.rgb, (const uint8_t[]){158, 155, 152, 158, 155, 152}, 6) == 0);
    oct_image_deinit(&image);
}

static void channels_add_their_colours(void)
{
    float latent[OCT_PREVIEW_CHANNELS] = {0};
    oct_image image = {0};

    latent[0] = 1;    // -0.0922 -0.0175 0.0749
    latent[15] = -2;  // 0.2896 0.2926 0.2378
    CHECK(oct_preview(&image, latent, 1, 1, NULL) == OCT_OK);
    CHECK(memcmp(image.rgb, (const uint8_t[]){183, 190, 192}, 3) == 0);
    oct_image_deinit(&image);
}

int main(void)
{
    RUN(an_empty_latent_has_the_colour_of_the_bias);
    RUN(channels_add_their_colours);
    return test_end();
}
