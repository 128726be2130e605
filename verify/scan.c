// SPDX-License-Identifier: Apache-2.0
//
// One pass over the data of a file.
#include "verify/scan.h"

#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "common/progress.h"
#include "common/xxh3_table.h"

#define THREADS_DIRECT 4  // at least, when they wait for a disk
#define HEADER SIZE_MAX

typedef struct piece {  // one chunk of one tensor
    size_t tensor;      // or HEADER
    uint64_t from, bytes;
    oct_xxh128 digest;
    uint64_t n_nan, first_nan;
} piece;

typedef struct scan_job {
    oct_scan *scan;
    const oct_safetensors *file;
    bool needs_all;  // also what has nothing to be scanned for
    piece *pieces;   // in file order
    size_t n_pieces, n_header;
    uint64_t bytes;
    oct_progress progress;
} scan_job;

static bool is_fp8(oct_dtype dtype)
{
    return dtype == OCT_F8_E4M3 || dtype == OCT_F8_E5M2;
}

static bool is_scanned(const scan_job *job, const oct_st_tensor *tensor)
{
    return job->needs_all || job->scan->has_digests || is_fp8(tensor->dtype);
}

static void cut_range(scan_job *job, size_t tensor, uint64_t all)
{
    job->bytes += all;
    for (uint64_t at = 0; at < all; at += OCT_DIGEST_CHUNK) {
        const uint64_t bytes = all - at < OCT_DIGEST_CHUNK ? all - at : OCT_DIGEST_CHUNK;
        job->pieces[job->n_pieces++] = (piece){.tensor = tensor, .from = at, .bytes = bytes};
    }
}

static void cut(scan_job *job)
{
    size_t room = oct_digest_chunk_count(job->file->header_bytes);
    for (size_t i = 0; i < job->file->n_tensors; i++)
        room += oct_digest_chunk_count(job->file->tensors[i].bytes);
    job->pieces = oct_arena_array(&job->scan->arena, room, sizeof *job->pieces);
    if (job->needs_all) cut_range(job, HEADER, job->file->header_bytes);
    job->n_header = job->n_pieces;
    for (size_t i = 0; i < job->file->n_tensors; i++) {
        const oct_st_tensor *tensor = &job->file->tensors[i];
        if (is_scanned(job, tensor)) cut_range(job, i, tensor->bytes);
    }
}

// E4M3 has NaN alone; E5M2 has infinity below its NaNs.
static void count_nan(piece *p, const uint8_t *codes, oct_dtype dtype)
{
    const uint8_t first = dtype == OCT_F8_E4M3 ? 0x7f : 0x7c;
    for (uint64_t i = 0; i < p->bytes; i++) {
        p->n_nan += (codes[i] & 0x7f) >= first;
    }
    while (p->n_nan && (codes[p->first_nan] & 0x7f) < first) p->first_nan++;
}

static oct_status scan_piece(scan_job *job, piece *p, uint8_t *chunk, oct_err *err)
{
    if (p->tensor == HEADER) return oct_file_read(&job->file->file, chunk, p->bytes, p->from, err);

    const oct_st_tensor *tensor = &job->file->tensors[p->tensor];
    oct_file_read_ahead(&job->file->file, tensor->offset + p->from + OCT_READ_AHEAD, p->bytes);
    const oct_status st = oct_safetensors_read(job->file, tensor, p->from, p->bytes, chunk, err);
    if (st) return st;
    if (job->scan->has_digests) p->digest = oct_xxh128_of(chunk, p->bytes);
    if (is_fp8(tensor->dtype)) count_nan(p, chunk, tensor->dtype);
    oct_progress_add(&job->progress, p->bytes);
    return OCT_OK;
}

static int count_threads(const scan_job *job)
{
    const int n = omp_get_max_threads();
    return job->file->file.is_direct && n < THREADS_DIRECT ? THREADS_DIRECT : n;
}

static oct_status fill_piece(void *context, uint64_t index, void *to, size_t *bytes, oct_err *err)
{
    scan_job *job = context;
    *bytes = job->pieces[index].bytes;
    return scan_piece(job, &job->pieces[index], to, err);
}

static oct_status scan_in_order(scan_job *job, char *sha256, oct_err *err)
{
    const oct_pieces pieces = {
        .count = job->n_pieces,
        .bytes_max = OCT_DIGEST_CHUNK,
        .fill = fill_piece,
        .context = job,
    };
    // This thread digests all the time, so one less reads, unless they wait for a disk.
    const int n = count_threads(job), others = job->file->file.is_direct || n == 1 ? n : n - 1;
    return oct_sha256_of_pieces(&pieces, (size_t)others, sha256, err);
}

