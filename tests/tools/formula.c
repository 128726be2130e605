// SPDX-License-Identifier: Apache-2.0
//
// Values for synthetic models.
#include "tests/tools/formula.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct affine {
    double factor, offset;  // value = offset + factor * w
} affine;

uint32_t oct_formula_hash(const char *name)
{
    uint32_t hash = 2166136261u;

    for (const char *c = name; *c; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    }
    return hash;
}

static const char *skip_seed(const char *name)
{
    const char *rest = name + strspn(name, "0123456789");

    return rest > name && *rest == '/' ? rest + 1 : name;
}

static bool is_embedding(const char *name)
{
    return strstr(name, "embedding.weight") || strstr(name, "embed_tokens") ||
           strstr(name, "relative_attention_bias") || strcmp(name, "pos_embed") == 0;
}

static bool ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name), n = strlen(ending);

    return length >= n && strcmp(name + length - n, ending) == 0;
}

static affine find_affine(const char *seeded, int rank, const uint64_t *shape)
{
    const char *name = skip_seed(seeded);
    double fan_in = 1;

    if (strncmp(name, "input.", 6) == 0) return (affine){1, 0};
    if (rank < 2) return ends_with(name, ".bias") ? (affine){0.1, 0} : (affine){0.1, 1};
    if (is_embedding(name)) return (affine){0.5, 0};
    for (int d = 1; d < rank; d++) {
        fan_in *= (double)shape[d];
    }
    return (affine){sqrt(3 / fan_in), 0};
}

static inline float value_at(affine a, uint32_t hash, uint64_t index)
{
    uint32_t x = hash + (uint32_t)index * 0x9e3779b9u;

    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return (float)(a.offset + a.factor * (x * 0x1p-31 - 1));
}

float oct_formula_value(const char *name, int rank, const uint64_t *shape, uint64_t index)
{
    return value_at(find_affine(name, rank, shape), oct_formula_hash(name), index);
}

void oct_formula_fill_range(float *out, const char *name, int rank, const uint64_t *shape,
                            uint64_t first, uint64_t count)
{
    const affine a = find_affine(name, rank, shape);
    const uint32_t hash = oct_formula_hash(name);

#pragma omp parallel for if (count > 1 << 16)
    for (uint64_t i = 0; i < count; i++) {
        out[i] = value_at(a, hash, first + i);
    }
}

void oct_formula_fill(float *out, const char *name, int rank, const uint64_t *shape)
{
    uint64_t count = 1;

    for (int d = 0; d < rank; d++) {
        count *= shape[d];
    }
    oct_formula_fill_range(out, name, rank, shape, 0, count);
}
