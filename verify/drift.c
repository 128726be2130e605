// SPDX-License-Identifier: Apache-2.0
//
// Drift against the source.
#include "verify/drift.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"
#include "common/progress.h"
#include "kernels/kernels.h"
#include "ptq/encoder.h"

// x / s is itself rounded to binary32 before it is rounded to FP8: 2^-24 relative, which half a
// step (2^-5 relative at least) can feel in its 19th bit.
#define BOUND_SLACK (1.0 + 0x1p-18)

#define CHUNK ((uint64_t)1 << 16)  // elements that a thread holds: a multiple of MX blocks

// ---- FP8 as tables.

typedef struct format {
    float max;
    double value[256];         // of a code; 0 for NaN and infinity, which the contract reports
    double inverse_half[256];  // 1 / half a step where x / s has this binary32 exponent
    uint8_t (*encode)(float);
} format;

// `bits` of mantissa; exponents of the smallest normal and of the largest number.
static void format_init(format *f, oct_dtype dtype)
{
    const bool is_e4m3 = dtype == OCT_F8_E4M3;
    const int bits = is_e4m3 ? 3 : 2, lowest = is_e4m3 ? -6 : -14, highest = is_e4m3 ? 8 : 15;
    f->max = is_e4m3 ? OCT_E4M3_MAX : OCT_E5M2_MAX;
    f->encode = is_e4m3 ? oct_f32_to_e4m3 : oct_f32_to_e5m2;
    for (int i = 0; i < 256; i++) {
        const double value =
            is_e4m3 ? (double)oct_e4m3_to_f32((uint8_t)i) : (double)oct_e5m2_to_f32((uint8_t)i);
        int exponent = i - 127;
        if (exponent < lowest) exponent = lowest;
        if (exponent > highest) exponent = highest;
        f->value[i] = isfinite(value) ? value : 0;
        f->inverse_half[i] = ldexp(2.0, bits - exponent);
    }
}

// ---- One chunk of an FP8 weight.

typedef struct sums {
    double signal, noise, error_max, of_bound;
    uint64_t underflow, saturated, differ, first;  // `first`: index in the tensor of what differs
    uint8_t is, should;
} sums;

typedef struct fp8_job {
    const oct_source_tensor *source, *codes;
    const format *format;
    const float *scales;  // one per `run` elements
    uint64_t n, run;
    sums *sums;  // [chunks]
} fp8_job;

typedef struct buffers {  // of one thread
    void *source;         // [CHUNK] stored elements, at most 4 bytes each
    float *values;        // [CHUNK]
    uint8_t *file;        // [CHUNK] codes
    uint8_t *codes;       // [CHUNK] what they should be
} buffers;

static oct_status buffers_init(buffers *b, oct_err *err)
{
    *b = (buffers){malloc(CHUNK * 4), malloc(CHUNK * sizeof *b->values), malloc(CHUNK * 4),
                   malloc(CHUNK)};
    if (b->source && b->values && b->file && b->codes) return OCT_OK;
    return oct_fail(err, OCT_ENOMEM, "out of memory for chunks of %" PRIu64 " elements", CHUNK);
}

static void buffers_deinit(buffers *b)
{
    free(b->source);
    free(b->values);
    free(b->file);
    free(b->codes);
}

// Elements [0, n) of a chunk under one scale.
static void measure(sums *s, const format *f, const float *x, const uint8_t *codes, uint64_t n,
                    float scale)
{
    double of_bound = 0;
    for (uint64_t i = 0; i < n; i++) {
        const float ratio = fabsf(x[i] / scale);
        const double error = fabs((double)x[i] - f->value[codes[i]] * (double)scale);
        s->signal += (double)x[i] * (double)x[i];
        s->noise += error * error;
        if (error > s->error_max) s->error_max = error;
        if (ratio > f->max) {
            s->saturated++;
        } else {
            const double steps = error * f->inverse_half[oct_f32_bits(ratio) >> 23];
            if (steps > of_bound) of_bound = steps;
        }
        s->underflow += x[i] != 0 && (codes[i] & 0x7f) == 0;
    }
    of_bound /= (double)scale;
    if (of_bound > s->of_bound) s->of_bound = of_bound;
}

static void encode(const fp8_job *job, const buffers *b, uint64_t at, uint64_t n, float scale)
{
    const size_t element = oct_dtype_bits(job->source->dtype) / 8;
    if (job->format->encode == oct_f32_to_e4m3) {
        oct_encode_e4m3(b->codes + at, job->source->dtype, (const char *)b->source + at * element,
                        n, scale);
        return;
    }
    for (uint64_t i = at; i < at + n; i++) b->codes[i] = job->format->encode(b->values[i] / scale);
}

