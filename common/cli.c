// SPDX-License-Identifier: Apache-2.0
//
// Command lines: parsing, --help, and what the general options set up.
#include "common/cli.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <omp.h>

#include "common/file.h"
#include "common/log.h"
#include "common/progress.h"
#include "common/version.h"

#define COLUMNS 80          // of --help
#define HELP_COLUMN_MAX 28  // where the second column begins at the latest
#define NAME_MAX_BYTES 64   // of an option, for suggestions
#define THREADS_MAX 1024

static const oct_opt always[] = {
    {OCT_OPT_FLAG, "help", NULL, NULL, "print this help and exit"},
    {OCT_OPT_FLAG, "version", NULL, NULL, "print the version and exit"},
    OPT_END,
};

typedef struct parser {
    const oct_cli *cli;
    int argc, at;  // at: the next word
    char **argv;
    bool *is_given;    // per option
    size_t arguments;  // seen so far
    oct_err *err;
} parser;

void oct_texts_deinit(oct_texts *texts)
{
    free(texts->items);
    *texts = (oct_texts){0};
}

static oct_status push_text(oct_texts *texts, const char *text, oct_err *err)
{
    const char **items = realloc(texts->items, (texts->count + 1) * sizeof *items);
    if (!items) return oct_fail(err, OCT_ENOMEM, "out of memory for the command line");
    items[texts->count++] = text;
    texts->items = items;
    return OCT_OK;
}

static bool is_option(const oct_opt *opt)
{
    return opt->kind != OCT_OPT_GROUP && opt->kind != OCT_OPT_ARGUMENT &&
           opt->kind != OCT_OPT_ARGUMENTS;
}

// Unknown names.

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Insertions, deletions and replacements that turn `a` into `b`.
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1];
    const size_t length = strlen(b);
    assert(length <= NAME_MAX_BYTES);

    for (size_t j = 0; j <= length; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            const size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = least(replaced, 1 + least(row[j], row[j + 1]));
        }
    }
    return row[length];
}

static void find_nearest(const oct_opt *opts, const char *name, const char **nearest, size_t *best)
{
    for (const oct_opt *opt = opts; opt->kind != OCT_OPT_END; opt++) {
        const size_t distance = is_option(opt) ? edit_distance(name, opt->name) : SIZE_MAX;
        if (distance < *best) {
            *best = distance;
            *nearest = opt->name;
        }
    }
}

static oct_status fail_unknown(const parser *p, const char *word, const char *name)
{
    const char *nearest = NULL;
    size_t best = strlen(name) < 4 ? 2 : 3;  // only what is nearer
    if (strlen(name) <= NAME_MAX_BYTES) {
        find_nearest(p->cli->opts, name, &nearest, &best);
        find_nearest(always, name, &nearest, &best);
    }
    const int length = (int)strcspn(word, "=");
    if (!nearest) return oct_fail(p->err, OCT_EUSAGE, "unknown option '%.*s'", length, word);
    return oct_fail(p->err, OCT_EUSAGE, "unknown option '%.*s'; did you mean '--%s'?", length, word,
                    nearest);
}

// Values.

static oct_status parse_count(const oct_opt *opt, const char *text, oct_err *err)
{
    const size_t length = strlen(text);
    if (length == 0 || strspn(text, "0123456789") != length) {
        return oct_fail(err, OCT_EUSAGE, "option '--%s' needs a count, not '%s'", opt->name, text);
    }
    errno = 0;
    const unsigned long long value = strtoull(text, NULL, 10);
    if (errno) {
        return oct_fail(err, OCT_EUSAGE, "option '--%s' needs a count below 2^64, not '%s'",
                        opt->name, text);
    }
    *(uint64_t *)opt->value = value;
    return OCT_OK;
}

