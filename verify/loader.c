// SPDX-License-Identifier: Apache-2.0
//
// ComfyUI's loaders as rules.
#include "verify/loader.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/number.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define METADATA_KEY "_quantization_metadata"
#define LEGACY_MARKER "scaled_fp8"
#define MARKER_BYTES_MAX 4096
#define NAME_BYTES (OCT_ST_NAME_MAX + 1)
#define ALIGNMENT 16          // of the features that FP8 GEMMs take
#define F16_INFINITE 65520.0  // what rounds to infinity

// ---- The rules.

typedef enum rule {
    RULE_NO_MARKER,
    RULE_NO_LEGACY_MARKER,
    RULE_HEADER_NAMES,
    RULE_HEADER_HIDES_LEGACY,
    RULE_HEADER_STRAY,
    RULE_BAD_MARKER,
    RULE_UNKNOWN_FORMAT,
    RULE_NO_WEIGHT,
    RULE_NO_SCALE,
    RULE_U8_WEIGHT,
    RULE_OTHER_WEIGHT,
    RULE_MANY_SCALES,
    RULE_SCALE_TYPE,
    RULE_INPUT_SCALE,
    RULE_NOT_LINEAR,
    RULE_CLIP,
    RULE_VAE,
    RULE_DIFFUSERS,
    RULE_UNIT_INPUT_SCALE,
    RULE_SCALE_16_BIT,
    RULE_BLOCK_SCALE_TYPE,
    RULE_NEW_FORMAT,
    RULE_SMALL_INPUT_SCALE,
    RULE_UNALIGNED,
    RULE_TWICE,
    RULE_MIXED_CAST,
    RULE_COUNT
} rule;

// What ComfyUI does, and why.
// clang-format off
static const struct { bool is_warning; const char *does, *why; } rules[RULE_COUNT] = {
    [RULE_NO_MARKER]           = {false, "takes the codes without their scale and renders noise", "no marker"},
    [RULE_NO_LEGACY_MARKER]    = {false, "takes the codes without their scale and renders noise", "no '" LEGACY_MARKER "'"},
    [RULE_HEADER_NAMES]        = {false, "takes the codes without their scale and renders noise, except in UNETLoader",
                                         "the header's names lack the file's prefix"},
    [RULE_HEADER_HIDES_LEGACY] = {false, "takes the codes without their scale and renders noise",
                                         "'" METADATA_KEY "' switches '" LEGACY_MARKER "' off"},
    [RULE_HEADER_STRAY]        = {false, "ignores what the header says", "no such layer in the file"},
    [RULE_BAD_MARKER]          = {false, "stops with an error", "the marker is not a JSON object with a 'format'"},
    [RULE_UNKNOWN_FORMAT]      = {false, "stops with an error", "an unknown 'format'"},
    [RULE_NO_WEIGHT]           = {false, "leaves the layer without a weight", "a marker, but no weight"},
    [RULE_NO_SCALE]            = {false, "stops with an error at the first step", "a marker, but no weight scale"},
    [RULE_U8_WEIGHT]           = {false, "reads the bytes as numbers up to 255 and renders noise", "weights stored as U8"},
    [RULE_OTHER_WEIGHT]        = {false, "casts the weight and then scales it, which renders noise",
                                         "the marker's 'format' is not the weight's type"},
    [RULE_MANY_SCALES]         = {false, "stops with an error where a GPU computes", "more than one scale for a weight"},
    [RULE_SCALE_TYPE]          = {false, "stops with an error", "a scale that is no floating-point number"},
    [RULE_INPUT_SCALE]         = {false, "stops with an error where the GPU computes in FP8", "an input scale that is not one F32"},
    [RULE_NOT_LINEAR]          = {false, "takes the codes without their scale", "only matrices have markers"},
    [RULE_CLIP]                = {false, "takes the codes without their scale", "CLIP encoders have no quantized layers"},
    [RULE_VAE]                 = {false, "takes the codes without their scale", "the VAE has no quantized layers"},
    [RULE_DIFFUSERS]           = {false, "merges q, k and v but not their scales", "diffusers names"},
    [RULE_UNIT_INPUT_SCALE]    = {true,  "clamps inputs to 448 at scale 1.0 where the GPU computes in FP8",
                                         "no input scale and no 'full_precision_matrix_mult'"},
    [RULE_SCALE_16_BIT]        = {true,  "stops with an error in releases of January 2026", "a weight scale in 16 bit"},
    [RULE_BLOCK_SCALE_TYPE]    = {true,  "stops with an error under dynamic VRAM", "block scales of type F8_E8M0 instead of U8"},
    [RULE_NEW_FORMAT]          = {true,  "stops with an error in releases older than the format", "'mxfp8', which 0.29.0 has"},
    [RULE_SMALL_INPUT_SCALE]   = {true,  "inverts the input scale to infinity in FP16", "an input scale below 1.53e-5"},
    [RULE_UNALIGNED]           = {true,  "computes in 16 bit with a warning per call", "features that are not multiples of 16"},
    [RULE_TWICE]               = {true,  "logs 'unet unexpected' in UNETLoader, harmlessly", "prefixed names in the header"},
    [RULE_MIXED_CAST]          = {true,  "casts kept weights to FP8 too, except under dynamic VRAM", "FP8 without markers"},
};