static void find_difference(sums *s, const buffers *b, uint64_t from, uint64_t n)
{
    if (!memcmp(b->codes, b->file, n)) return;
    for (uint64_t i = 0; i < n; i++) {
        if (b->codes[i] == b->file[i] || s->differ++) continue;
        s->first = from + i;
        s->is = b->file[i];
        s->should = b->codes[i];
    }
}

static oct_status compare_chunk(const fp8_job *job, uint64_t chunk, buffers *b, oct_err *err)
{
    const uint64_t from = chunk * CHUNK, n = job->n - from < CHUNK ? job->n - from : CHUNK;
    const size_t element = oct_dtype_bits(job->source->dtype) / 8;
    sums *s = &job->sums[chunk];
    oct_status st = oct_source_read_range(job->source, from * element, n * element, b->source, err);
    if (!st) st = oct_source_read_range(job->codes, from, n, b->file, err);
    if (st) return st;
    oct_widen(b->values, job->source->dtype, b->source, n);
    for (uint64_t at = 0; at < n;) {
        const uint64_t rest = job->run - (from + at) % job->run;
        const uint64_t count = rest < n - at ? rest : n - at;
        const float scale = job->scales[(from + at) / job->run];
        encode(job, b, at, count, scale);
        measure(s, job->format, b->values + at, b->file + at, count, scale);
        at += count;
    }
    find_difference(s, b, from, n);
    return OCT_OK;
}

// ---- All chunks of a tensor, and what they give in their order.

typedef oct_status chunk_fn(const void *job, uint64_t chunk, buffers *b, oct_err *err);

static oct_status for_chunks(chunk_fn *work, const void *job, uint64_t n_chunks, oct_err *err)
{
    oct_status first = OCT_OK;
#pragma omp parallel if (n_chunks > 1)
    {
        oct_err mine = {{0}};
        buffers b = {0};
        oct_status st = buffers_init(&b, &mine);
#pragma omp for schedule(dynamic)
        for (uint64_t i = 0; i < n_chunks; i++) {
            if (!st) st = work(job, i, &b, &mine);
        }
        buffers_deinit(&b);
#pragma omp critical(oct_verify_drift)
        if (st && !first) {
            first = st;
            if (err) *err = mine;
        }
    }
    return first;
}

static oct_status do_fp8_chunk(const void *job, uint64_t chunk, buffers *b, oct_err *err)
{
    return compare_chunk(job, chunk, b, err);
}

static sums add_up(const sums *chunks, uint64_t n)
{
    sums all = {0};
    for (uint64_t i = 0; i < n; i++) {
        const sums *s = &chunks[i];
        all.signal += s->signal;
        all.noise += s->noise;
        all.error_max = fmax(all.error_max, s->error_max);
        all.of_bound = fmax(all.of_bound, s->of_bound);
        all.underflow += s->underflow;
        all.saturated += s->saturated;
        if (s->differ && !all.differ) {
            all.first = s->first;
            all.is = s->is;
            all.should = s->should;
        }
        all.differ += s->differ;
    }
    return all;
}

static void judge(const oct_drift_params *p, const oct_drift_layer *layer, const sums *all,
                  oct_findings *findings)
{
    if (all->differ) {
        oct_findings_add(findings,
                         "layer '%s': %" PRIu64 " codes are not the source's, the first at "
                         "index %" PRIu64 " (0x%02x, should be 0x%02x)",
                         layer->name, all->differ, all->first, all->is, all->should);
    }
    if (layer->error_max_of_bound > BOUND_SLACK) {
        oct_findings_add(findings, "layer '%s': an error of %.6g times half a step of FP8",
                         layer->name, layer->error_max_of_bound);
    }
    if (layer->sqnr_db < p->sqnr_db_min) {
        oct_findings_add(findings, "layer '%s': SQNR %.2f dB is below %.2f dB", layer->name,
                         layer->sqnr_db, p->sqnr_db_min);
    }
}

static void record(oct_drift *drift, const char *name, const sums *all, uint64_t n)
{
    oct_drift_layer *result = &drift->layers[drift->n_layers];
    *result = (oct_drift_layer){
        .name = name,
        .sqnr_db = all->noise > 0 ? 10 * log10(all->signal / all->noise) : INFINITY,
        .error_max = all->error_max,
        .error_max_of_bound = all->of_bound,
        .underflow_share = (double)all->underflow / (double)n,
        .saturated_share = (double)all->saturated / (double)n,
    };
    if (result->sqnr_db < drift->layers[drift->worst].sqnr_db) drift->worst = drift->n_layers;
    drift->n_layers++;
}

