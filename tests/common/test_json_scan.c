// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/json_scan.h.
#include "common/json_scan.h"

#include <locale.h>
#include <stdlib.h>
#include <time.h>

#include "tests/test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// Scan to the end. Returns the number of tokens before OCT_JSON_END, or -1.
static int scan_all(const char *text, size_t bytes, unsigned depth_max, oct_err *err)
{
    oct_arena arena = {0};
    oct_json_scan scan;
    oct_json_token token = OCT_JSON_NULL;
    oct_status st = OCT_OK;
    int tokens = -1;

    oct_json_scan_init(&scan, text, bytes, depth_max, &arena);
    while (!st && token != OCT_JSON_END) {
        st = oct_json_scan_next(&scan, &token, err);
        tokens++;
    }
    oct_arena_deinit(&arena);
    return st ? -1 : tokens;
}

static void valid_documents_pass(void)
{
    static const struct {
        const char *text;
        int tokens;
    } valid[] = {
        {"{}", 2},
        {" [ ] ", 2},
        {"\t\r\n null \n", 1},
        {"0", 1},
        {"-0", 1},
        {"-12.50e+3", 1},
        {"1E-2", 1},
        {"\"\"", 1},
        {"\"\x7f\"", 1},
        {"[1,2,[true,false,null],{}]", 11},
        {"{\"a\":1,\"a\":{\"b\":[\"c\"]}}", 11},
        {"{\"\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"}", 4},
    };

    for (size_t i = 0; i < COUNT(valid); i++) {
        oct_err err = {0};
        const int tokens = scan_all(valid[i].text, strlen(valid[i].text), 8, &err);
        CHECK(tokens == valid[i].tokens);
        if (tokens != valid[i].tokens) printf("# %s: %d, %s\n", valid[i].text, tokens, err.text);
    }
}

static void invalid_documents_name_their_rule(void)
{
    static const struct {
        const char *text;
        size_t bytes;
        const char *want;
    } invalid[] = {
#define BAD(text, want) {text, sizeof(text) - 1, want}
        BAD("", "JSON: the text ends too early at byte 0"),
        BAD("   ", "too early at byte 3"),
        BAD("{", "too early"),
        BAD("[1", "too early"),
        BAD("{\"a\"", "too early"),
        BAD("{\"a\":", "too early"),
        BAD("{\"a\":1", "too early"),
        BAD("\"abc", "unclosed string"),
        BAD("\"abc\\\"", "unclosed string"),
        BAD("\"abc\\", "unclosed string"),
        BAD("[1,]", "unexpected ']' at byte 3"),
        BAD("{\"a\":1,}", "unexpected '}'"),
        BAD("[,1]", "unexpected ','"),
        BAD("[1 2]", "unexpected '2'"),
        BAD("{\"a\" 1}", "unexpected '1'"),
        BAD("{1:2}", "unexpected '1'"),
        BAD("{a:2}", "unexpected 'a'"),
        BAD("{'a':2}", "unexpected '''"),
        BAD("[1}", "unexpected '}'"),
        BAD("{\"a\":1]", "unexpected ']'"),
        BAD("]", "unexpected ']'"),
        BAD("// c\n1", "unexpected '/'"),
        BAD("[1/*c*/]", "unexpected '/'"),
        BAD("NaN", "unexpected 'N'"),
        BAD("Infinity", "unexpected 'I'"),
        BAD("True", "unexpected 'T'"),
        BAD("nul", "unexpected 'n'"),
        BAD("nulll", "more text"),
        BAD("{}x", "more text behind the document at byte 2"),
        BAD("{}{}", "more text"),
        BAD("1 2", "more text"),
        BAD("{}\0\0", "NUL padding"),
        BAD("{\0\"\0}\0", "unexpected byte 0x00"),
        BAD("\xef\xbb\xbf{}", "byte order mark"),
        BAD("{\v}", "unexpected byte 0x0b"),
        BAD("\xa0{}", "unexpected byte 0xa0"),
        BAD("01", "malformed number"),
        BAD("-", "malformed number"),
        BAD("+1", "malformed number"),
        BAD(".5", "unexpected '.'"),
        BAD("5.", "malformed number"),
        BAD("1e", "malformed number"),
        BAD("1e+", "malformed number"),
        BAD("0x4", "malformed number"),
        BAD("1.2.3", "malformed number"),
        BAD("-Infinity", "malformed number"),
        BAD("1_000", "more text"),
        BAD("\"a\nb\"", "raw control character"),
        BAD("\"a\0b\"", "raw control character"),
        BAD("\"\x1f\"", "raw control character"),
        BAD("\"\\x41\"", "invalid escape"),
        BAD("\"\\\0\"", "invalid escape"),
        BAD("\"\\u12g4\"", "invalid escape"),
        BAD("\"\\u12\"", "invalid escape"),
        BAD("\"\\u+123\"", "invalid escape"),
        BAD("\"\\ud800\"", "lone surrogate"),
        BAD("\"\\udc00\"", "lone surrogate"),
        BAD("\"\\ud800\\n\"", "lone surrogate"),
        BAD("\"\\ud800\\u0041\"", "lone surrogate"),
        BAD("\"\\ud800\\ud800\"", "lone surrogate"),
        BAD("\"\\ud800\\ue000\"", "lone surrogate"),
        BAD("\"\xc0\xaf\"", "invalid UTF-8"),
        BAD("\"\xed\xa0\x80\"", "invalid UTF-8"),
        BAD("\"\xff\"", "invalid UTF-8"),
        BAD("\"\xe2\x82\"", "invalid UTF-8"),
        BAD("{\"\xc3\":1}", "invalid UTF-8"),
        BAD("[[[[[[[[[]]]]]]]]]", "depth over the limit of 8"),
        BAD("{\"a\":{\"a\":{\"a\":[[[[[{}]]]]]}}}", "depth over the limit of 8"),
#undef BAD
    };

    for (size_t i = 0; i < COUNT(invalid); i++) {
        oct_err err = {0};
        CHECK(scan_all(invalid[i].text, invalid[i].bytes, 8, &err) == -1);
        CHECK(strncmp(err.text, "JSON: ", 6) == 0);
        CHECK(strstr(err.text, invalid[i].want));
        if (!strstr(err.text, invalid[i].want))
            printf("# %s: %s, want %s\n", invalid[i].text, err.text, invalid[i].want);
    }
}