// Endings of a layer's tensors.
static const char *const endings[] = {
    ".weight", ".comfy_quant", ".weight_scale", ".input_scale", ".scale_weight", ".scale_input",
};

static const struct { const char *name; oct_dtype storage; } formats[] = {
    {"float8_e4m3fn", OCT_F8_E4M3}, {"float8_e5m2", OCT_F8_E5M2}, {"mxfp8", OCT_F8_E4M3},
    {"nvfp4", OCT_U8}, {"int8_tensorwise", OCT_I8}, {"convrot_w4a4", OCT_I8},
    {"asym_w4a8_int8", OCT_I8}, {"awq_w4a16", OCT_U8},
};
// clang-format on

// ---- Layers as the loader sees them.

typedef struct marked {  // one layer
    const char *name;    // in the file, without an ending
    oct_component component;
    const char *prefix;  // of the component in the file
    const oct_st_tensor *weight, *marker, *weight_scale, *input_scale;  // either spelling
    bool is_legacy_spelled;
    bool has_entry;       // the header's, under the name in the file
    bool has_bare_entry;  // the same without the prefix
    bool is_marked, is_full_precision;
    char format[64];  // "" when there is none
} marked;

typedef struct tally {
    size_t count;
    const char *first;
} tally;

typedef struct header_entry {  // of the header's "layers"
    const char *name;
    const cJSON *config;
    bool is_used;  // there is such a layer
} header_entry;

typedef struct loader_job {
    const oct_checkpoint *ckpt;
    const oct_safetensors *file;
    oct_arena arena;
    marked *layers;
    size_t n_layers, capacity;
    cJSON *header;          // of METADATA_KEY, or NULL
    header_entry *entries;  // sorted by name
    size_t n_entries;
    tally tallies[RULE_COUNT];
    size_t n_scaled;  // FP8 layers of the denoiser with scales
    bool has_legacy, has_markers, is_mx;
    bool has_all_in_header, has_kept;
} loader_job;

static void note(loader_job *job, rule which, const char *layer)
{
    if (!job->tallies[which].count++) job->tallies[which].first = layer;
}

static bool is_fp8(const oct_st_tensor *tensor)
{
    return tensor && (tensor->dtype == OCT_F8_E4M3 || tensor->dtype == OCT_F8_E5M2);
}

static const oct_st_tensor *find(const loader_job *job, const char *layer, const char *ending)
{
    char name[NAME_BYTES + 16];
    snprintf(name, sizeof name, "%s%s", layer, ending);
    return oct_safetensors_find(job->file, name);
}

static size_t layer_length(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < COUNT(endings); i++) {
        const size_t n = strlen(endings[i]);
        if (length > n && !strcmp(name + length - n, endings[i])) return length - n;
    }
    return 0;
}

static int compare_entries(const void *left, const void *right)
{
    return strcmp(((const header_entry *)left)->name, ((const header_entry *)right)->name);
}

static header_entry *find_entry(const loader_job *job, const char *name)
{
    const header_entry key = {.name = name};
    if (!job->n_entries) return NULL;
    return bsearch(&key, job->entries, job->n_entries, sizeof key, compare_entries);
}

static bool use_entry(const loader_job *job, const char *name, bool has_layer)
{
    header_entry *entry = find_entry(job, name);
    if (entry) entry->is_used |= has_layer;
    return entry;
}

