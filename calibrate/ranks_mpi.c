// SPDX-License-Identifier: Apache-2.0
//
// Ranks by MPI.
#include <limits.h>

#include <mpi.h>

#include "calibrate/launcher.h"
#include "calibrate/ranks.h"

oct_status oct_ranks_begin(oct_ranks *ranks, oct_err *err)
{
    *ranks = (oct_ranks){.count = 1};
    if (!is_launched_as_rank()) return OCT_OK;  // starting MPI alone only costs time

    int provided;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        return oct_fail(err, OCT_EDEVICE, "MPI cannot be started");
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks->count);
    return OCT_OK;
}

void oct_ranks_end(oct_ranks *ranks)
{
    int is_running = 0;
    MPI_Initialized(&is_running);
    if (is_running) MPI_Finalize();
    *ranks = (oct_ranks){0};
}

oct_status oct_ranks_agree(const oct_ranks *ranks, oct_status status, oct_err *err)
{
    if (ranks->count == 1) return status;
    struct {
        int failed, rank;
    } mine = {status != OCT_OK, ranks->rank}, worst;
    MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MAXLOC, MPI_COMM_WORLD);
    if (status || !worst.failed) return status;
    return oct_fail(err, OCT_EDEVICE, "rank %d failed", worst.rank);
}

void oct_ranks_max(const oct_ranks *ranks, float *values, size_t n)
{
    if (ranks->count == 1) return;
    for (size_t at = 0; at < n; at += INT_MAX) {
        const size_t part = n - at < INT_MAX ? n - at : INT_MAX;
        MPI_Allreduce(MPI_IN_PLACE, values + at, (int)part, MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD);
    }
}

void oct_ranks_add(const oct_ranks *ranks, uint64_t *counts, size_t n)
{
    if (ranks->count == 1) return;
    for (size_t at = 0; at < n; at += INT_MAX) {
        const size_t part = n - at < INT_MAX ? n - at : INT_MAX;
        MPI_Allreduce(MPI_IN_PLACE, counts + at, (int)part, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    }
}

static void merge_energies(void *others, void *sums, int *n, MPI_Datatype *type)
{
    for (int i = 0; i < *n; i++) {
        oct_energy_merge((oct_energy *)sums + i, ((const oct_energy *)others)[i]);
    }
}

// MPI's own sum knows no carry from the low half to the high one.
void oct_ranks_sum(const oct_ranks *ranks, oct_channels *channels)
{
    MPI_Datatype energy;
    MPI_Op merge;

    if (ranks->count == 1) return;
    MPI_Type_contiguous(2, MPI_UINT64_T, &energy);
    MPI_Type_commit(&energy);
    MPI_Op_create(merge_energies, 1, &merge);
    for (size_t at = 0; at < channels->n; at += INT_MAX) {
        const size_t part = channels->n - at < INT_MAX ? channels->n - at : INT_MAX;
        MPI_Allreduce(MPI_IN_PLACE, channels->sums + at, (int)part, energy, merge, MPI_COMM_WORLD);
    }
    MPI_Op_free(&merge);
    MPI_Type_free(&energy);
    MPI_Allreduce(MPI_IN_PLACE, &channels->rows, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
}
