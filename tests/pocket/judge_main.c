// SPDX-License-Identifier: Apache-2.0
//
// judge: say which clauses of its caption a picture of the pocket world satisfies.
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "runtime/jobs.h"
#include "runtime/options.h"
#include "runtime/prompts.h"
#include "tests/pocket/judge.h"

typedef struct options {
    const char *picture, *caption;
    const char *prompts, *pictures, *out;
    uint64_t limit;
    bool json;
} options;

typedef struct judge_tally {
    size_t captions, captions_holding;
    size_t clauses[POCKET_CLAUSE_KINDS], holding[POCKET_CLAUSE_KINDS];
} judge_tally;

static oct_status judge_file(pocket_verdict *verdict, pocket_view *view,
                             const pocket_stamps *stamps, const char *path, const char *caption,
                             oct_err *err)
{
    oct_image image = {0};
    pocket_scene scene;

    oct_status st = pocket_caption_parse(&scene, caption, err);
    if (!st) st = oct_image_load_png(&image, path, err);
    if (st) return st;
    st = pocket_look(view, stamps, &image, err);
    if (st) {
        oct_wrap(err, st, "cannot judge '%s'", path);
    } else {
        pocket_judge(verdict, &scene, view);
    }
    oct_image_deinit(&image);
    return st;
}

static void print_and_free(cJSON *root)
{
    oct_json_finish(root);
}

static void add_patch(cJSON *patches, const pocket_patch *patch)
{
    cJSON *object = cJSON_CreateObject();
    const int bounds[] = {patch->left, patch->top, patch->right + 1, patch->bottom + 1};

    cJSON_AddStringToObject(object, "color", pocket_color_names[patch->color]);
    cJSON_AddBoolToObject(object, "clear", patch->is_clear);
    cJSON_AddStringToObject(object, "shape", pocket_shape_names[patch->shape]);
    cJSON_AddStringToObject(object, "fill", pocket_fill_names[patch->fill]);
    cJSON_AddStringToObject(object, "size", pocket_size_names[patch->size]);
    oct_json_add_count(object, "side", (uint64_t)patch->box.side);
    cJSON_AddNumberToObject(object, "likeness", round(patch->likeness * 1000) / 1000);
    cJSON_AddItemToObject(object, "bounds", cJSON_CreateIntArray(bounds, 4));
    cJSON_AddItemToArray(patches, object);
}

static void print_verdict_json(const pocket_verdict *verdict, const pocket_view *view,
                               const char *caption)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "tool", "judge");
    cJSON_AddStringToObject(root, "caption", caption);
    cJSON_AddBoolToObject(root, "holds", verdict->n_holding == verdict->n_clauses);
    cJSON *clauses = cJSON_AddArrayToObject(root, "clauses");
    for (size_t i = 0; i < verdict->n_clauses; i++) {
        cJSON *clause = cJSON_CreateObject();
        char text[64];
        pocket_clause_print(&verdict->clauses[i], text);
        cJSON_AddStringToObject(clause, "clause", text);
        cJSON_AddBoolToObject(clause, "holds", verdict->clauses[i].holds);
        cJSON_AddItemToArray(clauses, clause);
    }
    oct_json_add_count(root, "others", verdict->n_others);
    if (view->has_background) {
        cJSON_AddStringToObject(root, "background", pocket_color_names[view->background]);
    } else {
        cJSON_AddNullToObject(root, "background");
    }
    cJSON *patches = cJSON_AddArrayToObject(root, "patches");
    for (size_t i = 0; i < view->n_patches; i++) add_patch(patches, &view->patches[i]);
    print_and_free(root);
}

static void print_verdict(const pocket_verdict *verdict, const pocket_view *view)
{
    for (size_t i = 0; i < verdict->n_clauses; i++) {
        char text[64];
        pocket_clause_print(&verdict->clauses[i], text);
        printf("%s  %s\n", verdict->clauses[i].holds ? "holds" : "fails", text);
    }
    printf("\nbackground  %s\n",
           view->has_background ? pocket_color_names[view->background] : "unclear");
    for (size_t i = 0; i < view->n_patches; i++) {
        const pocket_patch *patch = &view->patches[i];
        if (patch->is_clear) {
            printf("patch       %s %s %s %s", pocket_size_names[patch->size],
                   pocket_fill_names[patch->fill], pocket_color_names[patch->color],
                   pocket_shape_names[patch->shape]);
        } else {
            printf("patch       unclear, %s", pocket_color_names[patch->color]);
        }
        printf(" at (%d, %d), likeness %.2f\n", patch->left, patch->top, patch->likeness);
    }
}

