// SPDX-License-Identifier: Apache-2.0
//
// Writing a quantized checkpoint.
#include "quantize/write.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/manifest.h"
#include "common/progress.h"
#include "common/safetensors.h"
#include "common/xxh3_table.h"
#include "ptq/source_digest.h"
#include "quantize/metadata.h"
#include "quantize/shards.h"
#include "quantize/stream.h"

typedef struct write_job {
    const oct_write_params *params;
    oct_outputs outputs;
    oct_arena arena;
    oct_shards shards;
    oct_st_writer *writers;      // [shards.n], when they are begun
    oct_file *files;             // [shards.n], when they are complete: to read them
    size_t n_committed;          // or tried
    oct_xxh128 *source_digests;  // [source->n_tensors]
    oct_xxh128 *output_digests;  // [outputs.n_tensors]
    oct_progress progress;
    oct_written *written;
} write_job;

// Digests of whole files take longer than the work where the CPU has no SHA instructions. The
// source's runs beside the work, and its place in the header is filled in at the end. Only then can
// those of the files begin, which run while the files are flushed.
typedef struct digest_thread {
    pthread_t thread;
    bool is_running;
    write_job *job;
    oct_status (*run)(write_job *job, oct_err *err);
    oct_status status;
    oct_err err;
} digest_thread;

static oct_status digest_source(write_job *job, oct_err *err)
{
    return oct_source_sha256(job->params->source, job->written->source_sha256, err);
}

static oct_status digest_files(write_job *job, oct_err *err)
{
    oct_status st = OCT_OK;
    for (size_t i = 0; i < job->shards.n && !st; i++) {
        st = oct_sha256_of_file(&job->files[i], job->written->sha256[i], err);
    }
    return st;
}

static void *digest_main(void *argument)
{
    digest_thread *digest = argument;
    digest->status = digest->run(digest->job, &digest->err);
    return NULL;
}

static oct_status digest_start(digest_thread *digest, oct_err *err)
{
    if (pthread_create(&digest->thread, NULL, digest_main, digest)) {
        return oct_fail(err, OCT_ENOMEM, "cannot start a thread for the digest");
    }
    digest->is_running = true;
    return OCT_OK;
}

static oct_status digest_join(digest_thread *digest, oct_err *err)
{
    if (!digest->is_running) return OCT_OK;
    pthread_join(digest->thread, NULL);
    digest->is_running = false;
    if (digest->status && err) *err = digest->err;
    return digest->status;
}

// Also the index of an input that has other shards.
static bool is_input(write_job *job, const char *path)
{
    const oct_checkpoint *checkpoint = &job->params->source->checkpoint;
    for (size_t i = 0; i < checkpoint->n_files; i++) {
        const char *input = checkpoint->files[i].file.path;
        const char *whole = oct_shard_whole_path(&job->arena, input);
        if (oct_path_is_same_file(path, input)) return true;
        if (!whole) continue;
        const char *index = oct_arena_print(&job->arena, "%s.index.json", whole);
        if (oct_path_is_same_file(path, index)) return true;
    }
    return false;
}

static oct_status refuse_inputs(write_job *job, oct_err *err)
{
    const oct_shards *shards = &job->shards;
    const size_t n = shards->n > 1 ? shards->n + 1 : 1;
    for (size_t i = 0; i < n; i++) {
        const char *path = i < shards->n ? shards->paths[i] : shards->index;
        if (!is_input(job, path)) continue;
        return oct_fail(err, OCT_EUSAGE, "'%s' is an input: choose another --out", path);
    }
    return OCT_OK;
}

// Readers disagree about which goes first, a file or shards.
static oct_status refuse_other_form(const write_job *job, oct_err *err)
{
    const oct_write_params *p = job->params;
    const bool has_shards = job->shards.n > 1;
    const char *other = has_shards ? p->out : job->shards.index;
    if (!oct_writing_is_folder(p->writing, p->dialect) || !oct_path_exists(other)) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE,
                    "'%s' is there already, and some readers would take it instead of %s: choose "
                    "another --out",
                    other, has_shards ? "the shards" : "the file");
}

