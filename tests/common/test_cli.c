// SPDX-License-Identifier: Apache-2.0
//
// Command lines: values, mistakes, --help and the general options.
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <omp.h>

#include "common/cli.h"
#include "tests/test.h"

static struct options {
    const char *model, *input;
    double level;
    oct_texts candidates, others;
    oct_general general;
} o;

static const oct_opt opts[] = {
    OPT_GROUP("Input and output"),
    OPT_ARGUMENT("INPUT", &o.input, "what to read"),
    OPT_ARGUMENTS("OTHER", &o.others, "what else to read"),
    OPT_TEXT("model", "PATH", &o.model,
             "model to read; a sentence that is long enough to go on in another line"),
    OPT_LIST("candidates", "NAME", &o.candidates, "policies to compare (default: all)"),
    OPT_NUMBER("percentile-of-everything", "PERCENT", &o.level, "how much (default: 99.9)"),
    OPT_GENERAL(&o.general),
    OPT_END,
};

static const oct_cli cli = {
    .tool = "regress",
    .summary = "Compare policies.",
    .usage = "--model PATH --candidates NAME... [options] with so much to say that it goes on",
    .exit_1 = "done, and a policy fails its bounds",
    .examples = {"octavo-regress --model a --candidates mlp", "octavo-regress --version", NULL},
    .opts = opts,
};

static oct_err err;
static bool is_done;

// Parse words that are separated by single spaces; "_" stands for an empty word.
static oct_status parse(const char *words)
{
    static char line[1000];
    char *argv[50] = {"octavo-regress"};
    int argc = 1;
    oct_texts_deinit(&o.candidates);
    oct_texts_deinit(&o.others);
    o = (struct options){0};
    err.text[0] = '\0';
    snprintf(line, sizeof line, "%s", words);
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = strcmp(word, "_") ? word : "";
    }
    return oct_cli_parse(&cli, argc, argv, &is_done, &err);
}

static const char *mistake(const char *words)
{
    const oct_status st = parse(words);
    CHECK(st == OCT_EUSAGE);
    return err.text;
}

static void nothing_given_changes_nothing(void)
{
    CHECK(parse("") == OCT_OK && !is_done && !o.model && o.general.seed == 0);
    CHECK(oct_cli_parse(&cli, 0, (char *[]){NULL}, &is_done, &err) == OCT_OK);
}

static void values_come_after_a_space_or_an_equals_sign(void)
{
    CHECK(parse("--model a=b --percentile-of-everything=-1.5e2 --threads 3 --json") == OCT_OK);
    CHECK_TEXT(o.model, "a=b");
    CHECK(o.level == -150 && o.general.threads == 3 && o.general.json && !o.general.quiet);
    CHECK(parse("--model=--x --percentile-of-everything -1") == OCT_OK);
    CHECK_TEXT(o.model, "--x");
    CHECK(o.level == -1);
    CHECK(parse("--model _") == OCT_OK);
    CHECK_TEXT(o.model, "");
    CHECK(parse("--model=") == OCT_OK);
    CHECK_TEXT(o.model, "");
    CHECK(parse("--seed 18446744073709551615") == OCT_OK && o.general.seed == UINT64_MAX);
}

static void lists_go_on_until_the_next_option(void)
{
    CHECK(parse("--candidates a b --json --candidates c --candidates=d e") == OCT_OK);
    CHECK(o.candidates.count == 4);
    CHECK_TEXT(o.candidates.items[1], "b");
    CHECK_TEXT(o.candidates.items[2], "c");
    CHECK_TEXT(o.candidates.items[3], "d");
    CHECK_TEXT(o.input, "e");
}

static void arguments_fill_their_places_in_order(void)
{
    CHECK(parse("a --json b c") == OCT_OK);
    CHECK_TEXT(o.input, "a");
    CHECK(o.others.count == 2);
    CHECK_TEXT(o.others.items[1], "c");
    CHECK(parse("- -- --model -x --") == OCT_OK && !o.model);
    CHECK_TEXT(o.input, "-");
    CHECK(o.others.count == 3);
    CHECK_TEXT(o.others.items[0], "--model");
    CHECK_TEXT(o.others.items[2], "--");
}