static oct_status parse_number(const oct_opt *opt, const char *text, oct_err *err)
{
    char *end = NULL;
    const bool is_plain = *text && strspn(text, "0123456789+-.eE") == strlen(text);
    const double value = is_plain ? strtod(text, &end) : 0;
    if (!is_plain || *end || !isfinite(value)) {
        return oct_fail(err, OCT_EUSAGE, "option '--%s' needs a number, not '%s'", opt->name, text);
    }
    *(double *)opt->value = value;
    return OCT_OK;
}

static bool is_next_value(const parser *p)
{
    return p->at < p->argc && strncmp(p->argv[p->at], "--", 2) != 0;
}

static oct_status take_list(parser *p, const oct_opt *opt, const char *inline_value)
{
    if (inline_value) return push_text(opt->value, inline_value, p->err);
    if (!is_next_value(p)) {
        return oct_fail(p->err, OCT_EUSAGE, "option '--%s' needs at least one value", opt->name);
    }
    oct_status st = OCT_OK;
    while (!st && is_next_value(p)) st = push_text(opt->value, p->argv[p->at++], p->err);
    return st;
}

static oct_status take_value(parser *p, const oct_opt *opt, const char *value)
{
    if (!value) {
        if (!is_next_value(p)) {
            return oct_fail(p->err, OCT_EUSAGE, "option '--%s' needs a value", opt->name);
        }
        value = p->argv[p->at++];
    }
    if (opt->kind == OCT_OPT_COUNT) return parse_count(opt, value, p->err);
    if (opt->kind == OCT_OPT_NUMBER) return parse_number(opt, value, p->err);
    *(const char **)opt->value = value;
    return OCT_OK;
}

// Words.

static const oct_opt *find_option(const oct_opt *opts, const char *name, size_t length)
{
    for (const oct_opt *opt = opts; opt->kind != OCT_OPT_END; opt++) {
        if (is_option(opt) && strlen(opt->name) == length && !memcmp(opt->name, name, length)) {
            return opt;
        }
    }
    return NULL;
}

static oct_status take_option(parser *p, const char *word, const oct_opt **found)
{
    const char *name = word + strspn(word, "-"), *equals = strchr(name, '=');
    const size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const char *value = equals ? equals + 1 : NULL;

    const oct_opt *opt = NULL;
    if (name == word + 2) {
        opt = find_option(always, name, length);
        if (!opt) opt = find_option(p->cli->opts, name, length);
    }
    if (!opt) {
        char shown[NAME_MAX_BYTES + 2];
        snprintf(shown, sizeof shown, "%.*s", (int)least(length, NAME_MAX_BYTES + 1), name);
        return fail_unknown(p, word, shown);
    }
    *found = opt;
    if (opt->kind == OCT_OPT_FLAG && value) {
        return oct_fail(p->err, OCT_EUSAGE, "option '--%s' takes no value", opt->name);
    }
    if (!opt->value) return OCT_OK;  // one of `always`
    if (opt->kind == OCT_OPT_LIST) return take_list(p, opt, value);

    bool *is_given = &p->is_given[opt - p->cli->opts];
    if (*is_given) {
        return oct_fail(p->err, OCT_EUSAGE, "option '--%s' is given twice", opt->name);
    }
    *is_given = true;
    if (opt->kind != OCT_OPT_FLAG) return take_value(p, opt, value);
    *(bool *)opt->value = true;
    return OCT_OK;
}

static oct_status take_argument(parser *p, const char *word)
{
    size_t index = 0;
    for (const oct_opt *opt = p->cli->opts; opt->kind != OCT_OPT_END; opt++) {
        if (opt->kind == OCT_OPT_ARGUMENTS) return push_text(opt->value, word, p->err);
        if (opt->kind == OCT_OPT_ARGUMENT && index++ == p->arguments) {
            *(const char **)opt->value = word;
            p->arguments++;
            return OCT_OK;
        }
    }
    return oct_fail(p->err, OCT_EUSAGE, "unexpected argument '%s'", word);
}

// Help.