// The text lies at the end of its own block, so that a sanitizer sees one byte too many.
static void every_prefix_is_rejected_within_its_bytes(void)
{
    static const char text[] =
        "{\"k\\u00e9\\ud83d\\ude00\":[1.5e3,-2,true,false,null,\"\xe2\x82\xac\"]}";

    for (size_t bytes = 0; bytes < sizeof text; bytes++) {
        oct_err err = {0};
        char *copy = malloc(bytes + !bytes);
        memcpy(copy, text, bytes);
        const int tokens = scan_all(copy, bytes, 8, &err);
        CHECK(bytes == sizeof text - 1 ? tokens == 11 : tokens == -1);
        free(copy);
    }
}

static void depth_of_a_million_needs_no_stack(void)
{
    const size_t levels = 1000000;
    char *text = malloc(6 * levels);

    for (int kind = 0; kind < 2; kind++) {
        oct_err err = {0};
        size_t bytes = 0;
        for (size_t i = 0; i < levels; i++) {
            const char *open = kind ? "{\"a\":" : "[";
            memcpy(text + bytes, open, strlen(open));
            bytes += strlen(open);
        }
        CHECK(scan_all(text, bytes, OCT_JSON_DEPTH_MAX, &err) == -1);
        CHECK(strstr(err.text, "depth over the limit of 64"));
    }
    free(text);
}

static void the_deepest_allowed_nesting_passes(void)
{
    char text[2 * OCT_JSON_DEPTH_MAX];
    oct_err err = {0};

    memset(text, '[', OCT_JSON_DEPTH_MAX);
    memset(text + OCT_JSON_DEPTH_MAX, ']', OCT_JSON_DEPTH_MAX);
    CHECK(scan_all(text, sizeof text, OCT_JSON_DEPTH_MAX, &err) == 2 * OCT_JSON_DEPTH_MAX);
}

static void strings_are_decoded(void)
{
    static const struct {
        const char *text, *want;
        size_t bytes;
    } strings[] = {
        {"\"t\"", "t", 1},
        {"\"\\u0074\"", "t", 1},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u00E9\\u20ac\\ud83d\\uDE00\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9},
        {"\"a\\u0000b\"", "a", 3},
        {"\"\xf4\x8f\xbf\xbf\"", "\xf4\x8f\xbf\xbf", 4},
    };

    for (size_t i = 0; i < COUNT(strings); i++) {
        oct_arena arena = {0};
        oct_json_scan scan;
        oct_err err = {0};
        oct_json_scan_init(&scan, strings[i].text, strlen(strings[i].text), 8, &arena);
        CHECK(oct_json_scan_expect(&scan, OCT_JSON_STRING, &err) == OCT_OK);
        CHECK_TEXT(scan.value, strings[i].want);
        CHECK(scan.value_bytes == strings[i].bytes);
        CHECK(oct_json_scan_expect(&scan, OCT_JSON_END, &err) == OCT_OK);
        oct_arena_deinit(&arena);
    }
}

