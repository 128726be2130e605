// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 of whole files.
#include "verify/digests.h"

#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/shard_index.h"

// ---- What is expected.

static oct_status expect_text(oct_digest *file, const char *option, const char *text, oct_err *err)
{
    file->expected_by = option;
    if (oct_digest_text_parse(&file->expected, text)) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "option '%s' needs 64 hexadecimal digits, not '%s'", option,
                    text);
}

static oct_status expect_pointer(oct_digest *file, const char *path, oct_err *err)
{
    file->expected_by = path;
    return oct_lfs_pointer_load(&file->expected, path, err);
}

// A list, or a pointer in its place.
static oct_status expect_manifest(oct_digest *file, const char *path, oct_err *err)
{
    file->expected_by = path;
    if (!oct_lfs_pointer_load(&file->expected, path, NULL)) return OCT_OK;
    file->expected = (oct_expected){0};
    return oct_manifest_find(path, file->path, file->expected.sha256, err);
}

// Download caches of the Hugging Face hub name a large file by its SHA-256.
static void expect_blob_name(oct_digests *digests, oct_digest *file)
{
    char *real = realpath(file->path, NULL);
    const char *name = real ? oct_path_name(real) : "";
    if (oct_is_sha256_hex(name) && name - real > 7 && !strncmp(name - 7, "/blobs/", 7)) {
        oct_digest_text_parse(&file->expected, name);
        file->expected_by = oct_arena_copy(&digests->arena, real);
    }
    free(real);
}

// FILE.sha256; of a shard also the list of all shards.
static const char *find_list(oct_digests *digests, const char *path)
{
    const char *list = oct_arena_print(&digests->arena, "%s.sha256", path);
    if (oct_path_exists(list)) return list;
    const char *whole = oct_shard_whole_path(&digests->arena, path);
    if (!whole) return NULL;
    list = oct_arena_print(&digests->arena, "%s.sha256", whole);
    return oct_path_exists(list) ? list : NULL;
}

static oct_status find_expected(oct_digests *digests, oct_digest *file,
                                const oct_digests_params *params, oct_err *err)
{
    if (params->sha256) return expect_text(file, "--sha256", params->sha256, err);
    if (params->hf_etag) return expect_text(file, "--hf-etag", params->hf_etag, err);
    if (params->lfs_pointer) return expect_pointer(file, params->lfs_pointer, err);
    if (params->manifest) return expect_manifest(file, params->manifest, err);
    const char *beside = find_list(digests, file->path);
    if (beside) return expect_manifest(file, beside, err);
    expect_blob_name(digests, file);
    return OCT_OK;
}

// ---- Hashing.

static oct_status hash_range(const char *path, uint64_t from, char hex[OCT_SHA256_HEX],
                             oct_err *err)
{
    oct_file file = {0};
    oct_status st = oct_file_open(&file, path, err);
    if (!st) st = oct_sha256_of_range(&file, from, hex, err);
    if (!st) st = oct_file_check_unchanged(&file, err);
    if (st) hex[0] = '\0';
    oct_file_close(&file);
    return st;
}

static void note_trouble(oct_digests *digests, oct_digest *file, oct_status status,
                         const oct_err *err)
{
    pthread_mutex_lock(&digests->mutex);
    file->status = status;
    file->trouble = oct_arena_copy(&digests->arena, err->text);
    pthread_mutex_unlock(&digests->mutex);
}

static size_t take_stream(oct_digests *digests)
{
    pthread_mutex_lock(&digests->mutex);
    const size_t stream = digests->next++;
    pthread_mutex_unlock(&digests->mutex);
    return stream;
}

static size_t count_streams(const oct_digests *digests)
{
    return digests->n_files * (digests->needs_data ? 2 : 1);
}

// A stream of SHA-256 has no parallelism inside; streams of several files, and of a file and its
// data, run side by side.
static void *hash_streams(void *argument)
{
    oct_digests *digests = argument;
    for (size_t i = take_stream(digests); i < count_streams(digests); i = take_stream(digests)) {
        oct_digest *file = &digests->files[i % digests->n_files];
        const bool is_data = i >= digests->n_files;
        oct_err err = {{0}};
        if (is_data && !file->header_bytes) continue;
        if (i == 0 && digests->has_sha256) continue;
        const oct_status st = hash_range(file->path, is_data ? file->header_bytes : 0,
                                         is_data ? file->data_sha256 : file->sha256, &err);
        if (st) note_trouble(digests, file, st, &err);
    }
    return NULL;
}

