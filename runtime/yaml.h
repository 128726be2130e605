// SPDX-License-Identifier: Apache-2.0
//
// The flat corner of YAML 1.2 that prompt sets use: one map of scalars to scalars, or one list of
// scalars. Scalars are texts, whatever they look like: plain, 'quoted', "quoted", folded (>) or
// literal (|), over several lines; block scalars end without a newline. Anchors, aliases, tags,
// flow collections, nesting, several documents and tabs before text are refused.
#pragma once

#include <stddef.h>

#include "common/arena.h"
#include "common/status.h"

// key: NULL in a list. Both are in the arena. A failure ends the reading.
typedef oct_status oct_yaml_visit(void *context, const char *key, const char *value, oct_err *err);

// text: valid UTF-8 without NUL, `bytes` long. OCT_EFORMAT or OCT_EUNSUPPORTED: "line 3: ...".
oct_status oct_yaml_read(const char *text, size_t bytes, oct_arena *arena, oct_yaml_visit *visit,
                         void *context, oct_err *err);
