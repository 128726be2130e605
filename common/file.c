// SPDX-License-Identifier: Apache-2.0
//
// Reading that notices trouble, writing that never leaves half a file.
#include "common/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/progress.h"

#define IO_BYTES_MAX ((size_t)1 << 30)         // of one system call
#define DIRECT_ALIGN ((uint64_t)4096)          // enough for every block device
#define DIRECT_BYTES_MIN ((uint64_t)64 << 10)  // below, it costs more than it saves
#define DIRECT_BYTES_MAX ((uint64_t)1 << 20)   // of one system call
#define CACHE_SAMPLES 64
#define LIVE_MAX 256
#define NAME_BYTES (NAME_MAX + 1)
#define TEMPORARY_TRIES 100

// Reading.

static oct_status fail_open(const char *path, int error, oct_err *err)
{
    if (error == ENOENT || error == ENOTDIR) {
        return oct_fail(err, OCT_EIO, "'%s' does not exist", path);
    }
    if (error == ENXIO) return oct_fail(err, OCT_EIO, "'%s' is not a regular file", path);
    return oct_fail(err, OCT_EIO, "'%s' cannot be opened: %s", path, strerror(error));
}

// The descriptor is the file's from now on, and closed when it is none.
static oct_status init_file(oct_file *file, int fd, const char *path, oct_err *err)
{
    oct_status st = OCT_OK;

    *file = (oct_file){0};
    if (fd < 0) return fail_open(path, errno, err);
    if (fstat(fd, &file->stat) != 0) {
        st = fail_open(path, errno, err);
    } else if (S_ISDIR(file->stat.st_mode)) {
        st = oct_fail(err, OCT_EIO, "'%s' is a folder", path);
    } else if (!S_ISREG(file->stat.st_mode)) {
        st = oct_fail(err, OCT_EIO, "'%s' is not a regular file", path);
    } else if (!(file->path = strdup(path))) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for the path '%s'", path);
    }
    if (st) {
        close(fd);
        *file = (oct_file){0};
        return st;
    }
    file->is_open = true;
    file->fd = fd;
    file->bytes = (uint64_t)file->stat.st_size;
    return OCT_OK;
}

oct_status oct_file_open(oct_file *file, const char *path, oct_err *err)
{
    // O_NONBLOCK: a FIFO without a writer must be refused, not waited for.
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return init_file(file, fd, path, err);
}

static oct_status fail_read(const oct_file *file, uint64_t offset, ssize_t got, oct_err *err)
{
    if (got < 0) {
        return oct_fail(err, OCT_EIO, "'%s' cannot be read at offset %" PRIu64 ": %s", file->path,
                        offset, strerror(errno));
    }
    return oct_fail(err, OCT_EIO,
                    "'%s' changed while reading: it ended at %" PRIu64
                    ", now it ends before %" PRIu64,
                    file->path, file->bytes, offset + 1);
}

