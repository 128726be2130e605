// SPDX-License-Identifier: Apache-2.0
//
// Prompts through tokenizers and encoders, one encoder at a time.
#include "runtime/conditioning.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/progress.h"
#include "runtime/clip.h"
#include "runtime/t5.h"
#include "runtime/tokenize_bpe.h"
#include "runtime/tokenize_unigram.h"

#define CLIP_TOKENS 77  // without any CLIP
#define T5_TOKENS_MAX 512

typedef struct job {
    oct_conditioning *out;
    const char *const *texts;
    size_t n;
    const size_t *first_of;  // [n], the first text that is equal
    oct_source *source;
    const oct_denoiser *denoiser;
    const oct_conditioning_params *params;
    oct_arena names;                     // paths of tokenizers
    size_t clip_tokens;                  // that CLIP-L and CLIP-G read
    size_t clip_l_width, clip_l_pooled;  // 0 without CLIP-L
} job;

void oct_conditioning_deinit(oct_conditioning *conditioning)
{
    free(conditioning->context);
    free(conditioning->pooled);
    *conditioning = (oct_conditioning){0};
}

// --- tokenizers ---

// The tokenizer's folder: --tokenizers DIR/`shared_name`, or `own_name` of a diffusers folder.
static oct_status find_tokenizer(job *j, oct_component component, const char *shared_name,
                                 const char *own_name, const char **folder, oct_err *err)
{
    const oct_checkpoint *ckpt = &j->source->checkpoint;
    const char *name = oct_component_name(component);

    if (j->params->tokenizers) {
        *folder = oct_path_join(&j->names, j->params->tokenizers, shared_name);
    } else if (ckpt->is_diffusers) {
        *folder = oct_path_join(&j->names, ckpt->folder, own_name);
    } else {
        return oct_fail(
            err, OCT_EUSAGE,
            "%s needs its tokenizer: give --tokenizers DIR, a folder with clip/ and t5/", name);
    }
    if (!oct_path_is_folder(*folder))
        return oct_fail(err, OCT_EIO,
                        "there is no folder '%s' for the tokenizer of %s: give --tokenizers DIR, a "
                        "folder with clip/ and t5/",
                        *folder, name);
    return OCT_OK;
}

static void warn_if_cut(const char *text, oct_component component, size_t used, size_t length)
{
    char shown[80];

    if (used > length)
        oct_warn("prompt '%s' has %zu tokens for %s, which reads %zu: its end is cut off",
                 oct_printable(text, shown, sizeof shown), used, oct_component_name(component),
                 length);
}

static oct_status wrap_prompt(oct_err *err, oct_status st, const char *text)
{
    char shown[80];
    return oct_wrap(err, st, "prompt '%s'", oct_printable(text, shown, sizeof shown));
}

// --- CLIP ---

static oct_status read_activation(const cJSON *root, oct_activation *activation, oct_err *err)
{
    const char *name = NULL;

    const oct_status st = oct_json_text(root, "hidden_act", &name, err);
    if (st) return st;
    if (strcmp(name, "quick_gelu") == 0)
        *activation = OCT_QUICK_GELU;
    else if (strcmp(name, "gelu") == 0)
        *activation = OCT_GELU_ERF;
    else
        return oct_fail(err, OCT_EUNSUPPORTED, "hidden_act '%.40s' is not supported", name);
    return OCT_OK;
}

