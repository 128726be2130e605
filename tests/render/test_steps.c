// SPDX-License-Identifier: Apache-2.0
//
// What --save-steps leaves.
#include "common/arena.h"
#include "common/file.h"
#include "common/safetensors.h"
#include "render/steps.h"
#include "runtime/image.h"
#include "tests/test.h"
#include "tests/tools/scratch.h"

static void a_step_is_saved_as_latent_and_preview(void)
{
    char *folder = oct_scratch_make();
    const oct_step_saver saver = {folder, 16, 3, 2};
    oct_arena arena = {0};
    oct_safetensors st = {0};
    oct_image preview = {0};
    float latent[16 * 2 * 3], read[16 * 2 * 3];

    for (size_t i = 0; i < 96; i++) latent[i] = (float)i / 7 - 3;
    CHECK(oct_step_save(&saver, 4, 0.25f, latent, NULL) == OCT_OK);

    const char *path = oct_path_join(&arena, folder, "0005.safetensors");
    CHECK(oct_safetensors_open(&st, path, NULL) == OCT_OK);
    const oct_st_tensor *tensor = oct_safetensors_find(&st, "latent");
    CHECK(tensor && tensor->dtype == OCT_F32 && tensor->rank == 3);
    CHECK(tensor && tensor->shape[0] == 16 && tensor->shape[1] == 2 && tensor->shape[2] == 3);
    CHECK(tensor && oct_safetensors_read(&st, tensor, 0, sizeof read, read, NULL) == OCT_OK);
    CHECK(memcmp(read, latent, sizeof read) == 0);
    CHECK_TEXT(oct_safetensors_find_meta(&st, "step"), "5");
    CHECK_TEXT(oct_safetensors_find_meta(&st, "sigma"), "0.25");
    oct_safetensors_close(&st);

    CHECK(oct_image_load_png(&preview, oct_path_join(&arena, folder, "0005.png"), NULL) == OCT_OK);
    CHECK(preview.width == 3 && preview.height == 2);
    oct_image_deinit(&preview);
    oct_arena_deinit(&arena);
    oct_scratch_remove(folder);
}

static void a_latent_without_known_colours_has_no_preview(void)
{
    char *folder = oct_scratch_make();
    const oct_step_saver saver = {folder, 4, 1, 1};
    const float latent[4] = {0};
    oct_arena arena = {0};

    CHECK(oct_step_save(&saver, 0, 1, latent, NULL) == OCT_OK);
    CHECK(oct_path_exists(oct_path_join(&arena, folder, "0001.safetensors")));
    CHECK(!oct_path_exists(oct_path_join(&arena, folder, "0001.png")));
    oct_arena_deinit(&arena);
    oct_scratch_remove(folder);
}

int main(void)
{
    RUN(a_step_is_saved_as_latent_and_preview);
    RUN(a_latent_without_known_colours_has_no_preview);
    return test_end();
}
