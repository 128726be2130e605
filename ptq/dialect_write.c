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
    for (oct_dialect d = OCT_DIALECT_COMFY; d <= OCT_DIALECT_DIFFUSERS; d++) {
        if (strcmp(dialect_names[d], name) != 0) continue;
        *dialect = d;
        return true;
    }
    return false;
}

// The spelling of Python's json.dumps, as ComfyUI writes it.
#define FULL_PRECISION ", \"full_precision_matrix_mult\": true"

// Padded with spaces to multiples of this, which keeps the tensors after it aligned.
#define MARKER_MULTIPLE 32
#define MARKER_BYTES_MAX 96

#define MX_BLOCK 32

typedef struct fp8_form {  // how one FP8 weight is written
    const oct_source_tensor *weight;
    const oct_decision *decision;  // whose codes are to be made; NULL: the weight holds them
    oct_dtype dtype;               // of the codes
    oct_granularity granularity;
    bool is_full_precision;
    float weight_scale, input_scale;  // weight_scale: of codes that are there; input_scale 0: none
    const oct_fp8_layer *stored;      // of codes that are there, per channel or MX; else NULL
} fp8_form;

typedef struct writer {
    oct_outputs *outputs;
    const oct_source *source;
    oct_dialect dialect;
    bool is_renamed;  // canonical or diffusers names and no prefix, the denoiser alone
    unsigned blocks;  // diffusers: the last one has swapped halves
    struct component_forms {
        size_t n, n_full_precision;
        const char *prefix;
    } of[OCT_COMPONENT_COUNT];
    FILE *metadata;  // entries of the header's form of the markers
} writer;

// The denoiser alone is written where the source's names are not kept.
static bool is_denoiser_alone(const oct_source *source)
{
    return source->is_diffusers_named || source->checkpoint.is_diffusers;
}

static const char *output_prefix(const writer *w, const oct_source_tensor *tensor)
{
    return w->is_renamed ? "" : tensor->parts[0].stored->prefix;
}

static oct_out_tensor *add(writer *w, const char *name, oct_dtype dtype, oct_emit emit)
{
    oct_outputs *outputs = w->outputs;

    outputs->tensors = oct_arena_grow(&outputs->arena, outputs->tensors, outputs->n_tensors,
                                      &outputs->capacity, sizeof *outputs->tensors);
    oct_out_tensor *out = &outputs->tensors[outputs->n_tensors++];
    *out = (oct_out_tensor){.name = name, .dtype = dtype, .emit = emit};
    return out;
}

// ---- Diffusers names.

typedef struct piece {  // some rows of a tensor
    const char *name;
    uint64_t first_row, rows;  // see oct_out_tensor
} piece;

static unsigned count_blocks(const oct_source *source)
{
    unsigned blocks = 0, block = 0;

    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component == OCT_DENOISER &&
            oct_name_index(tensor->name, "joint_blocks.", &block) && block >= blocks) {
            blocks = block + 1;
        }
    }
    return blocks;
}

// The layers of a tensor under diffusers names, without ".weight"; returns how many. q, k and v are
// thirds, two modulations begin with their second half.
static size_t cut(writer *w, const oct_source_tensor *tensor, const char *module, piece pieces[3])
{
    oct_arena *arena = &w->outputs->arena;
    const uint64_t rows = tensor->rank ? tensor->shape[0] : 1;
    const char *names[OCT_PARTS_MAX];
    oct_slot slot = OCT_SLOT_WHOLE;

    const size_t n = oct_name_in_diffusers(arena, w->source->architecture, module, names);
    assert(n <= 3);
    if (n == 0) {
        pieces[0] = (piece){module, 0, rows};
        return 1;
    }
    oct_name_of_denoiser(arena, w->source->architecture,
                         oct_arena_print(arena, "%s.weight", names[0]), w->blocks, &slot);
    for (size_t i = 0; i < n; i++) {
        const bool is_swapped = slot == OCT_SLOT_SWAPPED;
        pieces[i] = (piece){names[i], is_swapped ? rows / 2 : i * (rows / n), rows / n};
    }
    return n;
}