static oct_status scan_pieces(scan_job *job, oct_err *err)
{
    oct_status first = OCT_OK;
#pragma omp parallel num_threads(count_threads(job))
    {
        oct_err mine = {{0}};
        uint8_t *chunk = malloc(OCT_DIGEST_CHUNK);
        oct_status st = chunk ? OCT_OK
                              : oct_fail(&mine, OCT_ENOMEM, "out of memory for %" PRIu64 " bytes",
                                         OCT_DIGEST_CHUNK);
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < job->n_pieces; i++) {
            if (!st) st = scan_piece(job, &job->pieces[i], chunk, &mine);
        }
        free(chunk);
#pragma omp critical(oct_verify_scan)
        if (st && !first) {
            first = st;
            if (err) *err = mine;
        }
    }
    return first;
}

static void join(scan_job *job)
{
    oct_xxh128 *chunks = oct_arena_array(&job->scan->arena, job->n_pieces, sizeof *chunks);
    for (size_t i = 0; i < job->n_pieces; i++) chunks[i] = job->pieces[i].digest;
    size_t at = job->n_header;
    for (size_t i = 0; i < job->file->n_tensors; i++) {
        oct_scan_tensor *tensor = &job->scan->tensors[i];
        if (!is_scanned(job, &job->file->tensors[i])) continue;
        const uint64_t n = oct_digest_chunk_count(job->file->tensors[i].bytes);
        tensor->digest = oct_digest_of_chunks(&chunks[at], n);
        for (; at < job->n_pieces && job->pieces[at].tensor == i; at++) {
            const piece *p = &job->pieces[at];
            if (p->n_nan && !tensor->n_nan) tensor->first_nan = p->from + p->first_nan;
            tensor->n_nan += p->n_nan;
        }
    }
}

static oct_status digest_header(oct_scan *scan, const oct_safetensors *file, oct_err *err)
{
    uint8_t *chunk = malloc(OCT_DIGEST_CHUNK);
    const oct_status st =
        chunk ? oct_digest_of_range(&file->file, 0, file->header_bytes, chunk, &scan->header, err)
              : oct_fail(err, OCT_ENOMEM, "out of memory for a header");
    free(chunk);
    return st;
}

oct_status oct_scan_file(oct_scan *scan, const oct_safetensors *file, bool needs_digests,
                         char *sha256, oct_err *err)
{
    scan_job job = {.scan = scan, .file = file, .needs_all = sha256 != NULL};
    *scan = (oct_scan){.has_digests = needs_digests};
    scan->tensors = oct_arena_array(&scan->arena, file->n_tensors, sizeof *scan->tensors);
    cut(&job);
    oct_progress_begin(&job.progress, "reading", job.bytes, "B");
    oct_status st = needs_digests ? digest_header(scan, file, err) : OCT_OK;
    if (!st) st = sha256 ? scan_in_order(&job, sha256, err) : scan_pieces(&job, err);
    oct_progress_end(&job.progress);
    if (!st) join(&job);
    if (st) oct_scan_deinit(scan);
    return st;
}

void oct_scan_deinit(oct_scan *scan)
{
    oct_arena_deinit(&scan->arena);
    *scan = (oct_scan){0};
}

void oct_scan_check_codes(const oct_scan *scan, const oct_safetensors *file, oct_findings *findings)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        const oct_scan_tensor *tensor = &scan->tensors[i];
        if (!tensor->n_nan) continue;
        oct_findings_add(findings,
                         "tensor '%s' has %" PRIu64 " NaN codes, the first at index %" PRIu64,
                         file->tensors[i].name, tensor->n_nan, tensor->first_nan);
    }
}

static bool is_equal(oct_xxh128 a, oct_xxh128 b)
{
    return a.low == b.low && a.high == b.high;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(((const oct_xxh3_entry *)left)->name, ((const oct_xxh3_entry *)right)->name);
}

oct_status oct_scan_check_table(const oct_scan *scan, const oct_safetensors *file, const char *path,
                                oct_findings *findings, oct_err *err)
{
    oct_xxh3_table table = {0};
    const oct_status st = oct_xxh3_table_read(&table, path, err);
    if (st) return st;
    if (!is_equal(table.entries[0].digest, scan->header)) {
        oct_findings_add(findings, "the header is not the one of '%s'", path);
    }
    qsort(table.entries, table.n_entries, sizeof *table.entries, compare_names);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const oct_xxh3_entry key = {.name = file->tensors[i].name};
        const oct_xxh3_entry *entry =
            bsearch(&key, table.entries, table.n_entries, sizeof key, compare_names);
        if (!entry) {
            oct_findings_add(findings, "tensor '%s' is not in '%s'", key.name, path);
        } else if (!is_equal(entry->digest, scan->tensors[i].digest)) {
            oct_findings_add(findings, "tensor '%s' is damaged: its data is not that of '%s'",
                             key.name, path);
        }
    }
    for (size_t i = 0; i < table.n_entries; i++) {
        const char *name = table.entries[i].name;
        if (!strcmp(name, OCT_XXH3_HEADER) || oct_safetensors_find(file, name)) continue;
        oct_findings_add(findings, "tensor '%s' of '%s' is missing", name, path);
    }
    oct_xxh3_table_deinit(&table);
    return OCT_OK;
}
