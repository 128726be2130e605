// SPDX-License-Identifier: Apache-2.0
//
// Tests of runtime/prompts.c and runtime/yaml.c.
#include <stdlib.h>

#include "common/file.h"
#include "runtime/prompts.h"
#include "tests/test.h"
#include "tests/tools/scratch.h"

#define SHARED "../shared/prompts/"

static char *folder;

static oct_status load_bytes(oct_prompts *prompts, const char *name, const char *text, size_t bytes,
                             oct_err *err)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    *err = (oct_err){0};
    CHECK(oct_file_write(path, text, bytes, err) == OCT_OK);
    return oct_prompts_load(prompts, path, 0, err);
}

static oct_status load(oct_prompts *prompts, const char *name, const char *text, oct_err *err)
{
    return load_bytes(prompts, name, text, strlen(text), err);
}

// want: ends with NULL.
static void check_texts(const char *name, const char *text, const char *const *want)
{
    oct_prompts prompts = {0};
    oct_err err = {0};
    size_t n = 0;

    CHECK(load(&prompts, name, text, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    while (want[n]) n++;
    CHECK(prompts.count == n);
    for (size_t i = 0; i < n && i < prompts.count; i++) CHECK_TEXT(prompts.items[i].text, want[i]);
    oct_prompts_deinit(&prompts);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

// --- formats ---

static void text_files_hold_one_prompt_per_line(void)
{
    check_texts("a.txt", "a cat\n\n# a note\n  \t\na dog", TEXTS("a cat", "a dog"));
    check_texts("a.txt",
                "\xef\xbb\xbf"
                "a cat\r\na dog\r\n",
                TEXTS("a cat", "a dog"));
    check_texts("a.TXT", "-rf /etc/passwd\n--help\n \033[31m\n",
                TEXTS("-rf /etc/passwd", "--help", " \033[31m"));
}

static void json_lines_hold_objects(void)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    CHECK(load(&prompts, "a.jsonl",
               "{\"prompt\":\"a\",\"id\":\"x\",\"category\":\"c\",\"negative\":\"n\",\"seed\":"
               "9007199254740991}\n\n{\"prompt\":\"b\",\"id\":7,\"tag\":[1]}\r\n"
               "{\"prompt\":\"\",\"seed\":null}",
               &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(prompts.count == 3);
    if (test_case_failed) return;
    CHECK_TEXT(prompts.items[0].id, "x");
    CHECK_TEXT(prompts.items[0].category, "c");
    CHECK_TEXT(prompts.items[0].negative, "n");
    CHECK(prompts.items[0].has_seed && prompts.items[0].seed == 9007199254740991);
    CHECK_TEXT(prompts.items[1].id, "7");
    CHECK_TEXT(prompts.items[1].text, "b");
    CHECK(!prompts.items[1].category && !prompts.items[1].negative && !prompts.items[1].has_seed);
    CHECK_TEXT(prompts.items[2].id, "0002");
    CHECK_TEXT(prompts.items[2].text, "");
    CHECK(!prompts.items[2].has_seed);
    oct_prompts_deinit(&prompts);
}

static void json_files_hold_arrays_or_objects(void)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    check_texts("a.json", "[\"a\", {\"prompt\": \"b\"}]", TEXTS("a", "b"));
    CHECK(load(&prompts, "a.json", "\xef\xbb\xbf{\"x\": \"a\", \"y\": {\"prompt\": \"b\"}}",
               &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(prompts.count == 2);
    if (test_case_failed) return;
    CHECK_TEXT(prompts.items[0].id, "x");
    CHECK_TEXT(prompts.items[1].id, "y");
    CHECK_TEXT(prompts.items[1].text, "b");
    oct_prompts_deinit(&prompts);
}

static void tables_have_a_column_of_prompts(void)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    CHECK(load(&prompts, "a.tsv", "Category\tPrompt\tNote\r\nc\ta \"b\"\tx\r\n\nd\tb\n", &err) ==
          OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(prompts.count == 2);
    if (test_case_failed) return;
    CHECK_TEXT(prompts.items[0].text, "a \"b\"");
    CHECK_TEXT(prompts.items[0].category, "c");
    CHECK_TEXT(prompts.items[1].text, "b");
    oct_prompts_deinit(&prompts);
}

static void yaml_files_hold_a_flat_map_or_list(void)
{
    static const char map[] = "# a comment\n---\n"
                              "'0000': 'it''s  '\n"
                              "0008: plain text, it's#1 # a comment\n"
                              "a: first\n  second\n\n  third\n"
                              "\"b\": \"tab\\tand \\u00e9 \\\n   joined\n  folded\"\n"
                              "c: 'quoted\n  over\n\n  lines'\n"
                              "d: >-\n  folded\n  text\n\n  end\n"
                              "e: |\n  literal\n    deeper\n\n"
                              "f: a:b http://x\n...\nbehind the end";
    check_texts("a.yaml", map,
                TEXTS("it's  ", "plain text, it's#1", "first second\nthird",
                      "tab\tand \xc3\xa9 joined folded", "quoted over\nlines", "folded text\nend",
                      "literal\n  deeper", "a:b http://x"));
    check_texts("a.yml", "- a\n- 'b'\n-   c\n   d\n", TEXTS("a", "b", "c d"));
    check_texts("a.yaml", "  - a\r\n  - \"b\"\r\n", TEXTS("a", "b"));

    oct_prompts prompts = {0};
    oct_err err = {0};
    CHECK(load(&prompts, "a.yaml", map, &err) == OCT_OK);
    CHECK_TEXT(prompts.items[0].id, "0000");
    CHECK_TEXT(prompts.items[1].id, "0008");
    CHECK_TEXT(prompts.items[3].id, "b");
    oct_prompts_deinit(&prompts);
}

// --- the set as a whole ---

static void a_limit_keeps_the_first_ones_and_counts_in_the_digest(void)
{
    char path[256];
    char want[OCT_SHA256_HEX];
    oct_prompts prompts = {0};
    oct_err err = {0};

    CHECK(load(&prompts, "a.txt", "a\nb\nc\n", &err) == OCT_OK);
    oct_sha256_of("a\nb\nc\n", 6, want);
    CHECK_TEXT(prompts.sha256, want);
    oct_prompts_deinit(&prompts);
    snprintf(path, sizeof path, "%s/a.txt", folder);
    CHECK(oct_prompts_load(&prompts, path, 2, &err) == OCT_OK);
    CHECK(prompts.count == 2);
    oct_sha256_of("a\nb\n", 4, want);
    CHECK_TEXT(prompts.sha256, want);
    oct_prompts_deinit(&prompts);
}

static void repeated_prompts_are_kept(void)
{
    check_texts("a.txt", "a\nb\na\n", TEXTS("a", "b", "a"));
}

static void a_single_prompt_is_a_set(void)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    CHECK(oct_prompts_single(&prompts, "", &err) == OCT_OK);
    CHECK(prompts.count == 1);
    CHECK_TEXT(prompts.items[0].text, "");
    CHECK_TEXT(prompts.items[0].id, "0000");
    oct_prompts_deinit(&prompts);
    CHECK(oct_prompts_single(&prompts, "a\xff", &err) == OCT_EFORMAT);
}

// --- what is refused ---

static void expect_refusal(const char *name, const char *text, size_t bytes, const char *sentence)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    CHECK(load_bytes(&prompts, name, text, bytes, &err) != OCT_OK);
    CHECK(strstr(err.text, sentence));
    CHECK(strchr(err.text, '\n') == NULL);
    CHECK(prompts.arena.chunks == NULL);
    if (test_case_failed) printf("# %s\n", err.text);
}

static void malformed_files_are_refused(void)
{
    static const struct {
        const char *name, *text, *sentence;
    } cases[] = {
        {"a.txt", "", "there is no prompt in it"},
        {"a.txt", "\n\n#\n", "there is no prompt in it"},
        {"a.txt", "a\nb\xff\n", "line 2: invalid UTF-8"},
        {"a.txt", "\xed\xa0\x80", "line 1: invalid UTF-8"},
        {"a.csv", "a", "does not end in .txt"},
        {"a", "a", "does not end in .txt"},
        {"a.jsonl", "{\"prompt\":\"a\"}\n[]\n", "line 2: it is not an object"},
        {"a.jsonl", "{\"prompt\":1}\n", "line 1: 'prompt' must be"},
        {"a.jsonl", "{\"text\":\"a\"}\n", "line 1: 'prompt' is missing"},
        {"a.jsonl", "{\"prompt\":\"a\"", "line 1: JSON"},
        {"a.jsonl", "{\"prompt\":\"a\\u0000b\"}", "line 1"},
        {"a.jsonl", "{\"prompt\":\"a\",\"seed\":-1}", "line 1: 'seed'"},
        {"a.jsonl", "{\"prompt\":\"a\",\"id\":\"../x\"}", "line 1: id '../x' cannot name a file"},
        {"a.jsonl", "{\"prompt\":\"a\",\"id\":\"a\\nb\"}", "cannot name a file"},
        {"a.jsonl", "{\"prompt\":\"a\",\"id\":\"\"}", "cannot name a file"},
        {"a.jsonl", "{\"prompt\":\"a\",\"id\":\"x\"}\n{\"prompt\":\"b\",\"id\":\"x\"}\n",
         "id 'x' is given twice"},
        {"a.json", "3", "neither an array nor an object"},
        {"a.json", "[1]", "prompt 0: a prompt must be a string or an object"},
        {"a.json", "{\"a\":\"x\",\"a\":\"y\"}", "'a'"},
        {"a.json", "[]", "there is no prompt in it"},
        {"a.tsv", "Text\na\n", "line 1: no column is called 'Prompt'"},
        {"a.tsv", "x\tprompt\na\n", "line 2: no prompt in column 2"},
        {"a.tsv", "x\tprompt\na\t\n", "line 2: no prompt in column 2"},
        {"a.tsv", "prompt\n", "there is no prompt in it"},
        {"a.yaml", "a: 'b\nc", "line 1: a quote is never closed"},
        {"a.yaml", "a: \"b\\q\"", "line 1: an unknown escape"},
        {"a.yaml", "a: \"\\ud800\"", "line 1: an escape that is no character"},
        {"a.yaml", "a: \"\\x00\"", "line 1: an escape that is no character"},
        {"a.yaml", "a: \"\\", "line 1: a quote is never closed"},
        {"a.yaml", "a: b\n  c: d", "line 2: a map within a value"},
        {"a.yaml", "a: b\n c\nd:\n", "line 3: a value is missing"},
        {"a.yaml", "a: &x b", "line 1: not a plain or quoted text"},
        {"a.yaml", "a: [b]", "line 1: not a plain or quoted text"},
        {"a.yaml", "[a]", "line 1: not a plain key"},
        {"a.yaml", "- a\nb: c", "line 2: a list and a map in one file"},
        {"a.yaml", "- a\n---\n- b", "line 2: a second document"},
        {"a.yaml", "a: 'b' c", "line 1: text follows a closed scalar"},
        {"a.yaml", "just text", "line 1: a key without ':'"},
        {"a.yaml", "a: 'b'\n  c: d", "line 2: a nested or ragged entry"},
        {"a.yaml", "\ta: b", "line 1: a tab before text"},
        {"a.yaml", "a: >\n  b\n c", "line 3: a block's lines are indented less"},
        {"a.yaml", "a: >\n  b\n   c", "line 3: a folded block with deeper lines"},
        {"a.yaml", "a: b\na: c", "id 'a' is given twice"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_refusal(cases[i].name, cases[i].text, strlen(cases[i].text), cases[i].sentence);
        if (test_case_failed) printf("# case %zu\n", i);
        if (test_case_failed) return;
    }
    expect_refusal("a.txt", "a\nb\0c\n", 6, "line 2: a NUL");
}

static void long_lines_are_refused_and_many_are_fine(void)
{
    const size_t long_bytes = (size_t)16 << 20, lines = 1000000;
    char *text = malloc(long_bytes);
    oct_prompts prompts = {0};
    oct_err err = {0};

    memset(text, 'x', long_bytes);
    memcpy(text, "a\n", 2);
    expect_refusal("a.txt", text, long_bytes, "line 2 is longer than 1048576 bytes");
    for (size_t i = 0; i < lines; i++) sprintf(text + 8 * i, "%07zu\n", i);
    CHECK(load_bytes(&prompts, "a.txt", text, 8 * lines, &err) == OCT_OK);
    CHECK(prompts.count == lines);
    CHECK_TEXT(prompts.items[lines - 1].text, "0999999");
    oct_prompts_deinit(&prompts);
    free(text);
}

static void a_missing_file_is_named(void)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    CHECK(oct_prompts_load(&prompts, "/nonexistent/a.txt", 0, &err) == OCT_EIO);
    CHECK(strstr(err.text, "/nonexistent/a.txt"));
}

// --- the sets that people use ---

static void check_known(const char *path, size_t count, const char *first, const char *last)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    CHECK(oct_prompts_load(&prompts, path, 0, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
    CHECK(prompts.count == count);
    if (test_case_failed) return;
    CHECK_TEXT(prompts.items[0].text, first);
    CHECK_TEXT(prompts.items[count - 1].text, last);
    oct_prompts_deinit(&prompts);
}

static void parti_prompts_load(void)
{
    if (!oct_path_exists(SHARED "PartiPrompts.tsv")) SKIP("no " SHARED "PartiPrompts.tsv");
    check_known(SHARED "PartiPrompts.tsv", 1632, "bond",
                "a series of musical notes on a computer screen");
}

static void geneval_loads(void)
{
    if (!oct_path_exists(SHARED "geneval.jsonl")) SKIP("no " SHARED "geneval.jsonl");
    check_known(SHARED "geneval.jsonl", 553, "a photo of a bench",
                "a photo of a blue pizza and a yellow baseball glove");
}

// The digest is that of what PyYAML reads.
static void qdiff_loads(void)
{
    oct_prompts prompts = {0};
    oct_err err = {0};

    if (!oct_path_exists(SHARED "qdiff.yaml")) SKIP("no " SHARED "qdiff.yaml");
    check_known(SHARED "qdiff.yaml", 1024, "three people riding on the backs of elephants ",
                "Groups of people seated under shade umbrellas at blue tables and chairs drinking "
                "beverages.");
    CHECK(oct_prompts_load(&prompts, SHARED "qdiff.yaml", 0, &err) == OCT_OK);
    CHECK_TEXT(prompts.items[8].id, "0008");
    CHECK_TEXT(prompts.sha256, "690d381d36fc426c77ff503748b9fd62aaf64a4dc22e8855e70a248b3b51fca9");
    oct_prompts_deinit(&prompts);
}

int main(void)
{
    folder = oct_scratch_make();
    RUN(text_files_hold_one_prompt_per_line);
    RUN(json_lines_hold_objects);
    RUN(json_files_hold_arrays_or_objects);
    RUN(tables_have_a_column_of_prompts);
    RUN(yaml_files_hold_a_flat_map_or_list);
    RUN(a_limit_keeps_the_first_ones_and_counts_in_the_digest);
    RUN(repeated_prompts_are_kept);
    RUN(a_single_prompt_is_a_set);
    RUN(malformed_files_are_refused);
    RUN(long_lines_are_refused_and_many_are_fine);
    RUN(a_missing_file_is_named);
    RUN(parti_prompts_load);
    RUN(geneval_loads);
    RUN(qdiff_loads);
    oct_scratch_remove(folder);
    return test_end();
}
