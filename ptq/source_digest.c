// SPDX-License-Identifier: Apache-2.0
//
// The SHA-256 of a source as files.
#include "ptq/source_digest.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool holds_denoiser(const oct_checkpoint *checkpoint, const oct_safetensors *file)
{
    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        const oct_ckpt_tensor *t = &checkpoint->tensors[i];
        if (t->file == file && t->component == OCT_DENOISER) return true;
    }
    return false;
}

static int by_file_name(const void *a, const void *b)
{
    const oct_safetensors *const *x = a, *const *y = b;
    return strcmp(oct_path_name((*x)->file.path), oct_path_name((*y)->file.path));
}

static oct_status digest_shards(const oct_checkpoint *checkpoint, char hex[OCT_SHA256_HEX],
                                oct_err *err)
{
    const oct_safetensors **shards = calloc(checkpoint->n_files, sizeof *shards);
    if (!shards) return oct_fail(err, OCT_ENOMEM, "out of memory for a list of shards");
    size_t n_shards = 0;
    for (size_t i = 0; i < checkpoint->n_files; i++) {
        if (holds_denoiser(checkpoint, &checkpoint->files[i])) {
            shards[n_shards++] = &checkpoint->files[i];
        }
    }
    qsort(shards, n_shards, sizeof *shards, by_file_name);

    oct_status st = OCT_OK;
    oct_sha256 all;
    oct_sha256_begin(&all);
    for (size_t i = 0; i < n_shards && !st; i++) {
        char digest[OCT_SHA256_HEX];
        st = oct_sha256_of_file(&shards[i]->file, digest, err);
        if (st) break;
        const char *name = oct_path_name(shards[i]->file.path);
        oct_sha256_add(&all, digest, strlen(digest));
        oct_sha256_add(&all, "  ", 2);
        oct_sha256_add(&all, name, strlen(name));
        oct_sha256_add(&all, "\n", 1);
    }
    oct_sha256_end(&all, hex);
    free(shards);
    return st;
}

oct_status oct_source_sha256(const oct_source *source, char hex[OCT_SHA256_HEX], oct_err *err)
{
    const oct_checkpoint *checkpoint = &source->checkpoint;
    if (checkpoint->is_diffusers) return digest_shards(checkpoint, hex, err);
    return oct_sha256_of_file(&checkpoint->files[0].file, hex, err);
}
