// SPDX-License-Identifier: Apache-2.0
//
// Showing a plan.
#include "quantize/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *weights_name(const oct_decision *d)
{
    return d->weights == OCT_WEIGHTS_E4M3 ? "e4m3" : oct_dtype_name(d->layer->weight->dtype);
}

static const char *inputs_name(const oct_decision *d)
{
    if (d->weights == OCT_WEIGHTS_KEEP) return "-";
    return d->inputs == OCT_INPUTS_STATIC ? "static" : "none";
}

static int name_width(const oct_plan *plan)
{
    size_t width = strlen("layer");
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const size_t n = strlen(plan->decisions[i].layer->name);
        if (n > width) width = n;
    }
    return (int)width;
}

static void print_layers(const oct_plan *plan)
{
    const int width = name_width(plan);
    printf("%-*s  %-9s %-6s %13s  %-7s %-6s %11s %11s  %s\n", width, "layer", "role", "stream",
           "out x in", "weights", "inputs", "before", "after", "why");
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *d = &plan->decisions[i];
        char shape[48];
        snprintf(shape, sizeof shape, "%" PRIu64 "x%" PRIu64, d->layer->out_features,
                 d->layer->in_features);
        printf("%-*s  %-9s %-6s %13s  %-7s %-6s %11" PRIu64 " %11" PRIu64 "  %s\n", width,
               d->layer->name, oct_role_name(d->layer->role), oct_stream_name(d->layer->stream),
               shape, weights_name(d), inputs_name(d), d->bytes_before, d->bytes_after, d->reason);
    }
}

static void print_totals(const oct_plan *plan)
{
    printf("\n%-9s %6s %5s %15s %15s\n", "role", "layers", "fp8", "bytes before", "bytes after");
    for (oct_role role = 0; role < OCT_ROLE_COUNT; role++) {
        uint64_t before = 0, after = 0;
        size_t layers = 0, fp8 = 0;
        for (size_t i = 0; i < plan->n_decisions; i++) {
            const oct_decision *d = &plan->decisions[i];
            if (d->layer->role != role) continue;
            layers++;
            fp8 += d->weights == OCT_WEIGHTS_E4M3;
            before += d->bytes_before;
            after += d->bytes_after;
        }
        if (layers == 0) continue;
        printf("%-9s %6zu %5zu %15" PRIu64 " %15" PRIu64 "\n", oct_role_name(role), layers, fp8,
               before, after);
    }
    printf("%-9s %6zu %5zu %15" PRIu64 " %15" PRIu64 "  (%.1f %%; all tensors of the denoiser)\n",
           "denoiser", plan->n_decisions, plan->n_fp8, plan->bytes_before, plan->bytes_after,
           100.0 * (double)plan->bytes_after / (double)plan->bytes_before);
}

void oct_plan_print(const oct_plan *plan)
{
    print_layers(plan);
    print_totals(plan);
}

static cJSON *layer_to_json(const oct_decision *d)
{
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "layer", d->layer->name);
    cJSON_AddStringToObject(item, "role", oct_role_name(d->layer->role));
    cJSON_AddStringToObject(item, "stream", oct_stream_name(d->layer->stream));
    cJSON_AddNumberToObject(item, "block", d->layer->block);
    cJSON_AddNumberToObject(item, "out_features", (double)d->layer->out_features);
    cJSON_AddNumberToObject(item, "in_features", (double)d->layer->in_features);
    cJSON_AddStringToObject(item, "weights", d->weights == OCT_WEIGHTS_E4M3 ? "e4m3" : "keep");
    cJSON_AddStringToObject(item, "inputs", inputs_name(d));
    if (d->input_scale > 0) cJSON_AddNumberToObject(item, "input_scale", (double)d->input_scale);
    cJSON_AddNumberToObject(item, "rule", d->rule);
    cJSON_AddStringToObject(item, "reason", d->reason);
    cJSON_AddNumberToObject(item, "bytes_before", (double)d->bytes_before);
    cJSON_AddNumberToObject(item, "bytes_after", (double)d->bytes_after);
    return item;
}

void oct_plan_to_json(const oct_plan *plan, cJSON *object)
{
    cJSON_AddNumberToObject(object, "layers_fp8", (double)plan->n_fp8);
    cJSON_AddNumberToObject(object, "layers_static", (double)plan->n_static);
    cJSON_AddNumberToObject(object, "denoiser_bytes_before", (double)plan->bytes_before);
    cJSON_AddNumberToObject(object, "denoiser_bytes_after", (double)plan->bytes_after);
    cJSON *layers = cJSON_AddArrayToObject(object, "layers");
    for (size_t i = 0; i < plan->n_decisions; i++) {
        cJSON_AddItemToArray(layers, layer_to_json(&plan->decisions[i]));
    }
}