static oct_status read_cached(const oct_file *file, char *to, uint64_t bytes, uint64_t offset,
                              oct_err *err)
{
    while (bytes > 0) {
        const size_t wanted = bytes < IO_BYTES_MAX ? (size_t)bytes : IO_BYTES_MAX;
        const ssize_t got = pread(file->fd, to, wanted, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return fail_read(file, offset, got, err);
        to += got;
        bytes -= (uint64_t)got;
        offset += (uint64_t)got;
    }
    return OCT_OK;
}

// Aligned memory of each thread's own for one direct call, kept from call to call: fresh pages
// would cost more than what the cache costs. NULL without memory.

static pthread_key_t blocks_key;
static pthread_once_t blocks_once = PTHREAD_ONCE_INIT;
static bool has_blocks_key;

static void make_blocks_key(void)
{
    has_blocks_key = pthread_key_create(&blocks_key, free) == 0;
}

static char *own_blocks(void)
{
    pthread_once(&blocks_once, make_blocks_key);
    if (!has_blocks_key) return NULL;
    char *blocks = pthread_getspecific(blocks_key);
    if (blocks) return blocks;
    blocks = aligned_alloc(DIRECT_ALIGN, DIRECT_BYTES_MAX + 2 * DIRECT_ALIGN);
    if (blocks && pthread_setspecific(blocks_key, blocks) != 0) {
        free(blocks);
        blocks = NULL;
    }
    return blocks;
}

// Whole blocks around the range go to memory of our own; what that does not give, a short read at
// an odd place included, is left to the cached way.
static oct_status read_direct(const oct_file *file, char *to, uint64_t bytes, uint64_t offset,
                              oct_err *err)
{
    char *blocks = own_blocks();
    while (bytes > 0 && blocks) {
        const uint64_t skipped = offset % DIRECT_ALIGN;
        const uint64_t n = bytes < DIRECT_BYTES_MAX ? bytes : DIRECT_BYTES_MAX;
        const size_t span =
            (size_t)((skipped + n + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN);
        const ssize_t got = pread(file->direct_fd, blocks, span, (off_t)(offset - skipped));
        const bool is_whole = got > 0 && (uint64_t)got >= skipped + n;
        if (!is_whole) break;
        memcpy(to, blocks + skipped, n);
        to += n;
        bytes -= n;
        offset += n;
    }
    return read_cached(file, to, bytes, offset, err);
}

oct_status oct_file_read(const oct_file *file, void *buffer, uint64_t bytes, uint64_t offset,
                         oct_err *err)
{
    assert(file->is_open);
    if (offset > file->bytes || bytes > file->bytes - offset) {
        return oct_fail(err, OCT_EFORMAT,
                        "'%s' is truncated: %" PRIu64 " bytes at offset %" PRIu64
                        " are needed, the file ends at %" PRIu64,
                        file->path, bytes, offset, file->bytes);
    }
    return file->is_direct && bytes >= DIRECT_BYTES_MIN
               ? read_direct(file, buffer, bytes, offset, err)
               : read_cached(file, buffer, bytes, offset, err);
}

// Whether most of a sample of pages is in the page cache.
static bool is_cached(const oct_file *file)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), n_pages = file->bytes / page;
    size_t n_cached = 0;

    if (n_pages < CACHE_SAMPLES) return true;
    char *map = mmap(NULL, file->bytes, PROT_READ, MAP_SHARED, file->fd, 0);
    if (map == MAP_FAILED) return true;
    for (uint64_t i = 0; i < CACHE_SAMPLES; i++) {
        unsigned char is_there = 0;
        mincore(map + n_pages * i / CACHE_SAMPLES * page, page, &is_there);  // touches nothing
        n_cached += is_there & 1;
    }
    munmap(map, file->bytes);
    return n_cached > CACHE_SAMPLES / 2;
}

// The same file by another descriptor, whatever its name means by now. -1: not here.
static int open_direct(int fd, int mode)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, mode | O_DIRECT | O_CLOEXEC);
}

void oct_file_read_directly(oct_file *file)
{
    if (file->is_direct || is_cached(file)) return;
    file->direct_fd = open_direct(file->fd, O_RDONLY);
    file->is_direct = file->direct_fd >= 0;
}

void oct_file_read_ahead(const oct_file *file, uint64_t offset, uint64_t bytes)
{
    assert(file->is_open);
    if (file->is_direct || offset >= file->bytes) return;
    posix_fadvise(file->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_WILLNEED);
}

