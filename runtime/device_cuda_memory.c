// SPDX-License-Identifier: Apache-2.0
//
// Device memory, and weights on their way into it.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "kernels/kernels.h"
#include "runtime/device_cuda.h"

#define ALIGNMENT 256             // of cudaMalloc, and of what lies within a layer's memory
#define STAGED ((size_t)1 << 22)  // numbers that are converted at a time; whole MX blocks
#define SMALL ((size_t)1 << 20)   // what is still allocated when the budget is exceeded
#define GIB ((double)((size_t)1 << 30))

// ---- Allocation.

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// What --low-vram would need of what is there: two of the largest groups in place of all.
static uint64_t streamed_bytes(const oct_cuda_device *d, uint64_t bytes)
{
    uint64_t all = 0, largest = 0;

    for (size_t i = 0; i < d->n_groups; i++) {
        all += d->groups[i].bytes;
        if (d->groups[i].bytes > largest) largest = d->groups[i].bytes;
    }
    return bytes - all + 2 * largest;
}

static oct_status refuse(const oct_cuda_device *d, size_t bytes, const char *what, oct_err *err)
{
    const uint64_t needed = d->bytes + d->wanted + bytes;
    const uint64_t streamed = streamed_bytes(d, needed);
    const char *limit = d->is_budget_given ? "--vram allows" : "free are";

    if (!d->is_low_vram && streamed < needed) {
        return oct_fail(err, OCT_ENOMEM,
                        "out of memory for %s: %.3g GiB are needed on the GPU, %s %.3g GiB; "
                        "--low-vram would need %.3g GiB",
                        what, (double)needed / GIB, limit, (double)d->budget / GIB,
                        (double)streamed / GIB);
    }
    return oct_fail(err, OCT_ENOMEM,
                    "out of memory for %s: %.3g GiB are needed on the GPU, %s %.3g GiB", what,
                    (double)needed / GIB, limit, (double)d->budget / GIB);
}

static void remember(oct_cuda_device *d, oct_cuda_piece piece)
{
    if (d->n_pieces == d->pieces_room) {
        d->pieces_room = d->pieces_room ? 2 * d->pieces_room : 64;
        d->pieces = realloc(d->pieces, d->pieces_room * sizeof *d->pieces);
        if (!d->pieces) abort();
    }
    d->pieces[d->n_pieces++] = piece;
    d->bytes += piece.bytes;
    if (d->bytes > d->device.peak_bytes) d->device.peak_bytes = d->bytes;
}

static bool fits(const oct_cuda_device *d, size_t bytes)
{
    return bytes <= d->budget && d->bytes <= d->budget - bytes;
}

oct_status oct_cuda_alloc(oct_cuda_device *d, void **p, size_t bytes, const char *what,
                          oct_err *err)
{
    const oct_cuda_piece piece = {.bytes = round_up(bytes > 0 ? bytes : 1)};
    const bool is_over = d->wanted > 0 || !fits(d, piece.bytes);

    *p = NULL;
    if (bytes > SIZE_MAX - ALIGNMENT || (is_over && (d->wanted == 0 || bytes > SMALL)))
        return refuse(d, bytes, what, err);
    if (cudaMalloc(p, piece.bytes)) {
        cudaGetLastError();  // said here, and nowhere else
        return refuse(d, bytes, what, err);
    }
    remember(d, (oct_cuda_piece){.data = *p, .bytes = piece.bytes});
    return OCT_OK;
}

void oct_cuda_free(oct_cuda_device *d, void *p)
{
    for (size_t i = 0; p && i < d->n_pieces; i++) {
        if (d->pieces[i].data != p) continue;
        d->bytes -= d->pieces[i].bytes;
        d->pieces[i] = d->pieces[--d->n_pieces];
        oct_cuda_keep(d, cudaFree(p), "release of memory");
        return;
    }
    assert(!p);
}

void *oct_cuda_reserve(oct_cuda_device *d, oct_cuda_room *room, size_t bytes, const char *what)
{
    oct_err err;

    if (bytes <= room->bytes) return room->data;
    if (d->is_capturing) {
        const oct_status st = oct_fail(&err, OCT_EDEVICE, "memory grew after the first run");
        oct_cuda_keep_status(d, st, &err, what);
        return NULL;
    }
    oct_cuda_forget(&d->device);
    oct_cuda_free(d, room->data);
    *room = (oct_cuda_room){0};
    const oct_status st = oct_cuda_alloc(d, &room->data, bytes, what, &err);
    if (st) {
        oct_cuda_keep_status(d, st, &err, NULL);
        return NULL;
    }
    room->bytes = bytes;
    return room->data;
}

