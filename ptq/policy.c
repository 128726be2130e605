// SPDX-License-Identifier: Apache-2.0
//
// Policies: parsing, selecting, applying.
#include "ptq/policy.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "ptq/policy_bundle.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define VERSION 1
#define FILE_BYTES_MAX (1u << 20)
#define RULES_MAX 1000
#define GLOB_MAX 512
#define BLOCK_MAX 100000

static const char *const weights_names[] = {"keep", "e4m3", "e5m2", NULL};
static const char *const granularity_names[] = {"tensor", "channel", "mx", NULL};
static const char *const scaling_names[] = {"max", "mse", "percentile", NULL};
static const char *const rounding_names[] = {"nearest", NULL};
static const char *const inputs_names[] = {"none", "static", NULL};

const char *oct_weights_name(oct_weights weights)
{
    assert(weights <= OCT_WEIGHTS_E5M2);
    return weights_names[weights];
}

const char *oct_granularity_name(oct_granularity granularity)
{
    assert(granularity <= OCT_PER_MX_BLOCK);
    return granularity_names[granularity];
}

const char *oct_scaling_name(oct_scaling scaling)
{
    assert(scaling <= OCT_SCALE_PERCENTILE);
    return scaling_names[scaling];
}

const char *oct_inputs_name(oct_inputs inputs)
{
    assert(inputs <= OCT_INPUTS_STATIC);
    return inputs_names[inputs];
}

// ---- Parsing.

static const char *const root_keys[] = {"octavo_policy", "name",  "description", "source",
                                        "default",       "rules", NULL};
static const char *const rule_keys[] = {"select", "set", NULL};
static const char *const select_keys[] = {"component", "role", "stream", "blocks",
                                          "edges",     "name", NULL};
static const char *const set_keys[] = {"weights",  "granularity", "scale", "percentile",
                                       "rounding", "inputs",      NULL};

// "'keep', 'e4m3' or 'e5m2'"
static const char *list_choices(oct_arena *arena, const char *const *names)
{
    const char *list = oct_arena_print(arena, "'%s'", names[0]);

    for (size_t i = 1; names[i]; i++) {
        list = oct_arena_print(arena, "%s%s'%s'", list, names[i + 1] ? ", " : " or ", names[i]);
    }
    return list;
}

static oct_status fail_choice(const char *key, const char *text, const char *const *names,
                              oct_err *err)
{
    oct_arena scratch = {0};
    char shown[100];

    const oct_status st =
        oct_fail(err, OCT_EFORMAT, "'%s' is '%s', not %s", key,
                 oct_printable(text, shown, sizeof shown), list_choices(&scratch, names));
    oct_arena_deinit(&scratch);
    return st;
}

static oct_status get_choice(const cJSON *object, const char *key, const char *const *names,
                             bool *has, int *choice, oct_err *err)
{
    const char *text = NULL;

    *has = cJSON_HasObjectItem(object, key);
    if (!*has) return OCT_OK;
    const oct_status st = oct_json_text(object, key, &text, err);
    if (st) return st;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            *choice = i;
            return OCT_OK;
        }
    }
    return fail_choice(key, text, names, err);
}

static oct_status get_inputs(const cJSON *object, bool *has, int *inputs, oct_err *err)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "inputs"));

    if (text && strcmp(text, "dynamic") == 0) {
        return oct_fail(err, OCT_EFORMAT,
                        "'inputs' is 'dynamic', which no dialect here carries: only 'none' or "
                        "'static'");
    }
    return get_choice(object, "inputs", inputs_names, has, inputs, err);
}

// "percentile" stands beside "scale": "percentile", and nowhere else.
static oct_status get_percentile(const cJSON *object, oct_setting *setting, oct_err *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, "percentile");
    const bool is_wanted = setting->has_scaling && setting->scaling == OCT_SCALE_PERCENTILE;

    if (is_wanted != (value != NULL)) {
        return oct_fail(err, OCT_EFORMAT, "%s",
                        is_wanted ? "'scale' is 'percentile': the number 'percentile' is missing"
                                  : "'percentile' stands without 'scale' being 'percentile'");
    }
    if (!value) return OCT_OK;
    if (!cJSON_IsNumber(value) || !(value->valuedouble > 0 && value->valuedouble <= 100)) {
        return oct_fail(err, OCT_EFORMAT, "'percentile' must be a number in (0, 100]");
    }
    setting->percentile = value->valuedouble;
    return OCT_OK;
}

