/*
 * System calls on files, made whole.
 *
 * Owns nothing; any thread but the loop's.  A short transfer is continued, an
 * interrupted call repeated, so that what returns 0 has been done in full.
 * A failed sync is never repeated: the kernel may have dropped the dirty pages
 * and would call the second attempt a success.
 */
#include "base/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Drop `done` bytes and what is empty from the front. */
static void iov_advance(struct iovec **iov, int *n, size_t done)
{
	while (*n > 0 && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

int file_pwritev_all(
    int fd, struct iovec *iov, int n, int64_t offset, struct err *err)
{
	for (iov_advance(&iov, &n, 0); n > 0;) {
		ssize_t done =
		    pwritev(fd, iov, n < IOV_MAX ? n : IOV_MAX, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_sys(err, "write");
		if (done == 0)
			return err_set(err, EIO, "write: no progress");
		offset += done;
		iov_advance(&iov, &n, (size_t)done);
	}
	return 0;
}

int file_pwrite_all(
    int fd, const void *data, size_t len, int64_t offset, struct err *err)
{
	const char *p = data;

	while (len > 0) {
		ssize_t done = pwrite(fd, p, len, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_sys(err, "write");
		if (done == 0)
			return err_set(err, EIO, "write: no progress");
		p += done;
		len -= (size_t)done;
		offset += done;
	}
	return 0;
}

int file_write_all(int fd, const void *data, size_t len, struct err *err)
{
	const char *p = data;

	while (len > 0) {
		ssize_t done = write(fd, p, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_sys(err, "write");
		if (done == 0)
			return err_set(err, EIO, "write: no progress");
		p += done;
		len -= (size_t)done;
	}
	return 0;
}

int file_pread_all(
    int fd, void *data, size_t len, int64_t offset, struct err *err)
{
	char *p = data;

	while (len > 0) {
		ssize_t done = pread(fd, p, len, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_sys(err, "read");
		if (done == 0)
			return err_set(
			    err, 0, "read: end of file, %zu bytes early", len);
		p += done;
		len -= (size_t)done;
		offset += done;
	}
	return 0;
}

size_t file_pread_some(int fd, void *data, size_t len, int64_t offset)
{
	ssize_t done;

	do
		done = pread(fd, data, len, (off_t)offset);
	while (done < 0 && errno == EINTR);
	return done > 0 ? (size_t)done : 0;
}

int file_truncate(int fd, uint64_t size, struct err *err)
{
	int rc;

	do
		rc = ftruncate(fd, (off_t)size);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? err_sys(err, "ftruncate") : 0;
}

int file_datasync(int fd, struct err *err)
{
	int rc;

	do
		rc = fdatasync(fd);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? err_sys(err, "fdatasync") : 0;
}

int file_sync_dir(int dirfd, struct err *err)
{
	int rc;

	do
		rc = fsync(dirfd);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? err_sys(err, "fsync of a directory") : 0;
}

/* openat(2) without EINTR, which a slow file system may answer. */
static int open_at(int dirfd, const char *name, int flags, mode_t mode)
{
	int fd;

	do
		fd = openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd;
}

int file_open_dir(int dirfd, const char *name, mode_t mode, struct err *err)
{
	int fd;

	if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST)
		return err_sys(err, "cannot create directory %s", name);
	fd = open_at(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_sys(err, "cannot open directory %s", name);
	return fd;
}

int file_create(int dirfd, const char *name, mode_t mode, struct err *err)
{
	int fd = open_at(dirfd, name, O_RDWR | O_CREAT | O_EXCL, mode);

	if (fd < 0)
		return err_sys(err, "cannot create %s", name);
	return fd;
}

/* O_NONBLOCK: a FIFO in the place of the file must not hold us up. */
static int open_regular(
    int dirfd, const char *name, struct stat *st, struct err *err)
{
	int fd = open_at(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);

	if (fd < 0 && errno == ELOOP) {
		err_set(err, ELOOP,
		    "cannot open %s: it is a symbolic link; name the file "
		    "that it leads to",
		    name);
		return -1;
	}
	if (fd < 0) {
		err_sys(err, "cannot open %s", name);
		return -1;
	}
	if (fstat(fd, st) < 0) {
		err_sys(err, "cannot stat %s", name);
		goto fail;
	}
	if (!S_ISREG(st->st_mode)) {
		err_set(
		    err, EINVAL, "cannot read %s: not a regular file", name);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return -1;
}

int file_open_read(int dirfd, const char *name, struct err *err)
{
	struct stat st;

	return open_regular(dirfd, name, &st, err);
}

int file_unlink(int dirfd, const char *name, struct err *err)
{
	int rc;

	do
		rc = unlinkat(dirfd, name, 0);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? err_sys(err, "cannot remove %s", name) : 0;
}

int file_rename(
    int dirfd, const char *name, const char *new_name, struct err *err)
{
	int rc;

	do
		rc = renameat(dirfd, name, dirfd, new_name);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? err_sys(err, "cannot rename %s", name) : 0;
}

bool file_no_space(int code)
{
	return code == ENOSPC || code == EDQUOT || code == EFBIG;
}

/* A secret that others can read is none; say what makes it one. */
static int check_secret(
    const char *path, const struct stat *st, struct err *err)
{
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return err_set(err, EPERM,
		    "refusing %s: it belongs to uid %u, who could change it; "
		    "chown it to uid %u or root",
		    path, st->st_uid, geteuid());
	if (st->st_mode & (S_IRWXG | S_IRWXO) & ~(S_IXGRP | S_IXOTH))
		return err_set(err, EPERM,
		    "refusing %s: mode %04o lets others at the secret; "
		    "chmod 600 it, and chown it to uid %u if we cannot read it",
		    path, st->st_mode & 07777, geteuid());
	return 0;
}

char *file_read_small(
    const char *path, size_t max, bool secret, size_t *len, struct err *err)
{
	char *text = NULL, probe;
	struct stat st;
	size_t size = 0;
	int rc = -1, fd;

	fd = open_regular(AT_FDCWD, path, &st, err);
	if (fd < 0)
		goto out;
	if (secret && check_secret(path, &st, err) < 0)
		goto out;
	if ((uintmax_t)st.st_size > max) {
		err_set(err, EFBIG, "%s is too large: more than %zu bytes",
		    path, max);
		goto out;
	}
	size = (size_t)st.st_size;
	text = xmalloc(size + 1);
	if (file_pread_all(fd, text, size, 0, err) < 0)
		goto out;
	/* Half of what somebody is writing just now is of no use. */
	if (file_pread_all(fd, &probe, 1, st.st_size, NULL) == 0) {
		err_set(err, EAGAIN, "%s grew while it was read", path);
		goto out;
	}
	text[size] = '\0';
	*len = size;
	rc = 0;
out:
	if (fd >= 0)
		close(fd);
	if (rc < 0 && text) {
		explicit_bzero(text, size);
		free(text);
		text = NULL;
	}
	return text;
}
