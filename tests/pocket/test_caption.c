// SPDX-License-Identifier: Apache-2.0
//
// Tests of tests/pocket/caption.c and scene.c.
#include "tests/pocket/scene.h"
#include "tests/test.h"

static void check_refused(const char *caption, const char *sentence)
{
    pocket_scene scene;
    oct_err err = {{0}};

    CHECK(pocket_caption_parse(&scene, caption, &err) == OCT_EFORMAT);
    if (!strstr(err.text, sentence)) CHECK_TEXT(err.text, sentence);
}

static void every_part_of_a_caption_is_read(void)
{
    pocket_scene s;
    CHECK(!pocket_caption_parse(&s,
                                "four large dotted yellow crosses below an orange star on a "
                                "black background",
                                NULL));
    CHECK(s.n_groups == 2 && s.relation == POCKET_BELOW && s.background == POCKET_BLACK);
    const pocket_group *a = &s.groups[0], *b = &s.groups[1];
    CHECK(a->count == 4 && a->names_size && a->size == POCKET_LARGE && a->fill == POCKET_DOTTED);
    CHECK(a->color == POCKET_YELLOW && a->shape == POCKET_CROSS);
    CHECK(b->count == 1 && !b->names_size && b->fill == POCKET_PLAIN);
    CHECK(b->color == POCKET_ORANGE && b->shape == POCKET_STAR);
}

static void a_caption_without_background_is_gray(void)
{
    pocket_scene s;
    CHECK(!pocket_caption_parse(&s, "a medium striped red square", NULL));
    CHECK(s.background == POCKET_GRAY && s.n_groups == 1);
}

static void captions_outside_the_grammar_are_refused(void)
{
    check_refused("", "the caption ends before a number");
    check_refused("five red stars", "'five' is not a number");
    check_refused("a pink star", "'pink' is not a color");
    check_refused("a gray star", "'gray' is not a color");
    check_refused("a red", "the caption ends before a shape");
    check_refused("a red heart", "'heart' is not a shape");
    check_refused("a red star beside a blue star", "'beside' is not 'on', nor a relation");
    check_refused("a red star left of", "the caption ends before a number");
    check_refused("a red star on a gray background", "'gray' is not a color");
    check_refused("a small striped red star", "small shapes are plain, not striped");
    check_refused("a red star above a red cross", "both groups are red");
    check_refused("a red star on a red background", "shapes and background are both red");
}

static void captions_spelled_otherwise_are_refused(void)
{
    static const char *const captions[] = {
        "an red star",
        "a orange star",
        "two red star",
        "a red stars",
        "a  red star",
        "a red star ",
        "a red star left a blue star",
        "a red star above of a blue star",
        "a red star on an blue background",
        "a red star on a blue background now",
        "a red star on the blue background",
        "a red star on a blue sky",
        "A red star",
        "a striped medium red star",
        "two red crosss",
        "an orange cross's",
        "a red star left of a blue star above a green star",
    };
    for (size_t i = 0; i < sizeof captions / sizeof *captions; i++) {
        pocket_scene scene;
        const bool is_refused = pocket_caption_parse(&scene, captions[i], NULL) == OCT_EFORMAT;
        if (!is_refused) printf("# '%s' is taken\n", captions[i]);
        CHECK(is_refused);
    }
}

static bool is_same_group(const pocket_group *a, const pocket_group *b)
{
    if (a->names_size != b->names_size || (a->names_size && a->size != b->size)) return false;
    return a->count == b->count && a->fill == b->fill && a->color == b->color &&
           a->shape == b->shape;
}

static void drawn_scenes_survive_their_captions(void)
{
    uint64_t state = 1;

    for (int i = 0; i < 5000; i++) {
        pocket_scene scene, again;
        char caption[POCKET_CAPTION_MAX];
        oct_err err = {{0}};
        pocket_scene_draw(&scene, &state);
        pocket_caption_print(&scene, caption);
        pocket_caption_parse(&again, caption, &err);
        CHECK_TEXT(err.text, "");
        CHECK(again.n_groups == scene.n_groups && again.background == scene.background);
        CHECK(again.n_groups == 1 || again.relation == scene.relation);
        for (size_t k = 0; k < scene.n_groups; k++) {
            CHECK(is_same_group(&scene.groups[k], &again.groups[k]));
        }
    }
}

