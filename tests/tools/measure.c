// SPDX-License-Identifier: Apache-2.0
//
// Run a program and print what it took: seconds, CPU seconds and the most memory that it held, by
// the kernel's account, as one line "SECONDS CPU_SECONDS KIB" on stdout. What the program prints on
// stdout goes to stderr. The exit code is the program's.
//
//   measure PROGRAM [ARGUMENT...]
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + 1e-6 * (double)time.tv_usec;
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv)
{
    struct rusage used;
    int status = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: measure PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    const double started_s = now_s();
    const pid_t child = fork();
    if (child == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child) {
        perror("measure");
        return 3;
    }
    const double elapsed_s = now_s() - started_s;
    printf("%.3f %.3f %ld\n", elapsed_s, seconds(used.ru_utime) + seconds(used.ru_stime),
           used.ru_maxrss);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}