// ---- Uploads: on the main stream, in the type in which the device wants them.

// n numbers, or codes with their scales per MX block, of the host.
typedef struct numbers {
    oct_dtype dtype;
    const void *data;
    const uint8_t *block_scales;
    size_t n;
} numbers;

static size_t element_bytes(oct_dtype dtype)
{
    return oct_dtype_bits(dtype) / 8;
}

static void copy_up(oct_cuda_device *d, void *to, const void *from, size_t bytes)
{
    oct_cuda_keep(
        d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, d->streams[OCT_STREAM_MAIN]),
        "copy to the device");
}

static void convert_staged(oct_cuda_device *d, void *to, oct_dtype dtype, const numbers *staged)
{
    const cudaStream_t stream = d->streams[OCT_STREAM_MAIN];

    if (staged->dtype == OCT_F8_E4M3 || staged->dtype == OCT_F8_E5M2) {
        const oct_codes codes = {
            .q = staged->data,
            .dtype = staged->dtype,
            .block_scales = staged->block_scales,
            .n = staged->n,
        };
        oct_decode_cuda(to, dtype, &codes, stream);
        return;
    }
    const oct_sink sink = {.data = to, .dtype = dtype};
    oct_convert_cuda(sink, staged->dtype, staged->data, staged->n, stream);
}

// Bring numbers to the device as `dtype`: as they are, or converted there, a part at a time.
static void upload(oct_cuda_device *d, void *to, oct_dtype dtype, const numbers *from)
{
    const size_t size = element_bytes(from->dtype);
    const size_t part = from->n < STAGED ? from->n : STAGED;
    const size_t numbers_bytes = round_up(part * size);

    if (dtype == from->dtype && !from->block_scales) {
        copy_up(d, to, from->data, from->n * size);
        return;
    }
    uint8_t *staging =
        oct_cuda_reserve(d, &d->staging, numbers_bytes + part / OCT_MX_BLOCK, "weights");
    uint8_t *scales = staging + numbers_bytes;
    for (size_t at = 0; staging && at < from->n; at += STAGED) {
        const size_t n = from->n - at < STAGED ? from->n - at : STAGED;
        copy_up(d, staging, (const uint8_t *)from->data + at * size, n * size);
        if (from->block_scales) {
            copy_up(d, scales, from->block_scales + at / OCT_MX_BLOCK, n / OCT_MX_BLOCK);
        }
        convert_staged(d, (uint8_t *)to + at * element_bytes(dtype), dtype,
                       &(numbers){
                           .dtype = from->dtype,
                           .data = staging,
                           .block_scales = from->block_scales ? scales : NULL,
                           .n = n,
                       });
    }
    oct_cuda_keep_launch(d, "conversion of weights");
}

// ---- Layers.

static void note_decoding(oct_cuda_device *d, const oct_linear *linear)
{
    if (d->has_noted_decoding) return;
    d->has_noted_decoding = true;
    oct_note("weights in %s, as of '%s', are decoded to 16 bits on the GPU",
             linear->block_scales ? "MXFP8" : "E5M2", linear->name);
}

// The type in which the weight lies on the device.
static oct_dtype choose_dtype(const oct_cuda_device *d, const oct_linear *linear,
                              oct_precision precision)
{
    if (linear->dtype == OCT_F8_E5M2 || linear->block_scales) return d->device.activation;
    if (linear->dtype == OCT_F8_E4M3 || precision == OCT_PRECISION_F32) return linear->dtype;
    return d->device.activation;
}

static oct_dtype choose_input(const oct_cuda_device *d, const oct_linear *linear, oct_dtype weight,
                              oct_precision precision)
{
    if (precision == OCT_PRECISION_F32) return OCT_F32;
    return weight == OCT_F8_E4M3 && linear->input_scale > 0 &&
                   oct_gemm_cuda_has_fp8(d->gemm, linear->out, linear->in)
               ? OCT_F8_E4M3
               : d->device.activation;
}

static size_t place(oct_cuda_layer *layer, size_t bytes)
{
    const size_t at = layer->bytes;
    layer->bytes += round_up(bytes);
    return at;
}

