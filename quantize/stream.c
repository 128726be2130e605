// SPDX-License-Identifier: Apache-2.0
//
// Tensors from a source to an output, on all threads.
#include "quantize/stream.h"

#include <assert.h>
#include <inttypes.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ptq/encoder.h"

#define CHUNK OCT_DIGEST_CHUNK
#define CHUNKS_WAITING 4  // to be written, beside one in each thread's hands
#define HELD_ALIGN ((uint64_t)4096)

// In the order of a tensor's life; tasks of later stages are taken first.
typedef enum stage { WAITING, READING, SCANNING, SETTLING, EMITTING, WRITING, DONE } stage;

typedef struct tensor_job {  // one source tensor and all that is made from it
    const oct_source_tensor *source;
    const oct_out_tensor **data, **scales;  // [n_data] COPY or CODES; [n_scales] WEIGHT_SCALE
    size_t n_data, n_scales;                // more than one where a tensor is split
    stage stage;
    uint64_t n_tasks, next_task, tasks_left;     // of the stage
    uint64_t n_unwritten;                        // chunks that are filled
    oct_xxh128 *read_digests, *written_digests;  // one per chunk; of `data`, when held
    oct_encoder *encoder;                        // CODES, from READING to DONE
    uint64_t grain;
    uint8_t *held;
} tensor_job;

typedef struct chunk {  // of one output, from where it is filled until it is written
    uint8_t *memory;    // [stream.chunk_bytes]
    tensor_job *job;
    const oct_out_tensor *out;
    uint64_t at, bytes;
    const uint8_t *data;  // in memory
} chunk;

typedef struct stream {
    const oct_stream_params *params;
    oct_xxh128 *source_digests, *output_digests;
    oct_arena arena;
    tensor_job *jobs;            // in the order of the source's files
    size_t n_jobs, first, next;  // those in work are among [first, next)
    uint8_t *region;             // where tensors are held
    uint64_t region_bytes, chunk_bytes;
    size_t n_chunks, n_free, n_filled;
    chunk *chunks, **free_chunks, **filled;  // [n_chunks]; the latter two are stacks
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t n_allowed;               // jobs before the first that failed, or all
    size_t n_writing, writing_max;  // threads
    oct_status status;
    oct_err err;
} stream;

typedef struct task {
    tensor_job *job;
    stage stage;
    uint64_t index;
    chunk *chunk;  // to fill, or to write
} task;

static uint64_t at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

// ---- What there is to do.

static const oct_source_tensor *source_of(const oct_out_tensor *out)
{
    if (out->emit == OCT_EMIT_COPY) return out->source;
    return out->emit == OCT_EMIT_CODES || out->emit == OCT_EMIT_WEIGHT_SCALE
               ? out->decision->layer->weight
               : NULL;
}

static int compare_places(const void *a, const void *b)
{
    const oct_ckpt_tensor *left = ((const tensor_job *)a)->source->parts[0].stored;
    const oct_ckpt_tensor *right = ((const tensor_job *)b)->source->parts[0].stored;

    if (left->file != right->file) return left->file < right->file ? -1 : 1;
    const uint64_t x = left->tensor->offset, y = right->tensor->offset;
    return x < y ? -1 : x > y;
}

static uint64_t element_bytes(const tensor_job *job)
{
    return oct_dtype_bits(job->source->dtype) / 8;
}

static void push_out(stream *s, const oct_out_tensor ***list, size_t *n, const oct_out_tensor *out)
{
    const oct_out_tensor **longer = oct_arena_array(&s->arena, *n + 1, sizeof *longer);

    if (*n) memcpy(longer, *list, *n * sizeof *longer);
    longer[(*n)++] = out;
    *list = longer;
}

