// SPDX-License-Identifier: Apache-2.0
//
// The header's metadata of what quantize writes.
#include "quantize/metadata.h"

#include <stdio.h>
#include <string.h>

#include "common/version.h"

bool oct_metadata_has_source(const oct_write_params *params)
{
    return params->writing != OCT_WRITE_RESPELLED && !params->no_source_digest &&
           !params->no_sha256;
}

// Digests of the source's bytes are wrong for the output's.
static bool is_stale(const char *key, oct_writing writing)
{
    if (!strncmp(key, "octavo.", 7)) {
        return writing != OCT_WRITE_RESPELLED || !strcmp(key, "octavo.dialect");
    }
    return !strncmp(key, "sshs_", 5) || !strcmp(key, "modelspec.hash_sha256") ||
           !strcmp(key, "_quantization_metadata");
}

static bool is_diffusers(const oct_write_params *p)
{
    return oct_writing_is_folder(p->writing, p->dialect);
}

// A folder's entries are about the folder; but what made the codes stays with them.
static void keep_entries(oct_st_writer *writer, const oct_write_params *p)
{
    const oct_safetensors *file = &p->source->checkpoint.files[0];
    const bool is_folder = p->source->checkpoint.is_diffusers;

    for (size_t i = 0; i < file->n_meta; i++) {
        const char *key = file->meta[i].key;
        if (is_diffusers(p) && !strcmp(key, "format")) continue;
        if (is_stale(key, p->writing) || (is_folder && strncmp(key, "octavo.", 7))) continue;
        oct_st_writer_add_meta(writer, key, file->meta[i].value);
    }
}

static void add_origin(oct_st_writer *writer, const oct_plan_params *plan)
{
    char qmax[32];

    snprintf(qmax, sizeof qmax, "%.9g", (double)plan->qmax);
    oct_st_writer_add_meta(writer, "octavo.qmax", qmax);
    if (plan->snap_scales) {
        oct_st_writer_add_meta(writer, "octavo.snap_scales", oct_snap_name(plan->snap_scales));
    }
    oct_st_writer_add_meta(writer, "octavo.policy", plan->policy->name);
    oct_st_writer_add_meta(writer, "octavo.policy_sha256", plan->policy->sha256);
    if (plan->calibration) {
        oct_st_writer_add_meta(writer, "octavo.calibration_sha256", plan->calibration->sha256);
    }
}

void oct_metadata_add(oct_st_writer *writer, const oct_write_params *params,
                      const oct_outputs *outputs)
{
    keep_entries(writer, params);
    if (is_diffusers(params)) oct_st_writer_add_meta(writer, "format", "pt");  // its readers insist
    if (params->writing != OCT_WRITE_RESPELLED) {
        oct_st_writer_add_meta(writer, "octavo.version", oct_version());
    }
    if (params->writing != OCT_WRITE_DECODED) {
        oct_st_writer_add_meta(writer, "octavo.dialect", oct_dialect_name(params->dialect));
    }
    if (params->writing == OCT_WRITE_QUANTIZED) add_origin(writer, &params->plan->params);
    if (oct_metadata_has_source(params)) {
        oct_st_writer_add_meta(writer, "octavo.source_sha256", OCT_NO_SHA256);
    }
    if (outputs->metadata) {
        oct_st_writer_add_meta(writer, "_quantization_metadata", outputs->metadata);
    }
}
