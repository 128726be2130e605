// SPDX-License-Identifier: Apache-2.0
//
// Observers on a GPU: what layers' inputs were is kept on the device until the host gathers it.
//
// Peaks are raised by whoever writes an operand, before it is rounded; counts and squares are of
// what the layer reads.
#include <assert.h>
#include <stdlib.h>

#include "common/number.h"
#include "runtime/device_cuda.h"

#define INFINITY_BITS 0x7f800000u

// ---- Where numbers are kept.

static size_t peaks_bytes(const oct_cuda_observed *o)
{
    return o->n_layers * 2 * (o->n_steps + 1) * sizeof *o->peaks;
}

static size_t counts_bytes(const oct_cuda_observed *o)
{
    return o->n_layers * OCT_EXPONENT_BINS * sizeof *o->counts;
}

static size_t squares_bytes(const oct_cuda_observed *o)
{
    return o->first_channel[o->n_layers] * sizeof *o->squares;
}

// All 0. NULL: there is no memory, which is kept.
static void *new_zeros(oct_cuda_device *d, size_t bytes)
{
    void *p = NULL;
    oct_err err;

    const oct_status st = oct_cuda_alloc(d, &p, bytes, "observers", &err);
    if (st) {
        oct_cuda_keep_status(d, st, &err, NULL);
        return NULL;
    }
    oct_cuda_keep(d, cudaMemsetAsync(p, 0, bytes, oct_cuda_stream(d)), "observers");
    return p;
}

static void *new_array(size_t count, size_t bytes)
{
    void *array = calloc(count, bytes);
    if (!array) abort();
    return array;
}

void oct_cuda_end_observed(oct_cuda_device *d)
{
    oct_cuda_free(d, d->observed.peaks);
    oct_cuda_free(d, d->observed.counts);
    oct_cuda_free(d, d->observed.squares);
    free(d->observed.cols);
    free(d->observed.first_channel);
    d->observed = (oct_cuda_observed){0};
}

static bool is_for(const oct_cuda_observed *o, const oct_observer *observer)
{
    return o->observer == observer && o->n_layers == observer->n_layers &&
           o->n_steps == observer->n_steps && !o->squares == !observer->channels;
}

static bool prepare(oct_cuda_device *d)
{
    const oct_observer *observer = d->device.observer;
    oct_cuda_observed *o = &d->observed;

    if (is_for(o, observer)) return true;
    oct_cuda_end_observed(d);
    o->n_layers = observer->n_layers;
    o->n_steps = observer->n_steps;
    o->cols = new_array(o->n_layers, sizeof *o->cols);
    o->first_channel = new_array(o->n_layers + 1, sizeof *o->first_channel);
    for (size_t i = 0; observer->channels && i < o->n_layers; i++) {
        o->first_channel[i + 1] = o->first_channel[i] + observer->channels[i].n;
    }
    o->peaks = new_zeros(d, peaks_bytes(o));
    o->counts = new_zeros(d, counts_bytes(o));
    if (observer->channels) o->squares = new_zeros(d, squares_bytes(o));
    if (!o->peaks || !o->counts || (observer->channels && !o->squares)) return false;
    o->observer = observer;
    return true;
}

// ---- Peaks.

uint32_t *oct_cuda_find_peak(oct_cuda_device *d, const oct_linear *linear)
{
    const oct_observer *observer = d->device.observer;

    if (!observer || linear->layer < 0 || !prepare(d)) return NULL;
    const size_t layer = (size_t)linear->layer, branch = (size_t)observer->branch;
    const size_t step = observer->step == -2   ? observer->n_steps
                        : observer->step == -1 ? 0
                                               : (size_t)observer->step;
    d->observed.cols[layer] = linear->in;
    return d->observed.peaks + (layer * 2 + branch) * (observer->n_steps + 1) + step;
}

// Whether every row has a peak of its own.
static bool is_observed_by_row(const oct_cuda_device *d, oct_operand y)
{
    return y.peak && d->device.observer && d->device.observer->step == -1;
}

oct_sink oct_cuda_begin_sink(oct_cuda_device *d, oct_operand y, size_t n)
{
    if (is_observed_by_row(d, y)) {
        void *wide = oct_cuda_reserve(d, &d->by_row[d->current], n * sizeof(float), "observers");
        return (oct_sink){.data = wide, .dtype = OCT_F32};
    }
    return (oct_sink){.data = y.data, .dtype = y.dtype, .scale = y.scale, .peak = y.peak};
}

