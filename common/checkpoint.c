// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints: plan which files to open, open them, list their tensors.
#include "common/checkpoint.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/shard_index.h"

#define SHOWN_MAX 256

typedef enum source_kind {
    SOURCE_MODEL,      // one file of anything
    SOURCE_SEPARATE,   // one component, perhaps with a prefix
    SOURCE_COMPONENT,  // a file of a diffusers component
} source_kind;

typedef struct source {
    source_kind kind;
    oct_component component;  // not of SOURCE_MODEL
    const char *path;         // NULL: a shard
    const oct_shard_index *index;
    size_t shard;
} source;

typedef struct plan {
    oct_checkpoint *ckpt;
    bool is_separate[OCT_COMPONENT_COUNT];  // given as a file of its own
    source *sources;
    size_t n_sources, capacity;
    size_t n_tensors_max;
} plan;

static const char *const component_names[OCT_COMPONENT_COUNT] = {
    "denoiser", "vae", "clip-l", "clip-g", "t5", "other",
};

const char *oct_component_name(oct_component component)
{
    assert(component < OCT_COMPONENT_COUNT);
    return component_names[component];
}

// --- what names say ---

// clang-format off
static const struct prefix {
    const char *text;
    oct_component component;
} prefixes[] = {
    {"model.diffusion_model.",            OCT_DENOISER},
    {"first_stage_model.",                OCT_VAE},
    {"vae.",                              OCT_VAE},
    {"text_encoders.clip_l.transformer.", OCT_CLIP_L},
    {"text_encoders.clip_g.transformer.", OCT_CLIP_G},
    {"text_encoders.t5xxl.transformer.",  OCT_T5},
    // Longer ones are above: the first match counts.
    {"text_encoders.",                    OCT_OTHER},
    {"model_sampling.",                   OCT_OTHER},
    {"model_ema.",                        OCT_OTHER},
    {"cond_stage_model.",                 OCT_OTHER},
    {"conditioner.",                      OCT_OTHER},
    {"loss.",                             OCT_OTHER},
};

// What a file without known prefixes is; the first match in any of its names counts.
static const struct prefix signs[] = {
    {"joint_blocks.",                 OCT_DENOISER},
    {"double_blocks.",                OCT_DENOISER},
    {"transformer_blocks.",           OCT_DENOISER},
    {"text_model.encoder.layers.30.", OCT_CLIP_G},
    {"text_model.",                   OCT_CLIP_L},
    {"encoder.block.",                OCT_T5},
    {"encoder.",                      OCT_VAE},
    {"decoder.",                      OCT_VAE},
};
// clang-format on

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static const struct prefix *find_prefix(const char *name)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t length = strlen(prefixes[i].text);
        if (strncmp(name, prefixes[i].text, length) == 0 && name[length]) return &prefixes[i];
    }
    return NULL;
}

static bool has_prefixed(const oct_safetensors *file, oct_component component)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct prefix *prefix = find_prefix(file->tensors[i].name);
        if (prefix && prefix->component == component) return true;
    }
    return false;
}

static bool has_name_starting(const oct_safetensors *file, const char *start)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        if (starts_with(file->tensors[i].name, start)) return true;
    return false;
}

static oct_component guess_unprefixed(const oct_safetensors *file)
{
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (has_name_starting(file, signs[i].text)) return signs[i].component;
    return OCT_DENOISER;
}

// --- plan ---

static void push_source(plan *p, source added)
{
    p->sources =
        oct_arena_grow(&p->ckpt->arena, p->sources, p->n_sources, &p->capacity, sizeof *p->sources);
    p->sources[p->n_sources++] = added;
}

static oct_status push_index(plan *p, oct_component component, const char *path, oct_err *err)
{
    oct_shard_index *index = oct_arena_alloc(&p->ckpt->arena, sizeof *index);

    const oct_status st = oct_shard_index_load(index, &p->ckpt->arena, path, err);
    for (size_t i = 0; i < index->n_shards && !st; i++)
        push_source(p, (source){SOURCE_COMPONENT, component, NULL, index, i});
    return st;
}

