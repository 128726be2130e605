// SPDX-License-Identifier: Apache-2.0
//
// Ranks without MPI: one.
#include "calibrate/launcher.h"
#include "calibrate/ranks.h"

oct_status oct_ranks_begin(oct_ranks *ranks, oct_err *err)
{
    *ranks = (oct_ranks){.count = 1};
    if (!is_launched_as_rank()) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED, "started by an MPI launcher, but built without MPI");
}

void oct_ranks_end(oct_ranks *ranks)
{
    *ranks = (oct_ranks){0};
}

oct_status oct_ranks_agree(const oct_ranks *ranks, oct_status status, oct_err *err)
{
    return status;
}

void oct_ranks_max(const oct_ranks *ranks, float *values, size_t n)
{
}

void oct_ranks_add(const oct_ranks *ranks, uint64_t *counts, size_t n)
{
}

void oct_ranks_sum(const oct_ranks *ranks, oct_channels *channels)
{
}
