// SPDX-License-Identifier: Apache-2.0
//
// The order of things: streams, events between them, and what is captured to be replayed.
#include <assert.h>

#include "runtime/device_cuda.h"

static cudaError_t open_events(oct_cuda_device *d)
{
    cudaError_t error = cudaEventCreateWithFlags(&d->forked, cudaEventDisableTiming);
    if (!error) error = cudaEventCreateWithFlags(&d->joined, cudaEventDisableTiming);
    for (int i = 0; i < 2 && !error; i++) {
        oct_cuda_slot *slot = &d->slots[i];
        error = cudaEventCreateWithFlags(&slot->loaded, cudaEventDisableTiming);
        for (int j = 0; j < OCT_COMPUTE_STREAMS && !error; j++)
            error = cudaEventCreateWithFlags(&slot->left[j], cudaEventDisableTiming);
    }
    return error;
}

oct_status oct_cuda_open_streams(oct_cuda_device *d, oct_err *err)
{
    cudaError_t error = cudaStreamCreateWithFlags(&d->copies, cudaStreamNonBlocking);
    for (int i = 0; i < OCT_COMPUTE_STREAMS && !error; i++)
        error = cudaStreamCreateWithFlags(&d->streams[i], cudaStreamNonBlocking);
    if (!error) error = open_events(d);
    return error ? oct_fail(err, OCT_EDEVICE, "no stream on %s: %s", d->name,
                            cudaGetErrorString(error))
                 : OCT_OK;
}

static void close_event(cudaEvent_t event)
{
    if (event) cudaEventDestroy(event);
}

void oct_cuda_close_streams(oct_cuda_device *d)
{
    close_event(d->forked);
    close_event(d->joined);
    for (int i = 0; i < 2; i++) {
        close_event(d->slots[i].loaded);
        for (int j = 0; j < OCT_COMPUTE_STREAMS; j++) close_event(d->slots[i].left[j]);
    }
    for (int i = 0; i < OCT_COMPUTE_STREAMS; i++)
        if (d->streams[i]) cudaStreamDestroy(d->streams[i]);
    if (d->copies) cudaStreamDestroy(d->copies);
}

void oct_cuda_use(oct_device *device, oct_stream_index stream)
{
    oct_cuda_of(device)->current = stream;
}

// `to` goes on when `from` has come to where it is now.
static void follow(oct_cuda_device *d, cudaEvent_t event, oct_stream_index from,
                   oct_stream_index to, const char *operation)
{
    oct_cuda_keep(d, cudaEventRecord(event, d->streams[from]), operation);
    oct_cuda_keep(d, cudaStreamWaitEvent(d->streams[to], event, 0), operation);
}

void oct_cuda_fork(oct_device *device)
{
    oct_cuda_device *d = oct_cuda_of(device);
    follow(d, d->forked, OCT_STREAM_MAIN, OCT_STREAM_SIDE, "fork");
}

void oct_cuda_join(oct_device *device)
{
    oct_cuda_device *d = oct_cuda_of(device);
    follow(d, d->joined, OCT_STREAM_SIDE, OCT_STREAM_MAIN, "join");
}

static void capture(oct_cuda_device *d, oct_cuda_graph *graph, void (*body)(void *context),
                    void *context)
{
    const cudaStream_t main = d->streams[OCT_STREAM_MAIN];
    cudaGraph_t captured = NULL;

    cudaError_t error = cudaStreamBeginCapture(main, cudaStreamCaptureModeThreadLocal);
    if (error) {
        oct_cuda_keep(d, error, "capture");
        return;
    }
    d->is_capturing = true;
    body(context);
    d->is_capturing = false;
    error = cudaStreamEndCapture(main, &captured);
    if (!error) error = cudaGraphInstantiate(&graph->exec, captured, 0);
    if (error) graph->exec = NULL;
    if (captured) cudaGraphDestroy(captured);
    oct_cuda_keep(d, error, "capture");
}

// Streamed weights come and go in an order of their own, and take longer than launches.
static bool is_replayed(const oct_cuda_device *d)
{
    return !d->device.observer && !d->is_low_vram;
}

// The first time all is planned and allocated, the second time it is captured.
void oct_cuda_run(oct_device *device, int slot, void (*body)(void *context), void *context)
{
    oct_cuda_device *d = oct_cuda_of(device);
    assert(slot >= 0 && slot < OCT_SLOTS && !d->is_capturing);
    oct_cuda_graph *graph = &d->graphs[slot];

    if (d->status) return;
    if (!is_replayed(d) || !graph->is_warm) {
        body(context);
        graph->is_warm = is_replayed(d) && !d->status;
        return;
    }
    if (!graph->exec) capture(d, graph, body, context);
    if (graph->exec)
        oct_cuda_keep(d, cudaGraphLaunch(graph->exec, d->streams[OCT_STREAM_MAIN]), "replay");
}

void oct_cuda_forget(oct_device *device)
{
    oct_cuda_device *d = oct_cuda_of(device);

    for (int i = 0; i < OCT_SLOTS; i++) {
        if (d->graphs[i].exec)
            oct_cuda_keep(d, cudaGraphExecDestroy(d->graphs[i].exec), "release of a graph");
        d->graphs[i] = (oct_cuda_graph){0};
    }
}