static void add_layer(loader_job *job, const oct_ckpt_tensor *tensor, size_t length)
{
    const char *name = oct_arena_copy_n(&job->arena, tensor->tensor->name, length);
    const char *bare = name + strlen(tensor->prefix);
    marked layer = {
        .name = name,
        .component = tensor->component,
        .prefix = tensor->prefix,
        .weight = find(job, name, ".weight"),
        .marker = find(job, name, ".comfy_quant"),
        .weight_scale = find(job, name, ".weight_scale"),
        .input_scale = find(job, name, ".input_scale"),
    };
    layer.has_entry = use_entry(job, name, layer.weight);
    layer.has_bare_entry = *tensor->prefix && use_entry(job, bare, layer.weight);
    const oct_st_tensor *legacy = find(job, name, ".scale_weight");
    if (legacy && !layer.weight_scale) {
        layer.weight_scale = legacy;
        layer.input_scale = find(job, name, ".scale_input");
        layer.is_legacy_spelled = true;
    }
    job->layers = oct_arena_grow(&job->arena, job->layers, job->n_layers, &job->capacity,
                                 sizeof *job->layers);
    job->layers[job->n_layers++] = layer;
}

static int compare_layers(const void *left, const void *right)
{
    const marked *a = left, *b = right;
    return strcmp(a->name, b->name);
}

// Every layer that has FP8 codes, a scale or a marker, once.
static void find_layers(loader_job *job)
{
    for (size_t i = 0; i < job->ckpt->n_tensors; i++) {
        const oct_ckpt_tensor *tensor = &job->ckpt->tensors[i];
        const size_t length = layer_length(tensor->tensor->name);
        if (length <= strlen(tensor->prefix)) continue;
        add_layer(job, tensor, length);
        const marked *l = &job->layers[job->n_layers - 1];
        const bool concerns =
            is_fp8(l->weight) || l->marker || l->weight_scale || l->has_entry || l->has_bare_entry;
        if (!concerns) job->n_layers--;
    }
    if (job->n_layers) qsort(job->layers, job->n_layers, sizeof *job->layers, compare_layers);
    size_t n = 0;
    for (size_t i = 0; i < job->n_layers; i++) {
        if (n && !strcmp(job->layers[n - 1].name, job->layers[i].name)) continue;
        job->layers[n++] = job->layers[i];
    }
    job->n_layers = n;
}

// ---- Markers.

static void take_config(loader_job *job, marked *layer, const cJSON *config)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(config, "format");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(config, "full_precision_matrix_mult");
    layer->is_marked = true;
    if (!cJSON_IsObject(config) || !cJSON_IsString(format)) {
        note(job, RULE_BAD_MARKER, layer->name);
        return;
    }
    snprintf(layer->format, sizeof layer->format, "%s", format->valuestring);
    layer->is_full_precision = cJSON_IsTrue(full);
}

static oct_status take_marker(loader_job *job, marked *layer, oct_err *err)
{
    char text[MARKER_BYTES_MAX];
    cJSON *config = NULL;
    if (layer->marker->dtype == OCT_U8 && layer->marker->bytes <= sizeof text) {
        const oct_status st =
            oct_safetensors_read(job->file, layer->marker, 0, layer->marker->bytes, text, err);
        if (st) return st;
        oct_json_parse(text, layer->marker->bytes, &config, NULL);
    }
    take_config(job, layer, config);
    cJSON_Delete(config);
    return OCT_OK;
}

static const oct_st_tensor *find_legacy_marker(const loader_job *job, const marked *layer)
{
    char name[NAME_BYTES + 16];
    snprintf(name, sizeof name, "%s" LEGACY_MARKER, layer->prefix);
    return oct_safetensors_find(job->file, name);
}

// The header goes before a marker tensor; the legacy marker counts only without a header.
static oct_status mark(loader_job *job, marked *layer, oct_err *err)
{
    if (layer->has_entry) {
        take_config(job, layer, find_entry(job, layer->name)->config);
        return OCT_OK;
    }
    const oct_st_tensor *legacy = find_legacy_marker(job, layer);
    if (legacy && !job->header && layer->is_legacy_spelled) {
        layer->is_marked = true;
        layer->is_full_precision = oct_st_elements(legacy) == 2;
        strcpy(layer->format, formats[0].name);
        return OCT_OK;
    }
    return layer->marker ? take_marker(job, layer, err) : OCT_OK;
}

