// SPDX-License-Identifier: Apache-2.0
//
// How runs are described.
#include <stdlib.h>

#include "common/json.h"
#include "runtime/describe.h"
#include "tests/test.h"

static void sampling_is_spelled_out(void)
{
    const oct_sampling_options sampling = {.steps = 28,
                                           .sampler = OCT_SAMPLER_DPMPP_2M,
                                           .cfg = 4.5,
                                           .t5_tokens = 256,
                                           .width = 1024,
                                           .height = 768};
    const oct_slg_options slg = {.layers = "7,8", .scale = 2.8, .start = 0.01, .stop = 0.2};
    cJSON *object = cJSON_CreateObject();

    oct_json_add_sampling(object, &sampling, &slg);
    char *text = oct_json_print_line(object);
    CHECK_TEXT(text, "{\"sampler\":\"dpmpp-2m\",\"steps\":28,\"cfg\":4.5,\"width_px\":1024,"
                     "\"height_px\":768,\"t5_tokens\":256,\"skip_layer_guidance\":{\"layers\":"
                     "\"7,8\",\"scale\":2.8,\"start\":0.01,\"stop\":0.2}}");
    free(text);
    cJSON_Delete(object);
}

static void absent_skip_layer_guidance_is_null(void)
{
    const oct_sampling_options sampling = {.steps = 1};
    const oct_slg_options slg = OCT_SLG_DEFAULTS;
    cJSON *object = cJSON_CreateObject();

    oct_json_add_sampling(object, &sampling, &slg);
    CHECK(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(object, "skip_layer_guidance")));
    cJSON_Delete(object);
}

static void executed_layers_are_listed_without_zeros(void)
{
    char text[64];
    CHECK_TEXT(oct_executed_text(&(oct_executed){.fp8_static = 380, .f16 = 63}, text, sizeof text),
               "380 FP8, 63 F16");
    CHECK_TEXT(oct_executed_text(&(oct_executed){0}, text, sizeof text), "none");
    CHECK_TEXT(oct_executed_text(&(oct_executed){.fp8_static = 380, .f16 = 63}, text, 8),
               "380 FP8");
}

int main(void)
{
    RUN(sampling_is_spelled_out);
    RUN(absent_skip_layer_guidance_is_null);
    RUN(executed_layers_are_listed_without_zeros);
    return test_end();
}