static oct_status get_setting(const cJSON *object, oct_setting *set, oct_err *err)
{
    int weights = 0, granularity = 0, scaling = 0, rounding = 0, inputs = 0;

    if (!cJSON_IsObject(object)) return oct_fail(err, OCT_EFORMAT, "must be an object");
    oct_status st = oct_json_only_keys(object, set_keys, err);
    if (st) return st;
    if (!object->child) return oct_fail(err, OCT_EFORMAT, "sets nothing");
    st = get_choice(object, "weights", weights_names, &set->has_weights, &weights, err);
    if (!st)
        st = get_choice(object, "granularity", granularity_names, &set->has_granularity,
                        &granularity, err);
    if (!st) st = get_choice(object, "scale", scaling_names, &set->has_scaling, &scaling, err);
    if (!st)
        st = get_choice(object, "rounding", rounding_names, &set->has_rounding, &rounding, err);
    if (!st) st = get_inputs(object, &set->has_inputs, &inputs, err);
    if (st) return st;
    set->weights = (oct_weights)weights;
    set->granularity = (oct_granularity)granularity;
    set->scaling = (oct_scaling)scaling;
    set->inputs = (oct_inputs)inputs;
    return get_percentile(object, set, err);
}

// What `set` sets, over what was set before.
static void override(oct_setting *setting, const oct_setting *set)
{
    if (set->has_weights) setting->weights = set->weights;
    if (set->has_granularity) setting->granularity = set->granularity;
    if (set->has_scaling) {
        setting->scaling = set->scaling;
        setting->percentile = set->percentile;
    }
    if (set->has_inputs) setting->inputs = set->inputs;
}

static bool parse_role(const char *name, unsigned *bits)
{
    oct_role role;

    if (!oct_role_parse(name, &role)) return false;
    *bits |= 1u << role;
    return true;
}

static bool parse_stream(const char *name, unsigned *bits)
{
    oct_stream_kind stream;

    if (!oct_stream_parse(name, &stream)) return false;
    *bits |= 1u << stream;
    return true;
}

// A name or a list of names, as bits; 0 when the key is absent.
static oct_status get_names(const cJSON *select, const char *key,
                            bool (*parse)(const char *, unsigned *), unsigned *bits, oct_err *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(select, key);
    char shown[100];

    if (!value) return OCT_OK;
    const bool is_list = cJSON_IsArray(value);
    if (is_list && !value->child) return oct_fail(err, OCT_EFORMAT, "'%s' is an empty list", key);
    for (const cJSON *item = is_list ? value->child : value; item;
         item = is_list ? item->next : NULL) {
        if (!cJSON_IsString(item)) {
            return oct_fail(err, OCT_EFORMAT, "'%s' must be a name or a list of names", key);
        }
        if (!parse(item->valuestring, bits)) {
            return oct_fail(err, OCT_EFORMAT, "unknown %s '%s'", key,
                            oct_printable(item->valuestring, shown, sizeof shown));
        }
    }
    return OCT_OK;
}

static bool is_block_number(const cJSON *item)
{
    return cJSON_IsNumber(item) && fabs(item->valuedouble) <= BLOCK_MAX &&
           floor(item->valuedouble) == item->valuedouble;
}

static oct_status get_blocks(const cJSON *select, oct_rule *rule, oct_err *err)
{
    const cJSON *blocks = cJSON_GetObjectItemCaseSensitive(select, "blocks");

    if (!blocks) return OCT_OK;
    if (!cJSON_IsArray(blocks) || cJSON_GetArraySize(blocks) != 2 ||
        !is_block_number(blocks->child) || !is_block_number(blocks->child->next)) {
        return oct_fail(err, OCT_EFORMAT, "'blocks' must be two whole numbers: [first, last]");
    }
    rule->has_blocks = true;
    rule->first_block = (int)blocks->child->valuedouble;
    rule->last_block = (int)blocks->child->next->valuedouble;
    return OCT_OK;
}

