// SPDX-License-Identifier: Apache-2.0
//
// Files when the system fails: the calls below stand in front of the C library's, count, and fail
// as a case asks for. Whatever fails, the old file stays and no temporary does.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/file.h"
#include "tests/test.h"

static struct fault {
    int error;         // 0: works
    int calls_before;  // that still work
} fsync_fault, rename_fault, write_fault, reserve_fault;
static bool is_interrupted;  // reads and writes move a byte or fail with EINTR
static char order[16];       // f fsync, r rename

static void note(char letter)
{
    const size_t length = strlen(order);
    if (length + 1 < sizeof order) order[length] = letter;
}

static bool fails(struct fault *fault)
{
    if (!fault->error || fault->calls_before-- > 0) return false;
    errno = fault->error;
    return true;
}

// How many of `bytes` a call may move; 0 to fail with EINTR.
static size_t share(size_t bytes)
{
    static unsigned calls;
    if (!is_interrupted) return bytes;
    errno = EINTR;
    return calls++ % 3 == 0 ? 0 : 1;
}

int fsync(int fd)
{
    note('f');
    return fails(&fsync_fault) ? -1 : (int)syscall(SYS_fsync, fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    note('r');
    if (fails(&rename_fault)) return -1;
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

ssize_t pread(int fd, void *data, size_t bytes, off_t offset)
{
    const size_t allowed = share(bytes);
    return bytes && !allowed ? -1 : syscall(SYS_pread64, fd, data, allowed, offset);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    const size_t allowed = share(bytes);
    if (bytes && !allowed) return -1;
    return fails(&write_fault) ? -1 : syscall(SYS_pwrite64, fd, data, allowed, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    return fails(&reserve_fault) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
}

static char folder[] = "/tmp/octavo-test-XXXXXX";
static char path[100];
static oct_err err;

static void begin(void)
{
    fsync_fault = rename_fault = write_fault = reserve_fault = (struct fault){0};
    is_interrupted = false;
    CHECK(oct_file_write(path, "old", 3, &err) == OCT_OK);
    memset(order, 0, sizeof order);
}

static bool folder_holds_only(const char *want)
{
    char text[20] = "";
    int entries = 0;
    DIR *open_folder = opendir(folder);
    while (readdir(open_folder)) entries++;
    closedir(open_folder);
    FILE *file = fopen(path, "r");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return entries == 3 && strcmp(text, want) == 0;
}

static bool has_sentence(const char *end)
{
    const char *found = strstr(err.text, end);
    if (!found || found[strlen(end)]) printf("# %s\n", err.text);
    return found && !found[strlen(end)];
}

static void data_is_flushed_before_the_name_and_the_folder_after(void)
{
    begin();
    CHECK(oct_file_write(path, "new", 3, &err) == OCT_OK);
    CHECK_TEXT(order, "frf");
    CHECK(folder_holds_only("new"));
}

static void a_failed_fsync_is_final(void)
{
    begin();
    fsync_fault = (struct fault){.error = EIO};
    CHECK(oct_file_write(path, "new", 3, &err) == OCT_EIO);
    CHECK(has_sentence("/out' cannot be flushed: Input/output error"));
    CHECK_TEXT(order, "f");
    CHECK(folder_holds_only("old"));
}

static void a_failed_rename_keeps_the_old_file(void)
{
    begin();
    rename_fault = (struct fault){.error = EACCES};
    CHECK(oct_file_write(path, "new", 3, &err) == OCT_EIO);
    CHECK(has_sentence("/out' cannot be given its name: Permission denied"));
    CHECK(folder_holds_only("old"));
}

static void a_folder_that_cannot_be_flushed_is_told(void)
{
    begin();
    fsync_fault = (struct fault){.error = EIO, .calls_before = 1};
    CHECK(oct_file_write(path, "new", 3, &err) == OCT_EIO);
    CHECK(strncmp(err.text, "the folder of '", 15) == 0);
    CHECK(has_sentence("/out' cannot be flushed: Input/output error"));
    CHECK(folder_holds_only("new"));
    begin();
    fsync_fault = (struct fault){.error = EINVAL, .calls_before = 1};
    CHECK(oct_file_write(path, "new", 3, &err) == OCT_OK);
}

static void a_full_disk_keeps_the_old_file(void)
{
    begin();
    write_fault = (struct fault){.error = ENOSPC};
    CHECK(oct_file_write(path, "new", 3, &err) == OCT_EIO);
    CHECK(has_sentence("/out' cannot be written at offset 0: No space left on device"));
    CHECK(folder_holds_only("old"));
}

static void a_full_disk_shows_when_reserving(void)
{
    begin();
    oct_output output = {0};
    reserve_fault = (struct fault){.error = ENOSPC};
    CHECK(oct_output_begin(&output, path, &err) == OCT_OK);
    CHECK(oct_output_reserve(&output, 5000, &err) == OCT_EIO);
    CHECK(has_sentence("/out': No space left on device"));
    reserve_fault = (struct fault){.error = EOPNOTSUPP};
    CHECK(oct_output_reserve(&output, 5000, &err) == OCT_OK);
    reserve_fault.error = 0;
    CHECK(oct_output_reserve(&output, UINT64_MAX, &err) == OCT_EIO);
    CHECK(oct_output_reserve(&output, 0, &err) == OCT_OK);
    oct_output_abort(&output);
    CHECK(folder_holds_only("old"));
}

static void short_and_interrupted_calls_go_on(void)
{
    begin();
    is_interrupted = true;
    char text[9] = "";
    oct_file file = {0};
    CHECK(oct_file_write(path, "new text", 8, &err) == OCT_OK);
    CHECK(oct_file_open(&file, path, &err) == OCT_OK);
    CHECK(oct_file_read(&file, text, 8, 0, &err) == OCT_OK);
    CHECK_TEXT(text, "new text");
    oct_file_close(&file);
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/out", folder);
    RUN(data_is_flushed_before_the_name_and_the_folder_after);
    RUN(a_failed_fsync_is_final);
    RUN(a_failed_rename_keeps_the_old_file);
    RUN(a_folder_that_cannot_be_flushed_is_told);
    RUN(a_full_disk_keeps_the_old_file);
    RUN(a_full_disk_shows_when_reserving);
    RUN(short_and_interrupted_calls_go_on);
    unlink(path);
    rmdir(folder);
    return test_end();
}
