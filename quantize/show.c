// SPDX-License-Identifier: Apache-2.0
//
// Showing a plan.
#include "quantize/show.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/predict.h"

// ---- What stands in a line.

// "e4m3", "e4m3 channel mse", "BF16".
static const char *print_weights(char *text, size_t bytes, const oct_decision *d)
{
    if (d->weights == OCT_WEIGHTS_KEEP) {
        snprintf(text, bytes, "%s", oct_dtype_name(d->layer->weight->dtype));
        return text;
    }
    snprintf(text, bytes, "%s%s%s%s%s", oct_weights_name(d->weights),
             d->granularity == OCT_PER_TENSOR ? "" : " ",
             d->granularity == OCT_PER_TENSOR ? "" : oct_granularity_name(d->granularity),
             d->scaling == OCT_SCALE_MAX ? "" : " ",
             d->scaling == OCT_SCALE_MAX ? "" : oct_scaling_name(d->scaling));
    return text;
}

static const char *inputs_name(const oct_decision *d)
{
    return d->weights == OCT_WEIGHTS_KEEP ? "-" : oct_inputs_name(d->inputs);
}

static const char *print_sqnr(char *text, size_t bytes, double sqnr_db)
{
    if (isnan(sqnr_db)) {
        snprintf(text, bytes, "-");
    } else if (isinf(sqnr_db)) {
        snprintf(text, bytes, "exact");
    } else {
        snprintf(text, bytes, "%.1f", sqnr_db);
    }
    return text;
}

// Which rule decided, and what came between: "rule 2, no calibrated range". That a layer is weight
// only shows in its inputs.
static void print_why(const oct_decision *d)
{
    const char *cut = strstr(d->reason, ": weight only");
    const bool is_rule = strncmp(d->reason, "rule ", 5) == 0 || strcmp(d->reason, "default") == 0;
    if (d->rule < 0) {
        printf("default");
    } else {
        printf("rule %d", d->rule + 1);
    }
    if (!is_rule) {
        printf(", %.*s", cut ? (int)(cut - d->reason) : (int)strlen(d->reason), d->reason);
    }
    printf("\n");
}

typedef struct widths {
    int name, weights;
} widths;

static widths find_widths(const oct_plan *plan)
{
    widths w = {(int)strlen("layer"), (int)strlen("weights")};
    for (size_t i = 0; i < plan->n_decisions; i++) {
        char text[64];
        const int name = (int)strlen(plan->decisions[i].layer->name);
        const int weights = (int)strlen(print_weights(text, sizeof text, &plan->decisions[i]));
        if (name > w.name) w.name = name;
        if (weights > w.weights) w.weights = weights;
    }
    return w;
}

static bool has_channels(const oct_plan *plan)
{
    return plan->params.calibration && plan->params.calibration->channels;
}

static bool has_inputs(const oct_plan *plan, const oct_prediction *predictions)
{
    for (size_t i = 0; i < plan->n_decisions; i++) {
        if (!isnan(predictions[i].input_underflow)) return true;
    }
    return false;
}

// Columns of what only a calibration knows: "   35.1   29.8    0.4%".
static void print_calibrated(const oct_prediction *prediction, bool has_outputs, bool has_inputs)
{
    char text[32];
    if (has_outputs) printf("%8s", print_sqnr(text, sizeof text, prediction->output_sqnr_db));
    if (!has_inputs) return;
    printf("%7s", print_sqnr(text, sizeof text, prediction->input_sqnr_db));
    if (isnan(prediction->input_underflow)) {
        printf("%8s", "-");
    } else {
        printf("%7.1f%%", 100 * prediction->input_underflow);
    }
}