// The files of one component, in the order in which readers of this layout look for them.
static oct_status plan_folder(plan *p, oct_component component, const char *folder, oct_err *err)
{
    static const char *const endings[] = {
        ".safetensors",
        ".safetensors.index.json",
        ".fp16.safetensors",
        ".safetensors.index.fp16.json",
    };
    oct_arena *arena = &p->ckpt->arena;

    const bool is_text = component != OCT_DENOISER && component != OCT_VAE;
    const char *stem = is_text ? "model" : "diffusion_pytorch_model";
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const char *name = oct_arena_print(arena, "%s%s", stem, endings[i]);
        const char *path = oct_path_join(arena, folder, name);
        if (!oct_path_exists(path)) continue;
        p->ckpt->component_folders[component] = folder;
        if (strstr(endings[i], ".json")) return push_index(p, component, path, err);
        push_source(p, (source){SOURCE_COMPONENT, component, path, NULL, 0});
        return OCT_OK;
    }
    return oct_fail(err, OCT_EIO, "'%s' has no '%s.safetensors' and no '%s.safetensors.index.json'",
                    folder, stem, stem);
}

// `entry` is [library, class]; both null: the component is absent.
static oct_status get_class(const cJSON *entry, const char *key, const char **class, oct_err *err)
{
    const cJSON *library = cJSON_GetArrayItem(entry, 0), *name = cJSON_GetArrayItem(entry, 1);

    *class = NULL;
    if (cJSON_IsArray(entry) && cJSON_GetArraySize(entry) == 2) {
        if (cJSON_IsNull(library) && cJSON_IsNull(name)) return OCT_OK;
        if (cJSON_IsString(library) && cJSON_IsString(name)) {
            *class = name->valuestring;
            return OCT_OK;
        }
    }
    return oct_fail(err, OCT_EFORMAT, "'%s' must be [library, class] or [null, null]", key);
}

static oct_status plan_component(plan *p, const cJSON *root, const char *key,
                                 oct_component component, oct_err *err)
{
    const char *class = NULL;

    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!entry) return OCT_OK;
    const oct_status st = get_class(entry, key, &class, err);
    if (st || !class) return st;
    if (starts_with(key, "text_encoder") && strstr(class, "T5")) component = OCT_T5;
    if (p->is_separate[component]) return OCT_OK;
    if (p->ckpt->component_folders[component])
        return oct_fail(err, OCT_EFORMAT, "'%s' is a second %s", key,
                        oct_component_name(component));
    return plan_folder(p, component, oct_path_join(&p->ckpt->arena, p->ckpt->folder, key), err);
}

// Whether a folder without an index of the model is a transformer on its own.
static bool is_component(plan *p, const char *folder)
{
    oct_arena *arena = &p->ckpt->arena;

    return oct_path_exists(oct_path_join(arena, folder, "diffusion_pytorch_model.safetensors")) ||
           oct_path_exists(
               oct_path_join(arena, folder, "diffusion_pytorch_model.safetensors.index.json"));
}

static oct_status plan_diffusers(plan *p, const char *folder, oct_err *err)
{
    static const struct {
        const char *key;
        oct_component component;
    } parts[] = {
        {"transformer", OCT_DENOISER},  {"vae", OCT_VAE},           {"text_encoder", OCT_CLIP_L},
        {"text_encoder_2", OCT_CLIP_G}, {"text_encoder_3", OCT_T5},
    };
    cJSON *root = NULL;

    p->ckpt->is_diffusers = true;
    p->ckpt->folder = oct_arena_copy(&p->ckpt->arena, folder);
    const char *path = oct_path_join(&p->ckpt->arena, folder, "model_index.json");
    if (!oct_path_exists(path) && is_component(p, folder)) {
        return plan_folder(p, OCT_DENOISER, p->ckpt->folder, err);
    }
    oct_status st = oct_json_load(path, &root, err);
    if (st) return st;
    if (!cJSON_IsObject(root)) st = oct_fail(err, OCT_EFORMAT, "the root must be an object");
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !st; i++)
        st = plan_component(p, root, parts[i].key, parts[i].component, err);
    cJSON_Delete(root);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

