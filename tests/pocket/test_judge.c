// SPDX-License-Identifier: Apache-2.0
//
// Tests of tests/pocket/judge.c and look.c, on the renderer's pictures: clean, and spoiled as a
// model spoils them.
#include "tests/pocket/judge.h"

#include "tests/test.h"

#define CLEAN_SCENES 2000
#define SPOILED_SCENES 200

typedef void spoil_fn(oct_image *image, uint64_t *state);

typedef struct judged_sample {
    pocket_scene scene;
    pocket_view view;
} judged_sample;

static pocket_stamps stamps;
static judged_sample clean[CLEAN_SCENES];

// Draw a scene, paint it, spoil the picture if `spoil` is given, and look at it.
static void make_sample(judged_sample *sample, spoil_fn *spoil, uint64_t *state)
{
    oct_image image = {0};

    CHECK(!oct_image_init(&image, POCKET_SIDE, POCKET_SIDE, NULL));
    pocket_scene_draw(&sample->scene, state);
    pocket_scene_render(&sample->scene, &stamps, &image);
    if (spoil) spoil(&image, state);
    CHECK(!pocket_look(&sample->view, &stamps, &image, NULL));
    oct_image_deinit(&image);
}

// By way of the caption, so that the grammar is part of it.
static pocket_verdict judge_caption(const pocket_scene *scene, const pocket_view *view)
{
    pocket_scene from_caption;
    pocket_verdict verdict;
    char caption[POCKET_CAPTION_MAX];
    oct_err err = {{0}};

    pocket_caption_print(scene, caption);
    pocket_caption_parse(&from_caption, caption, &err);
    CHECK_TEXT(err.text, "");
    pocket_judge(&verdict, &from_caption, view);
    return verdict;
}

static void print_failures(const pocket_scene *scene, const pocket_verdict *verdict)
{
    char caption[POCKET_CAPTION_MAX];

    pocket_caption_print(scene, caption);
    for (size_t i = 0; i < verdict->n_clauses; i++) {
        char text[64];
        if (verdict->clauses[i].holds) continue;
        pocket_clause_print(&verdict->clauses[i], text);
        printf("# '%s': %s fails\n", caption, text);
    }
}

static void clean_scenes_satisfy_every_clause(void)
{
    int failures = 0;

    for (int i = 0; i < CLEAN_SCENES; i++) {
        const pocket_verdict verdict = judge_caption(&clean[i].scene, &clean[i].view);
        CHECK(verdict.n_others == 0);
        if (verdict.n_holding == verdict.n_clauses) continue;
        if (failures++ < 10) print_failures(&clean[i].scene, &verdict);
    }
    CHECK(failures == 0);
}

static pocket_color other_color(const pocket_scene *scene, uint64_t *state)
{
    for (;;) {
        const pocket_color color = (pocket_color)pocket_random(state, POCKET_GRAY);
        bool is_taken = color == scene->background;
        for (size_t i = 0; i < scene->n_groups; i++) is_taken |= color == scene->groups[i].color;
        if (!is_taken) return color;
    }
}

static int other_of(int value, int count, uint64_t *state)
{
    return (value + 1 + (int)pocket_random(state, (uint64_t)(count - 1))) % count;
}

static void find_span(const pocket_group *group, bool is_across, int *begin, int *end)
{
    *begin = POCKET_SIDE;
    *end = 0;
    for (int i = 0; i < group->count; i++) {
        const pocket_box *box = &group->boxes[i];
        const int at = is_across ? box->x : box->y;
        if (at < *begin) *begin = at;
        if (at + box->side > *end) *end = at + box->side;
    }
}

// Whether the boxes reach too far into each other for the relation, so that shapes do, which may
// leave a tenth of their boxes empty.
static bool breaks_relation(const pocket_scene *scene, pocket_relation relation)
{
    const bool is_across = relation <= POCKET_RIGHT_OF;
    const bool is_swapped = relation == POCKET_RIGHT_OF || relation == POCKET_BELOW;
    int begin, end, begin_second, end_second;

    find_span(&scene->groups[is_swapped], is_across, &begin, &end);
    find_span(&scene->groups[!is_swapped], is_across, &begin_second, &end_second);
    return end > begin_second + 8;
}

static bool falsify_relation(pocket_scene *scene, uint64_t *state)
{
    if (scene->n_groups < 2) return false;
    scene->relation = (pocket_relation)other_of((int)scene->relation, POCKET_RELATIONS, state);
    return breaks_relation(scene, scene->relation);
}

