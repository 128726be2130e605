// SPDX-License-Identifier: Apache-2.0
//
// The plain program that quantize is compared with: read all of a file, write half as much, on some
// threads, and do nothing else. It is what the machine can do.
//
//   copy-half IN OUT [--threads N] [--direct]
//
//   OUT       - to write nothing: the time of reading alone
//   --direct  past the page cache, and flushed to the disk
#include <fcntl.h>
#include <inttypes.h>
#include <omp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((uint64_t)1 << 20)
#define ALIGN 4096

static bool copy_chunk(int in, int out, char *buffer, uint64_t at, uint64_t bytes)
{
    for (uint64_t got = 0; got < bytes;) {
        const ssize_t n = pread(in, buffer + got, CHUNK - got, (off_t)(at + got));
        if (n <= 0) return false;
        got += (uint64_t)n;
    }
    if (out < 0) return true;
    // The last chunk of a file is written whole: a direct write cannot be shorter.
    return pwrite(out, buffer, CHUNK / 2, (off_t)(at / 2)) == (ssize_t)(CHUNK / 2);
}

static bool copy_all(int in, int out, uint64_t bytes)
{
    bool is_done = true;

#pragma omp parallel reduction(&& : is_done)
    {
        char *buffer = aligned_alloc(ALIGN, CHUNK);
        if (!buffer) exit(3);
        memset(buffer, 0, CHUNK);
#pragma omp for schedule(dynamic)
        for (uint64_t at = 0; at < bytes; at += CHUNK) {
            const uint64_t rest = bytes - at;
            is_done = copy_chunk(in, out, buffer, at, rest < CHUNK ? rest : CHUNK) && is_done;
        }
        free(buffer);
    }
    return is_done;
}

int main(int argc, char **argv)
{
    bool is_direct = false;

    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--direct") == 0) is_direct = true;
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            const int threads = atoi(argv[++i]);
            if (threads > 0) omp_set_num_threads(threads);
        }
    }
    if (argc < 3) {
        fprintf(stderr, "usage: copy-half IN OUT [--threads N] [--direct]\n");
        return 2;
    }
    const int flags = is_direct ? O_DIRECT : 0;
    const int in = open(argv[1], O_RDONLY | flags);
    const bool is_written = strcmp(argv[2], "-") != 0;
    const int out = is_written ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | flags, 0666) : -1;
    struct stat stat;
    if (in < 0 || (is_written && out < 0) || fstat(in, &stat) != 0) {
        perror("copy-half");
        return 3;
    }
    const uint64_t bytes = (uint64_t)stat.st_size;
    if (is_written && is_direct) fallocate(out, 0, 0, (off_t)(bytes / 2));
    bool is_done = copy_all(in, out, bytes);
    if (is_written && is_direct) is_done = is_done && fsync(out) == 0;
    if (is_written) is_done = close(out) == 0 && is_done;
    if (!is_done) perror("copy-half");
    close(in);
    return is_done ? 0 : 3;
}
