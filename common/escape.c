// SPDX-License-Identifier: Apache-2.0
//
// Text of strangers inside HTML and XML.
#include "common/escape.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/utf8.h"

static const char *find_reference(uint32_t code)
{
    switch (code) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

static bool is_allowed(uint32_t code)
{
    if (code < 0x20) return code == '\t' || code == '\n' || code == '\r';
    return !(code >= 0x7f && code <= 0x9f) && code != 0xfffe && code != 0xffff;
}

void oct_put_escaped(FILE *out, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        uint32_t code = 0;
        const size_t length = oct_utf8_decode(text, left, &code);
        const char *reference = length ? find_reference(code) : NULL;
        if (reference)
            fputs(reference, out);
        else if (length && is_allowed(code))
            fwrite(text, 1, length, out);
        else
            fputs("\xef\xbf\xbd", out);
        text += length ? length : 1;
        left -= length ? length : 1;
    }
}
