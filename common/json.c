// SPDX-License-Identifier: Apache-2.0
//
// Strict reading and stable printing of small JSON documents.
#include "common/json.h"

#include <assert.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/json_scan.h"
#include "common/log.h"
#include "common/utf8.h"

#define CJSON_NUMBER_MAX 63           // cJSON 1.7 copies a number into 64 bytes
#define COUNT_MAX 9007199254740992.0  // 2^53

// --- reading ---

static oct_status check_token(const oct_json_scan *scan, oct_json_token token, oct_err *err)
{
    double number = 0;

    if (token == OCT_JSON_KEY || token == OCT_JSON_STRING) {
        if (!memchr(scan->value, 0, scan->value_bytes)) return OCT_OK;
        return oct_fail(err, OCT_EFORMAT, "JSON: U+0000 in a string before byte %zu", scan->at);
    }
    if (token != OCT_JSON_NUMBER) return OCT_OK;
    if (scan->value_bytes > CJSON_NUMBER_MAX)
        return oct_fail(err, OCT_EFORMAT, "JSON: number of %zu characters before byte %zu",
                        scan->value_bytes, scan->at);
    if (!oct_json_scan_double(scan, &number))
        return oct_fail(err, OCT_EFORMAT, "JSON: number '%.*s' is not finite", CJSON_NUMBER_MAX,
                        scan->value);
    return OCT_OK;
}

