// SPDX-License-Identifier: Apache-2.0
//
// What a safetensors file or folder holds: sizes, types, architecture, dialect, layers by role,
// scales, metadata, then every tensor.
#pragma once

#include <stdbool.h>

#include "common/status.h"

// Open `path` and describe it on stdout, as text or as one JSON object. Any safetensors file will
// do; what is not known about it is said. Reads scales and markers, no weights.
oct_status oct_list(const char *path, bool json, oct_err *err);
