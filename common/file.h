// SPDX-License-Identifier: Apache-2.0
//
// Files: reading that notices trouble, writing that never leaves half a file.
//
// Reading: only regular files are opened (never a FIFO, a device or a folder); one descriptor
// serves header, data and digest; a file that shrinks or changes while it is used is an error.
// Writing: bytes go to a temporary beside the target, which takes the final name only when it is
// complete and on disk (fsync, rename, fsync of the folder). Every temporary is removed when the
// work fails and when the program is interrupted.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/arena.h"
#include "common/status.h"

typedef struct oct_file {
    bool is_open;
    int fd;
    char *path;        // owned
    uint64_t bytes;    // size when opened
    struct stat stat;  // when opened
    bool is_direct;    // large reads go past the page cache, through direct_fd
    int direct_fd;
} oct_file;

// Sentences: 'P' does not exist / is a folder / is not a regular file / cannot be opened: <errno>.
oct_status oct_file_open(oct_file *file, const char *path, oct_err *err);

// Read exactly `bytes` at `offset`. Safe from several threads. A short read is OCT_EIO ("changed
// while reading"); a range beyond the size at opening is OCT_EFORMAT ("truncated").
oct_status oct_file_read(const oct_file *file, void *buffer, uint64_t bytes, uint64_t offset,
                         oct_err *err);

// Read large ranges past the page cache from now on, where the file system can and the file is not
// in the cache already. Saves the copy, and the cache for others; nothing changes but the speed.
void oct_file_read_directly(oct_file *file);

// Begin to read a range into the page cache, so that the disk has work while oct_file_read() of
// what lies before it waits. Only speed: whatever lies past the end or cannot be read is left out.
#define OCT_READ_AHEAD ((uint64_t)16 << 20)  // as far as is worth while
void oct_file_read_ahead(const oct_file *file, uint64_t offset, uint64_t bytes);

// Fails when size, modification time or inode are no longer those of oct_file_open().
oct_status oct_file_check_unchanged(const oct_file *file, oct_err *err);

void oct_file_close(oct_file *file);  // fine on a zeroed one

// A whole text file of at most `bytes_max`, with a final NUL, in the arena. `*bytes` excludes it.
oct_status oct_file_read_text(oct_arena *arena, const char *path, uint64_t bytes_max, char **text,
                              size_t *bytes, oct_err *err);

bool oct_path_exists(const char *path);
bool oct_path_is_folder(const char *path);
bool oct_path_is_same_file(const char *a, const char *b);                       // one inode
char *oct_path_join(oct_arena *arena, const char *folder, const char *name);    // "folder/name"
const char *oct_path_name(const char *path);                                    // after the last '/'

// Make one folder (parents must exist). An existing folder is fine.
oct_status oct_folder_make(const char *path, oct_err *err);

// Whether oct_folder_make() and writing into the folder would work, without making anything: for
// tools that compute long before they write.
oct_status oct_folder_check(const char *path, oct_err *err);

typedef struct oct_output {  // one file being written
    bool is_open;
    int fd;
    int folder_fd;
    int slot;                       // of the temporary, in the table that a signal sweeps
    char *path, *name, *temporary;  // owned; name and temporary are relative to the folder
    uint64_t position;              // where oct_output_write() goes on
    bool is_direct;                 // large writes go past the page cache, through direct_fd
    int direct_fd;
} oct_output;

// Fails early: the folder is missing or not writable, the target is a folder, a device or a symbolic
// link. The temporary is ".NAME.tmp.PID.RANDOM"; one left by a killed process is not looked for.
oct_status oct_output_begin(oct_output *output, const char *path, oct_err *err);

// Reserve `bytes` now, so that a full disk shows at once. A no-op where unsupported.
oct_status oct_output_reserve(oct_output *output, uint64_t bytes, oct_err *err);

// Write large ranges past the page cache from now on, where the file system can: for a file that
// nobody reads soon.
void oct_output_write_directly(oct_output *output);

oct_status oct_output_write(oct_output *output, const void *data, size_t bytes, oct_err *err);

// Write at an offset. Safe from several threads when the ranges do not overlap.
oct_status oct_output_write_at(oct_output *output, const void *data, size_t bytes, uint64_t offset,
                               oct_err *err);

// Open for reading what was written so far, before it has its name: it is the same file afterwards.
oct_status oct_output_open(const oct_output *output, oct_file *file, oct_err *err);

// fsync, rename to the final name, fsync of the folder. After success the file survives power loss.
oct_status oct_output_commit(oct_output *output, oct_err *err);
void oct_output_abort(oct_output *output);  // remove the temporary; fine on a zeroed or committed one

// The above for bytes in memory.
oct_status oct_file_write(const char *path, const void *data, size_t bytes, oct_err *err);

// SIGINT, SIGTERM, SIGHUP and SIGPIPE remove all temporaries and end the process with 128 + signal,
// unless they were ignored when the program began. exit() removes them too. A file-size limit is a
// failed write.
void oct_signals_install(void);