static void list_jobs(stream *s)
{
    const oct_source *source = s->params->source;
    const oct_outputs *outputs = s->params->outputs;
    tensor_job *all = oct_arena_array(&s->arena, source->n_tensors, sizeof *all);

    for (size_t i = 0; i < outputs->n_tensors; i++) {
        const oct_out_tensor *out = &outputs->tensors[i];
        const oct_source_tensor *from = source_of(out);
        if (!from) continue;
        tensor_job *job = &all[from - source->tensors];
        job->source = from;
        if (out->emit == OCT_EMIT_WEIGHT_SCALE) {
            push_out(s, &job->scales, &job->n_scales, out);
        } else {
            push_out(s, &job->data, &job->n_data, out);
        }
    }
    s->jobs = all;
    for (size_t i = 0; i < source->n_tensors; i++) {
        if (all[i].n_data) s->jobs[s->n_jobs++] = all[i];
    }
    qsort(s->jobs, s->n_jobs, sizeof *s->jobs, compare_places);
}

static bool is_encoded(const tensor_job *job)
{
    return job->data[0]->emit == OCT_EMIT_CODES;
}

static bool is_held(const tensor_job *job)
{
    return is_encoded(job) || job->n_data > 1 || job->data[0]->first_row > 0;
}

static oct_st_writer *writer_of(const stream *s, const oct_out_tensor *out)
{
    return &s->params->writers[s->params->writer_of[out - s->params->outputs->tensors]];
}

static const oct_st_tensor *slot_of(const stream *s, const oct_out_tensor *out)
{
    return oct_st_writer_find(writer_of(s, out), out->name);
}

static oct_xxh128 *output_digest(const stream *s, const oct_out_tensor *out)
{
    return &s->output_digests[out - s->params->outputs->tensors];
}

// ---- Memory.

static uint64_t held_bytes(const tensor_job *job)
{
    return (job->source->bytes + HELD_ALIGN - 1) / HELD_ALIGN * HELD_ALIGN;
}

static oct_status reserve_memory(stream *s, oct_err *err)
{
    uint64_t row_bytes = 0;

    s->region_bytes = OCT_STREAM_HELD_BYTES;
    for (size_t i = 0; i < s->n_jobs; i++) {
        if (!is_held(&s->jobs[i])) continue;
        const uint64_t bytes = held_bytes(&s->jobs[i]);
        if (bytes > s->region_bytes) s->region_bytes = bytes;
        if (!is_encoded(&s->jobs[i])) continue;
        const uint64_t columns = s->jobs[i].data[0]->decision->layer->in_features;
        if (columns > row_bytes) row_bytes = columns;
    }
    // A chunk of codes, and the rest of the rows at both ends: see fill_chunk().
    s->chunk_bytes = CHUNK + 2 * row_bytes;
    s->region = mmap(NULL, s->region_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->region == MAP_FAILED) {
        s->region = NULL;
        return oct_fail(err, OCT_ENOMEM, "out of memory for a tensor of %" PRIu64 " bytes",
                        s->region_bytes);
    }
    madvise(s->region, s->region_bytes, MADV_HUGEPAGE);  // only speed: it may fail
    return OCT_OK;
}

// The end of a held tensor that overlaps [at, at + bytes), or NULL when none does.
static uint8_t *find_overlap(const stream *s, const uint8_t *at, uint64_t bytes)
{
    for (size_t i = s->first; i < s->next; i++) {
        const tensor_job *job = &s->jobs[i];
        if (job->held && job->held < at + bytes && at < job->held + held_bytes(job)) {
            return job->held + held_bytes(job);
        }
    }
    return NULL;
}

// The lowest place with enough room, which is the likeliest to be in the cache; NULL: none now.
static uint8_t *find_room(const stream *s, uint64_t bytes)
{
    uint8_t *at = s->region, *overlap = at;

    while ((overlap = find_overlap(s, at, bytes))) at = overlap;
    return bytes <= s->region_bytes - (uint64_t)(at - s->region) ? at : NULL;
}

// ---- Tasks. Each is one thread's; what they share is the job's and needs no lock.

static oct_status write_out(const stream *s, const oct_out_tensor *out, uint64_t at,
                            const void *data, uint64_t bytes, oct_err *err)
{
    return oct_st_writer_write(writer_of(s, out), slot_of(s, out), at, data, bytes, err);
}

