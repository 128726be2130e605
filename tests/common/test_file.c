// SPDX-License-Identifier: Apache-2.0
//
// Files: what is refused, what is noticed, and that no half file is ever left.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file.h"
#include "tests/test.h"

static char folder[] = "/tmp/octavo-test-XXXXXX";
static oct_arena arena;
static oct_err err;

static const char *in_folder(const char *name)
{
    return oct_path_join(&arena, folder, name);
}

static void put(const char *path, const char *text)
{
    CHECK(oct_file_write(path, text, strlen(text), &err) == OCT_OK);
}

static const char *get(const char *path)
{
    char *text = NULL;
    size_t bytes;
    return oct_file_read_text(&arena, path, 1000, &text, &bytes, &err) ? err.text : text;
}

static int count_entries(void)
{
    int entries = 0;
    DIR *open_folder = opendir(folder);
    while (open_folder && readdir(open_folder)) entries++;
    closedir(open_folder);
    return entries - 2;  // "." and ".."
}

static bool ends_with(const char *text, const char *end)
{
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static bool is_refused(const char *path, const char *why)
{
    oct_file file = {0};
    const oct_status st = oct_file_open(&file, path, &err);
    oct_file_close(&file);
    if (st != OCT_EIO || !ends_with(err.text, why)) printf("# %s\n", st ? err.text : "accepted");
    return st == OCT_EIO && ends_with(err.text, why);
}

static void only_regular_files_are_opened(void)
{
    const char *fifo = in_folder("fifo"), *link = in_folder("loop"), *path = in_folder("socket");
    CHECK(mkfifo(fifo, 0600) == 0 && symlink(link, link) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    close(fd);

    CHECK(is_refused(in_folder("none"), "/none' does not exist"));
    CHECK(is_refused("", "'' does not exist"));
    CHECK(is_refused(folder, "' is a folder"));
    CHECK(is_refused(fifo, "/fifo' is not a regular file"));
    CHECK(is_refused(path, "/socket' is not a regular file"));
    CHECK(is_refused("/dev/zero", "'/dev/zero' is not a regular file"));
    CHECK(is_refused(link, "/loop' cannot be opened: Too many levels of symbolic links"));
    unlink(fifo);
    unlink(link);
    unlink(path);
}

static void reading_is_exact_and_in_bounds(void)
{
    const char *path = in_folder("read");
    char buffer[8] = "";
    oct_file file = {0};
    put(path, "0123456789");
    CHECK(oct_file_open(&file, path, &err) == OCT_OK && file.bytes == 10);
    CHECK(oct_file_read(&file, buffer, 4, 6, &err) == OCT_OK);
    CHECK_TEXT(buffer, "6789");
    CHECK(oct_file_read(&file, buffer, 0, 10, &err) == OCT_OK);
    CHECK(oct_file_read(&file, buffer, 5, 6, &err) == OCT_EFORMAT);
    CHECK(ends_with(err.text, "/read' is truncated: 5 bytes at offset 6 are needed, the file ends "
                              "at 10"));
    CHECK(oct_file_read(&file, buffer, 1, UINT64_MAX, &err) == OCT_EFORMAT);
    CHECK(oct_file_read(&file, buffer, UINT64_MAX, 1, &err) == OCT_EFORMAT);
    CHECK(oct_file_check_unchanged(&file, &err) == OCT_OK);
    oct_file_close(&file);
    oct_file_close(&file);
    unlink(path);
}

static void a_file_that_shrinks_is_noticed(void)
{
    const char *path = in_folder("shrinks");
    char buffer[10];
    oct_file file = {0};
    put(path, "0123456789");
    CHECK(oct_file_open(&file, path, &err) == OCT_OK);
    CHECK(truncate(path, 4) == 0);
    CHECK(oct_file_read(&file, buffer, 10, 0, &err) == OCT_EIO);
    CHECK(ends_with(err.text, "changed while reading: it ended at 10, now it ends before 5"));
    CHECK(oct_file_check_unchanged(&file, &err) == OCT_EIO);
    CHECK(ends_with(err.text, "changed while reading"));
    oct_file_close(&file);
    unlink(path);
}

static void a_file_that_is_rewritten_or_replaced_is_noticed(void)
{
    const char *path = in_folder("changes");
    oct_file file = {0};
    put(path, "one");
    CHECK(oct_file_open(&file, path, &err) == OCT_OK);
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
    CHECK(oct_file_check_unchanged(&file, &err) == OCT_EIO);
    oct_file_close(&file);

    CHECK(oct_file_open(&file, path, &err) == OCT_OK);
    put(path, "two");
    CHECK(oct_file_check_unchanged(&file, &err) == OCT_EIO);
    CHECK(ends_with(err.text, "/changes' was replaced or removed while reading"));
    oct_file_close(&file);
    unlink(path);
}

static void texts_have_a_limit_and_a_final_nul(void)
{
    const char *path = in_folder("text");
    char *text = NULL;
    size_t bytes = 0;
    put(path, "12345");
    CHECK(oct_file_read_text(&arena, path, 5, &text, &bytes, &err) == OCT_OK);
    CHECK_TEXT(text, "12345");
    CHECK(bytes == 5);
    CHECK(oct_file_read_text(&arena, path, 4, &text, &bytes, &err) == OCT_EFORMAT);
    CHECK(ends_with(err.text, "/text' has 5 bytes, more than 4"));
    put(path, "");
    CHECK_TEXT(get(path), "");
    unlink(path);
}

static void paths_are_joined_and_split(void)
{
    CHECK_TEXT(oct_path_join(&arena, "a", "b"), "a/b");
    CHECK_TEXT(oct_path_join(&arena, "a/", "b"), "a/b");
    CHECK_TEXT(oct_path_join(&arena, "/", "b"), "/b");
    CHECK_TEXT(oct_path_join(&arena, "", "b"), "b");
    CHECK_TEXT(oct_path_name("a/b/c.txt"), "c.txt");
    CHECK_TEXT(oct_path_name("c.txt"), "c.txt");
    CHECK_TEXT(oct_path_name("a/"), "");
}

static void paths_are_told_apart(void)
{
    const char *a = in_folder("a"), *b = in_folder("b"), *hard = in_folder("hard");
    put(a, "");
    put(b, "");
    CHECK(link(a, hard) == 0);
    CHECK(oct_path_exists(a) && !oct_path_exists(in_folder("none")));
    CHECK(oct_path_is_folder(folder) && !oct_path_is_folder(a));
    CHECK(oct_path_is_same_file(a, hard) && !oct_path_is_same_file(a, b));
    CHECK(!oct_path_is_same_file(a, in_folder("none")));
    unlink(a);
    unlink(b);
    unlink(hard);
}

static void folders_are_made_once(void)
{
    const char *made = in_folder("made/"), *file = in_folder("file");
    put(file, "");
    CHECK(oct_folder_make(made, &err) == OCT_OK && oct_path_is_folder(made));
    CHECK(oct_folder_make(made, &err) == OCT_OK);
    CHECK(oct_folder_make(in_folder("no/parent"), &err) == OCT_EIO);
    CHECK(ends_with(err.text, "/no/parent' cannot be made: No such file or directory"));
    CHECK(oct_folder_make(file, &err) == OCT_EIO);
    rmdir(made);
    unlink(file);
}

static void folders_are_checked_without_being_made(void)
{
    const char *wanted = in_folder("wanted/"), *file = in_folder("file");
    put(file, "");
    CHECK(oct_folder_check(wanted, &err) == OCT_OK && !oct_path_exists(wanted));
    CHECK(oct_folder_check(folder, &err) == OCT_OK);
    CHECK(oct_folder_check(in_folder("no/parent"), &err) == OCT_EIO);
    CHECK(ends_with(err.text, "/no' does not exist"));
    CHECK(oct_folder_check(file, &err) == OCT_EIO);
    CHECK(ends_with(err.text, "/file' is not a folder"));
    unlink(file);
}

static void the_final_name_appears_only_when_complete(void)
{
    const char *path = in_folder("out");
    oct_output output = {0};
    put(path, "old");
    CHECK(oct_output_begin(&output, path, &err) == OCT_OK);
    CHECK(oct_output_reserve(&output, 100, &err) == OCT_OK);
    CHECK(oct_output_write(&output, "new ", 4, &err) == OCT_OK);
    CHECK(oct_output_write_at(&output, "!", 1, 8, &err) == OCT_OK);
    CHECK(oct_output_write(&output, "text", 4, &err) == OCT_OK);
    CHECK(output.position == 8 && count_entries() == 2);
    CHECK(strncmp(output.temporary, ".out.tmp.", 9) == 0);
    CHECK_TEXT(get(path), "old");
    CHECK(oct_output_commit(&output, &err) == OCT_OK);
    CHECK_TEXT(get(path), "new text!");
    CHECK(count_entries() == 1 && !output.is_open);
    oct_output_abort(&output);
    CHECK_TEXT(get(path), "new text!");
    unlink(path);
}

static void an_output_is_read_before_and_after_it_has_its_name(void)
{
    const char *path = in_folder("read");
    oct_output output = {0};
    oct_file file = {0};
    char text[6] = "";

    CHECK(oct_output_begin(&output, path, &err) == OCT_OK);
    CHECK(oct_output_write(&output, "early", 5, &err) == OCT_OK);
    CHECK(oct_output_open(&output, &file, &err) == OCT_OK);
    CHECK(file.bytes == 5 && !strcmp(file.path, path));
    CHECK(oct_file_read(&file, text, 5, 0, &err) == OCT_OK && !strcmp(text, "early"));
    CHECK(oct_output_write_at(&output, "later", 5, 0, &err) == OCT_OK);
    CHECK(oct_output_commit(&output, &err) == OCT_OK);
    CHECK(oct_file_read(&file, text, 5, 0, &err) == OCT_OK && !strcmp(text, "later"));
    oct_file_close(&file);
    unlink(path);
}

static void reading_ahead_is_fine_anywhere(void)
{
    const char *path = in_folder("ahead");
    oct_file file = {0};
    char text[4] = "";

    put(path, "abc");
    CHECK(oct_file_open(&file, path, &err) == OCT_OK);
    oct_file_read_ahead(&file, 0, OCT_READ_AHEAD);
    oct_file_read_ahead(&file, 3, OCT_READ_AHEAD);
    oct_file_read_ahead(&file, UINT64_MAX, UINT64_MAX);
    CHECK(oct_file_read(&file, text, 3, 0, &err) == OCT_OK && !strcmp(text, "abc"));
    oct_file_close(&file);
    unlink(path);
}

static void an_aborted_output_leaves_nothing(void)
{
    oct_output output = {0};
    oct_output_abort(&output);
    CHECK(oct_output_begin(&output, in_folder("aborted"), &err) == OCT_OK);
    CHECK(oct_output_write(&output, "half", 4, &err) == OCT_OK);
    oct_output_abort(&output);
    oct_output_abort(&output);
    CHECK(count_entries() == 0);
}

static bool begins_not(const char *path, const char *why)
{
    oct_output output = {0};
    const oct_status st = oct_output_begin(&output, path, &err);
    oct_output_abort(&output);
    if (st != OCT_EIO || !ends_with(err.text, why)) printf("# %s\n", st ? err.text : "begun");
    return st == OCT_EIO && ends_with(err.text, why) && count_entries() <= 2;
}

static void impossible_targets_are_refused_before_the_work(void)
{
    const char *sub = in_folder("sub"), *link = in_folder("link");
    CHECK(mkdir(sub, 0700) == 0 && symlink("/dev/null", link) == 0);
    CHECK(begins_not(in_folder("none/out"), "/none' does not exist"));
    CHECK(begins_not("/dev/null/out", "'/dev/null' is not a folder"));
    CHECK(begins_not(sub, "/sub' is a folder"));
    CHECK(begins_not(in_folder("sub/"), "/sub/' does not name a file"));
    CHECK(begins_not(in_folder(".."), "/..' does not name a file"));
    CHECK(begins_not("", "'' does not name a file"));
    CHECK(begins_not(link, "/link' is a symbolic link, which is not written through"));
    CHECK(begins_not("/dev/full", "'/dev/full' is not a regular file"));
    if (getuid() != 0) {
        CHECK(chmod(sub, 0500) == 0);
        CHECK(begins_not(in_folder("sub/out"), "/sub/out' cannot be written: Permission denied"));
    }
    rmdir(sub);
    unlink(link);
}

static void the_longest_name_works(void)
{
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    oct_output twin = {0};
    CHECK(oct_output_begin(&twin, in_folder(name), &err) == OCT_OK);
    put(in_folder(name), "long");
    CHECK_TEXT(get(in_folder(name)), "long");
    oct_output_abort(&twin);
    CHECK(count_entries() == 1);
    unlink(in_folder(name));
}

static void the_mode_follows_the_umask(void)
{
    const char *path = in_folder("mode");
    struct stat stat_of = {0};
    const mode_t old = umask(027);
    put(path, "");
    umask(old);
    CHECK(stat(path, &stat_of) == 0 && (stat_of.st_mode & 0777) == 0640);
    unlink(path);
}

// The state in which a child ends that has a temporary open and then does `end`.
static int state_of_child(void (*end)(oct_output *output))
{
    int ready[2];
    fflush(stdout);
    if (pipe(ready) != 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
        oct_output output = {0};
        signal(SIGHUP, SIG_IGN);
        oct_signals_install();
        if (oct_output_begin(&output, in_folder("child"), NULL)) _exit(99);
        if (write(ready[1], "", 1) != 1) _exit(99);
        end(&output);
        _exit(98);
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    int state = 0;
    waitpid(child, &state, 0);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
}

static void end_by_sigint(oct_output *output)
{
    raise(SIGINT);
}

static void end_by_sigterm(oct_output *output)
{
    raise(SIGTERM);
}

static void end_by_exit(oct_output *output)
{
    exit(3);
}

static void end_by_ignored_signal(oct_output *output)
{
    raise(SIGHUP);
    oct_output_abort(output);
    _exit(0);
}

static void end_by_file_limit(oct_output *output)
{
    const struct rlimit limit = {.rlim_cur = 10, .rlim_max = 10};
    static const char data[100];
    setrlimit(RLIMIT_FSIZE, &limit);
    oct_err failure;
    const oct_status st = oct_output_write(output, data, sizeof data, &failure);
    oct_output_abort(output);
    _exit(st == OCT_EIO && ends_with(failure.text, "at offset 10: File too large") ? 0 : 97);
}

static void a_signal_leaves_no_temporary(void)
{
    CHECK(state_of_child(end_by_sigint) == 130);
    CHECK(count_entries() == 0);
    CHECK(state_of_child(end_by_sigterm) == 143);
    CHECK(count_entries() == 0);
}

static void exit_leaves_no_temporary(void)
{
    CHECK(state_of_child(end_by_exit) == 3);
    CHECK(count_entries() == 0);
}

static void a_signal_that_was_ignored_stays_ignored(void)
{
    CHECK(state_of_child(end_by_ignored_signal) == 0);
    CHECK(count_entries() == 0);
}

static void a_file_limit_is_a_failed_write(void)
{
    CHECK(state_of_child(end_by_file_limit) == 0);
    CHECK(count_entries() == 0);
}

static void a_child_does_not_remove_what_its_parent_writes(void)
{
    oct_output output = {0};
    CHECK(oct_output_begin(&output, in_folder("parent"), &err) == OCT_OK);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) exit(0);
    waitpid(child, NULL, 0);
    CHECK(oct_output_commit(&output, &err) == OCT_OK);
    CHECK(count_entries() == 1);
    unlink(in_folder("parent"));
}

static void many_outputs_can_be_open_at_once(void)
{
    enum { OUTPUTS = 256 };
    static oct_output output[OUTPUTS + 1];
    int begun = 0;
    for (; begun < OUTPUTS; begun++) {
        if (oct_output_begin(&output[begun], in_folder("many"), &err)) break;
    }
    CHECK(begun == OUTPUTS && count_entries() == OUTPUTS);
    CHECK(oct_output_begin(&output[OUTPUTS], in_folder("many"), &err) == OCT_EIO);
    CHECK(ends_with(err.text, "/many' cannot be written: 256 files are open already"));
    for (int i = 0; i < begun; i++) oct_output_abort(&output[i]);
    CHECK(count_entries() == 0);
}

// Ranges of all lengths and alignments; direct where the file system of /tmp can.
static void direct_ranges_are_the_cached_ones(void)
{
    enum { BYTES = 9 << 20 };
    uint8_t *want = malloc(BYTES), *got = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) want[i] = (uint8_t)(i * 2654435761u >> 13);
    const char *path = in_folder("direct");
    oct_output output = {0};
    CHECK(oct_output_begin(&output, path, &err) == OCT_OK);
    CHECK(oct_output_reserve(&output, BYTES, &err) == OCT_OK);
    oct_output_write_directly(&output);
    for (size_t at = 0, n = 1; at < BYTES; at += n, n = n * 3 + 7) {
        if (n > BYTES - at) n = BYTES - at;
        CHECK(oct_output_write_at(&output, want + at, n, at, &err) == OCT_OK);
    }
    CHECK(oct_output_commit(&output, &err) == OCT_OK);

    oct_file file = {0};
    CHECK(oct_file_open(&file, path, &err) == OCT_OK && file.bytes == BYTES);
    posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);
    oct_file_read_directly(&file);
    oct_file_read_directly(&file);  // twice is once
    CHECK(oct_file_read(&file, got, BYTES, 0, &err) == OCT_OK);
    CHECK(memcmp(got, want, BYTES) == 0);
    for (size_t at = 0, n = 5; at < BYTES; at += n, n = n * 4 + 1) {
        if (n > BYTES - at) n = BYTES - at;
        memset(got, 0, n);
        CHECK(oct_file_read(&file, got, n, at, &err) == OCT_OK);
        CHECK(memcmp(got, want + at, n) == 0);
    }
    CHECK(truncate(path, BYTES / 2) == 0);
    CHECK(oct_file_read(&file, got, BYTES / 2, BYTES / 2 - 9, &err) == OCT_EIO);
    CHECK(strstr(err.text, "changed while reading"));
    oct_file_close(&file);
    free(want);
    free(got);
    unlink(path);
}