static oct_status read_clip_config(job *j, oct_component component, oct_clip_config *config,
                                   oct_err *err)
{
    const char *path = oct_checkpoint_config(&j->source->checkpoint, component);
    uint64_t heads = 0;
    cJSON *root = NULL;

    config->activation = component == OCT_CLIP_L ? OCT_QUICK_GELU : OCT_GELU_ERF;
    if (!path) return OCT_OK;
    oct_status st = oct_json_load(path, &root, err);
    if (st) return st;
    st = oct_json_count(root, "num_attention_heads", &heads, err);
    if (!st) st = read_activation(root, &config->activation, err);
    config->heads = heads;
    cJSON_Delete(root);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

// Where an encoder's columns begin. CLIP-L's are counted from CLIP-G's when only that is there.
typedef struct columns {
    size_t hidden, pooled;
} columns;

static oct_status place_clip(job *j, oct_component component, const oct_clip *clip, columns *at,
                             oct_err *err)
{
    const size_t width = j->denoiser->context_width, pooled = j->denoiser->pooled_width;

    if (component == OCT_CLIP_L) {
        j->clip_l_width = clip->width;
        j->clip_l_pooled = clip->projected_width;
        *at = (columns){0};
    } else if (j->clip_l_width > 0) {
        *at = (columns){.hidden = j->clip_l_width, .pooled = j->clip_l_pooled};
    } else {
        const size_t missing = clip->projected_width < pooled ? pooled - clip->projected_width : 0;
        *at = (columns){.hidden = missing, .pooled = missing};
    }
    const size_t pooled_end = at->pooled + clip->projected_width;
    if (at->hidden + clip->width > width || pooled_end > pooled ||
        (component == OCT_CLIP_G && pooled_end != pooled))
        return oct_fail(err, OCT_EFORMAT,
                        "%s ends at column %zu (pooled: %zu), but the denoiser reads %zu (pooled: "
                        "%zu)",
                        oct_component_name(component), at->hidden + clip->width, pooled_end, width,
                        pooled);
    return OCT_OK;
}

typedef struct clip_scratch {  // one prompt
    int32_t *ids;              // [clip_tokens]
    float *hidden;             // [clip_tokens][width]
} clip_scratch;

static oct_status encode_clip_text(job *j, size_t i, oct_component component, const oct_bpe *bpe,
                                   oct_clip *clip, const columns *at, const clip_scratch *scratch,
                                   oct_err *err)
{
    oct_conditioning *to = &j->out[i];
    const float *hidden = scratch->hidden;
    size_t used = 0;

    // The reference and ComfyUI pad CLIP-G with id 0; a diffusers folder says so by its pad_token.
    int32_t pad = bpe->end_id;
    if (component == OCT_CLIP_G) pad = j->params->tokenizers ? 0 : bpe->pad_id;
    oct_status st = oct_bpe_encode(bpe, j->texts[i], pad, scratch->ids, j->clip_tokens, &used, err);
    if (!st) {
        st = oct_clip_encode(clip, scratch->ids, bpe->end_id, scratch->hidden,
                             to->pooled + at->pooled, err);
    }
    if (st) return wrap_prompt(err, st, j->texts[i]);
    if (component == OCT_CLIP_L || j->clip_l_width == 0)
        warn_if_cut(j->texts[i], component, used, j->clip_tokens);
    for (size_t t = 0; t < j->clip_tokens; t++)
        memcpy(to->context + t * to->width + at->hidden, hidden + t * clip->width,
               clip->width * sizeof *hidden);
    return OCT_OK;
}

static oct_status encode_clip_texts(job *j, oct_component component, const oct_bpe *bpe,
                                    oct_clip *clip, oct_err *err)
{
    const size_t n = j->clip_tokens;
    clip_scratch scratch = {malloc(n * sizeof *scratch.ids),
                            malloc(n * clip->width * sizeof *scratch.hidden)};
    oct_progress progress = {0};
    columns at = {0};

    oct_status st = scratch.ids && scratch.hidden
                        ? place_clip(j, component, clip, &at, err)
                        : oct_fail(err, OCT_ENOMEM, "out of memory for one prompt");
    oct_progress_begin(&progress, oct_component_name(component), j->n, "prompts");
    for (size_t i = 0; !st && i < j->n; i++) {
        if (j->first_of[i] == i)
            st = encode_clip_text(j, i, component, bpe, clip, &at, &scratch, err);
        oct_progress_add(&progress, 1);
    }
    oct_progress_end(&progress);
    free(scratch.ids);
    free(scratch.hidden);
    return st;
}

static oct_status encode_clip(job *j, oct_component component, oct_err *err)
{
    const char *own_name = component == OCT_CLIP_L ? "tokenizer" : "tokenizer_2";
    const char *folder = NULL;
    oct_clip_config config = {0};
    oct_clip clip = {0};
    oct_bpe bpe = {0};

    if (!oct_checkpoint_has(&j->source->checkpoint, component)) {
        oct_note("no %s: its columns are zeros", oct_component_name(component));
        return OCT_OK;
    }
    oct_status st = find_tokenizer(j, component, "clip", own_name, &folder, err);
    if (!st) st = oct_bpe_load(&bpe, folder, err);
    if (!st) st = read_clip_config(j, component, &config, err);
    if (!st) st = oct_clip_load(&clip, j->params->device, j->source, component, &config, err);
    if (!st) st = encode_clip_texts(j, component, &bpe, &clip, err);
    oct_clip_deinit(&clip);
    oct_bpe_deinit(&bpe);
    return st;
}

// --- T5 ---

static oct_status encode_t5_text(job *j, size_t i, const oct_unigram *unigram, oct_t5 *t5,
                                 oct_err *err)
{
    oct_conditioning *to = &j->out[i];
    const size_t length = j->params->t5_tokens;
    int32_t ids[T5_TOKENS_MAX];
    size_t used = 0;

    oct_status st = oct_unigram_encode(unigram, j->texts[i], ids, length, &used, err);
    if (!st) st = oct_t5_encode(t5, ids, length, to->context + j->clip_tokens * to->width, err);
    if (st) return wrap_prompt(err, st, j->texts[i]);
    warn_if_cut(j->texts[i], OCT_T5, used, length);
    return OCT_OK;
}

static oct_status encode_t5_texts(job *j, const oct_unigram *unigram, oct_t5 *t5, oct_err *err)
{
    oct_progress progress = {0};
    oct_status st = OCT_OK;

    if (t5->width != j->denoiser->context_width)
        return oct_fail(err, OCT_EFORMAT, "t5 is %zu wide, but the denoiser reads %" PRIu64,
                        t5->width, j->denoiser->context_width);
    oct_progress_begin(&progress, oct_component_name(OCT_T5), j->n, "prompts");
    for (size_t i = 0; !st && i < j->n; i++) {
        if (j->first_of[i] == i) st = encode_t5_text(j, i, unigram, t5, err);
        oct_progress_add(&progress, 1);
    }
    oct_progress_end(&progress);
    return st;
}

static oct_status encode_t5(job *j, oct_err *err)
{
    const char *folder = NULL;
    oct_unigram unigram = {0};
    oct_t5 t5 = {0};

    if (!oct_checkpoint_has(&j->source->checkpoint, OCT_T5)) {
        oct_note("no t5: its %zu rows are zeros", j->params->t5_tokens);
        return OCT_OK;
    }
    oct_status st = find_tokenizer(j, OCT_T5, "t5", "tokenizer_3", &folder, err);
    if (!st)
        st = oct_unigram_load(&unigram, oct_path_join(&j->names, folder, "tokenizer.json"), err);
    if (!st) st = oct_t5_load(&t5, j->params->device, j->source, err);
    if (!st) st = encode_t5_texts(j, &unigram, &t5, err);
    oct_t5_deinit(&t5);
    oct_unigram_deinit(&unigram);
    return st;
}

// --- all of it ---

static oct_status check_params(const job *j, oct_err *err)
{
    const oct_checkpoint *ckpt = &j->source->checkpoint;

    if (j->params->t5_tokens < 1 || j->params->t5_tokens > T5_TOKENS_MAX)
        return oct_fail(err, OCT_EUSAGE, "%zu T5 tokens are not in 1..%d", j->params->t5_tokens,
                        T5_TOKENS_MAX);
    if (!oct_checkpoint_has(ckpt, OCT_CLIP_L) && !oct_checkpoint_has(ckpt, OCT_CLIP_G) &&
        !oct_checkpoint_has(ckpt, OCT_T5))
        return oct_fail(err, OCT_EUSAGE,
                        "the model has no text encoders: give --clip-l, --clip-g and --t5");
    return OCT_OK;
}

static oct_status count_clip_tokens(job *j, oct_err *err)
{
    size_t n[2] = {0};
    const oct_component components[2] = {OCT_CLIP_L, OCT_CLIP_G};

    for (int i = 0; i < 2; i++) {
        if (!oct_checkpoint_has(&j->source->checkpoint, components[i])) continue;
        const oct_status st = oct_clip_positions(j->source, components[i], &n[i], err);
        if (st) return oct_wrap(err, st, "%s", oct_component_name(components[i]));
    }
    if (n[0] && n[1] && n[0] != n[1])
        return oct_fail(err, OCT_EFORMAT, "clip-l reads %zu tokens, but clip-g %zu", n[0], n[1]);
    j->clip_tokens = n[0] ? n[0] : n[1] ? n[1] : CLIP_TOKENS;
    return OCT_OK;
}

static oct_status make_conditioning(const job *j, oct_conditioning *c, oct_err *err)
{
    c->tokens = j->clip_tokens + j->params->t5_tokens;
    c->width = j->denoiser->context_width;
    c->pooled_width = j->denoiser->pooled_width;
    c->context = calloc(c->tokens, c->width * sizeof *c->context);
    c->pooled = calloc(c->pooled_width, sizeof *c->pooled);
    if (!c->context || !c->pooled)
        return oct_fail(err, OCT_ENOMEM, "out of memory for %zu x %zu numbers of a prompt",
                        c->tokens, c->width);
    return OCT_OK;
}

static void find_equal_texts(const char *const *texts, size_t n, size_t *first_of)
{
    for (size_t i = 0; i < n; i++) {
        size_t first = 0;
        while (strcmp(texts[first], texts[i]) != 0) first++;
        first_of[i] = first;
    }
}

static void copy_equal_texts(const job *j)
{
    for (size_t i = 0; i < j->n; i++) {
        const oct_conditioning *from = &j->out[j->first_of[i]];
        if (j->first_of[i] == i) continue;
        memcpy(j->out[i].context, from->context, from->tokens * from->width * sizeof(float));
        memcpy(j->out[i].pooled, from->pooled, from->pooled_width * sizeof(float));
    }
}

oct_status oct_conditioning_encode(oct_conditioning *out, const char *const *texts, size_t n,
                                   oct_source *source, const oct_denoiser *denoiser,
                                   const oct_conditioning_params *params, oct_err *err)
{
    size_t *first_of = calloc(n + 1, sizeof *first_of);
    job j = {.out = out,
             .texts = texts,
             .n = n,
             .first_of = first_of,
             .source = source,
             .denoiser = denoiser,
             .params = params};

    oct_status st = first_of ? check_params(&j, err) : oct_fail(err, OCT_ENOMEM, "out of memory");
    if (st) goto out;
    find_equal_texts(texts, n, first_of);
    st = count_clip_tokens(&j, err);
    for (size_t i = 0; !st && i < n; i++) st = make_conditioning(&j, &out[i], err);
    if (!st) st = encode_clip(&j, OCT_CLIP_L, err);
    if (!st) st = encode_clip(&j, OCT_CLIP_G, err);
    if (!st) st = encode_t5(&j, err);
    if (!st) copy_equal_texts(&j);

out:
    oct_arena_deinit(&j.names);
    free(first_of);
    if (st)
        for (size_t i = 0; i < n; i++) oct_conditioning_deinit(&out[i]);
    return st;
}
