// SPDX-License-Identifier: Apache-2.0
//
// Scales from ranges.
#include "ptq/scale.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "common/number.h"

static float scale_at_least(float amax, float qmax, float least)
{
    assert(isfinite(amax) && amax >= 0);
    assert(qmax > 0 && qmax <= OCT_E5M2_MAX);
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

static const char *const snap_names[] = {"none", "bf16", "pow2"};

const char *oct_snap_name(oct_snap snap)
{
    assert(snap <= OCT_SNAP_POW2);
    return snap_names[snap];
}

bool oct_snap_parse(const char *name, oct_snap *snap)
{
    for (oct_snap i = OCT_SNAP_NONE; i <= OCT_SNAP_POW2; i++) {
        if (strcmp(name, snap_names[i]) == 0) {
            *snap = i;
            return true;
        }
    }
    return false;
}

float oct_scale_snap(float scale, oct_snap snap)
{
    static const uint32_t dropped[] = {
        [OCT_SNAP_NONE] = 0,
        [OCT_SNAP_BF16] = 0xffff,    // BF16 is the upper half of binary32
        [OCT_SNAP_POW2] = 0x7fffff,  // all of the mantissa; a carry is the next exponent
    };

    assert(scale >= FLT_MIN && snap <= OCT_SNAP_POW2);
    return oct_f32_from_bits((oct_f32_bits(scale) + dropped[snap]) & ~dropped[snap]);
}
