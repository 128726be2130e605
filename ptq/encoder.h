// SPDX-License-Identifier: Apache-2.0
//
// Encoding one weight as its decision says, in chunks, so that reading, looking, encoding and
// writing can overlap and run on any number of threads. The bytes never depend on the chunks.
//
//   1. oct_encoder_scan() over every chunk, in any order, from any threads
//   2. oct_encoder_settle() once, after all of them: the scales
//   3. oct_encoder_encode() over every chunk, in any order, from any threads
//
// A chunk is a run of elements in storage order. It starts at a multiple of oct_encoder_grain() and
// is as long as one, or reaches the end. Scan every element exactly once; encode any as often as
// wanted.
//
// With Q the largest code's value, --qmax for E4M3 and 128 times as much for E5M2 (448 and 57344),
// the scale of a tensor, or of a row per channel, is in binary32 (ptq/scale.h):
//
//   max         largest magnitude / Q
//   percentile  the magnitude at the percentile / Q; where that is 0, as max
//   mse         the one of least squared error of a grid around max's (ptq/scale_search.h). Where the
//               calibration knows the input's channels, an element counts as much as the mean square
//               of the channel that it meets: what is least is then the error of the layer's outputs,
//               as far as channels are uncorrelated. Else every element counts the same
//
// and then snapped. A row or tensor of zeros has 1. q = code(x / scale), saturating. MX knows
// neither --qmax nor snapping (kernels/kernels.h).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "ptq/plan.h"

typedef struct oct_encoder oct_encoder;

// For a layer that the plan makes FP8. Plan and decision are borrowed: they must outlive the
// encoder. OCT_ENOMEM leaves *encoder NULL.
oct_status oct_encoder_begin(oct_encoder **encoder, const oct_plan *plan,
                             const oct_decision *decision, oct_err *err);

// Elements that must stay together: 32, or a whole row.
uint64_t oct_encoder_grain(const oct_encoder *encoder);

// Whether settling looks at the whole weight again: a scale per tensor that is not by max. Else the
// `x` of oct_encoder_settle() may be NULL.
bool oct_encoder_is_rereading(const oct_encoder *encoder);

// x: elements [first, first + n) in the source's type.
void oct_encoder_scan(oct_encoder *encoder, const void *x, uint64_t first, uint64_t n);

// Compute the scales. x: the whole weight or NULL, see above. OCT_EFORMAT when a NaN or infinity
// was seen, naming tensor, index, row and column of the first, and when a scale would be infinite.
oct_status oct_encoder_settle(oct_encoder *encoder, const void *x, oct_err *err);

// codes: [n], of the same elements. After settle.
void oct_encoder_encode(const oct_encoder *encoder, const void *x, uint64_t first, uint64_t n,
                        uint8_t *codes);

// After settle: the scales as they are stored, `*bytes` of them: one F32, or one per row, or one
// E8M0 per 32 elements of a row. Valid until oct_encoder_end().
const void *oct_encoder_scales(const oct_encoder *encoder, uint64_t *bytes);

void oct_encoder_end(oct_encoder *encoder);  // NULL is fine
