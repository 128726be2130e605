// SPDX-License-Identifier: Apache-2.0
//
// Channel statistics: how strong each channel of each layer's input is, as the mean of its squares
// over all tokens, steps, guidance branches and prompts.
//
// Sums of squares are whole numbers of 2^-48 in 128 bits: adding them rounds nothing, so that any
// order of threads, ranks or files gives the same bits. They are kept in a safetensors file beside
// the calibration, which names it by its SHA-256. For each layer it has
//
//   "<layer>.input_squares"  U64 [channels][2]: the sum, low half first, in units of 2^-48
//   "<layer>.input_rows"     U64 []: tokens that were summed
//
// and metadata "octavo.channels" ("1", the version) and "octavo.denoiser_xxh3".
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/digest.h"
#include "common/status.h"

#define OCT_CHANNELS_SUFFIX ".channels.safetensors"  // after the calibration's path

typedef struct oct_energy {  // units of 2^-48; all ones: too large to tell
    uint64_t low, high;
} oct_energy;

typedef struct oct_channels {  // of one layer's input
    const char *layer;
    uint64_t rows;
    size_t n;
    oct_energy *sums;  // [n]
} oct_channels;

// Add a sum of squares, >= 0, rounded to the unit. Above 2^80, or NaN: too large from then on.
void oct_energy_add(oct_energy *sum, double squares);
void oct_energy_merge(oct_energy *sum, oct_energy other);
bool oct_energy_is_overflown(oct_energy sum);

// The mean square of channel i in binary32; rows > 0, not overflown.
float oct_channels_mean(const oct_channels *channels, size_t i);

// `sha256` is of the file that was written. OCT_EFORMAT naming the layer when a sum is too large.
oct_status oct_channels_save(const char *path, const oct_channels *channels, size_t n_layers,
                             const char *denoiser_xxh3, char sha256[OCT_SHA256_HEX], oct_err *err);

// channels: [n_layers] with their names; everything else is filled in, sums in the arena. Strict:
// another digest, version or model, a layer more or less, another type or shape are OCT_EFORMAT.
oct_status oct_channels_load(const char *path, oct_arena *arena, oct_channels *channels,
                             size_t n_layers, const char *denoiser_xxh3, const char *sha256,
                             oct_err *err);
