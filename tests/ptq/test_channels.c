// SPDX-License-Identifier: Apache-2.0
//
// Channel statistics: sums that no order changes, and files that must be refused.
#include <math.h>
#include <unistd.h>

#include "common/file.h"
#include "ptq/calibration.h"
#include "tests/ptq/model.h"
#include "tests/test.h"

#define XXH3 "0123456789abcdef0123456789abcdef"

// ---- Sums.

static bool is_same(oct_energy a, oct_energy b)
{
    return a.low == b.low && a.high == b.high;
}

static void sums_are_whole_numbers_of_their_unit(void)
{
    static const struct {
        double squares;
        oct_energy sum;
    } known[] = {
        {0, {0, 0}},
        {1, {UINT64_C(1) << 48, 0}},
        {0x1p-48, {1, 0}},
        {0x1p-49, {0, 0}},  // ties to even
        {0x1.8p-48, {2, 0}},
        {0x1p15, {UINT64_C(1) << 63, 0}},
        {0x1p16, {0, 1}},
        {0x1.0000000000001p16, {UINT64_C(1) << 12, 1}},
        {0x1p79, {0, UINT64_C(1) << 63}},
        {0x1.fffffffffffffp79, {0, 0xfffffffffffff800}},
        {0x1p80, {UINT64_MAX, UINT64_MAX}},
        {INFINITY, {UINT64_MAX, UINT64_MAX}},
        {NAN, {UINT64_MAX, UINT64_MAX}},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        oct_energy sum = {0};
        oct_energy_add(&sum, known[i].squares);
        if (!is_same(sum, known[i].sum)) printf("# %a\n", known[i].squares);
        CHECK(is_same(sum, known[i].sum));
    }
}

static void no_order_and_no_grouping_changes_a_sum(void)
{
    enum { N = 3000 };
    oct_energy forward = {0}, backward = {0}, parts[7] = {{0}}, together = {0};
    double squares[N];
    unsigned x = 1;

    for (size_t i = 0; i < N; i++) {
        x = x * 1664525u + 1013904223u;
        squares[i] = ldexp((double)x, (int)(x >> 8) % 60 - 60);
    }
    for (size_t i = 0; i < N; i++) {
        oct_energy_add(&forward, squares[i]);
        oct_energy_add(&backward, squares[N - 1 - i]);
        oct_energy_add(&parts[i % 7], squares[i]);
    }
    for (size_t i = 7; i-- > 0;) oct_energy_merge(&together, parts[i]);
    CHECK(is_same(forward, backward) && is_same(forward, together) && forward.high > 0);
}

static void too_large_stays_too_large(void)
{
    oct_energy sum = {UINT64_MAX, UINT64_MAX - 1}, other = {2, 0};

    oct_energy_merge(&sum, other);
    CHECK(!oct_energy_is_overflown(sum) && sum.low == 1 && sum.high == UINT64_MAX);
    oct_energy_merge(&sum, (oct_energy){UINT64_MAX, 0});
    CHECK(oct_energy_is_overflown(sum));
    oct_energy_add(&sum, 1);
    CHECK(oct_energy_is_overflown(sum));
    oct_energy_merge(&other, sum);
    CHECK(oct_energy_is_overflown(other));
}

static void means_are_over_rows(void)
{
    oct_energy sums[] = {{UINT64_C(3) << 48, 0}, {0, 1}, {1, 0}};
    const oct_channels channels = {.rows = 4, .n = 3, .sums = sums};

    CHECK(oct_channels_mean(&channels, 0) == 0.75f);
    CHECK(oct_channels_mean(&channels, 1) == 16384);
    CHECK(oct_channels_mean(&channels, 2) == 0x1p-50f);
}

// ---- Files.

typedef struct written {  // a calibration of two layers
    oct_calibration calibration;
    oct_calibration_part part;
    oct_calibration_layer layers[2];
    oct_channels channels[2];
    oct_energy sums[2][3];
    float ranges[1];
} written;

