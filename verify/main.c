// SPDX-License-Identifier: Apache-2.0
//
// octavo-verify: is this file what it should be, and what did quantizing cost?
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cli.h"
#include "common/json.h"
#include "kernels/kernels.h"
#include "verify/check.h"
#include "verify/list.h"
#include "verify/report.h"

static oct_status list(const verify_options *o, oct_err *err)
{
    oct_safetensors file = {0};
    oct_status st = oct_safetensors_open(&file, o->file, err);
    if (st) return st;
    if (o->general.json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "tool", "verify");
        oct_list_to_json(&file, object);
        char *line = oct_json_print_line(object);
        puts(line);
        free(line);
        cJSON_Delete(object);
    } else {
        oct_list_print(&file);
    }
    oct_safetensors_close(&file);
    return OCT_OK;
}

static oct_status run(verify_job *job, bool *holds, oct_err *err)
{
    if (!job->o.file) return oct_fail(err, OCT_EUSAGE, "the FILE to verify is missing");
    if (job->o.list) return list(&job->o, err);
    oct_status st = oct_verify_check(job, err);
    if (st) return st;
    *holds = job->findings.count == 0;
    if (job->o.general.json)
        oct_verify_print_json(job);
    else
        oct_verify_print(job);
    return OCT_OK;
}

int main(int argc, char **argv)
{
    verify_job job = {.o = {.sqnr_db_min = -INFINITY}};
    verify_options *o = &job.o;
    const oct_opt opts[] = {
        OPT_ARGUMENT("FILE", &o->file, "checkpoint to verify"),
        OPT_GROUP("What to compare with"),
        OPT_TEXT("sha256", "HEX", &o->sha256, "digest that FILE must have"),
        OPT_TEXT("manifest", "FILE", &o->manifest,
                 "sha256sum list that names FILE (default: FILE.sha256 where it exists)"),
        OPT_TEXT("source", "PATH", &o->source,
                 "16-bit checkpoint or folder it was made from: measures drift"),
        OPT_TEXT("policy", "NAME|FILE", &o->policy, "policy it must follow"),
        OPT_TEXT("calibration", "FILE", &o->calibration,
                 "calibration whose ranges its input scales must have"),
        OPT_NUMBER("min-sqnr-db", "X", &o->sqnr_db_min,
                   "lowest SQNR of any FP8 layer (default: no limit)"),
        OPT_GROUP("Instead of verifying"),
        OPT_FLAG("list", &o->list, "list metadata and tensors of FILE"),
        OPT_GENERAL(&o->general),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "verify",
        .summary = "Check an FP8 checkpoint: digests, contract, and drift against its source.",
        .usage = "FILE [options]",
        .exit_1 = "FILE does not hold",
        .examples =
            {
                "octavo-verify sd3.5_large.fp8.safetensors --source sd3.5_large.safetensors \\\n"
                "      --policy mlp-attn --calibration calibration.json",
                "octavo-verify sd3.5_large.fp8.safetensors --list",
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
