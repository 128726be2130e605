// SPDX-License-Identifier: Apache-2.0
//
// Tests of common/safetensors.h. The numbered recipes are malformed and hostile files that readers
// of this format have met or ought to; those that must pass are among them.
#include "common/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

#if defined(__SANITIZE_ADDRESS__)
#define SECONDS_MAX 10.0  // a sanitizer is slower, not slower than linear
#else
#define SECONDS_MAX 1.0
#endif

static char folder[] = "/tmp/octavo-safetensors-XXXXXX";
static char path[64];

// --- files ---

static void put_u64(FILE *out, uint64_t value)
{
    for (int i = 0; i < 8; i++) fputc((int)(value >> (8 * i) & 0xff), out);
}

// A file of a length field, a header and `data_bytes` zeros.
static void put_file(uint64_t length, const char *json, size_t json_bytes, size_t data_bytes)
{
    FILE *out = fopen(path, "wb");
    put_u64(out, length);
    fwrite(json, 1, json_bytes, out);
    for (size_t i = 0; i < data_bytes; i++) fputc(0, out);
    fclose(out);
}

static void put_raw(const char *bytes, size_t n_bytes)
{
    FILE *out = fopen(path, "wb");
    fwrite(bytes, 1, n_bytes, out);
    fclose(out);
}

// Whether the file is refused with a sentence that begins with its path and has `want` in it; with
// a NULL `want`, whether it is accepted.
static bool is_judged(const char *want)
{
    oct_safetensors st;
    oct_err err = {0};
    char start[80];

    const oct_status status = oct_safetensors_open(&st, path, &err);
    oct_safetensors_close(&st);
    if (!want) {
        if (status) printf("# refused: %s\n", err.text);
        return status == OCT_OK;
    }
    snprintf(start, sizeof start, "'%s'", path);
    const bool is_good = status == OCT_EFORMAT && strstr(err.text, want) &&
                         strncmp(err.text, start, strlen(start)) == 0;
    if (!is_good) printf("# want \"%s\", got %d \"%s\"\n", want, status, err.text);
    return is_good;
}

// --- recipes ---

#define E(dtype, shape, begin, end)                                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"
#define SHAPE(shape) "{\"t\":{\"dtype\":\"I32\",\"shape\":" shape ",\"data_offsets\":[0,16]}}"
#define DTYPE(dtype) "{\"t\":{\"dtype\":" dtype ",\"shape\":[2,2],\"data_offsets\":[0,16]}}"
#define OFFSETS(offsets) "{\"t\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":" offsets "}}"
#define T "\"t\":" E("I32", "[2,2]", 0, 16)
#define H "{" T "}"
#define NAMED(name) "{\"" name "\":" E("I32", "[2,2]", 0, 16) "}"
#define META(value) "{\"__metadata__\":" value "," T "}"

typedef struct recipe {
    int item;
    const char *json;
    size_t json_bytes;
    uint64_t length;  // what the length field says
    size_t data_bytes;
    const char *want;  // NULL: accepted
} recipe;

#define R(item, json, data, want)                                                                  \
    {                                                                                              \
        item, json, sizeof(json) - 1, sizeof(json) - 1, data, want                                 \
    }
#define N(item, json, length, data, want)                                                          \
    {                                                                                              \
        item, json, sizeof(json) - 1, length, data, want                                           \
    }