static void memory_has_room_only_for_what_fits(void)
{
    struct statfs stat;
    if (statfs("/dev/shm", &stat) != 0 || stat.f_type != TMPFS_MAGIC) SKIP("no tmpfs at /dev/shm");
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/octavo-test-%ld", (long)getpid());
    oct_output output = {0};
    CHECK(oct_output_begin(&output, path, &err) == OCT_OK);
    CHECK(oct_output_reserve(&output, 4096, &err) == OCT_OK);
    if (stat.f_blocks > 0) {  // else it has no limit
        CHECK(oct_output_reserve(&output, INT64_MAX, &err) == OCT_EIO);
        CHECK(ends_with(err.text, "No space left on device"));
    }
    oct_output_abort(&output);
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    RUN(only_regular_files_are_opened);
    RUN(reading_is_exact_and_in_bounds);
    RUN(a_file_that_shrinks_is_noticed);
    RUN(a_file_that_is_rewritten_or_replaced_is_noticed);
    RUN(texts_have_a_limit_and_a_final_nul);
    RUN(paths_are_joined_and_split);
    RUN(paths_are_told_apart);
    RUN(folders_are_made_once);
    RUN(folders_are_checked_without_being_made);
    RUN(the_final_name_appears_only_when_complete);
    RUN(an_output_is_read_before_and_after_it_has_its_name);
    RUN(reading_ahead_is_fine_anywhere);
    RUN(an_aborted_output_leaves_nothing);
    RUN(impossible_targets_are_refused_before_the_work);
    RUN(the_longest_name_works);
    RUN(the_mode_follows_the_umask);
    RUN(a_signal_leaves_no_temporary);
    RUN(exit_leaves_no_temporary);
    RUN(a_signal_that_was_ignored_stays_ignored);
    RUN(direct_ranges_are_the_cached_ones);
    RUN(memory_has_room_only_for_what_fits);
    RUN(a_file_limit_is_a_failed_write);
    RUN(a_child_does_not_remove_what_its_parent_writes);
    RUN(many_outputs_can_be_open_at_once);
    CHECK(count_entries() == 0);
    rmdir(folder);
    oct_arena_deinit(&arena);
    return test_end();
}