// Make one clause of a scene's caption wrong; false when it has none of that kind, or when no
// caption of the grammar is wrong in that clause only.
static bool falsify(pocket_scene *scene, pocket_clause_kind kind, size_t at, uint64_t *state)
{
    pocket_group *group = &scene->groups[at];
    const bool is_filled = group->fill != POCKET_PLAIN;

    switch (kind) {
    case POCKET_CLAUSE_COLOR:
        group->color = other_color(scene, state);
        return true;
    case POCKET_CLAUSE_SHAPE:
        group->shape = (pocket_shape)other_of((int)group->shape, POCKET_SHAPES, state);
        return true;
    case POCKET_CLAUSE_COUNT:
        group->count = 1 + other_of(group->count - 1, POCKET_COUNT_MAX, state);
        return true;
    case POCKET_CLAUSE_SIZE:
        group->size = (pocket_size)other_of((int)group->size, POCKET_SIZES, state);
        return group->names_size && !(is_filled && group->size == POCKET_SMALL);
    case POCKET_CLAUSE_FILL:
        group->fill = (pocket_fill)other_of((int)group->fill, POCKET_FILLS, state);
        return !(group->names_size && group->size == POCKET_SMALL);
    case POCKET_CLAUSE_RELATION:
        return falsify_relation(scene, state);
    default:
        scene->background = other_color(scene, state);
        return true;
    }
}

// The clause that a scene's caption is made wrong in, `kind` if it can be, else one of the next.
static pocket_clause falsify_some(pocket_scene *scene, pocket_clause_kind kind, uint64_t *state)
{
    const size_t at = pocket_random(state, scene->n_groups);

    for (;; kind = (kind + 1) % POCKET_CLAUSE_KINDS) {
        pocket_scene wrong = *scene;
        if (!falsify(&wrong, kind, at, state)) continue;
        *scene = wrong;
        const bool has_group = kind != POCKET_CLAUSE_RELATION && kind != POCKET_CLAUSE_BACKGROUND;
        return (pocket_clause){kind, has_group ? at : 0, false};
    }
}

static bool fails_only_in(const pocket_verdict *verdict, const pocket_clause *wrong)
{
    for (size_t i = 0; i < verdict->n_clauses; i++) {
        const pocket_clause *clause = &verdict->clauses[i];
        if (clause->holds) continue;
        if (clause->kind != wrong->kind || clause->group != wrong->group) return false;
    }
    return verdict->n_holding + 1 == verdict->n_clauses;
}

static void one_wrong_word_fails_in_its_clause_only(void)
{
    uint64_t state = 12;
    int wrong[POCKET_CLAUSE_KINDS] = {0}, failures = 0;

    for (int i = 0; i < CLEAN_SCENES; i++) {
        pocket_scene scene = clean[i].scene;
        const pocket_clause clause =
            falsify_some(&scene, (pocket_clause_kind)(i % POCKET_CLAUSE_KINDS), &state);
        const pocket_verdict verdict = judge_caption(&scene, &clean[i].view);
        wrong[clause.kind]++;
        if (fails_only_in(&verdict, &clause)) continue;
        if (failures++ >= 10) continue;
        printf("# wrong in %s:\n", pocket_clause_names[clause.kind]);
        print_failures(&scene, &verdict);
    }
    CHECK(failures == 0);
    for (int kind = 0; kind < POCKET_CLAUSE_KINDS; kind++) CHECK(wrong[kind] > CLEAN_SCENES / 20);
}

static uint8_t to_byte(double value)
{
    return (uint8_t)rint(fmin(fmax(value, 0), 255));
}

static int clip(int value)
{
    return value < 0 ? 0 : value >= POCKET_SIDE ? POCKET_SIDE - 1 : value;
}

// The mean over a square of 2 reach + 1 pixels.
static void blur(oct_image *image, int reach)
{
    const double n = (2 * reach + 1) * (2 * reach + 1);
    oct_image from = {0};

    CHECK(!oct_image_init(&from, POCKET_SIDE, POCKET_SIDE, NULL));
    memcpy(from.rgb, image->rgb, 3 * POCKET_SIDE * POCKET_SIDE);
    for (int i = 0; i < 3 * POCKET_SIDE * POCKET_SIDE; i++) {
        const int x = i / 3 % POCKET_SIDE, y = i / 3 / POCKET_SIDE;
        double sum = 0;
        for (int dy = -reach; dy <= reach; dy++) {
            for (int dx = -reach; dx <= reach; dx++) {
                sum += from.rgb[3 * (clip(y + dy) * POCKET_SIDE + clip(x + dx)) + i % 3];
            }
        }
        image->rgb[i] = to_byte(sum / n);
    }
    oct_image_deinit(&from);
}

