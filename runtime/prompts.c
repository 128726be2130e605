// SPDX-License-Identifier: Apache-2.0
//
// Prompt files of all formats.
#include "runtime/prompts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/utf8.h"
#include "runtime/yaml.h"

#define FILE_BYTES_MAX ((uint64_t)256 << 20)
#define LINE_BYTES_MAX ((size_t)1 << 20)
#define ID_BYTES_MAX 128

typedef struct loader {
    oct_prompts *prompts;
    size_t capacity;
    const char *text;
    size_t bytes;
} loader;

// --- adding prompts ---

// Ids name files of results, so they may be nothing that leads elsewhere.
static oct_status check_id(const char *id, oct_err *err)
{
    const size_t bytes = strlen(id);
    bool is_fine = bytes > 0 && bytes <= ID_BYTES_MAX && id[0] != '.';

    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)id[i] < 0x20 || id[i] == 0x7f || id[i] == '/') is_fine = false;
    if (is_fine) return OCT_OK;
    char shown[64];
    return oct_fail(err, OCT_EFORMAT, "id '%s' cannot name a file",
                    oct_printable(id, shown, sizeof shown));
}

// The texts must be in the arena. id may be NULL.
static oct_status add(loader *l, oct_prompt prompt, oct_err *err)
{
    oct_prompts *p = l->prompts;

    if (!prompt.id) prompt.id = oct_arena_print(&p->arena, "%04zu", p->count);
    const oct_status st = check_id(prompt.id, err);
    if (st) return st;
    p->items = oct_arena_grow(&p->arena, p->items, p->count, &l->capacity, sizeof *p->items);
    p->items[p->count++] = prompt;
    return OCT_OK;
}

// --- lines ---

// The line at `*at` without its end, in the arena; `*at` moves behind it.
static char *take_line(loader *l, size_t *at)
{
    const char *start = l->text + *at;
    const char *end = memchr(start, '\n', l->bytes - *at);
    size_t length = end ? (size_t)(end - start) : l->bytes - *at;

    *at += length + (end != NULL);
    if (length > 0 && start[length - 1] == '\r') length--;
    return oct_arena_copy_n(&l->prompts->arena, start, length);
}

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t")] == 0;
}

static oct_status check_lines(const loader *l, oct_err *err)
{
    size_t line = 1, start = 0;

    for (size_t at = 0; at < l->bytes;) {
        uint32_t code = 0;
        const size_t length = oct_utf8_decode(l->text + at, l->bytes - at, &code);
        if (length == 0) return oct_fail(err, OCT_EFORMAT, "line %zu: invalid UTF-8", line);
        if (code == 0) return oct_fail(err, OCT_EFORMAT, "line %zu: a NUL", line);
        at += length;
        if (at - start > LINE_BYTES_MAX)
            return oct_fail(err, OCT_EFORMAT, "line %zu is longer than %zu bytes", line,
                            LINE_BYTES_MAX);
        if (code == '\n') {
            line++;
            start = at;
        }
    }
    return OCT_OK;
}

// --- .txt ---

static oct_status load_text(loader *l, oct_err *err)
{
    oct_status st = OCT_OK;

    for (size_t at = 0; !st && at < l->bytes;) {
        const char *line = take_line(l, &at);
        if (!is_blank(line) && line[0] != '#') st = add(l, (oct_prompt){.text = line}, err);
    }
    return st;
}

// --- .json and .jsonl ---

// *value: the text of a member, in the arena; left as it is when there is none or null.
static oct_status read_text(loader *l, const cJSON *object, const char *key, const char **value,
                            oct_err *err)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);
    const char *text = NULL;

    if (!member || cJSON_IsNull(member)) return OCT_OK;
    const oct_status st = oct_json_text(object, key, &text, err);
    if (!st) *value = oct_arena_copy(&l->prompts->arena, text);
    return st;
}

// An id is a text or a whole number.
static oct_status read_id(loader *l, const cJSON *object, const char **id, oct_err *err)
{
    uint64_t number = 0;

    if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(object, "id")))
        return read_text(l, object, "id", id, err);
    const oct_status st = oct_json_count(object, "id", &number, err);
    if (!st) *id = oct_arena_print(&l->prompts->arena, "%" PRIu64, number);
    return st;
}

static oct_status read_seed(const cJSON *object, oct_prompt *prompt, oct_err *err)
{
    const cJSON *seed = cJSON_GetObjectItemCaseSensitive(object, "seed");

    if (!seed || cJSON_IsNull(seed)) return OCT_OK;
    prompt->has_seed = true;
    return oct_json_count(object, "seed", &prompt->seed, err);
}

