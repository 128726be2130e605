// SPDX-License-Identifier: Apache-2.0
//
// The bundled policies: the files of ptq/policies/, put into the library by embed_policies.
#pragma once

#include <stddef.h>

typedef struct oct_policy_file {
    const char *name;           // the file's, without ".json"
    const unsigned char *text;
    size_t bytes;
} oct_policy_file;

extern const oct_policy_file oct_policy_files[];
extern const size_t oct_n_policy_files;