static oct_status get_edges(const cJSON *select, oct_rule *rule, oct_err *err)
{
    const cJSON *edges = cJSON_GetObjectItemCaseSensitive(select, "edges");

    if (!edges) return OCT_OK;
    if (!is_block_number(edges) || edges->valuedouble < 1) {
        return oct_fail(err, OCT_EFORMAT, "'edges' must be a count of blocks from 1");
    }
    rule->edges = (int)edges->valuedouble;
    return OCT_OK;
}

static oct_status get_glob(oct_policy *policy, const cJSON *select, oct_rule *rule, oct_err *err)
{
    const char *glob = NULL;

    if (!cJSON_HasObjectItem(select, "name")) return OCT_OK;
    const oct_status st = oct_json_text(select, "name", &glob, err);
    if (st) return st;
    const size_t length = strlen(glob);
    if (length == 0 || length > GLOB_MAX) {
        return oct_fail(err, OCT_EFORMAT, "'name' has %zu characters, not 1..%d", length, GLOB_MAX);
    }
    rule->name = oct_arena_copy(&policy->arena, glob);
    return OCT_OK;
}

static oct_status get_component(const cJSON *select, oct_rule *rule, oct_err *err)
{
    static const oct_component choices[] = {OCT_DENOISER, OCT_T5};
    const char *text = NULL;
    char shown[100];

    rule->has_component = cJSON_HasObjectItem(select, "component");
    if (!rule->has_component) return OCT_OK;
    const oct_status st = oct_json_text(select, "component", &text, err);
    if (st) return st;
    for (size_t i = 0; i < COUNT(choices); i++) {
        if (strcmp(oct_component_name(choices[i]), text) != 0) continue;
        rule->component = choices[i];
        return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT, "'component' is '%s', not 'denoiser' or 't5'",
                    oct_printable(text, shown, sizeof shown));
}

static oct_status get_rule(oct_policy *policy, const cJSON *item, oct_rule *rule, oct_err *err)
{
    if (!cJSON_IsObject(item)) return oct_fail(err, OCT_EFORMAT, "must be an object");
    oct_status st = oct_json_only_keys(item, rule_keys, err);
    if (st) return st;
    const cJSON *select = cJSON_GetObjectItemCaseSensitive(item, "select");
    const cJSON *set = cJSON_GetObjectItemCaseSensitive(item, "set");
    if (!cJSON_IsObject(select)) return oct_fail(err, OCT_EFORMAT, "'select' must be an object");
    if (!set) return oct_fail(err, OCT_EFORMAT, "'set' is missing");
    st = oct_json_only_keys(select, select_keys, err);
    if (!st) st = get_component(select, rule, err);
    if (!st) st = get_names(select, "role", parse_role, &rule->roles, err);
    if (!st) st = get_names(select, "stream", parse_stream, &rule->streams, err);
    if (!st) st = get_blocks(select, rule, err);
    if (!st) st = get_edges(select, rule, err);
    if (!st) st = get_glob(policy, select, rule, err);
    if (st) return st;
    st = get_setting(set, &rule->set, err);
    return st ? oct_wrap(err, st, "'set'") : OCT_OK;
}

static oct_status get_rules(oct_policy *policy, const cJSON *rules, oct_err *err)
{
    const cJSON *item = NULL;

    if (!rules) return OCT_OK;
    if (!cJSON_IsArray(rules)) return oct_fail(err, OCT_EFORMAT, "'rules' must be a list");
    const int n = cJSON_GetArraySize(rules);
    if (n > RULES_MAX) return oct_fail(err, OCT_EFORMAT, "%d rules: at most %d", n, RULES_MAX);
    policy->rules = oct_arena_array(&policy->arena, (size_t)n, sizeof *policy->rules);
    cJSON_ArrayForEach(item, rules)
    {
        const oct_status st = get_rule(policy, item, &policy->rules[policy->n_rules++], err);
        if (st) return oct_wrap(err, st, "rule %zu", policy->n_rules);
    }
    return OCT_OK;
}

