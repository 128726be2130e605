// SPDX-License-Identifier: Apache-2.0
//
// The result of a verification on stdout: text for people, one object for programs.
#pragma once

#include "verify/check.h"

void oct_verify_print(const verify_job *job);
void oct_verify_print_json(const verify_job *job);

// The same for a manifest's files.
void oct_verify_print_list(const verify_job *job);
void oct_verify_print_list_json(const verify_job *job);
