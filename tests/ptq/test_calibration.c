// SPDX-License-Identifier: Apache-2.0
//
// Calibration files: exact round trips, and everything that must be refused.
#include <float.h>
#include <locale.h>
#include <unistd.h>

#include "common/file.h"
#include "ptq/calibration.h"
#include "tests/ptq/model.h"
#include "tests/test.h"

#define MODEL "\"model\":{\"denoiser_xxh3\":\"0123456789abcdef0123456789abcdef\"}"
#define SHA "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"
#define RUN_(steps)                                                                                \
    "\"run\":{\"prompts_sha256\":\"" SHA "\",\"prompts\":2,\"sampler\":\"euler\",\"steps\":" steps \
    ",\"cfg\":4.5,\"width\":64,\"height\":64,\"seed\":7}"
#define FILE_(layers) "{\"octavo_calibration\":1," MODEL "," RUN_("2") ",\"layers\":{" layers "}}"
#define LAYER "\"a\":{\"amax\":2,\"cond\":[1,2],\"uncond\":[]}"

static oct_status load_text(oct_calibration *calibration, const char *text, oct_err *err)
{
    const char *path = model_path("c.json");

    model_write_text(path, text);
    return oct_calibration_load(calibration, path, err);
}

static void check_refused(const char *text, oct_status status, const char *sentence)
{
    oct_calibration calibration;
    oct_err err = {0};
    char want[700];

    CHECK(load_text(&calibration, text, &err) == status);
    snprintf(want, sizeof want, "cannot load the calibration: '%s': %s", model_path("c.json"),
             sentence);
    CHECK_TEXT(err.text, want);
    CHECK(!calibration.layers && calibration.n_layers == 0);
}

static void check_layer_refused(const char *body, const char *sentence)
{
    char text[2000], want[400];

    snprintf(text, sizeof text, FILE_("\"a\":%s"), body);
    snprintf(want, sizeof want, "layer 'a': %s", sentence);
    check_refused(text, OCT_EFORMAT, want);
}

