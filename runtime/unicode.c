// SPDX-License-Identifier: Apache-2.0
//
// Character classes by general category.
#include "runtime/unicode.h"

#include <utf8proc.h>

static bool is_between(uint32_t code, utf8proc_category_t first, utf8proc_category_t last)
{
    const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category >= first && category <= last;
}

bool oct_unicode_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || code == 0x85 ||
           is_between(code, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_ZP);
}

bool oct_unicode_is_letter(uint32_t code)
{
    return is_between(code, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}

bool oct_unicode_is_number(uint32_t code)
{
    return is_between(code, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}
