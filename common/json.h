// SPDX-License-Identifier: Apache-2.0
//
// Small JSON documents (policy, calibration, configuration, report) as cJSON trees, behind strict
// checks: the text passes oct_json_scan first, duplicate keys are refused, numbers must be finite.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "common/status.h"

#define OCT_JSON_BYTES_MAX (64u << 20)

// Parse text. The caller frees *root with cJSON_Delete().
oct_status oct_json_parse(const char *text, size_t bytes, cJSON **root, oct_err *err);

// Parse a file of at most OCT_JSON_BYTES_MAX; sentences begin with the path.
oct_status oct_json_load(const char *path, cJSON **root, oct_err *err);

// Members of an object, case-sensitive. OCT_EFORMAT "'key' is missing" / "'key' must be a number".
oct_status oct_json_text(const cJSON *object, const char *key, const char **value, oct_err *err);
oct_status oct_json_number(const cJSON *object, const char *key, double *value, oct_err *err);
oct_status oct_json_count(const cJSON *object, const char *key, uint64_t *value, oct_err *err);

// Refuse keys that are not in `known` (ends with NULL): "unknown key 'wieghts'".
oct_status oct_json_only_keys(const cJSON *object, const char *const *known, oct_err *err);

// Print for files: indented by two spaces, keys in insertion order, a final newline. malloc'ed.
char *oct_json_print(const cJSON *root);
char *oct_json_print_line(const cJSON *root);  // one line for --json, no final newline