static oct_status plan_all(plan *p, const oct_model_paths *paths, oct_err *err)
{
    const char *const separate[OCT_COMPONENT_COUNT] = {
        [OCT_VAE] = paths->vae,
        [OCT_CLIP_L] = paths->clip_l,
        [OCT_CLIP_G] = paths->clip_g,
        [OCT_T5] = paths->t5,
    };

    for (int i = 0; i < OCT_COMPONENT_COUNT; i++) p->is_separate[i] = separate[i] != NULL;
    if (paths->model && oct_path_is_folder(paths->model)) {
        const oct_status st = plan_diffusers(p, paths->model, err);
        if (st) return st;
    } else if (paths->model) {
        push_source(p, (source){SOURCE_MODEL, OCT_OTHER, paths->model, NULL, 0});
    }
    for (int i = 0; i < OCT_COMPONENT_COUNT; i++)
        if (separate[i])
            push_source(p, (source){SOURCE_SEPARATE, (oct_component)i, separate[i], NULL, 0});
    if (p->n_sources == 0 && paths->model)
        return oct_fail(err, OCT_EFORMAT, "'%s' names no component", paths->model);
    if (p->n_sources == 0) return oct_fail(err, OCT_EUSAGE, "no model file is given");
    return OCT_OK;
}

// --- open ---

static oct_status open_source(plan *p, const source *from, oct_err *err)
{
    oct_checkpoint *ckpt = p->ckpt;
    oct_safetensors *file = &ckpt->files[ckpt->n_files];

    const oct_status st = from->index ? oct_shard_open(from->index, from->shard, file, err)
                                      : oct_safetensors_open(file, from->path, err);
    if (st) return st;
    ckpt->n_files++;
    p->n_tensors_max += file->n_tensors;
    if (from->index && from->shard + 1 == from->index->n_shards)
        return oct_shard_index_check(from->index, file - from->shard, err);
    return OCT_OK;
}

static oct_status open_all(plan *p, oct_err *err)
{
    oct_status st = OCT_OK;

    p->ckpt->files = oct_arena_array(&p->ckpt->arena, p->n_sources, sizeof *p->ckpt->files);
    for (size_t i = 0; i < p->n_sources && !st; i++) st = open_source(p, &p->sources[i], err);
    return st;
}

// --- list ---

static void push_tensor(oct_checkpoint *ckpt, const oct_safetensors *file,
                        const oct_st_tensor *tensor, const char *prefix, oct_component component)
{
    ckpt->tensors[ckpt->n_tensors++] = (oct_ckpt_tensor){
        .name = tensor->name + strlen(prefix),
        .prefix = prefix,
        .component = component,
        .file = file,
        .tensor = tensor,
    };
}

static void push_classified(oct_checkpoint *ckpt, const oct_safetensors *file,
                            const oct_st_tensor *tensor, oct_component unprefixed)
{
    const struct prefix *prefix = find_prefix(tensor->name);

    if (prefix && prefix->component != OCT_OTHER)
        push_tensor(ckpt, file, tensor, prefix->text, prefix->component);
    else
        push_tensor(ckpt, file, tensor, "", prefix ? OCT_OTHER : unprefixed);
}

static void list_model(plan *p, const oct_safetensors *file)
{
    oct_checkpoint *ckpt = p->ckpt;

    const oct_component unprefixed =
        has_prefixed(file, OCT_DENOISER) ? OCT_OTHER : guess_unprefixed(file);
    for (size_t i = 0; i < file->n_tensors; i++) {
        push_classified(ckpt, file, &file->tensors[i], unprefixed);
        if (p->is_separate[ckpt->tensors[ckpt->n_tensors - 1].component]) ckpt->n_tensors--;
    }
}

// A small CLIP-G cannot be told from a CLIP-L by its names.
static bool can_be(oct_component guess, oct_component component)
{
    return guess == component || (guess == OCT_CLIP_L && component == OCT_CLIP_G);
}

static oct_status list_separate(plan *p, const oct_safetensors *file, oct_component component,
                                oct_err *err)
{
    oct_checkpoint *ckpt = p->ckpt;
    oct_component unprefixed = OCT_OTHER;

    if (!has_prefixed(file, component)) {
        unprefixed = guess_unprefixed(file);
        if (!can_be(unprefixed, component))
            return oct_fail(err, OCT_EFORMAT, "'%s' holds no %s", file->file.path,
                            oct_component_name(component));
        unprefixed = component;
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        push_classified(ckpt, file, &file->tensors[i], unprefixed);
        const oct_component found = ckpt->tensors[ckpt->n_tensors - 1].component;
        if (found != component && found != OCT_OTHER) ckpt->n_tensors--;
    }
    return OCT_OK;
}

