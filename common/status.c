// SPDX-License-Identifier: Apache-2.0
//
// How functions fail.
#include "common/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Both functions format into a copy first: an argument may point into err->text.

oct_status oct_fail(oct_err *err, oct_status status, const char *format, ...)
{
    if (!err) return status;
    oct_err copy;
    va_list args;
    va_start(args, format);
    vsnprintf(copy.text, sizeof copy.text, format, args);
    va_end(args);
    strcpy(err->text, copy.text);
    return status;
}

oct_status oct_wrap(oct_err *err, oct_status status, const char *format, ...)
{
    if (!err) return status;
    oct_err copy;
    va_list args;
    va_start(args, format);
    vsnprintf(copy.text, sizeof copy.text, format, args);
    va_end(args);
    strncat(copy.text, ": ", sizeof copy.text - strlen(copy.text) - 1);
    strncat(copy.text, err->text, sizeof copy.text - strlen(copy.text) - 1);
    strcpy(err->text, copy.text);
    return status;
}

int oct_exit_code(oct_status status)
{
    if (status == OCT_OK) return 0;
    return status == OCT_EUSAGE ? 2 : 3;
}
