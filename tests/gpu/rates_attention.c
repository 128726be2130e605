// SPDX-License-Identifier: Apache-2.0
//
// Joint attention of a block, F16: our own kernel, and what the product takes (cuDNN's on some
// GPUs). Then in E4M3, encoding included.
#include "tests/gpu/rates.h"

#include <string.h>

#include "kernels/cuda/attention_plan.h"

#define HEAD 64

typedef struct attention {
    oct_attention_cuda *planned;  // NULL: the own kernel
    bool is_fp8;
    oct_joint_attention_args args;
    void *workspace;
    oct_status st;
    oct_err err;
} attention;

static void attend(rates *r, void *context, size_t round)
{
    attention *a = context;
    if (a->is_fp8) {
        const oct_joint_attention_args encoded =
            oct_encode_heads_cuda(&a->args, a->workspace, (oct_stream)r->stream);
        oct_joint_attention_cuda(&encoded, (oct_stream)r->stream);
    } else if (!a->planned)
        oct_joint_attention_cuda(&a->args, (oct_stream)r->stream);
    else if (!a->st)
        a->st = oct_attention_cuda_run(a->planned, &a->args, a->workspace, (oct_stream)r->stream,
                                       &a->err);
}

static oct_joint_attention_args args_of(const rates *r, const rates_model *model, size_t pixels)
{
    const size_t image = rates_image_tokens(pixels), joint = image + model->text_tokens;
    const size_t n = joint * model->hidden;
    uint16_t *out = r->out;

    return (oct_joint_attention_args){
        .q = r->halves,
        .k = r->halves + n,
        .v = r->halves + 2 * n,
        .dtype = OCT_F16,
        .heads = model->heads,
        .joint = joint,
        .image_tokens = image,
        .image = {.data = out, .dtype = OCT_F16},
        .text = {.data = out + image * model->hidden, .dtype = OCT_F16},
    };
}

static void note(rates *r, const rates_model *model, size_t pixels, const attention *a,
                 const char *library, double seconds)
{
    cJSON *row = cJSON_CreateObject();
    const double joint = (double)a->args.joint;
    const double flop = 4 * joint * joint * (double)a->args.heads * HEAD;

    cJSON_AddItemToArray(cJSON_GetObjectItem(r->root, "attention"), row);
    cJSON_AddStringToObject(row, "model", model->name);
    cJSON_AddNumberToObject(row, "pixels", (double)pixels);
    cJSON_AddNumberToObject(row, "heads", (double)a->args.heads);
    cJSON_AddNumberToObject(row, "tokens", joint);
    cJSON_AddStringToObject(row, "type", a->is_fp8 ? "fp8" : "f16");
    cJSON_AddStringToObject(row, "library", library);
    cJSON_AddNumberToObject(row, "us", seconds * 1e6);
    cJSON_AddNumberToObject(row, "tflop_per_s", flop / seconds / 1e12);
}

static void measure_fp8(rates *r, const rates_model *model, size_t pixels)
{
    attention a = {.is_fp8 = true, .args = args_of(r, model, pixels)};

    a.workspace = rates_workspace(r, oct_encode_heads_cuda_bytes(&a.args));
    note(r, model, pixels, &a, "own kernel", rates_seconds(r, attend, &a));
}

static oct_status measure(rates *r, oct_attention_cuda *planned, const rates_model *model,
                          size_t pixels, oct_err *err)
{
    attention a = {.args = args_of(r, model, pixels)};
    size_t bytes = 0;

    note(r, model, pixels, &a, "own kernel", rates_seconds(r, attend, &a));
    oct_status st = oct_attention_cuda_plan(planned, &a.args, &bytes, err);
    if (st) return st;
    const char *library = oct_attention_cuda_library(planned, &a.args);
    if (strcmp(library, "own kernel") == 0) return OCT_OK;
    a.planned = planned;
    a.workspace = rates_workspace(r, bytes);
    const double seconds = rates_seconds(r, attend, &a);
    if (a.st) return oct_fail(err, a.st, "%s", a.err.text);
    note(r, model, pixels, &a, library, seconds);
    return OCT_OK;
}

oct_status rates_attention(rates *r, oct_err *err)
{
    const oct_attention_cuda_params params = {.sm = r->sm};
    oct_attention_cuda *planned = NULL;

    cJSON_AddArrayToObject(r->root, "attention");
    oct_status st = oct_attention_cuda_open(&planned, &params, err);
    for (size_t i = 0; i < r->n_models && !st; i++)
        for (size_t p = 0; p < 2 && !st; p++)
            st = measure(r, planned, &r->models[i], r->models[i].pixels[p], err);
    for (size_t i = 0; i < r->n_models && !st && oct_has_e4m3_attention_cuda(); i++)
        for (size_t p = 0; p < 2; p++) measure_fp8(r, &r->models[i], r->models[i].pixels[p]);
    oct_attention_cuda_close(planned);
    return st;
}
