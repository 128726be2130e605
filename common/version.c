// SPDX-License-Identifier: Apache-2.0
//
// The version that the build was given.
#include "common/version.h"

const char *oct_version(void)
{
    return OCT_VERSION;
}