static bool is_scanned_when_read(const tensor_job *job)
{
    return CHUNK / element_bytes(job) % job->grain == 0;
}

// Into the held tensor, or what is only copied into a chunk.
static oct_status read_chunk(stream *s, tensor_job *job, uint64_t index, chunk *copy, oct_err *err)
{
    const uint64_t at = index * CHUNK, bytes = at_most(job->source->bytes - at, CHUNK);
    uint8_t *data = job->held ? job->held + at : copy->memory;

    const oct_status st = oct_source_read_range(job->source, at, bytes, data, err);
    if (st) return st;
    job->read_digests[index] = oct_xxh128_of(data, bytes);
    oct_progress_add(s->params->progress, bytes);
    if (copy) *copy = (chunk){copy->memory, job, job->data[0], at, bytes, data};
    if (is_encoded(job) && is_scanned_when_read(job)) {
        oct_encoder_scan(job->encoder, data, at / element_bytes(job), bytes / element_bytes(job));
    }
    return OCT_OK;
}

// Elements of a task that looks at whole rows.
static uint64_t scan_length(const tensor_job *job)
{
    const uint64_t n = CHUNK / element_bytes(job) / job->grain * job->grain;
    return n ? n : job->grain;
}

static void scan_chunk(tensor_job *job, uint64_t index)
{
    const uint64_t n = job->source->bytes / element_bytes(job);
    const uint64_t first = index * scan_length(job);

    oct_encoder_scan(job->encoder, job->held + first * element_bytes(job), first,
                     at_most(n - first, scan_length(job)));
}

static oct_status write_scale(const stream *s, const tensor_job *job, const oct_out_tensor *out,
                              oct_err *err)
{
    const oct_st_tensor *slot = slot_of(s, out);
    uint64_t bytes = 0;
    const void *scales = oct_encoder_scales(job->encoder, &bytes);

    uint8_t *data = malloc(slot->bytes);
    if (!data) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for the scales '%s'", out->name);
    }
    oct_out_scales(out, scales, data);
    *output_digest(s, out) = oct_digest_of_data(data, slot->bytes);
    const oct_status st = write_out(s, out, 0, data, slot->bytes, err);
    free(data);
    return st;
}

static oct_status settle(stream *s, tensor_job *job, oct_err *err)
{
    oct_status st = oct_encoder_settle(job->encoder, job->held, err);

    for (size_t i = 0; i < job->n_scales && !st; i++) {
        st = write_scale(s, job, job->scales[i], err);
    }
    return st;
}

// Elements [first, first + n) of the source as they are written, to the buffer. Chunks of the
// output are digested, so rows that cross their borders are encoded for both; returns where the
// first is.
static uint8_t *put_elements(const tensor_job *job, uint64_t first, uint64_t n, uint8_t *buffer)
{
    const uint64_t element = element_bytes(job), n_all = job->source->bytes / element;
    const uint64_t from = first / job->grain * job->grain;
    const uint64_t end = at_most((first + n + job->grain - 1) / job->grain * job->grain, n_all);

    if (!is_encoded(job)) return memcpy(buffer, job->held + first * element, n * element);
    oct_encoder_encode(job->encoder, job->held + from * element, from, end - from, buffer);
    return buffer + (first - from);
}

static uint64_t chunk_count(const stream *s, const oct_out_tensor *out)
{
    return oct_digest_chunk_count(slot_of(s, out)->bytes);
}

// A chunk of one output of a held tensor. It wraps around at most once, between two rows.
static void fill_chunk(const stream *s, tensor_job *job, uint64_t index, chunk *filled)
{
    const oct_out_tensor **out = job->data;
    const uint64_t digest = index, size = is_encoded(job) ? 1 : element_bytes(job);

    while (index >= chunk_count(s, *out)) index -= chunk_count(s, *out++);
    const uint64_t at = index * CHUNK, bytes = at_most(slot_of(s, *out)->bytes - at, CHUNK);
    const uint64_t n_all = job->source->bytes / element_bytes(job), n = bytes / size;
    const uint64_t columns = job->source->rank ? n_all / job->source->shape[0] : 1;
    const uint64_t first = ((*out)->first_row * columns + at / size) % n_all;
    const uint64_t n_here = at_most(n, n_all - first);

    uint8_t *data = put_elements(job, first, n_here, filled->memory);
    if (n_here < n) put_elements(job, 0, n - n_here, data + n_here * size);
    job->written_digests[digest] = oct_xxh128_of(data, bytes);
    *filled = (chunk){filled->memory, job, *out, at, bytes, data};
}