// A text or an object. key: the id that it has from outside, or NULL.
static oct_status add_json(loader *l, const cJSON *item, const char *key, oct_err *err)
{
    oct_arena *arena = &l->prompts->arena;
    oct_prompt prompt = {.id = key ? oct_arena_copy(arena, key) : NULL};

    if (cJSON_IsString(item)) {
        prompt.text = oct_arena_copy(arena, item->valuestring);
        return add(l, prompt, err);
    }
    if (!cJSON_IsObject(item))
        return oct_fail(err, OCT_EFORMAT, "a prompt must be a string or an object");
    oct_status st = read_text(l, item, "prompt", &prompt.text, err);
    if (!st && !prompt.text) return oct_fail(err, OCT_EFORMAT, "'prompt' is missing");
    if (!st && !key) st = read_id(l, item, &prompt.id, err);
    if (!st) st = read_text(l, item, "category", &prompt.category, err);
    if (!st) st = read_text(l, item, "negative", &prompt.negative, err);
    if (!st) st = read_seed(item, &prompt, err);
    return st ? st : add(l, prompt, err);
}

static oct_status load_json(loader *l, oct_err *err)
{
    const cJSON *item = NULL;
    cJSON *root = NULL;

    oct_status st = oct_json_parse(l->text, l->bytes, &root, err);
    if (st) return st;
    if (!cJSON_IsArray(root) && !cJSON_IsObject(root))
        st = oct_fail(err, OCT_EFORMAT, "neither an array nor an object of prompts");
    size_t i = 0;
    for (item = root->child; !st && item; item = item->next, i++) {
        st = add_json(l, item, cJSON_IsObject(root) ? item->string : NULL, err);
        if (st) st = oct_wrap(err, st, "prompt %zu", i);
    }
    cJSON_Delete(root);
    return st;
}

static oct_status load_json_lines(loader *l, oct_err *err)
{
    size_t number = 0;

    for (size_t at = 0; at < l->bytes;) {
        const char *line = take_line(l, &at);
        cJSON *root = NULL;
        number++;
        if (is_blank(line)) continue;
        oct_status st = oct_json_parse(line, strlen(line), &root, err);
        if (!st && !cJSON_IsObject(root)) st = oct_fail(err, OCT_EFORMAT, "it is not an object");
        if (!st) st = add_json(l, root, NULL, err);
        cJSON_Delete(root);
        if (st) return oct_wrap(err, st, "line %zu", number);
    }
    return OCT_OK;
}

// --- .tsv ---

// The column of a header line that is called `name` in any case, or SIZE_MAX.
static size_t find_column(const char *header, const char *name)
{
    const size_t bytes = strlen(name);

    for (size_t column = 0;; column++) {
        const size_t length = strcspn(header, "\t");
        if (length == bytes && strncasecmp(header, name, bytes) == 0) return column;
        if (header[length] == 0) return SIZE_MAX;
        header += length + 1;
    }
}

// A cell of a line, in the arena, or NULL.
static const char *take_cell(loader *l, const char *line, size_t column)
{
    for (; column > 0; column--) {
        line = strchr(line, '\t');
        if (!line) return NULL;
        line++;
    }
    return oct_arena_copy_n(&l->prompts->arena, line, strcspn(line, "\t"));
}

static oct_status load_table(loader *l, oct_err *err)
{
    size_t at = 0, number = 1;

    const char *header = take_line(l, &at);
    const size_t prompt = find_column(header, "prompt"), category = find_column(header, "category");
    if (prompt == SIZE_MAX)
        return oct_fail(err, OCT_EFORMAT, "line 1: no column is called 'Prompt'");
    while (at < l->bytes) {
        const char *line = take_line(l, &at);
        number++;
        if (is_blank(line)) continue;
        const char *text = take_cell(l, line, prompt);
        if (!text || is_blank(text))
            return oct_fail(err, OCT_EFORMAT, "line %zu: no prompt in column %zu", number,
                            prompt + 1);
        const oct_status st = add(
            l,
            (oct_prompt){.text = text,
                         .category = category == SIZE_MAX ? NULL : take_cell(l, line, category)},
            err);
        if (st) return oct_wrap(err, st, "line %zu", number);
    }
    return OCT_OK;
}

// --- .yaml ---

static oct_status add_yaml(void *context, const char *key, const char *value, oct_err *err)
{
    return add(context, (oct_prompt){.id = key, .text = value}, err);
}