static oct_status judge_one(const options *o, const pocket_stamps *stamps, bool *holds,
                            oct_err *err)
{
    pocket_verdict verdict;
    pocket_view view;

    oct_status st = judge_file(&verdict, &view, stamps, o->picture, o->caption, err);
    if (st) return st;
    *holds = verdict.n_holding == verdict.n_clauses;
    if (o->json) {
        print_verdict_json(&verdict, &view, o->caption);
    } else {
        print_verdict(&verdict, &view);
    }
    return OCT_OK;
}

// Whether a file's name is "STEM-SEED.png".
static bool is_seeded_picture(const char *name, const char *stem)
{
    const size_t length = strlen(stem);

    if (strncmp(name, stem, length) != 0 || name[length] != '-') return false;
    const char *seed = name + length + 1;
    const size_t digits = strspn(seed, "0123456789");
    return digits > 0 && strcmp(seed + digits, ".png") == 0;
}

// "ID.png", else the one "ID-SEED.png" in the folder.
static oct_status find_picture(oct_arena *arena, const char *folder, const char *id,
                               const char **path, oct_err *err)
{
    const char *stem = oct_file_name_of(arena, id);
    size_t count = 0;

    *path = oct_path_join(arena, folder, oct_arena_print(arena, "%s.png", stem));
    if (oct_path_exists(*path)) return OCT_OK;
    DIR *dir = opendir(folder);
    if (!dir) return oct_fail(err, OCT_EIO, "'%s' cannot be opened: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!is_seeded_picture(entry->d_name, stem)) continue;
        *path = oct_path_join(arena, folder, entry->d_name);
        count++;
    }
    closedir(dir);
    if (count == 1) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "'%s' has %zu pictures of '%s', not 1", folder, count, id);
}

static void count_verdict(judge_tally *tally, const pocket_verdict *verdict)
{
    tally->captions++;
    tally->captions_holding += verdict->n_holding == verdict->n_clauses;
    for (size_t i = 0; i < verdict->n_clauses; i++) {
        tally->clauses[verdict->clauses[i].kind]++;
        tally->holding[verdict->clauses[i].kind] += verdict->clauses[i].holds;
    }
}

static void write_score(FILE *out, const char *id, const char *metric, double value)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "id", id);
    cJSON_AddStringToObject(root, "metric", metric);
    cJSON_AddNumberToObject(root, "value", value);
    char *text = oct_json_print_line(root);
    fprintf(out, "%s\n", text);
    free(text);
    cJSON_Delete(root);
}

static void write_scores(FILE *out, const char *id, const pocket_verdict *verdict)
{
    const double share = (double)verdict->n_holding / (double)verdict->n_clauses;

    write_score(out, id, "pocket_clauses", share);
    write_score(out, id, "pocket_caption", verdict->n_holding == verdict->n_clauses);
}

static void print_rate_json(cJSON *object, const char *name, size_t holding, size_t count)
{
    cJSON *rate = cJSON_AddObjectToObject(object, name);

    oct_json_add_count(rate, "count", count);
    oct_json_add_count(rate, "holding", holding);
}

static void print_rate(const char *name, size_t holding, size_t count)
{
    if (count == 0) return;
    printf("%-10s  %zu of %zu, %.1f %%\n", name, holding, count,
           100 * (double)holding / (double)count);
}

static void print_tally(const judge_tally *tally, bool json)
{
    cJSON *root = cJSON_CreateObject(), *kinds = cJSON_CreateObject();
    size_t clauses = 0, holding = 0;

    for (int kind = 0; kind < POCKET_CLAUSE_KINDS; kind++) {
        clauses += tally->clauses[kind];
        holding += tally->holding[kind];
        print_rate_json(kinds, pocket_clause_names[kind], tally->holding[kind],
                        tally->clauses[kind]);
        if (!json)
            print_rate(pocket_clause_names[kind], tally->holding[kind], tally->clauses[kind]);
    }
    cJSON_AddStringToObject(root, "tool", "judge");
    print_rate_json(root, "captions", tally->captions_holding, tally->captions);
    print_rate_json(root, "clauses", holding, clauses);
    cJSON_AddItemToObject(root, "kinds", kinds);
    if (json) {
        print_and_free(root);
        return;
    }
    cJSON_Delete(root);
    print_rate("clauses", holding, clauses);
    print_rate("captions", tally->captions_holding, tally->captions);
}