// Boxes with their distance: whether one is inside the picture, or two are apart.
static bool is_inside(const pocket_box *box)
{
    return box->x >= 4 && box->y >= 4 && box->x + box->side <= POCKET_SIDE - 4 &&
           box->y + box->side <= POCKET_SIDE - 4 && box->x % 4 == 0 && box->y % 4 == 0;
}

static bool is_apart(const pocket_box *a, const pocket_box *b)
{
    return a->x + a->side + 8 <= b->x || b->x + b->side + 8 <= a->x || a->y + a->side + 8 <= b->y ||
           b->y + b->side + 8 <= a->y;
}

static void check_places(const pocket_scene *scene)
{
    pocket_box boxes[POCKET_GROUPS_MAX * POCKET_COUNT_MAX];
    int count = 0;

    for (size_t i = 0; i < scene->n_groups; i++) {
        for (int k = 0; k < scene->groups[i].count; k++) boxes[count++] = scene->groups[i].boxes[k];
    }
    for (int i = 0; i < count; i++) {
        CHECK(is_inside(&boxes[i]));
        for (int k = 0; k < i; k++) CHECK(is_apart(&boxes[i], &boxes[k]));
    }
}

static bool keeps_relation(pocket_relation relation, const pocket_box *a, const pocket_box *b)
{
    switch (relation) {
    case POCKET_LEFT_OF:
        return a->x + a->side + 8 <= b->x;
    case POCKET_RIGHT_OF:
        return b->x + b->side + 8 <= a->x;
    case POCKET_ABOVE:
        return a->y + a->side + 8 <= b->y;
    default:
        return b->y + b->side + 8 <= a->y;
    }
}

static void drawn_scenes_keep_their_places_and_relations(void)
{
    uint64_t state = 2;

    for (int i = 0; i < 5000; i++) {
        pocket_scene scene;
        pocket_scene_draw(&scene, &state);
        check_places(&scene);
        if (scene.n_groups == 1) continue;
        for (int a = 0; a < scene.groups[0].count; a++) {
            for (int b = 0; b < scene.groups[1].count; b++) {
                CHECK(keeps_relation(scene.relation, &scene.groups[0].boxes[a],
                                     &scene.groups[1].boxes[b]));
            }
        }
    }
}

static void a_striped_square_is_painted_as_the_specification_says(void)
{
    pocket_scene scene = {.background = POCKET_GRAY, .n_groups = 1};
    pocket_stamps stamps = {0};
    oct_image image = {0};

    scene.groups[0] = (pocket_group){.count = 1,
                                     .size = POCKET_MEDIUM,
                                     .fill = POCKET_STRIPED,
                                     .color = POCKET_RED,
                                     .shape = POCKET_SQUARE,
                                     .boxes = {{4, 4, 28}}};
    CHECK(!pocket_stamps_init(&stamps, 16, 40, NULL) && !oct_image_init(&image, 128, 128, NULL));
    pocket_scene_render(&scene, &stamps, &image);
    for (int y = 0; y < 40; y++) {
        for (int x = 0; x < 40; x++) {
            const bool is_box = x >= 4 && y >= 4 && x < 32 && y < 32;
            const bool is_inner = x >= 6 && y >= 6 && x < 30 && y < 30;
            const pocket_color want =
                is_box && !(is_inner && y % 8 >= 4) ? POCKET_RED : POCKET_GRAY;
            CHECK(!memcmp(&image.rgb[3 * (y * 128 + x)], pocket_palette[want], 3));
        }
    }
    oct_image_deinit(&image);
    pocket_stamps_deinit(&stamps);
}

int main(void)
{
    RUN(every_part_of_a_caption_is_read);
    RUN(a_caption_without_background_is_gray);
    RUN(captions_outside_the_grammar_are_refused);
    RUN(captions_spelled_otherwise_are_refused);
    RUN(drawn_scenes_survive_their_captions);
    RUN(drawn_scenes_keep_their_places_and_relations);
    RUN(a_striped_square_is_painted_as_the_specification_says);
    return test_end();
}