static void print_layers(const oct_plan *plan, const oct_prediction *predictions)
{
    const widths w = find_widths(plan);
    const bool has_outputs = has_channels(plan), with_inputs = has_inputs(plan, predictions);
    printf("%-*s  %-9s %12s  %-*s %-6s %5s%s%s %11s  %s\n", w.name, "layer", "role", "out x in",
           w.weights, "weights", "inputs", "dB", has_outputs ? " outputs" : "",
           with_inputs ? "  in dB  zeroed" : "", "bytes", "why");
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *d = &plan->decisions[i];
        char shape[48], weights[64], sqnr[32];
        snprintf(shape, sizeof shape, "%" PRIu64 "x%" PRIu64, d->layer->out_features,
                 d->layer->in_features);
        printf("%-*s  %-9s %12s  %-*s %-6s %5s", w.name, d->layer->name,
               oct_role_name(d->layer->role), shape, w.weights,
               print_weights(weights, sizeof weights, d), inputs_name(d),
               print_sqnr(sqnr, sizeof sqnr, predictions[i].sqnr_db));
        print_calibrated(&predictions[i], has_outputs, with_inputs);
        printf(" %11" PRIu64 "  ", d->bytes_after);
        print_why(d);
    }
    printf("\ndB: predicted signal-to-noise ratio of the weight, from encoding at most %d of its "
           "rows\n",
           OCT_PREDICT_ROWS);
    if (has_outputs) {
        printf(
            "outputs: the same of what the layer computes with it, by the calibrated strength of "
            "its input channels\n");
    }
    if (with_inputs) {
        printf("in dB, zeroed: of its inputs at their calibrated scale, estimated: the ratio, and "
               "how many become 0\n");
    }
}

// ---- Rules.

static void print_names(const char *key, unsigned bits, size_t n, const char *(*name)(size_t))
{
    const char *before = "";
    if (bits == 0) return;
    printf(" %s ", key);
    for (size_t i = 0; i < n; i++) {
        if (!(bits & 1u << i)) continue;
        printf("%s%s", before, name(i));
        before = ",";
    }
}

static const char *role_name(size_t i)
{
    return oct_role_name((oct_role)i);
}

static const char *stream_name(size_t i)
{
    return oct_stream_name((oct_stream_kind)i);
}

static void print_selection(const oct_rule *rule)
{
    if (rule->has_component) printf(" component %s", oct_component_name(rule->component));
    print_names("role", rule->roles, OCT_ROLE_COUNT, role_name);
    print_names("stream", rule->streams, OCT_STREAM_TEXT + 1, stream_name);
    if (rule->has_blocks) printf(" blocks %d..%d", rule->first_block, rule->last_block);
    if (rule->edges) printf(" edges %d", rule->edges);
    if (rule->name) printf(" name %s", rule->name);
}

static void print_setting(const oct_setting *set)
{
    printf(" ->");
    if (set->has_weights) printf(" weights %s", oct_weights_name(set->weights));
    if (set->has_granularity) printf(" granularity %s", oct_granularity_name(set->granularity));
    if (set->has_scaling) printf(" scale %s", oct_scaling_name(set->scaling));
    if (set->has_inputs) printf(" inputs %s", oct_inputs_name(set->inputs));
}

static size_t count_decided(const oct_plan *plan, int rule)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_decisions; i++) {
        n += plan->decisions[i].rule == rule;
    }
    return n;
}

static void print_rules(const oct_plan *plan)
{
    const oct_policy *policy = plan->params.policy;
    const oct_setting *set = &policy->defaults;
    printf("\npolicy %s\ndefault -> weights %s inputs %s: decides %zu layers\n", policy->name,
           oct_weights_name(set->weights), oct_inputs_name(set->inputs), count_decided(plan, -1));
    for (size_t i = 0; i < policy->n_rules; i++) {
        printf("rule %zu:", i + 1);
        print_selection(&policy->rules[i]);
        print_setting(&policy->rules[i].set);
        printf(": decides %zu\n", count_decided(plan, (int)i));
    }
}

// ---- Totals.

typedef struct total {
    size_t tensors, fp8;
    uint64_t before, after;
} total;

