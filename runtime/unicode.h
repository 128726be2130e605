// SPDX-License-Identifier: Apache-2.0
//
// What tokenizers ask about characters beyond their encoding (tables of utf8proc).
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool oct_unicode_is_space(uint32_t code);   // White_Space
bool oct_unicode_is_letter(uint32_t code);  // category L*
bool oct_unicode_is_number(uint32_t code);  // category N*
