// SPDX-License-Identifier: Apache-2.0
//
// The progress line at given times and widths, and what reaches a real terminal.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/log.h"
#include "common/progress.h"
#include "tests/test.h"

static const char *line(const char *label, const char *unit, uint64_t done, uint64_t total,
                        double elapsed_s, int width)
{
    static char text[300];
    const oct_progress progress = {
        .label = label, .unit = unit, .done = done, .total = total, .started_s = 100};
    const int length = oct_progress_line(&progress, 100 + elapsed_s, width, text, sizeof text);
    CHECK(length == (int)strlen(text) && length < width);
    return text;
}

static void the_line_shows_share_count_rate_and_time_left(void)
{
    CHECK_TEXT(line("calibrating", "prompts", 412, 1024, 132.9, 80),
               "calibrating  [=========>            ]  412/1024 prompts  3.1/s  eta 3:17");
    CHECK_TEXT(line("reading", "files", 1, 3, 1800, 80),
               "reading  [=======>              ]  1/3 files  0.001/s  eta 1:00:00");
    CHECK_TEXT(line("reading", "files", 50, 100, 2, 80),
               "reading  [===========>          ]  50/100 files  25/s  eta 0:02");
}

static void bytes_are_shown_in_gigabytes(void)
{
    CHECK_TEXT(line("quantizing", "B", 8230000000, 16460000000, 4, 80),
               "quantizing  [===========>          ]  8.2/16.5 GB  2.06 GB/s  eta 0:04");
    CHECK_TEXT(line("hashing", "B", 8230000000, 0, 4, 80), "hashing  8.2 GB  2.06 GB/s");
}

static void the_ends_are_drawn_without_estimates(void)
{
    CHECK_TEXT(line("work", "steps", 0, 10, 1, 80), "work  [>                     ]  0/10 steps");
    CHECK_TEXT(line("work", "steps", 10, 10, 1, 80),
               "work  [======================]  10/10 steps  10/s");
    CHECK_TEXT(line("work", "steps", 12, 10, 1, 80),
               "work  [======================]  12/10 steps  12/s");
    CHECK_TEXT(line("work", "steps", 1, 1000000, 100, 80),
               "work  [>                     ]  1/1000000 steps  0.010/s");
    CHECK_TEXT(line("work", "steps", 3, 0, 1, 80), "work  3 steps  3.0/s");
}

static void a_narrow_terminal_gets_less(void)
{
    CHECK_TEXT(line("work", "steps", 5, 10, 1, 44), "work  [===>  ]  5/10 steps  5.0/s  eta 0:01");
    CHECK_TEXT(line("work", "steps", 5, 10, 1, 43), "work  5/10 steps  5.0/s  eta 0:01");
    CHECK_TEXT(line("work", "steps", 5, 10, 1, 32), "work  5/10 steps  eta 0:01");
    CHECK_TEXT(line("work", "steps", 5, 10, 1, 20), "work  5/10 steps");
    CHECK_TEXT(line("work", "steps", 5, 10, 1, 8), "work  5");
    CHECK_TEXT(line("work", "steps", 5, 10, 1, 1), "");
}

static void every_width_and_size_of_buffer_is_kept_to(void)
{
    char text[400];
    const oct_progress progress = {
        .label = "label", .unit = "B", .done = UINT64_MAX / 2, .total = UINT64_MAX};
    for (int width = 1; width < 300; width++) {
        for (unsigned long bytes = 1; bytes < 100; bytes++) {
            memset(text, 'x', sizeof text);
            const int length = oct_progress_line(&progress, 1, width, text, bytes);
            CHECK(length < width && (unsigned long)length < bytes && text[bytes] == 'x');
        }
    }
}

static void a_null_progress_is_silent(void)
{
    oct_progress_begin(NULL, "label", 1, "unit");
    oct_progress_add(NULL, 1);
    oct_progress_end(NULL);
}

