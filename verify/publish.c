// SPDX-License-Identifier: Apache-2.0
//
// Writing a manifest.
#include "verify/publish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/manifest.h"
#include "verify/digests.h"

// The folder of a path, links resolved; NULL when there is none.
static const char *resolve_folder(oct_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *folder =
        !slash ? "." : oct_arena_copy_n(arena, path, slash == path ? 1 : (size_t)(slash - path));
    char *real = realpath(folder, NULL);
    const char *copy = real ? oct_arena_copy(arena, real) : NULL;
    free(real);
    return copy;
}

// The name of `path` below `folder`; NULL when it is not.
static const char *relative_name(oct_arena *arena, const char *folder, const char *path)
{
    const char *own = resolve_folder(arena, path);
    const size_t length = !strcmp(folder, "/") ? 0 : strlen(folder);
    if (!own || strncmp(own, folder, length) || (own[length] && own[length] != '/')) return NULL;
    own += length;
    while (*own == '/') own++;
    return *own ? oct_arena_print(arena, "%s/%s", own, oct_path_name(path)) : oct_path_name(path);
}

oct_status oct_verify_publish(const char *out, const oct_texts *files, oct_err *err)
{
    oct_arena arena = {0};
    oct_digests digests = {0};
    oct_findings none = {0};
    char *text = NULL;
    size_t bytes = 0;
    oct_status st = OCT_OK;
    const char **names = oct_arena_array(&arena, files->count, sizeof *names);
    const char *folder = resolve_folder(&arena, out);
    if (!folder) st = oct_fail(err, OCT_EIO, "the folder of '%s' does not exist", out);
    for (size_t i = 0; i < files->count && !st; i++) {
        names[i] = relative_name(&arena, folder, files->items[i]);
        if (!names[i]) {
            st = oct_fail(err, OCT_EUSAGE, "'%s' does not lie in the folder of '%s'",
                          files->items[i], out);
        } else if (oct_path_is_same_file(files->items[i], out)) {
            st = oct_fail(err, OCT_EUSAGE, "'%s' cannot list itself", out);
        }
        oct_digests_add(&digests, files->items[i], 0);
    }
    if (!st) st = oct_digests_begin(&digests, NULL, err);
    if (!st) st = oct_digests_end(&digests, &none, err);
    FILE *lines = st ? NULL : open_memstream(&text, &bytes);
    for (size_t i = 0; i < files->count && lines; i++) {
        fputs(oct_manifest_line(&arena, digests.files[i].sha256, names[i]), lines);
    }
    if (!st && (!lines || fclose(lines))) st = oct_fail(err, OCT_ENOMEM, "out of memory");
    if (!st) st = oct_file_write(out, text, bytes, err);
    free(text);
    oct_findings_deinit(&none);
    oct_digests_deinit(&digests);
    oct_arena_deinit(&arena);
    return st;
}