static void add_pieces(writer *w, const oct_source_tensor *tensor)
{
    static const char *const leaves[] = {".weight", ".bias", ""};
    oct_arena *arena = &w->outputs->arena;
    piece pieces[3];
    int leaf = 0;

    while (!oct_name_ends_with(tensor->name, leaves[leaf])) leaf++;
    const char *module =
        oct_arena_copy_n(arena, tensor->name, strlen(tensor->name) - strlen(leaves[leaf]));
    const size_t n = cut(w, tensor, module, pieces);
    for (size_t i = 0; i < n; i++) {
        oct_out_tensor *out = add(w, oct_arena_print(arena, "%s%s", pieces[i].name, leaves[leaf]),
                                  tensor->dtype, OCT_EMIT_COPY);
        out->source = tensor;
        out->rank = tensor->rank;
        memcpy(out->shape, tensor->shape, sizeof out->shape);
        if (n > 1) out->shape[0] = pieces[i].rows;
        out->first_row = pieces[i].first_row;
    }
}

// ---- Everything else.

static void add_copy(writer *w, const oct_source_tensor *tensor)
{
    if (w->dialect == OCT_DIALECT_DIFFUSERS) {
        add_pieces(w, tensor);
        return;
    }
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

// ---- An FP8 layer.

static const char *format_of(const fp8_form *form)
{
    if (form->granularity == OCT_PER_MX_BLOCK) return "mxfp8";
    return form->dtype == OCT_F8_E5M2 ? "float8_e5m2" : "float8_e4m3fn";
}

static void print_marker(FILE *out, const fp8_form *form)
{
    fprintf(out, "{\"format\": \"%s\"%s}", format_of(form),
            form->is_full_precision ? FULL_PRECISION : "");
}

static void add_quant_marker(writer *w, const fp8_form *form, const char *layer)
{
    char padded[MARKER_BYTES_MAX + 1];

    memset(padded, ' ', sizeof padded);
    FILE *text = fmemopen(padded, sizeof padded, "w");
    if (!text) abort();
    print_marker(text, form);
    const size_t length = (size_t)ftell(text);
    fclose(text);
    padded[length] = ' ';  // its NUL
    const size_t bytes = (length + MARKER_MULTIPLE - 1) / MARKER_MULTIPLE * MARKER_MULTIPLE;
    const char *name = oct_arena_print(&w->outputs->arena, "%s.comfy_quant", layer);
    oct_out_tensor *out = add_bytes(w, name, OCT_U8, padded, bytes);
    out->decision = form->decision;
    out->rank = 1;
    out->shape[0] = bytes;
}

static uint64_t round_up(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static void shape_scales(const writer *w, const fp8_form *form, const piece *part,
                         oct_out_tensor *out)
{
    const uint64_t rows = part->rows, blocks = form->weight->shape[1] / MX_BLOCK;

    switch (form->granularity) {
    case OCT_PER_TENSOR:
        break;
    case OCT_PER_CHANNEL:
        out->rank = 1;
        out->shape[0] = rows;
        break;
    case OCT_PER_MX_BLOCK:
        out->dtype = OCT_U8;
        out->is_tiled = w->dialect == OCT_DIALECT_COMFY;
        out->rank = 2;
        out->shape[0] = out->is_tiled ? round_up(rows, OCT_MX_TILE_ROWS) : rows;
        out->shape[1] = out->is_tiled ? round_up(blocks, OCT_MX_TILE_BLOCKS) : blocks;
    }
    out->first_row = part->first_row;
}

static void add_scales(writer *w, const fp8_form *form, const piece *part)
{
    const char *layer = part->name;
    const bool is_legacy = w->dialect == OCT_DIALECT_COMFY_LEGACY;
    oct_arena *arena = &w->outputs->arena;
    const char *weight =
        oct_arena_print(arena, "%s.%s", layer, is_legacy ? "scale_weight" : "weight_scale");
    const char *input =
        oct_arena_print(arena, "%s.%s", layer, is_legacy ? "scale_input" : "input_scale");

    oct_out_tensor *out;
    if (form->decision) {
        out = add(w, weight, OCT_F32, OCT_EMIT_WEIGHT_SCALE);
    } else if (form->stored) {
        out = add(w, weight, OCT_F32, OCT_EMIT_STORED_SCALE);
    } else {
        out = add_bytes(w, weight, OCT_F32, &form->weight_scale, sizeof(float));
    }
    out->decision = form->decision;
    out->stored = form->stored;
    out->source = form->stored ? form->weight : NULL;
    shape_scales(w, form, part, out);
    if (form->input_scale == 0) return;
    out = add_bytes(w, input, OCT_F32, &form->input_scale, sizeof(float));
    out->decision = form->decision;
}

static void add_part(writer *w, const fp8_form *form, const piece *part)
{
    oct_out_tensor *out = add(w, oct_arena_print(&w->outputs->arena, "%s.weight", part->name),
                              form->dtype, form->decision ? OCT_EMIT_CODES : OCT_EMIT_COPY);

    out->decision = form->decision;
    out->source = form->decision ? NULL : form->weight;
    out->rank = form->weight->rank;
    memcpy(out->shape, form->weight->shape, sizeof out->shape);
    out->shape[0] = part->rows;
    out->first_row = part->first_row;
    if (w->dialect != OCT_DIALECT_CAST) add_scales(w, form, part);
    if (w->dialect == OCT_DIALECT_COMFY) add_quant_marker(w, form, part->name);
}

static void add_fp8(writer *w, const fp8_form *form)
{
    const oct_source_tensor *weight = form->weight;
    oct_arena *arena = &w->outputs->arena;
    const char *prefix = output_prefix(w, weight);
    const char *name = oct_arena_print(arena, "%s%s", prefix, weight->name);
    const char *layer = oct_arena_copy_n(arena, name, strlen(name) - strlen(".weight"));
    struct component_forms *of = &w->of[weight->component];
    piece pieces[3] = {{layer, 0, weight->shape[0]}};
    size_t n = 1;

    if (w->dialect == OCT_DIALECT_DIFFUSERS) n = cut(w, weight, layer, pieces);
    for (size_t i = 0; i < n; i++) add_part(w, form, &pieces[i]);

    // Names come from the layer table: nothing in them needs escaping.
    fprintf(w->metadata, "%s\"%s\": ", of->n ? ", " : "", layer);
    print_marker(w->metadata, form);
    of->prefix = prefix;
    of->n++;
    of->n_full_precision += form->is_full_precision;
}

void oct_out_scales(const oct_out_tensor *out, const void *scales, uint8_t *bytes)
{
    const oct_source_tensor *weight = out->decision ? out->decision->layer->weight : out->source;
    const uint64_t rows = weight->shape[0], blocks = weight->shape[1] / MX_BLOCK;
    const uint8_t *from = scales;

    assert(out->emit == OCT_EMIT_WEIGHT_SCALE || out->emit == OCT_EMIT_STORED_SCALE);
    if (out->rank == 0) {
        memcpy(bytes, scales, sizeof(float));
        return;
    }
    if (!out->is_tiled) {
        const uint64_t row_bytes = out->dtype == OCT_F32 ? sizeof(float) : blocks;
        for (uint64_t r = 0; r < out->shape[0]; r++) {
            memcpy(bytes + r * row_bytes, from + (out->first_row + r) % rows * row_bytes,
                   row_bytes);
        }
        return;
    }
    memset(bytes, 0, out->shape[0] * out->shape[1]);
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t b = 0; b < blocks; b++) {
            bytes[oct_mx_tiled_index(r, b, blocks)] = from[r * blocks + b];
        }
    }
}

