// SPDX-License-Identifier: Apache-2.0
//
// The grammar of captions. Reading is lenient in small things, then the scene is written again:
// a caption that differs from it in any letter is none.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/pocket/scene.h"

#define WORD_MAX 24

const char *const pocket_color_names[POCKET_COLORS] = {
    "red", "green", "blue", "yellow", "orange", "purple", "black", "white", "gray",
};
const char *const pocket_size_names[POCKET_SIZES] = {"small", "medium", "large"};
const char *const pocket_shape_names[POCKET_SHAPES] = {
    "circle", "square", "triangle", "diamond", "star", "cross",
};
const char *const pocket_fill_names[POCKET_FILLS] = {"plain", "striped", "dotted"};
const char *const pocket_relation_names[POCKET_RELATIONS] = {
    "left of",
    "right of",
    "above",
    "below",
};
static const char *const number_names[POCKET_COUNT_MAX] = {"a", "two", "three", "four"};

typedef struct reader {
    const char *rest;
    char word[WORD_MAX];  // the next one; empty at the end
} reader;

static void next_word(reader *r)
{
    const size_t length = strcspn(r->rest, " ");
    snprintf(r->word, sizeof r->word, "%.*s", (int)(length < WORD_MAX ? length : WORD_MAX),
             r->rest);
    r->rest += length;
    r->rest += *r->rest == ' ';
}

static int find_word(const char *word, const char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        if (!strcmp(word, words[i])) return i;
    }
    return -1;
}

// Take the next word if it is one of `words`.
static bool take_word(reader *r, const char *const *words, int count, int *index)
{
    const int found = find_word(r->word, words, count);

    if (found < 0) return false;
    *index = found;
    next_word(r);
    return true;
}

static oct_status need_word(reader *r, const char *const *words, int count, const char *what,
                            int *index, oct_err *err)
{
    if (take_word(r, words, count, index)) return OCT_OK;
    if (!*r->word) return oct_fail(err, OCT_EFORMAT, "the caption ends before a %s", what);
    return oct_fail(err, OCT_EFORMAT, "'%s' is not a %s", r->word, what);
}

static void to_singular(char *word)
{
    const size_t length = strlen(word);

    if (!strcmp(word, "crosses")) {
        word[length - 2] = '\0';
    } else if (length > 1 && word[length - 1] == 's' && word[length - 2] != 's') {
        word[length - 1] = '\0';
    }
}

static oct_status parse_group(reader *r, pocket_group *group, oct_err *err)
{
    int number = 0, size = 0, fill = POCKET_PLAIN, color = 0, shape = 0;

    if (!strcmp(r->word, "an")) r->word[1] = '\0';
    oct_status st = need_word(r, number_names, POCKET_COUNT_MAX, "number", &number, err);
    if (st) return st;
    group->names_size = take_word(r, pocket_size_names, POCKET_SIZES, &size);
    take_word(r, pocket_fill_names, POCKET_FILLS, &fill);
    st = need_word(r, pocket_color_names, POCKET_GRAY, "color", &color, err);
    if (st) return st;
    to_singular(r->word);
    st = need_word(r, pocket_shape_names, POCKET_SHAPES, "shape", &shape, err);
    group->count = number + 1;
    group->size = (pocket_size)size;
    group->fill = (pocket_fill)fill;
    group->color = (pocket_color)color;
    group->shape = (pocket_shape)shape;
    return st;
}

static bool take_relation(reader *r, pocket_relation *relation)
{
    static const char *const words[POCKET_RELATIONS] = {"left", "right", "above", "below"};
    int index = 0;

    if (!take_word(r, words, POCKET_RELATIONS, &index)) return false;
    *relation = (pocket_relation)index;
    if (!strcmp(r->word, "of")) next_word(r);
    return true;
}

