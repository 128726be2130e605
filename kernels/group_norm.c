// SPDX-License-Identifier: Apache-2.0
#include "kernels/ops.h"

#include <assert.h>
#include <math.h>

#include "kernels/moments.h"

void oct_group_norm(float *y, const float *x, const float *weight, const float *bias, float eps,
                    size_t groups, size_t channels, size_t pixels, bool silu)
{
    assert(groups > 0 && channels % groups == 0 && pixels > 0);
    const size_t group_channels = channels / groups;

#pragma omp parallel for
    for (size_t group = 0; group < groups; group++) {
        const size_t first = group * group_channels;
        double mean, variance;

        oct_moments(x + first * pixels, group_channels * pixels, &mean, &variance);
        for (size_t c = first; c < first + group_channels; c++) {
            const float scale = (float)(weight[c] / sqrt(variance + eps));
#pragma omp simd
            for (size_t i = c * pixels; i < (c + 1) * pixels; i++)
                y[i] = (x[i] - (float)mean) * scale + bias[c];
            if (silu) oct_activate(y + c * pixels, OCT_SILU, pixels);
        }
    }
}