// clang-format off
static const recipe recipes[] = {
    R(0, H, 16, NULL),
    N(3, "", 60, 0, "truncated"),
    R(4, "", 0, "JSON"),
    R(4, "", 16, "JSON"),
    N(5, H, 1000, 16, "truncated"),
    N(7, "{}", UINT64_MAX, 0, "header limit"),
    N(7, "{}", UINT64_MAX - 7, 0, "header limit"),
    N(7, "{}", 1ull << 63, 0, "header limit"),
    N(8, H, (1ull << 32) + sizeof H - 1, 16, "header limit"),
    N(9, H, (uint64_t)(sizeof H - 1) << 56, 16, "header limit"),
    N(10, H, sizeof H - 2, 16, "JSON"),
    N(10, H, sizeof H, 16, "JSON"),
    R(12, H, 14, "truncated"),
    R(13, H, 17, "1 trailing bytes"),
    R(15, "{}", 1, "trailing bytes"),
    R(16, "{}", 0, NULL),
    R(17, H "\0\0\0", 16, "NUL padding"),
    R(18, "\xef\xbb\xbf" H, 16, "byte order mark"),
    R(19, H "x", 16, "JSON"),
    R(19, H "{}", 16, "JSON"),
    R(20, NAMED("\xff"), 16, "UTF-8"),
    R(20, NAMED("\xc0\xaf"), 16, "UTF-8"),
    R(20, NAMED("\xed\xa0\x80"), 16, "UTF-8"),
    R(21, NAMED("\\ud800"), 16, "surrogate"),
    R(22, "{\0\"\0t\0\"\0}\0", 0, "JSON"),
    R(23, NAMED("a\nb"), 16, "JSON: raw control character"),
    R(24, NAMED("a\\nb"), 16, "name has control character 0x0a"),
    R(24, NAMED("\\u001b[31m"), 16, "name has control character 0x1b"),
    R(24, NAMED("a\\u0000b"), 16, "name has control character 0x00"),
    R(24, NAMED("a\x7f"), 16, "name has control character 0x7f"),
    R(25, NAMED("a\\u202eb"), 16, NULL),
    R(25, "{\"a\\u202eb\":1}", 0, "'a\\u{202E}b'"),
    R(26, NAMED("../../etc/passwd"), 16, NULL),
    R(26, NAMED("/etc/passwd"), 16, NULL),
    R(26, NAMED("C:\\\\x"), 16, NULL),
    R(26, NAMED("-rf"), 16, NULL),
    R(26, NAMED("%n%s"), 16, NULL),
    R(26, "{\"%n%s\":1}", 0, "'%n%s'"),
    R(27, NAMED(""), 16, "name is empty"),
    R(28, "[]", 0, "JSON: expected an object but found an array"),
    R(28, "null", 0, "JSON: expected an object but found null"),
    R(28, "\"x\"", 0, "JSON: expected an object but found a string"),
    R(28, "1", 0, "JSON: expected an object but found a number"),
    R(29, "{" T, 16, "JSON"),
    R(29, "{" T ",}", 16, "JSON"),
    R(29, "{'t':1}", 0, "JSON"),
    R(29, "{/**/" T "}", 16, "JSON"),
    R(29, SHAPE("[NaN]"), 16, "JSON"),
    R(29, SHAPE("[Infinity]"), 16, "JSON"),
    R(32, "{\"t\":{\"x\":[[[[[[[[[[]]]]]]]]]]}}", 0, "unknown field 'x'"),
    R(32, META("{\"a\":[[[[[[[[[[]]]]]]]]]]}"), 16, "metadata"),
    R(33, "{\"t\":null}", 0, "tensor 't': JSON: expected an object but found null"),
    R(33, "{\"t\":1}", 0, "tensor 't': JSON: expected an object but found a number"),
    R(33, "{\"t\":\"x\"}", 0, "tensor 't': JSON: expected an object but found a string"),
    R(33, "{\"t\":[]}", 0, "tensor 't': JSON: expected an object but found an array"),
    R(34, "{\"t\":[\"I32\",[2,2],[0,16]]}", 16, "expected an object but found an array"),
    R(35, "{" T "," T "}", 16, "duplicate tensor name 't'"),
    R(36, "{\"t\":" E("I32", "[9,9]", 0, 324) "," T "}", 16, "duplicate tensor name 't'"),
    R(37, "{" T ",\"\\u0074\":" E("I32", "[2,2]", 0, 16) "}", 16, "duplicate tensor name 't'"),
    R(38, "{" T ",\"t\":" E("I32", "[2,2]", 16, 32) "}", 32, "duplicate tensor name 't'"),
    R(40, "{\"t\":{\"dtype\":\"I32\",\"dtype\":\"I32\"}}", 0, "duplicate field 'dtype'"),
    R(40, "{\"t\":{\"shape\":[],\"shape\":[]}}", 0, "duplicate field 'shape'"),
    R(40, "{\"t\":{\"data_offsets\":[0,0],\"data_offsets\":[0,0]}}", 0, "duplicate field 'data_offsets'"),
    R(41, "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate key '__metadata__'"),
    R(41, "{\"__metadata__\":{},\"__met\\u0061data__\":{}}", 0, "duplicate key '__metadata__'"),
    R(42, META("{\"a\":\"1\",\"a\":\"2\"}"), 16, "metadata: duplicate key 'a'"),
    R(42, META("{\"a\":\"1\",\"b\":\"2\",\"\\u0061\":\"1\"}"), 16, "metadata: duplicate key 'a'"),
    R(43, META("{\"a\":1}"), 16, "metadata: value of 'a'"),
    R(43, META("{\"a\":null}"), 16, "metadata: value of 'a'"),
    R(43, META("{\"a\":{}}"), 16, "metadata: value of 'a'"),
    R(43, META("{\"a\":[]}"), 16, "metadata: value of 'a'"),
    R(43, META("{\"a\":\"x\\u0000y\"}"), 16, "metadata: 'a' has U+0000"),
    R(43, META("{\"a\\u0000\":\"x\"}"), 16, "metadata: 'a' has U+0000"),
    R(43, META("{\"a\":\"1\",\"\":\"\",\"b\":\"x\\ny\"}"), 16, NULL),
    R(43, META("{}"), 16, NULL),
    R(44, META("[]"), 16, "metadata: JSON: expected an object but found an array"),
    R(44, META("null"), 16, "metadata: JSON: expected an object but found null"),
    R(45, "{\"__metadata__\":" E("I32", "[2,2]", 0, 16) "}", 16, "metadata: value of 'shape'"),
    R(46, "{\"__METADATA__\":{\"format\":\"pt\"}}", 0, "tensor '__METADATA__': unknown field 'format'"),
    R(47, "{\"t\":{\"shape\":[2,2],\"data_offsets\":[0,16]}}", 16, "missing field 'dtype'"),
    R(47, "{\"t\":{\"dtype\":\"I32\",\"data_offsets\":[0,16]}}", 16, "missing field 'shape'"),
    R(47, "{\"t\":{\"dtype\":\"I32\",\"shape\":[2,2]}}", 16, "missing field 'data_offsets'"),
    R(47, "{\"t\":{}}", 0, "missing field 'dtype'"),
    R(48, "{\"t\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16],\"x\":1}}", 16, "unknown field 'x'"),
    R(48, "{\"t\":{\"dtype\\u0000\":\"I32\"}}", 0, "unknown field 'dtype'"),
    R(48, DTYPE("{\"I32\":null}"), 16, "dtype"),
    R(49, DTYPE("\"F8_E4M3FN\""), 16, "dtype 'F8_E4M3FN' is unknown (known: BOOL, F4, "),
    R(49, DTYPE("\"i32\""), 16, "dtype 'i32' is unknown"),
    R(49, DTYPE("\"F128\""), 16, "dtype 'F128' is unknown"),
    R(49, DTYPE("\"\""), 16, "dtype '' is unknown"),
    R(49, DTYPE("\"I32\\u0000\""), 16, "dtype 'I32' is unknown"),
    R(49, DTYPE("\"I32 \""), 16, "dtype 'I32 ' is unknown"),
    R(49, DTYPE("5"), 16, "dtype"),
    R(49, DTYPE("null"), 16, "dtype"),
    R(50, SHAPE("[-2,-2]"), 16, "dimension -2 is not a whole number"),
    R(51, SHAPE("[2.0,2]"), 16, "dimension 2.0 is not a whole number"),
    R(51, SHAPE("[4e0]"), 16, "dimension 4e0 is not a whole number"),
    R(51, SHAPE("[1e400]"), 16, "dimension 1e400 is not a whole number"),
    R(51, SHAPE("[-0]"), 16, "dimension -0 is not a whole number"),
    R(52, SHAPE("[\"4\"]"), 16, "array of whole numbers"),
    R(52, SHAPE("[true]"), 16, "array of whole numbers"),
    R(52, SHAPE("[null]"), 16, "array of whole numbers"),
    R(52, SHAPE("[[4]]"), 16, "array of whole numbers"),
    R(52, SHAPE("4"), 16, "array of whole numbers"),
    R(52, SHAPE("[+4]"), 16, "malformed number"),
    R(52, SHAPE("[0x4]"), 16, "malformed number"),
    R(52, SHAPE("[04]"), 16, "malformed number"),
    R(53, SHAPE("[18446744073709551616]"), 16, "dimension 18446744073709551616 is not a whole number"),
    R(53, SHAPE("[9007199254740993]"), 16, "dimension 9007199254740993 is not a whole number in 0..281474976710655"),
    R(53, SHAPE("[281474976710656]"), 16, "dimension 281474976710656 is not"),
    // Our limit of a dimension speaks before the overflow that these were made for.
    R(54, SHAPE("[2,18446744073709551614]"), 16, "dimension 18446744073709551614"),
    R(55, SHAPE("[2,9223372036854775807]"), 16, "dimension 9223372036854775807"),
    R(56, SHAPE("[4611686018427387908]"), 16, "dimension 4611686018427387908"),
    R(54, SHAPE("[281474976710655,281474976710655]"), 16, "overflow"),
    R(55, SHAPE("[281474976710655,16384]"), 16, "overflow"),
    R(56, SHAPE("[4294967296,1073741825,4]"), 16, "overflow"),
    R(57, "{\"t\":" E("U8", "[4294967296,4294967296]", 0, 0) "}", 0, "overflow"),
    R(58, "{\"t\":" E("U8", "[0,18446744073709551615,18446744073709551615]", 0, 0) "}", 0, "dimension"),
    R(58, "{\"t\":" E("U8", "[18446744073709551615,18446744073709551615,0]", 0, 0) "}", 0, "dimension"),
    R(58, "{\"t\":" E("U8", "[0,281474976710655,281474976710655]", 0, 0) "}", 0, "overflow"),
    R(58, "{\"t\":" E("U8", "[281474976710655,281474976710655,0]", 0, 0) "}", 0, "overflow"),
    R(58, "{\"t\":" E("U8", "[0,281474976710655]", 0, 0) "}", 0, NULL),
    R(60, "{\"t\":" E("U8", "[2305843009213]", 0, 2305843009213) "}", 16, "past the end"),
    R(61, "{\"t\":" E("U8", "[1,1,1,1,1,1,1,1]", 0, 1) "}", 1, NULL),
    R(61, "{\"t\":" E("U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1, "rank"),
    R(62, OFFSETS("[16,0]"), 16, "data_offsets [16, 0] end before they begin"),
    R(62, OFFSETS("[-16,0]"), 16, "data_offsets: offset -16"),
    R(62, OFFSETS("[0,16.0]"), 16, "data_offsets: offset 16.0"),
    R(62, OFFSETS("[0,18446744073709551616]"), 16, "data_offsets: offset 18446744073709551616"),
    R(62, OFFSETS("[0,18446744073709551615]"), 16, "data_offsets [0, 18446744073709551615] run past the end"),
    R(62, OFFSETS("[18446744073709551615,18446744073709551615]"), 16, "run past the end"),
    R(62, OFFSETS("[]"), 16, "data_offsets has 0 of 2 numbers"),
    R(62, OFFSETS("[0]"), 16, "data_offsets has 1 of 2 numbers"),
    R(62, OFFSETS("[0,16,16]"), 16, "data_offsets has more than 2 numbers"),
    R(62, OFFSETS("{}"), 16, "data_offsets must be an array"),
    R(62, OFFSETS("[\"0\",16]"), 16, "data_offsets must be an array"),
    R(63, OFFSETS("[0,1600]"), 16, "past the end"),
    R(64, OFFSETS("[8,24]"), 24, "leave a hole from 0"),
    R(64, "{\"a\":" E("U8", "[4]", 0, 4) ",\"b\":" E("U8", "[4]", 8, 12) "}", 12, "tensor 'b': data_offsets [8, 12] leave a hole from 4"),
    R(65, "{\"a\":" E("U8", "[8]", 0, 8) ",\"b\":" E("U8", "[8]", 4, 12) "}", 12, "tensor 'b': data_offsets [4, 12] overlap"),
    R(65, "{\"a\":" E("U8", "[8]", 0, 8) ",\"b\":" E("U8", "[8]", 0, 8) "}", 8, "tensor 'b': data_offsets [0, 8] overlap"),
    R(66, "{\"a\":" E("U8", "[1]", 0, 8) ",\"b\":" E("U8", "[15]", 8, 16) "}", 16, "tensor 'a': shape and dtype need a size of 1 bytes"),
    R(66, SHAPE("[2,3]"), 16, "need a size of 24 bytes"),
    R(66, SHAPE("[]"), 16, "need a size of 4 bytes"),
    R(67, "{" T ",\"z\":" E("U8", "[0]", 4, 4) "}", 16, "data_offsets [4, 4] overlap"),
    R(67, "{" T ",\"z\":" E("U8", "[0]", 800, 800) "}", 16, "data_offsets [800, 800] run past the end"),
    R(68, "{\"z\":" E("F16", "[0]", 0, 0) "}", 0, NULL),
    R(68, "{\"z\":" E("F16", "[3,0]", 16, 16) ",\"y\":" E("F16", "[0]", 16, 16) "," T "}", 16, NULL),
    R(68, "{\"z\":" E("F16", "[0]", 0, 0) ",\"y\":" E("F16", "[0]", 0, 0) "," T "}", 16, NULL),
    R(68, "{\"z\":" E("U8", "[0]", 2, 2) ",\"a\":" E("U8", "[2]", 0, 2) ",\"b\":" E("U8", "[2]", 2, 4) "}", 4, NULL),
    R(68, "{\"s\":" E("F32", "[]", 0, 4) "}", 4, NULL),
    R(68, "{\"b\":" E("U8", "[3]", 4, 7) ",\"a\":" E("F32", "[]", 0, 4) "}", 7, NULL),
    R(68, "{\"a\":" E("U8", "[1]", 0, 1) ",\"b\":" E("F32", "[]", 1, 5) "}", 5, NULL),
    R(68, " \t\r\n" H " \t\r\n", 16, NULL),
    R(71, "{\"t\":" E("F4", "[3]", 0, 1) "}", 1, "sub-byte"),
    R(71, "{\"t\":" E("F4", "[3]", 0, 2) "}", 2, "sub-byte"),
    R(71, "{\"t\":" E("F6_E2M3", "[3]", 0, 2) "}", 2, "sub-byte"),
    R(72, "{\"t\":" E("F4", "[4]", 0, 2) "}", 2, NULL),
    R(72, "{\"t\":" E("F6_E2M3", "[4]", 0, 3) "}", 3, NULL),
    R(72, "{\"t\":" E("F6_E3M2", "[4]", 0, 3) "}", 3, NULL),
    R(72, "{\"t\":" E("F8_E4M3FNUZ", "[4]", 0, 4) "}", 4, NULL),
    R(72, "{\"t\":" E("F8_E5M2FNUZ", "[4]", 0, 4) "}", 4, NULL),
    R(72, "{\"t\":" E("F8_E8M0", "[4]", 0, 4) "}", 4, NULL),
    R(72, "{\"t\":" E("C64", "[2]", 0, 16) "}", 16, NULL),
    R(72, "{\"t\":" E("BOOL", "[2]", 0, 2) "}", 2, NULL),
};
// clang-format on

static void every_recipe_has_its_verdict(void)
{
    for (size_t i = 0; i < COUNT(recipes); i++) {
        const recipe *r = &recipes[i];
        put_file(r->length, r->json, r->json_bytes, r->data_bytes);
        const bool is_good = is_judged(r->want);
        CHECK(is_good);
        if (!is_good) printf("# item %d: %s\n", r->item, r->json);
    }
}

static void every_prefix_of_a_file_is_truncated(void)  // items 1, 2, 11 and 12
{
    char bytes[8 + sizeof H - 1 + 16] = {sizeof H - 1};

    memcpy(bytes + 8, H, sizeof H - 1);
    for (size_t n = 0; n < sizeof bytes; n++) {
        put_raw(bytes, n);
        CHECK(is_judged("truncated"));
    }
    put_raw(bytes, sizeof bytes);
    CHECK(is_judged(NULL));
}

static void a_second_format_behind_the_data_is_refused(void)  // item 14
{
    static const char tail[] = "PK\3\4polyglot";
    char bytes[8 + sizeof H - 1 + 16 + sizeof tail] = {sizeof H - 1};

    memcpy(bytes + 8, H, sizeof H - 1);
    memcpy(bytes + sizeof bytes - sizeof tail, tail, sizeof tail);
    put_raw(bytes, sizeof bytes);
    CHECK(is_judged("trailing bytes"));
}

static void other_kinds_of_file_are_recognised(void)  // item 75
{
    static const struct {
        const char *bytes;
        size_t n_bytes;
        const char *want;
    } kinds[] = {
#define KIND(bytes, want) {bytes, sizeof(bytes) - 1, want}
        KIND("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
             "is a git-LFS pointer"),
        KIND("PK\3\4\x14\0\0\0\x08\0archive/data.pkl", "is a pickle in a ZIP archive"),
        KIND("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j", "is a pickle"),
        KIND("GGUF\3\0\0\0\0\0\0\0\0\0\0\0", "is a GGUF file"),
        KIND("<!DOCTYPE html><html>404</html>", "is an HTML page"),
        KIND("<html><body>404</body></html>", "is an HTML page"),
        KIND("{\"metadata\": {}, \"weight_map\": {}}", "is a JSON file"),
        KIND("some other bytes", "header limit"),
#undef KIND
    };

    for (size_t i = 0; i < COUNT(kinds); i++) {
        put_raw(kinds[i].bytes, kinds[i].n_bytes);
        CHECK(is_judged(kinds[i].want));
    }
}

static void what_is_no_regular_file_is_refused_at_once(void)  // item 80
{
    oct_safetensors st;
    oct_err err = {0};

    unlink(path);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_EIO);
    CHECK(strstr(err.text, "does not exist"));
    CHECK(mkfifo(path, 0600) == 0);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_EIO);
    CHECK(strstr(err.text, "not a regular file"));
    unlink(path);
    CHECK(oct_safetensors_open(&st, folder, &err) == OCT_EIO);
    CHECK(strstr(err.text, "is a folder"));
    CHECK(oct_safetensors_open(&st, "/dev/zero", &err) == OCT_EIO);
}

