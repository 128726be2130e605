// SPDX-License-Identifier: Apache-2.0
//
// Several calibrations of one model as one.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "ptq/calibration.h"

#define COUNT_MAX (UINT64_C(1) << 53)  // that a JSON number holds

int oct_calibration_compare_parts(const void *a, const void *b)
{
    const oct_calibration_part *left = a, *right = b;
    const int order = strcmp(left->prompts_sha256, right->prompts_sha256);

    return order ? order : (left->seed > right->seed) - (left->seed < right->seed);
}

uint64_t oct_calibration_prompts(const oct_calibration *calibration)
{
    uint64_t n = 0;

    for (size_t i = 0; i < calibration->n_parts; i++) n += calibration->parts[i].prompts;
    return n;
}

// ---- Whether they belong together.

static oct_status check_runs(const oct_calibration *a, const oct_calibration *b, oct_err *err)
{
    if (strcmp(a->denoiser_xxh3, b->denoiser_xxh3) != 0)
        return oct_fail(err, OCT_EFORMAT, "is of another model");
    if (strcmp(a->sampler, b->sampler) != 0)
        return oct_fail(err, OCT_EFORMAT, "has sampler '%s', not '%s'", b->sampler, a->sampler);
    if (a->steps != b->steps)
        return oct_fail(err, OCT_EFORMAT, "has %" PRIu64 " steps, not %" PRIu64, b->steps,
                        a->steps);
    if (a->cfg != b->cfg)
        return oct_fail(err, OCT_EFORMAT, "has guidance %.9g, not %.9g", b->cfg, a->cfg);
    if (a->width != b->width || a->height != b->height)
        return oct_fail(err, OCT_EFORMAT,
                        "has size %" PRIu64 "x%" PRIu64 ", not %" PRIu64 "x%" PRIu64, b->width,
                        b->height, a->width, a->height);
    if (a->n_layers != b->n_layers)
        return oct_fail(err, OCT_EFORMAT, "has %zu layers, not %zu", b->n_layers, a->n_layers);
    return OCT_OK;
}

static oct_status check_layers(const oct_calibration_layer *a, const oct_calibration_layer *b,
                               oct_err *err)
{
    char shown[200];

    oct_printable(b->name, shown, sizeof shown);
    if (strcmp(a->name, b->name) != 0)
        return oct_fail(err, OCT_EFORMAT, "has layer '%s' in another place", shown);
    if (!a->uncond != !b->uncond || !a->exponents != !b->exponents || !a->channels != !b->channels)
        return oct_fail(err, OCT_EFORMAT, "has not the same records of layer '%s'", shown);
    if (a->channels && a->channels->n != b->channels->n)
        return oct_fail(err, OCT_EFORMAT, "has %zu channels of layer '%s', not %zu", b->channels->n,
                        shown, a->channels->n);
    return OCT_OK;
}

// ---- Adding.

static oct_status merge_parts(oct_calibration *sum, const oct_calibration *other, oct_err *err)
{
    const size_t n = sum->n_parts + other->n_parts;
    oct_calibration_part *parts = oct_arena_array(&sum->arena, n, sizeof *parts);

    memcpy(parts, sum->parts, sum->n_parts * sizeof *parts);
    memcpy(parts + sum->n_parts, other->parts, other->n_parts * sizeof *parts);
    qsort(parts, n, sizeof *parts, oct_calibration_compare_parts);
    for (size_t i = 1; i < n; i++) {
        if (oct_calibration_compare_parts(&parts[i - 1], &parts[i]) == 0)
            return oct_fail(err, OCT_EFORMAT,
                            "has prompts %.12s... of seed %" PRIu64 ", which are in already",
                            parts[i].prompts_sha256, parts[i].seed);
    }
    sum->parts = parts;
    sum->n_parts = n;
    return OCT_OK;
}

static void merge_ranges(float *sum, const float *other, uint64_t n)
{
    for (uint64_t i = 0; sum && i < n; i++) {
        if (other[i] > sum[i]) sum[i] = other[i];
    }
}

static oct_status merge_counts(oct_arena *arena, oct_calibration_layer *sum,
                               const oct_exponents *other, oct_err *err)
{
    oct_exponents *counts = oct_arena_alloc(arena, sizeof *counts);
    char shown[200];

    *counts = *sum->exponents;
    oct_exponents_add(counts, other);
    for (int bin = 0; bin < OCT_EXPONENT_BINS; bin++) {
        if (counts->counts[bin] > COUNT_MAX)
            return oct_fail(err, OCT_EFORMAT, "makes more than 2^53 numbers of layer '%s'",
                            oct_printable(sum->name, shown, sizeof shown));
    }
    sum->exponents = counts;
    return OCT_OK;
}

static oct_status merge_channels(oct_channels *sum, const oct_channels *other, oct_err *err)
{
    char shown[200];

    if (other->rows > UINT64_MAX - sum->rows)
        return oct_fail(err, OCT_EFORMAT, "makes more than 2^64 rows of layer '%s'",
                        oct_printable(sum->layer, shown, sizeof shown));
    sum->rows += other->rows;
    for (size_t i = 0; i < sum->n; i++) oct_energy_merge(&sum->sums[i], other->sums[i]);
    return OCT_OK;
}

static oct_status merge_layer(oct_calibration *sum, size_t index,
                              const oct_calibration_layer *other, oct_err *err)
{
    oct_calibration_layer *layer = &sum->layers[index];

    oct_status st = check_layers(layer, other, err);
    if (st) return st;
    merge_ranges(&layer->amax, &other->amax, 1);
    merge_ranges(layer->cond, other->cond, sum->steps);
    merge_ranges(layer->uncond, other->uncond, sum->steps);
    if (layer->channels) st = merge_channels(&sum->channels[index], other->channels, err);
    if (!st && layer->exponents) st = merge_counts(&sum->arena, layer, other->exponents, err);
    return st;
}

oct_status oct_calibration_merge(oct_calibration *sum, const oct_calibration *other, oct_err *err)
{
    oct_status st = check_runs(sum, other, err);
    if (!st) st = merge_parts(sum, other, err);
    for (size_t i = 0; i < sum->n_layers && !st; i++)
        st = merge_layer(sum, i, &other->layers[i], err);
    return st;
}
