// SPDX-License-Identifier: Apache-2.0
//
// octavo-quantize: a 16-bit checkpoint and a policy to an FP8 checkpoint.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "kernels/kernels.h"
#include "ptq/decoding.h"
#include "quantize/diffusers_config.h"
#include "quantize/shards.h"
#include "quantize/show.h"
#include "quantize/write.h"

typedef struct quantize_options {
    const char *model, *policy, *calibration, *out, *dialect;
    const char *dequantize, *redialect, *snap_scales, *shard_size;
    double qmax;
    bool is_generic, requantize, plan, require_calibration, no_source_digest, no_sha256;
    oct_general general;
} quantize_options;

typedef struct quantize_job {
    quantize_options o;
    oct_writing writing;
    oct_dialect dialect, from;  // from: of the source
    oct_dtype decoded;          // with --dequantize
    oct_snap snap;
    uint64_t shard_bytes;  // 0: one file
    size_t n_decoded;      // tensors
    oct_source source;
    oct_denoiser denoiser;
    oct_policy policy;
    oct_calibration calibration;
    oct_plan plan;
} quantize_job;

// Conversions take no options of quantization.
static oct_status check_conversion(quantize_job *job, oct_err *err)
{
    const quantize_options *o = &job->o;
    const char *option = o->dequantize ? "dequantize" : "redialect";
    const char *other = o->policy                        ? "policy"
                        : o->calibration                 ? "calibration"
                        : o->plan                        ? "plan"
                        : o->snap_scales                 ? "snap-scales"
                        : o->requantize                  ? "requantize"
                        : o->is_generic                  ? "generic"
                        : o->dequantize && o->redialect  ? "redialect"
                        : o->dequantize && o->shard_size ? "shard-size"
                                                         : NULL;
    if (other) {
        return oct_fail(err, OCT_EUSAGE, "options '--%s' and '--%s' exclude each other", option,
                        other);
    }
    if (o->dequantize) {
        job->writing = OCT_WRITE_DECODED;
        job->decoded = strcmp(o->dequantize, "f16") == 0 ? OCT_F16 : OCT_BF16;
        if (job->decoded == OCT_F16 || strcmp(o->dequantize, "bf16") == 0) return OCT_OK;
        return oct_fail(err, OCT_EUSAGE, "type '%s' is not f16 or bf16", o->dequantize);
    }
    job->writing = OCT_WRITE_RESPELLED;
    return OCT_OK;
}

static oct_status check_shard_size(quantize_job *job, oct_err *err)
{
    const char *size = job->o.shard_size;
    if (!size) return OCT_OK;
    if (job->dialect != OCT_DIALECT_DIFFUSERS) {
        return oct_fail(err, OCT_EUSAGE,
                        "dialect '%s' is one file: option '--shard-size' is for dialect diffusers",
                        oct_dialect_name(job->dialect));
    }
    if (!oct_bytes_parse(size, &job->shard_bytes)) {
        return oct_fail(err, OCT_EUSAGE,
                        "option '--shard-size' needs a whole number with K, M, G or T, as 500M, "
                        "2GB or 2GiB, not '%s'",
                        size);
    }
    oct_arena arena = {0};
    const bool is_pipeline =
        job->o.out && oct_path_exists(oct_path_join(&arena, job->o.out, "model_index.json"));
    oct_arena_deinit(&arena);
    if (!is_pipeline) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE, "'%s' is a pipeline: '--out' needs its transformer's folder",
                    job->o.out);
}

static oct_status check_options(quantize_job *job, oct_err *err)
{
    const quantize_options *o = &job->o;
    const bool is_conversion = o->dequantize || o->redialect;
    if (!o->model) return oct_fail(err, OCT_EUSAGE, "option '--model' is missing");
    if (!o->policy && !is_conversion) {
        return oct_fail(err, OCT_EUSAGE, "option '--policy' is missing");
    }
    if (!o->out && !o->plan) {
        return oct_fail(err, OCT_EUSAGE, "option '--out' is missing (or '--plan')");
    }
    const char *dialect = o->redialect ? o->redialect : o->dialect;
    if (!oct_dialect_parse(dialect, &job->dialect)) {
        return oct_fail(err, OCT_EUSAGE,
                        "dialect '%s' is not comfy, comfy-legacy, cast or diffusers", dialect);
    }
    if (!(o->qmax > 0 && o->qmax <= 448)) {
        return oct_fail(err, OCT_EUSAGE, "qmax %g is not in (0, 448]", o->qmax);
    }
    if (o->snap_scales && !oct_snap_parse(o->snap_scales, &job->snap)) {
        return oct_fail(err, OCT_EUSAGE, "snapping '%s' is not none, bf16 or pow2", o->snap_scales);
    }
    const oct_status st = is_conversion ? check_conversion(job, err) : OCT_OK;
    return st ? st : check_shard_size(job, err);
}

