/*
 * System calls on files, made whole: short reads and writes are continued,
 * EINTR is hidden, the reason comes back in struct err.  None of these may be
 * called on the loop thread once the daemon runs, except file_read_small() of
 * configuration and credentials.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/base.h"

#include <sys/types.h>
#include <sys/uio.h>

/* Everything at `offset`; the iovecs are used up in the course of it. */
MUST_CHECK int file_pwritev_all(
    int fd, struct iovec *iov, int n, int64_t offset, struct err *err);
MUST_CHECK int file_write_all(
    int fd, const void *data, size_t len, struct err *err);
MUST_CHECK int file_pwrite_all(
    int fd, const void *data, size_t len, int64_t offset, struct err *err);
/* Exactly len bytes; the end of the file before that is a failure. */
MUST_CHECK int file_pread_all(
    int fd, void *data, size_t len, int64_t offset, struct err *err);
/* What one read gives of them; 0 at the end of the file and after a failure. */
size_t file_pread_some(int fd, void *data, size_t len, int64_t offset);
MUST_CHECK int file_truncate(int fd, uint64_t size, struct err *err);
MUST_CHECK int file_datasync(int fd, struct err *err);
MUST_CHECK int file_sync_dir(int dirfd, struct err *err);
/*
 * A name made or removed by the next five is durable once the caller has synced
 * dirfd by file_sync_dir().
 *
 * mkdir unless it is there, then open it (O_DIRECTORY|O_NOFOLLOW); fd or -1.
 */
MUST_CHECK int file_open_dir(
    int dirfd, const char *name, mode_t mode, struct err *err);
/* Create anew: O_EXCL|O_NOFOLLOW|O_CLOEXEC|O_RDWR; fd or -1. */
MUST_CHECK int file_create(
    int dirfd, const char *name, mode_t mode, struct err *err);
/* Open a regular file for reading, no links followed; fd or -1. */
MUST_CHECK int file_open_read(int dirfd, const char *name, struct err *err);
MUST_CHECK int file_unlink(int dirfd, const char *name, struct err *err);
MUST_CHECK int file_rename(
    int dirfd, const char *name, const char *new_name, struct err *err);
/* Is it a lack of space (blocks, i-nodes, quota, size of a file)? */
bool file_no_space(int code);
/*
 * A whole small file as a terminated string of *len bytes; free(3) it.  More
 * than `max` bytes is a failure, and so is a symbolic link.  With `secret`, a file that group or others
 * can read or write, or that belongs neither to us nor to root, is refused.
 */
MUST_CHECK char *file_read_small(
    const char *path, size_t max, bool secret, size_t *len, struct err *err);

#endif
