// SPDX-License-Identifier: Apache-2.0
//
// Whether mpirun or srun started this process as one of several.
#pragma once

#include <stdbool.h>
#include <stdlib.h>

// Open MPI, MPICH and Intel MPI, and Slurm with PMI set these for every rank.
static inline bool is_launched_as_rank(void)
{
    static const char *const variables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        if (getenv(variables[i])) return true;
    }
    return false;
}
