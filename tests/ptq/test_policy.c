// SPDX-License-Identifier: Apache-2.0
//
// Policies: what is selected, what is refused, and the bundled ones.
#include <stdlib.h>
#include <time.h>

#include "ptq/policy.h"
#include "tests/ptq/denoiser.h"

#define HEAD "{\"octavo_policy\": 1, \"name\": \"t\""
#define RULE(select, set) HEAD ", \"rules\": [{\"select\": {" select "}, \"set\": {" set "}}]}"

static oct_status parse(oct_policy *policy, const char *text, oct_err *err)
{
    return oct_policy_parse(policy, text, strlen(text), err);
}

static void check_refused(const char *text, oct_status status, const char *sentence)
{
    oct_policy policy;
    oct_err err = {0};

    CHECK(parse(&policy, text, &err) == status);
    CHECK_TEXT(err.text, sentence);
    CHECK(!policy.rules && policy.n_rules == 0);
}

// ---- Selecting, on a tiny model of two blocks.

// Names of the layers whose weights become FP8, joined by blanks.
static void check_selected(const char *text, int n_want, const char *first, const char *last)
{
    opened_denoiser model;
    oct_policy policy;
    oct_err err = {0};
    const oct_layer *found[2] = {0};
    int n = 0, rule = 0;

    open_denoiser(&model, &model_tiny);
    CHECK(parse(&policy, text, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    for (size_t i = 0; i < model.denoiser.n_layers; i++) {
        const oct_layer *layer = &model.denoiser.layers[i];
        const oct_setting set = oct_policy_apply(&policy, &model.denoiser, layer, &rule);
        CHECK(set.has_weights && set.has_inputs);
        if (set.weights != OCT_WEIGHTS_E4M3) continue;
        if (n++ == 0) found[0] = layer;
        found[1] = layer;
    }
    CHECK(n == n_want);
    if (n != n_want) printf("# %d layers\n", n);
    if (found[0]) CHECK_TEXT(found[0]->name, first);
    if (found[1]) CHECK_TEXT(found[1]->name, last);
    CHECK(oct_policy_check_rules(&policy, &model.denoiser, NULL) == (n ? OCT_OK : OCT_EFORMAT));
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

#define SET "\"weights\": \"e4m3\""

static void rules_select_by_role(void)
{
    check_selected(RULE("\"role\": \"attn_qkv\"", SET), 5, "joint_blocks.0.x_block.attn.qkv",
                   "joint_blocks.1.context_block.attn.qkv");
    check_selected(RULE("\"role\": [\"final\", \"embed\"]", SET), 7, "x_embedder.proj",
                   "final_layer.linear");
}

static void rules_select_by_stream(void)
{
    check_selected(RULE("\"stream\": \"none\"", SET), 4, "t_embedder.mlp.0", "y_embedder.mlp.2");
    check_selected(RULE("\"stream\": [\"text\"], \"role\": \"mlp_fc1\"", SET), 1,
                   "joint_blocks.0.context_block.mlp.fc1", "joint_blocks.0.context_block.mlp.fc1");
}

static void rules_select_by_blocks_from_both_ends(void)
{
    check_selected(RULE("\"blocks\": [0, 0]", SET), 12, "joint_blocks.0.x_block.adaLN_modulation.1",
                   "joint_blocks.0.context_block.mlp.fc2");
    check_selected(RULE("\"blocks\": [-1, -1]", SET), 7,
                   "joint_blocks.1.x_block.adaLN_modulation.1", "joint_blocks.1.x_block.mlp.fc2");
    check_selected(RULE("\"blocks\": [0, -2]", SET), 12,
                   "joint_blocks.0.x_block.adaLN_modulation.1",
                   "joint_blocks.0.context_block.mlp.fc2");
    check_selected(RULE("\"blocks\": [-99, 99]", SET), 19,
                   "joint_blocks.0.x_block.adaLN_modulation.1", "joint_blocks.1.x_block.mlp.fc2");
    check_selected(RULE("\"blocks\": [1, 0]", SET), 0, "", "");
    check_selected(RULE("\"blocks\": [2, 5]", SET), 0, "", "");
}

static bool is_edge(int depth, int edges, int block)
{
    const oct_denoiser denoiser = {.depth = depth};
    const oct_layer layer = {.name = "l", .block = block};
    char text[200];
    oct_policy policy;
    int rule = 0;

    snprintf(text, sizeof text,
             HEAD ", \"rules\": [{\"select\": {\"edges\": %d}, \"set\": {" SET "}}]}", edges);
    CHECK(parse(&policy, text, NULL) == OCT_OK);
    oct_policy_apply(&policy, &denoiser, &layer, &rule);
    oct_policy_deinit(&policy);
    return rule == 0;
}

static void edges_are_at_most_a_quarter_at_either_end(void)
{
    static const struct {
        int depth, edges, at_either_end;
    } known[] = {{1, 2, 1}, {2, 2, 1},  {3, 2, 1},  {4, 2, 1},  {7, 2, 1},
                 {8, 2, 2}, {38, 2, 2}, {12, 9, 3}, {24, 1, 1}, {24, 100, 6}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const int depth = known[i].depth, n = known[i].at_either_end;
        for (int block = 0; block < depth; block++) {
            CHECK(is_edge(depth, known[i].edges, block) == (block < n || block >= depth - n));
        }
        CHECK(!is_edge(depth, known[i].edges, -1));  // in no block
    }
}

static void rules_select_by_name_in_both_namings(void)
{
    check_selected(RULE("\"name\": \"joint_blocks.*.mlp.fc?\"", SET), 6,
                   "joint_blocks.0.x_block.mlp.fc1", "joint_blocks.1.x_block.mlp.fc2");
    check_selected(RULE("\"name\": \"*.to_v\"", SET), 3, "joint_blocks.0.x_block.attn.qkv",
                   "joint_blocks.1.x_block.attn.qkv");
    check_selected(RULE("\"name\": \"proj_out\"", SET), 1, "final_layer.linear",
                   "final_layer.linear");
    check_selected(RULE("\"name\": \"*\"", SET), 27, "x_embedder.proj", "final_layer.linear");
    check_selected(RULE("\"name\": \"**p?oj_ou*t*\"", SET), 1, "final_layer.linear",
                   "final_layer.linear");
    check_selected(RULE("\"name\": \"roj_out\"", SET), 0, "", "");
    check_selected(RULE("\"name\": \"proj_ou\"", SET), 0, "", "");
    check_selected(RULE("\"name\": \"proj_out?\"", SET), 0, "", "");
}

static void last_matching_rule_wins_key_by_key(void)
{
    opened_denoiser model;
    oct_policy policy;
    int rule = 0;

    open_denoiser(&model, &model_tiny);
    CHECK(parse(&policy,
                HEAD ", \"default\": {\"inputs\": \"none\"}, \"rules\": ["
                     "{\"select\": {}, \"set\": {\"weights\": \"e4m3\"}},"
                     "{\"select\": {\"role\": \"mod\"}, \"set\": {\"inputs\": \"static\"}},"
                     "{\"select\": {\"role\": [\"mod\", \"final\"], \"blocks\": [0, 0]},"
                     " \"set\": {\"weights\": \"keep\"}}]}",
                NULL) == OCT_OK);
    const oct_layer *mod = oct_denoiser_find(&model.denoiser, "transformer_blocks.0.norm1.linear");
    oct_setting set = oct_policy_apply(&policy, &model.denoiser, mod, &rule);
    CHECK(set.weights == OCT_WEIGHTS_KEEP && set.inputs == OCT_INPUTS_STATIC && rule == 2);
    mod = oct_denoiser_find(&model.denoiser, "transformer_blocks.1.norm1.linear");
    set = oct_policy_apply(&policy, &model.denoiser, mod, &rule);
    CHECK(set.weights == OCT_WEIGHTS_E4M3 && set.inputs == OCT_INPUTS_STATIC && rule == 0);
    const oct_layer *fc1 = oct_denoiser_find(&model.denoiser, "joint_blocks.0.x_block.mlp.fc1");
    set = oct_policy_apply(&policy, &model.denoiser, fc1, &rule);
    CHECK(set.weights == OCT_WEIGHTS_E4M3 && set.inputs == OCT_INPUTS_NONE && rule == 0);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void granularity_and_scale_are_keys_of_their_own(void)
{
    opened_denoiser model;
    oct_policy policy;
    int rule = 0;

    open_denoiser(&model, &model_tiny);
    CHECK(parse(&policy,
                HEAD ", \"default\": {\"weights\": \"e5m2\", \"rounding\": \"nearest\","
                     " \"scale\": \"percentile\", \"percentile\": 99.5}, \"rules\": ["
                     "{\"select\": {\"role\": \"mod\"}, \"set\": {\"granularity\": \"channel\"}},"
                     "{\"select\": {\"role\": \"mod\", \"blocks\": [1, 1]},"
                     " \"set\": {\"granularity\": \"mx\", \"scale\": \"max\"}}]}",
                NULL) == OCT_OK);
    const oct_layer *mod = oct_denoiser_find(&model.denoiser, "transformer_blocks.0.norm1.linear");
    oct_setting set = oct_policy_apply(&policy, &model.denoiser, mod, &rule);
    CHECK(set.weights == OCT_WEIGHTS_E5M2 && set.granularity == OCT_PER_CHANNEL && rule == -1);
    CHECK(set.scaling == OCT_SCALE_PERCENTILE && set.percentile == 99.5);
    mod = oct_denoiser_find(&model.denoiser, "transformer_blocks.1.norm1.linear");
    set = oct_policy_apply(&policy, &model.denoiser, mod, &rule);
    CHECK(set.weights == OCT_WEIGHTS_E5M2 && set.granularity == OCT_PER_MX_BLOCK && rule == -1);
    CHECK(set.scaling == OCT_SCALE_MAX && set.percentile == 0);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

static void defaults_are_keep_and_static(void)
{
    oct_policy policy;

    CHECK(parse(&policy, HEAD "}", NULL) == OCT_OK);
    CHECK(policy.defaults.weights == OCT_WEIGHTS_KEEP && policy.defaults.has_weights);
    CHECK(policy.defaults.inputs == OCT_INPUTS_STATIC && policy.defaults.has_inputs);
    CHECK(policy.defaults.granularity == OCT_PER_TENSOR && policy.defaults.has_granularity);
    CHECK(policy.defaults.scaling == OCT_SCALE_MAX && policy.defaults.has_scaling);
    CHECK(strlen(policy.sha256) == 64 && policy.n_rules == 0);
    CHECK_TEXT(policy.description, "");
    CHECK_TEXT(policy.source, "");
    oct_policy_deinit(&policy);
}

static void rule_that_matches_nothing_is_named(void)
{
    opened_denoiser model;
    oct_policy policy;
    oct_err err = {0};

    open_denoiser(&model, &model_tiny);
    CHECK(parse(&policy,
                HEAD ", \"rules\": [{\"select\": {}, \"set\": {" SET "}},"
                     "{\"select\": {\"name\": \"jiont_blocks.*\"}, \"set\": {" SET "}}]}",
                NULL) == OCT_OK);
    CHECK(oct_policy_check_rules(&policy, &model.denoiser, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "policy 't': rule 2 matches none of the 27 layers");
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

// ---- Refused.

static void schema_is_strict(void)
{
    check_refused("[]", OCT_EFORMAT, "not a JSON object");
    check_refused("{}", OCT_EFORMAT, "'octavo_policy' is missing");
    check_refused("{\"octavo_policy\": \"1\"}", OCT_EFORMAT, "'octavo_policy' must be a number");
    check_refused("{\"octavo_policy\": 2}", OCT_EUNSUPPORTED,
                  "policy version 2 is not known, only 1");
    check_refused("{\"octavo_policy\": 1}", OCT_EFORMAT, "'name' is missing");
    check_refused("{\"octavo_policy\": 1, \"name\": \"\"}", OCT_EFORMAT, "'name' is empty");
    check_refused("{\"octavo_policy\": 1, \"name\": 5}", OCT_EFORMAT, "'name' must be a string");
    check_refused(HEAD ", \"rule\": []}", OCT_EFORMAT, "unknown key 'rule'");
    check_refused(HEAD ", \"rules\": {}}", OCT_EFORMAT, "'rules' must be a list");
    check_refused(HEAD ", \"description\": 1}", OCT_EFORMAT, "'description' must be a string");
    check_refused(HEAD ", \"source\": []}", OCT_EFORMAT, "'source' must be a string");
    check_refused(HEAD ", \"name\": \"u\"}", OCT_EFORMAT, "JSON: duplicate key 'name'");
}

static void settings_are_strict(void)
{
    check_refused(HEAD ", \"default\": 1}", OCT_EFORMAT, "'default': must be an object");
    check_refused(HEAD ", \"default\": {}}", OCT_EFORMAT, "'default': sets nothing");
    check_refused(HEAD ", \"default\": {\"wieghts\": \"keep\"}}", OCT_EFORMAT,
                  "'default': unknown key 'wieghts'");
    check_refused(HEAD ", \"default\": {\"weights\": \"e3m4\"}}", OCT_EFORMAT,
                  "'default': 'weights' is 'e3m4', not 'keep', 'e4m3' or 'e5m2'");
    check_refused(HEAD ", \"default\": {\"granularity\": \"row\"}}", OCT_EFORMAT,
                  "'default': 'granularity' is 'row', not 'tensor', 'channel' or 'mx'");
    check_refused(HEAD ", \"default\": {\"scale\": \"min\"}}", OCT_EFORMAT,
                  "'default': 'scale' is 'min', not 'max', 'mse' or 'percentile'");
    check_refused(HEAD ", \"default\": {\"rounding\": \"stochastic\"}}", OCT_EFORMAT,
                  "'default': 'rounding' is 'stochastic', not 'nearest'");
    check_refused(HEAD ", \"default\": {\"inputs\": \"dynamic\"}}", OCT_EFORMAT,
                  "'default': 'inputs' is 'dynamic', which no dialect here carries: only 'none' "
                  "or 'static'");
    check_refused(HEAD ", \"default\": {\"inputs\": true}}", OCT_EFORMAT,
                  "'default': 'inputs' must be a string");
}

static void a_percentile_belongs_to_its_scale(void)
{
    check_refused(HEAD ", \"default\": {\"scale\": \"percentile\"}}", OCT_EFORMAT,
                  "'default': 'scale' is 'percentile': the number 'percentile' is missing");
    check_refused(HEAD ", \"default\": {\"percentile\": 99}}", OCT_EFORMAT,
                  "'default': 'percentile' stands without 'scale' being 'percentile'");
    check_refused(HEAD ", \"default\": {\"scale\": \"mse\", \"percentile\": 99}}", OCT_EFORMAT,
                  "'default': 'percentile' stands without 'scale' being 'percentile'");
    check_refused(HEAD ", \"default\": {\"scale\": \"percentile\", \"percentile\": 0}}",
                  OCT_EFORMAT, "'default': 'percentile' must be a number in (0, 100]");
    check_refused(HEAD ", \"default\": {\"scale\": \"percentile\", \"percentile\": 100.5}}",
                  OCT_EFORMAT, "'default': 'percentile' must be a number in (0, 100]");
    check_refused(HEAD ", \"default\": {\"scale\": \"percentile\", \"percentile\": \"99\"}}",
                  OCT_EFORMAT, "'default': 'percentile' must be a number in (0, 100]");
}

static void rules_are_strict(void)
{
    check_refused(HEAD ", \"rules\": [7]}", OCT_EFORMAT, "rule 1: must be an object");
    check_refused(HEAD ", \"rules\": [{\"set\": {" SET "}}]}", OCT_EFORMAT,
                  "rule 1: 'select' must be an object");
    check_refused(HEAD ", \"rules\": [{\"select\": {}}]}", OCT_EFORMAT, "rule 1: 'set' is missing");
    check_refused(RULE("", ""), OCT_EFORMAT, "rule 1: 'set': sets nothing");
    check_refused(RULE("\"roles\": \"mod\"", SET), OCT_EFORMAT, "rule 1: unknown key 'roles'");
    check_refused(RULE("\"role\": \"mlp\"", SET), OCT_EFORMAT, "rule 1: unknown role 'mlp'");
    check_refused(RULE("\"role\": [\"mod\", 3]", SET), OCT_EFORMAT,
                  "rule 1: 'role' must be a name or a list of names");
    check_refused(RULE("\"role\": []", SET), OCT_EFORMAT, "rule 1: 'role' is an empty list");
    check_refused(RULE("\"stream\": \"audio\"", SET), OCT_EFORMAT,
                  "rule 1: unknown stream 'audio'");
    check_refused(RULE("\"stream\": {}", SET), OCT_EFORMAT,
                  "rule 1: 'stream' must be a name or a list of names");
    check_refused(RULE("\"name\": \"\"", SET), OCT_EFORMAT,
                  "rule 1: 'name' has 0 characters, not 1..512");
    check_refused(RULE("\"name\": [\"a\"]", SET), OCT_EFORMAT, "rule 1: 'name' must be a string");
}

static void blocks_are_strict(void)
{
    static const char *const bad[] = {"1",         "[]",        "[1]",        "[1,2,3]", "[0.5,1]",
                                      "[\"0\",1]", "[0,1e300]", "[0,100001]", "[null,1]"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 HEAD ", \"rules\": [{\"select\": {\"blocks\": %s}, \"set\": {" SET "}}]}", bad[i]);
        check_refused(text, OCT_EFORMAT,
                      "rule 1: 'blocks' must be two whole numbers: [first, last]");
    }
}

static void edges_are_strict(void)
{
    static const char *const bad[] = {"0", "-1", "1.5", "\"1\"", "[1, 2]", "1e300", "null"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 HEAD ", \"rules\": [{\"select\": {\"edges\": %s}, \"set\": {" SET "}}]}", bad[i]);
        check_refused(text, OCT_EFORMAT, "rule 1: 'edges' must be a count of blocks from 1");
    }
}

static void every_truncation_is_refused(void)
{
    const char *text =
        RULE("\"role\": [\"mod\"], \"blocks\": [0, -1], \"edges\": 1, \"name\": \"*\"", SET);

    for (size_t bytes = 0; bytes < strlen(text); bytes++) {
        oct_policy policy;
        CHECK(oct_policy_parse(&policy, text, bytes, NULL) == OCT_EFORMAT);
    }
}

static void too_many_rules_are_refused(void)
{
    char *text = malloc(1 << 17);
    size_t used = (size_t)sprintf(text, HEAD ", \"rules\": [");

    for (int i = 0; i < 1001; i++) {
        used +=
            (size_t)sprintf(text + used, "%s{\"select\": {}, \"set\": {" SET "}}", i ? "," : "");
    }
    sprintf(text + used, "]}");
    check_refused(text, OCT_EFORMAT, "1001 rules: at most 1000");
    free(text);
}

static void hostile_globs_end_quickly(void)
{
    char text[1024], glob[500];
    oct_policy policy;
    opened_denoiser model;
    int rule = 0;

    for (size_t i = 0; i + 2 < sizeof glob; i += 2) {
        memcpy(glob + i, "*o", 3);
    }
    snprintf(text, sizeof text,
             HEAD ", \"rules\": [{\"select\": {\"name\": \"%s\"}, \"set\": {" SET "}}]}", glob);
    open_denoiser(&model, &model_tiny);
    CHECK(parse(&policy, text, NULL) == OCT_OK);
    const clock_t start = clock();
    for (size_t i = 0; i < model.denoiser.n_layers; i++) {
        oct_policy_apply(&policy, &model.denoiser, &model.denoiser.layers[i], &rule);
        CHECK(rule == -1);
    }
    CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 1);
    oct_policy_deinit(&policy);
    close_denoiser(&model);
}

// ---- Loading.

static void bundled_policies_load_and_carry_their_names(void)
{
    size_t n = 0;

    for (; oct_policy_bundled(n); n++) {
        oct_policy policy;
        oct_err err = {0};
        CHECK(oct_policy_load(&policy, oct_policy_bundled(n), &err) == OCT_OK);
        CHECK_TEXT(err.text, "");
        CHECK_TEXT(policy.name, oct_policy_bundled(n));
        CHECK(policy.description[0]);
        CHECK(strncmp(policy.name, "like-", 5) != 0 || policy.source[0]);
        oct_policy_deinit(&policy);
    }
    CHECK(n == 16);
}

static void bundled_text_is_the_file(void)
{
    char hex[OCT_SHA256_HEX], name[100];
    oct_file file = {0};
    oct_policy policy;

    for (size_t n = 0; oct_policy_bundled(n); n++) {
        snprintf(name, sizeof name, "ptq/policies/%s.json", oct_policy_bundled(n));
        CHECK(oct_policy_load(&policy, oct_policy_bundled(n), NULL) == OCT_OK);
        CHECK(oct_file_open(&file, name, NULL) == OCT_OK);
        CHECK(oct_sha256_of_file(&file, hex, NULL) == OCT_OK);
        CHECK_TEXT(policy.sha256, hex);
        oct_file_close(&file);
        oct_policy_deinit(&policy);
    }
}

static void unknown_names_list_the_bundled_ones(void)
{
    oct_policy policy;
    oct_err err = {0};

    CHECK(oct_policy_load(&policy, "mlp-atn", &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "no policy is called 'mlp-atn': there are adaln-weight-only, all, "
                         "attention-kept, edges-kept, flux-default, like-comfy-org, "
                         "like-diffusers, like-modelopt, like-sglang-flux, like-tensorrt, "
                         "like-vllm-omni-flux, ltx-default, mlp, mlp-attn, mlp-attn-t5, "
                         "t5-default, and files ending in '.json'");
}

static void files_load_and_their_errors_name_them(void)
{
    oct_policy policy;
    oct_err err = {0};
    char want[600];
    const char *path = model_path("p.json");

    model_write_text(path, RULE("\"role\": \"mod\"", SET));
    CHECK(oct_policy_load(&policy, path, &err) == OCT_OK);
    CHECK_TEXT(policy.name, "t");
    CHECK(policy.n_rules == 1 && policy.rules[0].roles == 1u << OCT_ROLE_MOD);
    oct_policy_deinit(&policy);

    model_write_text(path, RULE("\"role\": \"mud\"", SET));
    CHECK(oct_policy_load(&policy, path, &err) == OCT_EFORMAT);
    snprintf(want, sizeof want, "policy '%s': rule 1: unknown role 'mud'", path);
    CHECK_TEXT(err.text, want);
    CHECK(oct_policy_load(&policy, model_path("none.json"), &err) == OCT_EIO);
}

int main(void)
{
    RUN(rules_select_by_role);
    RUN(rules_select_by_stream);
    RUN(rules_select_by_blocks_from_both_ends);
    RUN(edges_are_at_most_a_quarter_at_either_end);
    RUN(rules_select_by_name_in_both_namings);
    RUN(last_matching_rule_wins_key_by_key);
    RUN(granularity_and_scale_are_keys_of_their_own);
    RUN(defaults_are_keep_and_static);
    RUN(rule_that_matches_nothing_is_named);
    RUN(schema_is_strict);
    RUN(settings_are_strict);
    RUN(a_percentile_belongs_to_its_scale);
    RUN(rules_are_strict);
    RUN(blocks_are_strict);
    RUN(edges_are_strict);
    RUN(every_truncation_is_refused);
    RUN(too_many_rules_are_refused);
    RUN(hostile_globs_end_quickly);
    RUN(bundled_policies_load_and_carry_their_names);
    RUN(bundled_text_is_the_file);
    RUN(unknown_names_list_the_bundled_ones);
    RUN(files_load_and_their_errors_name_them);
    return test_end();
}
