// SPDX-License-Identifier: Apache-2.0
//
// Albums.
#include "regress/album.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "runtime/describe.h"

#define RECORD "pictures.json"
#define PICTURE_BYTES_MAX (1u << 30)

static bool is_same_json(const cJSON *a, const cJSON *b)
{
    // As text: a count that was written and one that was read have different types.
    char *left = oct_json_print_line(a), *right = oct_json_print_line(b);
    const bool is_same = strcmp(left, right) == 0;
    free(left);
    free(right);
    return is_same;
}

static oct_status load_earlier(oct_album *album, const cJSON *made_from, oct_err *err)
{
    if (!oct_path_exists(album->record_path)) return OCT_OK;
    const oct_status st = oct_json_load(album->record_path, &album->earlier, err);
    if (st) return st;
    const cJSON *other = cJSON_GetObjectItemCaseSensitive(album->earlier, "made_from");
    const cJSON *pictures = cJSON_GetObjectItemCaseSensitive(album->earlier, "pictures");
    if (!other || !cJSON_IsObject(pictures)) {
        return oct_fail(err, OCT_EFORMAT, "'%s' is no record of pictures", album->record_path);
    }
    if (is_same_json(other, made_from)) return OCT_OK;
    oct_note("the pictures in '%s' were made from something else; they are made again",
             album->folder);
    cJSON_Delete(album->earlier);
    album->earlier = NULL;
    return OCT_OK;
}

oct_status oct_album_open(oct_album *album, const char *folder, cJSON *made_from, bool reuses,
                          oct_err *err)
{
    *album = (oct_album){.record = cJSON_CreateObject()};
    album->folder = oct_arena_copy(&album->arena, folder);
    album->record_path = oct_path_join(&album->arena, folder, RECORD);
    cJSON_AddNumberToObject(album->record, "octavo_pictures", 1);
    cJSON_AddItemToObject(album->record, "made_from", made_from);
    cJSON_AddObjectToObject(album->record, "pictures");
    oct_status st = oct_folder_make(folder, err);
    if (!st && reuses) st = load_earlier(album, made_from, err);
    if (st) oct_album_close(album);
    return st;
}

void oct_album_close(oct_album *album)
{
    cJSON_Delete(album->record);
    cJSON_Delete(album->earlier);
    oct_arena_deinit(&album->arena);
    *album = (oct_album){0};
}

static oct_status save_record(const oct_album *album, oct_err *err)
{
    char *text = oct_json_print(album->record);
    const oct_status st = oct_file_write(album->record_path, text, strlen(text), err);
    free(text);
    return st;
}

static oct_status digest_file(const oct_album *album, const char *name, char hex[OCT_XXH128_HEX],
                              oct_err *err)
{
    oct_arena arena = {0};
    char *bytes = NULL;
    size_t n = 0;

    const oct_status st = oct_file_read_text(&arena, oct_path_join(&arena, album->folder, name),
                                             PICTURE_BYTES_MAX, &bytes, &n, err);
    if (!st) oct_xxh128_hex(oct_xxh128_of(bytes, n), hex);
    oct_arena_deinit(&arena);
    return st;
}

static void digest_conditioning(const oct_job *job, char hex[OCT_XXH128_HEX])
{
    const oct_conditioning *branches[] = {job->conditional, job->unconditional};
    oct_xxh128 digests[4] = {{0}};

    for (size_t i = 0; i < 2; i++) {
        const oct_conditioning *c = branches[i];
        if (!c) continue;
        digests[2 * i] = oct_digest_of_data(c->context, c->tokens * c->width * sizeof(float));
        digests[2 * i + 1] = oct_digest_of_data(c->pooled, c->pooled_width * sizeof(float));
    }
    oct_xxh128_hex(oct_digest_of_chunks(digests, 4), hex);
}

static cJSON *describe_picture(const char *file_hex, const oct_job *job)
{
    char conditioning[OCT_XXH128_HEX];
    cJSON *picture = cJSON_CreateObject();

    digest_conditioning(job, conditioning);
    cJSON_AddStringToObject(picture, "conditioning_xxh3", conditioning);
    cJSON_AddStringToObject(picture, "xxh3", file_hex);
    return picture;
}

static cJSON *pictures_of(const cJSON *record)
{
    return cJSON_GetObjectItemCaseSensitive(record, "pictures");
}

bool oct_album_keep(oct_album *album, const char *name, const oct_job *job)
{
    const cJSON *known =
        album->earlier ? cJSON_GetObjectItemCaseSensitive(pictures_of(album->earlier), name) : NULL;
    char hex[OCT_XXH128_HEX];

    if (!known || digest_file(album, name, hex, NULL)) return false;
    cJSON *picture = describe_picture(hex, job);
    if (!is_same_json(known, picture)) {
        cJSON_Delete(picture);
        return false;
    }
    cJSON_AddItemToObject(pictures_of(album->record), name, picture);
    return true;
}

oct_status oct_album_add(oct_album *album, const char *name, const oct_job *job,
                         const oct_executed *executed, oct_err *err)
{
    char hex[OCT_XXH128_HEX];

    const oct_status st = digest_file(album, name, hex, err);
    if (st) return st;
    cJSON_AddItemToObject(pictures_of(album->record), name, describe_picture(hex, job));
    cJSON_DeleteItemFromObjectCaseSensitive(album->record, "executed_layers");
    cJSON_DeleteItemFromObjectCaseSensitive(album->record, "executed_paths");
    oct_json_add_executed(album->record, executed);
    return save_record(album, err);
}

oct_status oct_album_get_executed(const oct_album *album, oct_executed *executed, oct_err *err)
{
    const oct_status st = oct_json_read_executed(album->earlier, executed, err);
    return st ? oct_wrap(err, st, "'%s'", album->record_path) : OCT_OK;
}

oct_status oct_vae_digest(const oct_source *source, char hex[OCT_XXH128_HEX], oct_err *err)
{
    oct_xxh128 *digests = calloc(source->n_tensors + 1, sizeof *digests);
    oct_status st = digests ? OCT_OK : oct_fail(err, OCT_ENOMEM, "out of memory for digests");
    size_t n = 0;

    for (size_t i = 0; i < source->n_tensors && !st; i++) {
        const oct_source_tensor *tensor = &source->tensors[i];
        if (tensor->component != OCT_VAE) continue;
        void *data = malloc(tensor->bytes + 1);
        st = data ? oct_source_read(tensor, data, err)
                  : oct_fail(err, OCT_ENOMEM, "out of memory for tensor '%s'", tensor->name);
        if (!st) digests[n++] = oct_digest_of_data(data, tensor->bytes);
        free(data);
    }
    if (!st) oct_xxh128_hex(oct_digest_of_chunks(digests, n), hex);
    free(digests);
    return st;
}