oct_status oct_out_read_scales(const oct_out_tensor *out, uint8_t *bytes, oct_err *err)
{
    const oct_fp8_layer *fp8 = out->stored;
    const uint64_t rows = out->source->shape[0], blocks = out->source->shape[1] / MX_BLOCK;
    const bool is_mx = fp8->granularity == OCT_PER_MX_BLOCK;

    assert(out->emit == OCT_EMIT_STORED_SCALE);
    void *scales = malloc(rows * (is_mx ? blocks : sizeof(float)));
    if (!scales) return oct_fail(err, OCT_ENOMEM, "out of memory for the scales '%s'", out->name);
    const oct_status st = is_mx ? oct_dialect_read_mx(fp8, blocks, 0, rows, scales, err)
                                : oct_dialect_read_channels(fp8, scales, err);
    if (!st) oct_out_scales(out, scales, bytes);
    free(scales);
    return st;
}

// ---- A whole file.

static void add_legacy_marker(writer *w, const struct component_forms *of)
{
    const char *name = oct_arena_print(&w->outputs->arena, "%s" OCT_FP8_MARKER, of->prefix);

    // It speaks for all layers: one that needs 16-bit products decides.
    oct_out_tensor *out =
        add_bytes(w, name, OCT_F8_E4M3, (const uint8_t[2]){0}, of->n_full_precision ? 2 : 0);
    out->rank = 1;
    out->shape[0] = out->n_bytes;
}

