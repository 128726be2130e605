// SPDX-License-Identifier: Apache-2.0
//
// Histograms of exponents.
#include "kernels/exponents.h"

#include <string.h>

#define ZERO_EXPONENT 127                               // as binary32 stores 2^0
#define BELOW (ZERO_EXPONENT + OCT_EXPONENT_FIRST - 1)  // the largest of bin 0
#define LANES 4                                         // one waits for its own bin alone

static size_t bin_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    const int bin = (int)(bits >> 23 & 0xff) - BELOW;
    if (bin < 0) return 0;
    return bin < OCT_EXPONENT_BINS ? (size_t)bin : OCT_EXPONENT_BINS - 1;
}

void oct_count_exponents(uint64_t *counts, const float *x, size_t n)
{
    uint64_t lanes[LANES][OCT_EXPONENT_BINS] = {{0}};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) lanes[lane][bin_of(x[i + lane])]++;
    }
    for (; i < n; i++) lanes[0][bin_of(x[i])]++;
    for (size_t bin = 0; bin < OCT_EXPONENT_BINS; bin++) {
        for (size_t lane = 0; lane < LANES; lane++) counts[bin] += lanes[lane][bin];
    }
}
