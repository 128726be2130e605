// SPDX-License-Identifier: Apache-2.0
//
// The CUDA runtime on the host: queues of closures, tickets between them, memory that is locked
// while nothing runs.
#include "tests/cuda/emulated_runtime.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "tests/cuda/emulate.h"

typedef std::function<void()> closure;

struct graph;

// One recording of an event: what came before it in its stream is done when `is_done`.
struct ticket {
    bool is_done;
    const graph *home;  // the capture in which it was recorded, or NULL
    double ms;          // on the clock, when it was done
};

struct item {
    enum { WORK, RECORD, WAIT } kind;
    closure work;
    std::shared_ptr<ticket> at;
    uint64_t issued;  // of all items, for EMULATED_AS_ISSUED
};

typedef std::deque<item> lane;

struct graph {  // while it is captured, and afterwards
    CUstream_st *origin;
    std::map<CUstream_st *, lane> lanes;
    bool is_broken;
};

struct CUstream_st {
    lane queue;
    graph *capture;
};

struct CUevent_st {
    std::shared_ptr<ticket> last;
};

struct buffer {
    uint8_t *map;  // an unreadable page, the pages, an unreadable page
    size_t map_bytes;
    uint8_t *pages;
    size_t pages_bytes;
    uint8_t *data;  // ends near the end of the pages, guard bytes around it
    size_t bytes;
    bool is_device;
};

constexpr size_t ALIGNMENT = 256;  // what cudaMalloc promises
constexpr uint8_t FRESH = 0xff;    // NaN in every type
constexpr uint8_t GUARD = 0xa5;

static emulated_device device;
static std::vector<buffer> buffers;
static std::vector<CUstream_st *> streams;
static CUstream_st default_stream;
static std::vector<graph *> captures;
static uint64_t issued;
static size_t bytes_now, bytes_peak, graph_launches;
static unsigned allocations_left;
static double clock_ms;
static bool is_running;
static char damage[200];
static cudaError_t last_error;

__attribute__((noreturn)) static void bail_out(const char *reason)
{
    printf("Bail out! emulated CUDA: %s\n", reason);
    fflush(stdout);
    _Exit(3);
}

static cudaError_t answer(cudaError_t error)
{
    if (error) last_error = error;
    return error;
}

// ---- Memory.

static const buffer *find_buffer(const void *p, size_t bytes)
{
    const uint8_t *first = (const uint8_t *)p;
    for (const buffer &b : buffers)
        if (first >= b.data && first + bytes <= b.data + b.bytes) return &b;
    return nullptr;
}

static bool is_device(const void *p, size_t bytes)
{
    const buffer *b = find_buffer(p, bytes);
    return b && b->is_device;
}

static void on_fault(int, siginfo_t *info, void *)
{
    char text[160];
    const uint8_t *at = (const uint8_t *)info->si_addr;
    for (const buffer &b : buffers) {
        if (at < b.map || at >= b.map + b.map_bytes) continue;
        snprintf(text, sizeof text, "%s touches a buffer of %zu bytes at %td",
                 is_running ? "work" : "the host", b.bytes, at - b.data);
        bail_out(text);
    }
    snprintf(text, sizeof text, "%s touches memory that is not there (%p)",
             is_running ? "work" : "the host", info->si_addr);
    bail_out(text);
}

static void check_guard(const buffer *b)
{
    for (const uint8_t *p = b->pages; p < b->pages + b->pages_bytes && !damage[0]; p++) {
        if (p == b->data) p += b->bytes;
        if (p < b->pages + b->pages_bytes && *p != GUARD)
            snprintf(damage, sizeof damage, "a buffer of %zu bytes was written at %td", b->bytes,
                     p - b->data);
    }
}

static void protect_all(int protection)
{
    for (const buffer &b : buffers)
        if (b.is_device) mprotect(b.pages, b.pages_bytes, protection);
}

// Work may touch device memory, nobody else.
static void begin_running(void)
{
    if (is_running) bail_out("work waits for work");
    is_running = true;
    protect_all(PROT_READ | PROT_WRITE);
}

static void end_running(void)
{
    for (const buffer &b : buffers)
        if (b.is_device) check_guard(&b);
    protect_all(PROT_NONE);
    is_running = false;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t padded(size_t bytes)
{
    return round_up(bytes > 0 ? bytes : 1, ALIGNMENT);
}

static cudaError_t new_buffer(void **p, size_t bytes, bool on_device)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    buffer b = {};

    b.bytes = bytes;
    b.is_device = on_device;
    b.pages_bytes = round_up(padded(bytes), page);
    b.map_bytes = page + b.pages_bytes + page;
    b.map = (uint8_t *)mmap(nullptr, b.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.map == MAP_FAILED) bail_out("no memory on the host");
    b.pages = b.map + page;
    b.data = b.pages + b.pages_bytes - padded(bytes);
    madvise(b.map, b.map_bytes, MADV_HUGEPAGE);  // locking takes time by the page
    mprotect(b.pages, b.pages_bytes, PROT_READ | PROT_WRITE);
    memset(b.pages, GUARD, b.pages_bytes);
    memset(b.data, FRESH, bytes);
    if (on_device) {
        mprotect(b.pages, b.pages_bytes, PROT_NONE);
        bytes_now += padded(bytes);
        bytes_peak = std::max(bytes_peak, bytes_now);
    }
    buffers.push_back(b);
    *p = b.data;
    return cudaSuccess;
}

