// SPDX-License-Identifier: Apache-2.0
//
// Writing a manifest that `sha256sum -c --strict` and octavo-verify accept.
#pragma once

#include "common/cli.h"
#include "common/status.h"

// One line per file, in the order given, under its name relative to the folder of `out`. Digests
// are computed side by side. OCT_EUSAGE: a file lies elsewhere, or is `out` itself.
oct_status oct_verify_publish(const char *out, const oct_texts *files, oct_err *err);