static bool is_written(const writer *w, const oct_source_tensor *tensor)
{
    if (w->is_renamed) return tensor->component == OCT_DENOISER;
    return tensor->parts[0].stored->file == &w->source->checkpoint.files[0];
}

static int compare_outputs(const void *left, const void *right)
{
    return strcmp(((const oct_out_tensor *)left)->name, ((const oct_out_tensor *)right)->name);
}

static bool holds_denoiser_alone(const oct_source *source)
{
    if (is_denoiser_alone(source)) return true;
    for (size_t i = 0; i < source->n_tensors; i++) {
        if (source->tensors[i].component != OCT_DENOISER) return false;
    }
    return *source->denoiser_prefix == '\0';
}

static void begin(writer *w, oct_outputs *outputs, const oct_source *source, oct_dialect dialect,
                  char **metadata, size_t *metadata_bytes)
{
    *outputs = (oct_outputs){0};
    *w = (writer){.outputs = outputs,
                  .source = source,
                  .dialect = dialect,
                  .is_renamed = is_denoiser_alone(source) || dialect == OCT_DIALECT_DIFFUSERS,
                  .blocks = count_blocks(source)};
    w->metadata = open_memstream(metadata, metadata_bytes);
    if (!w->metadata) abort();
}

static void end(writer *w, char **metadata)
{
    oct_outputs *outputs = w->outputs;

    if (fclose(w->metadata)) abort();  // only memory can fail here
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        if (w->dialect == OCT_DIALECT_COMFY_LEGACY && w->of[i].n) add_legacy_marker(w, &w->of[i]);
    }
    if (w->dialect == OCT_DIALECT_COMFY && w->of[OCT_DENOISER].n &&
        holds_denoiser_alone(w->source)) {
        outputs->metadata = oct_arena_print(
            &outputs->arena, "{\"format_version\": \"1.0\", \"layers\": {%s}}", *metadata);
    }
    free(*metadata);
    qsort(outputs->tensors, outputs->n_tensors, sizeof *outputs->tensors, compare_outputs);
}

// ---- By a plan.

static oct_status check_no_scales(const oct_source *source, oct_err *err)
{
    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component == OCT_DENOISER && oct_source_is_companion(tensor)) {
            return oct_fail(err, OCT_EFORMAT, "'%s' belongs to an FP8 model, but no weight is FP8",
                            tensor->name);
        }
    }
    return OCT_OK;
}

// Which dialects can carry what a layer is to be; a bit per dialect.
static unsigned carriers(oct_weights weights, oct_granularity granularity)
{
    enum {
        COMFY = 1u << OCT_DIALECT_COMFY,
        LEGACY = 1u << OCT_DIALECT_COMFY_LEGACY,
        CAST = 1u << OCT_DIALECT_CAST,
        DIFFUSERS = 1u << OCT_DIALECT_DIFFUSERS,
    };

    if (weights == OCT_WEIGHTS_E5M2) return granularity == OCT_PER_TENSOR ? COMFY | CAST : 0;
    if (granularity == OCT_PER_MX_BLOCK) return COMFY | DIFFUSERS;
    if (granularity == OCT_PER_CHANNEL) return DIFFUSERS;
    return COMFY | LEGACY | CAST | DIFFUSERS;
}

static const char *list_dialects(unsigned set, char *text, size_t bytes)
{
    size_t used = 0;

    snprintf(text, bytes, "none");
    for (int d = 0; set >> d; d++) {
        if (!(set >> d & 1)) continue;
        used += (size_t)snprintf(text + used, bytes - used, "%s'%s'", used ? ", " : "",
                                 dialect_names[d]);
    }
    return text;
}

