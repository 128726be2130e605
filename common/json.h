// SPDX-License-Identifier: Apache-2.0
//
// Small JSON documents (policy, calibration, configuration, report) as cJSON trees, behind strict
// checks: the text passes oct_json_scan first; duplicate keys, U+0000 in strings (cJSON would cut
// there) and numbers that are not finite or longer than 63 characters are refused.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cjson/cJSON.h>

#include "common/status.h"

#define OCT_JSON_BYTES_MAX (64u << 20)

// Parse text. The caller frees *root with cJSON_Delete().
oct_status oct_json_parse(const char *text, size_t bytes, cJSON **root, oct_err *err);

// Parse a file of at most OCT_JSON_BYTES_MAX; sentences begin with the path.
oct_status oct_json_load(const char *path, cJSON **root, oct_err *err);

// Members of an object, case-sensitive. OCT_EFORMAT "'key' is missing" / "'key' must be a number".
// A text is borrowed from the tree. A count is a whole number up to 2^53, where doubles begin to
// skip.
oct_status oct_json_text(const cJSON *object, const char *key, const char **value, oct_err *err);
oct_status oct_json_number(const cJSON *object, const char *key, double *value, oct_err *err);
oct_status oct_json_count(const cJSON *object, const char *key, uint64_t *value, oct_err *err);
bool oct_json_is_count(const cJSON *item, uint64_t *value);  // and if so, what it is

// Refuse keys that are not in `known` (ends with NULL): "unknown key 'wieghts'".
oct_status oct_json_only_keys(const cJSON *object, const char *const *known, oct_err *err);

// Print for files: indented by two spaces, keys in insertion order, arrays without arrays or
// objects in them on one line, a final newline. Numbers have at most 15 to 17 digits, the fewest of
// these that read back as the same double, in every locale; NaN and infinities become null.
// malloc'ed.
char *oct_json_print(const cJSON *root);
char *oct_json_print_line(const cJSON *root);  // one line for --json, no final newline

// End a tool's --json: the line goes to stdout, the tree is freed.
void oct_json_finish(cJSON *root);

// A whole number of up to 64 bits, which cJSON's doubles cannot hold beyond 2^53.
void oct_json_add_count(cJSON *object, const char *key, uint64_t value);

// Write text as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD.
void oct_json_put_string(FILE *out, const char *text);