// ---- Scales.

// The scales that the plan gives, as floats; `*n` of them.
static void widen_scales(const oct_encoder *encoder, oct_granularity granularity, float *out,
                         uint64_t n)
{
    uint64_t bytes;
    const void *stored = oct_encoder_scales(encoder, &bytes);
    for (uint64_t i = 0; i < n; i++) {
        out[i] = granularity == OCT_PER_MX_BLOCK ? oct_e8m0_to_f32(((const uint8_t *)stored)[i])
                                                 : ((const float *)stored)[i];
    }
}

typedef struct range_job {
    oct_encoder *encoder;
    const oct_source_tensor *source;
    uint64_t n, chunk;  // elements: of the tensor, of a chunk
} range_job;

// A whole number of grains of about CHUNK elements may not fit the buffers: its own memory.
static oct_status scan_range(const void *argument, uint64_t index, buffers *b, oct_err *err)
{
    const range_job *job = argument;
    const size_t element = oct_dtype_bits(job->source->dtype) / 8;
    const uint64_t from = index * job->chunk;
    const uint64_t n = job->n - from < job->chunk ? job->n - from : job->chunk;
    void *x = n <= CHUNK ? b->source : malloc(n * element);
    if (!x) return oct_fail(err, OCT_ENOMEM, "out of memory for %" PRIu64 " elements", n);
    const oct_status st = oct_source_read_range(job->source, from * element, n * element, x, err);
    if (!st) oct_encoder_scan(job->encoder, x, from, n);
    if (x != b->source) free(x);
    return st;
}

static oct_status settle(oct_encoder *encoder, const oct_source_tensor *source, oct_err *err)
{
    void *whole = NULL;
    oct_status st = OCT_OK;
    if (oct_encoder_is_rereading(encoder)) {
        whole = malloc(source->bytes);
        st = whole ? oct_source_read(source, whole, err)
                   : oct_fail(err, OCT_ENOMEM, "out of memory for tensor '%s' of %" PRIu64 " bytes",
                              source->name, source->bytes);
    }
    if (!st) st = oct_encoder_settle(encoder, whole, err);
    free(whole);
    return st;
}

// `n` scales of the file against `m` of the plan: parts repeat the plan's one.
static void compare_scales(const oct_layer *layer, const float *is, uint64_t n, const float *should,
                           uint64_t m, oct_findings *findings)
{
    uint64_t differ = 0, first = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (oct_f32_bits(is[i]) != oct_f32_bits(should[i * m / n]) && !differ++) first = i;
    }
    if (differ && n == 1) {
        oct_findings_add(findings, "layer '%s': weight scale is %.9g, but the source gives %.9g",
                         layer->name, (double)is[0], (double)should[0]);
    } else if (differ) {
        oct_findings_add(findings,
                         "layer '%s': %" PRIu64 " of %" PRIu64 " weight scales are not the "
                         "source's, the first at index %" PRIu64 " (%.9g, should be %.9g)",
                         layer->name, differ, n, first, (double)is[first],
                         (double)should[first * m / n]);
    }
}

static const oct_decision *find_decision(const oct_drift_params *p, const char *layer)
{
    if (!p->plan || p->plan->params.has_unit_scales) return NULL;
    const oct_layer *planned = oct_denoiser_find(p->plan->denoiser, layer);
    const oct_decision *decision = planned ? oct_plan_find(p->plan, planned) : NULL;
    return decision && decision->weights != OCT_WEIGHTS_KEEP ? decision : NULL;
}

// The plan's scales for a weight of the source, from the beginning, against the file's.
static oct_status check_scales(const oct_drift_params *p, const oct_layer *layer,
                               const oct_stored_layer *stored, const oct_source_tensor *source,
                               const float *scales, oct_findings *findings, oct_err *err)
{
    const oct_decision *decision = find_decision(p, layer->name);
    if (!decision || decision->granularity != stored->whole.granularity) {
        return OCT_OK;  // the contract has said so
    }
    uint64_t run;
    const uint64_t n = oct_stored_layer_scales(stored, layer, &run);
    const uint64_t m = decision->granularity == OCT_PER_TENSOR ? 1 : n;
    range_job job = {.source = source, .n = layer->weight->bytes};
    float *should = malloc(m * sizeof *should);
    oct_status st = should ? oct_encoder_begin(&job.encoder, p->plan, decision, err)
                           : oct_fail(err, OCT_ENOMEM, "out of memory for scales");
    if (st) goto out;
    const uint64_t grain = oct_encoder_grain(job.encoder);
    job.chunk = grain < CHUNK ? CHUNK / grain * grain : grain;
    st = for_chunks(scan_range, &job, (job.n + job.chunk - 1) / job.chunk, err);
    if (!st) st = settle(job.encoder, source, err);
    if (st) goto out;
    widen_scales(job.encoder, decision->granularity, should, m);
    compare_scales(layer, scales, n, should, m, findings);

out:
    oct_encoder_end(job.encoder);
    free(should);
    return st;
}