static total sum_role(const oct_plan *plan, oct_role role)
{
    total sum = {0};
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *d = &plan->decisions[i];
        if (d->layer->role != role) continue;
        sum.tensors++;
        sum.fp8 += d->weights != OCT_WEIGHTS_KEEP;
        sum.before += d->bytes_before;
        sum.after += d->bytes_after;
    }
    return sum;
}

// Of a component's tensors, those that are no weights of layers: biases, norms, tables.
static total sum_rest(const oct_plan *plan, const oct_source *source, oct_component component)
{
    total sum = {0};
    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component != component) continue;
        sum.tensors++;
        sum.before += source->tensors[i].bytes;
    }
    for (size_t i = 0; i < plan->n_decisions; i++) {
        if (plan->decisions[i].layer->component != component) continue;
        sum.tensors--;
        sum.before -= plan->decisions[i].bytes_before;
    }
    sum.after = sum.before;
    return sum;
}

// A folder's other components are not part of what is written.
static bool is_shown(const oct_source *source, const oct_plan *plan, oct_component component)
{
    const bool is_alone = source->checkpoint.is_diffusers || source->is_diffusers_named;
    return !is_alone || component == plan->denoiser->component;
}

static void print_total(const char *what, const total *sum, const char *remark)
{
    printf("%-9s %7zu %5zu %15" PRIu64 " %15" PRIu64 "%s\n", what, sum->tensors, sum->fp8,
           sum->before, sum->after, remark);
}

static void add_total(total *whole, const total *sum)
{
    whole->tensors += sum->tensors;
    whole->fp8 += sum->fp8;
    whole->before += sum->before;
    whole->after += sum->after;
}

static void print_totals(const oct_plan *plan, const oct_source *source)
{
    total whole = {0};
    char share[32];
    printf("\n%-9s %7s %5s %15s %15s\n", "role", "tensors", "fp8", "bytes before", "bytes after");
    for (oct_role role = 0; role < OCT_ROLE_COUNT; role++) {
        const total sum = sum_role(plan, role);
        if (sum.tensors == 0) continue;
        print_total(oct_role_name(role), &sum, "");
        add_total(&whole, &sum);
    }
    for (oct_component component = 0; component < OCT_COMPONENT_COUNT; component++) {
        const total rest = sum_rest(plan, source, component);
        if (rest.tensors == 0 || !is_shown(source, plan, component)) continue;
        print_total(oct_component_name(component), &rest,
                    component == plan->denoiser->component ? "  kept: biases, norms, tables"
                                                           : "  kept");
        add_total(&whole, &rest);
    }
    snprintf(share, sizeof share, "  %.1f %%", 100.0 * (double)whole.after / (double)whole.before);
    print_total("all", &whole, share);
}

oct_status oct_plan_print(const oct_plan *plan, const oct_source *source, oct_err *err)
{
    oct_arena arena = {0};
    oct_prediction *predictions = oct_arena_array(&arena, plan->n_decisions, sizeof *predictions);
    const oct_status st = oct_plan_predict(plan, predictions, err);
    if (!st) {
        print_layers(plan, predictions);
        print_rules(plan);
        print_totals(plan, source);
    }
    oct_arena_deinit(&arena);
    return st;
}

// ---- JSON.

static void add_sqnr(cJSON *item, const char *key, double sqnr_db)
{
    if (isfinite(sqnr_db)) {
        cJSON_AddNumberToObject(item, key, round(sqnr_db * 100) / 100);
    } else {
        cJSON_AddNullToObject(item, key);  // exact
    }
}

static void add_prediction(cJSON *item, const oct_prediction *prediction)
{
    if (prediction->rows == 0) return;
    add_sqnr(item, "sqnr_db", prediction->sqnr_db);
    if (!isnan(prediction->output_sqnr_db)) {
        add_sqnr(item, "output_sqnr_db", prediction->output_sqnr_db);
    }
    if (!isnan(prediction->input_sqnr_db)) {
        add_sqnr(item, "input_sqnr_db", prediction->input_sqnr_db);
        cJSON_AddNumberToObject(item, "input_underflow",
                                round(prediction->input_underflow * 1e6) / 1e6);
    }
    cJSON_AddNumberToObject(item, "sqnr_rows", (double)prediction->rows);
}