static void list_entries(loader_job *job, const cJSON *layers)
{
    const cJSON *config;
    if (!cJSON_IsObject(layers)) {
        note(job, RULE_BAD_MARKER, METADATA_KEY);
        return;
    }
    size_t n = 0;
    cJSON_ArrayForEach(config, layers) n++;
    job->entries = oct_arena_array(&job->arena, n, sizeof *job->entries);
    cJSON_ArrayForEach(config, layers)
    {
        job->entries[job->n_entries++] = (header_entry){config->string, config, false};
    }
    if (n) qsort(job->entries, n, sizeof *job->entries, compare_entries);
}

static void read_header(loader_job *job)
{
    const char *text = oct_safetensors_find_meta(job->file, METADATA_KEY);
    if (!text) return;
    if (oct_json_parse(text, strlen(text), &job->header, NULL)) {
        note(job, RULE_BAD_MARKER, METADATA_KEY);
        return;
    }
    list_entries(job, cJSON_GetObjectItemCaseSensitive(job->header, "layers"));
}

// ---- One layer against the rules.

static void check_unmarked(loader_job *job, const marked *layer)
{
    if (!is_fp8(layer->weight) && (!layer->weight || layer->weight->dtype != OCT_U8)) return;
    if (!layer->weight_scale) return;  // plain cast: the codes are the values
    rule why = layer->is_legacy_spelled ? RULE_NO_LEGACY_MARKER : RULE_NO_MARKER;
    if (layer->has_bare_entry) why = RULE_HEADER_NAMES;
    if (layer->is_legacy_spelled && job->header && find_legacy_marker(job, layer)) {
        why = RULE_HEADER_HIDES_LEGACY;
    }
    note(job, why, layer->name);
}

static void check_weight(loader_job *job, const marked *layer, oct_dtype storage)
{
    if (layer->weight->rank != 2) {
        note(job, RULE_NOT_LINEAR, layer->name);
    } else if (layer->weight->dtype == OCT_U8 && storage != OCT_U8) {
        note(job, RULE_U8_WEIGHT, layer->name);
    } else if (layer->weight->dtype != storage) {
        note(job, RULE_OTHER_WEIGHT, layer->name);
    }
}

static void check_block_scales(loader_job *job, const marked *layer)
{
    if (layer->weight_scale->dtype == OCT_F8_E8M0) {
        note(job, RULE_BLOCK_SCALE_TYPE, layer->name);
    } else if (layer->weight_scale->dtype != OCT_U8) {
        note(job, RULE_SCALE_TYPE, layer->name);
    }
}

static void check_weight_scale(loader_job *job, const marked *layer)
{
    const oct_dtype dtype = layer->weight_scale->dtype;
    if (!strcmp(layer->format, "mxfp8")) {
        note(job, RULE_NEW_FORMAT, layer->name);
        check_block_scales(job, layer);
        return;
    }
    if (strncmp(layer->format, "float8_", 7)) return;
    if (oct_st_elements(layer->weight_scale) != 1) note(job, RULE_MANY_SCALES, layer->name);
    if (oct_dtype_is_float16(dtype)) {
        note(job, RULE_SCALE_16_BIT, layer->name);
    } else if (dtype != OCT_F32) {
        note(job, RULE_SCALE_TYPE, layer->name);
    }
}

static oct_status check_input_scale(loader_job *job, const marked *layer, oct_err *err)
{
    const oct_st_tensor *scale = layer->input_scale;
    float value = 0;
    if (strncmp(layer->format, "float8_", 7)) return OCT_OK;
    if (layer->is_full_precision || layer->component != OCT_DENOISER) return OCT_OK;
    if (scale && (scale->dtype != OCT_F32 || oct_st_elements(scale) != 1)) {
        note(job, RULE_INPUT_SCALE, layer->name);
        return OCT_OK;
    }
    if (layer->weight->shape[0] % ALIGNMENT || layer->weight->shape[1] % ALIGNMENT) {
        note(job, RULE_UNALIGNED, layer->name);
    }
    if (scale) {
        const oct_status st = oct_safetensors_read(job->file, scale, 0, sizeof value, &value, err);
        if (st) return st;
    }
    // In the legacy spelling a scale of exactly 1 is dropped.
    if (!scale || (layer->is_legacy_spelled && value == 1)) {
        note(job, RULE_UNIT_INPUT_SCALE, layer->name);
    } else if (value > 0 && 1.0 / (double)value >= F16_INFINITE) {
        note(job, RULE_SMALL_INPUT_SCALE, layer->name);
    }
    return OCT_OK;
}