static oct_status check_architecture(const oct_source *source, oct_dialect dialect, oct_err *err)
{
    if (dialect != OCT_DIALECT_DIFFUSERS || source->architecture == OCT_ARCH_SD3) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED, "dialect 'diffusers' is written for SD3 models only");
}

static oct_status check_carried(oct_weights weights, oct_granularity granularity,
                                oct_dialect dialect, oct_err *err)
{
    const unsigned set = carriers(weights, granularity);
    char able[100];

    if (set >> dialect & 1) return OCT_OK;
    return oct_fail(err, OCT_EUNSUPPORTED,
                    "dialect '%s' cannot carry weights '%s' with granularity '%s'; these can: %s",
                    oct_dialect_name(dialect), oct_weights_name(weights),
                    oct_granularity_name(granularity), list_dialects(set, able, sizeof able));
}

static oct_status check_plan(const oct_plan *plan, oct_dialect dialect, oct_err *err)
{
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *decision = &plan->decisions[i];
        if (decision->weights == OCT_WEIGHTS_KEEP) continue;
        const oct_status st = check_carried(decision->weights, decision->granularity, dialect, err);
        if (st) return oct_wrap(err, st, "layer '%s'", decision->layer->name);
    }
    return OCT_OK;
}

static void add_planned(writer *w, const oct_plan *plan)
{
    const oct_source *source = w->source;
    oct_arena scratch = {0};
    const oct_decision **fp8_of = oct_arena_array(&scratch, source->n_tensors, sizeof *fp8_of);

    for (size_t i = 0; i < plan->n_decisions; i++) {
        const oct_decision *decision = &plan->decisions[i];
        if (decision->weights == OCT_WEIGHTS_KEEP) continue;
        fp8_of[decision->layer->weight - source->tensors] = decision;
    }
    for (size_t i = 0; i < source->n_tensors; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (!is_written(w, tensor)) continue;
        if (!fp8_of[i]) {
            add_copy(w, tensor);
            continue;
        }
        const oct_decision *decision = fp8_of[i];
        const bool is_e5m2 = decision->weights == OCT_WEIGHTS_E5M2;
        add_fp8(w, &(fp8_form){.weight = tensor,
                               .decision = decision,
                               .dtype = is_e5m2 ? OCT_F8_E5M2 : OCT_F8_E4M3,
                               .granularity = decision->granularity,
                               .is_full_precision = decision->inputs == OCT_INPUTS_NONE,
                               .input_scale = decision->input_scale});
    }
    oct_arena_deinit(&scratch);
}

oct_status oct_outputs_init(oct_outputs *outputs, const oct_source *source, const oct_plan *plan,
                            oct_dialect dialect, oct_err *err)
{
    char *metadata = NULL;
    size_t bytes = 0;
    writer w;

    assert(dialect >= OCT_DIALECT_COMFY && dialect <= OCT_DIALECT_DIFFUSERS);
    *outputs = (oct_outputs){0};
    oct_status st = check_no_scales(source, err);
    if (!st) st = check_architecture(source, dialect, err);
    if (!st) st = check_plan(plan, dialect, err);
    if (st) return st;
    begin(&w, outputs, source, dialect, &metadata, &bytes);
    add_planned(&w, plan);
    end(&w, &metadata);
    return OCT_OK;
}

// ---- As it is.

void oct_outputs_init_plain(oct_outputs *outputs, const oct_source *source)
{
    char *metadata = NULL;
    size_t bytes = 0;
    writer w;

    begin(&w, outputs, source, OCT_DIALECT_NONE, &metadata, &bytes);
    for (size_t i = 0; i < source->n_tensors; i++) {
        if (is_written(&w, &source->tensors[i])) add_copy(&w, &source->tensors[i]);
    }
    end(&w, &metadata);
}

// ---- The same codes in another dialect.

static bool is_fp8_weight(const oct_source_tensor *tensor)
{
    return (tensor->dtype == OCT_F8_E4M3 || tensor->dtype == OCT_F8_E5M2) &&
           oct_name_ends_with(tensor->name, ".weight");
}