// Of the first component that is FP8.
static oct_dialect find_dialect(const oct_source *source)
{
    oct_dialect dialect = OCT_DIALECT_NONE;
    for (oct_component i = 0; i < OCT_COMPONENT_COUNT && dialect == OCT_DIALECT_NONE; i++) {
        dialect = oct_dialect_detect_component(source, i);
    }
    return dialect;
}

static oct_status open_source(quantize_job *job, oct_err *err)
{
    const quantize_options *o = &job->o;
    oct_source *source = &job->source;
    oct_status st = oct_source_open(source, &(oct_model_paths){.model = o->model}, err);
    if (st) return st;
    job->from = find_dialect(source);
    if (job->writing != OCT_WRITE_QUANTIZED && job->from == OCT_DIALECT_NONE) {
        st = oct_fail(err, OCT_EUNSUPPORTED, "no weight in it is FP8");
    } else if (job->writing == OCT_WRITE_DECODED) {
        st = oct_source_decode(source, OCT_EVERY_COMPONENT, job->decoded, &job->n_decoded, err);
    } else if (job->writing == OCT_WRITE_QUANTIZED && o->requantize) {
        st = oct_source_decode(source, 1u << OCT_DENOISER, OCT_F32, &job->n_decoded, err);
    } else if (job->writing == OCT_WRITE_QUANTIZED && oct_dialect_detect(source)) {
        st = oct_fail(err, OCT_EUNSUPPORTED,
                      "the model is FP8 already (dialect %s): a second rounding needs --requantize",
                      oct_dialect_name(job->from));
    }
    return st ? oct_wrap(err, st, "'%s'", o->model) : OCT_OK;
}

static oct_status find_layers(quantize_job *job, oct_err *err)
{
    const oct_source *source = &job->source;
    const oct_denoiser_params params = {
        .is_generic = job->o.is_generic,
        // Where the denoiser alone is written, a T5 beside it is not.
        .with_t5 = !source->checkpoint.is_diffusers && !source->is_diffusers_named,
    };
    const oct_status st = oct_denoiser_init_with(&job->denoiser, source, &params, err);
    if (st && source->architecture == OCT_ARCH_NONE && !params.is_generic) {
        const oct_err why = *err;
        return oct_fail(err, st, "%s; --generic finds layers by their shapes", why.text);
    }
    return st ? oct_wrap(err, st, "'%s'", job->o.model) : OCT_OK;
}

static oct_status make_plan(quantize_job *job, oct_err *err)
{
    const quantize_options *o = &job->o;
    oct_status st = oct_policy_load(&job->policy, o->policy, err);
    if (st) return st;
    if (o->calibration) {
        st = oct_calibration_load(&job->calibration, o->calibration, err);
        if (st) return st;
    }
    st = open_source(job, err);
    if (st) return st;
    st = find_layers(job, err);
    if (st) return st;
    const oct_plan_params params = {
        .policy = &job->policy,
        .calibration = o->calibration ? &job->calibration : NULL,
        .qmax = (float)o->qmax,
        .require_calibration = o->require_calibration,
        .snap_scales = job->snap,
        .has_unit_scales = job->dialect == OCT_DIALECT_CAST,
    };
    return oct_plan_init(&job->plan, &job->denoiser, &params, err);
}

static oct_status show_plan(const quantize_job *job, oct_err *err)
{
    if (!job->o.general.json) return oct_plan_print(&job->plan, &job->source, err);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "tool", "quantize");
    cJSON_AddStringToObject(object, "policy", job->policy.name);
    const oct_status st = oct_plan_to_json(&job->plan, &job->source, object, err);
    if (st) {
        cJSON_Delete(object);
    } else {
        oct_json_finish(object);
    }
    return st;
}

static void add_digest(cJSON *object, const char *key, const char *hex)
{
    if (*hex) cJSON_AddStringToObject(object, key, hex);  // else it was not wanted
}

static void add_result(const quantize_job *job, cJSON *object)
{
    const oct_plan *plan = &job->plan;
    if (job->writing != OCT_WRITE_DECODED) {
        cJSON_AddStringToObject(object, "dialect", oct_dialect_name(job->dialect));
    }
    if (job->writing != OCT_WRITE_QUANTIZED) {
        cJSON_AddStringToObject(object, "source_dialect", oct_dialect_name(job->from));
        return;
    }
    cJSON_AddStringToObject(object, "policy", job->policy.name);
    cJSON_AddNumberToObject(object, "layers_fp8", (double)plan->n_fp8);
    cJSON_AddNumberToObject(object, "layers_static", (double)plan->n_static);
}

