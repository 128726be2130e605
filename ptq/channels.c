// SPDX-License-Identifier: Apache-2.0
//
// Channel statistics.
#include "ptq/channels.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/log.h"
#include "common/safetensors.h"

#define VERSION "1"
#define SQUARES ".input_squares"
#define ROWS ".input_rows"
#define CHANNELS_MAX (UINT64_C(1) << 24)  // of a layer

// ---- Sums.

static const oct_energy overflown = {UINT64_MAX, UINT64_MAX};

bool oct_energy_is_overflown(oct_energy sum)
{
    return sum.low == UINT64_MAX && sum.high == UINT64_MAX;
}

void oct_energy_merge(oct_energy *sum, oct_energy other)
{
    const uint64_t low = sum->low + other.low, carry = low < sum->low;
    const uint64_t room = UINT64_MAX - sum->high;

    if (other.high > room || (other.high == room && carry) || oct_energy_is_overflown(*sum)) {
        *sum = overflown;
        return;
    }
    *sum = (oct_energy){low, sum->high + other.high + carry};
}

void oct_energy_add(oct_energy *sum, double squares)
{
    assert(!(squares < 0));
    if (!(squares < 0x1p80)) {
        *sum = overflown;
        return;
    }
    const double high = floor(squares * 0x1p-16);
    const double low = nearbyint((squares - high * 0x1p16) * 0x1p48);
    oct_energy_merge(sum, (oct_energy){(uint64_t)low, (uint64_t)high});
}

float oct_channels_mean(const oct_channels *channels, size_t i)
{
    const oct_energy sum = channels->sums[i];

    assert(i < channels->n && channels->rows > 0 && !oct_energy_is_overflown(sum));
    const double squares = (double)sum.high * 0x1p16 + (double)sum.low * 0x1p-48;
    return (float)(squares / (double)channels->rows);
}

// ---- Writing.

static oct_status check_sums(const oct_channels *channels, oct_err *err)
{
    char shown[200];

    oct_printable(channels->layer, shown, sizeof shown);
    for (size_t i = 0; i < channels->n; i++) {
        const oct_energy sum = channels->sums[i];
        if (oct_energy_is_overflown(sum)) {
            return oct_fail(err, OCT_EFORMAT,
                            "channel %zu of the input of layer '%s' is too large: its squares add "
                            "up to more than 2^80",
                            i, shown);
        }
        if (channels->rows == 0 && (sum.low || sum.high)) {
            return oct_fail(err, OCT_EFORMAT, "layer '%s' has squares of no rows", shown);
        }
    }
    return OCT_OK;
}

static const char *tensor_name(oct_arena *arena, const oct_channels *channels, const char *ending)
{
    return oct_arena_print(arena, "%s%s", channels->layer, ending);
}

static oct_status write_layer(oct_st_writer *writer, const oct_channels *channels, oct_err *err)
{
    const oct_st_tensor *squares =
        oct_st_writer_find(writer, tensor_name(&writer->arena, channels, SQUARES));
    const oct_st_tensor *rows =
        oct_st_writer_find(writer, tensor_name(&writer->arena, channels, ROWS));

    const oct_status st =
        oct_st_writer_write(writer, squares, 0, channels->sums, squares->bytes, err);
    return st ? st : oct_st_writer_write(writer, rows, 0, &channels->rows, rows->bytes, err);
}

static oct_status digest_file(const char *path, char sha256[OCT_SHA256_HEX], oct_err *err)
{
    oct_file file = {0};

    oct_status st = oct_file_open(&file, path, err);
    if (!st) st = oct_sha256_of_file(&file, sha256, err);
    oct_file_close(&file);
    return st;
}

