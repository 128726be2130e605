// SPDX-License-Identifier: Apache-2.0
//
// report.html. The page needs no network: its style and its script are inside, pictures lie beside.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/escape.h"
#include "common/version.h"
#include "regress/report.h"
#include "regress/report_assets.h"

enum { DIGEST_SHOWN = 12 };

static void put_badge(FILE *out, bool passes)
{
    fprintf(out, "<span class=\"badge %s\">%s</span>", passes ? "pass" : "fail",
            passes ? "passes" : "fails");
}

static void put_bytes(FILE *out, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    fprintf(out, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
}

static void put_db(FILE *out, double db)
{
    if (isfinite(db))
        fprintf(out, "%.2f", db);
    else
        fputs("&infin;", out);
}

// ---- What was run.

static void begin_fact(FILE *out, const char *name)
{
    fprintf(out, "<div><dt>%s</dt><dd>", name);
}

static void end_fact(FILE *out)
{
    fputs("</dd></div>\n", out);
}

static void put_digest(FILE *out, const char *kind, const char *digest)
{
    fprintf(out, "<small>%s <code title=\"%s\">%.*s</code></small>", kind, digest, DIGEST_SHOWN,
            digest);
}

static void put_models(FILE *out, const oct_comparison *comparison)
{
    begin_fact(out, "Reference");
    oct_put_escaped(out, comparison->reference.name);
    fputs(", ", out);
    put_bytes(out, comparison->reference.bytes);
    fputs("<br>", out);
    put_digest(out, "denoiser XXH3", comparison->reference.digest);
    end_fact(out);

    begin_fact(out, "Prompts");
    oct_put_escaped(out, comparison->prompts_name);
    fprintf(out, ", %zu<br>", comparison->jobs->count);
    put_digest(out, "SHA-256", comparison->prompts_sha256);
    end_fact(out);

    begin_fact(out, "Calibration");
    if (comparison->calibration_sha256)
        put_digest(out, "SHA-256", comparison->calibration_sha256);
    else
        fputs("none", out);
    end_fact(out);
}

static void put_sampling(FILE *out, const oct_comparison *comparison)
{
    const oct_sampling_options *sampling = comparison->sampling;

    begin_fact(out, "Sampling");
    fprintf(out, "%s, %" PRIu64 " steps, guidance %g, %zu&times;%zu",
            oct_sampler_name(sampling->sampler), sampling->steps, sampling->cfg, sampling->width,
            sampling->height);
    if (comparison->slg && comparison->slg->layers) {
        fputs("<br><small>skip-layer guidance of blocks ", out);
        oct_put_escaped(out, comparison->slg->layers);
        fprintf(out, ", scale %g, %g to %g of the steps</small>", comparison->slg->scale,
                comparison->slg->start, comparison->slg->stop);
    }
    end_fact(out);

    begin_fact(out, "Device");
    oct_put_escaped(out, comparison->device->name);
    end_fact(out);

    begin_fact(out, "First seed");
    fprintf(out, "%" PRIu64, comparison->seed);
    end_fact(out);
}

static void put_thresholds(FILE *out, const oct_gate *gate)
{
    begin_fact(out, "Thresholds, for every picture");
    if (isfinite(gate->psnr_db_min)) fprintf(out, "PSNR at least %g dB", gate->psnr_db_min);
    if (isfinite(gate->psnr_db_min) && isfinite(gate->flip_max)) fputs(", ", out);
    if (isfinite(gate->flip_max)) fprintf(out, "FLIP at most %g", gate->flip_max);
    if (!isfinite(gate->psnr_db_min) && !isfinite(gate->flip_max)) fputs("none", out);
    end_fact(out);
    if (gate->n_score_limits == 0) return;
    begin_fact(out, "Largest drops of mean scores");
    for (size_t i = 0; i < gate->n_score_limits; i++) {
        if (i > 0) fputs(", ", out);
        oct_put_escaped(out, gate->score_limits[i].metric);
        fprintf(out, " %g", gate->score_limits[i].drop_max);
    }
    end_fact(out);
}

static void put_header(FILE *out, const oct_comparison *comparison)
{
    fputs("<header>\n<h1>Image quality by layer policy ", out);
    if (oct_gate_has_threshold(&comparison->gate))
        put_badge(out, oct_comparison_passes(comparison));
    fputs("</h1>\n<p class=\"lede\">", out);
    oct_put_escaped(out, comparison->reference.name);
    fprintf(out, " against %zu candidate%s over %zu prompt%s</p>\n<dl class=\"facts\">\n",
            comparison->n_candidates, comparison->n_candidates == 1 ? "" : "s",
            comparison->jobs->count, comparison->jobs->count == 1 ? "" : "s");
    put_models(out, comparison);
    put_sampling(out, comparison);
    put_thresholds(out, &comparison->gate);
    begin_fact(out, "Made by");
    fprintf(out, "octavo-regress %s", oct_version());
    end_fact(out);
    fputs("</dl>\n</header>\n", out);
}

// ---- The table of candidates.

static void put_size(FILE *out, const oct_denoiser_facts *facts, uint64_t reference_bytes)
{
    const double percent = 100.0 * (double)facts->bytes / (double)reference_bytes;
    fputs("<td>", out);
    put_bytes(out, facts->bytes);
    fprintf(out, " <span class=\"unit\">%.1f %%</span>", percent);
    fprintf(out, "<span class=\"bar\"><i style=\"width:%.1f%%\"></i></span></td>",
            fmin(percent, 100));
}

static void put_candidate_row(FILE *out, const oct_comparison *comparison,
                              const oct_compared *candidate)
{
    const oct_denoiser_facts *facts = &candidate->facts;
    const oct_summary *s = &candidate->summary;

    fputs("<tr><td title=\"", out);
    oct_put_escaped(out, facts->name);
    fputs("\">", out);
    oct_put_escaped(out, facts->name);
    fputs("</td>", out);
    if (oct_gate_has_threshold(&comparison->gate)) {
        fputs("<td>", out);
        put_badge(out, oct_compared_passes(candidate));
        fputs("</td>", out);
    }
    fputs("<td>", out);
    put_db(out, s->psnr_db_mean);
    fputs("</td><td>", out);
    put_db(out, s->psnr_db_worst);
    fputs("</td><td>", out);
    put_db(out, s->psnr_db_pooled);
    fprintf(out, "</td><td>%.4f</td><td>%.4f</td><td>%.4f</td><td>%.4f</td>", s->ssim_mean,
            s->ssim_worst, s->flip_mean, s->flip_worst);
    fprintf(out, "<td>%zu <span class=\"unit\">of %zu</span></td><td>%.1f %%</td>", facts->n_fp8,
            facts->n_layers,
            facts->weights ? 100.0 * (double)facts->fp8_weights / (double)facts->weights : 0);
    put_size(out, facts, comparison->reference.bytes);
    fputs("</tr>\n", out);
}

static void put_table(FILE *out, const oct_comparison *comparison)
{
    const char *verdict =
        oct_gate_has_threshold(&comparison->gate) ? "<th rowspan=\"2\">Verdict</th>" : "";

    fprintf(out,
            "<section>\n<h2>Candidates</h2>\n<div class=\"scroll\"><table>\n<thead>"
            "<tr><th rowspan=\"2\">Policy or file</th>%s<th colspan=\"3\">PSNR, dB</th>"
            "<th colspan=\"2\">SSIM</th><th colspan=\"2\">FLIP</th>"
            "<th colspan=\"2\">In FP8</th><th rowspan=\"2\">Denoiser</th></tr>\n"
            "<tr><th>mean</th><th>worst</th><th>pooled</th><th>mean</th><th>worst</th>"
            "<th>mean</th><th>worst</th><th>layers</th><th>weights</th></tr></thead>\n<tbody>\n",
            verdict);
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        put_candidate_row(out, comparison, &comparison->candidates[i]);
    }
    fputs("</tbody></table></div>\n<p class=\"note\">PSNR and SSIM: more is closer; &infin; means "
          "that no picture differs. FLIP: less is closer, 0 is the same. Each is against the "
          "reference's picture of the same prompt and seed.</p>\n</section>\n",
          out);
}