static void lay_out(oct_cuda_layer *layer, const oct_linear *linear)
{
    place(layer, linear->out * linear->in * element_bytes(layer->dtype));
    if (linear->bias) {
        layer->bias_f32 = place(layer, linear->out * sizeof(float));
        layer->bias = place(layer, linear->out * sizeof(uint16_t));
    }
    if (linear->row_scales) layer->row_scales = place(layer, linear->out * sizeof(float));
}

// Scales per row as one scale and rows of at most 1, so that a 16-bit product overflows no sooner.
static void split_row_scales(oct_cuda_layer *layer, oct_linear *linear)
{
    float largest = 0;

    for (size_t i = 0; i < linear->out; i++)
        if (linear->row_scales[i] > largest) largest = linear->row_scales[i];
    for (size_t i = 0; i < linear->out; i++) linear->row_scales[i] /= largest;
    layer->scale *= largest;
}

static void fill(oct_cuda_device *d, oct_cuda_layer *layer, oct_linear *linear, uint8_t *data)
{
    const numbers bias = {.dtype = OCT_F32, .data = linear->bias, .n = linear->out};

    upload(d, data, layer->dtype,
           &(numbers){
               .dtype = linear->dtype,
               .data = linear->weight,
               .block_scales = linear->block_scales,
               .n = linear->out * linear->in,
           });
    if (linear->bias) {
        upload(d, data + layer->bias_f32, OCT_F32, &bias);
        upload(d, data + layer->bias, d->device.activation, &bias);
    }
    if (linear->row_scales)
        copy_up(d, data + layer->row_scales, linear->row_scales, linear->out * sizeof(float));
}

static oct_status take_error(oct_cuda_device *d, oct_err *err)
{
    const oct_status st = d->status;
    if (st && err) *err = d->error;
    d->status = OCT_OK;
    return st;
}

static oct_status adopt_scales(oct_cuda_device *d, oct_cuda_layer *layer, const oct_linear *linear,
                               oct_err *err)
{
    const float scales[2] = {linear->input_scale, layer->scale};

    if (layer->dtype != OCT_F8_E4M3) return OCT_OK;
    void *p = NULL;
    const oct_status st = oct_cuda_alloc(d, &p, sizeof scales, linear->name, err);
    if (st) return st;
    layer->scales = p;
    copy_up(d, p, scales, sizeof scales);
    return take_error(d, err);
}

// Room is taken even where there is none left, so that the message can say how much is needed once
// everything has been asked for: by the next large allocation, or when the layer is used.
static oct_status adopt_resident(oct_cuda_device *d, oct_cuda_layer *layer, oct_linear *linear,
                                 oct_err *err)
{
    if (d->wanted > 0 || !fits(d, layer->bytes)) {
        d->wanted += layer->bytes;
        layer->is_missing = true;
        return OCT_OK;
    }
    void *p = NULL;
    const oct_status st = oct_cuda_alloc(d, &p, layer->bytes, linear->name, err);
    if (st) return st;
    layer->data = p;
    fill(d, layer, linear, layer->data);
    return take_error(d, err);
}

// By way of the device, which converts.
static oct_status adopt_streamed(oct_cuda_device *d, oct_cuda_layer *layer, oct_linear *linear,
                                 oct_err *err)
{
    const cudaStream_t stream = d->streams[OCT_STREAM_MAIN];
    void *p = NULL;

    if (cudaHostAlloc(&p, layer->bytes, cudaHostAllocDefault)) {
        cudaGetLastError();
        return oct_fail(err, OCT_ENOMEM, "out of pinned memory for '%s'", linear->name);
    }
    layer->pinned = p;
    oct_status st = oct_cuda_alloc(d, &p, layer->bytes, linear->name, err);
    if (st) return st;
    fill(d, layer, linear, p);
    oct_cuda_keep(d,
                  cudaMemcpyAsync(layer->pinned, p, layer->bytes, cudaMemcpyDeviceToHost, stream),
                  "copy of weights");
    oct_cuda_keep(d, cudaStreamSynchronize(stream), "copy of weights");
    oct_cuda_free(d, p);
    return take_error(d, err);
}