oct_status oct_channels_save(const char *path, const oct_channels *channels, size_t n_layers,
                             const char *denoiser_xxh3, char sha256[OCT_SHA256_HEX], oct_err *err)
{
    oct_st_writer writer = {0};
    oct_status st = OCT_OK;

    for (size_t i = 0; i < n_layers && !st; i++) {
        const oct_channels *of = &channels[i];
        st = check_sums(of, err);
        oct_st_writer_add(&writer, tensor_name(&writer.arena, of, SQUARES), OCT_U64, 2,
                          (const uint64_t[]){of->n, 2});
        oct_st_writer_add(&writer, tensor_name(&writer.arena, of, ROWS), OCT_U64, 0, NULL);
    }
    oct_st_writer_add_meta(&writer, "octavo.channels", VERSION);
    oct_st_writer_add_meta(&writer, "octavo.denoiser_xxh3", denoiser_xxh3);
    if (!st) st = oct_st_writer_begin(&writer, path, err);
    for (size_t i = 0; i < n_layers && !st; i++) st = write_layer(&writer, &channels[i], err);
    if (!st) st = oct_st_writer_commit(&writer, err);
    oct_st_writer_deinit(&writer);
    return st ? st : digest_file(path, sha256, err);
}

// ---- Reading.

static oct_status check_file(const oct_safetensors *file, size_t n_layers,
                             const char *denoiser_xxh3, const char *sha256, oct_err *err)
{
    const char *version = oct_safetensors_find_meta(file, "octavo.channels");
    const char *model = oct_safetensors_find_meta(file, "octavo.denoiser_xxh3");
    char is[OCT_SHA256_HEX];

    const oct_status st = oct_sha256_of_file(&file->file, is, err);
    if (st) return st;
    if (strcmp(is, sha256) != 0) {
        return oct_fail(err, OCT_EFORMAT, "its sha256 is %s, but the calibration names %s", is,
                        sha256);
    }
    if (!version || strcmp(version, VERSION) != 0) {
        return oct_fail(err, OCT_EUNSUPPORTED, "metadata 'octavo.channels' is not " VERSION);
    }
    if (!model || strcmp(model, denoiser_xxh3) != 0) {
        return oct_fail(err, OCT_EFORMAT, "metadata 'octavo.denoiser_xxh3' names another model");
    }
    if (file->n_tensors != 2 * n_layers) {
        return oct_fail(err, OCT_EFORMAT, "%zu tensors for %zu layers", file->n_tensors, n_layers);
    }
    return OCT_OK;
}

static oct_status find(const oct_safetensors *file, oct_arena *arena, const oct_channels *channels,
                       const char *ending, const oct_st_tensor **tensor, oct_err *err)
{
    const char *name = tensor_name(arena, channels, ending);
    char shown[200];

    *tensor = oct_safetensors_find(file, name);
    if (!*tensor) {
        return oct_fail(err, OCT_EFORMAT, "tensor '%s' is missing",
                        oct_printable(name, shown, sizeof shown));
    }
    const bool is_squares = strcmp(ending, SQUARES) == 0;
    const uint64_t *shape = (*tensor)->shape;
    const bool has_shape =
        is_squares ? (*tensor)->rank == 2 && shape[0] - 1 < CHANNELS_MAX && shape[1] == 2
                   : (*tensor)->rank == 0;
    if ((*tensor)->dtype == OCT_U64 && has_shape) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "tensor '%s' is not U64 %s",
                    oct_printable(name, shown, sizeof shown), is_squares ? "[channels, 2]" : "[]");
}

static oct_status read_layer(const oct_safetensors *file, oct_arena *arena, oct_channels *channels,
                             oct_err *err)
{
    const oct_st_tensor *squares = NULL, *rows = NULL;

    oct_status st = find(file, arena, channels, SQUARES, &squares, err);
    if (!st) st = find(file, arena, channels, ROWS, &rows, err);
    if (st) return st;
    channels->n = (size_t)squares->shape[0];
    channels->sums = oct_arena_array(arena, channels->n, sizeof *channels->sums);
    st = oct_safetensors_read(file, squares, 0, squares->bytes, channels->sums, err);
    if (!st) st = oct_safetensors_read(file, rows, 0, rows->bytes, &channels->rows, err);
    return st ? st : check_sums(channels, err);
}

oct_status oct_channels_load(const char *path, oct_arena *arena, oct_channels *channels,
                             size_t n_layers, const char *denoiser_xxh3, const char *sha256,
                             oct_err *err)
{
    oct_safetensors file = {0};

    oct_status st = oct_safetensors_open(&file, path, err);
    if (st) return st;
    st = check_file(&file, n_layers, denoiser_xxh3, sha256, err);
    for (size_t i = 0; i < n_layers && !st; i++) {
        st = read_layer(&file, arena, &channels[i], err);
    }
    oct_safetensors_close(&file);
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}
