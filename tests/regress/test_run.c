// SPDX-License-Identifier: Apache-2.0
//
// Whole runs of regress over a small fabricated model.
#include <stdlib.h>
#include <sys/stat.h>

#include "common/file.h"
#include "regress/run.h"
#include "tests/test.h"
#include "tests/tools/fabricate.h"
#include "tests/tools/scratch.h"

static char *scratch;
static oct_arena arena;

static const char *in_scratch(const char *name)
{
    return oct_path_join(&arena, scratch, name);
}

static void write_text(const char *name, const char *text)
{
    CHECK(oct_file_write(in_scratch(name), text, strlen(text), NULL) == OCT_OK);
}

static void fabricate(const char *name, oct_fabric_layout layout, uint64_t depth)
{
    const oct_fabric fabric = {.out = in_scratch(name),
                               .layout = layout,
                               .size = oct_model_size_small(depth, 0),
                               .dtype = OCT_F16};
    oct_err err = {0};
    if (oct_fabricate(&fabric, &err)) printf("# %s\n", err.text);
}

static void make_inputs(void)
{
    fabricate("model", OCT_FABRIC_DIFFUSERS, 2);
    fabricate("twin.safetensors", OCT_FABRIC_SINGLE, 2);
    write_text("prompts.txt", "a fox\na cat\n");
    write_text("none.json",
               "{\"octavo_policy\": 1, \"name\": \"none\", \"description\": \"all kept\","
               " \"default\": {\"weights\": \"keep\"}, \"rules\": []}");
    write_text("fp8.json", "{\"octavo_policy\": 1, \"name\": \"fp8\", \"description\": \"all FP8\","
                           " \"default\": {\"weights\": \"e4m3\", \"inputs\": \"none\"},"
                           " \"rules\": []}");
}

static oct_regress_options options_for(const char *out)
{
    return (oct_regress_options){
        .paths = {.model = in_scratch("model")},
        .prompts = in_scratch("prompts.txt"),
        .out = in_scratch(out),
        .gate = OCT_GATE_OPEN,
        .device = {.request = {.name = "cpu"}},
        .sampling = {.steps = 2,
                     .sampler_name = "euler",
                     .cfg = 3,
                     .negative = "",
                     .size = "32x32",
                     .t5_tokens = 16,
                     .width = 32,
                     .height = 32},
        .seed = 5,
    };
}

static const char *both_policies(void)
{
    return oct_arena_print(&arena, "%s,%s", in_scratch("none.json"), in_scratch("fp8.json"));
}

