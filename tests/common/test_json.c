// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/json.h.
#include "common/json.h"

#include <locale.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/file.h"
#include "tests/test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void a_document_reads_back(void)
{
    static const char text[] = "{\"a\": [1, 2.5], \"b\": \"x\", \"c\": {\"n\": 9007199254740992}}";
    cJSON *root = NULL;
    oct_err err = {0};
    const char *b = NULL;
    uint64_t n = 0;

    CHECK(oct_json_parse(text, sizeof text - 1, &root, &err) == OCT_OK);
    CHECK(oct_json_text(root, "b", &b, &err) == OCT_OK);
    CHECK_TEXT(b, "x");
    const cJSON *c = cJSON_GetObjectItemCaseSensitive(root, "c");
    CHECK(oct_json_count(c, "n", &n, &err) == OCT_OK && n == 1ull << 53);
    cJSON_Delete(root);
}

static void what_parsers_disagree_about_is_refused(void)
{
    static const struct {
        const char *text;
        size_t bytes;
        const char *want;
    } bad[] = {
#define BAD(text, want) {text, sizeof(text) - 1, want}
        BAD("{\"a\":1,\"a\":1}", "duplicate key 'a'"),
        BAD("[{\"x\":{\"a\":1,\"b\":2,\"\\u0061\":3}}]", "duplicate key 'a'"),
        BAD("{\"a\":\"x\\u0000y\"}", "U+0000"),
        BAD("{\"a\\u0000\":1}", "U+0000"),
        BAD("{\"a\":1e999}", "not finite"),
        BAD("{\"a\":0.0000000000000000000000000000000000000000000000000000000000000001}",
            "number of 66 characters"),
        BAD("{\"a\":01}", "malformed number"),
        BAD("{\"a\":1}x", "more text"),
        BAD("{\"a\":1}\0", "NUL padding"),
        BAD("\xef\xbb\xbf{}", "byte order mark"),
        BAD("", "too early"),
#undef BAD
    };

    for (size_t i = 0; i < COUNT(bad); i++) {
        cJSON *root = NULL;
        oct_err err = {0};
        CHECK(oct_json_parse(bad[i].text, bad[i].bytes, &root, &err) == OCT_EFORMAT);
        CHECK(!root);
        CHECK(strstr(err.text, bad[i].want));
        if (!strstr(err.text, bad[i].want)) printf("# %s: %s\n", bad[i].text, err.text);
    }
}

