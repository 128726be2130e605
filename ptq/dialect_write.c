// SPDX-License-Identifier: Apache-2.0
//
// Dialects: the tensors of an output file.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/dialect.h"
#include "ptq/naming.h"

static const char *const dialect_names[] = {"none", "comfy", "comfy-legacy", "cast", "diffusers"};

const char *oct_dialect_name(oct_dialect dialect)
{
    assert(dialect < sizeof dialect_names / sizeof *dialect_names);
    return dialect_names[dialect];
}

bool oct_dialect_parse(const char *name, oct_dialect *dialect)
{
    for (oct_dialect d = OCT_DIALECT_COMFY; d <= OCT_DIALECT_CAST; d++) {
        if (strcmp(dialect_names[d], name) != 0) continue;
        *dialect = d;
        return true;
    }
    return false;
}

// The spelling of Python's json.dumps, as ComfyUI writes it.
#define FP8 "\"format\": \"float8_e4m3fn\""
#define FULL_PRECISION FP8 ", \"full_precision_matrix_mult\": true"

// Padded with spaces to multiples of 32, which keeps the tensors after it aligned.
#define MARKER_BYTES 32
#define MARKER_FULL_BYTES 64

typedef struct writer {
    oct_outputs *outputs;
    const oct_source *source;
    const oct_plan *plan;
    oct_dialect dialect;
    bool is_renamed;  // canonical names and no prefix, the denoiser alone
} writer;

// The denoiser alone is written where the source's names are not kept.
static bool is_denoiser_alone(const oct_source *source)
{
    return source->is_diffusers_named || source->checkpoint.is_diffusers;
}

static const char *output_prefix(const oct_source *source)
{
    return is_denoiser_alone(source) ? "" : source->denoiser_prefix;
}

static oct_out_tensor *add(writer *w, const char *name, oct_dtype dtype, oct_emit emit)
{
    oct_out_tensor *out = &w->outputs->tensors[w->outputs->n_tensors++];

    *out = (oct_out_tensor){.name = name, .dtype = dtype, .emit = emit};
    return out;
}

static void add_copy(writer *w, const oct_source_tensor *tensor)
{
    const oct_st_tensor *stored = tensor->parts[0].stored->tensor;

    oct_out_tensor *out =
        add(w, w->is_renamed ? tensor->name : stored->name, tensor->dtype, OCT_EMIT_COPY);
    out->source = tensor;
    out->rank = w->is_renamed ? tensor->rank : stored->rank;
    memcpy(out->shape, w->is_renamed ? tensor->shape : stored->shape, sizeof out->shape);
}

static oct_out_tensor *add_bytes(writer *w, const char *name, oct_dtype dtype, const void *bytes,
                                 size_t n_bytes)
{
    oct_out_tensor *out = add(w, name, dtype, OCT_EMIT_BYTES);

    uint8_t *copy = oct_arena_alloc(&w->outputs->arena, n_bytes);
    if (n_bytes > 0) memcpy(copy, bytes, n_bytes);
    out->bytes = copy;
    out->n_bytes = n_bytes;
    return out;
}

static void add_quant_marker(writer *w, const oct_decision *decision, const char *layer)
{
    const bool is_static = decision->inputs == OCT_INPUTS_STATIC;
    const char *text = is_static ? "{" FP8 "}" : "{" FULL_PRECISION "}";
    const size_t bytes = is_static ? MARKER_BYTES : MARKER_FULL_BYTES;
    char padded[MARKER_FULL_BYTES];

    memset(padded, ' ', sizeof padded);
    memcpy(padded, text, strlen(text));
    const char *name = oct_arena_print(&w->outputs->arena, "%s.comfy_quant", layer);
    oct_out_tensor *out = add_bytes(w, name, OCT_U8, padded, bytes);
    out->decision = decision;
    out->rank = 1;
    out->shape[0] = bytes;
}

static void add_scales(writer *w, const oct_decision *decision, const char *layer)
{
    const bool is_legacy = w->dialect == OCT_DIALECT_COMFY_LEGACY;
    oct_arena *arena = &w->outputs->arena;
    const char *weight = is_legacy ? "scale_weight" : "weight_scale";
    const char *input = is_legacy ? "scale_input" : "input_scale";

    oct_out_tensor *out =
        add(w, oct_arena_print(arena, "%s.%s", layer, weight), OCT_F32, OCT_EMIT_WEIGHT_SCALE);
    out->decision = decision;
    if (decision->inputs != OCT_INPUTS_STATIC) return;
    out = add_bytes(w, oct_arena_print(arena, "%s.%s", layer, input), OCT_F32,
                    &decision->input_scale, sizeof(float));
    out->decision = decision;
}

static void add_fp8_layer(writer *w, const oct_decision *decision)
{
    oct_arena *arena = &w->outputs->arena;
    const char *layer =
        oct_arena_print(arena, "%s%s", output_prefix(w->source), decision->layer->name);

    oct_out_tensor *out =
        add(w, oct_arena_print(arena, "%s.weight", layer), OCT_F8_E4M3, OCT_EMIT_CODES);
    out->decision = decision;
    out->rank = 2;
    out->shape[0] = decision->layer->out_features;
    out->shape[1] = decision->layer->in_features;
    if (w->dialect != OCT_DIALECT_CAST) add_scales(w, decision, layer);
    if (w->dialect == OCT_DIALECT_COMFY) add_quant_marker(w, decision, layer);
}

