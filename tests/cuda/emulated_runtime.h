// SPDX-License-Identifier: Apache-2.0
//
// The part of the CUDA runtime API that the product calls, on the host, for tests: one device whose
// streams are queues. Linked instead of cudart, with the emulated kernels (emulate.h).
//
// Nothing runs when it is launched. Work waits in its stream until somebody waits for it, and then
// runs in an order that the streams and events allow and that the test chooses: a missing event
// between two streams gives other numbers in another order, a missing wait gives old ones.
//
// Device memory lies between unreadable pages, is filled with NaN when it is new, can be touched
// only by work that runs, and is never given out twice. What goes on beyond a buffer's end or to
// released memory ends the program with a message. What the runtime would refuse is refused with
// its error: allocation, waiting or pageable copies during a capture, a stream that is not joined
// when a capture ends, an event from outside it.
#pragma once

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum emulated_order {
    EMULATED_AS_ISSUED,
    EMULATED_FIRST_STREAM_FIRST,  // as far as it goes without the others
    EMULATED_LAST_STREAM_FIRST,
    EMULATED_IN_TURNS,  // a piece of each that can go on
    EMULATED_LAZY,      // only what is waited for, and what that waits for
    EMULATED_ORDERS,
} emulated_order;

// Set up the device, before anything else is called; everything that was there is gone.
typedef struct emulated_device {
    int n_devices;     // 0: the API answers that there is none
    int major, minor;  // compute capability
    size_t bytes;      // of memory
    emulated_order order;
} emulated_device;
void emulated_reset(emulated_device device);
void emulated_set_order(emulated_order order);

// For fakes of libraries: call work(context) when its turn on the stream comes. `bytes` of context
// are copied now.
void emulated_enqueue(cudaStream_t stream, void (*work)(void *context), const void *context,
                      size_t bytes);

// For work: let so much time pass on the clock of events, which stands still otherwise.
void emulated_spend(double ms);

// Let all work run. NULL when every byte around the buffers of the device is as it was, else what
// was written beyond.
const char *emulated_finish(void);

// The next `n`-th allocation of device memory from here on fails once; 0: none.
void emulated_fail_allocation(unsigned n);

size_t emulated_buffers(void);         // of device and pinned memory that are not freed
size_t emulated_bytes_peak(void);      // of device memory since the reset
size_t emulated_graph_launches(void);  // since the reset

#ifdef __cplusplus
}
#endif