// --- large headers ---

typedef struct text {
    char *data;
    size_t bytes;
    FILE *out;
} text;

static FILE *begin_text(text *t)
{
    *t = (text){0};
    return t->out = open_memstream(&t->data, &t->bytes);
}

// Write the file and judge it within SECONDS_MAX.
static bool is_text_judged(text *t, size_t data_bytes, const char *want)
{
    fclose(t->out);
    put_file(t->bytes, t->data, t->bytes, data_bytes);
    free(t->data);
    const clock_t begin = clock();
    const bool is_good = is_judged(want);
    const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    if (seconds > SECONDS_MAX) printf("# took %.2f s\n", seconds);
    return is_good && seconds <= SECONDS_MAX;
}

static void put_times(FILE *out, const char *part, size_t times)
{
    for (size_t i = 0; i < times; i++) fputs(part, out);
}

static void the_header_limit_is_exact(void)  // items 6 and 84
{
    put_file(OCT_ST_HEADER_MAX + 1, "{}", 2, 0);
    CHECK(truncate(path, 8 + OCT_ST_HEADER_MAX + 1) == 0);
    CHECK(is_judged("header limit"));
    put_file(OCT_ST_HEADER_MAX, "{}", 2, 0);
    CHECK(truncate(path, 8 + OCT_ST_HEADER_MAX) == 0);
    CHECK(is_judged("NUL padding"));
    put_file(2, "{}", 2, 0);
    CHECK(truncate(path, (off_t)1 << 40) == 0);
    CHECK(is_judged("1099511627766 trailing bytes"));
}

