// SPDX-License-Identifier: Apache-2.0
//
// FLIP against the maps of NVlabs/flip 1.6, averaged in double.
#include <omp.h>

#include "regress/metrics.h"
#include "tests/regress/pairs.h"
#include "tests/test.h"

static oct_metrics measure(pair_kind kind)
{
    oct_image reference = pair_image(PAIR_REFERENCE), test = pair_image(kind);
    oct_metrics metrics;
    CHECK(oct_metrics_measure(&metrics, NULL, &reference, &test, NULL) == OCT_OK);
    free(reference.rgb);
    free(test.rgb);
    return metrics;
}

static void flip_equals_nvlabs(void)
{
    static const struct {
        pair_kind kind;
        double mean, max;
    } pinned[] = {
        {PAIR_NOISE, 0.051128854, 0.219097}, {PAIR_BLUR, 0.101744756, 0.493788},
        {PAIR_POST, 0.158821852, 0.393557},  {PAIR_BRIGHT, 0.205340520, 0.298304},
        {PAIR_ONE, 0.000141872, 0.510107},
    };
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) {
        const oct_metrics metrics = measure(pinned[i].kind);
        CHECK_NEAR(metrics.flip_mean, pinned[i].mean, 1e-6);
        CHECK_NEAR(metrics.flip_max, pinned[i].max, 1e-5);
    }
}

static void threads_do_not_change_a_bit(void)
{
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const oct_metrics one = measure(PAIR_BLUR);
    omp_set_num_threads(3);
    const oct_metrics three = measure(PAIR_BLUR);
    omp_set_num_threads(threads);
    CHECK(one.flip_mean == three.flip_mean && one.flip_max == three.flip_max);
}

static void the_map_shows_where_the_pixel_changed(void)
{
    oct_image reference = pair_image(PAIR_REFERENCE), test = pair_image(PAIR_ONE);
    float *map = malloc(PAIR_WIDTH * PAIR_HEIGHT * sizeof *map);

    CHECK(oct_flip(map, &reference, &test, NULL) == OCT_OK);
    CHECK(map[96 * PAIR_WIDTH + 128] > 0.4f);
    CHECK(map[0] == 0 && map[96 * PAIR_WIDTH + 128 + 30] == 0);
    free(map);
    free(reference.rgb);
    free(test.rgb);
}

static void a_map_is_drawn_in_magma(void)
{
    const float map[3] = {0, 0.5f, 1};
    oct_image heat = {0};

    CHECK(oct_flip_picture(&heat, map, 3, 1, NULL) == OCT_OK);
    CHECK(heat.width == 3 && heat.height == 1);
    CHECK(memcmp(heat.rgb, (const uint8_t[]){0, 0, 4, 183, 55, 121, 252, 253, 191}, 9) == 0);
    oct_image_deinit(&heat);
}

int main(void)
{
    RUN(flip_equals_nvlabs);
    RUN(threads_do_not_change_a_bit);
    RUN(the_map_shows_where_the_pixel_changed);
    RUN(a_map_is_drawn_in_magma);
    return test_end();
}
