// SPDX-License-Identifier: Apache-2.0
//
// fabricate: write a complete model of SD3.5's architecture with synthetic weights.
#include <string.h>

#include "common/cli.h"
#include "common/file.h"
#include "tests/tools/fabricate.h"

typedef struct options {
    const char *out, *layout, *shapes, *dtype;
    uint64_t depth, dual_blocks, blocks_only, seed, shards;
    bool has_outliers, lacks_clip_g, lacks_t5;
} options;

static oct_status pick_layout(const char *word, oct_fabric_layout *layout, oct_err *err)
{
    static const char *const words[] = {"diffusers", "single", "all-in-one"};

    for (int i = 0; i < 3; i++) {
        if (strcmp(word, words[i]) == 0) {
            *layout = (oct_fabric_layout)i;
            return OCT_OK;
        }
    }
    return oct_fail(err, OCT_EUSAGE, "layout '%s' is not diffusers, single or all-in-one", word);
}

static oct_status pick_dtype(const char *word, oct_dtype *dtype, oct_err *err)
{
    static const char *const words[] = {"f16", "bf16", "f32"};
    static const oct_dtype dtypes[] = {OCT_F16, OCT_BF16, OCT_F32};

    for (int i = 0; i < 3; i++) {
        if (strcmp(word, words[i]) == 0) {
            *dtype = dtypes[i];
            return OCT_OK;
        }
    }
    return oct_fail(err, OCT_EUSAGE, "dtype '%s' is not f16, bf16 or f32", word);
}

static oct_status pick_size(const options *o, oct_model_size *size, oct_err *err)
{
    if (o->depth == 0 || o->depth > 64) {
        return oct_fail(err, OCT_EUSAGE, "depth %llu is not in 1..64",
                        (unsigned long long)o->depth);
    }
    if (!o->shapes) {
        *size = oct_model_size_small(o->depth, o->dual_blocks);
    } else if (strcmp(o->shapes, "large") == 0) {
        *size = oct_model_size_large();
    } else if (strcmp(o->shapes, "medium") == 0) {
        *size = oct_model_size_medium();
    } else {
        return oct_fail(err, OCT_EUSAGE, "shapes '%s' are not large or medium", o->shapes);
    }
    if (o->blocks_only && o->blocks_only < size->blocks) size->blocks = o->blocks_only;
    if (size->dual_blocks > size->blocks) size->dual_blocks = size->blocks;
    return OCT_OK;
}

static oct_status fabricate(const options *o, oct_err *err)
{
    oct_fabric fabric = {
        .out = o->out,
        .seed = o->seed,
        .has_outliers = o->has_outliers,
        .lacks_clip_g = o->lacks_clip_g,
        .lacks_t5 = o->lacks_t5,
        .shards = o->shards,
    };

    if (!o->out) return oct_fail(err, OCT_EUSAGE, "option '--out' is missing");
    oct_status st = pick_layout(o->layout, &fabric.layout, err);
    if (!st) st = pick_dtype(o->dtype, &fabric.dtype, err);
    if (!st) st = pick_size(o, &fabric.size, err);
    return st ? st : oct_fabricate(&fabric, err);
}

int main(int argc, char **argv)
{
    options o = {.layout = "diffusers", .dtype = "f16", .depth = 2};
    const oct_opt opts[] = {
        OPT_GROUP("Output"),
        OPT_TEXT("out", "PATH", &o.out, "file or folder to write"),
        OPT_TEXT("layout", "NAME", &o.layout,
                 "diffusers, single (denoiser and VAE) or all-in-one (default: diffusers)"),
        OPT_TEXT("dtype", "NAME", &o.dtype, "f16, bf16 or f32 (default: f16)"),
        OPT_COUNT("shards", "N", &o.shards,
                  "files of a diffusers folder's transformer (default: one)"),
        OPT_GROUP("Model"),
        OPT_COUNT("depth", "D", &o.depth, "blocks; the width is 64 D (default: 2)"),
        OPT_COUNT("dual-blocks", "N", &o.dual_blocks,
                  "how many first blocks have a second attention (default: 0)"),
        OPT_TEXT("shapes", "NAME", &o.shapes,
                 "large or medium: the shapes of SD3.5, encoders too (default: small)"),
        OPT_COUNT("blocks-only", "N", &o.blocks_only,
                  "keep N blocks, the last of them as the model's last (default: all)"),
        OPT_FLAG("outliers", &o.has_outliers, "give some layers outlier channels"),
        OPT_COUNT("seed", "S", &o.seed, "other weights; 0 is the plain formula (default: 0)"),
        OPT_FLAG("no-clip-g", &o.lacks_clip_g, "leave CLIP-G out"),
        OPT_FLAG("no-t5", &o.lacks_t5, "leave T5 out"),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "fabricate",
        .summary = "Write a complete model of SD3.5's architecture with synthetic weights.",
        .usage = "--out PATH [options]",
        .examples = {"octavo-fabricate --out tiny --depth 4 --dual-blocks 2",
                     "octavo-fabricate --out large.safetensors --layout single --shapes large "
                     "--blocks-only 2"},
        .opts = opts,
    };
    oct_err err = {{0}};
    bool is_done = false;

    oct_signals_install();
    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && !is_done) st = fabricate(&o, &err);
    return oct_cli_finish(&cli, st, &err);
}