static oct_status list_outputs(write_job *job, oct_err *err)
{
    const oct_write_params *p = job->params;
    switch (p->writing) {
    case OCT_WRITE_DECODED:
        oct_outputs_init_plain(&job->outputs, p->source);
        return OCT_OK;
    case OCT_WRITE_RESPELLED:
        return oct_outputs_init_respelled(&job->outputs, p->source, p->dialect, err);
    default:
        return oct_outputs_init(&job->outputs, p->source, p->plan, p->dialect, err);
    }
}

static oct_status begin(write_job *job, oct_err *err)
{
    const oct_write_params *p = job->params;
    const oct_outputs *outputs = &job->outputs;
    oct_shards *shards = &job->shards;
    oct_status st = list_outputs(job, err);
    if (!st) st = oct_shards_init(shards, &job->arena, outputs, p->out, p->shard_bytes, err);
    if (!st) st = refuse_inputs(job, err);
    if (!st) st = refuse_other_form(job, err);
    if (st) return st;
    job->writers = oct_arena_array(&job->arena, shards->n, sizeof *job->writers);
    for (size_t i = 0; i < outputs->n_tensors; i++) {
        const oct_out_tensor *t = &outputs->tensors[i];
        oct_st_writer_add(&job->writers[shards->shard_of[i]], t->name, t->dtype, t->rank, t->shape);
    }
    job->source_digests =
        oct_arena_array(&job->arena, p->source->n_tensors, sizeof *job->source_digests);
    job->output_digests =
        oct_arena_array(&job->arena, outputs->n_tensors, sizeof *job->output_digests);
    for (size_t i = 0; i < shards->n && !st; i++) {
        oct_metadata_add(&job->writers[i], p, outputs);
        st = oct_st_writer_begin(&job->writers[i], shards->paths[i], err);
    }
    return st;
}

static oct_status write_tensors(write_job *job, oct_err *err)
{
    return oct_stream_run(
        &(oct_stream_params){
            .source = job->params->source,
            .plan = job->params->plan,
            .outputs = &job->outputs,
            .writers = job->writers,
            .n_writers = job->shards.n,
            .writer_of = job->shards.shard_of,
            .is_direct = job->params->no_sha256,
            .progress = &job->progress,
        },
        job->source_digests, job->output_digests, err);
}

static int compare_to_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const oct_out_tensor *)tensor)->name);
}

static oct_xxh128 output_digest(const write_job *job, const char *name)
{
    const oct_outputs *outputs = &job->outputs;
    const oct_out_tensor *out = bsearch(name, outputs->tensors, outputs->n_tensors,
                                        sizeof *outputs->tensors, compare_to_name);
    return job->output_digests[out - outputs->tensors];
}