// ---- One tensor.

static oct_status compare_fp8(const oct_drift_params *p, const oct_layer *layer,
                              const oct_stored_layer *stored, const oct_source_tensor *source,
                              oct_drift *drift, oct_findings *findings, oct_err *err)
{
    format f;
    fp8_job job = {
        .source = source, .codes = layer->weight, .format = &f, .n = layer->weight->bytes};
    const uint64_t n_chunks = (job.n + CHUNK - 1) / CHUNK;
    const uint64_t n_scales = oct_stored_layer_scales(stored, layer, &job.run);
    float *scales = malloc(n_scales * sizeof *scales);
    job.sums = calloc(n_chunks, sizeof *job.sums);
    job.scales = scales;
    format_init(&f, layer->weight->dtype);
    oct_status st = job.sums && scales ? oct_stored_layer_read_scales(stored, layer, scales, NULL)
                                       : oct_fail(err, OCT_ENOMEM,
                                                  "out of memory for scales of '%s'", layer->name);
    if (st == OCT_EFORMAT) {
        st = OCT_OK;  // the contract has said so
        goto out;
    }
    if (!st) st = check_scales(p, layer, stored, source, scales, findings, err);
    if (!st) st = for_chunks(do_fp8_chunk, &job, n_chunks, err);
    if (st) goto out;
    const sums all = add_up(job.sums, n_chunks);
    record(drift, layer->name, &all, job.n);
    judge(p, &drift->layers[drift->n_layers - 1], &all, findings);

out:
    free(scales);
    free(job.sums);
    return st;
}

typedef struct copy_job {
    const oct_source_tensor *file, *source;
    uint64_t *first;  // the lowest byte that differs so far, or UINT64_MAX
} copy_job;

static oct_status compare_bytes(const void *argument, uint64_t chunk, buffers *b, oct_err *err)
{
    const copy_job *job = argument;
    const uint64_t size = CHUNK * 4, from = chunk * size;
    const uint64_t n = job->file->bytes - from < size ? job->file->bytes - from : size;
    const uint8_t *should = b->source;
    oct_status st = oct_source_read_range(job->source, from, n, b->source, err);
    if (!st) st = oct_source_read_range(job->file, from, n, b->file, err);
    if (st || !memcmp(should, b->file, n)) return st;
    uint64_t at = 0;
    while (b->file[at] == should[at]) at++;
#pragma omp critical(oct_verify_drift_first)
    if (from + at < *job->first) *job->first = from + at;
    return OCT_OK;
}

static oct_status compare_copy(const oct_source_tensor *file, const oct_source_tensor *source,
                               oct_drift *drift, oct_findings *findings, oct_err *err)
{
    uint64_t first = UINT64_MAX;
    const copy_job job = {file, source, &first};
    const oct_status st =
        for_chunks(compare_bytes, &job, (file->bytes + CHUNK * 4 - 1) / (CHUNK * 4), err);
    if (st) return st;
    drift->n_copied += first == UINT64_MAX;
    if (first != UINT64_MAX) {
        oct_findings_add(findings, "tensor '%s' differs from the source at byte %" PRIu64,
                         file->name, first);
    }
    return OCT_OK;
}

static const oct_layer *layer_of(const oct_denoiser *denoiser, const oct_source_tensor *tensor)
{
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        if (denoiser->layers[i].weight == tensor) return &denoiser->layers[i];
    }
    return NULL;
}

// Scales and markers have no counterpart in a 16-bit source.
static bool belongs_to_dialect(const char *name)
{
    static const char *const ends[] = {"weight_scale", "input_scale", "comfy_quant",
                                       "scale_weight", "scale_input", "scaled_fp8"};
    const char *dot = strrchr(name, '.');
    const char *last = dot ? dot + 1 : name;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (!strcmp(last, ends[i])) return true;
    }
    return false;
}