static void long_names_have_a_limit(void)  // item 27
{
    static const struct {
        size_t bytes;
        const char *want;
    } names[] = {{4096, NULL}, {4097, "name of 4097 bytes"}, {1000000, "name of 1000000 bytes"}};

    for (size_t i = 0; i < COUNT(names); i++) {
        text t;
        put_times(begin_text(&t), "{\"", 1);
        put_times(t.out, "a", names[i].bytes);
        fputs("\":" E("U8", "[1]", 0, 1) "}", t.out);
        CHECK(is_text_judged(&t, 1, names[i].want));
    }
}

static void deep_nesting_is_refused(void)  // items 30 and 31
{
    static const size_t levels[] = {200, 1000000};

    for (size_t i = 0; i < COUNT(levels); i++) {
        text t;
        fputs("{\"t\":{\"shape\":", begin_text(&t));
        put_times(t.out, "[", levels[i]);
        CHECK(is_text_judged(&t, 0, "array of whole numbers"));
        put_times(begin_text(&t), "{\"t\":", levels[i]);
        CHECK(is_text_judged(&t, 0, "unknown field"));
        put_times(begin_text(&t), "[", levels[i]);
        CHECK(is_text_judged(&t, 0, "expected an object"));
    }
}

static void many_duplicates_take_no_time(void)  // item 39
{
    text t;

    fputs("{", begin_text(&t));
    put_times(t.out, T ",", 99999);
    fputs(T "}", t.out);
    CHECK(is_text_judged(&t, 16, "duplicate tensor name 't'"));
}

