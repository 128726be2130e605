// SPDX-License-Identifier: Apache-2.0
//
// Scales from ranges.
#include "ptq/scale.h"

#include <assert.h>
#include <float.h>
#include <math.h>

static float scale_at_least(float amax, float qmax, float least)
{
    assert(isfinite(amax) && amax >= 0);
    assert(qmax > 0 && qmax <= 448);
    if (amax == 0) return 1;
    const float scale = amax / qmax;
    return scale < least ? least : scale;
}

float oct_weight_scale(float amax, float qmax)
{
    return scale_at_least(amax, qmax, FLT_MIN);
}

float oct_input_scale(float amax, float qmax)
{
    return scale_at_least(amax, qmax, OCT_INPUT_SCALE_MIN);
}
