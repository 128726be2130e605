// SPDX-License-Identifier: Apache-2.0
//
// A verification as JUnit XML: a suite per file, a case per check that was made. Warnings are text
// of a case that passes, unless --strict makes them failures.
#pragma once

#include "common/status.h"
#include "verify/check.h"

oct_status oct_verify_save_junit(const verify_job *job, const char *path, oct_err *err);