static oct_status run_task(stream *s, const task *t, oct_err *err)
{
    switch (t->stage) {
    case READING:
        return read_chunk(s, t->job, t->index, t->chunk, err);
    case SCANNING:
        scan_chunk(t->job, t->index);
        return OCT_OK;
    case SETTLING:
        return settle(s, t->job, err);
    case EMITTING:
        fill_chunk(s, t->job, t->index, t->chunk);
        return OCT_OK;
    case WRITING:
        return write_out(s, t->chunk->out, t->chunk->at, t->chunk->data, t->chunk->bytes, err);
    default:
        return OCT_OK;
    }
}

// ---- The order of tasks. All of this runs under the lock.

static uint64_t emit_count(const stream *s, const tensor_job *job)
{
    uint64_t n = 0;

    for (size_t i = 0; i < job->n_data; i++) n += chunk_count(s, job->data[i]);
    return n;
}

static uint64_t task_count(const stream *s, const tensor_job *job, stage of)
{
    if (of == READING) return oct_digest_chunk_count(job->source->bytes);
    if (!is_held(job) || (of != EMITTING && !is_encoded(job))) return 0;
    const uint64_t elements = job->source->bytes / element_bytes(job);
    switch (of) {
    case SCANNING:
        if (is_scanned_when_read(job)) return 0;
        return (elements + scan_length(job) - 1) / scan_length(job);
    case SETTLING:
        return 1;
    case EMITTING:
        return emit_count(s, job);
    default:
        return 0;
    }
}

static void end_job(stream *s, tensor_job *job)
{
    const size_t index = (size_t)(job->source - s->params->source->tensors);
    const oct_xxh128 digest = oct_digest_of_chunks(job->read_digests, task_count(s, job, READING));

    s->source_digests[index] = digest;
    const oct_xxh128 *written = job->written_digests;
    for (size_t i = 0; i < job->n_data; i++) {
        const uint64_t n = chunk_count(s, job->data[i]);
        *output_digest(s, job->data[i]) = is_held(job) ? oct_digest_of_chunks(written, n) : digest;
        if (is_held(job)) written += n;
    }
    oct_encoder_end(job->encoder);
    job->encoder = NULL;
}

static bool is_stage_over(const tensor_job *job)
{
    return job->tasks_left == 0 && (job->stage != WRITING || job->n_unwritten == 0);
}

// Go on to the next stage that has tasks.
static void advance(stream *s, tensor_job *job)
{
    while (job->stage != DONE && is_stage_over(job)) {
        job->stage++;
        if (job->stage == WRITING) job->held = NULL;
        job->next_task = 0;
        job->n_tasks = job->tasks_left = task_count(s, job, job->stage);
    }
    if (job->stage == DONE) end_job(s, job);
    while (s->first < s->next && s->jobs[s->first].stage == DONE) s->first++;
}

// False when there is no room for the next tensor now.
static bool begin_job(stream *s, oct_status *st, oct_err *err)
{
    tensor_job *job = &s->jobs[s->next];

    if (is_held(job)) {
        uint8_t *room = find_room(s, held_bytes(job));
        if (!room) return false;
        if (is_encoded(job)) {
            *st = oct_encoder_begin(&job->encoder, s->params->plan, job->data[0]->decision, err);
            if (*st) return false;
        }
        job->grain = is_encoded(job) ? oct_encoder_grain(job->encoder) : 1;
        job->held = room;
        const uint64_t n = emit_count(s, job);
        job->written_digests = oct_arena_array(&s->arena, n, sizeof *job->written_digests);
    }
    const uint64_t n = oct_digest_chunk_count(job->source->bytes);
    job->read_digests = oct_arena_array(&s->arena, n, sizeof *job->read_digests);
    s->next++;
    advance(s, job);
    return true;
}