static oct_status load_yaml(loader *l, oct_err *err)
{
    return oct_yaml_read(l->text, l->bytes, &l->prompts->arena, add_yaml, l, err);
}

// --- the set ---

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// How many of `n` texts equal an earlier one; *one: such a text.
static size_t count_repeats(const char **texts, size_t n, const char **one)
{
    size_t repeats = 0;

    qsort(texts, n, sizeof *texts, compare_texts);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(texts[i - 1], texts[i]) != 0) continue;
        *one = texts[i];
        repeats++;
    }
    return repeats;
}

static oct_status check_repeats(oct_prompts *p, const char *path, oct_err *err)
{
    const char **texts = oct_arena_array(&p->arena, p->count, sizeof *texts);
    const char *one = NULL;

    for (size_t i = 0; i < p->count; i++) texts[i] = p->items[i].id;
    if (count_repeats(texts, p->count, &one) > 0)
        return oct_fail(err, OCT_EFORMAT, "id '%s' is given twice", one);
    for (size_t i = 0; i < p->count; i++) texts[i] = p->items[i].text;
    const size_t repeats = count_repeats(texts, p->count, &one);
    if (repeats > 0) {
        char shown[80];
        oct_warn("'%s': %zu of %zu prompts repeat another one, such as '%s'", path, repeats,
                 p->count, oct_printable(one, shown, sizeof shown));
    }
    return OCT_OK;
}

static void digest(oct_prompts *p)
{
    oct_sha256 sha = {0};

    oct_sha256_begin(&sha);
    for (size_t i = 0; i < p->count; i++) {
        oct_sha256_add(&sha, p->items[i].text, strlen(p->items[i].text));
        oct_sha256_add(&sha, "\n", 1);
    }
    oct_sha256_end(&sha, p->sha256);
}

typedef oct_status load_function(loader *l, oct_err *err);

static oct_status find_format(const char *path, load_function **load, oct_err *err)
{
    static const struct {
        const char *ending;
        load_function *load;
    } formats[] = {
        {".txt", load_text},  {".jsonl", load_json_lines}, {".json", load_json},
        {".tsv", load_table}, {".yaml", load_yaml},        {".yml", load_yaml},
    };
    const char *ending = strrchr(oct_path_name(path), '.');

    for (size_t i = 0; ending && i < sizeof formats / sizeof *formats; i++) {
        if (strcasecmp(ending, formats[i].ending) != 0) continue;
        *load = formats[i].load;
        return OCT_OK;
    }
    return oct_fail(err, OCT_EUSAGE,
                    "prompt file '%s' does not end in .txt, .jsonl, .json, .tsv or .yaml", path);
}

static oct_status load_file(oct_prompts *prompts, const char *path, load_function *load,
                            oct_err *err)
{
    loader l = {.prompts = prompts};
    char *text = NULL;

    oct_status st = oct_file_read_text(&prompts->arena, path, FILE_BYTES_MAX, &text, &l.bytes, err);
    if (st) return st;
    const size_t mark = l.bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    l.text = text + mark;
    l.bytes -= mark;
    st = check_lines(&l, err);
    if (!st) st = load(&l, err);
    if (!st && prompts->count == 0) st = oct_fail(err, OCT_EFORMAT, "there is no prompt in it");
    return st ? oct_wrap(err, st, "'%s'", path) : OCT_OK;
}

oct_status oct_prompts_load(oct_prompts *prompts, const char *path, size_t limit, oct_err *err)
{
    load_function *load = NULL;

    *prompts = (oct_prompts){0};
    oct_status st = find_format(path, &load, err);
    if (!st) st = load_file(prompts, path, load, err);
    if (!st && limit > 0 && prompts->count > limit) prompts->count = limit;
    if (!st) {
        st = check_repeats(prompts, path, err);
        if (st) st = oct_wrap(err, st, "'%s'", path);
    }
    if (st)
        oct_prompts_deinit(prompts);
    else
        digest(prompts);
    return st;
}

oct_status oct_prompts_single(oct_prompts *prompts, const char *text, oct_err *err)
{
    *prompts = (oct_prompts){0};
    if (!oct_utf8_is_valid(text, strlen(text)))
        return oct_fail(err, OCT_EFORMAT, "the prompt is not valid UTF-8");
    loader l = {.prompts = prompts};
    const oct_status st = add(&l, (oct_prompt){.text = oct_arena_copy(&prompts->arena, text)}, err);
    digest(prompts);
    return st;
}

void oct_prompts_deinit(oct_prompts *prompts)
{
    oct_arena_deinit(&prompts->arena);
    *prompts = (oct_prompts){0};
}