static void long_numbers_are_cut_in_the_sentence(void)  // item 53
{
    text t;

    fputs("{\"t\":{\"shape\":[", begin_text(&t));
    put_times(t.out, "9", 1000000);
    fputs("]}}", t.out);
    CHECK(is_text_judged(&t, 0, "9999... is not a whole number"));
}

static void high_ranks_are_refused(void)  // item 61
{
    static const size_t ranks[] = {1000, 1000000};

    for (size_t i = 0; i < COUNT(ranks); i++) {
        text t;
        fputs("{\"t\":{\"dtype\":\"U8\",\"shape\":[1", begin_text(&t));
        put_times(t.out, ",1", ranks[i] - 1);
        fputs("],\"data_offsets\":[0,1]}}", t.out);
        CHECK(is_text_judged(&t, 1, "rank"));
    }
}

static void sizes_that_wrap_together_are_refused(void)  // item 59
{
    text t;

    fputs("{", begin_text(&t));
    for (uint64_t i = 0; i < 8; i++)
        fprintf(t.out,
                "%s\"%" PRIu64 "\":{\"dtype\":\"U8\",\"shape\":[2147483648,1073741824],"
                "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                i ? "," : "", i, i << 61, (i + 1) << 61);
    fputs("}", t.out);
    CHECK(is_text_judged(&t, 16, "data_offsets"));
}

// Tensors "0", "1", ... of one byte; `step` 0 puts all of them on one range.
static void put_many(text *t, size_t count, size_t step)
{
    fputs("{", begin_text(t));
    for (size_t i = 0; i < count; i++)
        fprintf(t->out, "%s\"%zu\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
                i ? "," : "", i, i * step, i * step + 1);
    fputs("}", t->out);
}

static void many_tensors_are_read_in_no_time(void)  // items 65 and 90
{
    text t;

    put_many(&t, 100000, 0);
    CHECK(is_text_judged(&t, 1, "overlap"));
    put_many(&t, 100000, 1);
    CHECK(is_text_judged(&t, 100000, NULL));
}

static void the_number_of_tensors_has_a_limit(void)  // item 69
{
    static const struct {
        size_t count;
        const char *want;
    } counts[] = {{OCT_ST_TENSORS_MAX, NULL},
                  {OCT_ST_TENSORS_MAX + 1, "limit of 200000"},
                  {1000000, "limit of 200000"}};

    for (size_t i = 0; i < COUNT(counts); i++) {
        text t;
        fputs("{", begin_text(&t));
        for (size_t k = 0; k < counts[i].count; k++)
            fprintf(t.out, "%s\"%zu\":" E("U8", "[0]", 0, 0), k ? "," : "", k);
        fputs("}", t.out);
        CHECK(is_text_judged(&t, 0, counts[i].want));
    }
}

static void the_number_of_metadata_entries_has_a_limit(void)
{
    text t;

    fputs("{\"__metadata__\":{\"k\":\"\"", begin_text(&t));
    for (int i = 0; i < 200000; i++) fprintf(t.out, ",\"%d\":\"\"", i);
    fputs("}}", t.out);
    CHECK(is_text_judged(&t, 0, "metadata: the number of entries is over the limit of 200000"));
}

static void large_metadata_is_accepted(void)  // item 70
{
    oct_safetensors st;
    text t;

    fputs("{\"__metadata__\":{\"k\":\"", begin_text(&t));
    fprintf(t.out, "%0*d", 20000000, 0);
    fputs("\"}}", t.out);
    CHECK(is_text_judged(&t, 0, NULL));
    CHECK(oct_safetensors_open(&st, path, NULL) == OCT_OK);
    CHECK(strlen(oct_safetensors_find_meta(&st, "k")) == 20000000);
    oct_safetensors_close(&st);
    fputs("{}", begin_text(&t));
    fprintf(t.out, "%*s", 99999990, "");
    CHECK(is_text_judged(&t, 0, NULL));
}

// --- what an open file tells ---

static void tensors_and_metadata_are_listed(void)
{
    static const char json[] =
        "{\"b\":" E("U8", "[3]", 4, 7) ",\"__metadata__\":{\"z\":\"1\",\"a\":\"2\"}"
                                       ",\"\\u0061\":" E("F32", "[]", 0, 4) ",\"c\":" E(
                                           "BF16", "[2,0,281474976710655]", 4, 4) "}";
    oct_safetensors st;
    oct_err err = {0};

    put_file(sizeof json - 1, json, sizeof json - 1, 7);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    CHECK(st.n_tensors == 3 && st.header_bytes == 8 + sizeof json - 1);
    CHECK_TEXT(st.tensors[0].name, "a");
    CHECK_TEXT(st.tensors[1].name, "c");
    CHECK_TEXT(st.tensors[2].name, "b");
    CHECK(st.n_meta == 2);
    CHECK_TEXT(st.meta[0].key, "z");
    CHECK_TEXT(oct_safetensors_find_meta(&st, "a"), "2");
    CHECK(!oct_safetensors_find_meta(&st, "b"));
    CHECK(!oct_safetensors_find(&st, "d") && !oct_safetensors_find(&st, ""));

    const oct_st_tensor *c = oct_safetensors_find(&st, "c");
    CHECK(c && c->dtype == OCT_BF16 && c->rank == 3 && c->shape[2] == 281474976710655);
    CHECK(oct_st_elements(c) == 0 && c->bytes == 0);
    const oct_st_tensor *b = oct_safetensors_find(&st, "b");
    CHECK(b == &st.tensors[2] && b->offset == st.header_bytes + 4 && b->bytes == 3);
    CHECK(oct_st_elements(oct_safetensors_find(&st, "a")) == 1);
    oct_safetensors_close(&st);
    CHECK(st.n_tensors == 0 && !st.tensors);
}

static void files_beyond_32_bits_keep_their_offsets(void)  // item 89
{
    static const uint64_t sizes[] = {(1ull << 31) - 1, 1ull << 31, 1ull << 32, (1ull << 32) + 1};
    oct_safetensors st;
    oct_err err = {0};
    text t;
    uint64_t at = 0;

    fputs("{", begin_text(&t));
    for (size_t i = 0; i < COUNT(sizes); at += sizes[i++])
        fprintf(t.out,
                "%s\"%zu\":{\"dtype\":\"U8\",\"shape\":[%" PRIu64 "],\"data_offsets\":[%" PRIu64
                ",%" PRIu64 "]}",
                i ? "," : "", i, sizes[i], at, at + sizes[i]);
    fputs("}", t.out);
    fclose(t.out);
    put_file(t.bytes, t.data, t.bytes, 0);
    if (truncate(path, (off_t)(8 + t.bytes + at)) != 0) {
        free(t.data);
        SKIP("no files of 12 GiB here");
    }
    FILE *out = fopen(path, "r+b");
    fseeko(out, -1, SEEK_END);
    fputc(0x5a, out);
    fclose(out);

    char last = 0;
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    CHECK(st.n_tensors == 4 && st.tensors[3].offset == 8 + t.bytes + at - sizes[3]);
    CHECK(oct_safetensors_read(&st, &st.tensors[3], sizes[3] - 1, 1, &last, &err) == OCT_OK);
    CHECK(last == 0x5a);
    oct_safetensors_close(&st);
    free(t.data);
    unlink(path);
}

static void a_file_that_shrinks_is_noticed(void)  // item 81
{
    oct_safetensors st;
    oct_err err = {0};
    char data[16];

    put_file(sizeof H - 1, H, sizeof H - 1, 16);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    CHECK(oct_safetensors_read(&st, &st.tensors[0], 0, 16, data, &err) == OCT_OK);
    CHECK(truncate(path, 8 + sizeof H - 1 + 8) == 0);
    CHECK(oct_safetensors_read(&st, &st.tensors[0], 0, 16, data, &err) == OCT_EIO);
    CHECK(strstr(err.text, "tensor 't'") && strstr(err.text, "changed while reading"));
    oct_safetensors_close(&st);
}

static void a_header_in_memory_is_parsed_alone(void)
{
    oct_safetensors st;
    oct_err err = {0};

    CHECK(oct_st_header_parse(&st, H, sizeof H - 1, 16, &err) == OCT_OK);
    CHECK(st.n_tensors == 1 && st.tensors[0].offset == 8 + sizeof H - 1 && !st.file.is_open);
    oct_safetensors_close(&st);
    CHECK(oct_st_header_parse(&st, H, sizeof H - 1, 15, &err) == OCT_EFORMAT);
    CHECK(st.n_tensors == 0 && !st.arena.chunks);
}

// --- writing ---

static const uint64_t two[] = {2};

static void read_file(text *t)
{
    FILE *in = fopen(path, "rb");
    begin_text(t);
    for (int c; in && (c = fgetc(in)) != EOF;) fputc(c, t->out);
    if (in) fclose(in);
    fclose(t->out);
}

// Fill every tensor with its place in the file, commit and free.
static void finish(oct_st_writer *writer)
{
    oct_err err = {0};

    for (size_t i = 0; i < writer->n_tensors; i++) {
        char data[64];
        memset(data, (int)i + 1, sizeof data);
        CHECK(oct_st_writer_write(writer, &writer->tensors[i], 0, data, writer->tensors[i].bytes,
                                  &err) == OCT_OK);
    }
    CHECK(oct_st_writer_commit(writer, &err) == OCT_OK);
    oct_st_writer_deinit(writer);
}

// The public library's own order of these, seen in what version 0.8.0 of it writes.
static void the_layout_is_that_of_the_public_library(void)
{
    static const oct_dtype order[] = {
        OCT_U64,     OCT_I64,     OCT_F64, OCT_C64, OCT_F32,         OCT_U32,         OCT_I32,
        OCT_BF16,    OCT_F16,     OCT_U16, OCT_I16, OCT_F8_E5M2FNUZ, OCT_F8_E4M3FNUZ, OCT_F8_E8M0,
        OCT_F8_E4M3, OCT_F8_E5M2, OCT_I8,  OCT_U8,  OCT_BOOL,
    };
    oct_st_writer writer = {0};
    oct_safetensors st;
    oct_err err = {0};
    char name[32];

    for (size_t i = 0; i < 2 * COUNT(order); i++) {
        const oct_dtype dtype = order[i * 7 % COUNT(order)];
        snprintf(name, sizeof name, "%c_%s", i < COUNT(order) ? 'b' : 'a', oct_dtype_name(dtype));
        oct_st_writer_add(&writer, name, dtype, 1, two);
    }
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
    finish(&writer);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    CHECK(st.n_tensors == 2 * COUNT(order));
    for (size_t i = 0; i < st.n_tensors; i++) {
        CHECK(st.tensors[i].dtype == order[i / 2]);
        CHECK(st.tensors[i].name[0] == (i % 2 ? 'b' : 'a'));
        CHECK(st.tensors[i].offset % (oct_dtype_bits(order[i / 2]) / 8) == 0);
    }
    oct_safetensors_close(&st);
}

// These bytes are what the public library writes for the same tensors.
static void the_bytes_are_those_of_the_public_library(void)
{
    static const char want[] =
        "\x10\x01\0\0\0\0\0\0{\"__metadata__\":{\"k\":\"V\\n\\t\\u0002 y\"},"
        "\"z\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
        "\"a\":{\"dtype\":\"F16\",\"shape\":[3,2],\"data_offsets\":[4,16]},"
        "\"b\\\"\\\\\xc3\xa9\":{\"dtype\":\"F16\",\"shape\":[3,2],\"data_offsets\":[16,28]},"
        "\"q\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[28,31]}}    "
        "\1\1\1\1\2\2\2\2\2\2\2\2\2\2\2\2\3\3\3\3\3\3\3\3\3\3\3\3\4\4\4";
    static const uint64_t shape[] = {3, 2};
    oct_st_writer writer = {0};
    oct_err err = {0};
    text t;

    oct_st_writer_add(&writer, "q", OCT_F8_E4M3, 1, shape);
    oct_st_writer_add(&writer, "b\"\\\xc3\xa9", OCT_F16, 2, shape);
    oct_st_writer_add(&writer, "z", OCT_F32, 0, NULL);
    oct_st_writer_add(&writer, "a", OCT_F16, 2, shape);
    oct_st_writer_add_meta(&writer, "k", "v\n\t\1 x");
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
    CHECK(writer.file_bytes == sizeof want - 1 && writer.header_bytes == 280);
    CHECK(oct_st_writer_find(&writer, "a") == &writer.tensors[1]);
    CHECK(!oct_st_writer_find(&writer, "x"));
    CHECK(oct_st_writer_patch_meta(&writer, "k", "V\n\t\2 y", &err) == OCT_OK);
    finish(&writer);
    read_file(&t);
    CHECK(t.bytes == sizeof want - 1 && memcmp(t.data, want, t.bytes) == 0);
    free(t.data);
}

static void the_order_of_adding_changes_no_byte(void)
{
    text first = {0};

    for (unsigned order = 0; order < 12; order++) {
        oct_st_writer writer = {0};
        oct_err err = {0};
        text t;
        for (unsigned i = 0; i < 12; i++) {
            const unsigned at = (i * 5 + order) % 12;
            const char name[] = {(char)('a' + at), 0};
            oct_st_writer_add(&writer, name, at % 3 ? OCT_F16 : OCT_F32, 1, two);
            oct_st_writer_add_meta(&writer, name, "v");
        }
        CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
        finish(&writer);
        read_file(&t);
        if (order == 0) {
            first = t;
            continue;
        }
        CHECK(t.bytes == first.bytes && memcmp(t.data, first.data, t.bytes) == 0);
        free(t.data);
    }
    free(first.data);
}

static void a_file_without_tensors_is_written(void)
{
    oct_st_writer writer = {0};
    oct_err err = {0};
    text t;

    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
    finish(&writer);
    read_file(&t);
    CHECK(t.bytes == 16 && memcmp(t.data, "\x08\0\0\0\0\0\0\0{}      ", 16) == 0);
    free(t.data);
}

static void what_the_reader_refuses_is_not_written(void)
{
    static const uint64_t ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const uint64_t huge[] = {1ull << 48}, wraps[] = {1ull << 40, 1ull << 40}, three[] = {3};
    static const struct {
        const char *name;
        oct_dtype dtype;
        int rank;
        const uint64_t *shape;
        const char *want;
    } bad[] = {
        {"t", OCT_F16, 1, two, "duplicate tensor name 't'"},
        {"t", OCT_F32, 1, two, "duplicate tensor name 't'"},
        {"__metadata__", OCT_F32, 1, two, "reserved"},
        {"", OCT_F32, 1, two, "name is empty"},
        {"a\nb", OCT_F32, 1, two, "control character 0x0a"},
        {"a\xff", OCT_F32, 1, two, "'a\\xff' is not UTF-8"},
        {"u", OCT_F32, 9, ones, "tensor 'u': rank"},
        {"u", OCT_F32, 1, huge, "tensor 'u': dimension 281474976710656"},
        {"u", OCT_F32, 2, wraps, "tensor 'u': overflow"},
        {"u", OCT_F4, 1, three, "tensor 'u': sub-byte"},
    };

    for (size_t i = 0; i < COUNT(bad); i++) {
        oct_st_writer writer = {0};
        oct_err err = {0};
        unlink(path);
        oct_st_writer_add(&writer, "t", OCT_F16, 1, two);
        oct_st_writer_add(&writer, bad[i].name, bad[i].dtype, bad[i].rank, bad[i].shape);
        CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_EFORMAT);
        CHECK(strstr(err.text, "cannot write '/tmp/") && strstr(err.text, bad[i].want));
        if (!strstr(err.text, bad[i].want)) printf("# want %s: %s\n", bad[i].want, err.text);
        oct_st_writer_deinit(&writer);
        CHECK(access(path, F_OK) != 0);
    }
}

