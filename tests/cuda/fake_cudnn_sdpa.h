// SPDX-License-Identifier: Apache-2.0
//
// A strict stand-in for the part of cuDNN that attention uses, as a library of its own. It knows
// each descriptor's attributes, their types and counts, refuses all else and what is not finalized,
// and computes attention on the host, term by term.
//
// How it behaves is set, and what it saw is read, through its exported `fake_cudnn`.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct fake_cudnn_state {
    // Set by the test.
    size_t version;          // 91900
    int handle_status;       // of cudnnCreate; 0
    int refused_engines;     // so many recommendations make no plan; 0
    int execute_status;      // 0
    size_t workspace_bytes;  // that a plan wants; 1000
    // Kept by the fake.
    int live_descriptors, live_handles, executions;
    void *stream;       // of the last execution
    char refusal[160];  // why something was refused last
} fake_cudnn_state;