static oct_status list_source(plan *p, const source *from, const oct_safetensors *file,
                              oct_err *err)
{
    if (from->kind == SOURCE_SEPARATE) return list_separate(p, file, from->component, err);
    if (from->kind == SOURCE_MODEL) {
        list_model(p, file);
        return OCT_OK;
    }
    for (size_t i = 0; i < file->n_tensors; i++)
        push_tensor(p->ckpt, file, &file->tensors[i], "", from->component);
    return OCT_OK;
}

// Files are in one array, so their addresses make the order of equal names stable.
static int compare_tensors(const void *a, const void *b)
{
    const oct_ckpt_tensor *left = a, *right = b;

    if (left->component != right->component) return left->component < right->component ? -1 : 1;
    const int order = strcmp(left->name, right->name);
    if (order) return order;
    return left->file == right->file ? 0 : left->file < right->file ? -1 : 1;
}

static oct_status check_twice(const oct_checkpoint *ckpt, oct_err *err)
{
    char first[SHOWN_MAX], second[SHOWN_MAX];

    for (size_t i = 1; i < ckpt->n_tensors; i++) {
        const oct_ckpt_tensor *a = &ckpt->tensors[i - 1], *b = &ckpt->tensors[i];
        if (a->component == OCT_OTHER || a->component != b->component ||
            strcmp(a->name, b->name) != 0)
            continue;
        return oct_fail(err, OCT_EFORMAT, "'%s': tensors '%s' and '%s' are the same of the %s",
                        b->file->file.path, oct_printable(a->tensor->name, first, sizeof first),
                        oct_printable(b->tensor->name, second, sizeof second),
                        oct_component_name(a->component));
    }
    return OCT_OK;
}

static oct_status list_all(plan *p, oct_err *err)
{
    oct_checkpoint *ckpt = p->ckpt;
    oct_status st = OCT_OK;

    ckpt->tensors = oct_arena_array(&ckpt->arena, p->n_tensors_max, sizeof *ckpt->tensors);
    for (size_t i = 0; i < p->n_sources && !st; i++)
        st = list_source(p, &p->sources[i], &ckpt->files[i], err);
    if (st) return st;
    qsort(ckpt->tensors, ckpt->n_tensors, sizeof *ckpt->tensors, compare_tensors);
    return check_twice(ckpt, err);
}

oct_status oct_checkpoint_open(oct_checkpoint *ckpt, const oct_model_paths *paths, oct_err *err)
{
    plan p = {.ckpt = ckpt};

    *ckpt = (oct_checkpoint){0};
    oct_status st = plan_all(&p, paths, err);
    if (!st) st = open_all(&p, err);
    if (!st) st = list_all(&p, err);
    if (st) oct_checkpoint_close(ckpt);
    return st;
}

void oct_checkpoint_close(oct_checkpoint *ckpt)
{
    for (size_t i = 0; i < ckpt->n_files; i++) oct_safetensors_close(&ckpt->files[i]);
    oct_arena_deinit(&ckpt->arena);
    *ckpt = (oct_checkpoint){0};
}

static const oct_ckpt_tensor *lower_bound(const oct_checkpoint *ckpt, oct_component component,
                                          const char *name)
{
    size_t low = 0, high = ckpt->n_tensors;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const oct_ckpt_tensor *tensor = &ckpt->tensors[middle];
        const bool is_before = tensor->component < component ||
                               (tensor->component == component && strcmp(tensor->name, name) < 0);
        if (is_before)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ckpt->n_tensors ? &ckpt->tensors[low] : NULL;
}

const oct_ckpt_tensor *oct_checkpoint_find(const oct_checkpoint *ckpt, oct_component component,
                                           const char *name)
{
    const oct_ckpt_tensor *found = lower_bound(ckpt, component, name);
    return found && found->component == component && strcmp(found->name, name) == 0 ? found : NULL;
}

bool oct_checkpoint_has(const oct_checkpoint *ckpt, oct_component component)
{
    const oct_ckpt_tensor *found = lower_bound(ckpt, component, "");
    return found && found->component == component;
}

const char *oct_checkpoint_config(oct_checkpoint *ckpt, oct_component component)
{
    const char *folder = ckpt->component_folders[component];

    if (!folder) return NULL;
    const char *path = oct_path_join(&ckpt->arena, folder, "config.json");
    return oct_path_exists(path) ? path : NULL;
}
