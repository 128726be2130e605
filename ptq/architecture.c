// SPDX-License-Identifier: Apache-2.0
//
// Architectures by names.
#include "ptq/architecture.h"

#include <assert.h>
#include <string.h>

#include "ptq/naming.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const architecture_names[] = {
    "none", "SD3", "FLUX.1", "LTX-Video", "T5", "generic",
};

const char *oct_architecture_name(oct_architecture architecture)
{
    assert(architecture < COUNT(architecture_names));
    return architecture_names[architecture];
}

// A name of the denoiser that begins with `first` (and, where that ends in a dot, goes on with an
// index) and holds `second` after it, if there is one.
typedef struct sign {
    const char *first, *second;
} sign;

static bool has_sign(const oct_checkpoint *ckpt, sign s)
{
    const size_t length = strlen(s.first);
    const bool is_indexed = s.first[length - 1] == '.';
    unsigned block = 0;

    for (size_t i = 0; i < ckpt->n_tensors; i++) {
        const char *name = ckpt->tensors[i].name;
        if (ckpt->tensors[i].component != OCT_DENOISER) continue;
        if (is_indexed ? !oct_name_index(name, s.first, &block) : strncmp(name, s.first, length)) {
            continue;
        }
        if (!s.second || strstr(name + length, s.second)) return true;
    }
    return false;
}

// Relatives that have the names of a known architecture and more.
// clang-format off
static const struct { sign sign; const char *family; } relatives[] = {
    {{"double_stream_modulation_img", NULL}, "FLUX.2"},
    {{"distilled_guidance_layer",     NULL}, "Chroma"},
    {{"txt_in.individual_token_refiner", NULL}, "HunyuanVideo"},
    {{"audio_patchify_proj",          NULL}, "LTX-2"},
    {{"audio_proj_in",                NULL}, "LTX-2"},
};

// Both signs of a row must be there: under diffusers names, FLUX.1 has the blocks of SD3 but no patch
// embedding, PixArt that embedding but no joint attention. A file in both namings counts as one of
// diffusers, so that the doubled names are found.
static const struct { oct_architecture architecture; bool is_diffusers; sign signs[2]; } known[] = {
    {OCT_ARCH_SD3,  true,  {{"transformer_blocks.", ".attn.add_q_proj."}, {"pos_embed", NULL}}},
    {OCT_ARCH_SD3,  false, {{"joint_blocks.", NULL}}},
    {OCT_ARCH_FLUX, true,  {{"transformer_blocks.", ".attn.add_q_proj."}, {"single_transformer_blocks.", "attn.to_q."}}},
    {OCT_ARCH_FLUX, false, {{"double_blocks.", "img_attn."}}},
    {OCT_ARCH_LTX,  true,  {{"transformer_blocks.", "scale_shift_table"}, {"proj_in", NULL}}},
    {OCT_ARCH_LTX,  false, {{"transformer_blocks.", "attn1."}, {"patchify_proj", NULL}}},
};

// Signs of other families, in a name of any component.
static const struct { const char *sign, *family; } others[] = {
    {"adaln_single.linear.weight",                 "PixArt"},
    {"input_blocks.0.0.weight",                    "Stable Diffusion 1, 2 or XL"},
    {"down_blocks.0.attentions.0.norm.weight",     "Stable Diffusion 1, 2 or XL"},
    {"text_model.encoder.layers.0.mlp.fc1.weight", "a CLIP text encoder"},
    {"decoder.conv_in.weight",                     "a VAE"},
};
// clang-format on

static const char *find_relative(const oct_checkpoint *ckpt)
{
    for (size_t i = 0; i < COUNT(relatives); i++) {
        if (has_sign(ckpt, relatives[i].sign)) return relatives[i].family;
    }
    return NULL;
}

oct_architecture oct_architecture_find(const oct_checkpoint *ckpt, bool *is_diffusers_named)
{
    *is_diffusers_named = false;
    if (find_relative(ckpt)) return OCT_ARCH_NONE;
    for (size_t i = 0; i < COUNT(known); i++) {
        const sign *signs = known[i].signs;
        if (!has_sign(ckpt, signs[0]) || (signs[1].first && !has_sign(ckpt, signs[1]))) continue;
        *is_diffusers_named = known[i].is_diffusers;
        return known[i].architecture;
    }
    if (!oct_checkpoint_has(ckpt, OCT_DENOISER) && oct_checkpoint_has(ckpt, OCT_T5)) {
        return OCT_ARCH_T5;
    }
    return OCT_ARCH_NONE;
}

const char *oct_architecture_guess(const oct_checkpoint *ckpt)
{
    const char *relative = find_relative(ckpt);

    if (relative) return relative;
    for (size_t family = 0; family < COUNT(others); family++) {
        for (size_t i = 0; i < ckpt->n_tensors; i++) {
            if (oct_name_ends_with(ckpt->tensors[i].name, others[family].sign)) {
                return others[family].family;
            }
        }
    }
    return NULL;
}