static void a_sum_of_sizes_that_overflows_is_not_written(void)
{
    static const uint64_t large[] = {1ull << 47, 1ull << 10};
    oct_st_writer writer = {0};
    oct_err err = {0};

    for (char name[] = "a"; name[0] < 'f'; name[0]++)
        oct_st_writer_add(&writer, name, OCT_F64, 2, large);
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "overflow: the tensors need more than 2^62 bytes"));
    oct_st_writer_deinit(&writer);
}

static void bad_metadata_is_not_written(void)
{
    static const struct {
        const char *key, *value, *want;
    } bad[] = {
        {"k", "2", "metadata: duplicate key 'k'"},
        {"l", "\xff", "metadata value '\\xff' is not UTF-8"},
        {"\xc3", "v", "metadata key '\\xc3' is not UTF-8"},
    };

    for (size_t i = 0; i < COUNT(bad); i++) {
        oct_st_writer writer = {0};
        oct_err err = {0};
        oct_st_writer_add_meta(&writer, "k", "1");
        oct_st_writer_add_meta(&writer, bad[i].key, bad[i].value);
        CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_EFORMAT);
        CHECK(strstr(err.text, bad[i].want));
        oct_st_writer_deinit(&writer);
    }
}

static void a_header_over_its_limit_is_not_written(void)
{
    oct_st_writer writer = {0};
    oct_err err = {0};
    char *value = malloc(OCT_ST_HEADER_MAX);

    memset(value, 'x', OCT_ST_HEADER_MAX - 1);
    value[OCT_ST_HEADER_MAX - 1] = 0;
    oct_st_writer_add_meta(&writer, "k", value);
    free(value);
    unlink(path);
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "header limit"));
    oct_st_writer_deinit(&writer);
    CHECK(access(path, F_OK) != 0);
}

