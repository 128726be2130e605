// SPDX-License-Identifier: Apache-2.0
//
// Clauses, under the match of groups and colours that lets most of them hold.
#include "tests/pocket/judge.h"

#include <assert.h>
#include <stdio.h>

#define SLACK 2       // pixels by which groups may overlap and still be beside each other
#define NOTHING (-1)  // a group that the picture lacks

const char *const pocket_clause_names[POCKET_CLAUSE_KINDS] = {
    "color", "shape", "count", "size", "fill", "relation", "background",
};

typedef struct judge_extent {
    int left, top, right, bottom;
} judge_extent;

static void add_clause(pocket_verdict *verdict, pocket_clause_kind kind, size_t group, bool holds)
{
    assert(verdict->n_clauses < POCKET_CLAUSES_MAX);
    verdict->clauses[verdict->n_clauses++] = (pocket_clause){kind, group, holds};
    verdict->n_holding += holds;
}

// The clauses of one group, for which the patches of one colour stand.
static void judge_group(pocket_verdict *verdict, const pocket_group *group, size_t index,
                        const pocket_view *view, int color)
{
    int count = 0, shapes = 0, sizes = 0, fills = 0;

    for (size_t i = 0; i < view->n_patches; i++) {
        const pocket_patch *patch = &view->patches[i];
        if ((int)patch->color != color) continue;
        count++;
        shapes += patch->is_clear && patch->shape == group->shape;
        sizes += patch->is_clear && patch->size == group->size;
        fills += patch->is_clear && patch->fill == group->fill;
    }
    add_clause(verdict, POCKET_CLAUSE_COLOR, index, count > 0 && color == (int)group->color);
    add_clause(verdict, POCKET_CLAUSE_SHAPE, index, count > 0 && shapes == count);
    add_clause(verdict, POCKET_CLAUSE_COUNT, index, count == group->count);
    if (group->names_size) {
        add_clause(verdict, POCKET_CLAUSE_SIZE, index, count > 0 && sizes == count);
    }
    add_clause(verdict, POCKET_CLAUSE_FILL, index, count > 0 && fills == count);
}

static bool find_extent(const pocket_view *view, int color, judge_extent *extent)
{
    bool is_found = false;

    *extent = (judge_extent){POCKET_SIDE, POCKET_SIDE, -1, -1};
    for (size_t i = 0; i < view->n_patches; i++) {
        const pocket_patch *patch = &view->patches[i];
        if ((int)patch->color != color) continue;
        is_found = true;
        if (patch->left < extent->left) extent->left = patch->left;
        if (patch->top < extent->top) extent->top = patch->top;
        if (patch->right > extent->right) extent->right = patch->right;
        if (patch->bottom > extent->bottom) extent->bottom = patch->bottom;
    }
    return is_found;
}

static bool holds_relation(pocket_relation relation, const pocket_view *view, const int *colors)
{
    judge_extent a, b;

    if (!find_extent(view, colors[0], &a) || !find_extent(view, colors[1], &b)) return false;
    switch (relation) {
    case POCKET_LEFT_OF:
        return a.right < b.left + SLACK;
    case POCKET_RIGHT_OF:
        return b.right < a.left + SLACK;
    case POCKET_ABOVE:
        return a.bottom < b.top + SLACK;
    default:
        return b.bottom < a.top + SLACK;
    }
}

// All clauses, when patches of colors[i] stand for group i.
static pocket_verdict judge_match(const pocket_scene *caption, const pocket_view *view,
                                  const int *colors)
{
    pocket_verdict verdict = {0};

    for (size_t i = 0; i < caption->n_groups; i++) {
        judge_group(&verdict, &caption->groups[i], i, view, colors[i]);
    }
    if (caption->n_groups == 2) {
        add_clause(&verdict, POCKET_CLAUSE_RELATION, 0,
                   holds_relation(caption->relation, view, colors));
    }
    add_clause(&verdict, POCKET_CLAUSE_BACKGROUND, 0,
               view->has_background && view->background == caption->background);
    for (size_t i = 0; i < view->n_patches; i++) {
        const int color = (int)view->patches[i].color;
        verdict.n_others += color != colors[0] && color != colors[1];
    }
    return verdict;
}

static bool has_color(const pocket_view *view, int color)
{
    judge_extent extent;
    return color == NOTHING || find_extent(view, color, &extent);
}

void pocket_judge(pocket_verdict *verdict, const pocket_scene *caption, const pocket_view *view)
{
    const int last = caption->n_groups == 2 ? POCKET_COLORS - 1 : NOTHING;

    // The caption's own colours come first, so that they win a tie.
    *verdict =
        judge_match(caption, view,
                    (int[]){(int)caption->groups[0].color,
                            caption->n_groups == 2 ? (int)caption->groups[1].color : NOTHING});
    for (int a = NOTHING; a < POCKET_COLORS; a++) {
        for (int b = NOTHING; b <= last; b++) {
            if ((a == b && a != NOTHING) || !has_color(view, a) || !has_color(view, b)) continue;
            const pocket_verdict other = judge_match(caption, view, (int[]){a, b});
            if (other.n_holding > verdict->n_holding) *verdict = other;
        }
    }
}

void pocket_clause_print(const pocket_clause *clause, char text[64])
{
    const char *name = pocket_clause_names[clause->kind];

    if (clause->kind == POCKET_CLAUSE_RELATION || clause->kind == POCKET_CLAUSE_BACKGROUND) {
        snprintf(text, 64, "%s", name);
    } else {
        snprintf(text, 64, "%s of the %s group", name, clause->group ? "second" : "first");
    }
}