static bool is_same_inode(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

oct_status oct_file_check_unchanged(const oct_file *file, oct_err *err)
{
    assert(file->is_open);
    struct stat now, named;
    if (fstat(file->fd, &now) != 0) return fail_open(file->path, errno, err);
    if (stat(file->path, &named) != 0 || !is_same_inode(&now, &named)) {
        return oct_fail(err, OCT_EIO, "'%s' was replaced or removed while reading", file->path);
    }
    if (now.st_size != file->stat.st_size || now.st_mtim.tv_sec != file->stat.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != file->stat.st_mtim.tv_nsec) {
        return oct_fail(err, OCT_EIO, "'%s' changed while reading", file->path);
    }
    return OCT_OK;
}

void oct_file_close(oct_file *file)
{
    if (file->is_open) close(file->fd);
    if (file->is_direct) close(file->direct_fd);
    free(file->path);
    *file = (oct_file){0};
}

oct_status oct_file_read_text(oct_arena *arena, const char *path, uint64_t bytes_max, char **text,
                              size_t *bytes, oct_err *err)
{
    oct_file file = {0};
    oct_status st = oct_file_open(&file, path, err);
    if (st) goto out;
    if (file.bytes > bytes_max) {
        st = oct_fail(err, OCT_EFORMAT, "'%s' has %" PRIu64 " bytes, more than %" PRIu64, path,
                      file.bytes, bytes_max);
        goto out;
    }
    *bytes = (size_t)file.bytes;
    *text = oct_arena_array(arena, *bytes + 1, 1);
    st = oct_file_read(&file, *text, file.bytes, 0, err);
    if (st) goto out;
    st = oct_file_check_unchanged(&file, err);

out:
    oct_file_close(&file);
    return st;
}

// Paths.

bool oct_path_exists(const char *path)
{
    struct stat stat_of;
    return stat(path, &stat_of) == 0;
}

bool oct_path_is_folder(const char *path)
{
    struct stat stat_of;
    return stat(path, &stat_of) == 0 && S_ISDIR(stat_of.st_mode);
}

bool oct_path_is_same_file(const char *a, const char *b)
{
    struct stat stat_a, stat_b;
    return stat(a, &stat_a) == 0 && stat(b, &stat_b) == 0 && is_same_inode(&stat_a, &stat_b);
}

char *oct_path_join(oct_arena *arena, const char *folder, const char *name)
{
    const size_t length = strlen(folder);
    const bool has_slash = length == 0 || folder[length - 1] == '/';
    return oct_arena_print(arena, has_slash ? "%s%s" : "%s/%s", folder, name);
}

const char *oct_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// The folder that holds `path`, whose last slashes do not count. malloc'ed; NULL without memory.
static char *folder_of(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    while (length > 0 && path[length - 1] != '/') length--;
    while (length > 1 && path[length - 1] == '/') length--;
    return length ? strndup(path, length) : strdup(".");
}

static oct_status open_folder(const char *path, int *fd, oct_err *err)
{
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd >= 0) return OCT_OK;
    if (errno == ENOENT) return oct_fail(err, OCT_EIO, "folder '%s' does not exist", path);
    if (errno == ENOTDIR) return oct_fail(err, OCT_EIO, "'%s' is not a folder", path);
    return oct_fail(err, OCT_EIO, "folder '%s' cannot be opened: %s", path, strerror(errno));
}

// Some file systems cannot flush a folder and say EINVAL; there is nothing more to do there.
static oct_status flush_folder(int fd, const char *path, oct_err *err)
{
    if (fsync(fd) == 0 || errno == EINVAL) return OCT_OK;
    return oct_fail(err, OCT_EIO, "the folder of '%s' cannot be flushed: %s", path,
                    strerror(errno));
}

oct_status oct_folder_make(const char *path, oct_err *err)
{
    if (mkdir(path, 0777) != 0) {
        const int error = errno;
        if (error == EEXIST && oct_path_is_folder(path)) return OCT_OK;
        return oct_fail(err, OCT_EIO, "folder '%s' cannot be made: %s", path, strerror(error));
    }
    char *parent = folder_of(path);
    if (!parent) return oct_fail(err, OCT_ENOMEM, "out of memory for the path '%s'", path);
    int fd = -1;
    oct_status st = open_folder(parent, &fd, err);
    if (!st) {
        st = flush_folder(fd, path, err);
        close(fd);
    }
    free(parent);
    return st;
}