// The header's digest is of the bytes on disk; the tensors' were made as they were written.
static oct_status write_table(const write_job *job, const oct_st_writer *writer,
                              const oct_file *file, oct_err *err)
{
    oct_arena arena = {0};
    oct_xxh3_entry *entries = oct_arena_array(&arena, writer->n_tensors + 1, sizeof *entries);

    entries[0].name = OCT_XXH3_HEADER;
    void *chunk = oct_arena_alloc(&arena, OCT_DIGEST_CHUNK);
    oct_status st =
        oct_digest_of_range(file, 0, writer->header_bytes, chunk, &entries[0].digest, err);
    if (st) goto out;
    for (size_t i = 0; i < writer->n_tensors; i++) {
        const char *name = writer->tensors[i].name;
        entries[i + 1] = (oct_xxh3_entry){name, output_digest(job, name)};
    }
    const char *text = oct_xxh3_table_print(&arena, entries, writer->n_tensors + 1);
    const char *path = oct_arena_print(&arena, "%s.xxh3", file->path);
    st = oct_file_write(path, text, strlen(text), err);

out:
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_manifest(const write_job *job, const oct_written *written, oct_err *err)
{
    oct_arena arena = {0};
    const char *text = "";
    for (size_t i = 0; i < job->shards.n; i++) {
        const char *name = oct_path_name(job->shards.paths[i]);
        const char *line = oct_manifest_line(&arena, written->sha256[i], name);
        text = oct_arena_print(&arena, "%s%s", text, line);
    }
    const char *path = oct_arena_print(&arena, "%s.sha256", job->params->out);
    const oct_status st = oct_file_write(path, text, strlen(text), err);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status remove_file(const char *path, oct_err *err)
{
    if (unlink(path) == 0 || errno == ENOENT) return OCT_OK;
    return oct_fail(err, OCT_EIO, "'%s' cannot be removed: %s", path, strerror(errno));
}

static oct_status remove_manifest(const char *out, oct_err *err)
{
    oct_arena arena = {0};
    const oct_status st = remove_file(oct_arena_print(&arena, "%s.sha256", out), err);
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_digests(const write_job *job, oct_err *err)
{
    oct_status st = OCT_OK;
    job->written->n_files = job->shards.n;
    for (size_t i = 0; i < job->shards.n && !st; i++) {
        job->written->file_bytes += job->files[i].bytes;
        st = write_table(job, &job->writers[i], &job->files[i], err);
    }
    if (st) return st;
    return job->params->no_sha256 ? remove_manifest(job->params->out, err)
                                  : write_manifest(job, job->written, err);
}

// An old index goes first: it must not name a mixture of old and new shards.
static oct_status commit(write_job *job, oct_err *err)
{
    oct_status st = job->shards.n > 1 ? remove_file(job->shards.index, err) : OCT_OK;
    while (job->n_committed < job->shards.n && !st) {
        st = oct_st_writer_commit(&job->writers[job->n_committed++], err);
    }
    return st;
}

// Shards that never got their index.
static void remove_shards(write_job *job)
{
    for (size_t i = 0; i < job->n_committed; i++) {
        unlink(job->shards.paths[i]);
        unlink(oct_arena_print(&job->arena, "%s.xxh3", job->shards.paths[i]));
    }
    if (job->n_committed) remove_manifest(job->params->out, NULL);
}

static oct_status finish(write_job *job, digest_thread *source, oct_err *err)
{
    const oct_write_params *p = job->params;
    oct_written *written = job->written;
    oct_source_denoiser_digest(p->source, job->source_digests, written->denoiser_xxh3);
    oct_status st = OCT_OK;
    if (p->plan) st = oct_plan_check_model(p->plan, written->denoiser_xxh3, err);
    if (!st) st = digest_join(source, err);
    for (size_t i = 0; i < job->shards.n && oct_metadata_has_source(p) && !st; i++) {
        st = oct_st_writer_patch_meta(&job->writers[i], "octavo.source_sha256",
                                      written->source_sha256, err);
    }
    for (size_t i = 0; i < p->source->checkpoint.n_files && !st; i++) {
        st = oct_file_check_unchanged(&p->source->checkpoint.files[i].file, err);
    }
    job->files = oct_arena_array(&job->arena, job->shards.n, sizeof *job->files);
    for (size_t i = 0; i < job->shards.n && !st; i++) {
        st = oct_output_open(&job->writers[i].output, &job->files[i], err);
    }
    return st;
}

static void deinit(write_job *job)
{
    for (size_t i = 0; job->files && i < job->shards.n; i++) oct_file_close(&job->files[i]);
    for (size_t i = 0; job->writers && i < job->shards.n; i++) {
        oct_st_writer_deinit(&job->writers[i]);
    }
    oct_outputs_deinit(&job->outputs);
    oct_arena_deinit(&job->arena);
}

oct_status oct_write_checkpoint(oct_written *written, const oct_write_params *params, oct_err *err)
{
    write_job job = {.params = params, .written = written};
    digest_thread source = {.job = &job, .run = digest_source};
    digest_thread files = {.job = &job, .run = digest_files};
    *written = (oct_written){0};

    oct_status st = begin(&job, err);
    if (!st && oct_metadata_has_source(params)) st = digest_start(&source, err);
    if (!st) st = write_tensors(&job, err);
    written->source_bytes = job.progress.done;
    if (!st) st = finish(&job, &source, err);
    digest_join(&source, NULL);
    if (!st && !params->no_sha256) st = digest_start(&files, err);
    if (!st) st = commit(&job, err);
    oct_progress_end(&job.progress);
    const oct_status digested = digest_join(&files, st ? NULL : err);
    if (!st) st = digested;
    if (!st) st = write_digests(&job, err);
    if (!st && job.shards.n > 1) {
        st = oct_shards_write_index(&job.shards, &job.outputs, err);
    }
    if (st && job.shards.n > 1) remove_shards(&job);
    deinit(&job);
    return st;
}
