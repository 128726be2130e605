// SPDX-License-Identifier: Apache-2.0
//
// What histograms of exponents say.
#include "ptq/exponents.h"

#include <assert.h>
#include <math.h>

#define PARTS 32  // of a bin; each is taken for one magnitude

#define E4M3_LARGEST 448.0
#define E4M3_NORMAL_EXPONENT (-6)  // of the smallest normal number
#define E4M3_MANTISSA_BITS 3
#define E4M3_HALF_SMALLEST 0x1p-10  // and below is rounded to zero

// Part 0 to PARTS - 1 of a bin, none above amax.
static double part_at(int bin, int part, double amax)
{
    const double low = ldexp(1, bin - 1 + OCT_EXPONENT_FIRST);
    const double high = amax > low && amax < 2 * low ? amax : 2 * low;

    return low + (part + 0.5) / PARTS * (high - low);
}

void oct_exponents_add(oct_exponents *exponents, const oct_exponents *other)
{
    for (int bin = 0; bin < OCT_EXPONENT_BINS; bin++) exponents->counts[bin] += other->counts[bin];
}

uint64_t oct_exponents_total(const oct_exponents *exponents)
{
    uint64_t total = 0;

    for (int bin = 0; bin < OCT_EXPONENT_BINS; bin++) total += exponents->counts[bin];
    return total;
}

double oct_exponents_underflow(const oct_exponents *exponents, double amax, double scale)
{
    const uint64_t total = oct_exponents_total(exponents);
    double below = 0;

    assert(scale > 0);
    for (int bin = 1; bin < OCT_EXPONENT_BINS; bin++) {
        for (int part = 0; part < PARTS; part++) {
            if (part_at(bin, part, amax) / scale >= E4M3_HALF_SMALLEST) continue;
            below += (double)exponents->counts[bin] / PARTS;
        }
    }
    return total ? below / (double)total : 0;
}

// The mean square of the error of numbers around y >= 0. Rounding to a multiple of a step leaves
// step^2 / 12.
static double squared_error(double y)
{
    int exponent;

    if (y > E4M3_LARGEST) return (y - E4M3_LARGEST) * (y - E4M3_LARGEST);
    if (y < E4M3_HALF_SMALLEST) return y * y;
    frexp(y, &exponent);  // y = 0.5 to 1 times 2^exponent
    if (exponent - 1 < E4M3_NORMAL_EXPONENT) exponent = E4M3_NORMAL_EXPONENT + 1;
    const double step = ldexp(1, exponent - 1 - E4M3_MANTISSA_BITS);
    return step * step / 12;
}

double oct_exponents_sqnr_db(const oct_exponents *exponents, double amax, double scale)
{
    double signal = 0, noise = 0;

    assert(scale > 0);
    for (int bin = 1; bin < OCT_EXPONENT_BINS; bin++) {
        for (int part = 0; part < PARTS; part++) {
            const double y = part_at(bin, part, amax) / scale;
            signal += (double)exponents->counts[bin] * y * y;
            noise += (double)exponents->counts[bin] * squared_error(y);
        }
    }
    return noise > 0 ? 10 * log10(signal / noise) : NAN;
}