static oct_status parse_background(reader *r, pocket_color *background, oct_err *err)
{
    int color = 0;

    *background = POCKET_GRAY;
    if (!*r->word) return OCT_OK;
    if (strcmp(r->word, "on") != 0) {
        return oct_fail(err, OCT_EFORMAT, "'%s' is not 'on', nor a relation", r->word);
    }
    next_word(r);
    next_word(r);
    oct_status st = need_word(r, pocket_color_names, POCKET_GRAY, "color", &color, err);
    *background = (pocket_color)color;
    return st;
}

static oct_status check_rules(const pocket_scene *scene, oct_err *err)
{
    const pocket_group *a = &scene->groups[0], *b = &scene->groups[1];

    for (size_t i = 0; i < scene->n_groups; i++) {
        const pocket_group *group = &scene->groups[i];
        if (group->names_size && group->size == POCKET_SMALL && group->fill != POCKET_PLAIN) {
            return oct_fail(err, OCT_EFORMAT, "small shapes are plain, not %s",
                            pocket_fill_names[group->fill]);
        }
        if (group->color == scene->background) {
            return oct_fail(err, OCT_EFORMAT, "shapes and background are both %s",
                            pocket_color_names[group->color]);
        }
    }
    if (scene->n_groups == 2 && a->color == b->color) {
        return oct_fail(err, OCT_EFORMAT, "both groups are %s", pocket_color_names[a->color]);
    }
    return OCT_OK;
}

oct_status pocket_caption_parse(pocket_scene *scene, const char *caption, oct_err *err)
{
    reader r = {.rest = caption};
    char again[POCKET_CAPTION_MAX];

    *scene = (pocket_scene){.n_groups = 1};
    next_word(&r);
    oct_status st = parse_group(&r, &scene->groups[0], err);
    if (!st && take_relation(&r, &scene->relation)) {
        scene->n_groups = 2;
        st = parse_group(&r, &scene->groups[1], err);
    }
    if (!st) st = parse_background(&r, &scene->background, err);
    if (!st) st = check_rules(scene, err);
    if (!st) {
        pocket_caption_print(scene, again);
        if (strcmp(again, caption) != 0) {
            st = oct_fail(err, OCT_EFORMAT, "the grammar spells it '%s'", again);
        }
    }
    return st ? oct_wrap(err, st, "cannot read caption '%s'", caption) : OCT_OK;
}

__attribute__((format(printf, 2, 3))) static void append(char caption[POCKET_CAPTION_MAX],
                                                         const char *format, ...)
{
    const size_t at = strlen(caption);
    va_list list;

    va_start(list, format);
    vsnprintf(caption + at, POCKET_CAPTION_MAX - at, format, list);
    va_end(list);
}

static const char *article_of(const char *word)
{
    return strchr("aeiou", *word) ? "an" : "a";
}

static void append_group(char caption[POCKET_CAPTION_MAX], const pocket_group *group)
{
    const char *color = pocket_color_names[group->color];
    const char *plural = group->count == 1 ? "" : group->shape == POCKET_CROSS ? "es" : "s";
    const char *adjective = group->names_size             ? pocket_size_names[group->size]
                            : group->fill != POCKET_PLAIN ? pocket_fill_names[group->fill]
                                                          : color;

    append(caption, "%s ",
           group->count > 1 ? number_names[group->count - 1] : article_of(adjective));
    if (group->names_size) append(caption, "%s ", pocket_size_names[group->size]);
    if (group->fill != POCKET_PLAIN) append(caption, "%s ", pocket_fill_names[group->fill]);
    append(caption, "%s %s%s", color, pocket_shape_names[group->shape], plural);
}

void pocket_caption_print(const pocket_scene *scene, char caption[POCKET_CAPTION_MAX])
{
    const char *background = pocket_color_names[scene->background];

    caption[0] = '\0';
    append_group(caption, &scene->groups[0]);
    if (scene->n_groups == 2) {
        append(caption, " %s ", pocket_relation_names[scene->relation]);
        append_group(caption, &scene->groups[1]);
    }
    if (scene->background != POCKET_GRAY) {
        append(caption, " on %s %s background", article_of(background), background);
    }
}
