// SPDX-License-Identifier: Apache-2.0
//
// Folders that tests write to.
#include "tests/tools/scratch.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *oct_scratch_make(void)
{
    const char *base = getenv("TMPDIR");
    char *folder = NULL;

    if (asprintf(&folder, "%s/octavo-test-XXXXXX", base ? base : "/tmp") < 0 || !mkdtemp(folder)) {
        perror("cannot make a scratch folder");
        exit(99);
    }
    return folder;
}

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *at)
{
    (void)stat, (void)kind, (void)at;
    return remove(path);
}

void oct_scratch_remove(char *folder)
{
    if (folder) nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(folder);
}