static void an_argument_too_many_is_named(void)
{
    static const char *only;
    const oct_opt one[] = {OPT_ARGUMENT("ONE", &only, "one"), OPT_END};
    const oct_cli small = {.tool = "small", .opts = one};
    char *argv[] = {"small", "first", "second"};
    CHECK(oct_cli_parse(&small, 3, argv, &is_done, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "unexpected argument 'second'");
    CHECK_TEXT(only, "first");
}

static void unknown_options_suggest_the_nearest(void)
{
    CHECK_TEXT(mistake("--modle x"), "unknown option '--modle'; did you mean '--model'?");
    CHECK_TEXT(mistake("--mode=x"), "unknown option '--mode'; did you mean '--model'?");
    CHECK_TEXT(mistake("--no-progres"),
               "unknown option '--no-progres'; did you mean '--no-progress'?");
    CHECK_TEXT(mistake("-model"), "unknown option '-model'; did you mean '--model'?");
    CHECK_TEXT(mistake("--halp"), "unknown option '--halp'; did you mean '--help'?");
    CHECK_TEXT(mistake("--cup"), "unknown option '--cup'");
    CHECK_TEXT(mistake("--cp"), "unknown option '--cp'; did you mean '--cpu'?");
    CHECK_TEXT(mistake("--nothing-like-it"), "unknown option '--nothing-like-it'");
    CHECK_TEXT(mistake("-x"), "unknown option '-x'");
    CHECK_TEXT(mistake("--=3"), "unknown option '--'");
    CHECK_TEXT(mistake("---json"), "unknown option '---json'; did you mean '--json'?");
}

static void a_very_long_unknown_option_is_only_named(void)
{
    char words[300] = "--";
    memset(words + 2, 'm', 200);
    CHECK(parse(words) == OCT_EUSAGE && strncmp(err.text, "unknown option '--mmm", 21) == 0);
    CHECK(!strstr(err.text, "did you mean"));
}

static void wrong_values_are_named(void)
{
    CHECK_TEXT(mistake("--threads x"), "option '--threads' needs a count, not 'x'");
    CHECK_TEXT(mistake("--threads -1"), "option '--threads' needs a count, not '-1'");
    CHECK_TEXT(mistake("--threads ="), "option '--threads' needs a count, not '='");
    CHECK_TEXT(mistake("--threads="), "option '--threads' needs a count, not ''");
    CHECK_TEXT(mistake("--seed 18446744073709551616"),
               "option '--seed' needs a count below 2^64, not '18446744073709551616'");
    static const char *const numbers[] = {"nan", "inf", "0x10", "1e999", "1e", "1.5.", "_"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char words[60];
        snprintf(words, sizeof words, "--percentile-of-everything %s", numbers[i]);
        CHECK(strstr(mistake(words), "option '--percentile-of-everything' needs a number, not '"));
    }
}

static void missing_and_unwanted_values_are_named(void)
{
    CHECK_TEXT(mistake("--model"), "option '--model' needs a value");
    CHECK_TEXT(mistake("--model --json"), "option '--model' needs a value");
    CHECK_TEXT(mistake("--candidates --json"), "option '--candidates' needs at least one value");
    CHECK_TEXT(mistake("--json=yes"), "option '--json' takes no value");
    CHECK_TEXT(mistake("--help=yes"), "option '--help' takes no value");
}

static void options_given_twice_are_refused(void)
{
    CHECK_TEXT(mistake("--model a --model a"), "option '--model' is given twice");
    CHECK_TEXT(mistake("--json --json"), "option '--json' is given twice");
    CHECK_TEXT(mistake("--seed 0 --seed=0"), "option '--seed' is given twice");
}

// What `function` prints to a stream. static; NULL when it cannot be captured.
static const char *printed(FILE *stream, void (*function)(void))
{
    static char text[4000];
    FILE *file = tmpfile();
    if (!file) return NULL;
    fflush(stream);
    const int kept = dup(fileno(stream));
    dup2(fileno(file), fileno(stream));
    function();
    fflush(stream);
    dup2(kept, fileno(stream));
    close(kept);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void ask_for_help(void)
{
    CHECK(parse("--json --help --nonsense") == OCT_OK && is_done);
}

static void help_follows_the_array(void)
{
    CHECK_TEXT(printed(stdout, ask_for_help),
               "Compare policies.\n"
               "\n"
               "Usage: octavo-regress --model PATH --candidates NAME... [options] with so much\n"
               "                      to say that it goes on\n"
               "\n"
               "Input and output:\n"
               "  INPUT                 what to read\n"
               "  OTHER...              what else to read\n"
               "  --model PATH          model to read; a sentence that is long enough to go on\n"
               "                        in another line\n"
               "  --candidates NAME...  policies to compare (default: all)\n"
               "  --percentile-of-everything PERCENT\n"
               "                        how much (default: 99.9)\n"
               "\n"
               "General:\n"
               "  --seed N              seed of everything random (default: 0)\n"
               "  --threads N           worker threads, 0 for all cores (default: 0)\n"
               "  --cpu LEVEL           use at most c, avx2 or avx512 (default: the best here)\n"
               "  --device NAME         auto or cpu (default: auto)\n"
               "  --json                print the result as one JSON object on stdout\n"
               "  --quiet               print errors and warnings only\n"
               "  --verbose             say more about what is done\n"
               "  --no-progress         show no progress line\n"
               "  --help                print this help and exit\n"
               "  --version             print the version and exit\n"
               "\n"
               "Exit codes:\n"
               "  0  done\n"
               "  1  done, and a policy fails its bounds\n"
               "  2  wrong usage\n"
               "  3  could not: a file, memory or the device; stderr says why\n"
               "\n"
               "Examples:\n"
               "  octavo-regress --model a --candidates mlp\n"
               "  octavo-regress --version\n");
}

static void ask_for_version(void)
{
    CHECK(parse("--version") == OCT_OK && is_done);
}

static void version_names_the_program(void)
{
    const char *text = printed(stdout, ask_for_version);
    CHECK(strncmp(text, "octavo-regress ", 15) == 0 &&
          strchr(text, '\n') == text + strlen(text) - 1);
    CHECK(strspn(text + 15, "0123456789.") == strlen(text + 15) - 1);
}

static void general_options_are_checked(void)
{
    oct_general general = {.cpu = "sse"};
    CHECK(oct_general_apply(&cli, &general, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "option '--cpu' needs c, avx2 or avx512, not 'sse'");
    general = (oct_general){.device = "gpu"};
    CHECK(oct_general_apply(&cli, &general, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "option '--device' needs auto or cpu, not 'gpu'");
    general = (oct_general){.device = "cuda"};
    CHECK(oct_general_apply(&cli, &general, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "option '--device' needs auto or cpu, not 'cuda'");
    general = (oct_general){.quiet = true, .verbose = true};
    CHECK(oct_general_apply(&cli, &general, &err) == OCT_EUSAGE);
    general = (oct_general){.threads = 1025};
    CHECK(oct_general_apply(&cli, &general, &err) == OCT_EUSAGE);
    CHECK_TEXT(err.text, "option '--threads' allows at most 1024, not 1025");
}

static void threads_are_set(void)
{
    const oct_general general = {.threads = 3, .cpu = "avx2", .device = "auto"};
    CHECK(oct_general_apply(&cli, &general, &err) == OCT_OK);
    CHECK(omp_get_max_threads() == 3);
}

static int exit_code;

static void finish_wrong_usage(void)
{
    oct_fail(&err, OCT_EUSAGE, "option '%s' is odd", "\x1b[1m");
    exit_code = oct_cli_finish(&cli, OCT_EUSAGE, &err);
}

static void finish_failure(void)
{
    oct_fail(&err, OCT_EIO, "disk full");
    exit_code = oct_cli_finish(&cli, OCT_EIO, &err);
}

static void finish_well(void)
{
    exit_code = oct_cli_finish(&cli, OCT_OK, &err);
}

static void the_end_is_reported_once(void)
{
    CHECK_TEXT(printed(stderr, finish_wrong_usage),
               "regress: option '\\x1b[1m' is odd\nTry 'octavo-regress --help'.\n");
    CHECK(exit_code == 2);
    CHECK_TEXT(printed(stderr, finish_failure), "regress: disk full\n");
    CHECK(exit_code == 3);
    CHECK_TEXT(printed(stderr, finish_well), "");
    CHECK(exit_code == 0);
}

static void a_result_that_is_not_taken_is_a_failure(void)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/full", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(99);
        printf("{}\n");
        _exit(oct_cli_finish(&cli, OCT_OK, &err));
    }
    int state = 0;
    waitpid(child, &state, 0);
    CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 3);
}

int main(void)
{
    RUN(nothing_given_changes_nothing);
    RUN(values_come_after_a_space_or_an_equals_sign);
    RUN(lists_go_on_until_the_next_option);
    RUN(arguments_fill_their_places_in_order);
    RUN(an_argument_too_many_is_named);
    RUN(unknown_options_suggest_the_nearest);
    RUN(a_very_long_unknown_option_is_only_named);
    RUN(wrong_values_are_named);
    RUN(missing_and_unwanted_values_are_named);
    RUN(options_given_twice_are_refused);
    RUN(help_follows_the_array);
    RUN(version_names_the_program);
    RUN(general_options_are_checked);
    RUN(threads_are_set);
    RUN(the_end_is_reported_once);
    RUN(a_result_that_is_not_taken_is_a_failure);
    parse("");  // frees the lists
    return test_end();
}