// The addresses stay reserved: whoever comes late is caught.
static void drop_buffer(size_t i)
{
    const buffer b = buffers[i];
    if (b.is_device) {
        mprotect(b.pages, b.pages_bytes, PROT_READ);
        check_guard(&b);
        bytes_now -= padded(b.bytes);
    }
    mmap(b.map, b.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    buffers.erase(buffers.begin() + (ptrdiff_t)i);
}

// ---- Running what waits.

static bool is_ready(const lane &l)
{
    return !l.empty() && (l.front().kind != item::WAIT || l.front().at->is_done);
}

static void step(lane &l)
{
    const item next = l.front();
    l.pop_front();
    if (next.kind == item::WORK) next.work();
    if (next.kind == item::RECORD) {
        next.at->is_done = true;
        next.at->ms = clock_ms;
    }
}

// The lane to go on with, of those that can; NULL when none can.
static lane *choose(const std::vector<lane *> &lanes)
{
    static size_t turn;
    lane *best = nullptr;

    if (device.order == EMULATED_IN_TURNS) {
        for (size_t i = 0; i < lanes.size(); i++) {
            turn++;
            if (is_ready(*lanes[turn % lanes.size()])) return lanes[turn % lanes.size()];
        }
        return nullptr;
    }
    for (lane *l : lanes) {
        if (!is_ready(*l)) continue;
        if (!best || device.order == EMULATED_LAST_STREAM_FIRST ||
            (device.order == EMULATED_AS_ISSUED && l->front().issued < best->front().issued))
            best = l;
    }
    return best;
}

static bool is_empty(const std::vector<lane *> &lanes)
{
    for (const lane *l : lanes)
        if (!l->empty()) return false;
    return true;
}

static void run_lanes(const std::vector<lane *> &lanes)
{
    while (lane *l = choose(lanes)) step(*l);
    if (!is_empty(lanes)) bail_out("a stream waits for an event that never comes");
}

static std::vector<lane *> all_queues(void)
{
    std::vector<lane *> queues = {&default_stream.queue};
    for (CUstream_st *s : streams) queues.push_back(&s->queue);
    return queues;
}

static lane *find_recorder(const ticket *of)
{
    for (lane *l : all_queues())
        for (const item &i : *l)
            if (i.kind == item::RECORD && i.at.get() == of) return l;
    bail_out("a stream waits for an event that never comes");
}

// One stream until it is empty, or until `of` is done; others only where it waits for them.
static void run_until(lane *l, const ticket *of)
{
    while (!l->empty() && !(of && of->is_done)) {
        if (!is_ready(*l)) {
            const ticket *awaited = l->front().at.get();
            run_until(find_recorder(awaited), awaited);
        }
        step(*l);
    }
}

static void run_all(void)
{
    begin_running();
    run_lanes(all_queues());
    end_running();
}

static void wait_for(lane *l, const ticket *of)
{
    if (device.order != EMULATED_LAZY) {
        run_all();
        return;
    }
    begin_running();
    run_until(l, of);
    end_running();
}

static void run_graph(const std::shared_ptr<graph> &g)
{
    std::map<CUstream_st *, lane> copies = g->lanes;
    std::vector<lane *> lanes;
    for (auto &entry : copies) {
        for (item &i : entry.second)
            if (i.kind == item::RECORD) i.at->is_done = false;
    }
    for (CUstream_st *s : streams)
        if (copies.count(s)) lanes.push_back(&copies[s]);
    run_lanes(lanes);
}

// ---- Issuing.

static CUstream_st *stream_of(cudaStream_t stream)
{
    return stream ? stream : &default_stream;
}

static bool is_capturing(void)
{
    return !captures.empty();
}

// What the runtime refuses while a stream is captured.
static cudaError_t refuse(void)
{
    for (graph *g : captures) g->is_broken = true;
    return answer(cudaErrorStreamCaptureUnsupported);
}

static void issue(cudaStream_t stream, item i)
{
    CUstream_st *s = stream_of(stream);
    i.issued = issued++;
    (s->capture ? s->capture->lanes[s] : s->queue).push_back(i);
}

static void issue_work(cudaStream_t stream, const closure &work)
{
    issue(stream, item{item::WORK, work, nullptr, 0});
}

static void queue_launch(CUstream_st *stream, const closure &work)
{
    if (!stream && is_capturing()) {
        refuse();
        return;
    }
    issue_work(stream, work);
}

void emulated_enqueue(cudaStream_t stream, void (*work)(void *), const void *context, size_t bytes)
{
    const std::shared_ptr<char> copy((char *)malloc(bytes ? bytes : 1), free);
    memcpy(copy.get(), context, bytes);
    queue_launch(stream, [=] { work(copy.get()); });
}

// ---- For tests.

void emulated_reset(emulated_device with)
{
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);

    while (!buffers.empty()) drop_buffer(buffers.size() - 1);
    for (CUstream_st *s : streams) delete s;
    streams.clear();
    captures.clear();
    default_stream = CUstream_st();
    device = with;
    issued = graph_launches = bytes_now = bytes_peak = 0;
    allocations_left = 0;
    damage[0] = '\0';
    last_error = cudaSuccess;
    emulate_enqueue = queue_launch;
}