oct_status oct_folder_check(const char *path, oct_err *err)
{
    const bool exists = oct_path_exists(path);
    char *folder = exists ? strdup(path) : folder_of(path);
    int fd = -1;

    if (!folder) return oct_fail(err, OCT_ENOMEM, "out of memory for the path '%s'", path);
    oct_status st = open_folder(folder, &fd, err);
    if (!st) {
        close(fd);
        if (access(folder, W_OK | X_OK) != 0) {
            st = oct_fail(err, OCT_EIO, "folder '%s' cannot be written: %s", folder,
                          strerror(errno));
        }
    }
    free(folder);
    return st;
}

// Temporaries that a signal or exit() must remove. Only the owner of a slot writes to it, and only
// while it is not SLOT_LIVE, so that the handler needs no lock.

enum { SLOT_FREE, SLOT_TAKEN, SLOT_LIVE };

static struct live {
    atomic_int state;
    pid_t pid;  // a child after fork() removes nothing
    int folder_fd;
    char name[NAME_BYTES];
} live[LIVE_MAX];

static void remove_live(void)  // async-signal-safe
{
    const pid_t pid = getpid();
    for (size_t i = 0; i < LIVE_MAX; i++) {
        const struct live *slot = &live[i];
        if (atomic_load(&slot->state) == SLOT_LIVE && slot->pid == pid) {
            unlinkat(slot->folder_fd, slot->name, 0);
        }
    }
}

static void handle_signal(int signal)
{
    remove_live();
    oct_progress_hide();
    _exit(128 + signal);
}

void oct_signals_install(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    struct sigaction action = {.sa_handler = handle_signal}, old;
    sigfillset(&action.sa_mask);

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        // Ignored from the start, as by nohup or for a job in the background: stays so.
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            sigaction(signals[i], &action, NULL);
        }
    }
    signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is then a failed write
}

// The slot taken, or -1 when LIVE_MAX files are being written already.
static int push_live(int folder_fd, const char *name)
{
    static atomic_flag is_registered = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&is_registered)) atexit(remove_live);

    for (int i = 0; i < LIVE_MAX; i++) {
        int state = SLOT_FREE;
        if (!atomic_compare_exchange_strong(&live[i].state, &state, SLOT_TAKEN)) continue;
        live[i].pid = getpid();
        live[i].folder_fd = folder_fd;
        strcpy(live[i].name, name);
        atomic_store(&live[i].state, SLOT_LIVE);
        return i;
    }
    return -1;
}

static void pop_live(int slot)
{
    atomic_store(&live[slot].state, SLOT_FREE);
}

// Writing.

static oct_status check_target(const oct_output *output, oct_err *err)
{
    const char *path = output->path, *name = output->name;
    struct stat target;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
        return oct_fail(err, OCT_EIO, "'%s' does not name a file", path);
    }
    if (fstatat(output->folder_fd, name, &target, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) return OCT_OK;
        return oct_fail(err, OCT_EIO, "'%s' cannot be written: %s", path, strerror(errno));
    }
    if (S_ISDIR(target.st_mode)) return oct_fail(err, OCT_EIO, "'%s' is a folder", path);
    if (S_ISLNK(target.st_mode)) {
        return oct_fail(err, OCT_EIO, "'%s' is a symbolic link, which is not written through",
                        path);
    }
    if (!S_ISREG(target.st_mode)) {
        return oct_fail(err, OCT_EIO, "'%s' is not a regular file", path);
    }
    return OCT_OK;
}

