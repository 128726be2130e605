// SPDX-License-Identifier: Apache-2.0
//
// Scores of a run.
#include "regress/run_scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

// Where the scores of a name belong; NULL when nobody is called so.
static oct_scores *find_owner(oct_regression *run, const char *name)
{
    if (strcmp(name, OCT_SCORES_REFERENCE) == 0) return &run->scores[0];
    for (size_t i = 0; i < run->comparison.n_candidates; i++) {
        if (strcmp(run->candidates[i].name, name) == 0) return &run->scores[i + 1];
    }
    return NULL;
}

static const char *owner_name(const oct_regression *run, size_t owner)
{
    return owner == 0 ? OCT_SCORES_REFERENCE : run->candidates[owner - 1].name;
}

static oct_status load_file(oct_regression *run, const char *text, oct_err *err)
{
    const size_t bytes = strcspn(text, "=");
    const char *name = oct_arena_copy_n(&run->arena, text, bytes);

    if (bytes == 0 || !text[bytes] || !text[bytes + 1]) {
        return oct_fail(err, OCT_EUSAGE, "option '--scores' needs NAME=FILE, not '%s'", text);
    }
    oct_scores *scores = find_owner(run, name);
    if (!scores) {
        return oct_fail(err, OCT_EUSAGE, "option '--scores' names '%s', which is no candidate",
                        name);
    }
    if (scores->n_metrics > 0) {
        return oct_fail(err, OCT_EUSAGE, "option '--scores' names '%s' twice", name);
    }
    return oct_scores_load(scores, text + bytes + 1, &run->jobs, &run->arena, err);
}

// The same metrics for all, in the reference's order.
static oct_status check_metrics(oct_regression *run, size_t owner, oct_err *err)
{
    const oct_scores *reference = &run->scores[0];
    oct_scores *scores = &run->scores[owner];
    oct_scores ordered = {.n_metrics = reference->n_metrics};

    for (size_t i = 0; i < scores->n_metrics; i++) {
        if (oct_scores_find(reference, scores->names[i])) continue;
        return oct_fail(err, OCT_EUSAGE, "'%s' has scores of '%s', but the reference has none",
                        owner_name(run, owner), scores->names[i]);
    }
    for (size_t i = 0; i < reference->n_metrics; i++) {
        ordered.names[i] = reference->names[i];
        ordered.values[i] = (double *)oct_scores_find(scores, reference->names[i]);
        if (ordered.values[i]) continue;
        return oct_fail(err, OCT_EUSAGE, "'%s' has no scores of '%s'", owner_name(run, owner),
                        reference->names[i]);
    }
    *scores = ordered;
    return OCT_OK;
}

static oct_status check_names(const oct_regression *run, oct_err *err)
{
    for (size_t i = 0; i < run->comparison.n_candidates; i++) {
        if (strcmp(run->candidates[i].name, OCT_SCORES_REFERENCE) == 0) {
            return oct_fail(err, OCT_EUSAGE,
                            "with '--scores' no candidate can be called '" OCT_SCORES_REFERENCE
                            "'");
        }
    }
    return OCT_OK;
}

static oct_status read_limit(oct_regression *run, const char *text, oct_score_limit *limit,
                             oct_err *err)
{
    const char *equals = strrchr(text, '=');
    char *end = NULL;

    limit->drop_max = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || end == equals + 1 || *end || !(limit->drop_max >= 0) ||
        !isfinite(limit->drop_max)) {
        return oct_fail(err, OCT_EUSAGE,
                        "option '--max-score-drop' needs METRIC=X with X at least 0, not '%s'",
                        text);
    }
    limit->metric = oct_arena_copy_n(&run->arena, text, (size_t)(equals - text));
    if (oct_scores_find(&run->scores[0], limit->metric)) return OCT_OK;
    return oct_fail(err, OCT_EUSAGE,
                    "option '--max-score-drop' names '%s', of which there are no scores",
                    limit->metric);
}

static oct_status read_limits(oct_regression *run, oct_err *err)
{
    const oct_texts *texts = &run->options->score_drops;
    oct_score_limit *limits = oct_arena_array(&run->arena, texts->count, sizeof *limits);
    oct_gate *gate = &run->comparison.gate;

    gate->score_limits = limits;
    for (size_t i = 0; i < texts->count; i++) {
        const oct_status st = read_limit(run, texts->items[i], &limits[i], err);
        if (st) return st;
        if (oct_gate_find_limit(gate, limits[i].metric)) {
            return oct_fail(err, OCT_EUSAGE, "option '--max-score-drop' names '%s' twice",
                            limits[i].metric);
        }
        gate->n_score_limits = i + 1;
    }
    return OCT_OK;
}

oct_status oct_regression_load_scores(oct_regression *run, oct_err *err)
{
    const oct_texts *files = &run->options->scores;
    const size_t n_owners = run->comparison.n_candidates + 1;

    run->comparison.gate = run->options->gate;
    run->scores = oct_arena_array(&run->arena, n_owners, sizeof *run->scores);
    oct_status st = files->count ? check_names(run, err) : OCT_OK;
    for (size_t i = 0; i < files->count && !st; i++) st = load_file(run, files->items[i], err);
    for (size_t i = 0; i < n_owners && files->count && !st; i++) {
        if (run->scores[i].n_metrics > 0) continue;
        st = oct_fail(err, OCT_EUSAGE, "option '--scores' is missing for '%s'", owner_name(run, i));
    }
    for (size_t i = 1; i < n_owners && !st; i++) st = check_metrics(run, i, err);
    return st ? st : read_limits(run, err);
}

static void warn_if_inconclusive(const oct_compared *compared, size_t metric)
{
    const oct_score_summary *s = &compared->score_outcomes[metric].summary;

    if (compared->score_outcomes[metric].verdict != OCT_SCORE_INCONCLUSIVE) return;
    oct_warn("'%s' of '%s' dropped by %.4g, but that may be chance: its interval is %.4g to %.4g; "
             "more prompts would tell",
             compared->scores.names[metric], compared->facts.name, -s->difference.mean,
             -s->difference.high, -s->difference.low);
}

static oct_status judge(oct_regression *run, oct_compared *compared, oct_err *err)
{
    const oct_scores *reference = &run->comparison.reference_scores;
    const size_t n_metrics = reference->n_metrics;

    compared->score_outcomes =
        oct_arena_array(&run->arena, n_metrics, sizeof *compared->score_outcomes);
    for (size_t i = 0; i < n_metrics; i++) {
        oct_score_outcome *outcome = &compared->score_outcomes[i];
        const oct_status st = oct_score_summarize(&outcome->summary, compared->scores.values[i],
                                                  reference->values[i], run->jobs.count, err);
        if (st) return st;
        outcome->verdict =
            oct_gate_judge_score(&run->comparison.gate, reference->names[i], &outcome->summary);
        warn_if_inconclusive(compared, i);
    }
    return OCT_OK;
}

oct_status oct_regression_judge_scores(oct_regression *run, oct_err *err)
{
    run->comparison.reference_scores = run->scores[0];
    for (size_t i = 0; i < run->comparison.n_candidates; i++) {
        oct_compared *compared = &run->comparison.candidates[i];
        compared->scores = run->scores[i + 1];
        const oct_status st = judge(run, compared, err);
        if (st) return st;
    }
    return OCT_OK;
}
