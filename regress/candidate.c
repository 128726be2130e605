// SPDX-License-Identifier: Apache-2.0
//
// Candidates: policies and files.
#include "regress/candidate.h"

#include "common/digest.h"
#include "common/log.h"
#include "common/number.h"
#include "ptq/dialect.h"
#include "runtime/options.h"

static uint64_t weights_of(const oct_layer *layer)
{
    uint64_t n = 1;
    for (int i = 0; i < layer->weight->rank; i++) n *= layer->weight->shape[i];
    return n;
}

static void announce_fallbacks(const oct_candidate *candidate)
{
    size_t n = 0;
    for (size_t i = 0; i < candidate->plan.n_decisions; i++) {
        const oct_decision *decision = &candidate->plan.decisions[i];
        int rule;
        const oct_setting wish =
            oct_policy_apply(&candidate->policy, candidate->plan.denoiser, decision->layer, &rule);
        if (decision->weights == OCT_WEIGHTS_KEEP || wish.inputs != OCT_INPUTS_STATIC) continue;
        if (decision->inputs == OCT_INPUTS_NONE) n++;
    }
    if (n == 0) return;
    oct_warn("policy '%s': %zu of %zu FP8 layers have no calibrated range and run weight-only",
             candidate->name, n, candidate->plan.n_fp8);
}

static const char *full_name(const oct_candidate *candidate, const char *name, oct_arena *arena)
{
    return candidate->has_fp8_attention ? oct_arena_print(arena, "%s+fp8-attention", name) : name;
}

oct_status oct_candidate_open_policy(oct_candidate *candidate, const char *name_or_path,
                                     const oct_pipeline *reference,
                                     const oct_calibration *calibration, oct_arena *arena,
                                     oct_err *err)
{
    *candidate = (oct_candidate){.is_policy = true};
    name_or_path = oct_fp8_attention_split(name_or_path, &candidate->has_fp8_attention, arena);
    oct_status st = oct_policy_load(&candidate->policy, name_or_path, err);
    if (st) goto out;
    candidate->name = full_name(candidate, candidate->policy.name, arena);
    st = oct_plan_init(&candidate->plan, &reference->denoiser,
                       &(oct_plan_params){
                           .policy = &candidate->policy,
                           .calibration = calibration,
                           .qmax = OCT_E4M3_MAX,
                       },
                       err);
    if (st) oct_wrap(err, st, "policy '%s'", candidate->name);

out:
    if (st) oct_candidate_close(candidate);
    return st;
}

static oct_status check_shapes(const oct_denoiser *a, const oct_denoiser *b, oct_err *err)
{
    if (a->channels == b->channels && a->context_width == b->context_width &&
        a->pooled_width == b->pooled_width) {
        return OCT_OK;
    }
    return oct_fail(err, OCT_EFORMAT,
                    "latent channels, context and pooled width are %llu, %llu and %llu, but %llu, "
                    "%llu and %llu in the reference",
                    (unsigned long long)a->channels, (unsigned long long)a->context_width,
                    (unsigned long long)a->pooled_width, (unsigned long long)b->channels,
                    (unsigned long long)b->context_width, (unsigned long long)b->pooled_width);
}

oct_status oct_candidate_open_file(oct_candidate *candidate, const char *path,
                                   const oct_pipeline *reference, oct_arena *arena, oct_err *err)
{
    *candidate = (oct_candidate){0};
    path = oct_fp8_attention_split(path, &candidate->has_fp8_attention, arena);
    candidate->name = full_name(candidate, oct_model_name(arena, path), arena);
    oct_status st = oct_pipeline_open(&candidate->pipeline, &(oct_model_paths){.model = path}, err);
    if (st) return st;
    st = check_shapes(&candidate->pipeline.denoiser, &reference->denoiser, err);
    if (st) {
        oct_candidate_close(candidate);
        return oct_wrap(err, st, "'%s' does not fit the reference", path);
    }
    return OCT_OK;
}

void oct_candidate_close(oct_candidate *candidate)
{
    oct_plan_deinit(&candidate->plan);
    oct_policy_deinit(&candidate->policy);
    if (!candidate->is_policy) oct_pipeline_close(&candidate->pipeline);
    *candidate = (oct_candidate){0};
}

static void describe_plan(const oct_candidate *candidate, oct_denoiser_facts *facts)
{
    const oct_plan *plan = &candidate->plan;

    *facts = (oct_denoiser_facts){
        .name = candidate->name,
        .digest = candidate->policy.sha256,
        .n_layers = plan->n_decisions,
        .n_fp8 = plan->n_fp8,
        .n_fp8_static = plan->n_static,
        .bytes = plan->bytes_after,
    };
    for (size_t i = 0; i < plan->n_decisions; i++) {
        const uint64_t weights = weights_of(plan->decisions[i].layer);
        facts->weights += weights;
        if (plan->decisions[i].weights != OCT_WEIGHTS_KEEP) facts->fp8_weights += weights;
    }
}

static oct_status count_layers(const oct_pipeline *pipeline, oct_denoiser_facts *facts,
                               oct_err *err)
{
    const oct_denoiser *denoiser = &pipeline->denoiser;
    const oct_dialect dialect = oct_dialect_detect(&pipeline->source);

    facts->n_layers = denoiser->n_layers;
    for (size_t i = 0; i < denoiser->n_layers; i++) {
        const oct_layer *layer = &denoiser->layers[i];
        oct_fp8_layer fp8;
        const oct_status st = oct_dialect_read(&pipeline->source, dialect, layer, &fp8, err);
        if (st) return st;
        facts->weights += weights_of(layer);
        if (!fp8.is_fp8) continue;
        facts->fp8_weights += weights_of(layer);
        facts->n_fp8++;
        if (!fp8.is_full_precision) facts->n_fp8_static++;
    }
    return OCT_OK;
}

oct_status oct_pipeline_describe(const oct_pipeline *pipeline, const char *name, oct_arena *arena,
                                 oct_denoiser_facts *facts, oct_err *err)
{
    char digest[OCT_XXH128_HEX];

    *facts = (oct_denoiser_facts){.name = name};
    oct_status st = oct_source_read_denoiser_digest(&pipeline->source, digest, err);
    if (st) return st;
    facts->digest = oct_arena_copy(arena, digest);
    for (size_t i = 0; i < pipeline->source.n_tensors; i++) {
        const oct_source_tensor *tensor = &pipeline->source.tensors[i];
        if (tensor->component == OCT_DENOISER) facts->bytes += tensor->bytes;
    }
    return count_layers(pipeline, facts, err);
}

oct_status oct_candidate_describe(const oct_candidate *candidate, oct_arena *arena,
                                  oct_denoiser_facts *facts, oct_err *err)
{
    if (!candidate->is_policy) {
        return oct_pipeline_describe(&candidate->pipeline, candidate->name, arena, facts, err);
    }
    describe_plan(candidate, facts);
    announce_fallbacks(candidate);
    return OCT_OK;
}