static cJSON *layer_to_json(const oct_decision *d, const oct_prediction *prediction)
{
    const oct_layer *layer = d->layer;
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "layer", layer->name);
    cJSON_AddStringToObject(item, "component", oct_component_name(layer->component));
    cJSON_AddStringToObject(item, "role", oct_role_name(layer->role));
    if (layer->second_role != layer->role) {
        cJSON_AddStringToObject(item, "second_role", oct_role_name(layer->second_role));
    }
    cJSON_AddStringToObject(item, "stream", oct_stream_name(layer->stream));
    cJSON_AddNumberToObject(item, "block", layer->block);
    cJSON_AddNumberToObject(item, "out_features", (double)layer->out_features);
    cJSON_AddNumberToObject(item, "in_features", (double)layer->in_features);
    cJSON_AddStringToObject(item, "weights", oct_weights_name(d->weights));
    if (d->weights != OCT_WEIGHTS_KEEP) {
        cJSON_AddStringToObject(item, "granularity", oct_granularity_name(d->granularity));
        cJSON_AddStringToObject(item, "scale", oct_scaling_name(d->scaling));
    }
    cJSON_AddStringToObject(item, "inputs", inputs_name(d));
    if (d->input_scale > 0) cJSON_AddNumberToObject(item, "input_scale", (double)d->input_scale);
    cJSON_AddNumberToObject(item, "rule", d->rule);
    cJSON_AddStringToObject(item, "reason", d->reason);
    add_prediction(item, prediction);
    cJSON_AddNumberToObject(item, "bytes_before", (double)d->bytes_before);
    cJSON_AddNumberToObject(item, "bytes_after", (double)d->bytes_after);
    return item;
}

static void add_rest(cJSON *object, const oct_plan *plan, const oct_source *source)
{
    cJSON *rest = cJSON_AddArrayToObject(object, "rest");
    for (oct_component component = 0; component < OCT_COMPONENT_COUNT; component++) {
        const total sum = sum_rest(plan, source, component);
        if (sum.tensors == 0 || !is_shown(source, plan, component)) continue;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "component", oct_component_name(component));
        cJSON_AddNumberToObject(item, "tensors", (double)sum.tensors);
        cJSON_AddNumberToObject(item, "bytes", (double)sum.before);
        cJSON_AddItemToArray(rest, item);
    }
}

oct_status oct_plan_to_json(const oct_plan *plan, const oct_source *source, cJSON *object,
                            oct_err *err)
{
    const oct_denoiser *denoiser = plan->denoiser;
    oct_arena arena = {0};
    oct_prediction *predictions = oct_arena_array(&arena, plan->n_decisions, sizeof *predictions);
    const oct_status st = oct_plan_predict(plan, predictions, err);
    if (!st) {
        cJSON_AddStringToObject(object, "architecture",
                                oct_architecture_name(denoiser->architecture));
        cJSON_AddStringToObject(object, "variant", denoiser->variant);
        cJSON_AddNumberToObject(object, "layers_fp8", (double)plan->n_fp8);
        cJSON_AddNumberToObject(object, "layers_static", (double)plan->n_static);
        cJSON_AddNumberToObject(object, "denoiser_bytes_before", (double)plan->bytes_before);
        cJSON_AddNumberToObject(object, "denoiser_bytes_after", (double)plan->bytes_after);
        add_rest(object, plan, source);
        cJSON *layers = cJSON_AddArrayToObject(object, "layers");
        for (size_t i = 0; i < plan->n_decisions; i++) {
            cJSON_AddItemToArray(layers, layer_to_json(&plan->decisions[i], &predictions[i]));
        }
    }
    oct_arena_deinit(&arena);
    return st;
}