// Words of `text` from `column` on, continued at `indent`, and the end of the line.
static void print_wrapped(const char *text, int column, int indent)
{
    bool is_first = true;
    while (*text) {
        const int length = (int)strcspn(text, " ");
        if (!is_first && column + 1 + length > COLUMNS) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (!is_first) {
            putchar(' ');
            column++;
        }
        printf("%.*s", length, text);
        column += length;
        text += length + (text[length] == ' ');
        is_first = false;
    }
    putchar('\n');
}

static void describe(const oct_opt *opt, char *out, size_t bytes)
{
    const char *dots = opt->kind == OCT_OPT_LIST || opt->kind == OCT_OPT_ARGUMENTS ? "..." : "";
    if (!is_option(opt)) {
        snprintf(out, bytes, "  %s%s", opt->meta, dots);
    } else if (opt->meta) {
        snprintf(out, bytes, "  --%s %s%s", opt->name, opt->meta, dots);
    } else {
        snprintf(out, bytes, "  --%s", opt->name);
    }
}

static int help_column(const oct_opt *opts)
{
    int column = 0;
    for (const oct_opt *opt = opts; opt->kind != OCT_OPT_END; opt++) {
        if (opt->kind == OCT_OPT_GROUP) continue;
        char left[256];
        describe(opt, left, sizeof left);
        const int end = (int)strlen(left) + 2;
        if (end > column && end <= HELP_COLUMN_MAX) column = end;
    }
    return column;
}

static void print_options(const oct_opt *opts, int column)
{
    for (const oct_opt *opt = opts; opt->kind != OCT_OPT_END; opt++) {
        if (opt->kind == OCT_OPT_GROUP) {
            printf("\n%s:\n", opt->name);
            continue;
        }
        char left[256];
        describe(opt, left, sizeof left);
        if ((int)strlen(left) + 2 > column) {
            printf("%s\n%*s", left, column, "");
        } else {
            printf("%-*s", column, left);
        }
        print_wrapped(opt->help, column, column);
    }
}

static void print_exit_codes(const oct_cli *cli)
{
    puts("\nExit codes:\n  0  done");
    if (cli->exit_1) {
        fputs("  1  ", stdout);
        print_wrapped(cli->exit_1, 5, 5);
    }
    puts("  2  wrong usage\n  3  could not: a file, memory or the device; stderr says why");
}

static void print_help(const oct_cli *cli)
{
    print_wrapped(cli->summary, 0, 0);
    const int column = printf("\nUsage: octavo-%s ", cli->tool) - 1;
    print_wrapped(cli->usage, column, column);

    const int at_options = help_column(cli->opts), at_always = help_column(always);
    const int at = at_options > at_always ? at_options : at_always;
    if (cli->opts->kind != OCT_OPT_GROUP) puts("\nOptions:");
    print_options(cli->opts, at);
    print_options(always, at);

    print_exit_codes(cli);
    puts("\nExamples:");
    for (size_t i = 0; i < 4 && cli->examples[i]; i++) printf("  %s\n", cli->examples[i]);
}

oct_status oct_cli_parse(const oct_cli *cli, int argc, char **argv, bool *is_done, oct_err *err)
{
    size_t n_opts = 0;
    while (cli->opts[n_opts].kind != OCT_OPT_END) n_opts++;
    *is_done = false;

    parser p = {.cli = cli, .argc = argc, .at = 1, .argv = argv, .err = err};
    p.is_given = calloc(n_opts + 1, sizeof *p.is_given);
    if (!p.is_given) return oct_fail(err, OCT_ENOMEM, "out of memory for the command line");

    oct_status st = OCT_OK;
    bool is_option_allowed = true;
    while (!st && p.at < argc && !*is_done) {
        const char *word = argv[p.at++];
        if (!is_option_allowed || word[0] != '-' || !word[1]) {
            st = take_argument(&p, word);
        } else if (strcmp(word, "--") == 0) {
            is_option_allowed = false;
        } else {
            const oct_opt *opt = NULL;
            st = take_option(&p, word, &opt);
            if (st || opt->value) continue;
            if (strcmp(opt->name, "help") == 0) print_help(cli);
            if (strcmp(opt->name, "version") == 0)
                printf("octavo-%s %s\n", cli->tool, oct_version());
            *is_done = true;
        }
    }
    free(p.is_given);
    return st;
}