static void a_patch_keeps_the_length(void)
{
    oct_st_writer writer = {0};
    oct_safetensors st;
    oct_err err = {0};

    oct_st_writer_add(&writer, "t", OCT_F16, 1, two);
    oct_st_writer_add_meta(&writer, "digest", "00000000");
    oct_st_writer_add_meta(&writer, "name", "?");
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
    CHECK(oct_st_writer_patch_meta(&writer, "digest", "0000000", &err) == OCT_EFORMAT);
    CHECK(strstr(err.text, "length of 8 bytes"));
    CHECK(oct_st_writer_patch_meta(&writer, "digest", "\n\n\n\n\n\n\n\n", &err) == OCT_EFORMAT);
    CHECK(oct_st_writer_patch_meta(&writer, "digest", "0000000\xff", &err) == OCT_EFORMAT);
    CHECK(oct_st_writer_patch_meta(&writer, "other", "00000000", &err) == OCT_EFORMAT);
    CHECK(oct_st_writer_patch_meta(&writer, "digest", "89abcdef", &err) == OCT_OK);
    CHECK(oct_st_writer_patch_meta(&writer, "name", "!", &err) == OCT_OK);
    finish(&writer);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    CHECK_TEXT(oct_safetensors_find_meta(&st, "digest"), "89abcdef");
    CHECK_TEXT(oct_safetensors_find_meta(&st, "name"), "!");
    oct_safetensors_close(&st);
}