static oct_status check_marked(loader_job *job, const marked *layer, oct_err *err)
{
    size_t known = 0;
    if (!layer->format[0]) return OCT_OK;  // a broken marker, noted
    while (known < COUNT(formats) && strcmp(formats[known].name, layer->format)) known++;
    if (known == COUNT(formats)) {
        note(job, RULE_UNKNOWN_FORMAT, layer->name);
        return OCT_OK;
    }
    if (!layer->weight) {
        note(job, RULE_NO_WEIGHT, layer->name);
        return OCT_OK;
    }
    check_weight(job, layer, formats[known].storage);
    if (layer->weight->rank != 2) return OCT_OK;
    if (!layer->weight_scale) {
        note(job, RULE_NO_SCALE, layer->name);
        return OCT_OK;
    }
    check_weight_scale(job, layer);
    return check_input_scale(job, layer, err);
}

static oct_status check_layer(loader_job *job, marked *layer, oct_err *err)
{
    const bool is_scaled = layer->marker || layer->weight_scale || layer->has_entry;
    if (layer->component == OCT_CLIP_L || layer->component == OCT_CLIP_G) {
        if (is_scaled) note(job, RULE_CLIP, layer->name);
        return OCT_OK;
    }
    if (layer->component == OCT_VAE) {
        if (is_scaled) note(job, RULE_VAE, layer->name);
        return OCT_OK;
    }
    oct_status st = mark(job, layer, err);
    if (st) return st;
    if (layer->component == OCT_DENOISER) {
        job->n_scaled += layer->weight_scale && is_fp8(layer->weight);
        job->has_markers |= layer->is_marked && !layer->is_legacy_spelled;
        job->has_legacy |= layer->is_marked && layer->is_legacy_spelled;
        job->has_all_in_header &= layer->has_entry && !*layer->prefix;
        job->is_mx |= !strcmp(layer->format, "mxfp8");
        if (*layer->prefix && layer->has_entry) note(job, RULE_TWICE, layer->name);
    }
    if (layer->is_marked) return check_marked(job, layer, err);
    check_unmarked(job, layer);
    return OCT_OK;
}

// ---- The file as a whole.

// Without markers the network gets the one type that most elements have.
static void check_cast(loader_job *job)
{
    uint64_t elements[OCT_DTYPE_COUNT] = {0}, most = 0;
    const char *first_kept = NULL;
    size_t n_kept = 0;
    oct_dtype network = OCT_F16;
    for (size_t i = 0; i < job->ckpt->n_tensors; i++) {
        const oct_ckpt_tensor *tensor = &job->ckpt->tensors[i];
        if (tensor->component != OCT_DENOISER) continue;
        const oct_dtype dtype = tensor->tensor->dtype;
        elements[dtype] += oct_st_elements(tensor->tensor);
        if (elements[dtype] > most) {
            most = elements[dtype];
            network = dtype;
        }
        if (is_fp8(tensor->tensor) || tensor->tensor->rank != 2) continue;
        if (!n_kept++) first_kept = tensor->tensor->name;
    }
    job->has_kept = n_kept > 0;
    if (job->has_markers || job->has_legacy || !n_kept) return;
    if (network != OCT_F8_E4M3 && network != OCT_F8_E5M2) return;
    job->tallies[RULE_MIXED_CAST] = (tally){n_kept, first_kept};
}

static void check_entries(loader_job *job)
{
    for (size_t i = 0; i < job->n_entries; i++) {
        if (!job->entries[i].is_used) note(job, RULE_HEADER_STRAY, job->entries[i].name);
    }
}

// Names that ComfyUI maps by merging q, k and v: those of SD3 and FLUX.1. LTX-Video has "attn1".
static bool has_diffusers_names(const oct_checkpoint *ckpt)
{
    for (size_t i = 0; i < ckpt->n_tensors; i++) {
        if (ckpt->tensors[i].component == OCT_DENOISER &&
            strstr(ckpt->tensors[i].name, "transformer_blocks.") &&
            strstr(ckpt->tensors[i].name, ".attn.to_q.")) {
            return true;
        }
    }
    return false;
}