static void counts_are_kept_when_nothing_is_shown(void)
{
    oct_progress progress = {0};
    oct_progress_enable(false);
    oct_progress_begin(&progress, "label", 10000, "unit");
#pragma omp parallel for num_threads(2)
    for (int i = 0; i < 10000; i++) oct_progress_add(&progress, 1);
    CHECK(progress.done == 10000 && !progress.is_shown);
    oct_progress_end(&progress);
}

static int open_terminal(int *controller)
{
    *controller = posix_openpt(O_RDWR | O_NOCTTY);
    if (*controller < 0 || grantpt(*controller) || unlockpt(*controller)) return -1;
    const int terminal = open(ptsname(*controller), O_RDWR | O_NOCTTY);
    const struct winsize size = {.ws_row = 24, .ws_col = 100};
    if (terminal >= 0) ioctl(terminal, TIOCSWINSZ, &size);
    return terminal;
}

static void work(void)
{
    oct_progress progress = {0};
    oct_log_init("work", OCT_LOG_NORMAL);
    oct_progress_enable(true);
    oct_progress_begin(&progress, "work", 10, "steps");
    oct_progress_add(&progress, 1);  // too early to be drawn
    progress.started_s -= 1;
    oct_progress_add(&progress, 1);  // drawn
    oct_progress_add(&progress, 1);  // too soon after the last
    oct_warn("warning");             // erases
    progress.drawn_s -= 1;
    oct_progress_add(&progress, 1);  // drawn again
    oct_progress_end(&progress);     // erased
    oct_progress_hide();             // nothing left to do
}

// What work() puts on a terminal of type `term`.
static const char *terminal_output(const char *term)
{
    static char text[500];
    int controller = -1;
    const int terminal = open_terminal(&controller);
    text[0] = '\0';
    if (terminal < 0) return NULL;
    const int kept = dup(STDERR_FILENO);
    setenv("TERM", term, 1);
    dup2(terminal, STDERR_FILENO);
    work();
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(terminal);

    size_t length = 0;
    ssize_t bytes;
    while ((bytes = read(controller, text + length, sizeof text - 1 - length)) > 0) {
        length += (size_t)bytes;
    }
    text[length] = '\0';
    close(controller);
    return text;
}

static void a_terminal_sees_it_drawn_and_erased(void)
{
    const char *text = terminal_output("xterm");
    if (!text) SKIP("no pseudo-terminal");
    CHECK_TEXT(text, "\rwork  [====>                 ]  2/10 steps  2.0/s  eta 0:04\033[K"
                     "\r\033[Kwork: warning\r\n"
                     "\rwork  [=========>            ]  4/10 steps  4.0/s  eta 0:02\033[K"
                     "\r\033[K");
}

static void a_dumb_terminal_sees_no_progress(void)
{
    const char *text = terminal_output("dumb");
    if (!text) SKIP("no pseudo-terminal");
    CHECK_TEXT(text, "work: warning\r\n");
}

static void a_pipe_sees_no_progress(void)
{
    int ends[2];
    char text[100];
    CHECK(pipe(ends) == 0);
    const int kept = dup(STDERR_FILENO);
    setenv("TERM", "xterm", 1);
    dup2(ends[1], STDERR_FILENO);
    work();
    dup2(kept, STDERR_FILENO);
    close(ends[1]);
    const ssize_t bytes = read(ends[0], text, sizeof text - 1);
    text[bytes > 0 ? bytes : 0] = '\0';
    CHECK_TEXT(text, "work: warning\n");
    close(ends[0]);
    close(kept);
}

int main(void)
{
    RUN(the_line_shows_share_count_rate_and_time_left);
    RUN(bytes_are_shown_in_gigabytes);
    RUN(the_ends_are_drawn_without_estimates);
    RUN(a_narrow_terminal_gets_less);
    RUN(every_width_and_size_of_buffer_is_kept_to);
    RUN(a_null_progress_is_silent);
    RUN(counts_are_kept_when_nothing_is_shown);
    RUN(a_terminal_sees_it_drawn_and_erased);
    RUN(a_dumb_terminal_sees_no_progress);
    RUN(a_pipe_sees_no_progress);
    return test_end();
}