static oct_status get_default(oct_policy *policy, const cJSON *value, oct_err *err)
{
    oct_setting given = {0};

    policy->defaults = (oct_setting){
        .has_weights = true,
        .has_granularity = true,
        .has_scaling = true,
        .has_rounding = true,
        .has_inputs = true,
        .inputs = OCT_INPUTS_STATIC,
    };
    if (!value) return OCT_OK;
    const oct_status st = get_setting(value, &given, err);
    if (st) return oct_wrap(err, st, "'default'");
    override(&policy->defaults, &given);
    return OCT_OK;
}

static oct_status get_optional_text(oct_policy *policy, const cJSON *root, const char *key,
                                    const char **text, oct_err *err)
{
    const char *value = "";

    if (cJSON_HasObjectItem(root, key)) {
        const oct_status st = oct_json_text(root, key, &value, err);
        if (st) return st;
    }
    *text = oct_arena_copy(&policy->arena, value);
    return OCT_OK;
}

static oct_status get_all(oct_policy *policy, const cJSON *root, oct_err *err)
{
    const char *name = NULL;
    uint64_t version = 0;

    if (!cJSON_IsObject(root)) return oct_fail(err, OCT_EFORMAT, "not a JSON object");
    oct_status st = oct_json_count(root, "octavo_policy", &version, err);
    if (st) return st;
    if (version != VERSION) {
        return oct_fail(err, OCT_EUNSUPPORTED, "policy version %" PRIu64 " is not known, only %d",
                        version, VERSION);
    }
    st = oct_json_only_keys(root, root_keys, err);
    if (!st) st = oct_json_text(root, "name", &name, err);
    if (st) return st;
    if (*name == '\0') return oct_fail(err, OCT_EFORMAT, "'name' is empty");
    policy->name = oct_arena_copy(&policy->arena, name);
    st = get_optional_text(policy, root, "description", &policy->description, err);
    if (!st) st = get_optional_text(policy, root, "source", &policy->source, err);
    if (!st) st = get_default(policy, cJSON_GetObjectItemCaseSensitive(root, "default"), err);
    if (!st) st = get_rules(policy, cJSON_GetObjectItemCaseSensitive(root, "rules"), err);
    return st;
}

oct_status oct_policy_parse(oct_policy *policy, const char *text, size_t bytes, oct_err *err)
{
    cJSON *root = NULL;

    *policy = (oct_policy){0};
    oct_status st = oct_json_parse(text, bytes, &root, err);
    if (!st) st = get_all(policy, root, err);
    cJSON_Delete(root);
    if (st) {
        oct_policy_deinit(policy);
    } else {
        oct_sha256_of(text, bytes, policy->sha256);
    }
    return st;
}

// ---- Loading.

const char *oct_policy_bundled(size_t index)
{
    return index < oct_n_policy_files ? oct_policy_files[index].name : NULL;
}

static oct_status load_file(oct_policy *policy, const char *path, oct_err *err)
{
    oct_arena scratch = {0};
    char *text = NULL;
    size_t bytes = 0;

    oct_status st = oct_file_read_text(&scratch, path, FILE_BYTES_MAX, &text, &bytes, err);
    if (!st) {
        st = oct_policy_parse(policy, text, bytes, err);
        if (st) oct_wrap(err, st, "policy '%s'", path);
    }
    oct_arena_deinit(&scratch);
    return st;
}

static oct_status fail_unknown(const char *name, oct_err *err)
{
    oct_arena scratch = {0};
    char shown[100];
    const char *list = "";

    for (size_t i = 0; i < oct_n_policy_files; i++) {
        list = oct_arena_print(&scratch, "%s%s%s", list, i ? ", " : "", oct_policy_files[i].name);
    }
    const oct_status st = oct_fail(
        err, OCT_EUSAGE, "no policy is called '%s': there are %s, and files ending in '.json'",
        oct_printable(name, shown, sizeof shown), list);
    oct_arena_deinit(&scratch);
    return st;
}