static void make(written *w)
{
    *w = (written){.ranges = {2}};
    w->sums[0][0] = (oct_energy){UINT64_C(1) << 48, 0};
    w->sums[0][2] = (oct_energy){12345, 0};
    w->sums[1][1] = (oct_energy){UINT64_C(5) << 48, 0};
    w->channels[0] = (oct_channels){"a", 2, 3, w->sums[0]};
    w->channels[1] = (oct_channels){"b", 9, 2, w->sums[1]};
    for (int i = 0; i < 2; i++) {
        w->layers[i] = (oct_calibration_layer){
            .name = i ? "b" : "a", .amax = 2, .cond = w->ranges, .channels = &w->channels[i]};
    }
    w->calibration = (oct_calibration){.sampler = "euler",
                                       .parts = &w->part,
                                       .n_parts = 1,
                                       .steps = 1,
                                       .width = 64,
                                       .height = 64,
                                       .cfg = 1,
                                       .layers = w->layers,
                                       .n_layers = 2,
                                       .channels = w->channels};
    strcpy(w->calibration.denoiser_xxh3, XXH3);
    w->part.prompts = 1;
    snprintf(w->part.prompts_sha256, OCT_SHA256_HEX, "%064d", 6);
}

static const char *json_path(void)
{
    return model_path("c.json");
}

static const char *sidecar_path(void)
{
    return model_path("c.json" OCT_CHANNELS_SUFFIX);
}