static void file_is_read_as_written(void)
{
    oct_calibration calibration;
    oct_err err = {0};
    char hex[OCT_SHA256_HEX];
    const char *text =
        FILE_(LAYER ",\"b\":{\"amax\":0.1,\"cond\":[0.1,1e-3],\"uncond\":[0,0.0625]}");

    CHECK(load_text(&calibration, text, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK_TEXT(calibration.denoiser_xxh3, "0123456789abcdef0123456789abcdef");
    CHECK(calibration.n_parts == 1);
    CHECK_TEXT(calibration.parts[0].prompts_sha256, SHA);
    CHECK_TEXT(calibration.sampler, "euler");
    CHECK(calibration.parts[0].prompts == 2 && calibration.parts[0].seed == 7);
    CHECK(calibration.steps == 2);
    CHECK(calibration.cfg == 4.5 && calibration.width == 64 && calibration.height == 64);
    CHECK(calibration.n_layers == 2);
    CHECK(!calibration.layers[0].uncond && calibration.layers[0].cond[1] == 2);
    CHECK(calibration.layers[1].amax == 0.1f && calibration.layers[1].uncond[1] == 0.0625f);
    CHECK(oct_calibration_find(&calibration, "b") == &calibration.layers[1]);
    CHECK(!oct_calibration_find(&calibration, "c"));
    oct_sha256_of(text, strlen(text), hex);
    CHECK_TEXT(calibration.sha256, hex);
    CHECK(!calibration.layers[0].exponents);
    oct_calibration_deinit(&calibration);
}

static oct_calibration make(float *ranges, size_t n)
{
    oct_calibration calibration = {.sampler = "euler",
                                   .n_parts = 1,
                                   .steps = n,
                                   .width = 1024,
                                   .height = 1024,
                                   .cfg = 4.1,
                                   .n_layers = 1};

    snprintf(calibration.denoiser_xxh3, OCT_XXH128_HEX, "%032d", 5);
    calibration.parts = oct_arena_alloc(&calibration.arena, sizeof *calibration.parts);
    *calibration.parts = (oct_calibration_part){.prompts = 1, .seed = 9007199254740992};
    snprintf(calibration.parts->prompts_sha256, OCT_SHA256_HEX, "%064d", 6);
    calibration.layers = oct_arena_array(&calibration.arena, 1, sizeof *calibration.layers);
    calibration.layers[0] =
        (oct_calibration_layer){"joint_blocks.0.x_block.mlp.fc2", FLT_MAX, ranges, ranges, NULL, NULL};
    return calibration;
}

static void check_round_trip(void)
{
    float ranges[2000] = {0, FLT_TRUE_MIN, FLT_MIN, 0.1f, 7.25f, 65504, FLT_MAX, 16777217.0f};
    unsigned x = 1;
    oct_calibration loaded;
    oct_err err = {0};

    for (size_t i = 8; i < 2000; i++) {
        x = x * 1664525u + 1013904223u;
        const unsigned bits = x % 0x7f800000u;
        memcpy(&ranges[i], &bits, 4);
    }
    oct_calibration saved = make(ranges, 2000);
    CHECK(oct_calibration_save(&saved, model_path("s.json"), &err) == OCT_OK);
    CHECK(oct_calibration_load(&loaded, model_path("s.json"), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK_TEXT(loaded.sha256, saved.sha256);
    CHECK(loaded.cfg == 4.1 && loaded.parts[0].seed == saved.parts[0].seed);
    if (loaded.n_layers == 1) {
        CHECK(memcmp(loaded.layers[0].cond, ranges, sizeof ranges) == 0);
        CHECK(memcmp(loaded.layers[0].uncond, ranges, sizeof ranges) == 0);
    }
    CHECK(oct_calibration_save(&loaded, model_path("s2.json"), &err) == OCT_OK);
    CHECK_TEXT(loaded.sha256, saved.sha256);
    oct_calibration_deinit(&loaded);
    oct_calibration_deinit(&saved);
}

static void ranges_survive_to_the_bit(void)
{
    check_round_trip();
}

static void decimal_commas_change_nothing(void)
{
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) SKIP("no German locale is installed");
    check_round_trip();
    setlocale(LC_ALL, "C");
}

static void numbers_are_written_short(void)
{
    float ranges[2] = {7.1f, 0.3f};
    oct_arena arena = {0};
    char *text = NULL;
    size_t bytes = 0;
    oct_calibration calibration = make(ranges, 2);

    CHECK(oct_calibration_save(&calibration, model_path("n.json"), NULL) == OCT_OK);
    CHECK(oct_file_read_text(&arena, model_path("n.json"), 1 << 20, &text, &bytes, NULL) == OCT_OK);
    CHECK(strstr(text, "[7.1, 0.3]"));
    oct_arena_deinit(&arena);
    oct_calibration_deinit(&calibration);
}

#define FORTY "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"
#define COUNTS_(first, last) "[" first "," FORTY ",0,0,0,0,0,0," last "]"
#define COUNTED_(counts) "{\"amax\":2,\"cond\":[1,2],\"uncond\":[],\"exponents\":" counts "}"

static void counts_survive(void)
{
    const oct_exponents exponents = {{[0] = 3, [5] = 9007199254740992, [47] = 1}};
    float ranges[2] = {7.1f, 0.3f};
    oct_calibration saved = make(ranges, 2), loaded;
    oct_err err = {0};

    saved.layers[0].exponents = &exponents;
    CHECK(oct_calibration_save(&saved, model_path("e.json"), &err) == OCT_OK);
    CHECK(oct_calibration_load(&loaded, model_path("e.json"), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(loaded.n_layers == 1 && loaded.layers[0].exponents &&
          !memcmp(loaded.layers[0].exponents, &exponents, sizeof exponents));
    oct_calibration_deinit(&loaded);
    oct_calibration_deinit(&saved);
}

static void counts_are_strict(void)
{
    const char *list = "'exponents' must be a list of 48 counts";

    check_layer_refused(COUNTED_("7"), list);
    check_layer_refused(COUNTED_("[]"), list);
    check_layer_refused(COUNTED_("[1," FORTY "]"), list);
    check_layer_refused(COUNTED_(COUNTS_("1,1", "0")), list);
    check_layer_refused(COUNTED_(COUNTS_("-1", "0")), list);
    check_layer_refused(COUNTED_(COUNTS_("0.5", "0")), list);
    check_layer_refused(COUNTED_(COUNTS_("9007199254740993000", "0")), list);
    check_layer_refused(COUNTED_(COUNTS_("\"1\"", "0")), list);
    check_layer_refused(COUNTED_(COUNTS_("0", "1")),
                        "'exponents' counts numbers beyond 'amax', 2");
}

// ---- Refused. Numbers are those of the catalogue of hostile inputs.

static void layers_91_to_97_are_refused(void)
{
    check_refused(FILE_(LAYER "," LAYER), OCT_EFORMAT, "JSON: duplicate key 'a'");
    check_refused(FILE_(""), OCT_EFORMAT, "'layers' is empty");
    check_layer_refused("{\"amax\":-1,\"cond\":[0,0],\"uncond\":[]}",
                        "'amax' holds -1: not a range in 0..3.4e38");
    check_layer_refused("{\"amax\":-0.0,\"cond\":[0,0],\"uncond\":[]}",
                        "'amax' holds -0: not a range in 0..3.4e38");
    check_layer_refused("{\"amax\":1e39,\"cond\":[0,0],\"uncond\":[]}",
                        "'amax' holds 1e+39: not a range in 0..3.4e38");
    check_layer_refused("{\"amax\":\"1\",\"cond\":[0,0],\"uncond\":[]}",
                        "'amax' must hold numbers");
    check_layer_refused("{\"amax\":1,\"cond\":[0,null],\"uncond\":[]}", "'cond' must hold numbers");
    check_layer_refused("{\"amax\":1,\"cond\":[0,-3],\"uncond\":[]}",
                        "'cond' holds -3: not a range in 0..3.4e38");
    check_layer_refused("{\"amax\":1,\"cond\":[0],\"uncond\":[]}",
                        "'cond' has 1 ranges for 2 steps");
    check_layer_refused("{\"amax\":1,\"cond\":[],\"uncond\":[]}",
                        "'cond' has 0 ranges for 2 steps");
    check_layer_refused("{\"amax\":1,\"cond\":[0,0],\"uncond\":[1,1,1]}",
                        "'uncond' has 3 ranges for 2 steps");
    check_layer_refused("{\"amax\":1,\"cond\":{},\"uncond\":[]}", "'cond' must be a list");
    check_layer_refused("{\"amax\":1,\"cond\":[0,0]}", "'uncond' is missing");
    check_layer_refused("{\"cond\":[0,0],\"uncond\":[]}", "'amax' is missing");
    check_layer_refused("{\"amax\":1,\"cond\":[0,1.5],\"uncond\":[]}",
                        "'amax' is 1, but a step has 1.5");
    check_layer_refused("{\"amax\":1,\"amex\":1,\"cond\":[0,0],\"uncond\":[]}",
                        "unknown key 'amex'");
    check_layer_refused("[1]", "must be an object");
}

static void numbers_beyond_binary64_are_refused(void)
{
    static const char *const numbers[] = {"1e999", "NaN", "Infinity", "-Infinity", "0x1p3",
                                          "1,5",   "01",  "+1",       ".5"};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char text[1000];
        oct_calibration calibration;
        snprintf(text, sizeof text, FILE_("\"a\":{\"amax\":%s,\"cond\":[0,0],\"uncond\":[]}"),
                 numbers[i]);
        CHECK(load_text(&calibration, text, NULL) == OCT_EFORMAT);
    }
}

static void endless_number_is_refused(void)
{
    static char text[1000100];
    oct_calibration calibration;

    memset(text, '1', 1000050);
    memcpy(text, "{\"octavo_calibration\":", 22);
    strcpy(text + 1000000, "}");
    CHECK(load_text(&calibration, text, NULL) == OCT_EFORMAT);
}

static void huge_file_is_refused_unread(void)
{
    const char *path = model_path("huge.json");
    oct_calibration calibration;
    oct_err err = {0};

    model_write_text(path, "{}");
    CHECK(truncate(path, 100 << 20) == 0);
    CHECK(oct_calibration_load(&calibration, path, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "huge.json"));
}

static void vanishing_number_is_zero(void)
{
    oct_calibration calibration;

    CHECK(load_text(&calibration, FILE_("\"a\":{\"amax\":1e-999,\"cond\":[0,0],\"uncond\":[]}"),
                    NULL) == OCT_OK);
    CHECK(calibration.n_layers == 1 && calibration.layers[0].amax == 0);
    oct_calibration_deinit(&calibration);
}

static void keys_and_versions_are_strict(void)
{
    check_refused("[]", OCT_EFORMAT, "not a JSON object");
    check_refused("{}", OCT_EFORMAT, "'octavo_calibration' is missing");
    check_refused("{\"octavo_calibration\":2}", OCT_EUNSUPPORTED,
                  "calibration version 2 is not known, only 1");
    check_refused("{\"octavo_calibration\":1,\"x\":1}", OCT_EFORMAT, "unknown key 'x'");
    check_refused("{\"octavo_calibration\":1}", OCT_EFORMAT, "'model' is missing");
    check_refused("{\"octavo_calibration\":1,\"model\":[]}", OCT_EFORMAT,
                  "'model' must be an object");
    check_refused("{\"octavo_calibration\":1,\"model\":{\"sha\":1}}", OCT_EFORMAT,
                  "'model': unknown key 'sha'");
    check_refused("{\"octavo_calibration\":1," MODEL "}", OCT_EFORMAT, "'run' is missing");
    check_refused("{\"octavo_calibration\":1," MODEL "," RUN_("2") "}", OCT_EFORMAT,
                  "'layers' is missing");
    check_refused("{\"octavo_calibration\":1," MODEL "," RUN_("0") ",\"layers\":{}}", OCT_EFORMAT,
                  "'steps' is 0, not in 1..10000");
    check_refused("{\"octavo_calibration\":1," MODEL "," RUN_("1e9") ",\"layers\":{}}", OCT_EFORMAT,
                  "'steps' is 1000000000, not in 1..10000");
    check_refused("{\"octavo_calibration\":1," MODEL "," RUN_("1.5") ",\"layers\":{}}", OCT_EFORMAT,
                  "'steps' must be a whole number in 0..2^53, not 1.5");
    check_refused("{\"octavo_calibration\":1,\"model\":{\"denoiser_xxh3\":\"ABC\"}," RUN_(
                      "2") ",\"layers\":{}}",
                  OCT_EFORMAT, "'denoiser_xxh3' must be 32 lower-case hex digits");
}

static void every_truncation_is_refused(void)
{
    const char *text = FILE_(LAYER);
    char cut[2000];

    for (size_t bytes = 0; bytes < strlen(text); bytes++) {
        oct_calibration calibration;
        snprintf(cut, sizeof cut, "%.*s", (int)bytes, text);
        CHECK(load_text(&calibration, cut, NULL) == OCT_EFORMAT);
    }
}

static void depth_and_byte_order_marks_are_refused(void)
{
    static char deep[1000001];
    oct_calibration calibration;

    memset(deep, '[', sizeof deep - 1);
    CHECK(load_text(&calibration, deep, NULL) == OCT_EFORMAT);
    CHECK(load_text(&calibration, "\xef\xbb\xbf" FILE_(LAYER), NULL) == OCT_EFORMAT);
    CHECK(load_text(&calibration, FILE_(LAYER) "\r\n", NULL) == OCT_OK);
    oct_calibration_deinit(&calibration);
}

static void missing_file_is_named(void)
{
    oct_calibration calibration;
    oct_err err = {0};

    CHECK(oct_calibration_load(&calibration, model_path("absent.json"), &err) == OCT_EIO);
    CHECK(strstr(err.text, "absent.json"));
    float range = 1;
    oct_calibration saved = make(&range, 1);
    CHECK(oct_calibration_save(&saved, model_path("no/such/folder.json"), &err) == OCT_EIO);
    CHECK(strncmp(err.text, "cannot save the calibration: ", 29) == 0);
    oct_calibration_deinit(&saved);
}

int main(void)
{
    RUN(file_is_read_as_written);
    RUN(ranges_survive_to_the_bit);
    RUN(decimal_commas_change_nothing);
    RUN(numbers_are_written_short);
    RUN(counts_survive);
    RUN(counts_are_strict);
    RUN(layers_91_to_97_are_refused);
    RUN(numbers_beyond_binary64_are_refused);
    RUN(endless_number_is_refused);
    RUN(huge_file_is_refused_unread);
    RUN(vanishing_number_is_zero);
    RUN(keys_and_versions_are_strict);
    RUN(every_truncation_is_refused);
    RUN(depth_and_byte_order_marks_are_refused);
    RUN(missing_file_is_named);
    return test_end();
}
