// SPDX-License-Identifier: Apache-2.0
//
// One line on a terminal that shows how far long work is.
#include "common/progress.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"

#define DELAY_S 0.5
#define INTERVAL_S (1 / 6.0)
#define BAR_MAX 22
#define BAR_MIN 6
#define COLUMNS_MAX 256

static bool is_allowed;
static atomic_bool is_standing;  // a line is on the terminal, whoever drew it
static pthread_mutex_t draw_lock = PTHREAD_MUTEX_INITIALIZER;

static void write_terminal(const char *text, size_t bytes)
{
    // A line that cannot be drawn is not worth an error.
    if (write(STDERR_FILENO, text, bytes) < 0) return;
}

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
    return size.ws_col;
}

void oct_progress_enable(bool enabled)
{
    const char *term = getenv("TERM");
    is_allowed = enabled && term && strcmp(term, "dumb") != 0 && isatty(STDERR_FILENO);
}

void oct_progress_hide(void)
{
    static const char erase[] = "\r\033[K";
    if (atomic_exchange(&is_standing, false)) write_terminal(erase, sizeof erase - 1);
}

void oct_progress_begin(oct_progress *progress, const char *label, uint64_t total, const char *unit)
{
    if (!progress) return;
    *progress = (oct_progress){.label = label,
                               .unit = unit,
                               .total = total,
                               .started_s = oct_now_s(),
                               .is_enabled = is_allowed};
}

static void draw(oct_progress *progress, double time_s)
{
    char line[COLUMNS_MAX + 1], text[COLUMNS_MAX + 16];
    const int width = progress->width ? progress->width : terminal_width();
    oct_progress_line(progress, time_s, width, line, sizeof line);
    const int bytes = snprintf(text, sizeof text, "\r%s\033[K", line);
    write_terminal(text, (size_t)bytes);
    progress->drawn_s = time_s;
    progress->is_shown = true;
    atomic_store(&is_standing, true);
}

void oct_progress_add(oct_progress *progress, uint64_t done)
{
    if (!progress) return;
    __atomic_fetch_add(&progress->done, done, __ATOMIC_RELAXED);
    if (!progress->is_enabled) return;

    // Whoever finds the lock taken leaves the drawing to its holder.
    if (pthread_mutex_trylock(&draw_lock) != 0) return;
    const double time_s = oct_now_s();
    if (time_s - progress->started_s >= DELAY_S && time_s - progress->drawn_s >= INTERVAL_S) {
        draw(progress, time_s);
    }
    pthread_mutex_unlock(&draw_lock);
}

void oct_progress_end(oct_progress *progress)
{
    if (!progress) return;
    pthread_mutex_lock(&draw_lock);
    if (progress->is_shown) oct_progress_hide();
    progress->is_shown = false;
    progress->is_enabled = false;
    pthread_mutex_unlock(&draw_lock);
}

typedef struct pieces {  // of a line; an empty one is left out
    char count[96], rate[48], eta[32];
} pieces;

static void print_eta(char *out, size_t bytes, double seconds)
{
    if (seconds >= 360000) return;  // a hundred hours are no estimate
    const unsigned s = (unsigned)(seconds + 0.5);
    if (s >= 3600) {
        snprintf(out, bytes, "  eta %u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
    } else {
        snprintf(out, bytes, "  eta %u:%02u", s / 60, s % 60);
    }
}

static void print_rate(char *out, size_t bytes, double rate, bool is_size)
{
    if (is_size) {
        snprintf(out, bytes, "  %.2f GB/s", rate * 1e-9);
    } else {
        snprintf(out, bytes, "  %.*f/s", rate >= 10 ? 0 : rate >= 0.1 ? 1 : 3, rate);
    }
}

static void print_count(char *out, size_t bytes, const oct_progress *progress, uint64_t done,
                        bool is_size)
{
    const unsigned long long d = done, t = progress->total;
    if (is_size && t) {
        snprintf(out, bytes, "  %.1f/%.1f GB", (double)d * 1e-9, (double)t * 1e-9);
    } else if (is_size) {
        snprintf(out, bytes, "  %.1f GB", (double)d * 1e-9);
    } else if (t) {
        snprintf(out, bytes, "  %llu/%llu %s", d, t, progress->unit);
    } else {
        snprintf(out, bytes, "  %llu %s", d, progress->unit);
    }
}

// "  [===>    ]" with `inner` places between the brackets; nothing when those are too few.
static void print_bar(char *out, double share, int inner)
{
    out[0] = '\0';
    if (inner < BAR_MIN) return;
    if (inner > BAR_MAX) inner = BAR_MAX;
    const int filled = (int)(share * inner + 0.5);
    memcpy(out, "  [", 3);
    for (int i = 0; i < inner; i++) out[3 + i] = i < filled ? '=' : i == filled ? '>' : ' ';
    memcpy(out + 3 + inner, "]", 2);
}

int oct_progress_line(const oct_progress *progress, double time_s, int width, char *out,
                      unsigned long bytes)
{
    assert(bytes > 0);
    pieces p = {0};
    char bar[BAR_MAX + 5] = "";
    const uint64_t done = __atomic_load_n(&progress->done, __ATOMIC_RELAXED);
    const bool is_size = strcmp(progress->unit, "B") == 0;
    const double elapsed_s = time_s - progress->started_s;

    print_count(p.count, sizeof p.count, progress, done, is_size);
    if (done > 0 && elapsed_s > 0) {
        const double rate = (double)done / elapsed_s;
        print_rate(p.rate, sizeof p.rate, rate, is_size);
        if (progress->total > done) {
            print_eta(p.eta, sizeof p.eta, (double)(progress->total - done) / rate);
        }
    }

    // The last column stays free: a full line would wrap on some terminals. In a narrow one the
    // bar goes first, then the rate, then the time left.
    const int room = width > 1 ? width - 1 : 0;
    const size_t label = strlen(progress->label);
    if (label + strlen(p.count) + strlen(p.rate) + strlen(p.eta) > (size_t)room) *p.rate = '\0';
    if (label + strlen(p.count) + strlen(p.eta) > (size_t)room) *p.eta = '\0';
    if (progress->total > 0) {
        const size_t used = label + strlen(p.count) + strlen(p.rate) + strlen(p.eta) + 4;
        const double share = done < progress->total ? (double)done / (double)progress->total : 1;
        print_bar(bar, share, room - (int)used);
    }
    const size_t most = (size_t)room < bytes - 1 ? (size_t)room : bytes - 1;
    snprintf(out, most + 1, "%s%s%s%s%s", progress->label, bar, p.count, p.rate, p.eta);
    return (int)strlen(out);
}