// What `to` cannot say of a layer that is there.
static oct_status check_form(const fp8_form *form, oct_dialect to, oct_err *err)
{
    const char *name = form->weight->name;
    const bool is_static = form->input_scale > 0;
    const bool is_e5m2 = form->dtype == OCT_F8_E5M2;

    const oct_status st =
        check_carried(is_e5m2 ? OCT_WEIGHTS_E5M2 : OCT_WEIGHTS_E4M3, form->granularity, to, err);
    if (st) return oct_wrap(err, st, "'%s'", name);
    if (to == OCT_DIALECT_CAST && (form->weight_scale != 1 || is_static)) {
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "'%s' has a scale of %.9g: dialect 'cast' has no scales", name,
                        (double)(form->weight_scale != 1 ? form->weight_scale : form->input_scale));
    }
    if (to == OCT_DIALECT_DIFFUSERS && form->is_full_precision == is_static) {
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "'%s' is computed in %s although it has %s input scale: dialect "
                        "'diffusers' cannot say that",
                        name, is_static ? "16 bit" : "FP8", is_static ? "an" : "no");
    }
    return OCT_OK;
}

static oct_status read_form(writer *w, oct_dialect from, const oct_source_tensor *weight,
                            fp8_form *form, oct_err *err)
{
    oct_fp8_layer fp8;

    const oct_status st = oct_dialect_read_weight(w->source, from, weight, &fp8, err);
    if (st) return st;
    *form = (fp8_form){.weight = weight,
                       .dtype = weight->dtype,
                       .granularity = fp8.granularity,
                       .is_full_precision = fp8.is_marked_full_precision,
                       .weight_scale = fp8.weight_scale,
                       .input_scale = fp8.input_scale};
    if (fp8.granularity != OCT_PER_TENSOR) {
        oct_fp8_layer *stored = oct_arena_array(&w->outputs->arena, 1, sizeof *stored);
        *stored = fp8;
        form->stored = stored;
    }
    return check_form(form, w->dialect, err);
}

static oct_status respell(writer *w, oct_err *err)
{
    oct_dialect from[OCT_COMPONENT_COUNT];
    oct_status st = OCT_OK;

    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        from[i] = oct_dialect_detect_component(w->source, (oct_component)i);
    }
    for (size_t i = 0; i < w->source->n_tensors && !st; i++) {
        const oct_source_tensor *tensor = &w->source->tensors[i];
        fp8_form form;
        if (!is_written(w, tensor) || oct_source_is_companion(tensor)) continue;
        if (tensor->rank != 2 || !is_fp8_weight(tensor)) {
            add_copy(w, tensor);
            continue;
        }
        st = read_form(w, from[tensor->component], tensor, &form, err);
        if (!st) add_fp8(w, &form);
    }
    return st;
}

// One marker speaks for all layers of a component.
static oct_status check_legacy(const writer *w, oct_err *err)
{
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) {
        const struct component_forms *of = &w->of[i];
        if (of->n_full_precision == 0 || of->n_full_precision == of->n) continue;
        return oct_fail(err, OCT_EUNSUPPORTED,
                        "%zu of %zu FP8 layers of the %s are computed in 16 bit: dialect "
                        "'comfy-legacy' says it of all or none",
                        of->n_full_precision, of->n, oct_component_name((oct_component)i));
    }
    return OCT_OK;
}

oct_status oct_outputs_init_respelled(oct_outputs *outputs, const oct_source *source,
                                      oct_dialect to, oct_err *err)
{
    char *metadata = NULL;
    size_t bytes = 0;
    writer w;

    *outputs = (oct_outputs){0};
    oct_status st = check_architecture(source, to, err);
    if (st) return st;
    begin(&w, outputs, source, to, &metadata, &bytes);
    st = respell(&w, err);
    if (!st && to == OCT_DIALECT_COMFY_LEGACY) st = check_legacy(&w, err);
    end(&w, &metadata);
    if (st) oct_outputs_deinit(outputs);
    return st;
}

void oct_outputs_deinit(oct_outputs *outputs)
{
    oct_arena_deinit(&outputs->arena);
    *outputs = (oct_outputs){0};
}