static oct_comfy_answer answer_now(const loader_job *job)
{
    static const rule stopping[] = {RULE_BAD_MARKER,  RULE_UNKNOWN_FORMAT, RULE_NO_SCALE,
                                    RULE_MANY_SCALES, RULE_SCALE_TYPE,     RULE_NO_WEIGHT,
                                    RULE_INPUT_SCALE};
    for (size_t i = 0; i < COUNT(stopping); i++) {
        if (job->tallies[stopping[i]].count) return OCT_COMFY_ERROR;
    }
    for (int i = 0; i < RULE_COUNT; i++) {
        if (job->tallies[i].count && !rules[i].is_warning && i != RULE_HEADER_STRAY) {
            return OCT_COMFY_NOISE;
        }
    }
    return job->tallies[RULE_MIXED_CAST].count ? OCT_COMFY_KEPT_CAST : OCT_COMFY_YES;
}

static void answer(loader_job *job, oct_loader *loader)
{
    const oct_comfy_answer now = answer_now(job);
    const bool is_scaled = job->has_markers || job->n_scaled;
    oct_comfy_answer first = now, header;
    if (job->has_legacy && job->has_kept) first = OCT_COMFY_KEPT_CAST;
    if (is_scaled && !job->has_legacy) first = OCT_COMFY_NOISE;
    header = first;
    if (job->has_markers && job->has_all_in_header && !job->is_mx) header = OCT_COMFY_YES;
    if (now == OCT_COMFY_NOISE || now == OCT_COMFY_ERROR) {
        if (first != OCT_COMFY_NOISE) first = now;
        if (header != OCT_COMFY_NOISE) header = now;
    }
    loader->is_known = true;
    loader->answers[OCT_COMFY_FIRST] = first;
    loader->answers[OCT_COMFY_HEADER] = header;
    loader->answers[OCT_COMFY_MARKED] = now;
}

static void report(const loader_job *job, oct_findings *findings)
{
    for (int i = 0; i < RULE_COUNT; i++) {
        const tally *t = &job->tallies[i];
        if (!t->count) continue;
        void (*add)(oct_findings *, const char *, ...) =
            rules[i].is_warning ? oct_findings_warn : oct_findings_add;
        if (t->count == 1) {
            add(findings, "ComfyUI %s: %s ('%s')", rules[i].does, rules[i].why, t->first);
        } else {
            add(findings, "ComfyUI %s: %s (%zu layers, the first '%s')", rules[i].does,
                rules[i].why, t->count, t->first);
        }
    }
}

const char *oct_comfy_era_name(oct_comfy_era era)
{
    static const char *const names[] = {"up to 0.3.66", "0.3.67 to 0.3.75", "after 0.3.76"};
    assert(era < OCT_COMFY_ERA_COUNT);
    return names[era];
}

const char *oct_comfy_answer_name(oct_comfy_answer answer)
{
    static const char *const names[] = {"yes", "kept layers become FP8", "noise", "error"};
    assert(answer <= OCT_COMFY_ERROR);
    return names[answer];
}

oct_status oct_loader_check(oct_loader *loader, const oct_checkpoint *ckpt, oct_findings *findings,
                            oct_err *err)
{
    loader_job job = {.ckpt = ckpt, .file = &ckpt->files[0], .has_all_in_header = true};
    *loader = (oct_loader){0};
    oct_findings_begin(findings, OCT_CHECK_LOADER);
    if (ckpt->is_diffusers || ckpt->n_files != 1) {
        oct_findings_warn(findings, "ComfyUI reads no folder: it needs one file");
        return OCT_OK;
    }
    const char *dialect = oct_safetensors_find_meta(job.file, "octavo.dialect");
    if (dialect && strcmp(dialect, "diffusers") == 0) {
        oct_findings_warn(findings, "ComfyUI does not read dialect diffusers: redialect it first");
        return OCT_OK;
    }
    oct_status st = OCT_OK;
    read_header(&job);
    find_layers(&job);
    for (size_t i = 0; i < job.n_layers && !st; i++) st = check_layer(&job, &job.layers[i], err);
    if (st) goto out;
    check_entries(&job);
    check_cast(&job);
    if (job.n_scaled && has_diffusers_names(ckpt)) {
        job.tallies[RULE_DIFFUSERS] = (tally){job.n_scaled, job.layers[0].name};
    }
    if (oct_checkpoint_has(ckpt, OCT_DENOISER)) answer(&job, loader);
    report(&job, findings);

out:
    cJSON_Delete(job.header);
    oct_arena_deinit(&job.arena);
    return st;
}
