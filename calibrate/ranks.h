// SPDX-License-Identifier: Apache-2.0
//
// Ranks: several processes that share one calibration, started by mpirun or srun.
//
// Rank r takes prompts r, r + count, ...; ranges are maxima, counts and squares are added exactly, so
// the result does not depend on how many ranks there are. Without MPI, or when started plainly, there
// is one rank.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "ptq/channels.h"

typedef struct oct_ranks {
    int rank, count;  // 0 and 1 when alone
} oct_ranks;

// Before anything is printed. OCT_EUNSUPPORTED: started by mpirun, but built without MPI, which
// would do the same work on every rank and write one file from all of them.
oct_status oct_ranks_begin(oct_ranks *ranks, oct_err *err);
void oct_ranks_end(oct_ranks *ranks);

// Every rank calls this with how it fares. When one failed all fail: itself with its own sentence,
// the others with "rank 3 failed".
oct_status oct_ranks_agree(const oct_ranks *ranks, oct_status status, oct_err *err);

// Every element becomes the largest over the ranks, on all of them.
void oct_ranks_max(const oct_ranks *ranks, float *values, size_t n);

// Every element becomes the sum over the ranks, on all of them.
void oct_ranks_add(const oct_ranks *ranks, uint64_t *counts, size_t n);

// The squares and rows of all ranks, on all of them.
void oct_ranks_sum(const oct_ranks *ranks, oct_channels *channels);
