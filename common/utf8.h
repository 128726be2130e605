// SPDX-License-Identifier: Apache-2.0
//
// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Decode the first character of `bytes` bytes. Returns its length, 1 to 4, or 0 when it is invalid,
// cut off or `bytes` is 0; `*code` is set only for a valid one.
size_t oct_utf8_decode(const char *text, size_t bytes, uint32_t *code);

// Write `code` (not a surrogate, at most 0x10ffff) to `out`. Returns the length, 1 to 4.
size_t oct_utf8_encode(uint32_t code, char out[4]);

bool oct_utf8_is_valid(const char *text, size_t bytes);
