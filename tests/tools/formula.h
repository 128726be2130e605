// SPDX-License-Identifier: Apache-2.0
//
// Values for synthetic models: a function of a tensor's name and the element's index, so that any
// program in any language makes the same weights without a file.
//
//   hash    FNV-1a, 32 bits, over the name
//   x       (hash + index * 0x9e3779b9), then x ^= x >> 16, x *= 0x7feb352d, x ^= x >> 15,
//           x *= 0x846ca68b, x ^= x >> 16, all modulo 2^32;  w = 2 x / 2^32 - 1
//   value   w                        names that begin with "input."
//           0.5 w                    rank >= 2 and the name holds "embedding.weight",
//           "embed_tokens"
//                                    or "relative_attention_bias", or is "pos_embed"
//           w sqrt(3 / fan_in)       other rank >= 2; fan_in: product of all dimensions but the
//           first 0.1 w                    rank 1, the name ends in ".bias" 1 + 0.1 w other rank 1:
//           norm weights
//
// computed in binary64 and rounded once. A name may begin with "<digits>/", which selects another
// set of values: it is hashed, but does not count for the rules above.
#pragma once

#include <stdint.h>

uint32_t oct_formula_hash(const char *name);

float oct_formula_value(const char *name, int rank, const uint64_t *shape, uint64_t index);

// All elements, in C order.
void oct_formula_fill(float *out, const char *name, int rank, const uint64_t *shape);

// The `count` elements from flat index `first` on.
void oct_formula_fill_range(float *out, const char *name, int rank, const uint64_t *shape,
                            uint64_t first, uint64_t count);