// What a task of the stage fills, if anything.
static bool needs_chunk(const tensor_job *job, stage of)
{
    return of == EMITTING || (of == READING && !is_held(job));
}

static bool take_of_stage(stream *s, stage wanted, task *t)
{
    for (size_t i = s->first; i < at_most(s->next, s->n_allowed); i++) {
        tensor_job *job = &s->jobs[i];
        if (job->stage != wanted || job->next_task == job->n_tasks) continue;
        const bool fills = needs_chunk(job, wanted);
        if (fills && s->n_free == 0) continue;
        chunk *to_fill = fills ? s->free_chunks[--s->n_free] : NULL;
        *t = (task){job, wanted, job->next_task++, to_fill};
        return true;
    }
    return false;
}

// The newest first: the likeliest to be in this thread's cache. Those of tensors behind one that
// failed are forgotten.
static bool take_write(stream *s, task *t)
{
    while (s->n_filled && s->n_writing < s->writing_max) {
        chunk *newest = s->filled[--s->n_filled];
        if ((size_t)(newest->job - s->jobs) < s->n_allowed) {
            *t = (task){newest->job, WRITING, 0, newest};
            s->n_writing++;
            return true;
        }
        s->free_chunks[s->n_free++] = newest;
    }
    return false;
}

static void fail_job(stream *s, size_t index, oct_status st, const oct_err *err)
{
    if (index >= s->n_allowed) return;
    s->n_allowed = index;
    s->status = st;
    s->err = *err;
}

static bool is_finished(const stream *s)
{
    return s->first >= s->n_allowed;
}

// Wait for a task; false when none will come.
static bool take_task(stream *s, task *t)
{
    for (;;) {
        if (take_write(s, t)) return true;
        for (stage wanted = EMITTING; wanted >= READING; wanted--) {
            if (take_of_stage(s, wanted, t)) return true;
        }
        if (is_finished(s)) return false;
        oct_status st = OCT_OK;
        oct_err err = {0};
        if (s->next < s->n_allowed && begin_job(s, &st, &err)) continue;
        if (st) {
            fail_job(s, s->next, st, &err);
        } else {
            pthread_cond_wait(&s->changed, &s->lock);
        }
    }
}

static void end_task(stream *s, const task *t, oct_status st, const oct_err *err)
{
    const bool is_filled = t->chunk && t->stage != WRITING && !st;

    if (st) fail_job(s, (size_t)(t->job - s->jobs), st, err);
    if (is_filled) {
        s->filled[s->n_filled++] = t->chunk;
        t->job->n_unwritten++;
    } else if (t->chunk) {
        s->free_chunks[s->n_free++] = t->chunk;
    }
    if (t->stage == WRITING) {
        s->n_writing--;
        t->job->n_unwritten--;
    } else {
        t->job->tasks_left--;
    }
    advance(s, t->job);
    pthread_cond_broadcast(&s->changed);
}