static void parts_may_be_written_in_any_order(void)
{
    static const uint64_t eight[] = {8};
    oct_st_writer writer = {0};
    oct_safetensors st;
    oct_err err = {0};
    char data[8] = {0};

    oct_st_writer_add(&writer, "a", OCT_U8, 1, eight);
    oct_st_writer_add(&writer, "b", OCT_U8, 1, eight);
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
    const oct_st_tensor *a = oct_st_writer_find(&writer, "a"),
                        *b = oct_st_writer_find(&writer, "b");
    CHECK(oct_st_writer_write(&writer, b, 4, "4567", 4, &err) == OCT_OK);
    CHECK(oct_st_writer_write(&writer, a, 0, "abcdefgh", 8, &err) == OCT_OK);
    CHECK(oct_st_writer_write(&writer, b, 0, "0123", 4, &err) == OCT_OK);
    CHECK(oct_st_writer_commit(&writer, &err) == OCT_OK);
    oct_st_writer_deinit(&writer);
    CHECK(oct_safetensors_open(&st, path, &err) == OCT_OK);
    CHECK(oct_safetensors_read(&st, oct_safetensors_find(&st, "b"), 2, 4, data, &err) == OCT_OK);
    CHECK(memcmp(data, "2345", 4) == 0);
    oct_safetensors_close(&st);
}

static void an_abandoned_file_leaves_nothing(void)
{
    oct_st_writer writer = {0};
    oct_err err = {0};

    unlink(path);
    oct_st_writer_add(&writer, "t", OCT_F16, 1, two);
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_OK);
    oct_st_writer_deinit(&writer);
    oct_st_writer_deinit(&writer);
    CHECK(rmdir(folder) == 0);
    oct_st_writer_add(&writer, "t", OCT_F16, 1, two);
    CHECK(oct_st_writer_begin(&writer, path, &err) == OCT_EIO);
    oct_st_writer_deinit(&writer);
    CHECK(mkdir(folder, 0700) == 0);
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/t.safetensors", folder);

    RUN(every_recipe_has_its_verdict);
    RUN(every_prefix_of_a_file_is_truncated);
    RUN(a_second_format_behind_the_data_is_refused);
    RUN(other_kinds_of_file_are_recognised);
    RUN(what_is_no_regular_file_is_refused_at_once);
    RUN(the_header_limit_is_exact);
    RUN(long_names_have_a_limit);
    RUN(deep_nesting_is_refused);
    RUN(many_duplicates_take_no_time);
    RUN(long_numbers_are_cut_in_the_sentence);
    RUN(high_ranks_are_refused);
    RUN(sizes_that_wrap_together_are_refused);
    RUN(many_tensors_are_read_in_no_time);
    RUN(the_number_of_tensors_has_a_limit);
    RUN(the_number_of_metadata_entries_has_a_limit);
    RUN(large_metadata_is_accepted);
    RUN(tensors_and_metadata_are_listed);
    RUN(files_beyond_32_bits_keep_their_offsets);
    RUN(a_file_that_shrinks_is_noticed);
    RUN(a_header_in_memory_is_parsed_alone);
    RUN(the_layout_is_that_of_the_public_library);
    RUN(the_bytes_are_those_of_the_public_library);
    RUN(the_order_of_adding_changes_no_byte);
    RUN(a_file_without_tensors_is_written);
    RUN(what_the_reader_refuses_is_not_written);
    RUN(a_sum_of_sizes_that_overflows_is_not_written);
    RUN(bad_metadata_is_not_written);
    RUN(a_header_over_its_limit_is_not_written);
    RUN(a_patch_keeps_the_length);
    RUN(parts_may_be_written_in_any_order);
    RUN(an_abandoned_file_leaves_nothing);

    unlink(path);
    rmdir(folder);
    return test_end();
}
