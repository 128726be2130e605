// SPDX-License-Identifier: Apache-2.0
//
// What an interrupted calibration leaves, so that the same command goes on where it was: beside the
// calibration, in OUT.partial (of rank 3 of 8 in OUT.partial-3-of-8), everything observed over the
// prompts that are done. It is replaced after each prompt and removed at the end. A resumed run
// writes the bytes of one that was never interrupted.
//
// The file belongs to this machine and this build: numbers lie there as in memory. It names its run
// by a digest of everything that enters it: model, conditioning of all prompts, seeds, sampling,
// device, ranks and the version of the program. What is of another run, or damaged, is not used.
#pragma once

#include <stddef.h>

#include "calibrate/collect.h"
#include "common/status.h"

// After the observer has begun and the prompts are encoded: fill the observer with what is there.
// Returns how many of this rank's prompts that is; 0 when there is nothing to go on from.
size_t oct_partial_load(oct_collection *collection);

oct_status oct_partial_save(oct_collection *collection, size_t n_done, oct_err *err);
void oct_partial_remove(const oct_collection *collection);
