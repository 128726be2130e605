// SPDX-License-Identifier: Apache-2.0
//
// Folders that tests write to.
#pragma once

// A new empty folder under $TMPDIR or /tmp; ends the program when there can be none. Owned by the
// caller until oct_scratch_remove().
char *oct_scratch_make(void);

// Remove the folder with everything in it, and free its name. NULL is fine.
void oct_scratch_remove(char *folder);
