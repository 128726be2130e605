// SPDX-License-Identifier: Apache-2.0
//
// The emulated CUDA runtime shows the mistakes that it is there for.
#include "tests/cuda/emulated_runtime.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

static cudaStream_t a, b;
static cudaEvent_t event;
static int *x;

static void begin(emulated_order order)
{
    emulated_reset(
        (emulated_device){.n_devices = 1, .major = 9, .bytes = (size_t)1 << 20, .order = order});
    CHECK(!cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    CHECK(!cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    CHECK(!cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    CHECK(!cudaMalloc((void **)&x, 2 * sizeof *x));
    CHECK(!cudaMemsetAsync(x, 0, 2 * sizeof *x, a));
    CHECK(!cudaStreamSynchronize(a));
}

static void end(void)
{
    CHECK(!cudaFree(x));
    CHECK(!cudaEventDestroy(event));
    CHECK(!emulated_finish());
    CHECK(emulated_buffers() == 0);
}

static void add_one(void *context)
{
    int *at = *(int **)context;
    at[0]++;
}

static void double_it(void *context)
{
    int *at = *(int **)context;
    at[0] *= 2;
}

static void launch(void (*work)(void *), cudaStream_t stream, int *at)
{
    emulated_enqueue(stream, work, &at, sizeof at);
}

static int read_x(cudaStream_t stream)
{
    int value = -1;
    CHECK(!cudaMemcpyAsync(&value, x, sizeof value, cudaMemcpyDeviceToHost, stream));
    return value;
}

// (0 + 1) * 2 when b waits for a, 0 * 2 + 1 when it does not and comes first.
static int add_then_double(emulated_order order, bool has_event)
{
    begin(order);
    launch(add_one, a, x);
    if (has_event) {
        CHECK(!cudaEventRecord(event, a));
        CHECK(!cudaStreamWaitEvent(b, event, 0));
    }
    launch(double_it, b, x);
    CHECK(!cudaDeviceSynchronize());
    const int value = read_x(a);
    end();
    return value;
}

static void a_missing_event_shows_in_another_order(void)
{
    CHECK(add_then_double(EMULATED_AS_ISSUED, false) == 2);
    CHECK(add_then_double(EMULATED_FIRST_STREAM_FIRST, false) == 2);
    CHECK(add_then_double(EMULATED_LAST_STREAM_FIRST, false) == 1);
    for (int order = 0; order < EMULATED_ORDERS; order++)
        CHECK(add_then_double((emulated_order)order, true) == 2);
}

static void lazy_work_is_done_only_for_who_waits(void)
{
    begin(EMULATED_LAZY);
    launch(add_one, a, x);
    CHECK(read_x(b) == 0);  // b does not wait for a
    CHECK(!cudaEventRecord(event, a));
    CHECK(!cudaStreamWaitEvent(b, event, 0));
    CHECK(read_x(b) == 1);
    end();
}

static void what_is_copied_from_pinned_memory_is_read_late(void)
{
    int *pinned = NULL, pageable = 5;
    begin(EMULATED_AS_ISSUED);
    CHECK(!cudaHostAlloc((void **)&pinned, sizeof *pinned, cudaHostAllocDefault));
    *pinned = 3;
    CHECK(!cudaMemcpyAsync(x, pinned, sizeof *x, cudaMemcpyHostToDevice, a));
    *pinned = 4;
    CHECK(read_x(a) == 4);
    CHECK(!cudaMemcpyAsync(x, &pageable, sizeof *x, cudaMemcpyHostToDevice, a));
    pageable = 6;
    CHECK(read_x(a) == 5);
    CHECK(!cudaFreeHost(pinned));
    end();
}

static void copies_in_the_wrong_direction_are_refused(void)
{
    int host = 0;
    begin(EMULATED_AS_ISSUED);
    CHECK(cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyHostToDevice, a));
    CHECK(cudaMemcpyAsync(x, &host, sizeof host, cudaMemcpyDeviceToDevice, a));
    CHECK(cudaMemcpyAsync(x, &host, 3 * sizeof host, cudaMemcpyHostToDevice, a));  // too long
    CHECK(cudaGetLastError() == cudaErrorInvalidValue && !cudaGetLastError());
    end();
}

static cudaGraphExec_t capture(bool joins)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    CHECK(!cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    launch(add_one, a, x);
    CHECK(!cudaEventRecord(event, a));
    CHECK(!cudaStreamWaitEvent(b, event, 0));
    launch(double_it, b, x);
    if (joins) {
        CHECK(!cudaEventRecord(event, b));
        CHECK(!cudaStreamWaitEvent(a, event, 0));
    }
    const cudaError_t error = cudaStreamEndCapture(a, &graph);
    CHECK(error == (joins ? cudaSuccess : cudaErrorStreamCaptureUnjoined));
    if (error) return NULL;
    CHECK(!cudaGraphInstantiate(&exec, graph, 0));
    CHECK(!cudaGraphDestroy(graph));
    return exec;
}

static void a_graph_runs_when_it_is_launched_and_as_often(void)
{
    for (int order = 0; order < EMULATED_ORDERS; order++) {
        begin((emulated_order)order);
        cudaGraphExec_t exec = capture(true);
        CHECK(read_x(a) == 0);  // captured, not run
        CHECK(!cudaGraphLaunch(exec, a));
        CHECK(!cudaGraphLaunch(exec, a));
        CHECK(read_x(a) == ((0 + 1) * 2 + 1) * 2);
        CHECK(emulated_graph_launches() == 2);
        CHECK(!cudaGraphExecDestroy(exec));
        end();
    }
}

static void a_stream_that_is_not_joined_spoils_the_capture(void)
{
    begin(EMULATED_AS_ISSUED);
    CHECK(!capture(false));
    end();
}

static void a_capture_refuses_to_allocate_and_to_wait(void)
{
    void *more = NULL;
    int host = 0;
    cudaGraph_t graph = NULL;
    begin(EMULATED_AS_ISSUED);
    for (int i = 0; i < 4; i++) {
        CHECK(!cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
        if (i == 0) CHECK(cudaMalloc(&more, 1));
        if (i == 1) CHECK(cudaStreamSynchronize(a));
        if (i == 2) CHECK(cudaMemcpyAsync(x, &host, sizeof host, cudaMemcpyHostToDevice, a));
        if (i == 3) CHECK(cudaFree(x));
        CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated);
    }
    end();
}

static void an_event_does_not_cross_the_border_of_a_capture(void)
{
    cudaGraph_t graph = NULL;
    begin(EMULATED_AS_ISSUED);
    CHECK(!cudaEventRecord(event, b));
    CHECK(!cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    CHECK(cudaStreamWaitEvent(a, event, 0) == cudaErrorStreamCaptureIsolation);
    CHECK(cudaStreamEndCapture(a, &graph) == cudaErrorStreamCaptureInvalidated);

    CHECK(!cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    CHECK(!cudaEventRecord(event, a));
    CHECK(!cudaStreamEndCapture(a, &graph));
    CHECK(cudaStreamWaitEvent(b, event, 0) == cudaErrorCapturedEvent);
    CHECK(!cudaGraphDestroy(graph));
    end();
}

static void memory_is_finite_and_allocations_fail_on_demand(void)
{
    void *more = NULL;
    begin(EMULATED_AS_ISSUED);
    CHECK(cudaMalloc(&more, (size_t)1 << 20) == cudaErrorMemoryAllocation);
    emulated_fail_allocation(2);
    CHECK(!cudaMalloc(&more, 1));
    CHECK(!cudaFree(more));
    CHECK(cudaMalloc(&more, 1) == cudaErrorMemoryAllocation);
    CHECK(!cudaMalloc(&more, 1));
    CHECK(!cudaFree(more));
    CHECK(emulated_bytes_peak() == 2 * 256);
    end();
}

static void new_memory_is_not_zero(void)
{
    int *fresh = NULL, value = 0;
    begin(EMULATED_AS_ISSUED);
    CHECK(!cudaMalloc((void **)&fresh, sizeof *fresh));
    CHECK(!cudaMemcpyAsync(&value, fresh, sizeof value, cudaMemcpyDeviceToHost, a));
    CHECK(value == -1);
    CHECK(!cudaFree(fresh));
    end();
}

static void a_write_beyond_a_buffer_is_reported(void)
{
    begin(EMULATED_AS_ISSUED);
    CHECK(!cudaEventDestroy(event));
    launch(add_one, a, x + 2);
    CHECK_TEXT(emulated_finish(), "a buffer of 8 bytes was written at 8");
    begin(EMULATED_AS_ISSUED);
    CHECK(!cudaEventDestroy(event));
    launch(add_one, a, x - 1);
    CHECK_TEXT(emulated_finish(), "a buffer of 8 bytes was written at -4");
}

// How a child process ends that makes the mistake: 3 when the emulation stopped it.
static int exit_code_of(void (*mistake)(void))
{
    int status = 0;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(9);
        begin(EMULATED_AS_ISSUED);
        mistake();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void touch_on_the_host(void)
{
    x[0] = 1;
}

static void use_what_was_freed(void)
{
    cudaFree(x);
    launch(add_one, a, x);
    emulated_finish();
}

static void replay_what_was_freed(void)
{
    cudaGraphExec_t exec = capture(true);
    cudaFree(x);
    cudaGraphLaunch(exec, a);
    emulated_finish();
}

static void mistakes_with_memory_end_the_program(void)
{
    CHECK(exit_code_of(touch_on_the_host) == 3);
    CHECK(exit_code_of(use_what_was_freed) == 3);
    CHECK(exit_code_of(replay_what_was_freed) == 3);
}

int main(void)
{
    RUN(a_missing_event_shows_in_another_order);
    RUN(lazy_work_is_done_only_for_who_waits);
    RUN(what_is_copied_from_pinned_memory_is_read_late);
    RUN(copies_in_the_wrong_direction_are_refused);
    RUN(a_graph_runs_when_it_is_launched_and_as_often);
    RUN(a_stream_that_is_not_joined_spoils_the_capture);
    RUN(a_capture_refuses_to_allocate_and_to_wait);
    RUN(an_event_does_not_cross_the_border_of_a_capture);
    RUN(memory_is_finite_and_allocations_fail_on_demand);
    RUN(new_memory_is_not_zero);
    RUN(a_write_beyond_a_buffer_is_reported);
    RUN(mistakes_with_memory_end_the_program);
    return test_end();
}
