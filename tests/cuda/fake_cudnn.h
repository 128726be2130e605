// SPDX-License-Identifier: Apache-2.0
//
// A strict stand-in for the part of cuDNN that we use, as a library of its own. It knows each
// descriptor's attributes, their types and counts, refuses all else and what is not finalized, and
// computes attention and convolutions on the host, term by term.
//
// How it behaves is set, and what it saw is read, through its exported `fake_cudnn`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_CUDNN_ENGINES 3

typedef struct fake_cudnn_state {
    // Set by the test.
    size_t version;          // 91900
    int handle_status;       // of cudnnCreate; 0
    int refused_engines;     // so many recommendations make no plan; 0
    int execute_status;      // 0
    bool refuses_asymmetry;  // no convolution with other zeros before than behind
    int notes[FAKE_CUDNN_ENGINES];  // a numerical note of each engine; 0
    size_t workspace_bytes;  // that a plan wants; 1000
    // Kept by the fake.
    int live_descriptors, live_handles, executions;
    int engine;         // of the last execution
    void *stream;       // of the last execution
    char refusal[160];  // why something was refused last
} fake_cudnn_state;
