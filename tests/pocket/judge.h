// SPDX-License-Identifier: Apache-2.0
//
// The judge: which clauses of a caption a picture of the pocket world satisfies.
//
// Each group of the caption has a clause each for colour, shape, count and fill ("plain" where the
// caption names none), and one for size where it names one; a pair has one for the relation; the
// background has one ("gray" where the caption names none).
//
// Patches of one colour are a group of the picture. It stands for that group of the caption with
// which most clauses hold, so that a single wrong word costs a single clause: three green circles
// for "three red circles" fail in colour only. A group that the picture lacks fails in all.
//
//   color     the patches have the group's colour
//   count     there are as many patches as the caption says
//   shape     every patch clearly looks like the shape
//   fill, size  so does every patch; size classes part at sides of 22 and 34 pixels
//   relation  the first group ends before the second begins, give or take 2 pixels
//
// What belongs to no group is counted, but no clause speaks of it.
#pragma once

#include "tests/pocket/look.h"

typedef enum pocket_clause_kind {
    POCKET_CLAUSE_COLOR, POCKET_CLAUSE_SHAPE, POCKET_CLAUSE_COUNT, POCKET_CLAUSE_SIZE,
    POCKET_CLAUSE_FILL, POCKET_CLAUSE_RELATION, POCKET_CLAUSE_BACKGROUND, POCKET_CLAUSE_KINDS,
} pocket_clause_kind;

#define POCKET_CLAUSES_MAX (5 * POCKET_GROUPS_MAX + 2)

typedef struct pocket_clause {
    pocket_clause_kind kind;
    size_t group;  // from 0; 0 for relation and background
    bool holds;
} pocket_clause;

typedef struct pocket_verdict {
    size_t n_clauses, n_holding, n_others;  // others: patches that belong to no group
    pocket_clause clauses[POCKET_CLAUSES_MAX];
} pocket_verdict;

extern const char *const pocket_clause_names[POCKET_CLAUSE_KINDS];

// Of `caption` only what a caption can say is used.
void pocket_judge(pocket_verdict *verdict, const pocket_scene *caption, const pocket_view *view);

// "color of the first group", "relation".
void pocket_clause_print(const pocket_clause *clause, char text[64]);
