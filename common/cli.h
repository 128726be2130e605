// SPDX-License-Identifier: Apache-2.0
//
// Command lines: one array describes the options; the parser, --help and the tests read it.
//
//   const oct_opt opts[] = {
//       OPT_GROUP("Input and output"),
//       OPT_TEXT("model", "PATH", &o.model, "model to read"),
//       OPT_GENERAL(&o.general),
//       OPT_END,
//   };
//
// Long options only, "--name value" or "--name=value"; "--" ends options. An option given twice is
// an error, except lists. A value that begins with "--" must follow "=". Unknown options name the
// nearest known one. --help and --version are always there. Errors are OCT_EUSAGE: "option
// '--threads' needs a count, not 'x'".
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef enum oct_opt_kind {
    OCT_OPT_END, OCT_OPT_GROUP, OCT_OPT_TEXT, OCT_OPT_COUNT, OCT_OPT_NUMBER, OCT_OPT_FLAG,
    OCT_OPT_LIST, OCT_OPT_ARGUMENT, OCT_OPT_ARGUMENTS,
} oct_opt_kind;

typedef struct oct_opt {
    oct_opt_kind kind;
    const char *name;  // without "--"; for an argument, its place-holder
    const char *meta;  // what the value is called in --help
    void *value;
    const char *help;  // states the default
} oct_opt;

typedef struct oct_texts {  // values of a list, in the order given; borrowed from argv
    const char **items;     // owned array, free with oct_texts_deinit
    size_t count;
} oct_texts;

void oct_texts_deinit(oct_texts *texts);

#define OPT_GROUP(title)                {OCT_OPT_GROUP, title, NULL, NULL, NULL}
#define OPT_TEXT(name, meta, at, help)   {OCT_OPT_TEXT, name, meta, at, help}    // const char **
#define OPT_COUNT(name, meta, at, help)  {OCT_OPT_COUNT, name, meta, at, help}   // uint64_t *
#define OPT_NUMBER(name, meta, at, help) {OCT_OPT_NUMBER, name, meta, at, help}  // double *, finite
#define OPT_FLAG(name, at, help)         {OCT_OPT_FLAG, name, NULL, at, help}    // bool *
// All words up to the next option: --candidates a b c. oct_texts *.
#define OPT_LIST(name, meta, at, help)   {OCT_OPT_LIST, name, meta, at, help}
#define OPT_ARGUMENT(meta, at, help)     {OCT_OPT_ARGUMENT, meta, meta, at, help}   // one; may be absent
#define OPT_ARGUMENTS(meta, at, help)    {OCT_OPT_ARGUMENTS, meta, meta, at, help}  // oct_texts *
#define OPT_END                          {OCT_OPT_END, NULL, NULL, NULL, NULL}

typedef struct oct_general {  // options that every tool has
    bool json, quiet, verbose, no_progress;
    uint64_t threads;         // 0: all cores
    const char *cpu;          // NULL: best; else "c", "avx2" or "avx512": at most that
    const char *device;       // NULL or "auto", "cpu"; more where the tool checks it
    uint64_t seed;
} oct_general;

// For tools that run on the CPU alone; OPT_GENERAL_ON: `devices` says what --device may be.
#define OPT_GENERAL(g) OPT_GENERAL_ON(g, "auto or cpu (default: auto)")
#define OPT_GENERAL_ON(g, devices)                                                                 \
    OPT_GROUP("General"),                                                                          \
    OPT_COUNT("seed", "N", &(g)->seed, "seed of everything random (default: 0)"),                  \
    OPT_COUNT("threads", "N", &(g)->threads, "worker threads, 0 for all cores (default: 0)"),      \
    OPT_TEXT("cpu", "LEVEL", &(g)->cpu, "use at most c, avx2 or avx512 (default: the best here)"), \
    OPT_TEXT("device", "NAME", &(g)->device, devices),                                             \
    OPT_FLAG("json", &(g)->json, "print the result as one JSON object on stdout"),                 \
    OPT_FLAG("quiet", &(g)->quiet, "print errors and warnings only"),                              \
    OPT_FLAG("verbose", &(g)->verbose, "say more about what is done"),                             \
    OPT_FLAG("no-progress", &(g)->no_progress, "show no progress line")

typedef struct oct_cli {
    const char *tool;           // "quantize": in messages; the program is octavo-quantize
    const char *summary;        // one sentence: what the tool does
    const char *usage;          // "--model PATH --policy NAME --out FILE [options]"
    const char *exit_1;         // what exit code 1 means, or NULL
    const char *examples[4];    // at least two real ones, then NULL
    const oct_opt *opts;
    bool checks_device;         // the tool itself; else --device is auto or cpu
} oct_cli;

// Fill in the variables. `*is_done` is set when --help or --version was printed: exit 0 then.
oct_status oct_cli_parse(const oct_cli *cli, int argc, char **argv, bool *is_done, oct_err *err);

// Set up log, progress, threads and signals as the general options say. OCT_EUSAGE when --cpu or
// --device has a wrong word.
oct_status oct_general_apply(const oct_cli *cli, const oct_general *general, oct_err *err);

// "500M", "2GB", "2GiB": a whole number > 0 and K, M, G or T in either case, decimal as in
// huggingface_hub unless "i" follows. False for anything else and beyond 64 bits.
bool oct_bytes_parse(const char *text, uint64_t *bytes);

// Print "tool: sentence" (and "Try 'octavo-tool --help'." after wrong usage) for a failure, nothing
// for OCT_OK; return the exit code. A result that stdout did not take turns OCT_OK into a failure.
int oct_cli_finish(const oct_cli *cli, oct_status status, const oct_err *err);