static void members_of_another_kind_are_named(void)
{
    static const char text[] =
        "{\"s\":\"x\",\"n\":1.5,\"m\":-1,\"big\":9007199254740994,\"z\":null}";
    cJSON *root = NULL;
    oct_err err = {0};
    const char *s = NULL;
    double d = 0;
    uint64_t n = 0;

    CHECK(oct_json_parse(text, sizeof text - 1, &root, &err) == OCT_OK);
    CHECK(oct_json_text(root, "S", &s, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "'S' is missing");
    CHECK(oct_json_text(root, "n", &s, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "'n' must be a string");
    CHECK(oct_json_number(root, "s", &d, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "'s' must be a number");
    CHECK(oct_json_number(root, "z", &d, &err) == OCT_EFORMAT);
    CHECK(oct_json_number(root, "n", &d, &err) == OCT_OK && d == 1.5);
    CHECK(oct_json_count(root, "n", &n, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "whole number") && strstr(err.text, "1.5"));
    CHECK(oct_json_count(root, "m", &n, &err) == OCT_EFORMAT);
    CHECK(oct_json_count(root, "big", &n, &err) == OCT_EFORMAT);
    cJSON_Delete(root);
}

static void unknown_keys_are_refused(void)
{
    static const char *const known[] = {"weights", "inputs", NULL};
    cJSON *root = NULL;
    oct_err err = {0};

    CHECK(oct_json_parse("{\"inputs\":1,\"wieghts\":2}", 24, &root, &err) == OCT_OK);
    CHECK(oct_json_only_keys(root, known, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "unknown key 'wieghts'");
    cJSON_DeleteItemFromObject(root, "wieghts");
    CHECK(oct_json_only_keys(root, known, &err) == OCT_OK);
    cJSON_Delete(root);
}

static cJSON *build_document(void)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "z", "q\"\\\b\f\n\r\t\x01 \xc3\xa9 \xff");
    cJSON *numbers = cJSON_AddArrayToObject(root, "numbers");
    static const double values[] = {0, 1, -3, 0.1, 1.0 / 3, 1e21, 5e-324, 2.5e8, 4294967296, 0.1f};
    for (size_t i = 0; i < COUNT(values); i++)
        cJSON_AddItemToArray(numbers, cJSON_CreateNumber(values[i]));
    cJSON *objects = cJSON_AddArrayToObject(root, "objects");
    cJSON *first = cJSON_CreateObject();
    cJSON_AddItemToArray(objects, first);
    cJSON_AddTrueToObject(first, "t");
    cJSON_AddFalseToObject(first, "f");
    cJSON_AddNullToObject(first, "n");
    cJSON_AddItemToArray(objects, cJSON_CreateObject());
    cJSON_AddArrayToObject(root, "a");
    cJSON_AddNumberToObject(root, "nan", NAN);
    return root;
}

static void printing_is_stable(void)
{
    static const char want[] =
        "{\n"
        "  \"z\": \"q\\\"\\\\\\b\\f\\n\\r\\t\\u0001 \xc3\xa9 \xef\xbf\xbd\",\n"
        "  \"numbers\": [0, 1, -3, 0.1, 0.3333333333333333, 1e+21, "
        "4.94065645841247e-324, 250000000, 4294967296, "
        "0.10000000149011612],\n"
        "  \"objects\": [\n"
        "    {\n"
        "      \"t\": true,\n"
        "      \"f\": false,\n"
        "      \"n\": null\n"
        "    },\n"
        "    {}\n"
        "  ],\n"
        "  \"a\": [],\n"
        "  \"nan\": null\n"
        "}\n";
    cJSON *root = build_document();

    char *text = oct_json_print(root);
    CHECK_TEXT(text, want);
    free(text);
    cJSON_Delete(root);
}

static void one_line_has_no_spaces(void)
{
    cJSON *root = NULL;
    oct_err err = {0};
    static const char text[] = "{\"tool\":\"verify\",\"pass\":false,\"v\":[1,{\"a\":[]}]}";

    CHECK(oct_json_parse(text, sizeof text - 1, &root, &err) == OCT_OK);
    char *line = oct_json_print_line(root);
    CHECK_TEXT(line, text);
    free(line);
    cJSON_Delete(root);
}

static void a_decimal_comma_locale_changes_nothing(void)
{
    cJSON *root = NULL;
    oct_err err = {0};

    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "de_DE"))
        SKIP("no locale with a decimal comma");
    CHECK(oct_json_parse("[1.5]", 5, &root, &err) == OCT_OK);
    char *line = oct_json_print_line(root);
    CHECK_TEXT(line, "[1.5]");
    free(line);
    cJSON_Delete(root);
    setlocale(LC_ALL, "C");
}

static void sentences_of_a_file_begin_with_its_path(void)
{
    char path[] = "/tmp/octavo-json-XXXXXX", want[128];
    cJSON *root = NULL;
    oct_err err = {0};

    const int fd = mkstemp(path);
    CHECK(write(fd, "{\"a\":1}", 7) == 7);
    CHECK(oct_json_load(path, &root, &err) == OCT_OK);
    cJSON_Delete(root);
    CHECK(write(fd, ",", 1) == 1);
    close(fd);
    CHECK(oct_json_load(path, &root, &err) == OCT_EFORMAT);
    snprintf(want, sizeof want, "'%s': JSON: more text behind the document at byte 7", path);
    CHECK_TEXT(err.text, want);
    CHECK(!root);
    unlink(path);
    CHECK(oct_json_load(path, &root, &err) == OCT_EIO);
    snprintf(want, sizeof want, "'%s' does not exist", path);
    CHECK_TEXT(err.text, want);
}

int main(void)
{
    RUN(a_document_reads_back);
    RUN(what_parsers_disagree_about_is_refused);
    RUN(members_of_another_kind_are_named);
    RUN(unknown_keys_are_refused);
    RUN(printing_is_stable);
    RUN(one_line_has_no_spaces);
    RUN(a_decimal_comma_locale_changes_nothing);
    RUN(sentences_of_a_file_begin_with_its_path);
    return test_end();
}
