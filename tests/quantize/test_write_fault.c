// SPDX-License-Identifier: Apache-2.0
//
// Quantizing when the system fails in the middle: the calls below stand in front of the C library's
// and the n-th of a kind fails, n rising until the work succeeds. Whatever fails, one sentence says
// so and nothing is left behind.
#include <dirent.h>
#include <errno.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "quantize/write.h"
#include "tests/ptq/denoiser.h"

typedef enum fault { NO_FAULT, READ_FAILS, READ_ENDS, WRITE_FAILS } fault;

static fault armed;
static bool is_sticky;         // every later call of the kind fails too
static atomic_int calls_left;  // that still work

static bool fails(fault kind)
{
    if (armed != kind) return false;
    const int left = atomic_fetch_sub(&calls_left, 1);
    return is_sticky ? left <= 0 : left == 0;
}

ssize_t pread(int fd, void *data, size_t bytes, off_t offset)
{
    if (fails(READ_ENDS)) return 0;  // as of a file that was truncated after it was opened
    if (fails(READ_FAILS)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, data, bytes, offset);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    if (fails(WRITE_FAILS)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, bytes, offset);
}

static opened_denoiser model;
static oct_policy policy;
static oct_plan plan;

static int count_files(const char *folder)
{
    int entries = 0;
    DIR *open_folder = opendir(folder);
    while (open_folder && readdir(open_folder)) entries++;
    closedir(open_folder);
    return entries - 2;  // "." and ".."
}

static void empty_folder(const char *folder)
{
    const struct dirent *entry = NULL;
    DIR *open_folder = opendir(folder);
    while (open_folder && (entry = readdir(open_folder))) {
        if (entry->d_name[0] != '.') unlinkat(dirfd(open_folder), entry->d_name, 0);
    }
    closedir(open_folder);
}

static oct_status write_once(const char *out, bool no_sha256, oct_err *err)
{
    oct_written written;
    return oct_write_checkpoint(&written,
                                &(oct_write_params){.source = &model.source,
                                                    .plan = &plan,
                                                    .dialect = OCT_DIALECT_COMFY,
                                                    .out = out,
                                                    .no_source_digest = true,
                                                    .no_sha256 = no_sha256},
                                err);
}

// Fail the n-th call, n rising, until none was left to fail. The model alone stays in the folder,
// or the whole result where only its digests could not be written. With no_sha256 calls are direct,
// of which a single one may fail: the cached one in its place decides.
static int try_all(fault kind, bool sticky, bool no_sha256)
{
    char out[512];
    snprintf(out, sizeof out, "%s/out.safetensors", model_folder());
    for (int n = 0; n < 5000; n++) {
        oct_err err = {0};
        armed = kind;
        is_sticky = sticky;
        atomic_store(&calls_left, n);
        const oct_status st = write_once(out, no_sha256, &err);
        armed = NO_FAULT;
        const bool is_there = access(out, F_OK) == 0;
        unlink(out);
        if (!st) CHECK(is_there);
        if (st) CHECK(st == OCT_EIO && *err.text);
        const bool was_reached = atomic_load(&calls_left) < 0;
        if (was_reached && (sticky || !no_sha256)) CHECK(st);
        for (int i = 0; i < 2; i++) {
            char digest[600];
            snprintf(digest, sizeof digest, "%s.%s", out, i ? "sha256" : "xxh3");
            if (access(digest, F_OK) == 0) CHECK(is_there);
            unlink(digest);
        }
        CHECK(count_files(model_folder()) == 1);
        if (!was_reached) {  // there was none left to fail
            CHECK(!st);
            return n;
        }
    }
    CHECK(!"it ends");
    return 0;
}

// The same for shards, of which nothing may stay when one of them, a digest or the index fails.
static int try_all_shards(fault kind, bool sticky)
{
    char folder[512], out[600];
    snprintf(folder, sizeof folder, "%s/shards", model_folder());
    snprintf(out, sizeof out, "%s/x.safetensors", folder);
    CHECK(mkdir(folder, 0777) == 0);
    oct_status st = OCT_EIO;
    int n = 0;
    for (; st && n < 5000; n++) {
        oct_written written;
        oct_err err = {0};
        armed = kind;
        is_sticky = sticky;
        atomic_store(&calls_left, n);
        st = oct_write_checkpoint(&written,
                                  &(oct_write_params){.source = &model.source,
                                                      .plan = &plan,
                                                      .dialect = OCT_DIALECT_DIFFUSERS,
                                                      .out = out,
                                                      .shard_bytes = 100000},
                                  &err);
        armed = NO_FAULT;
        if (st) CHECK(st == OCT_EIO && *err.text && count_files(folder) == 0);
        if (!st) CHECK(written.n_files > 2 && count_files(folder) == 2 * (int)written.n_files + 2);
    }
    CHECK(!st);
    empty_folder(folder);
    CHECK(rmdir(folder) == 0);
    return n;
}

static void a_read_that_fails_leaves_no_shard(void)
{
    CHECK(try_all_shards(READ_FAILS, false) > (int)model.source.n_tensors);
    CHECK(try_all_shards(READ_FAILS, true) > (int)model.source.n_tensors);
}

static void a_write_that_fails_leaves_no_shard(void)
{
    CHECK(try_all_shards(WRITE_FAILS, false) > (int)model.source.n_tensors);
    CHECK(try_all_shards(WRITE_FAILS, true) > (int)model.source.n_tensors);
}

static void a_read_that_fails_leaves_nothing(void)
{
    // More calls than tensors: every one of them was the failing one once.
    CHECK(try_all(READ_FAILS, false, false) > (int)model.source.n_tensors);
    CHECK(try_all(READ_FAILS, true, true) > (int)model.source.n_tensors);
}

static void a_file_that_ends_early_leaves_nothing(void)
{
    CHECK(try_all(READ_ENDS, false, false) > (int)model.source.n_tensors);
    CHECK(try_all(READ_ENDS, true, true) > (int)model.source.n_tensors);
}

static void a_write_that_fails_leaves_nothing(void)
{
    CHECK(try_all(WRITE_FAILS, false, false) > (int)model.source.n_tensors);
    CHECK(try_all(WRITE_FAILS, true, true) > (int)model.source.n_tensors);
}

int main(void)
{
    omp_set_num_threads(3);
    open_denoiser(&model, &model_tiny);
    CHECK(oct_policy_load(&policy, "all", NULL) == OCT_OK);
    const oct_plan_params params = {.policy = &policy, .qmax = 448};
    CHECK(oct_plan_init(&plan, &model.denoiser, &params, NULL) == OCT_OK);
    RUN(a_read_that_fails_leaves_nothing);
    RUN(a_file_that_ends_early_leaves_nothing);
    RUN(a_write_that_fails_leaves_nothing);
    RUN(a_read_that_fails_leaves_no_shard);
    RUN(a_write_that_fails_leaves_no_shard);
    oct_plan_deinit(&plan);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
    return test_end();
}