static void work(stream *s)
{
    task t;

    pthread_mutex_lock(&s->lock);
    while (take_task(s, &t)) {
        oct_err err = {0};
        pthread_mutex_unlock(&s->lock);
        const oct_status st = run_task(s, &t, &err);
        pthread_mutex_lock(&s->lock);
        end_task(s, &t, st, &err);
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

// Whether there is a disk to wait for.
static bool open_directly(stream *s)
{
    const oct_checkpoint *checkpoint = &s->params->source->checkpoint;
    bool is_direct = false;

    for (size_t i = 0; i < s->params->n_writers; i++) {
        oct_output_write_directly(&s->params->writers[i].output);
        is_direct = is_direct || s->params->writers[i].output.is_direct;
    }
    for (size_t i = 0; i < checkpoint->n_files; i++) {
        oct_file_read_directly(&checkpoint->files[i].file);
        is_direct = is_direct || checkpoint->files[i].file.is_direct;
    }
    return is_direct;
}

static oct_status make_chunks(stream *s, size_t n, oct_err *err)
{
    s->chunks = oct_arena_array(&s->arena, n, sizeof *s->chunks);
    s->free_chunks = oct_arena_array(&s->arena, n, sizeof *s->free_chunks);
    s->filled = oct_arena_array(&s->arena, n, sizeof *s->filled);
    for (s->n_chunks = 0; s->n_chunks < n; s->n_chunks++) {
        chunk *new = &s->chunks[s->n_chunks];
        new->memory = malloc(s->chunk_bytes);
        if (!new->memory) return oct_fail(err, OCT_ENOMEM, "out of memory for a chunk");
        s->free_chunks[s->n_free++] = new;
    }
    return OCT_OK;
}

static oct_status work_on_all_threads(stream *s, oct_err *err)
{
    int n = omp_get_max_threads();

    if (n > OCT_STREAM_THREADS_MAX) n = OCT_STREAM_THREADS_MAX;
    const bool is_direct = s->params->is_direct && open_directly(s);
    if (is_direct && n < OCT_STREAM_THREADS_DIRECT) n = OCT_STREAM_THREADS_DIRECT;
    // Buffered writes to one file exclude each other, and in the kernel the threads that wait for
    // their turn spin: one writes, the others had better do something else.
    s->writing_max = is_direct ? (size_t)n : 1;
    const oct_status st = make_chunks(s, (size_t)n + CHUNKS_WAITING, err);
    if (st) return st;
#pragma omp parallel num_threads(n)
    work(s);
    if (s->status && err) *err = s->err;
    return s->status;
}

static void begin_progress(stream *s)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < s->n_jobs; i++) bytes += s->jobs[i].source->bytes;
    oct_progress_begin(s->params->progress, "quantizing", bytes, "B");
}

static oct_status write_stored_scale(const stream *s, const oct_out_tensor *out, oct_err *err)
{
    const uint64_t bytes = slot_of(s, out)->bytes;

    uint8_t *data = malloc(bytes);
    if (!data) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for the scales '%s'", out->name);
    }
    oct_status st = oct_out_read_scales(out, data, err);
    if (!st) {
        *output_digest(s, out) = oct_digest_of_data(data, bytes);
        st = write_out(s, out, 0, data, bytes, err);
    }
    free(data);
    return st;
}

// What needs no weight: markers, input scales, scales that are there.
static oct_status write_known(stream *s, oct_err *err)
{
    const oct_outputs *outputs = s->params->outputs;
    oct_status st = OCT_OK;

    for (size_t i = 0; i < outputs->n_tensors && !st; i++) {
        const oct_out_tensor *out = &outputs->tensors[i];
        if (out->emit == OCT_EMIT_STORED_SCALE) st = write_stored_scale(s, out, err);
        if (out->emit != OCT_EMIT_BYTES) continue;
        *output_digest(s, out) = oct_digest_of_data(out->bytes, out->n_bytes);
        st = write_out(s, out, 0, out->bytes, out->n_bytes, err);
    }
    return st;
}

oct_status oct_stream_run(const oct_stream_params *params, oct_xxh128 *source_digests,
                          oct_xxh128 *output_digests, oct_err *err)
{
    stream s = {
        .params = params,
        .source_digests = source_digests,
        .output_digests = output_digests,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };

    list_jobs(&s);
    begin_progress(&s);
    s.n_allowed = s.n_jobs;
    oct_status st = reserve_memory(&s, err);
    if (!st) st = write_known(&s, err);
    if (!st) st = work_on_all_threads(&s, err);
    for (size_t i = 0; i < s.n_chunks; i++) free(s.chunks[i].memory);
    for (size_t i = 0; i < s.n_jobs; i++) oct_encoder_end(s.jobs[i].encoder);  // of failed ones
    if (s.region) munmap(s.region, s.region_bytes);
    oct_arena_deinit(&s.arena);
    return st;
}