void emulated_set_order(emulated_order order)
{
    device.order = order;
}

void emulated_spend(double ms)
{
    clock_ms += ms;
}

const char *emulated_finish(void)
{
    run_all();
    return damage[0] ? damage : nullptr;
}

void emulated_fail_allocation(unsigned n)
{
    allocations_left = n;
}

size_t emulated_buffers(void)
{
    return buffers.size();
}

size_t emulated_bytes_peak(void)
{
    return bytes_peak;
}

size_t emulated_graph_launches(void)
{
    return graph_launches;
}

// ---- The API: device.

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device.n_devices;
    return device.n_devices > 0 ? cudaSuccess : answer(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int index)
{
    return answer(index < device.n_devices ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *index)
{
    *index = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int index)
{
    if (index >= device.n_devices) return answer(cudaErrorInvalidDevice);
    *properties = cudaDeviceProp();
    snprintf(properties->name, sizeof properties->name, "emulated GPU");
    properties->major = device.major;
    properties->minor = device.minor;
    properties->totalGlobalMem = device.bytes;
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int index)
{
    if (index >= device.n_devices) return answer(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = device.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = device.minor;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = 4;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = 99 << 10;
        return cudaSuccess;
    default:
        bail_out("an attribute is asked for that the emulation does not know");
    }
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = device.n_devices > 0 ? 13000 : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureUnjoined:
        return "capture sequence contains an unjoined stream";
    case cudaErrorStreamCaptureIsolation:
        return "capture depends on an uncaptured event";
    case cudaErrorStreamCaptureInvalidated:
        return "capture was invalidated";
    case cudaErrorCapturedEvent:
        return "the event was last recorded in a capturing stream";
    default:
        return "invalid argument";
    }
}

const char *cudaGetErrorName(cudaError_t error)
{
    return cudaGetErrorString(error);
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (is_capturing()) return refuse();
    run_all();
    return cudaSuccess;
}

// ---- The API: memory.

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    if (is_capturing()) return refuse();
    if (allocations_left > 0 && --allocations_left == 0) return answer(cudaErrorMemoryAllocation);
    if (bytes > device.bytes - bytes_now) return answer(cudaErrorMemoryAllocation);
    return new_buffer(p, bytes, true);
}

cudaError_t cudaFree(void *p)
{
    if (is_capturing()) return refuse();
    if (!p) return cudaSuccess;
    run_all();
    for (size_t i = 0; i < buffers.size(); i++) {
        if (buffers[i].data != p || !buffers[i].is_device) continue;
        drop_buffer(i);
        return cudaSuccess;
    }
    bail_out("cudaFree of what cudaMalloc did not give");
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    if (is_capturing()) return refuse();
    return new_buffer(p, bytes, false);
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, 0);
}

cudaError_t cudaFreeHost(void *p)
{
    if (is_capturing()) return refuse();
    if (!p) return cudaSuccess;
    run_all();
    for (size_t i = 0; i < buffers.size(); i++) {
        if (buffers[i].data != p || buffers[i].is_device) continue;
        drop_buffer(i);
        return cudaSuccess;
    }
    bail_out("cudaFreeHost of what cudaHostAlloc did not give");
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = device.bytes;
    *free_bytes = device.bytes - bytes_now;
    return cudaSuccess;
}