static void enlist(oct_cuda_device *d, oct_cuda_layer *layer)
{
    const size_t group = (size_t)layer->group;

    if (layer->group < 0) return;
    if (group >= d->n_groups) {
        d->groups = realloc(d->groups, (group + 1) * sizeof *d->groups);
        if (!d->groups) abort();
        for (; d->n_groups <= group; d->n_groups++)
            d->groups[d->n_groups] = (oct_cuda_group){.successor = (int)d->n_groups + 1};
    }
    layer->at = d->groups[group].bytes;
    layer->next = d->groups[group].layers;
    d->groups[group].layers = layer;
    d->groups[group].bytes += layer->bytes;
}

// Slots that hold the group hold it no longer.
static void delist(oct_cuda_device *d, const oct_cuda_layer *layer)
{
    if (layer->group < 0) return;
    oct_cuda_group *group = &d->groups[layer->group];
    for (oct_cuda_layer **at = &group->layers; *at; at = &(*at)->next) {
        if (*at != layer) continue;
        *at = layer->next;
        break;
    }
    if (!group->layers) group->bytes = 0;
    for (int i = 0; i < 2; i++)
        if (d->slots[i].group == layer->group) d->slots[i].group = -1;
}

static void free_layer(oct_cuda_device *d, oct_cuda_layer *layer)
{
    delist(d, layer);
    if (layer->is_missing) d->wanted -= layer->bytes;
    oct_cuda_free(d, layer->data);
    oct_cuda_free(d, layer->scales);
    if (layer->pinned) oct_cuda_keep(d, cudaFreeHost(layer->pinned), "release of memory");
    free(layer);
}

oct_status oct_cuda_adopt(oct_device *device, oct_linear *linear, oct_precision precision,
                          int group, oct_err *err)
{
    oct_cuda_device *d = oct_cuda_of(device);
    assert(linear->weight && !linear->on_device);
    oct_cuda_layer *layer = calloc(1, sizeof *layer);
    if (!layer) abort();

    layer->dtype = choose_dtype(d, linear, precision);
    layer->input = choose_input(d, linear, layer->dtype, precision);
    layer->scale = linear->weight_scale;
    layer->group = group;
    if (layer->dtype != linear->dtype && (linear->dtype == OCT_F8_E5M2 || linear->block_scales)) {
        note_decoding(d, linear);
    }
    if (linear->row_scales) split_row_scales(layer, linear);
    lay_out(layer, linear);
    enlist(d, layer);
    oct_status st = d->is_low_vram && group >= 0 ? adopt_streamed(d, layer, linear, err)
                                                 : adopt_resident(d, layer, linear, err);
    if (!st) st = adopt_scales(d, layer, linear, err);
    if (st) {
        free_layer(d, layer);
        return st;
    }
    linear->on_device = layer;
    oct_linear_free_weights(linear);
    return OCT_OK;
}

void oct_cuda_drop(oct_device *device, oct_linear *linear)
{
    if (linear->on_device) free_layer(oct_cuda_of(device), linear->on_device);
    linear->on_device = NULL;
    oct_linear_free_weights(linear);
}

const uint8_t *oct_cuda_layer_data(oct_cuda_device *d, const oct_linear *linear)
{
    const oct_cuda_layer *layer = linear->on_device;
    oct_err err;

    assert(layer);
    if (layer->data) return layer->data;
    if (layer->pinned) {
        if (d->status) return NULL;  // enter_group() has failed
        assert(d->active >= 0 && d->slots[d->active].group == layer->group);
        return d->slots[d->active].data + layer->at;
    }
    const oct_status st = refuse(d, 0, linear->name, &err);
    oct_cuda_keep_status(d, st, &err, NULL);
    return NULL;
}

// ---- Convolutions: the weight, then the bias, in one piece.

oct_status oct_cuda_adopt_conv(oct_device *device, oct_conv *conv, oct_err *err)
{
    oct_cuda_device *d = oct_cuda_of(device);
    const size_t n = conv->out * conv->in * conv->kernel * conv->kernel;
    const size_t weight_bytes = round_up(n * sizeof(uint16_t));
    void *p = NULL;

    assert(conv->weight && !conv->on_device);
    oct_status st =
        oct_cuda_alloc(d, &p, weight_bytes + conv->out * sizeof(float), "convolutions", err);
    if (st) return st;
    oct_cuda_conv *adopted = calloc(1, sizeof *adopted);
    if (!adopted) abort();
    conv->on_device = adopted;
    adopted->weight = p;
    if (conv->bias) adopted->bias = (float *)((uint8_t *)p + weight_bytes);
    upload(d, p, device->activation,
           &(numbers){.dtype = conv->dtype, .data = conv->weight, .n = n});
    if (conv->bias) copy_up(d, adopted->bias, conv->bias, conv->out * sizeof *conv->bias);
    free(conv->weight);
    free(conv->bias);
    conv->weight = NULL;
    conv->bias = NULL;
    return take_error(d, err);
}