// ---- The table of scores from outside.

static void put_score_row(FILE *out, const oct_comparison *comparison,
                          const oct_compared *candidate, size_t metric)
{
    const oct_score_outcome *outcome = &candidate->score_outcomes[metric];
    const oct_score_summary *s = &outcome->summary;

    fputs("<tr><td>", out);
    oct_put_escaped(out, candidate->scores.names[metric]);
    fputs("</td><td>", out);
    oct_put_escaped(out, candidate->facts.name);
    fprintf(out, "</td><td>%.4f</td><td>%.4f</td><td>%+.4f</td>", s->reference_mean, s->mean,
            s->difference.mean);
    fprintf(out, "<td>%+.4f to %+.4f</td><td>%zu</td><td>%zu</td><td>%s</td>", s->difference.low,
            s->difference.high, s->n_higher, s->n_lower, oct_score_change_word(s->change));
    if (comparison->gate.n_score_limits > 0) {
        fputs("<td>", out);
        if (outcome->verdict == OCT_SCORE_INCONCLUSIVE)
            fputs("inconclusive", out);
        else if (outcome->verdict != OCT_SCORE_FREE)
            put_badge(out, outcome->verdict == OCT_SCORE_PASSES);
        fputs("</td>", out);
    }
    fputs("</tr>\n", out);
}