static bool is_of_kind(const void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return is_device(to, bytes) == to_device && is_device(from, bytes) == from_device;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (bytes == 0) return cudaSuccess;
    if (!is_of_kind(to, from, bytes, kind)) return answer(cudaErrorInvalidValue);
    const void *host = kind == cudaMemcpyHostToDevice   ? from
                       : kind == cudaMemcpyDeviceToHost ? to
                                                        : nullptr;
    if (!host || find_buffer(host, bytes)) {
        issue_work(stream, [=] { memmove(to, from, bytes); });
        return cudaSuccess;
    }
    if (is_capturing()) return refuse();
    if (kind == cudaMemcpyDeviceToHost) {  // to pageable memory: it is there when this returns
        issue_work(stream, [=] { memcpy(to, from, bytes); });
        wait_for(&stream_of(stream)->queue, nullptr);
        return cudaSuccess;
    }
    const std::shared_ptr<char> staged((char *)malloc(bytes), free);
    memcpy(staged.get(), from, bytes);
    issue_work(stream, [=] { memcpy(to, staged.get(), bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    if (is_capturing()) return refuse();
    const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    if (!error) wait_for(&default_stream.queue, nullptr);
    return error;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes > 0 && !is_device(p, bytes)) return answer(cudaErrorInvalidValue);
    issue_work(stream, [=] { memset(p, value, bytes); });
    return cudaSuccess;
}

// ---- The API: streams and events.

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new CUstream_st();
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    run_all();
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (is_capturing()) return refuse();
    wait_for(&stream_of(stream)->queue, nullptr);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->last = std::make_shared<ticket>(ticket{false, stream_of(stream)->capture, 0});
    issue(stream, item{item::RECORD, nullptr, event->last, 0});
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    CUstream_st *s = stream_of(stream);
    if (!event->last) return cudaSuccess;  // never recorded
    const graph *home = event->last->home;
    if (home && std::find(captures.begin(), captures.end(), home) == captures.end())
        return answer(cudaErrorCapturedEvent);
    if (s->capture && s->capture != home) {
        s->capture->is_broken = true;
        return answer(cudaErrorStreamCaptureIsolation);
    }
    s->capture = (graph *)home;  // a stream that waits for a captured event is captured too
    issue(s, item{item::WAIT, nullptr, event->last, 0});
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (is_capturing()) return refuse();
    if (!event->last || event->last->is_done) return cudaSuccess;
    if (event->last->home) return answer(cudaErrorCapturedEvent);
    wait_for(find_recorder(event->last.get()), event->last.get());
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    if (!begin->last || !end->last) return answer(cudaErrorInvalidResourceHandle);
    if (!begin->last->is_done || !end->last->is_done) return answer(cudaErrorNotReady);
    *ms = (float)(end->last->ms - begin->last->ms);
    return cudaSuccess;
}

// ---- The API: graphs.

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    if (!stream || stream->capture) return answer(cudaErrorStreamCaptureUnsupported);
    graph *g = new graph{stream, {}, false};
    stream->capture = g;
    g->lanes[stream];
    captures.push_back(g);
    return cudaSuccess;
}

// Whether something in `in` waits for the last thing that `l` did.
static bool is_awaited(const lane &l, const lane &in)
{
    std::shared_ptr<ticket> last;
    for (const item &i : l) {
        if (i.kind == item::WORK) last = nullptr;
        if (i.kind == item::RECORD) last = i.at;
    }
    for (const item &i : in)
        if (last && i.kind == item::WAIT && i.at == last) return true;
    return false;
}

static bool is_joined(const graph *g)
{
    std::vector<CUstream_st *> joined = {g->origin};
    for (size_t i = 0; i < joined.size(); i++) {
        for (const auto &entry : g->lanes) {
            if (std::find(joined.begin(), joined.end(), entry.first) != joined.end()) continue;
            if (is_awaited(entry.second, g->lanes.at(joined[i]))) joined.push_back(entry.first);
        }
    }
    return joined.size() == g->lanes.size();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    graph *g = stream->capture;
    *out = nullptr;
    if (!g || g->origin != stream) return answer(cudaErrorIllegalState);
    for (const auto &entry : g->lanes) entry.first->capture = nullptr;
    captures.erase(std::find(captures.begin(), captures.end(), g));
    const cudaError_t error = g->is_broken    ? cudaErrorStreamCaptureInvalidated
                              : !is_joined(g) ? cudaErrorStreamCaptureUnjoined
                                              : cudaSuccess;
    if (error)
        delete g;
    else
        *out = (cudaGraph_t) new std::shared_ptr<graph>(g);
    return answer(error);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long)
{
    *exec = (cudaGraphExec_t) new std::shared_ptr<graph>(*(std::shared_ptr<graph> *)g);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete (std::shared_ptr<graph> *)g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete (std::shared_ptr<graph> *)exec;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (is_capturing()) return refuse();
    const std::shared_ptr<graph> g = *(std::shared_ptr<graph> *)exec;
    graph_launches++;
    issue_work(stream, [=] { run_graph(g); });
    return cudaSuccess;
}