// The number in `text`, as far as it is a u64 and a double.
static void read_number(const char *text, bool *is_u64, uint64_t *u64, bool *is_double, double *d)
{
    oct_arena arena = {0};
    oct_json_scan scan;
    oct_err err = {0};

    oct_json_scan_init(&scan, text, strlen(text), 8, &arena);
    CHECK(oct_json_scan_expect(&scan, OCT_JSON_NUMBER, &err) == OCT_OK);
    CHECK(scan.value_bytes == strlen(text) && memcmp(scan.value, text, strlen(text)) == 0);
    *is_u64 = oct_json_scan_u64(&scan, u64);
    *is_double = oct_json_scan_double(&scan, d);
    oct_arena_deinit(&arena);
}

static void numbers_are_exact(void)
{
    static const struct {
        const char *text;
        bool is_u64;
        uint64_t u64;
        bool is_double;
        double number;
    } numbers[] = {
        {"0", true, 0, true, 0},
        {"9007199254740993", true, 9007199254740993, true, 9007199254740992.0},
        {"18446744073709551615", true, UINT64_MAX, true, 18446744073709551616.0},
        {"18446744073709551616", false, 0, true, 18446744073709551616.0},
        {"99999999999999999999999", false, 0, true, 1e23},
        {"-0", false, 0, true, 0},
        {"-1", false, 0, true, -1},
        {"2.0", false, 0, true, 2},
        {"4e0", false, 0, true, 4},
        {"0.1", false, 0, true, 0.1},
        {"5e-324", false, 0, true, 5e-324},
        {"1e400", false, 0, false, 0},
        {"-1e400", false, 0, false, 0},
    };

    for (size_t i = 0; i < COUNT(numbers); i++) {
        bool is_u64 = false, is_double = false;
        uint64_t u64 = 0;
        double number = 0;
        read_number(numbers[i].text, &is_u64, &u64, &is_double, &number);
        CHECK(is_u64 == numbers[i].is_u64 && (!is_u64 || u64 == numbers[i].u64));
        CHECK(is_double == numbers[i].is_double && (!is_double || number == numbers[i].number));
    }
}

static void a_decimal_comma_locale_changes_nothing(void)
{
    bool is_u64, is_double;
    uint64_t u64;
    double number = 0;

    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "de_DE"))
        SKIP("no locale with a decimal comma");
    read_number("1.5", &is_u64, &u64, &is_double, &number);
    CHECK(is_double && number == 1.5);
    setlocale(LC_ALL, "C");
}

static void a_number_of_a_million_digits_takes_no_time(void)
{
    const size_t digits = 1000000;
    char *text = malloc(digits);
    oct_err err = {0};

    memset(text, '9', digits);
    const clock_t begin = clock();
    CHECK(scan_all(text, digits, 8, &err) == 1);
    CHECK((double)(clock() - begin) / CLOCKS_PER_SEC < 1);
    free(text);
}

static void skipping_ends_behind_the_value(void)
{
    static const char text[] = "[{\"a\":[1,{\"b\":[]}]},[],7,\"x\",true]";
    oct_arena arena = {0};
    oct_json_scan scan;
    oct_json_token token = OCT_JSON_NULL;
    oct_err err = {0};

    oct_json_scan_init(&scan, text, sizeof text - 1, 8, &arena);
    CHECK(oct_json_scan_expect(&scan, OCT_JSON_ARRAY, &err) == OCT_OK);
    for (int i = 0; i < 5; i++) {
        CHECK(oct_json_scan_next(&scan, &token, &err) == OCT_OK);
        CHECK(oct_json_scan_skip(&scan, token, &err) == OCT_OK);
        CHECK(scan.depth == 1);
    }
    CHECK(oct_json_scan_expect(&scan, OCT_JSON_ARRAY_END, &err) == OCT_OK);
    CHECK(oct_json_scan_expect(&scan, OCT_JSON_END, &err) == OCT_OK);
    oct_arena_deinit(&arena);
}

static void an_unexpected_kind_is_named(void)
{
    oct_arena arena = {0};
    oct_json_scan scan;
    oct_err err = {0};

    oct_json_scan_init(&scan, "[1]", 3, 8, &arena);
    CHECK(oct_json_scan_expect(&scan, OCT_JSON_OBJECT, &err) == OCT_EFORMAT);
    CHECK_TEXT(err.text, "JSON: expected an object but found an array at byte 1");
    oct_arena_deinit(&arena);
}

int main(void)
{
    RUN(valid_documents_pass);
    RUN(invalid_documents_name_their_rule);
    RUN(every_prefix_is_rejected_within_its_bytes);
    RUN(depth_of_a_million_needs_no_stack);
    RUN(the_deepest_allowed_nesting_passes);
    RUN(strings_are_decoded);
    RUN(numbers_are_exact);
    RUN(a_decimal_comma_locale_changes_nothing);
    RUN(a_number_of_a_million_digits_takes_no_time);
    RUN(skipping_ends_behind_the_value);
    RUN(an_unexpected_kind_is_named);
    return test_end();
}
