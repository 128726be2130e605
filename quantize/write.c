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
#include "quantize/stream.h"

typedef struct write_job {
    const oct_write_params *params;
    oct_outputs outputs;
    oct_st_writer writer;
    oct_arena arena;
    oct_xxh128 *source_digests;  // [source->n_tensors]
    oct_xxh128 *output_digests;  // [writer.n_tensors]
    oct_progress progress;
} write_job;

// The whole-file digest takes longer than the work where the CPU has no SHA instructions: it runs
// beside it and its place in the header is filled in at the end.
typedef struct digest_thread {
    pthread_t thread;
    bool is_running;
    const oct_source *source;
    char hex[OCT_SHA256_HEX];
    oct_status status;
    oct_err err;
} digest_thread;

static void *digest_main(void *argument)
{
    digest_thread *digest = argument;
    digest->status = oct_source_sha256(digest->source, digest->hex, &digest->err);
    return NULL;
}

static oct_status digest_start(digest_thread *digest, const oct_source *source, oct_err *err)
{
    digest->source = source;
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

static oct_status refuse_inputs(const oct_write_params *params, oct_err *err)
{
    const oct_checkpoint *checkpoint = &params->source->checkpoint;
    for (size_t i = 0; i < checkpoint->n_files; i++) {
        if (oct_path_is_same_file(params->out, checkpoint->files[i].file.path)) {
            return oct_fail(err, OCT_EUSAGE, "'%s' is an input: choose another --out", params->out);
        }
    }
    return OCT_OK;
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
    oct_status st = list_outputs(job, err);
    if (st) return st;
    for (size_t i = 0; i < job->outputs.n_tensors; i++) {
        const oct_out_tensor *t = &job->outputs.tensors[i];
        oct_st_writer_add(&job->writer, t->name, t->dtype, t->rank, t->shape);
    }
    oct_metadata_add(&job->writer, p, &job->outputs);
    job->source_digests =
        oct_arena_array(&job->arena, p->source->n_tensors, sizeof *job->source_digests);
    job->output_digests =
        oct_arena_array(&job->arena, job->outputs.n_tensors, sizeof *job->output_digests);
    return oct_st_writer_begin(&job->writer, p->out, err);
}

static oct_status write_tensors(write_job *job, oct_err *err)
{
    return oct_stream_run(
        &(oct_stream_params){
            .source = job->params->source,
            .plan = job->params->plan,
            .outputs = &job->outputs,
            .writer = &job->writer,
            .is_direct = job->params->no_sha256,
            .progress = &job->progress,
        },
        job->source_digests, job->output_digests, err);
}

// The header's digest is of the bytes on disk; the tensors' were made as they were written.
static oct_status write_table(const write_job *job, const oct_file *file, oct_err *err)
{
    const oct_st_writer *writer = &job->writer;
    oct_arena arena = {0};
    oct_xxh3_entry *entries = oct_arena_array(&arena, writer->n_tensors + 1, sizeof *entries);

    entries[0].name = OCT_XXH3_HEADER;
    void *chunk = oct_arena_alloc(&arena, OCT_DIGEST_CHUNK);
    oct_status st =
        oct_digest_of_range(file, 0, writer->header_bytes, chunk, &entries[0].digest, err);
    if (st) goto out;
    for (size_t i = 0; i < writer->n_tensors; i++) {
        entries[i + 1] = (oct_xxh3_entry){writer->tensors[i].name, job->output_digests[i]};
    }
    const char *text = oct_xxh3_table_print(&arena, entries, writer->n_tensors + 1);
    const char *path = oct_arena_print(&arena, "%s.xxh3", job->params->out);
    st = oct_file_write(path, text, strlen(text), err);

out:
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_manifest(oct_written *written, const char *out, const oct_file *file,
                                 oct_err *err)
{
    oct_arena arena = {0};
    oct_status st = oct_sha256_of_file(file, written->sha256, err);
    if (st) goto out;
    const char *line = oct_manifest_line(&arena, written->sha256, oct_path_name(out));
    const char *path = oct_arena_print(&arena, "%s.sha256", out);
    st = oct_file_write(path, line, strlen(line), err);

out:
    oct_arena_deinit(&arena);
    return st;
}

static oct_status remove_manifest(const char *out, oct_err *err)
{
    oct_arena arena = {0};
    oct_status st = OCT_OK;
    const char *path = oct_arena_print(&arena, "%s.sha256", out);
    if (unlink(path) != 0 && errno != ENOENT) {
        st = oct_fail(err, OCT_EIO, "'%s' cannot be removed: %s", path, strerror(errno));
    }
    oct_arena_deinit(&arena);
    return st;
}

static oct_status write_digests(const write_job *job, oct_written *written, oct_err *err)
{
    const oct_write_params *p = job->params;
    oct_file file = {0};
    oct_status st = oct_file_open(&file, p->out, err);
    if (st) return st;
    written->file_bytes = file.bytes;
    st = write_table(job, &file, err);
    if (!st) {
        st = p->no_sha256 ? remove_manifest(p->out, err)
                          : write_manifest(written, p->out, &file, err);
    }
    oct_file_close(&file);
    return st;
}

static oct_status finish(write_job *job, oct_written *written, digest_thread *digest, oct_err *err)
{
    const oct_write_params *p = job->params;
    oct_source_denoiser_digest(p->source, job->source_digests, written->denoiser_xxh3);
    oct_status st = OCT_OK;
    if (p->plan) st = oct_plan_check_model(p->plan, written->denoiser_xxh3, err);
    if (st) return st;
    st = digest_join(digest, err);
    if (st) return st;
    memcpy(written->source_sha256, digest->hex, sizeof digest->hex);
    if (oct_metadata_has_source(p)) {
        st = oct_st_writer_patch_meta(&job->writer, "octavo.source_sha256", digest->hex, err);
    }
    for (size_t i = 0; i < p->source->checkpoint.n_files && !st; i++) {
        st = oct_file_check_unchanged(&p->source->checkpoint.files[i].file, err);
    }
    return st ? st : oct_st_writer_commit(&job->writer, err);
}

oct_status oct_write_checkpoint(oct_written *written, const oct_write_params *params, oct_err *err)
{
    write_job job = {.params = params};
    digest_thread digest = {0};
    *written = (oct_written){0};

    oct_status st = refuse_inputs(params, err);
    if (!st) st = begin(&job, err);
    if (!st && oct_metadata_has_source(params)) st = digest_start(&digest, params->source, err);
    if (!st) st = write_tensors(&job, err);
    written->source_bytes = job.progress.done;
    if (!st) st = finish(&job, written, &digest, err);
    oct_progress_end(&job.progress);
    digest_join(&digest, NULL);
    if (!st) st = write_digests(&job, written, err);

    oct_arena_deinit(&job.arena);
    oct_outputs_deinit(&job.outputs);
    oct_st_writer_deinit(&job.writer);
    return st;
}