oct_status oct_policy_load(oct_policy *policy, const char *name_or_path, oct_err *err)
{
    const size_t length = strlen(name_or_path);

    *policy = (oct_policy){0};
    if (strchr(name_or_path, '/') ||
        (length > 5 && strcmp(name_or_path + length - 5, ".json") == 0)) {
        return load_file(policy, name_or_path, err);
    }
    for (size_t i = 0; i < oct_n_policy_files; i++) {
        const oct_policy_file *file = &oct_policy_files[i];
        if (strcmp(file->name, name_or_path) == 0) {
            return oct_policy_parse(policy, (const char *)file->text, file->bytes, err);
        }
    }
    return fail_unknown(name_or_path, err);
}

void oct_policy_deinit(oct_policy *policy)
{
    oct_arena_deinit(&policy->arena);
    *policy = (oct_policy){0};
}

// ---- Applying.

// '*' matches any characters, '?' one. Only the last '*' is ever tried again, so the time is at
// most the product of the two lengths.
static bool match_glob(const char *glob, const char *name)
{
    const char *star = NULL, *retry = NULL;

    while (*name) {
        if (*glob == '*') {
            star = glob++;
            retry = name;
        } else if (*glob == '?' || *glob == *name) {
            glob++;
            name++;
        } else if (star) {
            glob = star + 1;
            name = ++retry;
        } else {
            return false;
        }
    }
    while (*glob == '*') {
        glob++;
    }
    return *glob == '\0';
}

static bool matches_name(const char *glob, const oct_layer *layer)
{
    if (match_glob(glob, layer->name)) return true;
    for (size_t i = 0; i < COUNT(layer->diffusers_names) && layer->diffusers_names[i]; i++) {
        if (match_glob(glob, layer->diffusers_names[i])) return true;
    }
    return false;
}

static bool matches_blocks(const oct_rule *rule, int depth, int block)
{
    const int first = rule->first_block + (rule->first_block < 0 ? depth : 0);
    const int last = rule->last_block + (rule->last_block < 0 ? depth : 0);

    return block >= 0 && block >= first && block <= last;
}

// A shallow model has fewer of them, so that its middle is left.
static bool matches_edges(const oct_rule *rule, int depth, int block)
{
    const int quarter = depth / 4 > 1 ? depth / 4 : 1;
    const int edges = rule->edges < quarter ? rule->edges : quarter;

    return block >= 0 && (block < edges || block >= depth - edges);
}

static bool matches(const oct_rule *rule, const oct_denoiser *denoiser, const oct_layer *layer)
{
    const unsigned roles = 1u << layer->role | 1u << layer->second_role;
    const int depth = oct_denoiser_depth_at(denoiser, layer);

    if (layer->component != (rule->has_component ? rule->component : denoiser->component)) {
        return false;
    }
    if (rule->roles && !(rule->roles & roles)) return false;
    if (rule->streams && !(rule->streams & 1u << layer->stream)) return false;
    if (rule->has_blocks && !matches_blocks(rule, depth, layer->block)) return false;
    if (rule->edges && !matches_edges(rule, depth, layer->block)) return false;
    return !rule->name || matches_name(rule->name, layer);
}

oct_setting oct_policy_apply(const oct_policy *policy, const oct_denoiser *denoiser,
                             const oct_layer *layer, int *rule)
{
    oct_setting setting = policy->defaults;

    if (layer->component != denoiser->component) setting.weights = OCT_WEIGHTS_KEEP;
    *rule = -1;
    for (size_t i = 0; i < policy->n_rules; i++) {
        const oct_setting *set = &policy->rules[i].set;
        if (!matches(&policy->rules[i], denoiser, layer)) continue;
        override(&setting, set);
        if (set->has_weights) *rule = (int)i;
    }
    return setting;
}

static bool matches_any(const oct_rule *rule, const oct_denoiser *denoiser)
{
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        if (matches(rule, denoiser, &denoiser->layers[i])) return true;
    }
    return false;
}

oct_status oct_policy_check_rules(const oct_policy *policy, const oct_denoiser *denoiser,
                                  oct_err *err)
{
    for (size_t i = 0; i < policy->n_rules; i++) {
        if (!matches_any(&policy->rules[i], denoiser)) {
            char shown[100];
            return oct_fail(
                err, OCT_EFORMAT, "policy '%s': rule %zu matches none of the %zu layers",
                oct_printable(policy->name, shown, sizeof shown), i + 1, denoiser->n_layers);
        }
    }
    return OCT_OK;
}