// Codes were copied: their scales must have been, however either file spells them.
static oct_status compare_respelled(const oct_drift_params *p, const oct_layer *layer,
                                    oct_findings *findings, oct_err *err)
{
    oct_stored_layer is = {0}, should = {0};
    uint64_t run;
    const oct_layer *from = oct_denoiser_find(p->source_denoiser, layer->name);
    if (!from || oct_stored_layer_read(&should, p->source, p->source_dialects, from, NULL) ||
        oct_stored_layer_read(&is, p->file, p->dialects, layer, NULL)) {
        return OCT_OK;  // what is wrong with the file the contract says
    }
    const uint64_t n = oct_stored_layer_scales(&is, layer, &run);
    const uint64_t m = oct_stored_layer_scales(&should, from, &run);
    float *a = malloc(n * sizeof *a), *b = malloc(m * sizeof *b);
    oct_status st = OCT_OK;
    if (!a || !b) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for scales of '%s'", layer->name);
    } else if (!oct_stored_layer_read_scales(&is, layer, a, NULL) &&
               !oct_stored_layer_read_scales(&should, from, b, NULL)) {
        compare_scales(layer, a, n, b, m, findings);
    }
    if (is.whole.input_scale != should.whole.input_scale) {
        oct_findings_add(findings, "layer '%s': input scale is %.9g, but %.9g in the source",
                         layer->name, (double)is.whole.input_scale,
                         (double)should.whole.input_scale);
    }
    free(a);
    free(b);
    return st;
}

static bool is_same_shape(const oct_source_tensor *a, const oct_source_tensor *b)
{
    return a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

static oct_status compare(const oct_drift_params *p, const oct_source_tensor *tensor,
                          oct_drift *drift, oct_findings *findings, oct_err *err)
{
    const oct_source_tensor *source = oct_source_find(p->source, tensor->component, tensor->name);
    if (!source) {
        if (!belongs_to_dialect(tensor->name)) {
            oct_findings_add(findings, "tensor '%s' is not in the source", tensor->name);
        }
        return OCT_OK;
    }
    if (!is_same_shape(tensor, source)) {
        oct_findings_add(findings, "tensor '%s' has another shape than in the source",
                         tensor->name);
        return OCT_OK;
    }
    const oct_layer *layer = layer_of(p->denoiser, tensor);
    if (tensor->dtype == source->dtype) {
        const bool is_fp8 = tensor->dtype == OCT_F8_E4M3 || tensor->dtype == OCT_F8_E5M2;
        const oct_status st = compare_copy(tensor, source, drift, findings, err);
        return st || !is_fp8 || !layer ? st : compare_respelled(p, layer, findings, err);
    }
    if (source->dtype != OCT_F32 && !oct_dtype_is_float16(source->dtype)) {
        oct_findings_add(findings, "tensor '%s' is %s in the source, which is not 16-bit",
                         tensor->name, oct_dtype_name(source->dtype));
        return OCT_OK;
    }
    oct_stored_layer stored = {0};
    if (!layer || oct_stored_layer_read(&stored, p->file, p->dialects, layer, NULL) ||
        !stored.whole.is_fp8) {
        if (!layer) {
            oct_findings_add(findings, "tensor '%s' is %s, but %s in the source", tensor->name,
                             oct_dtype_name(tensor->dtype), oct_dtype_name(source->dtype));
        }
        return OCT_OK;  // the contract has named a broken layer already
    }
    return compare_fp8(p, layer, &stored, source, drift, findings, err);
}

oct_status oct_drift_measure(oct_drift *drift, const oct_drift_params *params,
                             oct_findings *findings, oct_err *err)
{
    oct_progress progress;
    uint64_t bytes = 0;
    *drift = (oct_drift){0};
    drift->layers =
        oct_arena_array(&drift->arena, params->denoiser->n_layers + 1, sizeof *drift->layers);
    for (size_t i = 0; i < params->file->n_tensors; i++) bytes += params->file->tensors[i].bytes;
    oct_progress_begin(&progress, "comparing", bytes, "B");
    oct_status st = OCT_OK;
    for (size_t i = 0; i < params->file->n_tensors && !st; i++) {
        st = compare(params, &params->file->tensors[i], drift, findings, err);
        oct_progress_add(&progress, params->file->tensors[i].bytes);
    }
    oct_progress_end(&progress);
    return st;
}

void oct_drift_deinit(oct_drift *drift)
{
    oct_arena_deinit(&drift->arena);
    *drift = (oct_drift){0};
}