static void put_scores(FILE *out, const oct_comparison *comparison)
{
    const size_t n_metrics = comparison->reference_scores.n_metrics;

    if (n_metrics == 0) return;
    fprintf(out,
            "<section>\n<h2>Scores</h2>\n<div class=\"scroll\"><table>\n<thead>"
            "<tr><th>Score</th><th>Policy or file</th><th>reference</th><th>mean</th>"
            "<th>change</th><th>95 %% interval</th><th>higher</th><th>lower</th>"
            "<th>the mean is</th>%s</tr></thead>\n<tbody>\n",
            comparison->gate.n_score_limits > 0 ? "<th>Verdict</th>" : "");
    for (size_t m = 0; m < n_metrics; m++) {
        for (size_t i = 0; i < comparison->n_candidates; i++) {
            put_score_row(out, comparison, &comparison->candidates[i], m);
        }
    }
    fprintf(out,
            "</tbody></table></div>\n<p class=\"note\">Given from outside; more is better. The "
            "change is of the mean, prompt by prompt against the reference, with its interval from "
            "%d bootstrap samples of the prompts. When it holds 0, no change is seen.</p>\n"
            "</section>\n",
            OCT_INTERVAL_RESAMPLES);
}

// ---- Prompts.

static void put_image(FILE *out, const oct_comparison *comparison, const char *path,
                      const char *what)
{
    fputs("<button type=\"button\"><img loading=\"lazy\" src=\"", out);
    oct_put_escaped(out, path);
    fprintf(out, "\" width=\"%zu\" height=\"%zu\" alt=\"", comparison->sampling->width,
            comparison->sampling->height);
    oct_put_escaped(out, what);
    fputs("\"></button>", out);
}

static void put_score_numbers(FILE *out, const oct_scores *scores, size_t job)
{
    for (size_t i = 0; i < scores->n_metrics; i++) {
        fputs(" <span>", out);
        oct_put_escaped(out, scores->names[i]);
        fprintf(out, " %.4g</span>", scores->values[i][job]);
    }
}

static void put_outcome(FILE *out, const oct_comparison *comparison, size_t candidate, size_t job)
{
    const char *name = comparison->candidates[candidate].facts.name;
    const oct_outcome *outcome = &comparison->candidates[candidate].outcomes[job];
    const oct_metrics *m = &outcome->metrics;

    fprintf(out, "<figure class=\"candidate%s\" data-candidate=\"%zu\" data-map=\"",
            outcome->verdict.n_failures ? " fail" : "", candidate);
    oct_put_escaped(out, outcome->heat);
    fputs("\">", out);
    put_image(out, comparison, outcome->image, name);
    fputs("<figcaption><b>", out);
    oct_put_escaped(out, name);
    fputs("</b><div class=\"numbers\">", out);
    if (m->is_identical) {
        fputs("<span>identical</span>", out);
    } else {
        fprintf(out, "<span>PSNR %.2f dB</span> <span>SSIM %.4f</span> <span>FLIP %.4f</span>",
                m->psnr_db, m->ssim, m->flip_mean);
    }
    put_score_numbers(out, &comparison->candidates[candidate].scores, job);
    fputs("</div>", out);
    for (size_t i = 0; i < outcome->verdict.n_failures; i++) {
        fputs("<div class=\"failure\">", out);
        oct_put_escaped(out, outcome->verdict.failures[i]);
        fputs("</div>", out);
    }
    fputs("</figcaption></figure>\n", out);
}