static bool is_folder(const quantize_job *job)
{
    return oct_writing_is_folder(job->writing, job->dialect);
}

static const char *weights_path(oct_arena *arena, const quantize_job *job)
{
    return is_folder(job) ? oct_path_join(arena, job->o.out, OCT_DIFFUSERS_WEIGHTS) : job->o.out;
}

static void add_files(const quantize_job *job, const oct_written *written, cJSON *object)
{
    oct_arena arena = {0};
    const char *path = weights_path(&arena, job);
    cJSON *list = cJSON_AddArrayToObject(object, "files");
    for (size_t i = 0; i < written->n_files; i++) {
        cJSON *file = cJSON_CreateObject();
        cJSON_AddStringToObject(file, "file", oct_shard_path(&arena, path, i, written->n_files));
        add_digest(file, "sha256", written->sha256[i]);
        cJSON_AddItemToArray(list, file);
    }
    oct_arena_deinit(&arena);
}

static void report_json(const quantize_job *job, const oct_written *written, double elapsed_s)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "tool", "quantize");
    cJSON_AddStringToObject(object, "out", job->o.out);
    add_result(job, object);
    if (written->n_files > 1) {
        add_files(job, written, object);
    } else {
        add_digest(object, "sha256", written->sha256[0]);
    }
    add_digest(object, "source_sha256", written->source_sha256);
    cJSON_AddStringToObject(object, "denoiser_xxh3", written->denoiser_xxh3);
    cJSON_AddNumberToObject(object, "source_bytes", (double)written->source_bytes);
    cJSON_AddNumberToObject(object, "file_bytes", (double)written->file_bytes);
    cJSON_AddNumberToObject(object, "elapsed_s", elapsed_s);
    oct_json_finish(object);
}

static void print_files(const quantize_job *job, const oct_written *written)
{
    oct_arena arena = {0};
    const char *path = weights_path(&arena, job);
    for (size_t i = 0; i < written->n_files; i++) {
        const char *sha256 = written->sha256[i];
        printf("%s%s%s\n", sha256, *sha256 ? "  " : "",
               oct_shard_path(&arena, path, i, written->n_files));
    }
    oct_arena_deinit(&arena);
}

static void report(const quantize_job *job, const oct_written *written, double elapsed_s)
{
    const oct_plan *plan = &job->plan;
    char what[160];
    if (job->o.general.json) {
        report_json(job, written, elapsed_s);
        return;
    }
    switch (job->writing) {
    case OCT_WRITE_DECODED:
        snprintf(what, sizeof what, "%zu FP8 tensors to %s", job->n_decoded,
                 oct_dtype_name(job->decoded));
        break;
    case OCT_WRITE_RESPELLED:
        snprintf(what, sizeof what, "dialect %s to %s", oct_dialect_name(job->from),
                 oct_dialect_name(job->dialect));
        break;
    default:
        snprintf(what, sizeof what, "%zu of %zu layers in FP8, %zu with a static input scale",
                 plan->n_fp8, plan->n_decisions, plan->n_static);
    }
    print_files(job, written);
    oct_note("%s; %" PRIu64 " -> %" PRIu64 " bytes in %.1f s", what, written->source_bytes,
             written->file_bytes, elapsed_s);
}

// A transformer folder has no place for the other components of a file.
static void note_left_out(const quantize_job *job)
{
    const oct_checkpoint *checkpoint = &job->source.checkpoint;
    for (oct_component i = OCT_DENOISER + 1; i < OCT_OTHER && !checkpoint->is_diffusers; i++) {
        if (oct_checkpoint_has(checkpoint, i)) {
            oct_note("the %s is left out: dialect diffusers writes the denoiser alone",
                     oct_component_name(i));
        }
    }
}

// A file, or a folder with the weights and a config.json, which comes last.
static oct_status write_output(quantize_job *job, oct_written *written, oct_err *err)
{
    oct_arena arena = {0};
    oct_status st = OCT_OK;
    const char *out = weights_path(&arena, job);
    if (is_folder(job)) st = oct_folder_make(job->o.out, err);
    if (!st) {
        st = oct_write_checkpoint(
            written,
            &(oct_write_params){
                .source = &job->source,
                .writing = job->writing,
                .plan = job->writing == OCT_WRITE_QUANTIZED ? &job->plan : NULL,
                .dialect = job->dialect,
                .out = out,
                .shard_bytes = job->shard_bytes,
                .no_source_digest = job->o.no_source_digest,
                .no_sha256 = job->o.no_sha256,
            },
            err);
    }
    if (!st && is_folder(job)) {
        note_left_out(job);
        const char *weights = written->n_files > 1 ? job->o.out : out;
        st = oct_diffusers_config_write(job->o.out, weights, &job->source, err);
    }
    oct_arena_deinit(&arena);
    return st;
}