// Setting up.

static bool is_one_of(const char *word, const char *const *known)
{
    for (; *known; known++) {
        if (strcmp(word, *known) == 0) return true;
    }
    return false;
}

static oct_status check_general(const oct_cli *cli, const oct_general *general, oct_err *err)
{
    static const char *const levels[] = {"c", "avx2", "avx512", NULL};
    static const char *const devices[] = {"auto", "cpu", NULL};
    const char *cpu = general->cpu, *device = general->device;

    if (general->quiet && general->verbose) {
        return oct_fail(err, OCT_EUSAGE, "options '--quiet' and '--verbose' exclude each other");
    }
    if (general->threads > THREADS_MAX) {
        return oct_fail(err, OCT_EUSAGE, "option '--threads' allows at most %d, not %" PRIu64,
                        THREADS_MAX, general->threads);
    }
    if (cpu && !is_one_of(cpu, levels)) {
        return oct_fail(err, OCT_EUSAGE, "option '--cpu' needs c, avx2 or avx512, not '%s'", cpu);
    }
    if (device && !cli->checks_device && !is_one_of(device, devices)) {
        return oct_fail(err, OCT_EUSAGE, "option '--device' needs auto or cpu, not '%s'", device);
    }
    return OCT_OK;
}

oct_status oct_general_apply(const oct_cli *cli, const oct_general *general, oct_err *err)
{
    const oct_status st = check_general(cli, general, err);
    if (st) return st;

    oct_log_init(cli->tool, general->quiet     ? OCT_LOG_QUIET
                            : general->verbose ? OCT_LOG_VERBOSE
                                               : OCT_LOG_NORMAL);
    oct_progress_enable(!general->no_progress && !general->quiet);
    if (general->threads > 0) omp_set_num_threads((int)general->threads);
    oct_signals_install();
    return OCT_OK;
}

int oct_cli_finish(const oct_cli *cli, oct_status status, const oct_err *err)
{
    oct_err unwritten;
    oct_progress_hide();
    const bool is_written = fflush(stdout) == 0 && !ferror(stdout);
    if (!status && !is_written) {
        status = oct_fail(&unwritten, OCT_EIO, "stdout cannot be written: %s", strerror(errno));
        err = &unwritten;
    }
    if (status) {
        char shown[2 * sizeof err->text];
        fprintf(stderr, "%s: %s\n", cli->tool, oct_printable(err->text, shown, sizeof shown));
        if (status == OCT_EUSAGE) fprintf(stderr, "Try 'octavo-%s --help'.\n", cli->tool);
    }
    return oct_exit_code(status);
}

// Sizes.

static uint64_t find_unit(const char *name)
{
    static const char letters[] = "KMGT";
    const char *letter = *name ? strchr(letters, *name & ~0x20) : NULL;
    const bool is_binary = letter && (name[1] == 'i' || name[1] == 'I');
    uint64_t unit = 1;

    if (!letter) return 0;
    const char *rest = name + 1 + is_binary;
    if (strcasecmp(rest, "B") != 0 && (*rest || is_binary)) return 0;
    for (ptrdiff_t i = letter - letters; i >= 0; i--) unit *= is_binary ? 1024 : 1000;
    return unit;
}

bool oct_bytes_parse(const char *text, uint64_t *bytes)
{
    uint64_t count = 0;

    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(count, 10, &count)) return false;
        if (__builtin_add_overflow(count, (uint64_t)(*text - '0'), &count)) return false;
    }
    const uint64_t unit = find_unit(text);
    return count && unit && !__builtin_mul_overflow(count, unit, bytes);
}