// What the page can sort by: position, and the worst number of all candidates.
static void put_sort_keys(FILE *out, const oct_comparison *comparison, size_t job)
{
    double psnr_db = 999, flip = 0;
    for (size_t i = 0; i < comparison->n_candidates; i++) {
        psnr_db = fmin(psnr_db, comparison->candidates[i].outcomes[job].metrics.psnr_db);
        flip = fmax(flip, comparison->candidates[i].outcomes[job].metrics.flip_mean);
    }
    fprintf(out, " data-position=\"%zu\" data-psnr=\"%.6f\" data-flip=\"%.6f\"", job, psnr_db,
            -flip);
}

static void put_prompt(FILE *out, const oct_comparison *comparison, size_t i)
{
    const oct_job *job = &comparison->jobs->items[i];

    fputs("<article", out);
    put_sort_keys(out, comparison, i);
    fputs(">\n<h3 dir=\"auto\">", out);
    oct_put_escaped(out, job->prompt->text);
    fputs("</h3>\n<p class=\"meta\">", out);
    oct_put_escaped(out, job->prompt->id);
    fprintf(out, " &middot; seed %" PRIu64, job->seed);
    if (job->prompt->category) {
        fputs(" &middot; ", out);
        oct_put_escaped(out, job->prompt->category);
    }
    if (comparison->jobs->has_guidance && *job->negative) {
        fputs(" &middot; negative: <bdi>", out);
        oct_put_escaped(out, job->negative);
        fputs("</bdi>", out);
    }
    fputs("</p>\n<div class=\"row\">\n<figure class=\"reference\">", out);
    put_image(out, comparison, comparison->reference_images[i], "reference");
    fputs("<figcaption><b>reference</b><div class=\"numbers\">", out);
    put_score_numbers(out, &comparison->reference_scores, i);
    fputs("</div></figcaption></figure>\n", out);
    for (size_t c = 0; c < comparison->n_candidates; c++) put_outcome(out, comparison, c, i);
    fputs("</div>\n</article>\n", out);
}

static void put_prompts(FILE *out, const oct_comparison *comparison)
{
    fputs("<section>\n<div class=\"tools\"><h2>Prompts</h2>\n<label>Sort by <select id=\"sort\">"
          "<option value=\"position\">position</option><option value=\"psnr\">worst PSNR</option>"
          "<option value=\"flip\">worst FLIP</option></select></label></div>\n"
          "<div id=\"prompts\">\n",
          out);
    for (size_t i = 0; i < comparison->jobs->count; i++) put_prompt(out, comparison, i);
    fputs("</div>\n</section>\n", out);
}

static void put_viewer(FILE *out)
{
    fputs("<dialog id=\"viewer\" aria-label=\"One pair\">\n"
          "<header><b id=\"viewer-title\" dir=\"auto\"></b><span class=\"spacer\"></span>"
          "<button type=\"button\" id=\"show-reference\">Reference</button>"
          "<button type=\"button\" id=\"show-candidate\">Candidate</button>"
          "<button type=\"button\" id=\"show-map\">FLIP map</button>"
          "<button type=\"button\" id=\"flicker\" aria-pressed=\"false\">Flicker</button>"
          "<button type=\"button\" id=\"close\">Close</button></header>\n"
          "<div class=\"stage\" tabindex=\"-1\" autofocus><img class=\"of-reference\" "
          "alt=\"reference\">"
          "<img class=\"of-candidate\" alt=\"candidate\"><img class=\"of-map\" alt=\"FLIP map\">"
          "</div>\n<footer><span id=\"viewer-numbers\"></span>"
          "<span><kbd>Space</kbd> flip <kbd>F</kbd> flicker <kbd>M</kbd> map "
          "<kbd>&larr;</kbd> <kbd>&rarr;</kbd> pair <kbd>&uarr;</kbd> <kbd>&darr;</kbd> prompt "
          "<kbd>Esc</kbd> close</span></footer>\n</dialog>\n",
          out);
}

void oct_report_html(FILE *out, const oct_comparison *comparison)
{
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
          "img-src 'self' file: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
          "<title>Octavo: ",
          out);
    oct_put_escaped(out, comparison->reference.name);
    fputs("</title>\n<style>\n", out);
    fputs(report_css, out);
    fputs("</style>\n</head>\n<body>\n", out);
    put_header(out, comparison);
    put_table(out, comparison);
    put_scores(out, comparison);
    put_prompts(out, comparison);
    put_viewer(out);
    fputs("<script>\n", out);
    fputs(report_js, out);
    fputs("</script>\n</body>\n</html>\n", out);
}
