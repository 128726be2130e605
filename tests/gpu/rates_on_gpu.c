// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/rates.h"

void rates_prepare(void)
{
}
