// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target on its seeds, on every prefix of them and on mutations: bits flipped, bytes
// replaced, runs removed, repeated and swapped between seeds, numbers made extreme. A crash, a
// sanitizer report or a hang is the failure; the input at fault is left in $FUZZ_KEEP if that is
// set before the run.
//
//   fuzz_<target> [rounds] [seed]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/test.h"

#define BYTES_MAX 65536
#define SEEDS_MAX 16

typedef struct input {
    uint8_t data[BYTES_MAX];
    size_t bytes;
} input;

static input seeds[SEEDS_MAX];
static size_t n_seeds;
static uint64_t state;

static uint64_t next(void)  // splitmix64, Sebastiano Vigna, public domain
{
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

static void run(const input *in)
{
    const char *keep = getenv("FUZZ_KEEP");
    if (keep) {
        FILE *file = fopen(keep, "wb");
        if (file) {
            fwrite(in->data, 1, in->bytes, file);
            fclose(file);
        }
    }
    // An exact-size copy, so that reading past the end is seen.
    uint8_t *copy = malloc(in->bytes ? in->bytes : 1);
    memcpy(copy, in->data, in->bytes);
    LLVMFuzzerTestOneInput(copy, in->bytes);
    free(copy);
}

static void insert(input *in, size_t at, const void *data, size_t bytes)
{
    if (in->bytes + bytes > BYTES_MAX) return;
    memmove(in->data + at + bytes, in->data + at, in->bytes - at);
    memcpy(in->data + at, data, bytes);
    in->bytes += bytes;
}

static void mutate_once(input *in)
{
    static const char *const extremes[] = {"-1",    "0",          "18446744073709551615",
                                           "1e999", "4294967296", "9223372036854775807",
                                           "\"",    "{",          "}",
                                           "[",     "]",          "\\u0000",
                                           "null",  "\xff",       "\xef\xbb\xbf",
                                           ","};
    uint8_t part[256];
    const size_t at = below(in->bytes);
    size_t n = below(in->bytes - at < sizeof part ? in->bytes - at : sizeof part);

    switch (below(6)) {
    case 0:
        if (in->bytes) in->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (in->bytes) in->data[at] = (uint8_t)next();
        break;
    case 2:  // remove a run
        memmove(in->data + at, in->data + at + n, in->bytes - at - n);
        in->bytes -= n;
        break;
    case 3:  // repeat a run elsewhere
        memcpy(part, in->data + at, n);
        insert(in, below(in->bytes), part, n);
        break;
    case 4: {  // a run of another seed
        const input *other = &seeds[below(n_seeds)];
        const size_t from = below(other->bytes);
        n = below(other->bytes - from < sizeof part ? other->bytes - from : sizeof part);
        insert(in, at, other->data + from, n);
        break;
    }
    default: {
        const char *extreme = extremes[below(sizeof extremes / sizeof *extremes)];
        insert(in, at, extreme, strlen(extreme));
    }
    }
}

static void run_prefixes(const input *seed)
{
    static input cut;
    const size_t step = 1 + seed->bytes / 2000;  // long seeds: not every length
    cut = *seed;
    for (cut.bytes = 0; cut.bytes <= seed->bytes; cut.bytes += step) run(&cut);
}

int main(int argc, char **argv)
{
    static input in;
    const size_t some = argc > 1 ? (size_t)strtoull(argv[1], NULL, 10) : 5000;
    const size_t rounds = test_is_long() ? 100 * some : some;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

    while (n_seeds < SEEDS_MAX) {
        input *seed = &seeds[n_seeds];
        seed->bytes = fuzz_seed(n_seeds, seed->data, BYTES_MAX);
        if (seed->bytes == 0) break;
        run(seed);
        n_seeds++;
    }
    for (size_t i = 0; i < n_seeds; i++) run_prefixes(&seeds[i]);
    for (size_t i = 0; i < rounds; i++) {
        in = seeds[below(n_seeds)];
        for (size_t n = 1 + below(4); n > 0; n--) mutate_once(&in);
        run(&in);
    }
    printf("ok 1 - %zu_seeds_their_prefixes_and_%zu_mutations_are_answered\n1..1\n", n_seeds,
           rounds);
    return 0;
}