void oct_cuda_drop_conv(oct_device *device, oct_conv *conv)
{
    oct_cuda_conv *adopted = conv->on_device;

    if (adopted) oct_cuda_free(oct_cuda_of(device), adopted->weight);
    free(adopted);
    free(conv->weight);
    free(conv->bias);
    *conv = (oct_conv){0};
}

// ---- Streamed groups: while one is used, the next is copied into the other slot.

// Both slots with room for any group. The groups of another model may be larger.
static void prepare_slots(oct_cuda_device *d)
{
    size_t largest = 0;
    oct_err err;

    for (size_t i = 0; i < d->n_groups; i++)
        if (d->groups[i].bytes > largest) largest = d->groups[i].bytes;
    if (largest <= d->slot_bytes) return;
    for (int i = 0; i < 2; i++) {
        oct_cuda_slot *slot = &d->slots[i];
        void *p = NULL;
        oct_cuda_free(d, slot->data);
        const oct_status st = oct_cuda_alloc(d, &p, largest, "streamed weights", &err);
        if (st) oct_cuda_keep_status(d, st, &err, NULL);
        slot->data = p;
        slot->group = -1;
    }
    d->slot_bytes = d->slots[0].data && d->slots[1].data ? largest : 0;
}

// On the copying stream, when nobody uses the slot any more.
static void fetch(oct_cuda_device *d, oct_cuda_slot *slot, int group)
{
    for (int i = 0; i < OCT_COMPUTE_STREAMS; i++)
        oct_cuda_keep(d, cudaStreamWaitEvent(d->copies, slot->left[i], 0), "streaming of weights");
    for (const oct_cuda_layer *l = d->groups[group].layers; l; l = l->next) {
        oct_cuda_keep(d,
                      cudaMemcpyAsync(slot->data + l->at, l->pinned, l->bytes,
                                      cudaMemcpyHostToDevice, d->copies),
                      "streaming of weights");
    }
    oct_cuda_keep(d, cudaEventRecord(slot->loaded, d->copies), "streaming of weights");
    slot->group = group;
}

static void leave(oct_cuda_device *d)
{
    if (d->active < 0) return;
    for (int i = 0; i < OCT_COMPUTE_STREAMS; i++)
        oct_cuda_keep(d, cudaEventRecord(d->slots[d->active].left[i], d->streams[i]),
                      "streaming of weights");
}

static bool is_streamed(const oct_cuda_device *d, int group)
{
    return group >= 0 && (size_t)group < d->n_groups && d->groups[group].layers &&
           d->groups[group].layers->pinned;
}

// What follows `group`: what did so last time, the first group after the last.
static int find_successor(const oct_cuda_device *d, int group)
{
    const int next = d->groups[group].successor;
    if (is_streamed(d, next)) return next;
    return is_streamed(d, 0) ? 0 : group;
}

void oct_cuda_enter_group(oct_device *device, int group)
{
    oct_cuda_device *d = oct_cuda_of(device);

    if (!is_streamed(d, group)) return;
    prepare_slots(d);
    if (d->slot_bytes == 0) return;
    leave(d);
    const int before = d->active >= 0 ? d->slots[d->active].group : -1;
    if (before >= 0) d->groups[before].successor = group;
    if (before != group) d->active = d->active == 0 ? 1 : 0;
    oct_cuda_slot *slot = &d->slots[d->active];
    if (slot->group != group) fetch(d, slot, group);
    for (int i = 0; i < OCT_COMPUTE_STREAMS; i++)
        oct_cuda_keep(d, cudaStreamWaitEvent(d->streams[i], slot->loaded, 0),
                      "streaming of weights");

    const int next = find_successor(d, group);
    oct_cuda_slot *other = &d->slots[1 - d->active];
    if (next != group && other->group != next) fetch(d, other, next);
}

void oct_cuda_free_streaming(oct_cuda_device *d)
{
    for (int i = 0; i < 2; i++) oct_cuda_free(d, d->slots[i].data);
    free(d->groups);
}