static oct_status start(oct_digests *digests, oct_err *err)
{
    const size_t streams = count_streams(digests), threads = (size_t)omp_get_max_threads();
    const size_t n = streams < threads ? streams : threads;
    digests->workers = oct_arena_array(&digests->arena, n, sizeof *digests->workers);
    pthread_mutex_init(&digests->mutex, NULL);
    while (digests->n_workers < n) {
        pthread_t *worker = &digests->workers[digests->n_workers];
        if (pthread_create(worker, NULL, hash_streams, digests)) break;
        digests->n_workers++;
    }
    if (n == 0 || digests->n_workers) return OCT_OK;
    return oct_fail(err, OCT_ENOMEM, "cannot start a thread for the digest");
}

// ---- The whole.

static oct_digest *add_file(oct_digests *digests, const char *path)
{
    digests->files = oct_arena_grow(&digests->arena, digests->files, digests->n_files,
                                    &digests->capacity, sizeof *digests->files);
    oct_digest *file = &digests->files[digests->n_files++];
    *file = (oct_digest){.path = oct_arena_copy(&digests->arena, path)};
    return file;
}

void oct_digests_add(oct_digests *digests, const char *path, uint64_t header_bytes)
{
    add_file(digests, path)->header_bytes = header_bytes;
}

oct_status oct_digests_add_list(oct_digests *digests, const char *manifest, oct_err *err)
{
    oct_manifest list = {0};
    const oct_status st = oct_manifest_load(&list, manifest, err);
    for (size_t i = 0; i < list.n_entries; i++) {
        oct_digest *file = add_file(digests, list.entries[i].path);
        strcpy(file->expected.sha256, list.entries[i].sha256);
        file->expected_by = manifest;
    }
    digests->is_list = true;
    oct_manifest_deinit(&list);
    return st;
}

oct_status oct_digests_begin(oct_digests *digests, const oct_digests_params *params, oct_err *err)
{
    oct_status st = OCT_OK;
    if (params && digests->n_files > 1 &&
        (params->sha256 || params->hf_etag || params->lfs_pointer)) {
        st = oct_fail(err, OCT_EUSAGE, "one digest for %zu files: give a list with '--manifest'",
                      digests->n_files);
    }
    for (size_t i = 0; i < digests->n_files && params && !st; i++) {
        st = find_expected(digests, &digests->files[i], params, err);
    }
    if (st) return st;
    digests->needs_data = params && params->needs_data;
    digests->has_sha256 = params && params->has_sha256;
    return start(digests, err);
}

static void wait_for(oct_digests *digests)
{
    while (digests->n_workers) pthread_join(digests->workers[--digests->n_workers], NULL);
}

static oct_status compare_size(const oct_digest *file, oct_findings *findings, oct_err *err)
{
    struct stat now;
    if (stat(file->path, &now)) return oct_fail(err, OCT_EIO, "'%s' is gone", file->path);
    if ((uint64_t)now.st_size != file->expected.bytes) {
        oct_findings_add(findings, "size is %" PRIu64 " bytes, but %s says %" PRIu64,
                         (uint64_t)now.st_size, file->expected_by, file->expected.bytes);
    }
    return OCT_OK;
}

// Of a list, what cannot be read is a finding like what differs.
static void compare_listed(oct_digests *digests, oct_digest *file, oct_findings *findings)
{
    if (!file->trouble && strcmp(file->expected.sha256, file->sha256)) {
        file->trouble =
            oct_arena_print(&digests->arena, "'%s': sha256 is %s, but %s says %s", file->path,
                            file->sha256, file->expected_by, file->expected.sha256);
    }
    if (file->trouble) oct_findings_add(findings, "%s", file->trouble);
}

static oct_status compare(const oct_digest *file, bool is_alone, oct_findings *findings,
                          oct_err *err)
{
    if (file->trouble) return oct_fail(err, file->status, "%s", file->trouble);
    if (!file->expected_by) return OCT_OK;
    if (strcmp(file->expected.sha256, file->sha256) && is_alone) {
        oct_findings_add(findings, "sha256 is %s, but %s says %s", file->sha256, file->expected_by,
                         file->expected.sha256);
    } else if (strcmp(file->expected.sha256, file->sha256)) {
        oct_findings_add(findings, "'%s': sha256 is %s, but %s says %s", file->path, file->sha256,
                         file->expected_by, file->expected.sha256);
    }
    return file->expected.has_bytes ? compare_size(file, findings, err) : OCT_OK;
}

oct_status oct_digests_end(oct_digests *digests, oct_findings *findings, oct_err *err)
{
    oct_status st = OCT_OK;
    wait_for(digests);
    oct_findings_begin(findings, OCT_CHECK_DIGEST);
    for (size_t i = 0; i < digests->n_files && !st; i++) {
        if (digests->is_list)
            compare_listed(digests, &digests->files[i], findings);
        else
            st = compare(&digests->files[i], digests->n_files == 1, findings, err);
    }
    return st;
}

void oct_digests_deinit(oct_digests *digests)
{
    wait_for(digests);
    if (digests->workers) pthread_mutex_destroy(&digests->mutex);
    oct_arena_deinit(&digests->arena);
    *digests = (oct_digests){0};
}