static oct_status check_text(const char *text, size_t bytes, oct_err *err)
{
    oct_arena arena = {0};
    oct_json_scan scan;
    oct_json_token token = OCT_JSON_NULL;
    oct_status st = OCT_OK;

    oct_json_scan_init(&scan, text, bytes, OCT_JSON_DEPTH_MAX, &arena);
    while (!st && token != OCT_JSON_END) {
        st = oct_json_scan_next(&scan, &token, err);
        if (!st) st = check_token(&scan, token, err);
    }
    oct_arena_deinit(&arena);
    return st;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static oct_status check_keys_of(const cJSON *object, oct_err *err)
{
    oct_arena arena = {0};
    oct_status st = OCT_OK;
    char shown[128];

    const size_t n_keys = (size_t)cJSON_GetArraySize(object);
    const char **keys = oct_arena_array(&arena, n_keys, sizeof *keys);
    size_t n = 0;
    for (const cJSON *item = object->child; item; item = item->next) keys[n++] = item->string;
    qsort(keys, n, sizeof *keys, compare_keys);
    for (size_t i = 1; i < n && !st; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            st = oct_fail(err, OCT_EFORMAT, "JSON: duplicate key '%s'",
                          oct_printable(keys[i], shown, sizeof shown));
    oct_arena_deinit(&arena);
    return st;
}

// The depth is bounded: the text has passed the scanner.
static oct_status check_duplicates(const cJSON *value, oct_err *err)
{
    oct_status st = OCT_OK;

    if (cJSON_IsObject(value)) st = check_keys_of(value, err);
    for (const cJSON *item = value->child; item && !st; item = item->next)
        st = check_duplicates(item, err);
    return st;
}

oct_status oct_json_parse(const char *text, size_t bytes, cJSON **root, oct_err *err)
{
    *root = NULL;
    oct_status st = check_text(text, bytes, err);
    if (st) return st;
    *root = cJSON_ParseWithLength(text, bytes);
    if (!*root) return oct_fail(err, OCT_ENOMEM, "out of memory for %zu bytes of JSON", bytes);
    st = check_duplicates(*root, err);
    if (st) {
        cJSON_Delete(*root);
        *root = NULL;
    }
    return st;
}

oct_status oct_json_load(const char *path, cJSON **root, oct_err *err)
{
    oct_arena arena = {0};
    char *text = NULL;
    size_t bytes = 0;

    *root = NULL;
    oct_status st = oct_file_read_text(&arena, path, OCT_JSON_BYTES_MAX, &text, &bytes, err);
    if (!st) {
        st = oct_json_parse(text, bytes, root, err);
        if (st) oct_wrap(err, st, "'%s'", path);
    }
    oct_arena_deinit(&arena);
    return st;
}

static oct_status find_member(const cJSON *object, const char *key, const cJSON **item,
                              oct_err *err)
{
    *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return *item ? OCT_OK : oct_fail(err, OCT_EFORMAT, "'%s' is missing", key);
}

oct_status oct_json_text(const cJSON *object, const char *key, const char **value, oct_err *err)
{
    const cJSON *item = NULL;

    const oct_status st = find_member(object, key, &item, err);
    if (st) return st;
    if (!cJSON_IsString(item)) return oct_fail(err, OCT_EFORMAT, "'%s' must be a string", key);
    *value = item->valuestring;
    return OCT_OK;
}

oct_status oct_json_number(const cJSON *object, const char *key, double *value, oct_err *err)
{
    const cJSON *item = NULL;

    const oct_status st = find_member(object, key, &item, err);
    if (st) return st;
    if (!cJSON_IsNumber(item)) return oct_fail(err, OCT_EFORMAT, "'%s' must be a number", key);
    *value = item->valuedouble;
    return OCT_OK;
}

bool oct_json_is_count(const cJSON *item, uint64_t *value)
{
    const double number = cJSON_IsNumber(item) ? item->valuedouble : -1;

    if (!(number >= 0 && number <= COUNT_MAX) || floor(number) != number) return false;
    *value = (uint64_t)number;
    return true;
}

oct_status oct_json_count(const cJSON *object, const char *key, uint64_t *value, oct_err *err)
{
    double number = 0;

    const oct_status st = oct_json_number(object, key, &number, err);
    if (st) return st;
    if (oct_json_is_count(cJSON_GetObjectItemCaseSensitive(object, key), value)) return OCT_OK;
    return oct_fail(err, OCT_EFORMAT, "'%s' must be a whole number in 0..2^53, not %.17g", key,
                    number);
}

oct_status oct_json_only_keys(const cJSON *object, const char *const *known, oct_err *err)
{
    char shown[128];

    for (const cJSON *item = object->child; item; item = item->next) {
        const char *const *key = known;
        while (*key && strcmp(*key, item->string) != 0) key++;
        if (!*key)
            return oct_fail(err, OCT_EFORMAT, "unknown key '%s'",
                            oct_printable(item->string, shown, sizeof shown));
    }
    return OCT_OK;
}

// --- printing ---

static void put_code(FILE *out, uint32_t code)
{
    static const char letters[] = "\b\f\n\r\t\"\\", names[] = "bfnrt\"\\";

    const char *letter = code && code < 0x80 ? strchr(letters, (int)code) : NULL;
    if (letter)
        fprintf(out, "\\%c", names[letter - letters]);
    else
        fprintf(out, "\\u%04x", code);
}

void oct_json_put_string(FILE *out, const char *text)
{
    size_t plain = 0, at = 0;  // [plain, at) is written in one go
    const size_t bytes = strlen(text);

    fputc('"', out);
    while (at < bytes) {
        uint32_t code = 0;
        const size_t length = oct_utf8_decode(text + at, bytes - at, &code);
        const bool is_plain = length && code >= 0x20 && code != '"' && code != '\\';
        if (!is_plain) {
            fwrite(text + plain, 1, at - plain, out);
            if (length)
                put_code(out, code);
            else
                fputs("\xef\xbf\xbd", out);
        }
        at += length ? length : 1;
        if (!is_plain) plain = at;
    }
    fwrite(text + plain, 1, at - plain, out);
    fputc('"', out);
}

// Called in the "C" locale.
static void put_number(FILE *out, double number)
{
    char text[40];

    if (!isfinite(number)) {
        fputs("null", out);
        return;
    }
    if (number == floor(number) && fabs(number) <= COUNT_MAX) {
        fprintf(out, "%.0f", number);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    fputs(text, out);
}

static void put_break(FILE *out, int indent)
{
    if (indent < 0) return;
    fputc('\n', out);
    for (int i = 0; i < indent; i++) fputs("  ", out);
}

static bool is_flat(const cJSON *array)
{
    for (const cJSON *item = array->child; item; item = item->next)
        if (item->child) return false;
    return true;
}

static void put_value(FILE *out, const cJSON *value, int indent);

// `indent` is that of the members; negative: everything on one line.
static void put_members(FILE *out, const cJSON *value, int indent)
{
    const bool is_object = cJSON_IsObject(value);
    const bool is_spread = indent >= 0 && value->child && (is_object || !is_flat(value));

    fputc(is_object ? '{' : '[', out);
    for (const cJSON *item = value->child; item; item = item->next) {
        if (is_spread) put_break(out, indent);
        if (is_object) {
            oct_json_put_string(out, item->string);
            fputs(indent < 0 ? ":" : ": ", out);
        }
        put_value(out, item, indent < 0 ? indent : indent + 1);
        if (item->next) fputs(is_spread || indent < 0 ? "," : ", ", out);
    }
    if (is_spread) put_break(out, indent - 1);
    fputc(is_object ? '}' : ']', out);
}

static void put_value(FILE *out, const cJSON *value, int indent)
{
    if (cJSON_IsObject(value) || cJSON_IsArray(value))
        put_members(out, value, indent);
    else if (cJSON_IsString(value))
        oct_json_put_string(out, value->valuestring);
    else if (cJSON_IsNumber(value))
        put_number(out, value->valuedouble);
    else if (cJSON_IsRaw(value))  // of oct_json_add_count() only: the parser makes none
        fputs(value->valuestring, out);
    else
        fputs(cJSON_IsNull(value) ? "null" : cJSON_IsTrue(value) ? "true" : "false", out);
}

static char *print(const cJSON *root, int indent, const char *ending)
{
    char *text = NULL;
    size_t bytes = 0;

    FILE *out = open_memstream(&text, &bytes);
    if (!out) abort();
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    assert(c_locale);
    locale_t before = uselocale(c_locale);
    put_value(out, root, indent);
    fputs(ending, out);
    uselocale(before);
    freelocale(c_locale);
    if (fclose(out)) abort();  // only memory can fail here, and these sizes are ours
    return text;
}

char *oct_json_print(const cJSON *root)
{
    return print(root, 1, "\n");
}

char *oct_json_print_line(const cJSON *root)
{
    return print(root, -1, "");
}

void oct_json_finish(cJSON *root)
{
    char *line = oct_json_print_line(root);
    puts(line);
    free(line);
    cJSON_Delete(root);
}

void oct_json_add_count(cJSON *object, const char *key, uint64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    cJSON_AddRawToObject(object, key, digits);
}