static void kept_layers_change_nothing_and_fp8_layers_do(void)
{
    oct_regress_options options = options_for("policies");
    oct_regression run = {0};
    oct_err err = {0};

    options.policies = both_policies();
    CHECK(oct_regression_open(&run, &options, &err) == OCT_OK);
    CHECK(oct_regression_run(&run, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    const oct_compared *none = &run.comparison.candidates[0];
    const oct_compared *fp8 = &run.comparison.candidates[1];
    CHECK_TEXT(none->facts.name, "none");
    CHECK(none->summary.n_identical == 2);
    CHECK(none->facts.n_fp8 == 0 && none->facts.bytes == run.comparison.reference.bytes);
    CHECK(fp8->summary.n_identical == 0);
    CHECK(fp8->summary.psnr_db_worst > 10 && fp8->summary.psnr_db_worst < 60);
    // The patch embedding is a convolution and stays.
    CHECK(fp8->facts.n_fp8 == fp8->facts.n_layers - 1);
    CHECK(fp8->facts.weights - fp8->facts.fp8_weights == 128 * 16 * 2 * 2);
    CHECK(fp8->executed.fp8_weight_only > 0 && fp8->executed.f16 == 1);
    CHECK(fp8->facts.bytes < run.comparison.reference.bytes);
    oct_regression_close(&run);
    CHECK(oct_path_exists(in_scratch("policies/report.html")));
    CHECK(oct_path_exists(in_scratch("policies/images/0-reference/0000-5.png")));
    CHECK(oct_path_exists(in_scratch("policies/images/2-fp8/0001-6.png")));
    CHECK(oct_path_exists(in_scratch("policies/images/2-fp8/0001-6.flip.png")));
}

static void the_same_run_gives_the_same_report(void)
{
    oct_regress_options options = options_for("again");
    oct_regression run = {0};
    char *first = NULL, *second = NULL;
    size_t first_bytes = 0, second_bytes = 0;

    options.policies = both_policies();
    CHECK(oct_regression_open(&run, &options, NULL) == OCT_OK);
    CHECK(oct_regression_run(&run, NULL) == OCT_OK);
    oct_regression_close(&run);
    CHECK(oct_file_read_text(&arena, in_scratch("policies/report.json"), 1 << 24, &first,
                             &first_bytes, NULL) == OCT_OK);
    CHECK(oct_file_read_text(&arena, in_scratch("again/report.json"), 1 << 24, &second,
                             &second_bytes, NULL) == OCT_OK);
    CHECK_TEXT(first, second);
}

static void a_file_with_the_same_weights_is_identical(void)
{
    oct_regress_options options = options_for("files");
    const char *files[] = {in_scratch("twin.safetensors")};
    oct_regression run = {0};
    oct_err err = {0};

    options.files = (oct_texts){files, 1};
    options.limit = 1;
    CHECK(oct_regression_open(&run, &options, &err) == OCT_OK);
    CHECK(oct_regression_run(&run, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    const oct_compared *twin = &run.comparison.candidates[0];
    CHECK_TEXT(twin->facts.name, "twin.safetensors");
    CHECK_TEXT(twin->facts.digest, run.comparison.reference.digest);
    CHECK(twin->summary.n_identical == 1);
    CHECK(oct_comparison_passes(&run.comparison));
    oct_regression_close(&run);
}

static void a_broken_threshold_fails_the_run(void)
{
    oct_regress_options options = options_for("gate");
    oct_regression run = {0};

    options.policies = both_policies();
    options.limit = 1;
    options.gate.psnr_db_min = 99;
    CHECK(oct_regression_open(&run, &options, NULL) == OCT_OK);
    CHECK(oct_regression_run(&run, NULL) == OCT_OK);
    CHECK(!oct_comparison_passes(&run.comparison));
    CHECK(run.comparison.candidates[0].summary.n_failed == 0);
    CHECK(run.comparison.candidates[1].summary.n_failed == 1);
    oct_regression_close(&run);
}

static char *read_report(const char *name)
{
    char *text = NULL;
    size_t bytes = 0;
    CHECK(oct_file_read_text(&arena, in_scratch(name), 1 << 24, &text, &bytes, NULL) == OCT_OK);
    return text;
}

static struct timespec time_of(const char *name)
{
    struct stat file = {0};
    CHECK(stat(in_scratch(name), &file) == 0);
    return file.st_mtim;
}

static bool is_rewritten(const char *name, struct timespec since)
{
    const struct timespec now = time_of(name);
    return now.tv_sec != since.tv_sec || now.tv_nsec != since.tv_nsec;
}

static void run_again(oct_regress_options *options)
{
    oct_regression run = {0};
    oct_err err = {0};
    CHECK(oct_regression_open(&run, options, &err) == OCT_OK);
    CHECK(oct_regression_run(&run, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    oct_regression_close(&run);
}

#define KEPT "policies/images/2-fp8/0000-5.png"
#define DAMAGED "policies/images/2-fp8/0001-6.png"

static void pictures_made_from_the_same_are_kept(void)
{
    oct_regress_options options = options_for("policies");
    const char *report = read_report("policies/report.json");
    const struct timespec kept = time_of(KEPT), damaged = time_of(DAMAGED);

    options.policies = both_policies();
    options.reuses = true;
    run_again(&options);
    CHECK_TEXT(read_report("policies/report.json"), report);
    CHECK(!is_rewritten(KEPT, kept) && !is_rewritten(DAMAGED, damaged));

    FILE *file = fopen(in_scratch(DAMAGED), "ab");
    CHECK(file && fputc('x', file) == 'x' && fclose(file) == 0);
    const struct timespec since = time_of(DAMAGED);
    run_again(&options);
    CHECK_TEXT(read_report("policies/report.json"), report);
    CHECK(!is_rewritten(KEPT, kept) && is_rewritten(DAMAGED, since));

    options.sampling.cfg = 2;
    run_again(&options);
    const struct timespec guided = time_of(KEPT);
    CHECK(is_rewritten(KEPT, kept));
    options.device.vram = "8G";
    run_again(&options);
    CHECK(is_rewritten(KEPT, guided));

    write_text("policies/images/2-fp8/pictures.json", "{}");
    oct_regression run = {0};
    oct_err err = {0};
    CHECK(oct_regression_open(&run, &options, &err) == OCT_OK);
    CHECK(oct_regression_run(&run, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "pictures.json' is no record of pictures"));
    oct_regression_close(&run);
}

#define SCORE(id, value) "{\"id\": \"" id "\", \"metric\": \"m\", \"value\": " value "}\n"

static const uint8_t *pixel(const oct_image *image, size_t x, size_t y)
{
    return image->rgb + 3 * (y * image->width + x);
}

static void a_contact_sheet_shows_a_row_per_candidate(void)
{
    oct_regress_options options = options_for("sheet");
    oct_image sheet = {0}, picture = {0};

    options.policies = both_policies();
    options.sheet = in_scratch("sheet.png");
    run_again(&options);
    CHECK(oct_image_load_png(&sheet, options.sheet, NULL) == OCT_OK);
    CHECK(oct_image_load_png(&picture, in_scratch("sheet/images/2-fp8/0001-6.png"), NULL) ==
          OCT_OK);
    if (test_case_failed) return;
    CHECK(sheet.width == 4 + 2 * 36 && sheet.height == 4 + 3 * 36);
    CHECK(pixel(&sheet, 3, 50)[0] == 255 && pixel(&sheet, 38, 50)[1] == 255);
    for (size_t y = 0; y < 32; y++) {
        CHECK(memcmp(pixel(&sheet, 40, 76 + y), pixel(&picture, 0, y), 3 * 32) == 0);
    }
    oct_image_deinit(&sheet);
    oct_image_deinit(&picture);
}

static void scores_are_part_of_the_verdict(void)
{
    oct_regress_options options = options_for("scored");
    const char *scores[2] = {oct_arena_print(&arena, "reference=%s", in_scratch("good.jsonl")),
                             oct_arena_print(&arena, "fp8=%s", in_scratch("bad.jsonl"))};
    const char *drops[] = {"m=0.5"};
    oct_regression run = {0};

    write_text("good.jsonl", SCORE("0000", "1") SCORE("0001", "1"));
    write_text("bad.jsonl", SCORE("0000", "0") SCORE("0001", "0"));
    options.policies = in_scratch("fp8.json");
    options.scores = (oct_texts){scores, 2};
    options.score_drops = (oct_texts){drops, 1};
    CHECK(oct_regression_open(&run, &options, NULL) == OCT_OK);
    CHECK(oct_regression_run(&run, NULL) == OCT_OK);
    const oct_compared *fp8 = &run.comparison.candidates[0];
    CHECK(fp8->summary.n_failed == 0 && oct_compared_failed_scores(fp8) == 1);
    CHECK(!oct_comparison_passes(&run.comparison));
    CHECK(fp8->score_outcomes[0].summary.difference.mean == -1);
    oct_regression_close(&run);
    CHECK(strstr(read_report("scored/junit.xml"), "name=\"mean of m\""));
    CHECK(strstr(read_report("scored/junit.xml"), "tests=\"3\" failures=\"1\""));
}

static void check_refused(oct_regress_options *options, oct_status status, const char *text)
{
    oct_regression run = {0};
    oct_err err = {0};

    CHECK(oct_regression_open(&run, options, &err) == status);
    if (text) CHECK_TEXT(err.text, text);
    CHECK(!oct_path_exists(options->out));
}

static void wrong_inputs_leave_no_folder(void)
{
    oct_regress_options options = options_for("nothing");

    options.policies = "no-such-policy";
    check_refused(&options, OCT_EUSAGE, NULL);
    options.policies = "all,";
    check_refused(&options, OCT_EUSAGE, "option '--policies' has an empty name");
    options.policies =
        oct_arena_print(&arena, "%s,%s", in_scratch("none.json"), in_scratch("none.json"));
    check_refused(&options, OCT_EUSAGE, "two candidates are called 'none'");
    options.policies = in_scratch("none.json");
    options.sampling.width = 1000;
    check_refused(&options, OCT_EUSAGE, "size 1000x32 is not a multiple of 16");
    options = options_for("nothing");
    options.policies = in_scratch("none.json");
    options.calibration = in_scratch("missing.json");
    check_refused(&options, OCT_EIO, NULL);
}

int main(void)
{
    scratch = oct_scratch_make();
    make_inputs();
    RUN(kept_layers_change_nothing_and_fp8_layers_do);
    RUN(the_same_run_gives_the_same_report);
    RUN(a_file_with_the_same_weights_is_identical);
    RUN(a_broken_threshold_fails_the_run);
    RUN(pictures_made_from_the_same_are_kept);
    RUN(a_contact_sheet_shows_a_row_per_candidate);
    RUN(scores_are_part_of_the_verdict);
    RUN(wrong_inputs_leave_no_folder);
    oct_arena_deinit(&arena);
    oct_scratch_remove(scratch);
    return test_end();
}
