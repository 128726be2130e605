// SPDX-License-Identifier: Apache-2.0
//
// Drawing with a small fabricated model.
#include <stdlib.h>

#include "common/file.h"
#include "render/draw.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/scratch.h"

static char *scratch;
static oct_arena arena;

static const char *in_scratch(const char *name)
{
    return oct_path_join(&arena, scratch, name);
}

static oct_draw_options options_for(const char *out)
{
    return (oct_draw_options){
        .paths = {.model = in_scratch("model")},
        .prompts = in_scratch("prompts.jsonl"),
        .out = in_scratch(out),
        .batch = 1,
        .device = {.request = {.name = "cpu"}},
        .sampling = {.steps = 2,
                     .sampler_name = "euler",
                     .cfg = 3,
                     .negative = "",
                     .size = "64x32",
                     .t5_tokens = 16,
                     .width = 64,
                     .height = 32},
        .seed = 5,
    };
}

static void make_inputs(void)
{
    static const char prompts[] = "{\"id\": \"a fox\", \"prompt\": \"a \\\"fox\\\"\"}\n"
                                  "{\"id\": \"cat\", \"prompt\": \"a cat\", \"seed\": 9}\n";
    const oct_fabric fabric = {.out = in_scratch("model"),
                               .layout = OCT_FABRIC_DIFFUSERS,
                               .size = oct_model_size_small(2, 0),
                               .dtype = OCT_F16};
    oct_err err = {0};

    if (oct_fabricate(&fabric, &err)) printf("# %s\n", err.text);
    oct_file_write(in_scratch("prompts.jsonl"), prompts, sizeof prompts - 1, NULL);
}

static oct_status draw(oct_draw_options *options, oct_err *err)
{
    oct_drawing drawing;
    oct_status st = oct_drawing_open(&drawing, options, err);
    if (st) return st;
    st = oct_drawing_run(&drawing, err);
    oct_drawing_close(&drawing);
    return st;
}

static char *read_all(const char *path, size_t *bytes)
{
    char *text = NULL;
    CHECK(oct_file_read_text(&arena, path, 1 << 24, &text, bytes, NULL) == OCT_OK);
    return text;
}

static void pictures_are_named_by_id_and_seed(void)
{
    oct_draw_options options = options_for("named");
    oct_err err = {0};

    options.batch = 2;
    CHECK(draw(&options, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(oct_path_exists(in_scratch("named/a_fox-5.png")));
    CHECK(oct_path_exists(in_scratch("named/a_fox-6.png")));
    CHECK(oct_path_exists(in_scratch("named/cat-9.png")));
    CHECK(oct_path_exists(in_scratch("named/cat-10.png")));
}

static void the_same_options_give_the_same_bytes(void)
{
    size_t first_bytes = 0, second_bytes = 0;
    oct_draw_options options = options_for("again");

    CHECK(draw(&options, NULL) == OCT_OK);
    const char *first = read_all(in_scratch("named/cat-9.png"), &first_bytes);
    const char *second = read_all(in_scratch("again/cat-9.png"), &second_bytes);
    CHECK(first_bytes == second_bytes && memcmp(first, second, first_bytes) == 0);
}

static void another_seed_is_another_picture(void)
{
    oct_image a = {0}, b = {0};
    CHECK(oct_image_load_png(&a, in_scratch("named/a_fox-5.png"), NULL) == OCT_OK);
    CHECK(oct_image_load_png(&b, in_scratch("named/a_fox-6.png"), NULL) == OCT_OK);
    CHECK(a.width == 64 && a.height == 32);
    CHECK(memcmp(a.rgb, b.rgb, 64 * 32 * 3) != 0);
    oct_image_deinit(&a);
    oct_image_deinit(&b);
}

static void metadata_tells_what_made_a_picture(void)
{
    oct_draw_options options = options_for("unused");
    oct_drawing drawing;

    CHECK(oct_drawing_open(&drawing, &options, NULL) == OCT_OK);
    drawing.model_name = "model";
    strcpy(drawing.denoiser_xxh3, "00ff");
    char *text = oct_drawing_metadata(&drawing, &drawing.jobs.items[0], 18446744073709551615u);
    CHECK(strstr(text, "\"model\":\"model\",\"denoiser_xxh3\":\"00ff\",\"id\":\"a fox\","
                       "\"prompt\":\"a \\\"fox\\\"\",\"negative\":\"\","
                       "\"seed\":18446744073709551615,\"sampler\":\"euler\",\"steps\":2,\"cfg\":3,"
                       "\"width_px\":64,\"height_px\":32,\"t5_tokens\":16,"
                       "\"skip_layer_guidance\":null}"));
    free(text);
    oct_drawing_close(&drawing);
}

static void steps_are_kept_when_asked_for(void)
{
    oct_draw_options options = options_for("steps");

    options.limit = 1;
    options.saves_steps = true;
    CHECK(draw(&options, NULL) == OCT_OK);
    CHECK(oct_path_exists(in_scratch("steps/a_fox-5.steps/0001.safetensors")));
    CHECK(oct_path_exists(in_scratch("steps/a_fox-5.steps/0002.png")));
    CHECK(!oct_path_exists(in_scratch("steps/a_fox-5.steps/0003.png")));
}

static void wrong_inputs_leave_no_folder(void)
{
    oct_draw_options options = options_for("nothing");
    oct_err err = {0};

    options.sampling.width = 60;
    CHECK(draw(&options, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "size 60x32 is not a multiple of 16");
    options = options_for("nothing");
    options.slg.layers = "2";
    CHECK(draw(&options, &err) == OCT_EUSAGE);
    options = options_for("nothing");
    options.prompts = in_scratch("missing.txt");
    CHECK(draw(&options, &err) == OCT_EIO);
    CHECK(!oct_path_exists(in_scratch("nothing")));
}

int main(void)
{
    scratch = oct_scratch_make();
    make_inputs();
    RUN(pictures_are_named_by_id_and_seed);
    RUN(the_same_options_give_the_same_bytes);
    RUN(another_seed_is_another_picture);
    RUN(metadata_tells_what_made_a_picture);
    RUN(steps_are_kept_when_asked_for);
    RUN(wrong_inputs_leave_no_folder);
    oct_arena_deinit(&arena);
    oct_scratch_remove(scratch);
    return test_end();
}
