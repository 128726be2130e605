// SPDX-License-Identifier: Apache-2.0
//
// Text of strangers inside HTML and XML.
#pragma once

#include <stdio.h>

// Write text for an element or a quoted attribute: & < > " ' become references; bytes that are not
// UTF-8 and characters that XML 1.0 has not (most controls) become U+FFFD.
void oct_put_escaped(FILE *out, const char *text);