static oct_status judge_prompts(const options *o, const pocket_stamps *stamps,
                                const oct_prompts *prompts, FILE *scores, judge_tally *tally,
                                oct_err *err)
{
    oct_arena arena = {0};
    oct_status st = OCT_OK;

    for (size_t i = 0; i < prompts->count && !st; i++) {
        const oct_prompt *prompt = &prompts->items[i];
        const char *path = NULL;
        pocket_verdict verdict;
        pocket_view view;
        st = find_picture(&arena, o->pictures, prompt->id, &path, err);
        if (!st) st = judge_file(&verdict, &view, stamps, path, prompt->text, err);
        if (st) break;
        count_verdict(tally, &verdict);
        write_scores(scores, prompt->id, &verdict);
    }
    oct_arena_deinit(&arena);
    return st;
}

static oct_status judge_many(const options *o, const pocket_stamps *stamps, oct_err *err)
{
    oct_prompts prompts = {0};
    judge_tally tally = {0};
    char *text = NULL;
    size_t bytes = 0;
    FILE *scores = NULL;

    oct_status st = oct_prompts_load(&prompts, o->prompts, o->limit, err);
    if (st) goto out;
    scores = open_memstream(&text, &bytes);
    if (!scores) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for scores");
        goto out;
    }
    st = judge_prompts(o, stamps, &prompts, scores, &tally, err);
    if (fclose(scores) != 0 && !st) st = oct_fail(err, OCT_ENOMEM, "out of memory for scores");
    if (!st && o->out) st = oct_file_write(o->out, text, bytes, err);
    if (!st) print_tally(&tally, o->json);

out:
    free(text);
    oct_prompts_deinit(&prompts);
    return st;
}

static oct_status check_options(const options *o, oct_err *err)
{
    if (!o->picture && !o->prompts) {
        return oct_fail(err, OCT_EUSAGE, "option '--picture' or '--prompts' is missing");
    }
    if (o->picture && o->prompts) {
        return oct_fail(err, OCT_EUSAGE, "options '--picture' and '--prompts' exclude each other");
    }
    if (o->picture && (o->pictures || o->out || o->limit)) {
        return oct_fail(err, OCT_EUSAGE,
                        "options '--pictures', '--limit' and '--out' go with '--prompts'");
    }
    if (o->prompts && o->caption) {
        return oct_fail(err, OCT_EUSAGE, "option '--caption' goes with '--picture'");
    }
    if (o->prompts) return oct_option_required("pictures", o->pictures, err);
    return oct_option_required("caption", o->caption, err);
}

static oct_status run(const options *o, bool *holds, oct_err *err)
{
    pocket_stamps stamps = {0};

    *holds = true;
    oct_status st = pocket_stamps_init(&stamps, POCKET_LOOK_SIDE_MIN, POCKET_LOOK_SIDE_MAX, err);
    if (!st) st = o->picture ? judge_one(o, &stamps, holds, err) : judge_many(o, &stamps, err);
    pocket_stamps_deinit(&stamps);
    return st;
}

int main(int argc, char **argv)
{
    options o = {0};
    const oct_opt opts[] = {
        OPT_GROUP("One picture"),
        OPT_TEXT("picture", "FILE", &o.picture, "PNG of 128x128 pixels"),
        OPT_TEXT("caption", "TEXT", &o.caption, "what it should show"),
        OPT_GROUP("Many pictures"),
        OPT_TEXT("prompts", "FILE", &o.prompts, "captions (.txt .jsonl .json .tsv .yaml)"),
        OPT_COUNT("limit", "N", &o.limit, "use only the first N captions (default: all)"),
        OPT_TEXT("pictures", "DIR", &o.pictures, "folder with ID.png or ID-SEED.png for each"),
        OPT_TEXT("out", "FILE", &o.out,
                 "scores to write, JSONL of id, metric (pocket_clauses, pocket_caption) and value"),
        OPT_GROUP("General"),
        OPT_FLAG("json", &o.json, "print the result as one JSON object on stdout"),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "judge",
        .summary = "Say which clauses of its caption a picture of the pocket world satisfies.",
        .usage = "(--picture FILE --caption TEXT | --prompts FILE --pictures DIR) [options]",
        .exit_1 = "a clause of --caption does not hold",
        .examples = {"octavo-judge --picture star.png --caption 'a red star'",
                     "octavo-judge --prompts prompts.jsonl --pictures pictures --out scores.jsonl"},
        .opts = opts,
    };
    oct_err err = {{0}};
    bool is_done = false, holds = true;

    oct_log_init("judge", OCT_LOG_NORMAL);
    oct_signals_install();
    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && is_done) return oct_cli_finish(&cli, st, &err);
    if (!st) st = check_options(&o, &err);
    if (!st) st = run(&o, &holds, &err);
    const int code = oct_cli_finish(&cli, st, &err);
    return code == 0 && !holds ? 1 : code;
}
