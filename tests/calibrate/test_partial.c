// SPDX-License-Identifier: Apache-2.0
//
// What an interrupted calibration leaves: read back to the bit, and by no other run.
#include "calibrate/partial.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "tests/test.h"
#include "tests/tools/scratch.h"

#define LAYERS 3
#define STEPS 4
#define CHANNELS 5

static oct_collect_options options;
static oct_conditioning conditionings[2];
static oct_job jobs[2];
static oct_device device = {.name = "cpu"};
static char *path;

static void set_up(void)
{
    static float context[2][6], pooled[2][3];

    options = (oct_collect_options){.out = "c.json", .sampling = {.steps = STEPS, .cfg = 4.5}};
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 6; k++) context[i][k] = (float)(i + k);
        for (int k = 0; k < 3; k++) pooled[i][k] = (float)(i - k);
        conditionings[i] = (oct_conditioning){context[i], pooled[i], 3, 2, 3};
        jobs[i] = (oct_job){.conditional = &conditionings[i], .seed = (uint64_t)i};
    }
}

static void begin(oct_collection *collection, bool has_channels)
{
    static oct_layer layers[LAYERS] = {{.name = "a", .in_features = CHANNELS},
                                       {.name = "b", .in_features = 1},
                                       {.name = "c", .in_features = CHANNELS}};
    const oct_denoiser denoiser = {.layers = layers, .n_layers = LAYERS};

    options.has_channels = has_channels;
    *collection = (oct_collection){.options = &options,
                                   .ranks = {.count = 1},
                                   .device = &device,
                                   .jobs = {.items = jobs, .count = 2},
                                   .denoiser_xxh3 = "0123456789abcdef0123456789abcdef"};
    oct_observer_init(&collection->observer, LAYERS, STEPS);
    if (has_channels) oct_observer_add_channels(&collection->observer, &denoiser);
}

static void end(oct_collection *collection)
{
    oct_observer_deinit(&collection->observer);
}

static void observe_something(oct_observer *observer)
{
    const float x[CHANNELS] = {1, -2, 0.3f, 4e-5f, 700};

    for (int i = 0; i < LAYERS; i++) {
        observer->step = i;
        oct_observe(observer, i, x, 1, i == 1 ? 1 : CHANNELS);
    }
}

static bool is_untouched(const oct_observer *observer)
{
    return oct_observer_amax(observer, 0) == 0 && oct_exponents_total(observer->exponents) == 0;
}

static void save(bool has_channels, size_t n_done)
{
    oct_collection collection;
    oct_err err = {0};

    unlink(path);
    begin(&collection, has_channels);
    CHECK(oct_partial_load(&collection) == 0);
    observe_something(&collection.observer);
    CHECK(oct_partial_save(&collection, n_done, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    end(&collection);
}

static void numbers_come_back_to_the_bit(void)
{
    for (int has_channels = 0; has_channels < 2; has_channels++) {
        oct_collection collection, want;

        save(has_channels, 1);
        begin(&want, has_channels);
        observe_something(&want.observer);
        begin(&collection, has_channels);
        CHECK(oct_partial_load(&collection) == 1);
        const oct_observer *a = &collection.observer, *b = &want.observer;
        CHECK(memcmp(a->amax, b->amax, LAYERS * 2 * STEPS * sizeof *a->amax) == 0);
        CHECK(memcmp(a->exponents, b->exponents, LAYERS * sizeof *a->exponents) == 0);
        for (int i = 0; has_channels && i < LAYERS; i++) {
            const oct_channels *x = &a->channels[i], *y = &b->channels[i];
            CHECK(x->rows == 1 && x->rows == y->rows);
            CHECK(memcmp(x->sums, y->sums, x->n * sizeof *x->sums) == 0);
        }
        oct_partial_remove(&collection);
        CHECK(!oct_path_exists(path));
        end(&collection);
        end(&want);
    }
}

// Nothing is taken, and nothing of the file gets into the observer.
static void check_begun_anew(bool has_channels)
{
    oct_collection collection;

    begin(&collection, has_channels);
    CHECK(oct_partial_load(&collection) == 0);
    CHECK(is_untouched(&collection.observer));
    end(&collection);
}

static void another_run_begins_anew(void)
{
    save(false, 1);
    check_begun_anew(true);
    save(false, 1);
    jobs[1].seed++;
    check_begun_anew(false);
    set_up();
    conditionings[1].context[5] += 1;
    check_begun_anew(false);
    set_up();
    conditionings[0].pooled[2] += 1;
    check_begun_anew(false);
    set_up();
    options.sampling.cfg = 4.6;
    check_begun_anew(false);
    set_up();
    options.sampling.width = 64;
    check_begun_anew(false);
    set_up();
    device.name = "another";
    check_begun_anew(false);
    device.name = "cpu";
    jobs[0].unconditional = &conditionings[1];
    check_begun_anew(false);
    set_up();
    oct_collection collection;
    begin(&collection, false);
    CHECK(oct_partial_load(&collection) == 1);  // it was only ever the run that differed
    oct_partial_remove(&collection);
    end(&collection);
}

static void damaged_files_are_not_used(void)
{
    oct_arena arena = {0};
    char *whole = NULL;
    size_t bytes = 0;

    save(true, 1);
    CHECK(oct_file_read_text(&arena, path, 1 << 20, &whole, &bytes, NULL) == OCT_OK);
    for (size_t at = 0; at < bytes; at += at < 32 ? 1 : 7) {
        whole[at] ^= 0x10;
        CHECK(oct_file_write(path, whole, bytes, NULL) == OCT_OK);
        check_begun_anew(true);
        whole[at] ^= 0x10;
    }
    for (size_t n = 0; n < bytes; n += 97) {
        CHECK(oct_file_write(path, whole, n, NULL) == OCT_OK);
        check_begun_anew(true);
    }
    CHECK(oct_file_write(path, whole, bytes + 1, NULL) == OCT_OK);
    check_begun_anew(true);
    unlink(path);
    oct_arena_deinit(&arena);
}

int main(void)
{
    char *scratch = oct_scratch_make();

    oct_log_init("test", OCT_LOG_QUIET);
    CHECK(chdir(scratch) == 0);
    path = "c.json.partial";
    set_up();
    RUN(numbers_come_back_to_the_bit);
    RUN(another_run_begins_anew);
    RUN(damaged_files_are_not_used);
    oct_scratch_remove(scratch);
    return test_end();
}