// Name and create the temporary. It is registered before it exists, so that no signal misses it.
static oct_status make_temporary(oct_output *output, oct_err *err)
{
    int error = EEXIST;
    for (int i = 0; i < TEMPORARY_TRIES && error == EEXIST; i++) {
        uint32_t random = 0;
        if (getrandom(&random, sizeof random, 0) != sizeof random) random = (uint32_t)i;
        snprintf(output->temporary, NAME_BYTES, ".%.200s.tmp.%ld.%08" PRIx32, output->name,
                 (long)getpid(), random);
        output->slot = push_live(output->folder_fd, output->temporary);
        if (output->slot < 0) {
            return oct_fail(err, OCT_EIO, "'%s' cannot be written: %d files are open already",
                            output->path, LIVE_MAX);
        }
        output->fd = openat(output->folder_fd, output->temporary,
                            O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (output->fd >= 0) {
            output->is_open = true;
            return OCT_OK;
        }
        error = errno;
        pop_live(output->slot);
    }
    return oct_fail(err, OCT_EIO, "'%s' cannot be written: %s", output->path, strerror(error));
}

static void free_output(oct_output *output)
{
    if (output->folder_fd >= 0) close(output->folder_fd);
    if (output->is_direct) close(output->direct_fd);
    free(output->path);
    free(output->name);
    free(output->temporary);
    *output = (oct_output){0};
}

oct_status oct_output_begin(oct_output *output, const char *path, oct_err *err)
{
    *output = (oct_output){.fd = -1, .folder_fd = -1};
    const char *name = oct_path_name(path);
    char *folder = *name ? folder_of(path) : strdup(*path ? path : ".");
    output->path = strdup(path);
    output->name = strdup(name);
    output->temporary = calloc(1, NAME_BYTES);

    oct_status st;
    if (!folder || !output->path || !output->name || !output->temporary) {
        st = oct_fail(err, OCT_ENOMEM, "out of memory for the path '%s'", path);
        goto out;
    }
    st = open_folder(folder, &output->folder_fd, err);
    if (st) goto out;
    st = check_target(output, err);
    if (st) goto out;
    st = make_temporary(output, err);

out:
    free(folder);
    if (st) free_output(output);
    return st;
}

// Reserving on tmpfs takes as long as writing, and one thread for all of it.
static bool is_memory(int fd, uint64_t *bytes_free)
{
    struct statfs stat;
    if (fstatfs(fd, &stat) != 0 || stat.f_type != TMPFS_MAGIC) return false;
    *bytes_free = stat.f_blocks ? stat.f_bavail * (uint64_t)stat.f_bsize : UINT64_MAX;
    return true;
}

static int reserve(int fd, uint64_t bytes)
{
    uint64_t bytes_free = 0;
    if (bytes > INT64_MAX) return EFBIG;
    if (is_memory(fd, &bytes_free)) return bytes <= bytes_free ? 0 : ENOSPC;
    while (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes)) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

oct_status oct_output_reserve(oct_output *output, uint64_t bytes, oct_err *err)
{
    assert(output->is_open);
    if (bytes == 0) return OCT_OK;
    const int error = reserve(output->fd, bytes);
    if (error == 0 || error == EOPNOTSUPP || error == ENOSYS) return OCT_OK;
    return oct_fail(err, OCT_EIO, "cannot reserve %" PRIu64 " bytes for '%s': %s", bytes,
                    output->path, strerror(error));
}

oct_status oct_output_write(oct_output *output, const void *data, size_t bytes, oct_err *err)
{
    const oct_status st = oct_output_write_at(output, data, bytes, output->position, err);
    if (!st) output->position += bytes;
    return st;
}

static oct_status write_cached(oct_output *output, const char *from, uint64_t bytes,
                               uint64_t offset, oct_err *err)
{
    while (bytes > 0) {
        const size_t wanted = bytes < IO_BYTES_MAX ? (size_t)bytes : IO_BYTES_MAX;
        const ssize_t put = pwrite(output->fd, from, wanted, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            return oct_fail(err, OCT_EIO, "'%s' cannot be written at offset %" PRIu64 ": %s",
                            output->path, offset, put ? strerror(errno) : "nothing was taken");
        }
        from += put;
        bytes -= (uint64_t)put;
        offset += (uint64_t)put;
    }
    return OCT_OK;
}

// Whole blocks of the range, from memory of our own; 0 when that did not work.
static uint64_t write_blocks(oct_output *output, const char *from, uint64_t bytes, uint64_t offset)
{
    char *blocks = own_blocks();
    if (!blocks) return 0;
    memcpy(blocks, from, bytes);
    const ssize_t put = pwrite(output->direct_fd, blocks, bytes, (off_t)offset);
    return put == (ssize_t)bytes ? bytes : 0;
}

// The pages at both ends, which the range shares with its neighbours, and whatever the file system
// refuses go through the cache; its sentence is told then.
static oct_status write_direct(oct_output *output, const char *from, uint64_t bytes,
                               uint64_t offset, oct_err *err)
{
    const uint64_t head = (DIRECT_ALIGN - offset % DIRECT_ALIGN) % DIRECT_ALIGN;
    uint64_t done = head;

    oct_status st = write_cached(output, from, head, offset, err);
    while (!st && bytes - done >= DIRECT_ALIGN) {
        const uint64_t rest = (bytes - done) / DIRECT_ALIGN * DIRECT_ALIGN;
        const uint64_t n = rest < DIRECT_BYTES_MAX ? rest : DIRECT_BYTES_MAX;
        if (!write_blocks(output, from + done, n, offset + done)) break;
        done += n;
    }
    return st ? st : write_cached(output, from + done, bytes - done, offset + done, err);
}

oct_status oct_output_write_at(oct_output *output, const void *data, size_t bytes, uint64_t offset,
                               oct_err *err)
{
    assert(output->is_open);
    return output->is_direct && bytes >= DIRECT_BYTES_MIN
               ? write_direct(output, data, bytes, offset, err)
               : write_cached(output, data, bytes, offset, err);
}

void oct_output_write_directly(oct_output *output)
{
    uint64_t bytes_free;
    assert(output->is_open);
    if (output->is_direct || is_memory(output->fd, &bytes_free)) return;
    output->direct_fd = open_direct(output->fd, O_WRONLY);
    output->is_direct = output->direct_fd >= 0;
}

oct_status oct_output_open(const oct_output *output, oct_file *file, oct_err *err)
{
    assert(output->is_open);
    return init_file(file, fcntl(output->fd, F_DUPFD_CLOEXEC, 0), output->path, err);
}

oct_status oct_output_commit(oct_output *output, oct_err *err)
{
    assert(output->is_open);
    oct_status st = OCT_OK;

    // A failed fsync is final: the kernel may have dropped the pages, a second call would succeed.
    const char *step = fsync(output->fd) ? "flushed" : NULL;
    if (!step) {
        step = close(output->fd) && errno != EINTR ? "closed" : NULL;
        output->fd = -1;
    }
    if (!step && renameat(output->folder_fd, output->temporary, output->folder_fd, output->name)) {
        step = "given its name";
    }
    if (step) {
        st = oct_fail(err, OCT_EIO, "'%s' cannot be %s: %s", output->path, step, strerror(errno));
        oct_output_abort(output);
        return st;
    }
    pop_live(output->slot);
    st = flush_folder(output->folder_fd, output->path, err);
    free_output(output);
    return st;
}

void oct_output_abort(oct_output *output)
{
    if (!output->is_open) return;
    unlinkat(output->folder_fd, output->temporary, 0);
    pop_live(output->slot);
    if (output->fd >= 0) close(output->fd);
    free_output(output);
}

oct_status oct_file_write(const char *path, const void *data, size_t bytes, oct_err *err)
{
    oct_output output = {0};
    oct_status st = oct_output_begin(&output, path, err);
    if (st) return st;
    st = oct_output_write(&output, data, bytes, err);
    if (!st) st = oct_output_commit(&output, err);
    oct_output_abort(&output);
    return st;
}