static void blur_3x3(oct_image *image, uint64_t *state)
{
    blur(image, 1);
}

static void blur_5x5(oct_image *image, uint64_t *state)
{
    blur(image, 2);
}

static double random_within(uint64_t *state, int levels)
{
    return (double)pocket_random(state, (uint64_t)(2 * levels + 1)) - levels;
}

// Every pixel by itself, +-24 levels.
static void add_noise(oct_image *image, uint64_t *state)
{
    for (int i = 0; i < 3 * POCKET_SIDE * POCKET_SIDE; i++) {
        image->rgb[i] = to_byte(image->rgb[i] + random_within(state, 24));
    }
}

// Every block of 8x8 pixels and channel by itself, +-12 levels.
static void shift_blocks(oct_image *image, uint64_t *state)
{
    double shifts[3 * (POCKET_SIDE / 8) * (POCKET_SIDE / 8)];

    for (size_t i = 0; i < sizeof shifts / sizeof *shifts; i++) {
        shifts[i] = random_within(state, 12);
    }
    for (int i = 0; i < 3 * POCKET_SIDE * POCKET_SIDE; i++) {
        const int x = i / 3 % POCKET_SIDE, y = i / 3 / POCKET_SIDE;
        image->rgb[i] =
            to_byte(image->rgb[i] + shifts[3 * (y / 8 * (POCKET_SIDE / 8) + x / 8) + i % 3]);
    }
}

static void spoil_all(oct_image *image, uint64_t *state)
{
    blur(image, 1);
    shift_blocks(image, state);
    add_noise(image, state);
}

// Soft edges, and colours that are off everywhere by up to 15 levels a channel: an autoencoder's.
static void blur_and_tint(oct_image *image, uint64_t *state)
{
    double shifts[3];

    blur(image, 1);
    for (int c = 0; c < 3; c++) shifts[c] = random_within(state, 15);
    for (int i = 0; i < 3 * POCKET_SIDE * POCKET_SIDE; i++) {
        image->rgb[i] = to_byte(image->rgb[i] + shifts[i % 3]);
    }
}

// How many of the captions hold although the pictures are spoiled, and how many with one wrong
// word are refused in that clause only.
static void measure_spoiled(const char *name, spoil_fn *spoil, int *holding, int *refused)
{
    uint64_t state = 13;

    *holding = *refused = 0;
    for (int i = 0; i < SPOILED_SCENES; i++) {
        judged_sample sample;
        make_sample(&sample, spoil, &state);
        pocket_verdict verdict = judge_caption(&sample.scene, &sample.view);
        *holding += verdict.n_holding == verdict.n_clauses;
        const pocket_clause clause =
            falsify_some(&sample.scene, (pocket_clause_kind)(i % POCKET_CLAUSE_KINDS), &state);
        verdict = judge_caption(&sample.scene, &sample.view);
        *refused += fails_only_in(&verdict, &clause);
    }
    printf("# %s: %d of %d captions hold, %d wrong ones fail in their clause only\n", name,
           *holding, SPOILED_SCENES, *refused);
}

static void spoiled_scenes_are_judged_nearly_as_well(void)
{
    static const struct {
        const char *name;
        spoil_fn *spoil;
        int least;  // of SPOILED_SCENES
    } cases[] = {
        {"blur 3x3", blur_3x3, 200},
        {"blur 5x5", blur_5x5, 190},  // a 5x5 mean takes half of a stripe and most of a dot
        {"noise +-24", add_noise, 200},
        {"shifted blocks +-12", shift_blocks, 200},
        {"blur 3x3 and a tint of +-15", blur_and_tint, 200},
        {"blur 3x3, shift and noise", spoil_all, 200},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int holding, refused;
        measure_spoiled(cases[i].name, cases[i].spoil, &holding, &refused);
        CHECK(holding >= cases[i].least);
        CHECK(refused >= cases[i].least);
    }
}

// No clause that speaks of a shape may hold.
static void check_shapeless(const oct_image *image, const char *caption)
{
    pocket_scene scene;
    pocket_view view;
    pocket_verdict verdict;

    CHECK(!pocket_caption_parse(&scene, caption, NULL));
    CHECK(!pocket_look(&view, &stamps, image, NULL));
    pocket_judge(&verdict, &scene, &view);
    for (size_t i = 0; i < verdict.n_clauses; i++) {
        const pocket_clause_kind kind = verdict.clauses[i].kind;
        if (kind == POCKET_CLAUSE_SHAPE || kind == POCKET_CLAUSE_FILL ||
            kind == POCKET_CLAUSE_SIZE) {
            CHECK(!verdict.clauses[i].holds);
        }
    }
}