static oct_status run(quantize_job *job, oct_err *err)
{
    const double started_s = oct_now_s();
    const bool has_plan = !job->o.dequantize && !job->o.redialect;
    oct_status st = check_options(job, err);
    if (!st) st = has_plan ? make_plan(job, err) : open_source(job, err);
    if (st) return st;
    if (job->o.plan) return show_plan(job, err);
    oct_written written;
    st = write_output(job, &written, err);
    if (!st) report(job, &written, oct_now_s() - started_s);
    return st;
}

int main(int argc, char **argv)
{
    quantize_job job = {.o = {.dialect = "comfy", .qmax = 448}};
    quantize_options *o = &job.o;
    const oct_opt opts[] = {
        OPT_GROUP("Input and output"),
        OPT_TEXT("model", "PATH", &o->model, "checkpoint or diffusers folder to read"),
        OPT_TEXT("out", "FILE", &o->out,
                 "FP8 checkpoint to write, FILE.xxh3 and FILE.sha256; replaced only when complete"),
        OPT_TEXT("dialect", "NAME", &o->dialect,
                 "comfy, comfy-legacy, cast or diffusers, whose FILE is a folder (default: "
                 "comfy)"),
        OPT_TEXT("shard-size", "SIZE", &o->shard_size,
                 "split dialect diffusers into files of at most SIZE, as 500M, 2GB or 2GiB, with "
                 "an index (default: one file)"),
        OPT_GROUP("Quantization"),
        OPT_TEXT("policy", "NAME|FILE", &o->policy,
                 "which layers become FP8: a bundled name or a JSON file"),
        OPT_TEXT("calibration", "FILE", &o->calibration,
                 "input ranges from octavo-calibrate (default: none, weight-only)"),
        OPT_FLAG("require-calibration", &o->require_calibration,
                 "fail when a static layer has no range (default: make it weight-only)"),
        OPT_NUMBER("qmax", "Q", &o->qmax,
                   "code that the largest value gets, up to 448 (default: 448)"),
        OPT_TEXT("snap-scales", "TO", &o->snap_scales,
                 "round F32 scales up to what a compute type holds: none, bf16 or pow2 "
                 "(default: none)"),
        OPT_FLAG("requantize", &o->requantize,
                 "take an FP8 model, too: decode it first, then quantize its values"),
        OPT_FLAG("no-source-digest", &o->no_source_digest,
                 "leave the source's SHA-256 out of the metadata"),
        OPT_FLAG("no-sha256", &o->no_sha256,
                 "compute no SHA-256 at all: no FILE.sha256, no source digest"),
        OPT_FLAG("generic", &o->is_generic,
                 "find layers by shape in a model of unknown architecture (default: refuse it)"),
        OPT_FLAG("plan", &o->plan, "print every decision, predicted error and size; write nothing"),
        OPT_GROUP("Converting an FP8 model instead"),
        OPT_TEXT("dequantize", "TYPE", &o->dequantize,
                 "write its values in f16 or bf16, without scales and markers"),
        OPT_TEXT("redialect", "NAME", &o->redialect, "write the same codes in another dialect"),
        OPT_GENERAL(&o->general),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "quantize",
        .summary = "Write an FP8 checkpoint from a 16-bit SD3.5, FLUX.1, LTX-Video or T5 one, by a "
                   "policy.",
        .usage = "--model PATH --policy NAME|FILE --out FILE [options]",
        .examples =
            {
                "octavo-quantize --model sd3.5_large.safetensors --policy mlp-attn \\\n"
                "      --calibration calibration.json --out sd3.5_large.fp8.safetensors",
                "octavo-quantize --model stable-diffusion-3.5-medium/ --policy all --plan",
            },
        .opts = opts,
    };
    oct_err err = {{0}};
    bool is_done = false;
    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && !is_done) st = oct_general_apply(&cli, &o->general, &err);
    if (!st && !is_done) {
        oct_kernels_select(o->general.cpu);
        st = run(&job, &err);
    }

    oct_plan_deinit(&job.plan);
    oct_calibration_deinit(&job.calibration);
    oct_policy_deinit(&job.policy);
    oct_denoiser_deinit(&job.denoiser);
    oct_source_close(&job.source);
    return oct_cli_finish(&cli, st, &err);
}