static void add_legacy_marker(writer *w)
{
    const bool is_full_precision = w->plan->n_static < w->plan->n_fp8;
    const char *name =
        oct_arena_print(&w->outputs->arena, "%s" OCT_FP8_MARKER, output_prefix(w->source));

    oct_out_tensor *out =
        add_bytes(w, name, OCT_F8_E4M3, (const uint8_t[2]){0}, is_full_precision ? 2 : 0);
    out->rank = 1;
    out->shape[0] = out->n_bytes;
}

static bool is_written(const writer *w, const oct_source_tensor *tensor)
{
    if (w->is_renamed) return tensor->component == OCT_DENOISER;
    return tensor->parts[0].stored->file == &w->source->checkpoint.files[0];
}

static oct_status check_no_scales(const oct_source *source, oct_err *err)
{
    char layer[256];

    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component == OCT_DENOISER &&
            (strcmp(tensor->name, OCT_FP8_MARKER) == 0 ||
             oct_name_of_scaled_layer(tensor->name, layer, sizeof layer))) {
            return oct_fail(err, OCT_EFORMAT, "'%s' belongs to an FP8 model, but no weight is FP8",
                            tensor->name);
        }
    }
    return OCT_OK;
}

// No dialect here writes more than E4M3 with a scale per tensor.
static oct_status check_carried(const oct_plan *plan, oct_dialect dialect, oct_err *err)
{
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *decision = &plan->decisions[i];
        if (decision->weights == OCT_WEIGHTS_KEEP) continue;
        if (decision->weights == OCT_WEIGHTS_E4M3 && decision->granularity == OCT_PER_TENSOR) {
            continue;
        }
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "layer '%s': dialect '%s' carries weights 'e4m3' with granularity "
                        "'tensor', not '%s' with '%s'",
                        decision->layer->name, oct_dialect_name(dialect),
                        oct_weights_name(decision->weights),
                        oct_granularity_name(decision->granularity));
    }
    return OCT_OK;
}

static int compare_outputs(const void *left, const void *right)
{
    return strcmp(((const oct_out_tensor *)left)->name, ((const oct_out_tensor *)right)->name);
}

static void add_all(writer *w)
{
    const oct_source *source = w->source;
    oct_arena scratch = {0};
    const oct_decision **fp8_of = oct_arena_array(&scratch, source->n_tensors, sizeof *fp8_of);

    for (size_t i = 0; i < w->plan->n_decisions; i++) {
        const oct_decision *decision = &w->plan->decisions[i];
        if (decision->weights == OCT_WEIGHTS_KEEP) continue;
        fp8_of[decision->layer->weight - source->tensors] = decision;
    }
    for (size_t i = 0; i < source->n_tensors; i++) {
        if (!is_written(w, &source->tensors[i])) continue;
        if (fp8_of[i]) {
            add_fp8_layer(w, fp8_of[i]);
        } else {
            add_copy(w, &source->tensors[i]);
        }
    }
    if (w->dialect == OCT_DIALECT_COMFY_LEGACY && w->plan->n_fp8 > 0) add_legacy_marker(w);
    oct_arena_deinit(&scratch);
}

oct_status oct_outputs_init(oct_outputs *outputs, const oct_source *source, const oct_plan *plan,
                            oct_dialect dialect, oct_err *err)
{
    assert(dialect >= OCT_DIALECT_COMFY && dialect <= OCT_DIALECT_CAST);
    *outputs = (oct_outputs){0};
    oct_status st = check_no_scales(source, err);
    if (!st) st = check_carried(plan, dialect, err);
    if (st) return st;
    // A layer adds at most two scales and a marker.
    const size_t n_max = source->n_tensors + 3 * plan->n_fp8 + 1;
    outputs->tensors = oct_arena_array(&outputs->arena, n_max, sizeof *outputs->tensors);
    add_all(&(writer){outputs, source, plan, dialect, is_denoiser_alone(source)});
    qsort(outputs->tensors, outputs->n_tensors, sizeof *outputs->tensors, compare_outputs);
    return OCT_OK;
}

void oct_outputs_deinit(oct_outputs *outputs)
{
    oct_arena_deinit(&outputs->arena);
    *outputs = (oct_outputs){0};
}

static bool holds_denoiser_alone(const oct_source *source)
{
    if (is_denoiser_alone(source)) return true;
    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component != OCT_DENOISER) return false;
    }
    return *source->denoiser_prefix == '\0';
}

const char *oct_outputs_metadata(oct_outputs *outputs, const oct_source *source,
                                 const oct_plan *plan, oct_dialect dialect)
{
    char *text = NULL;
    size_t bytes = 0, n = 0;

    if (dialect != OCT_DIALECT_COMFY || plan->n_fp8 == 0 || !holds_denoiser_alone(source)) {
        return NULL;
    }
    FILE *out = open_memstream(&text, &bytes);
    if (!out) abort();
    fprintf(out, "{\"format_version\": \"1.0\", \"layers\": {");
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *decision = &plan->decisions[i];
        if (decision->weights == OCT_WEIGHTS_KEEP) continue;
        // Names come from the layer table: nothing in them needs escaping.
        fprintf(out, "%s\"%s\": {%s}", n++ ? ", " : "", decision->layer->name,
                decision->inputs == OCT_INPUTS_STATIC ? FP8 : FULL_PRECISION);
    }
    fprintf(out, "}}");
    if (fclose(out)) abort();  // only memory can fail here
    const char *copy = oct_arena_copy_n(&outputs->arena, text, bytes);
    free(text);
    return copy;
}