static void files_are_read_as_written(void)
{
    oct_calibration loaded;
    oct_err err = {0};
    written w;

    make(&w);
    CHECK(oct_calibration_save(&w.calibration, json_path(), &err) == OCT_OK);
    CHECK(oct_calibration_load(&loaded, json_path(), &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK_TEXT(loaded.channels_sha256, w.calibration.channels_sha256);
    CHECK(strlen(loaded.channels_sha256) == 64);
    for (size_t i = 0; i < 2 && loaded.n_layers == 2; i++) {
        const oct_channels *is = loaded.layers[i].channels, *want = &w.channels[i];
        CHECK(is && is->rows == want->rows && is->n == want->n);
        CHECK(is && memcmp(is->sums, want->sums, want->n * sizeof *want->sums) == 0);
    }
    CHECK(oct_calibration_save(&loaded, model_path("again.json"), &err) == OCT_OK);
    CHECK_TEXT(loaded.sha256, w.calibration.sha256);
    oct_calibration_deinit(&loaded);
}

static void check_refused(const char *sentence)
{
    oct_calibration loaded;
    oct_err err = {0};
    char want[700];

    const oct_status st = oct_calibration_load(&loaded, json_path(), &err);
    CHECK(st != OCT_OK && loaded.n_layers == 0);
    snprintf(want, sizeof want, "cannot load the calibration: '%s': %s", sidecar_path(), sentence);
    CHECK_TEXT(err.text, want);
}

static void another_sidecar_is_refused(void)
{
    char sentence[300], old[OCT_SHA256_HEX];
    oct_err err = {0};
    written w;

    make(&w);
    CHECK(oct_calibration_save(&w.calibration, json_path(), &err) == OCT_OK);
    strcpy(old, w.calibration.channels_sha256);
    w.channels[0].rows++;
    CHECK(oct_channels_save(sidecar_path(), w.channels, 2, XXH3, w.calibration.channels_sha256,
                            &err) == OCT_OK);
    snprintf(sentence, sizeof sentence, "its sha256 is %s, but the calibration names %s",
             w.calibration.channels_sha256, old);
    check_refused(sentence);
    unlink(sidecar_path());
    oct_calibration loaded;
    CHECK(oct_calibration_load(&loaded, json_path(), &err) == OCT_EIO);
    CHECK(strstr(err.text, sidecar_path()));
}

// A calibration of `w` that names a sidecar with these tensors.
static void write_sidecar(written *w, model_file *file)
{
    oct_file opened = {0};

    make(w);
    CHECK(oct_calibration_save(&w->calibration, json_path(), NULL) == OCT_OK);
    model_save(file, sidecar_path());
    CHECK(oct_file_open(&opened, sidecar_path(), NULL) == OCT_OK);
    char digest[OCT_SHA256_HEX], text[4096];
    CHECK(oct_sha256_of_file(&opened, digest, NULL) == OCT_OK);
    oct_file_close(&opened);
    FILE *json = fopen(json_path(), "r+");
    const size_t n = json ? fread(text, 1, sizeof text - 1, json) : 0;
    text[n] = '\0';
    char *at = strstr(text, w->calibration.channels_sha256);
    CHECK(at);
    if (at) memcpy(at, digest, 64);
    rewind(json);
    fwrite(text, 1, n, json);
    fclose(json);
}

static void add(model_file *file, const char *name, int rank, uint64_t n, const void *data)
{
    model_add(file, name, OCT_U64, rank, (const uint64_t[]){n, 2}, data);
}

// What `change` makes of a sidecar that would be right.
static void check_changed(void (*change)(model_file *), const char *meta, const char *sentence)
{
    static const uint64_t rows[] = {2, 9}, zeros[6], five[4] = {0, 0, UINT64_C(5) << 48, 0};
    model_file file = {.meta = meta};
    written w;

    add(&file, "a.input_squares", 2, 3, zeros);
    add(&file, "a.input_rows", 0, 0, &rows[0]);
    add(&file, "b.input_squares", 2, 2, five);
    add(&file, "b.input_rows", 0, 0, &rows[1]);
    if (change) change(&file);
    write_sidecar(&w, &file);
    if (sentence) {
        check_refused(sentence);
    } else {
        oct_calibration loaded;
        CHECK(oct_calibration_load(&loaded, json_path(), NULL) == OCT_OK);
        oct_calibration_deinit(&loaded);
    }
    model_deinit(&file);
}

#define META "{\"octavo.channels\":\"1\",\"octavo.denoiser_xxh3\":\"" XXH3 "\"}"

static void drop_rows(model_file *file)
{
    model_remove(file, "b.input_rows");
}

static void rename_rows(model_file *file)
{
    model_find(file, "b.input_rows")->name = "c.input_rows";
}

static void type_rows(model_file *file)
{
    model_find(file, "b.input_rows")->dtype = OCT_I64;
}

static void flatten_squares(model_file *file)
{
    model_find(file, "a.input_squares")->rank = 1;
    model_find(file, "a.input_squares")->shape[0] = 6;
}

static void empty_squares(model_file *file)
{
    model_find(file, "a.input_squares")->shape[0] = 0;
}

static void overflow_squares(model_file *file)
{
    static const uint64_t ones[6] = {1, 1, UINT64_MAX, UINT64_MAX, 0, 0};
    model_find(file, "a.input_squares")->data = ones;
}

static void forget_rows(model_file *file)
{
    static const uint64_t none = 0;
    model_find(file, "b.input_rows")->data = &none;
}

static void exceed_the_range(model_file *file)
{
    static const uint64_t many[4] = {0, 0, UINT64_C(37) << 48, 0};  // 37 / 9 > 2^2
    model_find(file, "b.input_squares")->data = many;
}

static void broken_sidecars_are_refused(void)
{
    check_changed(NULL, META, NULL);
    check_changed(NULL, "{\"octavo.channels\":\"2\"}", "metadata 'octavo.channels' is not 1");
    check_changed(NULL, NULL, "metadata 'octavo.channels' is not 1");
    check_changed(NULL, "{\"octavo.channels\":\"1\",\"octavo.denoiser_xxh3\":\"0\"}",
                  "metadata 'octavo.denoiser_xxh3' names another model");
    check_changed(drop_rows, META, "3 tensors for 2 layers");
    check_changed(rename_rows, META, "tensor 'b.input_rows' is missing");
    check_changed(type_rows, META, "tensor 'b.input_rows' is not U64 []");
    check_changed(flatten_squares, META, "tensor 'a.input_squares' is not U64 [channels, 2]");
    check_changed(empty_squares, META, "tensor 'a.input_squares' is not U64 [channels, 2]");
    check_changed(overflow_squares, META,
                  "channel 1 of the input of layer 'a' is too large: its squares add up to more "
                  "than 2^80");
    check_changed(forget_rows, META, "layer 'b' has squares of no rows");
    check_changed(exceed_the_range, META,
                  "layer 'b': channel 1 has mean square 4.11111, but the layer's range is 2");
}

static void overflown_sums_are_not_saved(void)
{
    oct_err err = {0};
    written w;

    make(&w);
    unlink(sidecar_path());
    unlink(json_path());
    oct_energy_add(&w.sums[1][0], INFINITY);
    CHECK(oct_calibration_save(&w.calibration, json_path(), &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "cannot save the calibration: channel 0 of the input of layer 'b' is too "
                         "large: its squares add up to more than 2^80");
    CHECK(!oct_path_exists(sidecar_path()) && !oct_path_exists(json_path()));
}

int main(void)
{
    RUN(sums_are_whole_numbers_of_their_unit);
    RUN(no_order_and_no_grouping_changes_a_sum);
    RUN(too_large_stays_too_large);
    RUN(means_are_over_rows);
    RUN(files_are_read_as_written);
    RUN(another_sidecar_is_refused);
    RUN(broken_sidecars_are_refused);
    RUN(overflown_sums_are_not_saved);
    return test_end();
}