static void a_flat_picture_satisfies_its_background_only(void)
{
    oct_image image = {0};

    CHECK(!oct_image_init(&image, POCKET_SIDE, POCKET_SIDE, NULL));
    for (int color = 0; color < POCKET_COLORS; color++) {
        pocket_scene scene = {.background = (pocket_color)color, .n_groups = 2};
        pocket_view view;
        for (int i = 0; i < 3 * POCKET_SIDE * POCKET_SIDE; i++) {
            image.rgb[i] = pocket_palette[color][i % 3];
        }
        for (size_t i = 0; i < 2; i++) {
            scene.groups[i].count = 1;
            scene.groups[i].color = (pocket_color)((color + 1 + (int)i) % POCKET_GRAY);
        }
        CHECK(!pocket_look(&view, &stamps, &image, NULL));
        CHECK(view.n_patches == 0);
        const pocket_verdict verdict = judge_caption(&scene, &view);
        CHECK(verdict.n_holding == 1);
        CHECK(verdict.clauses[verdict.n_clauses - 1].holds);
    }
    oct_image_deinit(&image);
}

static void random_noise_shows_no_shape(void)
{
    oct_image image = {0};
    uint64_t state = 14;

    CHECK(!oct_image_init(&image, POCKET_SIDE, POCKET_SIDE, NULL));
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 3 * POCKET_SIDE * POCKET_SIDE; i++) {
            image.rgb[i] = (uint8_t)pocket_random(&state, 256);
        }
        for (int reach = 0; reach < 4; reach++) {
            blur(&image, reach);  // blurred again and again: clouds around gray
            check_shapeless(&image, "two red circles left of a striped black star");
            check_shapeless(&image, "four small white squares");
        }
    }
    oct_image_deinit(&image);
}

// Paint where a random walk goes: a red patch without a form.
static void paint_blot(oct_image *image, int x, int y, uint64_t *state)
{
    for (int step = 0; step < 400; step++) {
        memcpy(&image->rgb[3 * (y * POCKET_SIDE + x)], pocket_palette[POCKET_RED], 3);
        x = clip(x + (int)pocket_random(state, 3) - 1);
        y = clip(y + (int)pocket_random(state, 3) - 1);
    }
}

static void blots_are_no_shapes(void)
{
    oct_image image = {0};
    uint64_t state = 15;
    size_t clear = 0, patches = 0;

    CHECK(!oct_image_init(&image, POCKET_SIDE, POCKET_SIDE, NULL));
    for (int round = 0; round < 50; round++) {
        pocket_view view;
        memset(image.rgb, pocket_palette[POCKET_GRAY][0], 3 * POCKET_SIDE * POCKET_SIDE);
        for (int i = 0; i < 4; i++)
            paint_blot(&image, 32 + 64 * (i % 2), 32 + 64 * (i / 2), &state);
        CHECK(!pocket_look(&view, &stamps, &image, NULL));
        patches += view.n_patches;
        for (size_t i = 0; i < view.n_patches; i++) clear += view.patches[i].is_clear;
    }
    printf("# %zu of %zu blots look like a shape\n", clear, patches);
    CHECK(patches > 100 && clear * 50 <= patches);  // chance makes a round one now and then
    oct_image_deinit(&image);
}

static void pictures_of_another_size_are_refused(void)
{
    oct_image image = {0};
    pocket_view view;
    oct_err err = {{0}};

    CHECK(!oct_image_init(&image, 64, 128, NULL));
    CHECK(pocket_look(&view, &stamps, &image, &err) == OCT_EUNSUPPORTED);
    CHECK_TEXT(err.text, "the picture is 64x128 pixels, not 128x128");
    oct_image_deinit(&image);
}

int main(void)
{
    uint64_t state = 11;

    if (pocket_stamps_init(&stamps, POCKET_LOOK_SIDE_MIN, POCKET_LOOK_SIDE_MAX, NULL)) return 1;
    for (int i = 0; i < CLEAN_SCENES; i++) make_sample(&clean[i], NULL, &state);
    RUN(clean_scenes_satisfy_every_clause);
    RUN(one_wrong_word_fails_in_its_clause_only);
    RUN(spoiled_scenes_are_judged_nearly_as_well);
    RUN(a_flat_picture_satisfies_its_background_only);
    RUN(random_noise_shows_no_shape);
    RUN(blots_are_no_shapes);
    RUN(pictures_of_another_size_are_refused);
    pocket_stamps_deinit(&stamps);
    return test_end();
}