void oct_cuda_end_sink(oct_cuda_device *d, oct_operand y, oct_sink sink, size_t n,
                       const char *operation)
{
    const cudaStream_t stream = oct_cuda_stream(d);

    if (is_observed_by_row(d, y) && sink.data) {
        const oct_cuda_observed *o = &d->observed;
        const size_t cols = o->cols[(size_t)(y.peak - o->peaks) / (2 * (o->n_steps + 1))];
        assert(n % cols == 0 && n / cols <= o->n_steps);
        oct_observe_cuda(y.peak, false, OCT_F32, sink.data, n / cols, cols, stream);
        const oct_sink to = {.data = y.data, .dtype = y.dtype, .scale = y.scale};
        oct_convert_cuda(to, OCT_F32, sink.data, n, stream);
    }
    oct_cuda_keep_launch(d, operation);
}

// ---- Counts and squares.

static void add_squares(oct_cuda_device *d, size_t layer, oct_operand x, size_t rows, size_t cols)
{
    oct_channels *channels = &d->device.observer->channels[layer];
    const size_t bytes = oct_square_sums_cuda_bytes(rows, cols);

    assert(channels->n == cols);
    void *workspace = oct_cuda_reserve(d, &d->workspace[d->current], bytes, "observers");
    if (!workspace) return;
    oct_square_sums_cuda(d->observed.squares + d->observed.first_channel[layer], x.dtype, x.data,
                         rows, cols, workspace, oct_cuda_stream(d));
    channels->rows += rows;
}

void oct_cuda_observe_input(oct_cuda_device *d, const oct_linear *linear, oct_operand x,
                            size_t rows)
{
    const size_t layer = (size_t)linear->layer;

    if (!x.peak || x.dtype == OCT_F8_E4M3) return;
    oct_count_exponents_cuda(d->observed.counts + layer * OCT_EXPONENT_BINS, x.dtype, x.data,
                             rows * linear->in, oct_cuda_stream(d));
    if (d->observed.squares) add_squares(d, layer, x, rows, linear->in);
    oct_cuda_keep_launch(d, "observers");
}

// ---- To the host.

static void raise_to(float *amax, uint32_t bits)
{
    const float value = oct_f32_from_bits(bits < INFINITY_BITS ? bits : INFINITY_BITS);
    if (value > *amax) *amax = value;
}

static void gather_peaks(oct_observer *observer, const uint32_t *peaks)
{
    const size_t n_steps = observer->n_steps;

    for (size_t row = 0; row < 2 * observer->n_layers; row++) {
        const uint32_t *from = peaks + row * (n_steps + 1);
        float *to = observer->amax + row * n_steps;
        for (size_t step = 0; step < n_steps; step++) {
            raise_to(&to[step], from[step]);
            raise_to(&to[step], from[n_steps]);
        }
    }
}

static void gather_counts(oct_observer *observer, const uint64_t *counts)
{
    for (size_t i = 0; i < observer->n_layers; i++) {
        for (size_t bin = 0; bin < OCT_EXPONENT_BINS; bin++) {
            observer->exponents[i].counts[bin] += counts[i * OCT_EXPONENT_BINS + bin];
        }
    }
}

static void gather_squares(oct_observer *observer, const double *squares)
{
    for (size_t i = 0; i < observer->n_layers; i++) {
        const oct_channels *channels = &observer->channels[i];
        for (size_t c = 0; c < channels->n; c++) oct_energy_add(&channels->sums[c], *squares++);
    }
}

// From the device, where zeros are left. NULL: an error is kept.
static void *take(oct_cuda_device *d, void *from, size_t bytes)
{
    const cudaStream_t stream = d->streams[OCT_STREAM_MAIN];
    void *taken = new_array(1, bytes);

    cudaError_t error = cudaMemcpyAsync(taken, from, bytes, cudaMemcpyDeviceToHost, stream);
    if (!error) error = cudaStreamSynchronize(stream);
    if (!error) error = cudaMemsetAsync(from, 0, bytes, stream);
    oct_cuda_keep(d, error, "observers");
    if (!error) return taken;
    free(taken);
    return NULL;
}

void oct_cuda_gather_observed(oct_cuda_device *d)
{
    oct_observer *observer = d->device.observer;
    const oct_cuda_observed *o = &d->observed;

    if (!observer || !is_for(o, observer)) return;
    uint32_t *peaks = take(d, o->peaks, peaks_bytes(o));
    uint64_t *counts = take(d, o->counts, counts_bytes(o));
    double *squares = o->squares ? take(d, o->squares, squares_bytes(o)) : NULL;
    if (peaks) gather_peaks(observer, peaks);
    if (counts) gather_counts(observer, counts);
    if (squares) gather_squares(observer, squares);
    free(peaks);
    free(counts);
    free(squares);
}
