// SPDX-License-Identifier: Apache-2.0
//
// octavo-verify: is this file what it should be, and what did quantizing cost?
#include <math.h>
#include <stdio.h>

#include "common/cli.h"
#include "kernels/kernels.h"
#include "verify/check.h"
#include "verify/junit.h"
#include "verify/list.h"
#include "verify/publish.h"
#include "verify/report.h"

// Which of the ways to use the tool, and whether the options fit it.
static oct_status check_options(verify_options *o, oct_err *err)
{
    const size_t n = o->files.count;
    if (o->write_manifest) {
        return n ? OCT_OK : oct_fail(err, OCT_EUSAGE, "the FILE to list is missing");
    }
    if (n > 1) {
        return oct_fail(err, OCT_EUSAGE,
                        "%zu files: verify one, or list several with '--write-manifest'", n);
    }
    if (n == 0 && (!o->manifest || o->list)) {
        return oct_fail(err, OCT_EUSAGE, "the FILE to verify is missing");
    }
    if (n == 0 && (o->source || o->policy || o->calibration || o->fast || o->identify ||
                   o->sha256 || o->hf_etag || o->lfs_pointer)) {
        return oct_fail(err, OCT_EUSAGE,
                        "without a FILE only the digests of '--manifest' are checked");
    }
    if ((o->sha256 != NULL) + (o->hf_etag != NULL) + (o->lfs_pointer != NULL) + (n && o->manifest) >
        1) {
        return oct_fail(err, OCT_EUSAGE, "several digests to compare with: give one");
    }
    if (o->fast && (o->sha256 || o->hf_etag || o->lfs_pointer || o->manifest || o->identify ||
                    o->require_sha256)) {
        return oct_fail(err, OCT_EUSAGE, "'--fast' computes no sha256 to compare or show");
    }
    o->file = n ? o->files.items[0] : NULL;
    return OCT_OK;
}

static void print(const verify_job *job)
{
    const bool is_list = !job->o.file, json = job->o.general.json;
    if (is_list && json)
        oct_verify_print_list_json(job);
    else if (is_list)
        oct_verify_print_list(job);
    else if (json)
        oct_verify_print_json(job);
    else
        oct_verify_print(job);
}

static oct_status run(verify_job *job, bool *holds, oct_err *err)
{
    verify_options *o = &job->o;
    oct_status st = check_options(o, err);
    if (st) return st;
    if (o->write_manifest) return oct_verify_publish(o->write_manifest, &o->files, err);
    if (o->list) return oct_list(o->file, o->general.json, err);
    st = o->file ? oct_verify_check(job, err) : oct_verify_check_list(job, err);
    if (!st && o->junit) st = oct_verify_save_junit(job, o->junit, err);
    if (st) return st;
    *holds = oct_verify_holds(job);
    print(job);
    return OCT_OK;
}

int main(int argc, char **argv)
{
    verify_job job = {.o = {.sqnr_db_min = -INFINITY}};
    verify_options *o = &job.o;
    const oct_opt opts[] = {
        OPT_ARGUMENTS("FILE", &o->files, "checkpoint to verify: a file or a folder"),
        OPT_GROUP("What to compare with"),
        OPT_TEXT("sha256", "HEX", &o->sha256, "digest that FILE must have; sha256:HEX as well"),
        OPT_TEXT("hf-etag", "ETAG", &o->hf_etag, "the same as Hugging Face's X-Linked-ETag"),
        OPT_TEXT("lfs-pointer", "POINTER", &o->lfs_pointer,
                 "git-LFS pointer whose digest and size FILE must have"),
        OPT_TEXT("manifest", "LIST", &o->manifest,
                 "sha256sum list that names FILE, or a git-LFS pointer (default: FILE.sha256 where "
                 "it exists); without FILE: check every file that it names"),
        OPT_TEXT("source", "PATH", &o->source,
                 "16-bit checkpoint or folder it was made from: measures drift"),
        OPT_TEXT("policy", "NAME|FILE", &o->policy, "policy it must follow"),
        OPT_TEXT("calibration", "FILE", &o->calibration,
                 "calibration whose ranges its input scales must have"),
        OPT_NUMBER("min-sqnr-db", "X", &o->sqnr_db_min,
                   "lowest SQNR of any FP8 layer (default: no limit)"),
        OPT_GROUP("How"),
        OPT_FLAG("fast", &o->fast, "compare with FILE.xxh3 instead of a SHA-256: finds accidents"),
        OPT_FLAG("require-sha256", &o->require_sha256,
                 "fail when there is no SHA-256 to compare with"),
        OPT_FLAG("strict", &o->strict, "let warnings fail"),
        OPT_FLAG("identify", &o->identify, "also print the names that CivitAI knows FILE by"),
        OPT_TEXT("junit", "OUT", &o->junit, "also write the result as JUnit XML"),
        OPT_GROUP("Instead of verifying"),
        OPT_FLAG("list", &o->list,
                 "show architecture, layers, scales, metadata and tensors of FILE"),
        OPT_TEXT("write-manifest", "OUT", &o->write_manifest,
                 "write a list of the SHA-256 of every FILE, for sha256sum -c"),
        OPT_GENERAL(&o->general),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "verify",
        .summary = "Check an FP8 checkpoint: digests, contract, and drift against its source.",
        .usage = "[FILE...] [options]",
        .exit_1 = "FILE does not hold",
        .examples =
            {
                "octavo-verify sd3.5_large.fp8.safetensors --source sd3.5_large.safetensors \\\n"
                "      --policy mlp-attn --calibration calibration.json",
                "octavo-verify sd3.5_large.fp8.safetensors --list",
                "octavo-verify --manifest models/SHA256SUMS --junit verify.xml",
            },
        .opts = opts,
    };
    oct_err err = {{0}};
    bool is_done = false, holds = true;
    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && !is_done) st = oct_general_apply(&cli, &o->general, &err);
    if (!st && !is_done) {
        oct_kernels_select(o->general.cpu);
        st = run(&job, &holds, &err);
    }
    oct_verify_deinit(&job);
    const int code = oct_cli_finish(&cli, st, &err);
    return code ? code : !holds;
}
